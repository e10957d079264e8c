//! Signatures off the workers, fed by a bounded queue: an RSA signature takes as long as thirty requests.
//!
//! The threads that sign run only where nothing else wants the processor (SCHED_IDLE, sched(7)), so that a worker that
//! has something to do never waits for one. Where the workers leave them none, the thread that feeds them signs what is
//! late, at a share of its own.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use serde_json::json;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

use crate::crypto::sign::SigningKey;
use crate::token::resigned::Making;

/// Tokens that wait for a signature: what a thread signs by RSA in about a second.
const MAX_WAITING: usize = 2048;
/// What the thread that signs what is late stands back by (setpriority(2)): it has a tenth of a busy processor.
const NICENESS: i32 = 10;
/// How long a token may wait for a processor that nobody wants.
const LATE: Duration = Duration::from_millis(20);

/// One token to sign.
pub(super) struct Job {
    /// What with.
    pub(super) key: Arc<SigningKey>,
    /// Its claims.
    pub(super) payload: Vec<u8>,
    /// Who waits for it.
    pub(super) making: Making,
}

/// The threads and their queue; one for the process. They are started by the first token, and anew where none is left.
#[derive(Default)]
pub struct Signatures(ArcSwapOption<SyncSender<Job>>);

impl Signatures {
    /// Has a token signed. Where too many wait already, or none can be, whoever waits for it is released without.
    pub(super) fn sign(&self, job: Job) {
        let queue = self.0.load_full().unwrap_or_else(|| {
            let started = Arc::new(start());
            // Another worker's may be there by now: the threads of this one end then with their queue.
            let before = self.0.compare_and_swap(&None::<Arc<_>>, Some(Arc::clone(&started)));
            Option::clone(&before).unwrap_or(started)
        });
        match queue.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => tracing::warn!("[jwt-signer] too many tokens wait for a signature"),
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!("[jwt-signer] no thread signs tokens");
                self.0.store(None);
            }
        }
    }
}

/// A job that two threads may have: the first one that has signed is the one that did it.
struct Shared {
    key: Arc<SigningKey>,
    payload: Vec<u8>,
    making: Mutex<Option<Making>>,
    since: Instant,
}

impl Shared {
    fn new(Job { key, payload, making }: Job) -> Self {
        Self { key, payload, making: Mutex::new(Some(making)), since: Instant::now() }
    }

    /// Never waits: who holds the lock is about to take it.
    fn is_signed(&self) -> bool {
        self.making.try_lock().is_ok_and(|making| making.is_none())
    }

    fn sign(&self) {
        let header = json!({"alg": self.key.algorithm(), "typ": "JWT", "kid": self.key.kid()}).to_string();
        let token = self.key.sign_parts(header.as_bytes(), &self.payload);
        let Some(making) = self.making.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        match token {
            Ok(token) => making.done(token.into_bytes().into()),
            Err(error) => tracing::error!(%error, kid = self.key.kid(), "[jwt-signer] a token cannot be signed"),
        }
    }
}

fn start() -> SyncSender<Job> {
    let (sender, jobs) = sync_channel(MAX_WAITING);
    let (spare, shared) = sync_channel(MAX_WAITING);
    let shared = Arc::new(Mutex::new(shared));
    spawn("edge-sign", move || feed(&jobs, &spare));
    for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
        let shared = Arc::clone(&shared);
        spawn("edge-sign-idle", move || sign(&shared));
    }
    sender
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
        tracing::error!(%error, "[jwt-signer] a thread cannot be started");
    }
}

/// Gives the jobs to those who sign, and signs what they have not after `LATE`.
fn feed(jobs: &Receiver<Job>, spare: &SyncSender<Arc<Shared>>) {
    stand_back();
    // In the order they came in. Once the first is late, one goes for each that comes.
    let mut unsigned: VecDeque<Arc<Shared>> = VecDeque::new();
    loop {
        let next = match unsigned.front() {
            Some(oldest) => jobs.recv_timeout(LATE.saturating_sub(oldest.since.elapsed())),
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(job) => {
                let job = Arc::new(Shared::new(job));
                unsigned.push_back(Arc::clone(&job));
                // Full, when these have had no processor for long.
                let _ = spare.try_send(job);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while unsigned.pop_front_if(|oldest| oldest.is_signed()).is_some() {}
        if let Some(late) = unsigned.pop_front_if(|oldest| oldest.since.elapsed() >= LATE) {
            late.sign();
        }
    }
}

/// Signs while nothing else wants the processor.
fn sign(shared: &Mutex<Receiver<Arc<Shared>>>) {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // A process that may not is served all the same.
    if set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle).is_err() {
        stand_back();
    }
    loop {
        // One waits with the lock, the others for it.
        let next = shared.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        if !job.is_signed() {
            job.sign();
        }
    }
}

/// Of this thread alone, on Linux. A process that may not is served all the same.
fn stand_back() {
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwapOption;

    use super::*;
    use crate::crypto::sign::SigningAlgorithm;
    use crate::token::resigned::{Found, Resigned};

    fn job() -> (Job, Arc<Resigned>) {
        let Found::Mine(making) = Resigned::look(&ArcSwapOption::empty(), 1) else { panic!("somebody else's") };
        let resigned = Arc::clone(making.resigned());
        let key = Arc::new(SigningKey::generate(SigningAlgorithm::ES256).unwrap());
        (Job { key, payload: b"{}".to_vec(), making }, resigned)
    }

    #[tokio::test]
    async fn what_gets_no_processor_is_signed_when_it_is_late() {
        let (sender, jobs) = sync_channel(4);
        // Nobody signs here, and one more than that has room.
        let (spare, _shared) = sync_channel(2);
        let feeding = std::thread::spawn(move || feed(&jobs, &spare));
        let made: Vec<Arc<Resigned>> = (0..3)
            .map(|_| {
                let (job, resigned) = job();
                sender.send(job).unwrap();
                resigned
            })
            .collect();
        for resigned in made {
            resigned.made(Duration::from_secs(10)).await;
            assert!(resigned.token().is_some());
        }
        drop(sender);
        feeding.join().unwrap();
    }

    #[tokio::test]
    async fn threads_that_stand_back_sign() {
        let signatures = Signatures::default();
        for _ in 0..3 {
            let (job, resigned) = job();
            signatures.sign(job);
            resigned.made(Duration::from_secs(10)).await;
            assert!(resigned.token().is_some());
        }
    }

    #[test]
    fn two_that_sign_the_same_job_give_one_token() {
        let (job, resigned) = job();
        let shared = Shared::new(job);
        assert!(!shared.is_signed());
        shared.sign();
        let token = resigned.token().unwrap().to_vec();
        assert!(shared.is_signed());
        // Another signature: ES256 has a random part.
        shared.sign();
        assert_eq!(resigned.token(), Some(&*token));
    }
}
