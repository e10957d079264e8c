//! A client of Redis servers for any part that keeps something there: one multiplexed connection per `Settings`, and of a
//! cluster one for each master.
//!
//! All I/O runs on the control runtime. A `Client` keeps its own connections: a task opens each (`line`), notices its end
//! and opens it anew; of a cluster another task keeps the table of who has which key (`cluster`). While a server is known
//! to be down, queries fail at once and wait for nothing; one attempt a second finds out when it is back.

mod cluster;
mod dial;
mod line;
mod link;
mod record;
mod settings;
mod slots;
mod voice;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::DashMap;
use redis::{Cmd, FromRedisValue, RedisError};
use tokio::runtime::Handle;
use tokio::time::Instant;

use self::cluster::Cluster;
use self::line::{Line, Question};
use self::settings::Server;
pub use self::settings::Settings;
use self::voice::Voice;
use crate::metrics::{Exposition, Kind};

/// Between two attempts to reach a server that is down, and two readings of a cluster's table.
const RETRY: Duration = Duration::from_secs(1);

/// Why a query has no answer. Texts name the server, never what was sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The last attempt failed, and the next is not due.
    #[error("the server is down")]
    Down,
    /// Neither answer nor failure in `timeout`.
    #[error("no answer in time")]
    Timeout,
    /// No connection.
    #[error("the server cannot be connected")]
    Connect(#[source] std::io::Error),
    /// The TLS rules, or a name that no certificate can have.
    #[error("the TLS configuration is unusable")]
    Tls,
    /// No sentinel knows a master of this name.
    #[error("no sentinel knows the master")]
    Sentinels,
    /// What the sentinels named does not take writes.
    #[error("the server is not the master")]
    NotMaster,
    /// What a node of a cluster tells of it cannot be believed, or it tells of no slots.
    #[error("the node tells no table of a cluster")]
    Table,
    /// More nodes than are kept apart.
    #[error("the cluster names more than {} nodes", settings::MAX_NODES)]
    Nodes,
    /// The table has a gap.
    #[error("no node of the cluster serves the key's slot")]
    Unserved,
    /// `cluster_max_redirections`
    #[error("the nodes send the query from one to another")]
    Redirections,
    /// Of a cluster: one of its nodes.
    #[error("the node {0}")]
    Node(Box<str>, #[source] Box<Error>),
    /// The server refused the login or the query, or the connection broke.
    #[error("the server's answer: {0}")]
    Server(#[source] RedisError),
    /// The process is ending.
    #[error("the query was given up")]
    Ended,
}

/// The clients in use, by their settings.
pub struct Clients {
    control: Option<Handle>,
    clients: DashMap<Settings, Weak<Client>>,
}

impl Clients {
    /// No clients yet. Without `control` no server is ever asked, and every one counts as down.
    pub fn new(control: Option<Handle>) -> Self {
        Self { control, clients: DashMap::new() }
    }

    /// The client for these settings: the one in use, where there is one.
    pub fn client(&self, settings: &Settings) -> Arc<Client> {
        self.clients.retain(|_, client| client.strong_count() > 0);
        let mut entry = self.clients.entry(settings.clone()).or_default();
        if let Some(client) = entry.upgrade() {
            return client;
        }
        let client = Arc::new(Client::new(settings.clone(), self.control.clone()));
        *entry = Arc::downgrade(&client);
        client
    }

    /// The clients that somebody uses.
    pub fn in_use(&self) -> Vec<Arc<Client>> {
        self.clients.iter().filter_map(|entry| entry.value().upgrade()).collect()
    }

    /// Writes the clients' numbers.
    pub fn collect(&self, to: &mut Exposition) {
        let mut clients: Vec<_> = self.clients.iter().filter_map(|entry| entry.value().upgrade()).collect();
        if clients.is_empty() {
            return;
        }
        // Two users of one database are one server to an operator.
        clients.sort_by(|a, b| a.label().cmp(b.label()));
        let servers: Vec<&[Arc<Client>]> = clients.chunk_by(|a, b| a.label() == b.label()).collect();
        to.family("edge_redis_queries_total", Kind::Counter, "Queries to Redis, by server and what became of them.");
        for server in &servers {
            let sum = |number: fn(&Client) -> &AtomicU64| -> u64 {
                server.iter().map(|client| number(client).load(Ordering::Relaxed)).sum()
            };
            for (result, count) in [
                ("answered", sum(|client| &client.answered)),
                ("failed", sum(|client| &client.failed)),
                ("skipped", sum(|client| &client.skipped)),
            ] {
                to.sample(&[("server", server[0].label()), ("result", result)], count);
            }
        }
        to.family(
            "edge_redis_up",
            Kind::Gauge,
            "1 unless the last attempt to reach the server, or a node of the cluster, failed.",
        );
        for server in &servers {
            let up = server.iter().all(|client| !client.is_down());
            to.sample(&[("server", server[0].label())], u8::from(up));
        }
    }
}

/// A client of one server or cluster; see the module text.
pub struct Client {
    settings: Arc<Settings>,
    control: Option<Handle>,
    servers: Servers,
    voice: Arc<Voice>,
    answered: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
}

enum Servers {
    One(Arc<Line>),
    Cluster(Arc<Cluster>),
}

impl Client {
    fn new(settings: Settings, control: Option<Handle>) -> Self {
        let (voice, settings) = (Arc::new(Voice::new(settings.label())), Arc::new(settings));
        let servers = match &settings.server {
            Server::One(place) => Servers::One(Arc::new(Line::to(settings.clone(), place.clone(), voice.clone()))),
            Server::Cluster(nodes) => {
                Servers::Cluster(Arc::new(Cluster::of(settings.clone(), nodes.clone(), voice.clone())))
            }
        };
        let count = || AtomicU64::new(0);
        Self { settings, control, servers, voice, answered: count(), failed: count(), skipped: count() }
    }

    /// The server and database, or the cluster, as logs name them.
    pub fn label(&self) -> &str {
        self.voice.label()
    }

    /// Whether the server is known to be down: a query would fail at once. Of a cluster, some queries would.
    pub fn is_down(&self) -> bool {
        self.control.is_none()
            || match &self.servers {
                Servers::One(line) => line.is_down(),
                Servers::Cluster(cluster) => cluster.is_down(),
            }
    }

    /// Asks the server that has this key, on the control runtime and for at most `timeout`. The command names the key
    /// and, unless they are in its slot, no others. May be called from any runtime with a timer.
    pub async fn query<T: FromRedisValue>(&self, key: &[u8], command: Cmd) -> Result<T, Error> {
        self.query_within(self.settings.timeout, key, command).await
    }

    /// As `query`, but for at most `limit` where that is shorter.
    pub async fn query_within<T: FromRedisValue>(&self, limit: Duration, key: &[u8], command: Cmd) -> Result<T, Error> {
        let deadline = Instant::now() + limit.min(self.settings.timeout);
        let answer = match (&self.control, &self.servers) {
            (None, _) => Err(Error::Down),
            (Some(control), Servers::One(line)) => {
                line.ask(control, Question::Plain(Arc::new(command)), deadline).await
            }
            (Some(control), Servers::Cluster(cluster)) => cluster.ask(control, key, command, deadline).await,
        };
        let answer = answer.and_then(|value| T::from_redis_value(value).map_err(|error| Error::Server(error.into())));
        self.count(&answer);
        answer
    }

    /// Whether the server answers, or every master of the cluster.
    pub async fn ping(&self) -> Result<(), Error> {
        match (&self.control, &self.servers) {
            (Some(control), Servers::Cluster(cluster)) => cluster.ping(control).await,
            _ => self.query::<String>(&[], redis::cmd("PING")).await.map(drop),
        }
    }

    fn count<T>(&self, answer: &Result<T, Error>) {
        let number = match answer {
            Ok(_) => &self.answered,
            // Whoever keeps the connection has said already why it is down.
            Err(Error::Down) => &self.skipped,
            Err(error) => {
                if !matches!(error, Error::Ended) {
                    self.voice.warn(None, error);
                }
                &self.failed
            }
        };
        number.fetch_add(1, Ordering::Relaxed);
    }
}
