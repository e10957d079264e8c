//! The protocols of services, routes and plugins.

/// What a route answers to, a service speaks and a plugin is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "Kong's names")]
pub enum Protocol {
    Http,
    Https,
    Grpc,
    Grpcs,
    Tcp,
    Tls,
    TlsPassthrough,
    Udp,
    Ws,
    Wss,
}

impl Protocol {
    /// Each with its name.
    pub(crate) const ALL: [(&'static str, Self); 10] = [
        ("http", Self::Http),
        ("https", Self::Https),
        ("grpc", Self::Grpc),
        ("grpcs", Self::Grpcs),
        ("tcp", Self::Tcp),
        ("tls", Self::Tls),
        ("tls_passthrough", Self::TlsPassthrough),
        ("udp", Self::Udp),
        ("ws", Self::Ws),
        ("wss", Self::Wss),
    ];

    /// Those a route may have together with this one.
    pub(crate) fn group(self) -> Protocols {
        let group: &[Self] = match self {
            Self::Http | Self::Https => &[Self::Http, Self::Https],
            Self::Grpc | Self::Grpcs => &[Self::Grpc, Self::Grpcs],
            Self::Tcp | Self::Tls | Self::Udp => &[Self::Tcp, Self::Tls, Self::Udp],
            Self::TlsPassthrough => &[Self::TlsPassthrough],
            Self::Ws | Self::Wss => &[Self::Ws, Self::Wss],
        };
        group.iter().copied().collect()
    }

    /// What a route or service should have in place of one that the edge does not speak.
    pub(crate) fn instead(self) -> Option<&'static str> {
        match self {
            Self::Ws => Some("http: WebSocket connections pass on it"),
            Self::Wss => Some("https: WebSocket connections pass on it"),
            Self::Udp => Some("a protocol over TCP: the edge forwards no datagrams"),
            _ => None,
        }
    }
}

/// A set of protocols.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Protocols(u16);

impl Protocols {
    /// http, https, grpc and grpcs: what most plugins are for where nothing is said.
    pub const ALL_HTTP: Self = Self(0b1111);

    /// These and one more.
    pub fn with(self, protocol: Protocol) -> Self {
        Self(self.0 | 1 << protocol as u16)
    }

    /// Whether the protocol is in the set.
    pub fn contains(self, protocol: Protocol) -> bool {
        self.0 & (1 << protocol as u16) != 0
    }

    /// Whether something that is for these is for this one: any protocol of requests means all requests, any of
    /// connections all connections, as in Kong.
    pub fn serve(self, protocol: Protocol) -> bool {
        let requests = |set: Self| set.0 & Self::ALL_HTTP.0 != 0;
        match requests(Self::default().with(protocol)) {
            true => requests(self),
            false => self.0 & !Self::ALL_HTTP.0 != 0,
        }
    }

    /// Whether all of these are in the other set.
    pub(crate) fn are_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// The names of these, in Kong's order.
    pub(crate) fn names(self) -> impl DoubleEndedIterator<Item = &'static str> {
        Protocol::ALL.into_iter().filter(move |(_, protocol)| self.contains(*protocol)).map(|(name, _)| name)
    }
}

impl FromIterator<Protocol> for Protocols {
    fn from_iter<I: IntoIterator<Item = Protocol>>(protocols: I) -> Self {
        Self(protocols.into_iter().fold(0, |set, protocol| set | 1 << protocol as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let set: Protocols = [Protocol::Http, Protocol::Tls].into_iter().collect();
        for (_, protocol) in Protocol::ALL {
            let inside = matches!(protocol, Protocol::Http | Protocol::Tls);
            assert_eq!(set.contains(protocol), inside, "{protocol:?}");
            assert!(protocol.group().contains(protocol));
        }
        assert!(Protocol::Http.group().are_within(Protocols::ALL_HTTP) && !set.are_within(Protocols::ALL_HTTP));
        assert_eq!(set.names().collect::<Vec<_>>(), ["http", "tls"]);
        let more = Protocols::ALL_HTTP.with(Protocol::Tcp);
        assert!(more.contains(Protocol::Tcp) && more.contains(Protocol::Grpcs) && !more.contains(Protocol::Tls));
    }
}
