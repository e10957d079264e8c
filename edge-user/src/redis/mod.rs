//! A client of Redis servers for any part that keeps something there: one multiplexed connection per `Settings`.
//!
//! All I/O runs on the control runtime. A `Client` keeps its own connection: a task opens it, notices its end and opens
//! it anew. While a server is known to be down, queries fail at once and wait for nothing; one attempt a second finds
//! out when it is back.

mod dial;
mod record;
mod settings;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub use self::settings::Settings;
use crate::metrics::{Exposition, Kind};

/// Between two attempts to reach a server that is down.
const RETRY: Duration = Duration::from_secs(1);
/// Between two warnings about one server.
const WARN: Duration = Duration::from_secs(10);

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
        let client = Arc::new(Client {
            label: settings.label(),
            settings: settings.clone(),
            control: self.control.clone(),
            link: watch::Sender::new(Link::Idle),
            suspect: Arc::new(Notify::new()),
            born: Instant::now(),
            warned_ms: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        });
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
        clients.sort_by(|a, b| a.label.cmp(&b.label));
        let servers: Vec<&[Arc<Client>]> = clients.chunk_by(|a, b| a.label == b.label).collect();
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
                to.sample(&[("server", &server[0].label), ("result", result)], count);
            }
        }
        to.family("edge_redis_up", Kind::Gauge, "1 unless the last attempt to reach the server failed.");
        for server in &servers {
            let up = server.iter().all(|client| !client.is_down());
            to.sample(&[("server", &server[0].label)], u8::from(up));
        }
    }
}

/// The state of a client's connection.
#[derive(Clone)]
enum Link {
    /// Nobody has asked yet.
    Idle,
    /// The first connection, or the next after one that served, is being made.
    Opening,
    Open(MultiplexedConnection),
    /// The last attempt failed, or takes longer than somebody waits.
    Down,
}

/// A client of one server; see the module text.
pub struct Client {
    settings: Settings,
    label: String,
    control: Option<Handle>,
    link: watch::Sender<Link>,
    /// Woken by who found the open connection dead.
    suspect: Arc<Notify>,
    born: Instant,
    /// When the last warning was written, in ms since `born`; 0 for never.
    warned_ms: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
}

/// A task whose work nobody wants once its owner is gone.
struct Wanted<T>(JoinHandle<T>);

impl<T> Drop for Wanted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// The server and database, as logs name them.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether the server is known to be down: a query would fail at once.
    pub fn is_down(&self) -> bool {
        self.control.is_none() || matches!(*self.link.borrow(), Link::Down)
    }

    /// Asks the server, on the control runtime and for at most `timeout`. May be called from any runtime with a timer.
    pub async fn query<T: FromRedisValue>(self: &Arc<Self>, command: Cmd) -> Result<T, Error> {
        self.query_within(self.settings.timeout, command).await
    }

    /// As `query`, but for at most `limit` where that is shorter.
    pub async fn query_within<T: FromRedisValue>(self: &Arc<Self>, limit: Duration, command: Cmd) -> Result<T, Error> {
        let Some(control) = self.control.as_ref().filter(|_| !self.is_down()) else {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Down);
        };
        let client = self.clone();
        let mut task = Wanted(control.spawn(async move {
            let mut connection = client.connection().await?;
            connection.send_packed_command(&command).await.map_err(Error::Server)
        }));
        let answer = match tokio::time::timeout(limit.min(self.settings.timeout), &mut task.0).await {
            Ok(Ok(Ok(value))) => value.extract_error().and_then(|value| Ok(T::from_redis_value(value)?)),
            Ok(Ok(Err(error))) => return Err(self.fault(error)),
            Ok(Err(_)) => return Err(self.fault(Error::Ended)),
            Err(_) => {
                // A server that holds its tongue holds up every query of this connection, the one being made as well.
                self.suspect.notify_waiters();
                self.give_up_opening();
                return Err(self.fault(Error::Timeout));
            }
        };
        let answer = answer.map_err(|error| {
            // After a failover the old master serves on as a replica: the sentinels know better.
            if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
                self.suspect.notify_waiters();
            }
            self.fault(Error::Server(error))
        })?;
        self.answered.fetch_add(1, Ordering::Relaxed);
        Ok(answer)
    }

    /// Has nobody else wait for a connection that is long in coming; once it is there, it serves.
    fn give_up_opening(&self) {
        self.link.send_if_modified(|link| {
            let opening = matches!(link, Link::Opening);
            if opening {
                *link = Link::Down;
            }
            opening
        });
    }

    fn fault(&self, error: Error) -> Error {
        self.failed.fetch_add(1, Ordering::Relaxed);
        // Whoever keeps the connection has said already why it is down.
        if !matches!(error, Error::Down | Error::Ended) {
            self.warn(&error);
        }
        error
    }

    fn warn(&self, error: &Error) {
        let now = self.born.elapsed().as_millis() as u64 + 1;
        let last = self.warned_ms.load(Ordering::Relaxed);
        let due = last == 0 || now - last.min(now) >= WARN.as_millis() as u64;
        let exchange = || self.warned_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due && exchange() {
            let error: &dyn std::error::Error = error;
            tracing::warn!(server = self.label, error, "redis does not serve");
        }
    }

    /// The open connection, waiting while it is being made.
    async fn connection(self: &Arc<Self>) -> Result<MultiplexedConnection, Error> {
        let mut links = self.link.subscribe();
        let first = self.link.send_if_modified(|link| {
            let idle = matches!(link, Link::Idle);
            if idle {
                *link = Link::Opening;
            }
            idle
        });
        if first {
            tokio::spawn(keep(Arc::downgrade(self)));
        }
        match &*links.wait_for(|link| matches!(link, Link::Open(_) | Link::Down)).await.map_err(|_| Error::Ended)? {
            Link::Open(connection) => Ok(connection.clone()),
            _ => Err(Error::Down),
        }
    }
}

/// Keeps a client's connection open until the client is gone.
async fn keep(weak: Weak<Client>) {
    while let Some(pause) = once(&weak).await {
        tokio::time::sleep(pause).await;
    }
}

/// One connection from its first byte to its last; how long to wait for the next, or nothing once the client is gone.
async fn once(weak: &Weak<Client>) -> Option<Duration> {
    let client = weak.upgrade()?;
    let (connection, driver) = match dial::connect(&client.settings).await {
        Ok(opened) => opened,
        Err(error) => {
            client.link.send_replace(Link::Down);
            client.warn(&error);
            return Some(RETRY);
        }
    };
    if matches!(client.link.send_replace(Link::Open(connection)), Link::Down) {
        tracing::info!(server = client.label, "redis serves again");
    }
    let (suspect, began) = (client.suspect.clone(), Instant::now());
    // The driver ends with the last handle on the connection, which is the client's own.
    drop(client);
    let closed = tokio::select! {
        () = driver => true,
        () = suspect.notified() => false,
    };
    let client = weak.upgrade()?;
    // An idle connection that the server closed says nothing about the next; one that never served does.
    let lasted = closed && began.elapsed() > RETRY;
    client.link.send_replace(if lasted { Link::Opening } else { Link::Down });
    Some(if lasted { Duration::ZERO } else { RETRY })
}
