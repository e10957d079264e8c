//! The whole way of a request head, as far as it needs no socket: parse, resolve, route, clean, write.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use edge_user::config::Env;
use edge_user::config::{self, snapshot::Snapshot};
use edge_user::http::h1::parse::{self, Framing};
use edge_user::http::head::{Head, Known, Owner, Version};
use edge_user::proxy::connection::{Connection, ListenerInfo};
use edge_user::proxy::forwarded::{By, Forwarded};
use edge_user::proxy::headers::{self, Way};
use edge_user::proxy::owned::OwnedNames;
use edge_user::proxy::real_ip::RealIp;
use edge_user::proxy::target;
use edge_user::proxy_protocol::Versions;
use edge_user::router;
use edge_user::settings::Settings;

use super::{h1, target as reference};

const PORT: u16 = 8000;
const ROUTES: &str = r#"
_format_version: "3.0"
services:
- url: http://up.example:8080/base
  routes:
  - paths: [/a, /a/b]
  - paths: [/keep]
    strip_path: false
    preserve_host: true
- url: http://root.example
  routes:
  - paths: [/]
    preserve_host: true
  - paths: [/bare]
    methods: [GET, POST]
"#;

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let settings = Settings::load_text("[[listeners]]\naddress = \"127.0.0.1:0\"\n", Path::new("edge.toml"));
    let settings = settings.expect("good settings");
    config::load_text(ROUTES, "kong.yaml", &settings, &Env::default(), 1).expect("good entities")
});
static OWNED: LazyLock<OwnedNames> = LazyLock::new(|| OwnedNames::new(["x-sub", "Claims"]));

/// A request as a client sends it.
pub fn http1(data: &[u8]) {
    let mut head = Head::default();
    let end = match parse::Scanner::default().find_end(data) {
        Ok(Some(end)) => end,
        _ => return,
    };
    if let Ok(meta) = parse::request(&data[..end], &mut head, 64) {
        check(&mut head, meta.framing);
    }
}

/// Sends a head that was accepted on its way, from a peer that is trusted and from one that is not, and checks what
/// would reach the upstream. Gives the host the edge saw.
pub fn check(head: &mut Head, framing: Framing) -> Option<Vec<u8>> {
    let trusted = forward(&mut head.clone(), framing, true);
    let untrusted = forward(head, framing, false);
    assert_eq!(trusted, untrusted, "trust decides nothing about the host");
    untrusted
}

fn forward(head: &mut Head, framing: Framing, trusted: bool) -> Option<Vec<u8>> {
    let named: Vec<Vec<u8>> =
        head.all(Known::Connection).flat_map(parse::list).map(<[u8]>::to_ascii_lowercase).collect();
    let mut logged = Vec::new();
    let target = target::resolve(head, &mut logged, PORT).ok()?;
    assert!(!matches!(head.method(), b"CONNECT" | b"TRACE"));
    let host = head.get(Known::Host).unwrap_or_default().to_vec();
    assert_eq!(host, logged, "log and upstream see one host");
    assert!(host.starts_with(target.host()), "routing and upstream see one host");
    reference::check_normal(target.path());
    let (host_name, port, path) = (target.host(), target.port, target.path());
    let request = router::Request { head, host: host_name, port, path, tls: false, sni: None };
    let found = SNAPSHOT.router.select(&request).expect("`/` is a route");
    let route = &SNAPSHOT.routes[found.route];
    let service = route.service.as_ref().expect("every route has a service");
    let (peer, rules) = (([192, 0, 2, 1], 1024).into(), RealIp { recursive: true, ..RealIp::default() });
    let client = rules.client(head, peer, |address| trusted && address == peer.ip());
    assert!(client == peer || trusted && head.has(Known::XRealIp));
    headers::clean_request(head, &OWNED, &[], trusted);
    let sent: Vec<Vec<u8>> = head.fields().map(|field| field.name.to_ascii_lowercase()).collect();
    for name in &sent {
        check_name(name, trusted);
        assert!(!named.contains(name) || Known::of(name) != Known::Other, "`Connection` names it");
    }
    let local = [127, 0, 0, 1].into();
    let listener = Arc::new(ListenerInfo {
        index: 0,
        label: "l".into(),
        address: local,
        port: PORT,
        tls: false,
        proxy_protocol: Versions::Off,
        has_vips: false,
        rejects: None,
    });
    let connection = Connection::new(peer, (local, PORT).into(), trusted, listener, None);
    let original = target.original_path(head);
    let matched = if route.strip_path { found.matched } else { 0 };
    let way = Way {
        client: connection.ip(),
        host: target.host(),
        authority: &host,
        path: &original,
        prefix: &target.path()[..matched],
        request_id: b"0123456789abcdef0123456789abcdef",
        marks: &headers::USUAL_MARKS,
        forwarded: &Forwarded::Sent(By::Nobody),
    };
    headers::add_forwarding(head, &connection, &way);
    headers::set_host(head, route.preserve_host, &service.host_header);
    let mut up = Vec::new();
    router::upstream_path(service.path.as_deref(), route.strip_path, found.matched, target.path(), &mut up);
    reference::check_normal(&up);
    assert!(up.starts_with(service.path.as_deref().unwrap_or("/").as_bytes()), "the upstream path leaves its base");
    if let Some(query) = target.query() {
        up.push(b'?');
        up.extend_from_slice(query);
    }
    let seen = h1::check_written(head, &up, framing);
    let expected = if route.preserve_host && !host.is_empty() { &host } else { service.host_header.as_bytes() };
    assert_eq!(seen.all("host"), [expected]);
    for name in ["x-real-ip", "x-kong-request-id", "forwarded"] {
        assert_eq!(seen.all(name).len(), 1, "{name}");
    }
    assert!(seen.all("forwarded").concat().windows(14).any(|said| said == b"for=192.0.2.1;"));
    if !trusted {
        assert!(seen.all("forwarded").concat().starts_with(b"for=192.0.2.1;"));
        assert_eq!(seen.all("x-forwarded-for"), [b"192.0.2.1"]);
        for name in ["x-forwarded-proto", "x-forwarded-port", "x-forwarded-host", "x-forwarded-path"] {
            assert!(seen.all(name).len() <= 1, "{name}");
        }
    }
    assert!(head.fields().filter(|field| field.owner == Owner::Edge).count() >= 3);
    assert!(head.version() != Version::Http10 || !seen.all("host").is_empty());
    Some(host)
}

/// What must not be left of a client's fields (P1, P2, P3, S4), in any spelling a server could fold into it.
fn check_name(name: &[u8], trusted: bool) {
    const HOP: [&str; 9] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
        "expect",
        "x-kong-request-id",
    ];
    const FORWARDING: [&str; 8] = [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-path",
        "x-forwarded-prefix",
        "x-real-ip",
        "forwarded",
    ];
    const OWNED: [&str; 10] = [
        "x-anonymous-consumer",
        "x-userinfo",
        "x-client-id",
        "x-client-cert",
        "x-forwarded-client-cert",
        "client-cert",
        "client-cert-chain",
        "ssl-client-cert",
        "x-sub",
        "claims",
    ];
    let text = String::from_utf8_lossy(name).into_owned();
    let folded = text.replace(['_', '.'], "-");
    assert!(!HOP.contains(&&*text), "{text} is of the hop");
    assert!(!OWNED.contains(&&*folded), "{text} is the edge's");
    for family in ["x-consumer-", "x-credential-", "x-authenticated-"] {
        assert!(!folded.starts_with(family), "{text} is the edge's");
    }
    assert!(!FORWARDING.contains(&&*folded) || (trusted && text == folded), "{text} is said by a stranger");
}
