//! What one route asks of a request, each kind parsed into its type.

use super::pattern::Pattern;

/// What one route asks of a request. An empty list asks nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Criteria {
    /// Methods, exactly.
    pub methods: Vec<Box<str>>,
    /// Hosts; one of them.
    pub hosts: Vec<HostPattern>,
    /// Path prefixes in normal form, and regular expressions; one of them.
    pub paths: Vec<PathPattern>,
    /// Header fields; all of them.
    pub headers: Vec<HeaderPattern>,
    /// Server names of the TLS handshake; one of them. Not asked of clear-text requests.
    pub snis: Vec<SniPattern>,
    /// `regex_priority`: the order among regular expressions.
    pub regex_priority: i64,
}

/// One entry of a route's `paths`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathPattern {
    /// A prefix in normal form.
    Prefix(Box<str>),
    /// `~/…`: anchored at the start alone.
    Regex(Pattern),
}

/// One entry of a route's `headers`: the field must be there, with one of the values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderPattern {
    /// The name in lower case.
    pub name: Box<str>,
    /// What it must say.
    pub value: ValuePattern,
}

/// What a field's value must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ValuePattern {
    /// One of these, in lower case; compared without regard to case.
    OneOf(Vec<Box<str>>),
    /// `~*…`
    Regex(Pattern),
}

/// One entry of a route's `snis`: `name`, `*.name` or `name.*`, in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SniPattern(pub(super) HostPattern);

impl SniPattern {
    /// Reads one; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        HostPattern::parse(text.strip_suffix('.').unwrap_or(text)).filter(|host| host.port.is_none()).map(Self)
    }

    /// Whether a server name, without its trailing dot, is meant.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.0.matches(name, 0)
    }
}

/// One entry of a route's `hosts`, in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPattern {
    pub(super) kind: HostKind,
    /// For a wildcard: the fixed part with its dot.
    pub(super) text: Box<[u8]>,
    pub(super) port: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum HostKind {
    Exact,
    /// `*.x`
    Suffix,
    /// `x.*`
    Prefix,
}

impl HostPattern {
    /// Reads `host`, `*.host`, `host.*`, each with or without `:port`; `None` where it is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = split_port(text)?;
        let host = host.to_ascii_lowercase();
        let (kind, fixed) = match (host.strip_prefix("*."), host.strip_suffix(".*")) {
            (Some(rest), None) => (HostKind::Suffix, rest),
            (None, Some(rest)) => (HostKind::Prefix, rest),
            (None, None) => (HostKind::Exact, host.as_str()),
            (Some(_), Some(_)) => return None,
        };
        if !is_host_name(fixed) {
            return None;
        }
        let text = match kind {
            HostKind::Exact => fixed.to_owned(),
            HostKind::Suffix => format!(".{fixed}"),
            HostKind::Prefix => format!("{fixed}."),
        };
        Some(Self { kind, text: text.into_bytes().into(), port })
    }

    /// The host, where it is no wildcard.
    pub fn exact(&self) -> Option<&str> {
        std::str::from_utf8(&self.text).ok().filter(|_| self.kind == HostKind::Exact)
    }

    pub(super) fn matches(&self, host: &[u8], port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port) && self.is_for(host)
    }

    /// Whether it is for this host, at one port or another.
    pub fn is_for(&self, host: &[u8]) -> bool {
        let length = self.text.len();
        let part = match self.kind {
            HostKind::Exact if host.len() != length => return false,
            HostKind::Suffix if host.len() > length => &host[host.len() - length..],
            HostKind::Exact | HostKind::Prefix if host.len() >= length => &host[..length],
            _ => return false,
        };
        part.eq_ignore_ascii_case(&self.text)
    }
}

/// The host, and the port if there is one.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let colon = match text.rfind(']') {
        Some(bracket) => text[bracket..].find(':').map(|at| at + bracket),
        None => text.find(':'),
    };
    let Some(colon) = colon else { return Some((text, None)) };
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if digits { Some((host, Some(port.parse().ok().filter(|port| *port > 0)?))) } else { None }
}

/// Whether this is a host name or an address, IPv6 in brackets.
pub(crate) fn is_host_name(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}
