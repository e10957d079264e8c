//! Counters that several edges and Kongs share in Redis.
//!
//! With `sync_rate: -1` every request is counted there before it is judged. With a rate, requests are judged by a store
//! of this process, and a task sends what was counted since and learns what the others counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::Cmd;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::counters::{Counter, Counters};
use crate::redis::{Client, Error};

/// Adds to each key and says what it is now. A key that would never end, as Kong leaves some, gets its end here.
const SCRIPT: &str = "local totals = {} \
    for i, key in ipairs(KEYS) do \
    totals[i] = redis.call('INCRBY', key, ARGV[2 * i - 1]) \
    if redis.call('TTL', key) < 0 then redis.call('EXPIRE', key, ARGV[2 * i]) end \
    end return totals";

/// Keys of one query.
const BATCH: usize = 256;
/// Keys that wait to be sent.
const QUEUE: usize = 1 << 16;

/// What is added to one key, and how long a new one lives.
pub(super) struct Addition {
    pub(super) key: Box<[u8]>,
    pub(super) count: u64,
    pub(super) ttl_secs: i64,
}

/// Adds to counters in Redis; each one's total after it.
pub(super) async fn add(client: &Arc<Client>, additions: &[Addition]) -> Result<Vec<u64>, Error> {
    let mut command = Cmd::new();
    command.arg("EVAL").arg(SCRIPT).arg(additions.len());
    for addition in additions {
        command.arg(&*addition.key);
    }
    for addition in additions {
        command.arg(addition.count).arg(addition.ttl_secs);
    }
    // One server has all the keys: this plugin's record knows no clusters.
    let key = additions.first().map_or(&[][..], |addition| &*addition.key);
    client.query(key, command).await
}

/// A counter with something to send.
struct Unsent {
    key: Box<[u8]>,
    ttl_secs: i64,
    counter: Arc<Counter>,
}

/// Counters of this process, told to Redis and corrected by it at a rate.
pub(super) struct Fleet {
    pub(super) counters: Counters,
    client: Arc<Client>,
    queue: mpsc::Sender<Unsent>,
}

impl Fleet {
    /// Starts the task that sends; it ends with the last instance that counts here, after a last round.
    pub(super) fn start(client: Arc<Client>, every: Duration, control: Option<&Handle>) -> Arc<Self> {
        let (queue, unsent) = mpsc::channel(QUEUE);
        if let Some(control) = control {
            control.spawn(send(client.clone(), every, queue.downgrade(), unsent));
        }
        Arc::new(Self { counters: Counters::default(), client, queue })
    }

    /// Whether nobody is told at present.
    pub(super) fn is_down(&self) -> bool {
        self.client.is_down()
    }

    /// One use of this counter was counted.
    pub(super) fn counted(&self, key: &[u8], ttl_secs: i64, counter: &Arc<Counter>) {
        counter.unsent.fetch_add(1, Ordering::Relaxed);
        if !counter.queued.swap(true, Ordering::AcqRel) {
            enqueue(&self.queue, Unsent { key: key.into(), ttl_secs, counter: counter.clone() });
        }
    }
}

/// Where the queue is full the counter's next use tries again.
fn enqueue(queue: &mpsc::Sender<Unsent>, unsent: Unsent) {
    if let Err(mpsc::error::TrySendError::Full(unsent)) = queue.try_send(unsent) {
        unsent.counter.queued.store(false, Ordering::Release);
    }
}

async fn send(
    client: Arc<Client>,
    every: Duration,
    queue: mpsc::WeakSender<Unsent>,
    mut unsent: mpsc::Receiver<Unsent>,
) {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        interval.tick().await;
        // What is queued while this round runs belongs to the next.
        let mut waiting = unsent.len();
        while waiting > 0 {
            let count = unsent.recv_many(&mut batch, waiting.min(BATCH)).await;
            if count == 0 || !send_batch(&client, &mut batch, &queue).await {
                break;
            }
            waiting -= count;
        }
        if unsent.is_closed() && unsent.is_empty() {
            return;
        }
    }
}

/// Sends a batch; false where Redis did not take it, and it waits for the next round.
async fn send_batch(client: &Arc<Client>, batch: &mut Vec<Unsent>, queue: &mpsc::WeakSender<Unsent>) -> bool {
    let take = |unsent: &Unsent| {
        // Uses counted from here on queue the counter anew.
        unsent.counter.queued.store(false, Ordering::Release);
        let count = unsent.counter.unsent.swap(0, Ordering::AcqRel);
        (Addition { key: unsent.key.clone(), count, ttl_secs: unsent.ttl_secs }, unsent.counter.count())
    };
    let (additions, known): (Vec<_>, Vec<_>) = batch.iter().map(take).unzip();
    match add(client, &additions).await {
        Ok(totals) => {
            for ((unsent, known), total) in batch.drain(..).zip(known).zip(totals) {
                unsent.counter.correct(known, total);
            }
            true
        }
        Err(_) => {
            let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
            for (unsent, addition) in batch.drain(..).zip(additions) {
                // A window that has passed meanwhile concerns nobody any more.
                let Some(queue) = queue.upgrade().filter(|_| unsent.counter.end_ms > now_ms) else { continue };
                unsent.counter.unsent.fetch_add(addition.count, Ordering::AcqRel);
                if !unsent.counter.queued.swap(true, Ordering::AcqRel) {
                    enqueue(&queue, unsent);
                }
            }
            false
        }
    }
}
