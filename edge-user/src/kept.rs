//! Connections on which the kernel may answer requests with bad tokens, where a listener has `kernel_reject = "kept"`.
//!
//! A connection is kept from the first bad token that the kernel was told of on. A worker then says after each request
//! how many bytes it has read and written, as long as it stands between two requests: only while that is all that the
//! connection has seen does the kernel answer the next one. One task tells the kernel of connections and of their ends.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use edge_ebpf::kept::FLOW_CAPACITY;
use tokio::sync::mpsc;

use crate::kernel::{Error, Gates, Kernel};

/// What a connection's last segments may take after its end: their numbers are changed as long.
const AFTERLIFE: Duration = Duration::from_secs(5);
/// The same where the system may still send data then: longer than it tries without a process.
const AFTERLIFE_WITH_DATA: Duration = Duration::from_secs(300);
/// How often it is looked whose time is over.
const SWEEP: Duration = Duration::from_secs(1);
/// The place of a connection that has none yet.
const NOWHERE: u32 = u32::MAX;

/// All of them.
pub struct KeptConnections {
    gates: Option<Arc<Gates>>,
    /// Including those that are over and not forgotten yet.
    count: AtomicUsize,
    to: mpsc::Sender<Message>,
}

/// What workers tell.
pub struct Incoming(mpsc::Receiver<Message>);

enum Message {
    Keep(Arc<Entry>),
    /// And when it may be forgotten.
    End(Arc<Entry>, Instant),
}

struct Entry {
    client: SocketAddr,
    server: SocketAddr,
    /// The gate's place, once there is one.
    place: AtomicU32,
}

impl KeptConnections {
    /// Without any. `gates`: where they stand, if the kernel answers on some.
    pub fn new(gates: Option<Arc<Gates>>) -> (Arc<Self>, Incoming) {
        // Each connection has two messages, and is counted until the second one is done with.
        let (to, incoming) = mpsc::channel(2 * FLOW_CAPACITY as usize);
        (Arc::new(Self { gates, count: AtomicUsize::new(0), to }), Incoming(incoming))
    }

    /// Has the kernel know of a connection, where there is room.
    pub fn keep(self: &Arc<Self>, client: SocketAddr, server: SocketAddr) -> Option<KeptConnection> {
        let gates = self.gates.clone()?;
        if self.count.fetch_add(1, Ordering::Relaxed) >= FLOW_CAPACITY as usize {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let entry = Arc::new(Entry { client, server, place: AtomicU32::new(NOWHERE) });
        // There is room for it, see above; without the task, at the process's end, nothing is kept.
        self.to.try_send(Message::Keep(entry.clone())).ok()?;
        Some(KeptConnection {
            entry,
            gates,
            to: self.to.clone(),
            order: Cell::new(Order::Unknown),
            leaves_data: Cell::new(false),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// Whether all bytes of a connection came in their order until the kernel began to look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Unknown,
    Kept,
    Broken,
}

/// One of them. To be dropped after the connection's socket.
pub struct KeptConnection {
    entry: Arc<Entry>,
    gates: Arc<Gates>,
    to: mpsc::Sender<Message>,
    order: Cell<Order>,
    leaves_data: Cell<bool>,
}

impl KeptConnection {
    /// The connection stands between two requests, with all answers written and nothing read beyond. `in_order`: whether
    /// no byte of it ever came before an earlier one, as far as TCP knows; what came so before the kernel began to look
    /// may still wait in the socket, and nothing could be taken out of the stream before it.
    pub fn stands_between(&self, read_bytes: u64, written_bytes: u64, in_order: impl FnOnce() -> bool) {
        let place = self.entry.place.load(Ordering::Acquire);
        match self.order.get() {
            _ if place == NOWHERE => {}
            // Asked once the kernel looks; and not relied on before the next request, which comes behind whatever was
            // under way meanwhile.
            Order::Unknown => self.order.set(if in_order() { Order::Kept } else { Order::Broken }),
            Order::Kept => self.gates.open(place, read_bytes, written_bytes),
            Order::Broken => {}
        }
    }

    /// The connection is no longer one of requests, and its socket may be closed with data that is not sent yet.
    pub fn becomes_a_tunnel(&self) {
        self.stands_nowhere();
        self.leaves_data.set(true);
    }

    /// The connection ends.
    pub fn stands_nowhere(&self) {
        let place = self.entry.place.load(Ordering::Acquire);
        if place != NOWHERE {
            self.gates.close(place);
        }
    }
}

impl Drop for KeptConnection {
    fn drop(&mut self) {
        self.stands_nowhere();
        // There is room for it.
        let afterlife = if self.leaves_data.get() { AFTERLIFE_WITH_DATA } else { AFTERLIFE };
        let _ = self.to.try_send(Message::End(self.entry.clone(), Instant::now() + afterlife));
    }
}

/// What the task knows of the kernel's entries.
struct Entries {
    kernel: Arc<Kernel>,
    kept: Arc<KeptConnections>,
    free: Vec<u32>,
    /// Whose entry it is now: addresses and ports may begin a new connection before the old one is forgotten.
    places: HashMap<(SocketAddr, SocketAddr), u32>,
    /// Over, and until when they are kept.
    over: Vec<(Arc<Entry>, Instant)>,
}

/// Tells the kernel, until the process ends.
pub async fn run(kernel: Arc<Kernel>, kept: Arc<KeptConnections>, incoming: Incoming) {
    let Incoming(mut incoming) = incoming;
    let free = (0..FLOW_CAPACITY).rev().collect();
    let mut entries = Entries { kernel, kept, free, places: HashMap::new(), over: Vec::new() };
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            message = incoming.recv() => match message {
                Some(Message::Keep(entry)) => entries.keep(&entry),
                Some(Message::End(entry, until)) => entries.over.push((entry, until)),
                None => return,
            },
            _ = sweep.tick() => entries.sweep(),
        }
    }
}

impl Entries {
    fn keep(&mut self, entry: &Entry) {
        let Some(place) = self.free.pop() else { return };
        let kept = self.kernel.keep(entry.client, entry.server, place).and_then(|()| {
            self.places.insert((entry.client, entry.server), place);
            self.kernel.count_kept(self.places.len() as u64)
        });
        match kept {
            // The gate is closed: whoever had the place before closed it.
            Ok(()) => entry.place.store(place, Ordering::Release),
            Err(error) => {
                self.places.remove(&(entry.client, entry.server));
                self.free.push(place);
                report(error);
            }
        }
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        let forgotten: Vec<Arc<Entry>> =
            self.over.extract_if(.., |(_, until)| *until <= now).map(|(entry, _)| entry).collect();
        for entry in forgotten {
            let (key, place) = ((entry.client, entry.server), entry.place.load(Ordering::Acquire));
            self.kept.count.fetch_sub(1, Ordering::Relaxed);
            if place == NOWHERE {
                continue;
            }
            self.free.push(place);
            if self.places.get(&key) == Some(&place) {
                self.places.remove(&key);
                let forgotten = self.kernel.forget_kept(key.0, key.1);
                if let Err(error) = forgotten.and_then(|()| self.kernel.count_kept(self.places.len() as u64)) {
                    report(error);
                }
            }
        }
    }
}

fn report(error: Error) {
    tracing::debug!(error = format!("{:#}", anyhow::Error::from(error)), "a kept connection is left to userspace");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_gates_nothing_is_kept() {
        let (kept, _incoming) = KeptConnections::new(None);
        let address: SocketAddr = "192.0.2.1:80".parse().unwrap();
        assert!(kept.keep(address, address).is_none());
        assert_eq!(kept.count(), 0);
    }
}
