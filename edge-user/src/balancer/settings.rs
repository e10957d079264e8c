//! What an upstream entity asks of its balancer: Kong's fields as types that cannot be wrong.

use std::time::Duration;

use crate::config::snapshot::Host;
use crate::proxy_protocol::Sends;

/// An upstream with its targets; equal settings make equal balancers.
#[derive(Clone, PartialEq, Debug)]
pub struct Upstream {
    /// The entity's `name`: what services name as their host, and the label of metrics.
    pub name: Box<str>,
    /// `algorithm`
    pub algorithm: Algorithm,
    /// `hash_on`: what consistent hashing looks at.
    pub hash_on: HashOn,
    /// `hash_fallback`: what it looks at where the first is absent.
    pub hash_fallback: HashOn,
    /// `slots`: points of the wheel, 10 to 65536.
    pub slots: u32,
    /// `use_srv_name`: the name an SRV record points at stands in `Host`, in place of the target's.
    pub use_srv_name: bool,
    /// `healthchecks`
    pub healthchecks: Healthchecks,
    /// The PROXY header that connections to its targets begin with: those of probes, the edge's own, name nobody.
    pub proxy_protocol: Option<Sends>,
    /// Its targets, those of weight 0 left out.
    pub targets: Vec<Target>,
}

/// One target.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// Name or address.
    pub host: Host,
    /// `None` where the entity gives no port: an SRV record may; else 8000.
    pub port: Option<u16>,
    /// 1 to 65535.
    pub weight: u32,
}

/// `algorithm`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// `round-robin`: by weight.
    #[default]
    RoundRobin,
    /// `consistent-hashing`
    ConsistentHashing,
    /// `least-connections`: fewest requests under way per weight.
    LeastConnections,
    /// `latency`: the better of two by a moving average of the time to the response's head.
    Latency,
}

/// `hash_on` and `hash_fallback`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum HashOn {
    /// `none`: the next in turn.
    #[default]
    None,
    /// `consumer`: the consumer's id.
    Consumer,
    /// `ip`: the client's address.
    Ip,
    /// `header`: the values of this field, in lower case.
    Header(Box<str>),
    /// `cookie`: this cookie, made and set where the client has none.
    Cookie {
        /// `hash_on_cookie`
        name: Box<str>,
        /// `hash_on_cookie_path`
        path: Box<str>,
    },
    /// `path`: the normalised path.
    Path,
    /// `query_arg`: the values of this argument.
    QueryArg(Box<str>),
    /// `uri_capture`: this capture of the route's regular expression, a name or a number.
    UriCapture(Box<str>),
}

/// `healthchecks`
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Healthchecks {
    /// `threshold`: the least percentage of weight that must be healthy for the upstream to be so.
    pub threshold: f64,
    /// `active`
    pub active: Active,
    /// `passive`
    pub passive: Passive,
}

/// How a probe speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ProbeType {
    /// `http`: GET, judged by its status.
    #[default]
    Http,
    /// `https`: the same over TLS.
    Https,
    /// `tcp`: a connection is enough.
    Tcp,
    /// `grpc`: a connection that speaks HTTP/2 with prior knowledge is enough.
    Grpc,
    /// `grpcs`: the same over TLS.
    Grpcs,
}

/// `healthchecks.active`
#[derive(Clone, PartialEq, Debug)]
pub struct Active {
    /// `type`
    pub probe: ProbeType,
    /// `timeout`
    pub timeout: Duration,
    /// `concurrency`: probes at once.
    pub concurrency: u32,
    /// `http_path`
    pub http_path: Box<str>,
    /// `https_verify_certificate`
    pub https_verify_certificate: bool,
    /// `https_sni`
    pub https_sni: Option<Box<str>>,
    /// `headers`, one pair per value.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// `healthy.interval`: zero switches probes of healthy targets off.
    pub healthy_interval: Duration,
    /// `unhealthy.interval`: zero switches probes of unhealthy targets off.
    pub unhealthy_interval: Duration,
    /// When a target's state changes.
    pub thresholds: Thresholds,
}

/// `healthchecks.passive`
#[derive(Clone, PartialEq, Debug)]
pub struct Passive {
    /// `type`: with tcp statuses are not looked at.
    pub probe: ProbeType,
    /// When a target's state changes.
    pub thresholds: Thresholds,
}

/// Counts after which a target's state changes; zero: never.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thresholds {
    /// `healthy.successes`
    pub successes: u32,
    /// `healthy.http_statuses`
    pub healthy_statuses: Box<[u16]>,
    /// `unhealthy.tcp_failures`
    pub tcp_failures: u32,
    /// `unhealthy.timeouts`
    pub timeouts: u32,
    /// `unhealthy.http_failures`
    pub http_failures: u32,
    /// `unhealthy.http_statuses`
    pub unhealthy_statuses: Box<[u16]>,
}

/// Kong's defaults: nothing is probed.
impl Default for Active {
    fn default() -> Self {
        Self {
            probe: ProbeType::Http,
            timeout: Duration::from_secs(1),
            concurrency: 10,
            http_path: "/".into(),
            https_verify_certificate: true,
            https_sni: None,
            headers: Vec::new(),
            healthy_interval: Duration::ZERO,
            unhealthy_interval: Duration::ZERO,
            thresholds: Thresholds {
                successes: 0,
                healthy_statuses: [200, 302].into(),
                tcp_failures: 0,
                timeouts: 0,
                http_failures: 0,
                unhealthy_statuses: [429, 404, 500, 501, 502, 503, 504, 505].into(),
            },
        }
    }
}

/// Kong's defaults: nothing is counted.
impl Default for Passive {
    fn default() -> Self {
        Self {
            probe: ProbeType::Http,
            thresholds: Thresholds {
                successes: 0,
                healthy_statuses: (200..=208).chain([226]).chain(300..=308).collect(),
                tcp_failures: 0,
                timeouts: 0,
                http_failures: 0,
                unhealthy_statuses: [429, 500, 503].into(),
            },
        }
    }
}
