//! Connections to upstreams: one pool per worker. HTTP/1 connections are opened on demand and kept while both sides
//! are in step; HTTP/2 connections are shared by the exchanges under way.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use super::link::Link;
use super::whose::Whose;
use crate::config::snapshot::Service;
use crate::http::h1::client::{Fault, UpstreamConn};
use crate::http::h1::parse::split_port;
use crate::http::h2_client::{self, Connection};
use crate::http::io::{Io, Stream};
use crate::reason::Reason;
use crate::settings::Keepalive;
use crate::worker::Worker;

/// HTTP/2 connections per address and worker; beyond their streams requests wait.
const MAX_SHARED: usize = 16;
/// Idle connections kept per worker for those who share them with nobody: clients choose how many there would be.
const MAX_ISOLATED: usize = 1024;
/// How long an idle HTTP/2 connection of theirs is kept.
const ISOLATED_IDLE: Duration = Duration::from_secs(5);

/// What makes connections interchangeable: `Service::endpoint`, the address, and whose they are.
pub type Key = (u64, SocketAddr, Sharing);

/// Whose requests may follow each other over one connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sharing {
    /// Everybody's.
    All,
    /// Those of one consumer, or of nobody known.
    Consumer(Option<Uuid>),
    /// Those of one connection of a client, by its serial number.
    Connection(u64),
    /// Those of one client over one connection, whom its PROXY header names; perhaps of one consumer alone.
    Client {
        /// The connection's serial number.
        serial: u64,
        /// The client.
        client: SocketAddr,
        /// The consumer, where those of others are not to follow.
        consumer: Option<Option<Uuid>>,
    },
}

impl Sharing {
    /// The same for the requests of one client alone.
    pub fn for_client(self, serial: u64, client: SocketAddr) -> Self {
        let consumer = match self {
            Self::Consumer(consumer) => Some(consumer),
            Self::Client { consumer, .. } => consumer,
            Self::All | Self::Connection(_) => None,
        };
        Self::Client { serial, client, consumer }
    }

    /// The connection of a client without which nobody will use it.
    fn serial(self) -> Option<u64> {
        match self {
            Self::Connection(serial) | Self::Client { serial, .. } => Some(serial),
            Self::All | Self::Consumer(_) => None,
        }
    }
}

struct Idle {
    conn: UpstreamConn,
    since: Instant,
}

/// The HTTP/2 connections to one address.
#[derive(Default)]
struct Shared {
    connections: Vec<Connection>,
    opening: Option<Rc<Opening>>,
    /// What the upstream chose last, where it has the choice.
    prefers_http1: bool,
}

/// A connection that is being opened, for all who need it.
#[derive(Default)]
struct Opening {
    failed: Cell<Option<Reason>>,
    ended: Notify,
}

/// A worker's upstream connections.
pub struct Pool {
    keepalive: Keepalive,
    idle: RefCell<HashMap<Key, Vec<Idle>>>,
    /// How many of them are not everybody's.
    isolated: Cell<usize>,
    /// Where those are that end with a connection of a client's, by its serial number.
    bound: RefCell<HashMap<u64, Vec<Key>>>,
    shared: RefCell<HashMap<Key, Shared>>,
}

impl Pool {
    /// None yet; which are kept, `keepalive` says.
    pub fn new(keepalive: Keepalive) -> Self {
        Self {
            keepalive,
            idle: RefCell::default(),
            isolated: Cell::new(0),
            bound: RefCell::default(),
            shared: RefCell::default(),
        }
    }

    /// The idle connection used last that its upstream still keeps.
    fn take(&self, key: Key) -> Option<UpstreamConn> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&key)?;
        while let Some(candidate) = kept.pop() {
            if key.2 != Sharing::All {
                self.isolated.set(self.isolated.get().saturating_sub(1));
            }
            if candidate.conn.is_quiet() {
                return Some(candidate.conn);
            }
        }
        None
    }

    /// Keeps a connection whose exchange ended in step.
    pub fn put(&self, key: Key, mut conn: UpstreamConn, now: Instant) {
        let Keepalive { pool_size, max_requests, max_age, .. } = self.keepalive;
        let is_isolated = key.2 != Sharing::All;
        let is_in_step = conn.recycle();
        let is_spent = max_requests > 0 && conn.exchanges >= max_requests;
        let is_old = max_age.is_some_and(|age| now.duration_since(conn.opened) >= age);
        if !is_in_step || is_spent || is_old || is_isolated && self.isolated.get() >= MAX_ISOLATED {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(key).or_default();
        if kept.len() < pool_size {
            if is_isolated {
                self.isolated.set(self.isolated.get() + 1);
            }
            if let Some(serial) = key.2.serial() {
                let mut bound = self.bound.borrow_mut();
                let keys = bound.entry(serial).or_default();
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            kept.push(Idle { conn, since: now });
        }
    }

    /// Closes what is idle for the sake of one connection of a client's, which has ended.
    pub fn client_left(&self, serial: u64) {
        for key in self.bound.borrow_mut().remove(&serial).unwrap_or_default() {
            let kept = self.idle.borrow_mut().remove(&key).unwrap_or_default();
            self.isolated.set(self.isolated.get().saturating_sub(kept.len()));
        }
    }

    /// Closes what has been idle for too long or was closed by the upstream. The worker calls this every second.
    pub fn sweep(&self, now: Instant) {
        let Keepalive { idle_timeout, max_age, .. } = self.keepalive;
        let is_fresh = |idle: &Idle| {
            now.duration_since(idle.since) < idle_timeout
                && max_age.is_none_or(|age| now.duration_since(idle.conn.opened) < age)
        };
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain(|idle| is_fresh(idle) && idle.conn.is_quiet());
            !kept.is_empty()
        });
        let idle = self.idle.borrow();
        let isolated = idle.iter().filter(|((_, _, sharing), _)| *sharing != Sharing::All);
        self.isolated.set(isolated.map(|(_, kept)| kept.len()).sum());
        self.bound.borrow_mut().retain(|_, keys| keys.iter().any(|key| idle.contains_key(key)));
        self.shared.borrow_mut().retain(|(_, _, sharing), shared| {
            let limit = if *sharing == Sharing::All { idle_timeout } else { ISOLATED_IDLE };
            let fresh = |since: Instant| now.duration_since(since) < limit;
            shared
                .connections
                .retain(|connection| !connection.is_closed() && connection.idle_since().is_none_or(fresh));
            !shared.connections.is_empty() || shared.opening.is_some()
        });
    }

    fn with_shared<T>(&self, key: Key, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(self.shared.borrow_mut().entry(key).or_default())
    }
}

/// What a request asks of its connection.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Whose connections it may use.
    pub sharing: Sharing,
    /// Whose it is, where the service wants a PROXY header.
    pub whose: Option<Whose<'a>>,
    /// Whether the exchange may switch protocols.
    pub only_http1: bool,
}

impl Terms<'_> {
    fn header(&self) -> Vec<u8> {
        self.whose.map(|whose| whose.header()).unwrap_or_default()
    }
}

/// A connection to an address: an idle one, a place on a shared one, or a fresh one.
pub async fn obtain(
    worker: &Worker,
    service: &Service,
    address: SocketAddr,
    terms: &Terms<'_>,
) -> Result<Link, Reason> {
    let Terms { sharing, only_http1, .. } = *terms;
    let key = (service.endpoint, address, sharing);
    if let Some(conn) = worker.pool.take(key) {
        worker.metrics.upstream_reuses.add(1);
        return Ok(Link::H1(conn));
    }
    if speaks_http2(service) && !only_http1 {
        // Whoever waits for another's connection waits no longer than for its own.
        let shared = tokio::time::timeout(service.connect_timeout, share(worker, service, key, terms));
        return shared.await.unwrap_or(Err(Reason::UpstreamTimeout));
    }
    let io = match tokio::time::timeout(service.connect_timeout, open(service, address, only_http1, &terms.header()))
        .await
    {
        Ok(opened) => opened?.0,
        Err(_) => return Err(Reason::UpstreamTimeout),
    };
    worker.metrics.upstream_connects.add(1);
    Ok(Link::H1(UpstreamConn::new(io, &worker.clock)))
}

/// Whether HTTP/2 is spoken, or may be chosen by ALPN.
fn speaks_http2(service: &Service) -> bool {
    let offered = |tls: &rustls::ClientConfig| tls.alpn_protocols.iter().any(|protocol| protocol == b"h2");
    service.scheme.is_grpc() || service.tls.as_deref().is_some_and(offered)
}

/// What is there to share.
enum Place {
    Stream(Box<h2_client::Stream>),
    Wait(Rc<Opening>),
    Open(Rc<Opening>),
    /// The upstream chose HTTP/1 before: nothing will come to share.
    Alone,
}

async fn share(worker: &Worker, service: &Service, key: Key, terms: &Terms<'_>) -> Result<Link, Reason> {
    loop {
        match worker.pool.with_shared(key, |shared| place(worker, shared)) {
            Place::Stream(stream) => {
                if stream.reused {
                    worker.metrics.upstream_reuses.add(1);
                }
                return Ok(Link::H2(stream));
            }
            Place::Wait(opening) => {
                opening.ended.notified().await;
                if let Some(reason) = opening.failed.get() {
                    return Err(reason);
                }
            }
            Place::Alone => return open_shared(worker, service, key, terms).await,
            Place::Open(opening) => {
                let _guard = Guard { pool: &worker.pool, key, opening: &opening };
                let opened = open_shared(worker, service, key, terms).await;
                opening.failed.set(opened.as_ref().err().copied());
                return opened;
            }
        }
    }
}

/// Lets the others go on however the opening ended, given up on included.
struct Guard<'a> {
    pool: &'a Pool,
    key: Key,
    opening: &'a Opening,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.pool.with_shared(self.key, |shared| shared.opening = None);
        self.opening.ended.notify_waiters();
    }
}

fn place(worker: &Worker, shared: &mut Shared) -> Place {
    shared.connections.retain(|connection| !connection.is_closed());
    if let Some(connection) = shared.connections.iter().find(|connection| connection.has_room()) {
        return Place::Stream(Box::new(connection.stream(&worker.clock)));
    }
    if shared.prefers_http1 {
        return Place::Alone;
    }
    if let Some(opening) = &shared.opening {
        return Place::Wait(opening.clone());
    }
    if shared.connections.len() < MAX_SHARED {
        let opening = Rc::<Opening>::default();
        shared.opening = Some(opening.clone());
        return Place::Open(opening);
    }
    // All are full: the stream begins once another one ends, or the time-outs end the wait.
    let least = shared.connections.iter().min_by_key(|connection| connection.streams());
    Place::Stream(Box::new(least.expect("`MAX_SHARED` connections").stream(&worker.clock)))
}

/// Opens a connection and takes the first place on it, or has it alone where the upstream chose HTTP/1.
async fn open_shared(worker: &Worker, service: &Service, key: Key, terms: &Terms<'_>) -> Result<Link, Reason> {
    let (io, http2) = open(service, key.1, false, &terms.header()).await?;
    worker.metrics.upstream_connects.add(1);
    worker.pool.with_shared(key, |shared| shared.prefers_http1 = !http2);
    if !http2 {
        return Ok(Link::H1(UpstreamConn::new(io, &worker.clock)));
    }
    let connection = Connection::open(io, &worker.clock).await.map_err(|fault| {
        tracing::debug!(service = %service.label, address = %key.1, "no HTTP/2 connection: {fault}");
        match fault {
            Fault::Malformed => Reason::UpstreamMalformed,
            _ => Reason::UpstreamConnect,
        }
    })?;
    let stream = connection.stream(&worker.clock);
    worker.pool.with_shared(key, |shared| shared.connections.push(connection));
    Ok(Link::H2(Box::new(stream)))
}

/// Connects, sends the PROXY header where there is one, before TLS, and tells whether HTTP/2 is spoken. The name that TLS
/// asks for and verifies is that of `Host`.
pub(crate) async fn open(
    service: &Service,
    address: SocketAddr,
    only_http1: bool,
    header: &[u8],
) -> Result<(Io, bool), Reason> {
    let mut tcp = TcpStream::connect(address).await.map_err(|_| Reason::UpstreamConnect)?;
    // Every write is a whole message or as much as there is: nothing to wait for.
    let _ = tcp.set_nodelay(true);
    tcp.write_all(header).await.map_err(|_| Reason::UpstreamConnect)?;
    let Some(tls) = &service.tls else { return Ok((Io::new(Stream::Tcp(tcp)), service.scheme.is_grpc())) };
    let failed = |error: &dyn std::fmt::Display| {
        tracing::warn!(service = %service.label, %address, "upstream TLS handshake failed: {error}");
        Reason::UpstreamTls
    };
    let name = server_name(&service.host_header).ok_or_else(|| failed(&"its name is no server name"))?;
    let connector = TlsConnector::from(tls.clone());
    let handshake = match only_http1 && !service.scheme.is_stream() {
        true => connector.with_alpn(vec![b"http/1.1".to_vec()]).connect(name, tcp),
        false => connector.connect(name, tcp),
    };
    let stream = handshake.await.map_err(|error| failed(&error))?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    if service.scheme.is_grpc() && !http2 {
        return Err(failed(&"it does not choose h2"));
    }
    Ok((Io::new(Stream::TlsClient(Box::new(stream))), http2))
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    let (name, _) = split_port(host.as_bytes());
    let name = std::str::from_utf8(name).ok()?;
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(bare.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_client_shares_with_nobody() {
        let (one, other): (SocketAddr, SocketAddr) =
            ("192.0.2.1:5".parse().expect("an address"), "192.0.2.1:6".parse().expect("an address"));
        let consumer = Sharing::Consumer(Some(Uuid::from_u128(1)));
        let all = Sharing::All.for_client(1, one);
        for different in [
            Sharing::All,
            Sharing::Connection(1),
            Sharing::All.for_client(1, other),
            Sharing::All.for_client(2, one),
            consumer.for_client(1, one),
            Sharing::Consumer(None).for_client(1, one),
        ] {
            assert_ne!(all, different);
        }
        assert_eq!(all, Sharing::Connection(1).for_client(1, one));
        assert_eq!(consumer.for_client(1, one), consumer.for_client(2, other).for_client(1, one));
    }

    #[test]
    fn the_server_name_is_that_of_host() {
        for (host, expected) in [
            ("a.example", Some("a.example")),
            ("a.example:8443", Some("a.example")),
            ("10.0.0.1:443", Some("10.0.0.1")),
            ("[::1]:443", Some("::1")),
            ("", None),
        ] {
            let name = server_name(host).map(|name| name.to_str().into_owned());
            assert_eq!(name.as_deref(), expected, "{host}");
        }
    }
}
