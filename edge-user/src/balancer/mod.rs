//! From a service to the address of one try: its targets, their order and their health.
//!
//! A service without an upstream entity has a balancer of one target. Balancers outlive reloads that do not change them.

pub mod settings;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::snapshot::Host;
use crate::dns::Resolver;
use crate::reason::Reason;

/// Makes balancers, and keeps those that a new configuration has unchanged.
pub struct Balancers {
    resolver: Arc<Resolver>,
}

impl Balancers {
    /// Balancers whose names are resolved here.
    pub fn new(resolver: Arc<Resolver>) -> Arc<Self> {
        Arc::new(Self { resolver })
    }

    /// The balancer of a service that names its host itself.
    pub fn single(self: &Arc<Self>, host: Host, port: u16) -> Arc<Balancer> {
        Arc::new(Balancer { resolver: self.resolver.clone(), host, port })
    }

    /// The balancer of an upstream entity.
    pub fn upstream(self: &Arc<Self>, upstream: &settings::Upstream) -> Arc<Balancer> {
        let target = upstream.targets.first();
        let host = target.map_or(Host::Name("".into()), |target| target.host.clone());
        self.single(host, target.and_then(|target| target.port).unwrap_or(8000))
    }
}

/// The targets of one service or upstream.
pub struct Balancer {
    resolver: Arc<Resolver>,
    host: Host,
    port: u16,
}

/// What a request offers to consistent hashing. Every method gives nothing where the request has no such thing.
pub trait HashSource {
    /// The consumer's id.
    fn consumer(&self) -> Option<Vec<u8>>;
    /// The client's address.
    fn client(&self) -> IpAddr;
    /// The values of a field, joined.
    fn header(&self, name: &str) -> Option<Vec<u8>>;
    /// The value of a cookie.
    fn cookie(&self, name: &str) -> Option<Vec<u8>>;
    /// The normalised path.
    fn path(&self) -> &[u8];
    /// The values of an argument of the query, joined.
    fn query_arg(&self, name: &str) -> Option<Vec<u8>>;
    /// A capture of the route's regular expression.
    fn uri_capture(&self, name: &str) -> Option<Vec<u8>>;
}

/// Where a request's hash leads, the same for all its tries.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// The hash; `None` where the next in turn is right.
    pub hash: Option<u64>,
    /// The value of a `Set-Cookie` that makes the client come back to its target.
    pub set_cookie: Option<String>,
}

/// How one try ended, as passive health checks and the latency algorithm want to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A response head came, after so long.
    Answered(u16, Duration),
    /// No connection, or one that broke before the answer.
    Failed,
    /// A wait ended.
    TimedOut,
}

/// The address of one try.
pub struct Pick {
    /// Where to connect.
    pub address: SocketAddr,
}

impl Pick {
    /// Tells how the try ended.
    pub fn report(&self, _outcome: Outcome) {}
}

impl Balancer {
    /// What consistent hashing makes of a request.
    pub fn affinity(&self, _request: &dyn HashSource) -> Affinity {
        Affinity::default()
    }

    /// The address for the next try; `tried` had theirs. `UpstreamResolve` where no name has an address,
    /// `UpstreamUnhealthy` where every target is down.
    pub async fn pick(&self, _affinity: &Affinity, tried: &[SocketAddr]) -> Result<Pick, Reason> {
        let answer = match &self.host {
            Host::Ip(address) => return Ok(Pick { address: SocketAddr::new(*address, self.port) }),
            Host::Name(name) => self.resolver.lookup(name).await.map_err(|_| Reason::UpstreamResolve)?,
        };
        let mut addresses = answer.addresses.iter().map(|at| SocketAddr::new(at.address, at.port.unwrap_or(self.port)));
        let first = addresses.clone().next();
        let fresh = addresses.find(|address| !tried.contains(address));
        Ok(Pick { address: fresh.or(first).ok_or(Reason::UpstreamResolve)? })
    }
}
