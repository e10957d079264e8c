//! Fields of the hop and of the way: what is dropped, what the edge adds, towards the upstream and back
//! (RFC 9110, 7.6; Kong's forwarding fields).

use std::net::IpAddr;
use std::time::Instant;

use super::connection::Connection;
use super::context::Context;
use super::forwarded::{self, Forwarded};
use super::owned::{OwnedNames, imitates_known};
use crate::http::h1::parse::{is_authority, list};
use crate::http::h1::write::decimal;
use crate::http::head::{Head, Known, Owner, is_token_byte};

/// The name the edge bears in `Via` where it is given no other.
const PSEUDONYM: &str = "edge";
/// The longest name it may be given, in bytes: that of a host, and a port.
const LONGEST_PSEUDONYM: usize = 261;

/// What becomes of `X-Forwarded-For`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum ForwardedFor {
    /// The peer's address joins what a trusted peer sent, in one field.
    #[default]
    Append,
    /// The peer's address in a field of its own behind those (F5's way).
    Insert,
    /// The client's address alone, by the rules of `trusted_ips`.
    Replace,
    /// Nothing is added: what a trusted peer sent goes on.
    Off,
}

/// What becomes of `Via`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub enum Via {
    /// The edge adds itself, by this name where there is one.
    #[default]
    Append,
    /// The same by a name of the configuration.
    AppendAs(Pseudonym),
    /// Nothing is added.
    Preserve,
    /// No `Via` passes.
    Remove,
}

/// A name for the edge in `Via`: a host with or without a port, or another token (RFC 9110, 7.6.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pseudonym(Box<str>);

impl Pseudonym {
    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = !text.is_empty() && (is_authority(text.as_bytes()) || text.bytes().all(is_token_byte));
        (is_name && text.len() <= LONGEST_PSEUDONYM).then(|| Self(text.into()))
    }
}

/// How the way of a request is told to its upstream.
#[derive(Default, Debug)]
pub struct Marks {
    /// `X-Forwarded-For`
    pub forwarded_for: ForwardedFor,
    /// `Via`
    pub via: Via,
}

/// What is told where nobody wants it otherwise.
pub static USUAL_MARKS: Marks = Marks { forwarded_for: ForwardedFor::Append, via: Via::Append };

/// Drops what must not pass: fields of the hop, those `Connection` names, every owned name a client could have
/// sent, and forwarding fields of clients that are not trusted to say where a request came from (P1–P3, H15). Names in
/// which the route looks for `credentials` stay until it has: `clean_credentials` is for those.
pub fn clean_request(head: &mut Head, owned: &OwnedNames, credentials: &[Box<str>], trusted: bool) {
    let named = ConnectionOptions::of(head);
    let is_credential = |name: &[u8]| credentials.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    let is_told = |name: &[u8]| trusted && owned.is_real_ip(name);
    let is_owned = |name: &[u8]| owned.owns(name) && !is_credential(name) && !is_told(name);
    head.retain(|field| match field.known {
        Known::Connection
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::Te
        | Known::Upgrade
        | Known::Http2Settings
        | Known::ProxyAuthorization
        | Known::Expect => false,
        known if known.tells_origin() => trusted,
        Known::XKongRequestId => false,
        Known::Other => !(named.contains(field.name) || is_owned(field.name) || imitates_known(field.name)),
        // What the edge knows by name is never dropped at a client's wish: it frames, routes or authenticates.
        _ => true,
    });
}

/// Drops owned names of clients that stayed for their credentials; what the edge wrote itself stays (P1).
pub fn clean_credentials(head: &mut Head, owned: &OwnedNames) {
    let goes = |name: &[u8]| owned.owns(name) && !owned.is_real_ip(name);
    head.retain(|field| field.owner == Owner::Edge || field.known != Known::Other || !goes(field.name));
}

/// The fields in which a proxy in front may show its client's certificate, before `clean_request` drops them: they are
/// owned names. Whose word counts is for who asked for them.
pub fn certificates(head: &Head, names: &[Box<str>]) -> Vec<(Box<str>, Vec<u8>)> {
    if names.is_empty() {
        return Vec::new();
    }
    let wanted = |field: &[u8]| names.iter().find(|name| field.eq_ignore_ascii_case(name.as_bytes())).cloned();
    head.fields().filter_map(|field| Some((wanted(field.name)?, field.value.to_vec()))).collect()
}

/// Where the request came from and went to, for the forwarding fields.
pub struct Way<'a> {
    /// The client: the peer, or whom trusted proxies name.
    pub client: IpAddr,
    /// The host the client asked for, without its port.
    pub host: &'a [u8],
    /// The same with its port, as asked for.
    pub authority: &'a [u8],
    /// The path as it came, without the query.
    pub path: &'a [u8],
    /// What `strip_path` cut off.
    pub prefix: &'a [u8],
    /// The request's id.
    pub request_id: &'a [u8],
    /// How the way is told.
    pub marks: &'a Marks,
    /// What is said in `Forwarded`.
    pub forwarded: &'a Forwarded,
}

/// Adds the forwarding fields. Those a trusted peer sent stay; `X-Forwarded-For` is appended to.
pub fn add_forwarding(head: &mut Head, connection: &Connection, way: &Way<'_>) {
    let peer = connection.peer_text.as_bytes();
    match (way.marks.forwarded_for, head.all(Known::XForwardedFor).last()) {
        (ForwardedFor::Off, _) => {}
        (ForwardedFor::Replace, _) => {
            head.remove(Known::XForwardedFor);
            match way.client == connection.ip() {
                true => head.push_known(Known::XForwardedFor, peer),
                false => head.push_known(Known::XForwardedFor, way.client.to_string().as_bytes()),
            }
        }
        (ForwardedFor::Insert, _) | (ForwardedFor::Append, None) => head.push_known(Known::XForwardedFor, peer),
        (ForwardedFor::Append, Some(_)) => {
            let chain = head.all(Known::XForwardedFor).collect::<Vec<_>>().join(&b", "[..]);
            head.remove(Known::XForwardedFor);
            head.push_known(Known::XForwardedFor, &[&chain, &b", "[..], peer].concat());
        }
    }
    let mut port = Vec::new();
    decimal(&mut port, u64::from(connection.port));
    let scheme: &[u8] = if connection.tls { b"https" } else { b"http" };
    for (known, value) in [
        (Known::XForwardedProto, scheme),
        (Known::XForwardedHost, way.host),
        (Known::XForwardedPort, &port),
        (Known::XForwardedPath, way.path),
        (Known::XForwardedPrefix, way.prefix),
    ] {
        if !value.is_empty() && !head.has(known) {
            head.push_known(known, value);
        }
    }
    match way.client == connection.ip() {
        true => head.set_known(Known::XRealIp, peer),
        false => head.set_known(Known::XRealIp, way.client.to_string().as_bytes()),
    }
    forwarded::write(head, connection, way.authority, way.forwarded);
    add_via(head, &way.marks.via);
    head.push_known(Known::XKongRequestId, way.request_id);
}

/// Names the host the upstream sees: the client's where the route keeps it, else the service's. HTTP/1.1 asks for one
/// (RFC 9112, 3.2), so the service's stands in where an HTTP/1.0 client named none.
pub fn set_host(head: &mut Head, preserve: bool, service: &str) {
    if !preserve || head.get(Known::Host).is_none_or(<[u8]>::is_empty) {
        head.set_known(Known::Host, service.as_bytes());
    }
}

/// Adds Kong's latency fields, in milliseconds, and the request's id.
pub fn add_latencies(response: &mut Head, context: &Context<'_>, answered: Instant) {
    let mut number = Vec::with_capacity(8);
    let upstream = context.upstream.unwrap_or_default();
    let edge = answered.duration_since(context.started).saturating_sub(upstream);
    for (known, value) in [(Known::XKongUpstreamLatency, upstream), (Known::XKongProxyLatency, edge)] {
        number.clear();
        decimal(&mut number, value.as_millis() as u64);
        response.set_known(known, &number);
    }
    response.set_known(Known::XKongRequestId, context.request_id.as_bytes());
}

/// Drops the fields of the hop from an upstream's response.
pub fn clean_response(head: &mut Head, keep_upgrade: bool) {
    let named = ConnectionOptions::of(head);
    head.retain(|field| match field.known {
        Known::Connection | Known::Upgrade => keep_upgrade,
        Known::KeepAlive | Known::ProxyConnection | Known::ProxyAuthenticate | Known::Te => false,
        Known::XKongRequestId | Known::XKongUpstreamLatency | Known::XKongProxyLatency => false,
        Known::Other => !named.contains(field.name),
        _ => true,
    });
}

/// Tells the way a message went (RFC 9110, 7.6.3).
pub fn add_via(head: &mut Head, via: &Via) {
    let pseudonym = match via {
        Via::Append => PSEUDONYM,
        Via::AppendAs(Pseudonym(name)) => name,
        Via::Preserve => return,
        Via::Remove => return head.remove(Known::Via),
    };
    let version = head.version().number();
    let mut via = [0; LONGEST_PSEUDONYM + 4];
    let text = [version.as_bytes(), b" ", pseudonym.as_bytes()];
    let mut length = 0;
    for part in text {
        via[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    head.push_known(Known::Via, &via[..length]);
}

/// The field names that `Connection` lists, beyond its own options.
struct ConnectionOptions(Vec<Box<[u8]>>);

impl ConnectionOptions {
    fn of(head: &Head) -> Self {
        const OPTIONS: [&[u8]; 4] = [b"close", b"keep-alive", b"upgrade", b"te"];
        let names = head.all(Known::Connection).flat_map(list);
        let others = names.filter(|name| !OPTIONS.iter().any(|option| name.eq_ignore_ascii_case(option)));
        // An attacker's list is bounded by the head; a real one has a name or two.
        Self(others.map(Box::from).collect())
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.0.iter().any(|option| option.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Version;

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        head.start_request(b"GET", b"/", Version::Http11);
        for (name, value) in fields {
            head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn names(head: &Head) -> Vec<&str> {
        head.fields().map(|field| std::str::from_utf8(field.name).expect("ascii")).collect()
    }

    // P1, P2, P3, H15
    #[test]
    fn clients_neither_keep_hop_fields_nor_forge_the_way() {
        let owned = OwnedNames::new(["x-sub"]).with_real_ip(Some("True-Client-IP"));
        let sent = [
            ("Host", "a"),
            ("Connection", "close, X-Drop, Host, Authorization, X-Forwarded-For, content-length"),
            ("X-Drop", "1"),
            ("x-drop", "2"),
            ("Authorization", "Bearer x"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "x"),
            ("TE", "gzip"),
            ("Keep-Alive", "1"),
            ("Proxy-Connection", "x"),
            ("Proxy-Authorization", "x"),
            ("X_Sub", "root"),
            ("X-Consumer-ID", "root"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("X_Real_IP", "1.2.3.4"),
            ("True-Client-IP", "1.2.3.4"),
            ("True_Client_IP", "1.2.3.4"),
            ("Forwarded", "for=1.2.3.4"),
            ("Content-Length", "0"),
            ("X-Keep", "1"),
        ];
        let mut untrusted = head(&sent);
        clean_request(&mut untrusted, &owned, &[], false);
        assert_eq!(names(&untrusted), ["Host", "Authorization", "Content-Length", "X-Keep"]);
        let mut trusted = head(&sent);
        clean_request(&mut trusted, &owned, &[], true);
        assert_eq!(
            names(&trusted),
            ["Host", "Authorization", "X-Forwarded-For", "True-Client-IP", "Forwarded", "Content-Length", "X-Keep"]
        );
    }

    // P1
    #[test]
    fn credentials_stay_by_their_own_name_until_they_are_read() {
        let owned = OwnedNames::new(["x-token"]);
        let mut head = head(&[("X-Token", "secret"), ("X_Token", "forged"), ("X.Token", "forged"), ("X-Keep", "1")]);
        clean_request(&mut head, &owned, &["x-token".into()], false);
        assert_eq!(names(&head), ["X-Token", "X-Keep"]);
        head.push(Owner::Edge, b"X-Token", b"ours");
        clean_credentials(&mut head, &owned);
        assert_eq!(names(&head), ["X-Keep", "X-Token"]);
    }

    // H10
    #[test]
    fn every_upstream_request_names_a_host() {
        for (sent, preserve, expected) in [
            (Some("client"), true, "client"),
            (Some("client"), false, "service"),
            (Some(""), true, "service"),
            (None, true, "service"),
            (None, false, "service"),
        ] {
            let mut head = head(&sent.map(|host| [("Host", host)]).unwrap_or([("X", "")]));
            set_host(&mut head, preserve, "service");
            assert_eq!(head.all(Known::Host).collect::<Vec<_>>(), [expected.as_bytes()], "{sent:?} {preserve}");
        }
    }
}
