//! Connections to upstreams: one pool per worker, opened on demand, kept while both sides are in step.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::balancer::Affinity;
use crate::clock::Clock;
use crate::config::snapshot::{Host, Service};
use crate::http::h1::client::UpstreamConn;
use crate::http::io::{Io, Stream};
use crate::reason::Reason;

/// Idle connections kept per endpoint and worker.
const MAX_IDLE: usize = 512;
/// How long an idle one is kept; servers usually close at 60 s or later.
const IDLE: Duration = Duration::from_secs(55);

struct Idle {
    conn: UpstreamConn,
    address: SocketAddr,
    since: Instant,
}

/// A worker's idle upstream connections, by `Service::endpoint`.
#[derive(Default)]
pub struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
}

impl Pool {
    /// The idle connection used last that its upstream still keeps.
    pub fn take(&self, endpoint: u64) -> Option<(UpstreamConn, SocketAddr)> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&endpoint)?;
        while let Some(candidate) = kept.pop() {
            if candidate.conn.is_quiet() {
                return Some((candidate.conn, candidate.address));
            }
        }
        None
    }

    /// Keeps a connection whose exchange ended in step.
    pub fn put(&self, endpoint: u64, mut conn: UpstreamConn, address: SocketAddr, now: Instant) {
        if !conn.recycle() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(endpoint).or_default();
        if kept.len() < MAX_IDLE {
            kept.push(Idle { conn, address, since: now });
        }
    }

    /// Closes what has been idle for too long or was closed by the upstream. The worker calls this every second.
    pub fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain(|idle| now.duration_since(idle.since) < IDLE && idle.conn.is_quiet());
            !kept.is_empty()
        });
    }
}

/// Opens a connection to the next target of a service.
pub async fn connect(service: &Service, clock: &Rc<Clock>) -> Result<(UpstreamConn, SocketAddr), Reason> {
    let pick = service.balancer.pick(&Affinity::default(), &[]).await?;
    match tokio::time::timeout(service.connect_timeout, open(service, pick.address)).await {
        Ok(io) => Ok((UpstreamConn::new(io?, clock), pick.address)),
        Err(_) => Err(Reason::UpstreamTimeout),
    }
}

/// Connects to one address of a service, and puts TLS over it where the service wants it.
pub(crate) async fn open(service: &Service, address: SocketAddr) -> Result<Io, Reason> {
    let tcp = TcpStream::connect(address).await.map_err(|_| Reason::UpstreamConnect)?;
    // Every write is a whole message or as much as there is: nothing to wait for.
    let _ = tcp.set_nodelay(true);
    let Some(tls) = &service.tls else { return Ok(Io::new(Stream::Tcp(tcp))) };
    let name = match &service.host {
        Host::Ip(address) => ServerName::IpAddress((*address).into()),
        Host::Name(name) => ServerName::try_from(name.to_string()).map_err(|_| Reason::UpstreamTls)?,
    };
    let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await.map_err(|error| {
        tracing::warn!(service = %service.label, %address, %error, "upstream TLS handshake failed");
        Reason::UpstreamTls
    })?;
    Ok(Io::new(Stream::TlsClient(Box::new(stream))))
}
