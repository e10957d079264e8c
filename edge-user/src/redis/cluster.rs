//! A cluster: one connection for each master, opened on demand, and the table of which master has which slot.
//!
//! A task reads the table from the first node that answers: at the first query, when a node sends a query elsewhere, and
//! once a second while a node is down, since another may have taken its place. A node that does not serve makes the
//! queries of its own slots fail, and no others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use redis::{Cmd, ErrorKind, ServerErrorKind, Value};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::line::{Line, Question};
use super::link::{Link, State};
use super::settings::{Address, MAX_NODES, Nodes, Settings};
use super::slots::{self, Redirection, Slots};
use super::voice::Voice;
use super::{Error, RETRY, dial};

/// A cluster's table and connections; see the module text.
pub(super) struct Cluster {
    settings: Arc<Settings>,
    nodes: Nodes,
    voice: Arc<Voice>,
    table: Link<Arc<Slots>>,
    lines: DashMap<Address, Node>,
    /// Woken by who has reason to doubt the table.
    doubt: Arc<Notify>,
    /// How often the table was read: each time another node is asked first.
    reads: AtomicUsize,
}

struct Node {
    line: Arc<Line>,
    /// Whether it was needed since the table was read last.
    needed: bool,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The task that reads the table finds out, and ends.
        self.doubt.notify_one();
    }
}

impl Cluster {
    /// A cluster that nobody has asked yet.
    pub(super) fn of(settings: Arc<Settings>, nodes: Nodes, voice: Arc<Voice>) -> Self {
        Self {
            settings,
            nodes,
            voice,
            table: Link::idle(),
            lines: DashMap::new(),
            doubt: Arc::default(),
            reads: AtomicUsize::new(0),
        }
    }

    /// Whether some queries would fail at once: no table was had, or a node is down.
    pub(super) fn is_down(&self) -> bool {
        self.table.is_down() || self.lines.iter().any(|node| node.line.is_down())
    }

    /// Asks the master of this key's slot, and whom that one names instead.
    pub(super) async fn ask(
        self: &Arc<Self>,
        control: &Handle,
        key: &[u8],
        command: Cmd,
        deadline: Instant,
    ) -> Result<Value, Error> {
        let table = self.table(control, deadline).await?;
        let Some(master) = table.master(slots::of(key)) else {
            self.doubt.notify_one();
            return Err(Error::Unserved);
        };
        let command = Arc::new(command);
        let (mut node, mut question) = (master.clone(), Question::Plain(command.clone()));
        for _ in 0..=self.nodes.max_redirections {
            let error = match self.line(&node)?.ask(control, question, deadline).await {
                Err(Error::Server(error)) => error,
                other => return other,
            };
            if doubts_the_table(error.kind()) {
                self.doubt.notify_one();
            }
            (node, question) = match Redirection::of(&error, &node) {
                Some(Redirection::Moved(to)) => (to, Question::Plain(command.clone())),
                Some(Redirection::Ask(to)) => (to, Question::Asking(command.clone())),
                None => return Err(Error::Server(error)),
            };
        }
        Err(Error::Redirections)
    }

    /// Whether every master answers; the first that does not.
    pub(super) async fn ping(self: &Arc<Self>, control: &Handle) -> Result<(), Error> {
        let deadline = || Instant::now() + self.settings.timeout;
        let table = self.table(control, deadline()).await?;
        for master in table.masters() {
            let question = Question::Plain(Arc::new(redis::cmd("PING")));
            if let Err(error) = self.line(master)?.ask(control, question, deadline()).await {
                return Err(Error::Node(master.to_string().into(), Box::new(error)));
            }
        }
        Ok(())
    }

    /// The table, waiting while the first is being read.
    async fn table(self: &Arc<Self>, control: &Handle, deadline: Instant) -> Result<Arc<Slots>, Error> {
        if self.table.begin() {
            control.spawn(keep(Arc::downgrade(self)));
        }
        tokio::time::timeout_at(deadline, self.table.opened()).await.unwrap_or_else(|_| {
            self.table.give_up();
            Err(Error::Timeout)
        })
    }

    fn line(&self, address: &Address) -> Result<Arc<Line>, Error> {
        if let Some(mut node) = self.lines.get_mut(address) {
            node.needed = true;
            return Ok(node.line.clone());
        }
        // Nodes may name others without end.
        if self.lines.len() >= MAX_NODES {
            return Err(Error::Nodes);
        }
        let line = || Line::to_node(self.settings.clone(), address, self.voice.clone(), self.doubt.clone());
        let node = self.lines.entry(address.clone());
        Ok(node.or_insert_with(|| Node { line: Arc::new(line()), needed: true }).line.clone())
    }

    /// The masters known and the nodes configured, each time beginning with another: one that lost touch with its
    /// cluster tells an old table for ever. Those that are down come last.
    fn to_ask(&self) -> Vec<Address> {
        let mut nodes = self.nodes.nodes.to_vec();
        if let Some(table) = self.table.current() {
            nodes.extend(table.masters().iter().filter(|master| !self.nodes.nodes.contains(master)).cloned());
        }
        let first = self.reads.fetch_add(1, Ordering::Relaxed) % nodes.len().max(1);
        nodes.rotate_left(first);
        nodes.sort_by_cached_key(|node| self.lines.get(node).is_some_and(|node| node.line.is_down()));
        nodes
    }

    fn publish(&self, slots: Slots) {
        // A node that is just being given its first slots stands in no table yet.
        self.lines.retain(|address, node| slots.masters().contains(address) || std::mem::take(&mut node.needed));
        if self.table.set(State::Open(Arc::new(slots))) {
            self.voice.again(None);
        }
    }
}

/// Whether the error says that slots may be elsewhere by now.
fn doubts_the_table(kind: ErrorKind) -> bool {
    use ServerErrorKind::{ClusterDown, MasterDown, Moved, ReadOnly};
    [Moved, ClusterDown, MasterDown, ReadOnly].into_iter().any(|doubtful| kind == ErrorKind::Server(doubtful))
}

/// Reads the table whenever it is doubted, at most once in `RETRY`, until the cluster is gone.
async fn keep(weak: Weak<Cluster>) {
    while let Some(doubt) = once(&weak).await {
        tokio::time::sleep(RETRY).await;
        doubt.notified().await;
    }
}

/// Reads the table once; what wakes who reads it next, or nothing once the cluster is gone.
async fn once(weak: &Weak<Cluster>) -> Option<Arc<Notify>> {
    let (nodes, settings) = weak.upgrade().map(|cluster| (cluster.to_ask(), cluster.settings.clone()))?;
    let mut read = Err(Error::Table);
    for node in nodes {
        read = dial::slots(&settings, &node).await;
        if read.is_ok() || weak.strong_count() == 0 {
            break;
        }
    }
    let cluster = weak.upgrade()?;
    match read {
        Ok(slots) => cluster.publish(slots),
        Err(error) => {
            cluster.table.give_up();
            cluster.voice.warn(None, &error);
            cluster.doubt.notify_one();
        }
    }
    Some(cluster.doubt.clone())
}

#[cfg(test)]
mod tests;
