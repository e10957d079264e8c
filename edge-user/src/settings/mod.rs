//! Settings of the node, from `edge.toml`: every value with its unit and default. Entities are `config`'s.
//!
//! Relative paths are relative to the directory of `edge.toml`. Reading stands in `read`.

mod cidr;
mod clients;
mod dns;
mod identity;
mod key_sets;
mod penalty;
mod ports;
mod proxy;
mod read;
mod secrets;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use cidr::{Cidr, CidrSet};
pub use clients::{ClientCertificates, ClientRules, HostName, HostRules};
pub use dns::{Dns, RecordType};
pub use identity::{Identity, IdentityClaim, IdentityClient, IdentityScope, IdentityServer, Secret, SigningAlgorithm};
pub use key_sets::{KeySets, PrivateKeys};
pub use penalty::{Penalty, PenaltyMode};
pub use ports::PortRange;
pub use proxy::{Keepalive, Proxy, UpstreamHost};
pub(crate) use read::read;
pub use secrets::Secrets;
pub use tls::Tls;

use crate::config::problem::Problems;
use crate::proxy_protocol::Versions;

/// Everything `edge.toml` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The file all this was read from, as problems name it.
    pub file: String,
    /// `[[listeners]]`: at least one.
    pub listeners: Vec<Listener>,
    /// `[process]`
    pub process: Process,
    /// `[workers]`
    pub workers: Workers,
    /// `[entities]`
    pub entities: Entities,
    /// `[kernel]`
    pub kernel: Kernel,
    /// `[tls]`
    pub tls: Tls,
    /// `[proxy]`
    pub proxy: Proxy,
    /// `[limits]`
    pub limits: Limits,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[dns]`
    pub dns: Dns,
    /// `[verdicts]`
    pub verdicts: Verdicts,
    /// `[issuers]`
    pub issuers: Issuers,
    /// `[store]`
    pub store: Store,
    /// `[secrets]`
    pub secrets: Secrets,
    /// `[key_sets]`
    pub key_sets: KeySets,
    /// `[log]`
    pub log: Log,
    /// `[admin]`; `None` where it is off.
    pub admin: Option<Admin>,
    /// `[identity]`; absent: off.
    pub identity: Option<Identity>,
    /// `[echo]`; absent: off.
    pub echo: Option<Echo>,
    /// What the operator should know, in words; logged at start.
    pub warnings: Vec<String>,
}

/// One address requests or connections come in at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// `address`: IP address and port; port 0 lets the system choose. Required.
    pub address: SocketAddr,
    /// `mode`: `http` (default) or `stream`.
    pub mode: Mode,
    /// `tls`, default false. Over TLS HTTP/2 is chosen by ALPN, in clear text by prior knowledge. With mode `stream`:
    /// only TLS is taken; without it the first bytes of each connection tell.
    pub tls: bool,
    /// The line it begins at in `edge.toml`.
    pub line: u32,
    /// `certificate` and `key`: PEM files of the pair for names that no certificate entity has. Default: none.
    pub pair: Option<PairFiles>,
    /// What is asked of its clients.
    pub clients: ClientRules,
    /// `[[listeners.hosts]]`: hosts at which something else is asked of them. Default: none.
    pub hosts: Vec<HostRules>,
    /// `kernel_reject`: `off` (default), `first` or `kept`, in clear text alone: bad tokens that come again are refused in
    /// the kernel, where they stand in the first request of a connection, or in later ones as well.
    pub kernel_reject: KernelReject,
    /// `proxy_protocol`: `off` (default), `v1`, `v2` or `any`: each connection, of `proxy.trusted_ips` alone, begins with a
    /// header that names the client.
    pub proxy_protocol: Versions,
    /// `vips`: virtual addresses, which reach this listener too: any address of these ranges, at `ports`. Default: none.
    pub vips: Vec<Cidr>,
    /// `ports`: of `vips`. Default: the listener's own.
    pub ports: Vec<PortRange>,
}

impl Listener {
    /// Whether connections come to other addresses than its own.
    pub fn has_vips(&self) -> bool {
        !self.vips.is_empty()
    }
}

/// What a listener takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Requests, for routes with `protocols` http and https.
    Http,
    /// Connections, for routes with `protocols` tcp, tls and tls_passthrough.
    Stream,
}

/// Whether the kernel refuses requests with bad tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KernelReject {
    /// No.
    #[default]
    Off,
    /// Those that are the first of their connection.
    First,
    /// Later ones, too. An experiment.
    Kept,
}

/// Where a certificate and its key are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PairFiles {
    /// PEM file with the chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// `[process]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Process {
    /// `user`: the name to run as once everything is opened. Default: stay.
    pub user: Option<String>,
    /// `control`: the Unix socket over which `edge kernel`, `edge why` and `edge run --upgrade` reach the running edge.
    pub control: Control,
}

/// Where the control socket is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Control {
    /// Nowhere.
    #[default]
    Off,
    /// `edge.sock` beside `edge.toml`, where it can be: else a warning.
    Default(PathBuf),
    /// Here, or the edge does not start.
    At(PathBuf),
}

impl Control {
    /// The path, where there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Off => None,
            Self::Default(path) | Self::At(path) => Some(path),
        }
    }
}

/// `[workers]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Workers {
    /// `count`: threads that serve requests; 0, the default, is one per core.
    pub count: usize,
}

/// `[entities]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entities {
    /// `file`: the declarative file. Default `kong.yaml`.
    pub file: PathBuf,
}

/// `[kernel]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kernel {
    /// `mode`: `off`, `auto` (default) or `required`.
    pub mode: KernelMode,
    /// `interfaces`: where XDP is attached, unless nothing is denied and penalties are off; and where `kernel_reject`
    /// looks at requests. Default: none.
    pub interfaces: Vec<String>,
    /// `deny`: sources whose packets are dropped. Default: none.
    pub deny: Vec<Cidr>,
    /// `pin`: a directory on a bpf file system where programs on interfaces, denied and penalized sources outlive a
    /// process that was killed. Default: none, and nothing does.
    pub pin: Option<PathBuf>,
    /// Who may end what is kept there: `process.user`.
    pub pin_owner: Option<String>,
    /// `lanes`: sockets apart for sources that sent good tokens lately, for unknown ones, and for those that sent bad
    /// ones, of which each worker takes 8, 3 and 1. Default false.
    pub lanes: bool,
    /// Whether a listener has virtual addresses.
    pub has_vips: bool,
    /// Whether a listener has `kernel_reject`.
    pub rejects: bool,
    /// Whether one has `kernel_reject = "kept"`.
    pub keeps: bool,
    /// `[kernel.penalty]`
    pub penalty: Penalty,
}

/// Whether the kernel object is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KernelMode {
    /// Never.
    Off,
    /// Where the system lets us; otherwise a warning names what is missing.
    #[default]
    Auto,
    /// Or the edge does not start.
    Required,
}

/// `[limits]`: what is over them is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// `head_bytes`: a request's head, in bytes; over it 431. Default 32768.
    pub head_bytes: usize,
    /// `fields`: a request's header fields; over it 431. Default 64.
    pub fields: usize,
    /// `body_bytes`: a request's body, in bytes; over it 413. Default 0: no limit.
    pub body_bytes: u64,
    /// `buffer_bytes`: the most of a body that is held in memory, in bytes. Default 1048576.
    pub buffer_bytes: usize,
    /// `buffered_bytes`: what is held of all bodies for slow clients, over all workers. Default 268435456.
    pub buffered_bytes: usize,
    /// `connections`: open client connections over all workers. Default 100000.
    pub connections: usize,
    /// `connections_per_source`: those of one source. Default 0: no limit.
    pub connections_per_source: u32,
    /// `requests_per_connection`: after so many a connection ends. Default 0: no limit.
    pub requests_per_connection: u64,
    /// `streams`: requests that one HTTP/2 connection may have open. Default 128.
    pub streams: u32,
    /// `upstream_requests`: requests under way at one target, over all workers. Default 0: no limit.
    pub upstream_requests: u32,
    /// `upstream_queue`: requests that wait for one of an upstream's targets; over it 503. Default 1000.
    pub upstream_queue: u32,
}

/// `[timeouts]`: every wait has an end (D1). All in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// `handshake`: a client's TLS handshake, and the first bytes by which a stream is steered. Default 10000.
    pub handshake: Duration,
    /// `request_head`: from the first byte of a request to its whole head. Default 10000.
    pub request_head: Duration,
    /// `idle`: a kept connection between two requests. Default 75000.
    pub idle: Duration,
    /// `request_body`: for each KiB of a request's body, so that a trickle ends too (D2). Default 60000.
    pub request_body: Duration,
    /// `response_write`: for each KiB of a response that the client does not take. Default 60000.
    pub response_write: Duration,
    /// `request_total`: from the head to the end of the response. Default 0: no limit.
    pub request_total: Option<Duration>,
    /// `tunnel_idle`: a WebSocket or other upgraded connection without bytes either way. Default 3600000.
    pub tunnel_idle: Duration,
    /// `resolve`: a request that waits for the addresses of a name. Default 5000.
    pub resolve: Duration,
    /// `key_wait`: a request that waits for an issuer: its keys, introspection, tokens, user info; or for a key set.
    /// Default 5000.
    pub key_wait: Duration,
    /// `upstream_queue`: a request that waits for a target with room. Default 5000.
    pub upstream_queue: Duration,
    /// `drain`: requests under way when the edge stops. Default 30000.
    pub drain: Duration,
}

/// `[verdicts]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdicts {
    /// `cache_bytes`: memory for remembered token verdicts, in bytes; 0 switches the cache off. Default 67108864.
    pub cache_bytes: usize,
}

/// `[issuers]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Issuers {
    /// `allow_http`: hosts, beside loopback, that keys may be fetched from without TLS. Default: none.
    pub allow_http: Vec<String>,
}

/// `[store]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    /// `path`: the database file with what survives a restart. Default `edge.db`.
    pub path: PathBuf,
}

/// `[log]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// `level`, default `info`. `KONG_LOG_LEVEL` goes before it, `EDGE_LOG_LEVEL` before both.
    pub level: Level,
    /// `access`: `stdout` (default), `stderr`, `off` or a file.
    pub access: LogTarget,
    /// `error`: `stderr` (default), `stdout`, `off` or a file.
    pub error: LogTarget,
}

/// Least weight of what the error log shows. Kong's `notice` is `info`; `crit`, `alert` and `emerg` are `error`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the usual levels")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Where log lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to a file.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// `[admin]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admin {
    /// `address`: IP address and port, or `off`. Default `127.0.0.1:8001`. Anything but loopback is refused unless
    /// `allow_remote = true` (default false) says that others may reach it (A1).
    pub address: SocketAddr,
}

/// `[echo]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    /// `address` of an upstream for demos, which answers with what it was asked. Required.
    pub address: SocketAddr,
}

impl Settings {
    /// Whether a peer's word about where a request came from is taken (`proxy.trusted_ips`).
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        self.proxy.trusted_ips.iter().any(|network| network.contains(address))
    }

    /// Reads `edge.toml` and the environment; all problems at once.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let (settings, problems) = read(path, |name| std::env::var(name).ok());
        if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
    }

    /// As `load`, from a text in place of the file `path`, and without the environment.
    pub fn load_text(text: &str, path: &Path) -> Result<Self, Problems> {
        let (settings, problems) = read::read_text(Ok(text.to_owned()), path, |_| None);
        if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
    }
}

#[cfg(test)]
mod tests;
