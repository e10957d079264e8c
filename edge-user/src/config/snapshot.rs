//! The immutable runtime view of the entities: references resolved, patterns compiled, plugins parsed.
//!
//! One request sees one snapshot. Built by `resolve`, swapped by `store`.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

pub use super::protocols::{Protocol, Protocols};
use super::rejection::KernelRejection;
use crate::balancer::Balancer;
use crate::plugin::Plugin;
use crate::plugin::plan::Plan;
use crate::proxy_protocol::Sends;
use crate::router::{Router, SniPattern, StreamCriteria, StreamProtocol, StreamRouter};
use crate::settings::Cidr;
use crate::tls::freshness::Freshness;
use crate::tls::{Certificates, ListenerTls};

/// Everything the workers need of the entities.
pub struct Snapshot {
    /// Counts the snapshots of this process.
    pub generation: u64,
    /// Changes when, and only when, the text of the entities does.
    pub hash: Box<str>,
    /// Request to index of `routes`.
    pub router: Router,
    /// The routes of enabled services and those without a service, in the file's order.
    pub routes: Vec<Route>,
    /// Connection to index of `stream_routes`.
    pub stream_router: StreamRouter,
    /// As `routes`, of those that steer connections.
    pub stream_routes: Vec<StreamRoute>,
    /// Whom tokens may stand for.
    pub consumers: Consumers,
    /// Server certificates by SNI.
    pub certificates: Arc<Certificates>,
    /// The TLS of each listener that ends some, by its index.
    pub listeners: Vec<Option<ListenerTls>>,
    /// What has to be renewed before it ends.
    pub freshness: Vec<Freshness>,
    /// The names of the plugins of which an instance is enabled, sorted.
    pub plugin_names: Vec<&'static str>,
    /// Lower-case names of the fields by which plugins speak to upstreams; no client may send them (P1).
    pub owned_names: Vec<Box<str>>,
    /// Names of the fields in which proxies in front may show a client's certificate.
    pub certificate_names: Vec<Box<str>>,
    /// For which hosts the kernel may refuse bad tokens.
    pub kernel_rejection: KernelRejection,
    /// What the operator should know, in words; logged when the snapshot comes into force.
    pub warnings: Vec<String>,
}

impl Snapshot {
    /// Whether routes verify tokens by issuers' keys, and not one issuer has given any (K7).
    pub fn lacks_keys(&self) -> bool {
        let slots = self.routes.iter().flat_map(|route| &route.plugins.slots);
        let plugins = slots.flat_map(|slot| &slot.defaults).map(|(_, instance)| &instance.plugin);
        let mut awaited = plugins.flat_map(Plugin::awaited_keys).peekable();
        awaited.peek().is_some() && awaited.all(|source| source.keys().keys.is_empty())
    }

    /// A snapshot without entities: every request gets 404.
    pub fn empty(generation: u64) -> Self {
        Self {
            generation,
            hash: Box::default(),
            router: Router::default(),
            routes: Vec::new(),
            stream_router: StreamRouter::default(),
            stream_routes: Vec::new(),
            consumers: Consumers::default(),
            certificates: Arc::default(),
            listeners: Vec::new(),
            freshness: Vec::new(),
            plugin_names: Vec::new(),
            owned_names: Vec::new(),
            certificate_names: Vec::new(),
            kernel_rejection: KernelRejection::default(),
            warnings: Vec::new(),
        }
    }

    /// The balancers of all services; one may come several times.
    pub fn balancers(&self) -> impl Iterator<Item = &Arc<Balancer>> {
        let services = self.routes.iter().map(|route| &route.service);
        services.chain(self.stream_routes.iter().map(|route| &route.service)).flatten().map(|service| &service.balancer)
    }
}

/// One route with everything that decides about its requests.
pub struct Route {
    /// The entity's id.
    pub id: Uuid,
    /// The entity's name.
    pub name: Option<Box<str>>,
    /// Name or id, for logs and metrics.
    pub label: Arc<str>,
    /// What it answers to.
    pub protocols: Protocols,
    /// What a clear-text request to an https-only route gets.
    pub https_redirect_status_code: u16,
    /// Whether the matched prefix is cut off before forwarding.
    pub strip_path: bool,
    /// Whether the client's `Host` goes upstream in place of the service's.
    pub preserve_host: bool,
    /// Whether a request's body is read, up to `limits.buffer_bytes`, before an upstream is asked.
    pub request_buffering: bool,
    /// Whether the upstream is read ahead, up to `limits.buffer_bytes`, of a client that is slow.
    pub response_buffering: bool,
    /// Where requests go; a route without one can only be answered by plugins.
    pub service: Option<Arc<Service>>,
    /// The plugins that may run.
    pub plugins: Arc<Plan>,
    /// Lower-case names of fields, besides `Authorization`, in which they look for credentials; mostly none.
    pub credential_names: Box<[Box<str>]>,
}

/// One route that steers connections.
pub struct StreamRoute {
    /// The entity's id.
    pub id: Uuid,
    /// The entity's name.
    pub name: Option<Box<str>>,
    /// Name or id, for logs and metrics.
    pub label: Arc<str>,
    /// What it takes.
    pub protocols: Vec<StreamProtocol>,
    /// `snis`
    pub snis: Vec<SniPattern>,
    /// `sources`
    pub sources: Vec<Endpoint>,
    /// `destinations`
    pub destinations: Vec<Endpoint>,
    /// Where connections go; without one they are closed.
    pub service: Option<Arc<Service>>,
    /// The plugins that may run.
    pub plugins: Arc<Plan>,
}

impl StreamRoute {
    /// What it asks of a connection.
    pub fn criteria(&self) -> StreamCriteria<'_> {
        let Self { protocols, snis, sources, destinations, .. } = self;
        StreamCriteria { protocols, snis, sources, destinations }
    }
}

/// One entry of `sources` and `destinations`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Endpoint {
    /// `ip`; absent: any.
    pub network: Option<Cidr>,
    /// `port`; absent: any.
    pub port: Option<u16>,
}

impl Endpoint {
    /// Whether the address is meant.
    pub fn contains(&self, address: SocketAddr) -> bool {
        self.port.is_none_or(|port| port == address.port())
            && self.network.is_none_or(|network| network.contains(address.ip()))
    }
}

/// One upstream service.
pub struct Service {
    /// The entity's id.
    pub id: Uuid,
    /// The entity's name.
    pub name: Option<Box<str>>,
    /// Name or id, for logs and metrics.
    pub label: Arc<str>,
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it is.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// The value of `Host` sent to it: the upstream's own, or the host with the port where that is not the scheme's.
    pub host_header: Box<str>,
    /// What is put before request paths.
    pub path: Option<Box<str>>,
    /// How many more times a request is tried that could not be sent.
    pub retries: u32,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait between two writes.
    pub write_timeout: Duration,
    /// Longest wait between two reads.
    pub read_timeout: Duration,
    /// Present where `scheme` is https, grpcs or tls. One configuration is shared by all services with the same rules.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The PROXY header that its connections begin with.
    pub proxy_protocol: Option<Sends>,
    /// Equal for two services whose connections are interchangeable, also across reloads of one process.
    pub endpoint: u64,
    /// Where each try goes.
    pub balancer: Arc<Balancer>,
}

/// The protocol spoken to an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS.
    Https,
    /// gRPC in clear text: HTTP/2 by prior knowledge.
    Grpc,
    /// gRPC over TLS.
    Grpcs,
    /// `tcp`: the bytes of a connection.
    Tcp,
    /// `tls`: the same inside of TLS.
    Tls,
    /// `tls_passthrough`: the client's own TLS.
    TlsPassthrough,
}

impl Scheme {
    /// The scheme of a service's protocol; none where the edge does not speak it.
    pub(crate) fn of(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Http => Some(Self::Http),
            Protocol::Https => Some(Self::Https),
            Protocol::Grpc => Some(Self::Grpc),
            Protocol::Grpcs => Some(Self::Grpcs),
            Protocol::Tcp => Some(Self::Tcp),
            Protocol::Tls => Some(Self::Tls),
            Protocol::TlsPassthrough => Some(Self::TlsPassthrough),
            Protocol::Udp | Protocol::Ws | Protocol::Wss => None,
        }
    }

    /// Whether the edge puts TLS around it.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs | Self::Tls)
    }

    /// Whether it speaks gRPC, and so HTTP/2.
    pub fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }

    /// The port that need not be named (RFC 9110, 4.2), and that a URL without one means.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http | Self::Grpc | Self::Tcp => 80,
            Self::Https | Self::Grpcs | Self::Tls | Self::TlsPassthrough => 443,
        }
    }

    /// Whether connections are joined to it, in place of requests sent.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls | Self::TlsPassthrough)
    }
}

/// An upstream's host.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Host {
    /// An address literal.
    Ip(IpAddr),
    /// A name to resolve, in lower case.
    Name(Box<str>),
}

/// As it stands in a URL: IPv6 in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Ip(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Someone a token stands for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Consumer {
    /// The entity's id.
    pub id: Uuid,
    /// Its unique name.
    pub username: Option<Box<str>>,
    /// Its unique name in another system.
    pub custom_id: Option<Box<str>>,
    /// The consumer groups it is in, by name.
    pub groups: Box<[Arc<ConsumerGroup>]>,
    /// Its groups for the `acl` plugin, in the file's order.
    pub acl_groups: Box<[Box<str>]>,
}

/// A group of consumers that plugins may be for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerGroup {
    /// The entity's id.
    pub id: Uuid,
    /// Its unique name.
    pub name: Box<str>,
}

/// The consumers by each of their keys.
#[derive(Default)]
pub struct Consumers {
    by_id: HashMap<Uuid, Arc<Consumer>>,
    by_username: HashMap<Box<str>, Arc<Consumer>>,
    by_custom_id: HashMap<Box<str>, Arc<Consumer>>,
    /// By user name in lower-case ASCII; nothing where two differ in case alone.
    by_folded_username: HashMap<Box<str>, Option<Arc<Consumer>>>,
    groups: HashMap<Box<str>, Arc<ConsumerGroup>>,
}

impl Consumers {
    /// Indexes consumers whose keys are unique already.
    pub fn new(consumers: impl IntoIterator<Item = Consumer>) -> Self {
        let mut index = Self::default();
        for consumer in consumers.into_iter().map(Arc::new) {
            if let Some(username) = &consumer.username {
                index.by_username.insert(username.clone(), Arc::clone(&consumer));
                let folded = index.by_folded_username.entry(username.to_ascii_lowercase().into());
                folded.and_modify(|other| *other = None).or_insert_with(|| Some(Arc::clone(&consumer)));
            }
            if let Some(custom_id) = &consumer.custom_id {
                index.by_custom_id.insert(custom_id.clone(), Arc::clone(&consumer));
            }
            index.by_id.insert(consumer.id, consumer);
        }
        index
    }

    /// The same with all consumer groups, those without members too.
    pub fn with_groups(mut self, groups: impl IntoIterator<Item = Arc<ConsumerGroup>>) -> Self {
        self.groups = groups.into_iter().map(|group| (group.name.clone(), group)).collect();
        self
    }

    /// The consumer of this id, in a UUID's usual spelling.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Consumer>> {
        self.by_id.get(&Uuid::try_parse(id).ok()?)
    }

    /// The consumer of this user name.
    pub fn by_username(&self, username: &str) -> Option<&Arc<Consumer>> {
        self.by_username.get(username)
    }

    /// The same where the case of ASCII letters does not count: the consumer of exactly this name, or else the only one
    /// of such a name. Other letters count as they are: some of them become another's name in lower case.
    pub fn by_username_in_any_case(&self, username: &str) -> Option<&Arc<Consumer>> {
        let folded = || self.by_folded_username.get(&*username.to_ascii_lowercase())?.as_ref();
        self.by_username(username).or_else(folded)
    }

    /// The consumer group of this name.
    pub fn group_by_name(&self, name: &str) -> Option<&Arc<ConsumerGroup>> {
        self.groups.get(name)
    }

    /// The consumer of this custom id.
    pub fn by_custom_id(&self, custom_id: &str) -> Option<&Arc<Consumer>> {
        self.by_custom_id.get(custom_id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_are_found_by_each_key_and_no_other() {
        let id = Uuid::from_u128(7);
        let text = id.to_string();
        let consumers = Consumers::new([Consumer {
            id,
            username: Some("ann".into()),
            custom_id: Some("c-1".into()),
            ..Consumer::default()
        }]);
        let found = |consumer: Option<&Arc<Consumer>>| consumer.map(|consumer| consumer.id) == Some(id);
        assert!(
            found(consumers.by_id(&text))
                && found(consumers.by_username("ann"))
                && found(consumers.by_custom_id("c-1"))
        );
        assert!(
            !found(consumers.by_id("ann"))
                && !found(consumers.by_username("c-1"))
                && !found(consumers.by_custom_id("Ann"))
        );
        assert_eq!((consumers.len(), consumers.is_empty()), (1, false));
    }

    #[test]
    fn user_names_may_be_found_in_any_case_where_they_are_unique() {
        let consumer = |id, username: &str| Consumer {
            id: Uuid::from_u128(id),
            username: Some(username.into()),
            ..Consumer::default()
        };
        let consumers =
            Consumers::new([consumer(1, "Ann"), consumer(2, "bob"), consumer(3, "BOB"), consumer(4, "kim")]);
        for (username, expected) in [
            ("Ann", Some(1)),
            ("ann", Some(1)),
            ("ANN", Some(1)),
            ("bob", Some(2)),
            ("BOB", Some(3)),
            ("Bob", None),
            ("KIM", Some(4)),
            // The Kelvin sign, which is a `k` in lower case.
            ("\u{212a}im", None),
            ("carl", None),
        ] {
            let found = consumers.by_username_in_any_case(username).map(|consumer| consumer.id.as_u128());
            assert_eq!(found, expected, "{username}");
        }
    }

    #[test]
    fn hosts_print_as_in_urls() {
        for (host, text) in [
            (Host::Ip("::1".parse().unwrap()), "[::1]"),
            (Host::Ip("10.0.0.1".parse().unwrap()), "10.0.0.1"),
            (Host::Name("a.example".into()), "a.example"),
        ] {
            assert_eq!(host.to_string(), text);
        }
    }
}
