//! What one phase of a request leaves for the next, and in the end for the access log.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::body::Held;
use super::connection::Connection;
use super::tries::Tally;
use crate::config::snapshot::{Protocol, Route};
use crate::plugin::http_profile::HttpProfile;
use crate::plugin::plan::Plan;
use crate::plugin::{Notes, Plugin};
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
    /// The generation of rejected tokens that was in force before anything else of it was looked at.
    pub generation: u64,
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
    /// Its port; 0 where a proxy named an address alone.
    pub client_port: u16,
    /// The authority it asked for: of an absolute target, else of `Host`.
    pub host: Vec<u8>,
    /// Where it goes.
    pub route: Option<&'a Route>,
    /// Whether the client uses TLS, by the rules of `trusted_ips`.
    pub https: bool,
    /// Whether the client waits to be asked for the body (RFC 9110, 10.1.1).
    pub expects_continue: bool,
    /// What it speaks: http or grpc, over TLS or not.
    pub protocol: Protocol,
    /// What plugins leave.
    pub notes: Notes,
    /// What plugins have read of the body.
    pub(super) held: Option<Box<Held>>,
    /// The plugins chosen by caller, by their slot.
    pub chosen: Vec<(usize, Option<&'a Plugin>)>,
    /// The status sent.
    pub status: u16,
    /// Why the edge answered in place of the upstream, or cut the exchange short.
    pub reason: Option<Reason>,
    /// When the upstream's part began.
    pub upstream_started: Option<Instant>,
    /// How long the upstream took to its response head.
    pub upstream: Option<Duration>,
    /// The upstream's address.
    pub upstream_address: Option<SocketAddr>,
    /// What its tries came to.
    pub tries: Tally,
    /// Body bytes from the client.
    pub request_bytes: u64,
    /// Body bytes to the client.
    pub response_bytes: u64,
}

impl<'a> Context<'a> {
    /// The client, and its port, as far as that is known.
    pub fn client_address(&self) -> SocketAddr {
        SocketAddr::new(self.client, self.client_port)
    }

    /// A request whose head was just read.
    pub fn new(worker: &'a Rc<Worker>, connection: &'a Connection) -> Self {
        Self {
            worker,
            generation: 0,
            connection,
            request_id: worker.next_request_id(),
            started: Instant::now(),
            now: Now::read(),
            client: connection.ip(),
            client_port: connection.peer.port(),
            host: Vec::new(),
            route: None,
            https: connection.tls,
            expects_continue: false,
            protocol: if connection.tls { Protocol::Https } else { Protocol::Http },
            notes: Notes::default(),
            held: None,
            chosen: Vec::new(),
            status: 0,
            reason: None,
            upstream_started: None,
            upstream: None,
            upstream_address: None,
            tries: Tally::default(),
            request_bytes: 0,
            response_bytes: 0,
        }
    }

    /// The plugins of its route that look at its response, most important first: those the access phase chose, and of
    /// those it did not come to, the ones for the caller known by now.
    pub fn answering(&self) -> impl Iterator<Item = &'a Plugin> {
        self.chosen_of(|plan| plan.answers)
    }

    /// The profile of its route, which has the last word on heads.
    pub fn profile(&self) -> Option<&'a HttpProfile> {
        self.chosen_of(|plan| plan.profiles).find_map(Plugin::profile)
    }

    /// The same for those that look at requests that have ended.
    pub fn logging(&self) -> impl Iterator<Item = &'a Plugin> {
        self.chosen_of(|plan| plan.logs)
    }

    fn chosen_of(&self, wanted: impl Fn(&Plan) -> bool) -> impl Iterator<Item = &'a Plugin> {
        let plan = self.route.map(|route| &*route.plugins).filter(|plan| wanted(plan));
        let slots = plan.into_iter().flat_map(|plan| plan.slots.iter().enumerate());
        slots.filter_map(|(index, slot)| match self.chosen.iter().find(|(chosen, _)| *chosen == index) {
            Some((_, plugin)) => *plugin,
            None => slot.choose(self.protocol, &self.notes.caller),
        })
    }

    /// How much of this time was the edge's own: not the upstream's and not an issuer's.
    pub fn edge_part(&self, total: Duration) -> Duration {
        total.saturating_sub(self.upstream.unwrap_or_default() + self.notes.waited.unwrap_or_default())
    }

    /// Whether the client's packets come from its own address, and not from a trusted proxy's.
    pub fn is_direct(&self) -> bool {
        self.owns_connection() && self.connection.via.is_none()
    }

    /// Whether the connection is this client's alone, be it that a load balancer passes its bytes on.
    pub fn owns_connection(&self) -> bool {
        self.client == self.connection.ip()
    }

    /// Whether the client's connection ends with this answer.
    pub fn ends_connection(&self) -> bool {
        self.connection.ends.get() || self.worker.draining.get()
    }

    /// Whether the reason code may be told to this client (T17).
    pub fn may_see_reason(&self) -> bool {
        self.connection.trusted || self.worker.settings.proxy.expose_reason
    }
}
