//! What one phase of a request leaves for the next, and in the end for the access log.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::Connection;
use crate::config::snapshot::{Consumer, Route};
use crate::reason::Reason;
use crate::token::Now;
use crate::worker::Worker;

/// 128 random bits in hex: unique over restarts and hosts, and nothing more.
#[derive(Clone, Copy)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// Spells the bits.
    pub fn new(bits: u128) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Self(text)
    }

    /// As logs and fields carry it.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The same as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One request under way.
pub struct Context<'a> {
    /// Where it runs.
    pub worker: &'a Rc<Worker>,
    /// How it came in.
    pub connection: &'a Connection,
    /// Its id.
    pub request_id: RequestId,
    /// When its head was complete.
    pub started: Instant,
    /// The same as wall-clock time.
    pub now: Now,
    /// The client: the peer, or whom trusted proxies name.
    pub client: IpAddr,
    /// The authority it asked for: of an absolute target, else of `Host`.
    pub host: Vec<u8>,
    /// Where it goes.
    pub route: Option<&'a Route>,
    /// Whom its token stands for.
    pub consumer: Option<Arc<Consumer>>,
    /// The status sent.
    pub status: u16,
    /// Why the edge answered in place of the upstream, or cut the exchange short.
    pub reason: Option<Reason>,
    /// When the upstream's part began.
    pub upstream_started: Option<Instant>,
    /// How long the upstream took to its response head.
    pub upstream: Option<Duration>,
    /// How long the request waited for its issuer.
    pub issuer: Option<Duration>,
    /// The upstream's address.
    pub upstream_address: Option<SocketAddr>,
    /// Body bytes from the client.
    pub request_bytes: u64,
    /// Body bytes to the client.
    pub response_bytes: u64,
    /// When a connection that outlives the request must end: the token's `exp` (P8).
    pub expires_unix_ms: Option<i64>,
}

impl<'a> Context<'a> {
    /// A request whose head was just read.
    pub fn new(worker: &'a Rc<Worker>, connection: &'a Connection) -> Self {
        Self {
            worker,
            connection,
            request_id: worker.next_request_id(),
            started: Instant::now(),
            now: Now::read(),
            client: connection.ip(),
            host: Vec::new(),
            route: None,
            consumer: None,
            status: 0,
            reason: None,
            upstream_started: None,
            upstream: None,
            issuer: None,
            upstream_address: None,
            request_bytes: 0,
            response_bytes: 0,
            expires_unix_ms: None,
        }
    }

    /// How much of this time was the edge's own: not the upstream's and not an issuer's.
    pub fn edge_part(&self, total: Duration) -> Duration {
        total.saturating_sub(self.upstream.unwrap_or_default() + self.issuer.unwrap_or_default())
    }

    /// Whether the reason code may be told to this client (T17).
    pub fn may_see_reason(&self) -> bool {
        self.connection.trusted || self.worker.settings.proxy.expose_reason
    }
}
