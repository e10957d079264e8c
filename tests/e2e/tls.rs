//! TLS of listeners and towards upstreams (security properties, 12).

use edge_tests::certs::{self, Pair};
use edge_tests::edge::Setup;
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, Reader, get};
use rustls::version::{TLS12, TLS13};
use serde_json::json;

use super::open;

fn over(edge: &edge_tests::edge::Edge, name: &str) -> anyhow::Result<Client> {
    Client::tls(edge.address(), name, certs::client(&["http/1.1"]))
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    // S1
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).tls().start();
    for version in [&TLS12, &TLS13] {
        let mut client = Client::tls(edge.address(), "edge.test", certs::client_with(&[], &[version])).unwrap();
        assert_eq!(client.ask(get("/", &[])).status(), 200, "{version:?}");
        assert_eq!(upstream.last().field("x-forwarded-proto"), Some("https"));
    }
    // A ClientHello of TLS 1.1: a handshake record, version 3.2, one suite of CBC, no extensions.
    let mut hello = vec![1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0x00, 0x2f, 1, 0]);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8];
    record.extend(&hello);
    let mut client = Client::connect(edge.address());
    client.send(&record);
    let said = client.rest();
    assert!(said.is_empty() || said[0] == 21, "not an alert: {said:02x?}");
    // Clear text on a TLS listener is no request.
    let mut client = Client::connect(edge.address());
    client.send(get("/", &[]));
    assert!(!String::from_utf8_lossy(&client.rest()).contains("200 OK"));
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn the_certificate_follows_the_name() {
    let upstream = Upstream::start();
    let (shop, wild) = (certs::pair(&["shop.test"]), certs::pair(&["*.wild.test"]));
    let entry = |pair: &Pair, name: &str| json!({"cert": pair.certificate, "key": pair.key, "snis": [{"name": name}]});
    let text = json!({"_format_version": "3.0",
        "services": [{"name": "up", "url": upstream.url(), "routes": [{"name": "all", "paths": ["/"]}]}],
        "certificates": [entry(&shop, "shop.test"), entry(&wild, "*.wild.test")],
    });
    let edge = Setup::new(text.to_string()).tls().start();
    // The client checks the name: a handshake that succeeds had the right certificate.
    for name in ["shop.test", "a.wild.test", "edge.test", "localhost"] {
        let mut client = over(&edge, name).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert_eq!(client.ask(get("/", &[])).status(), 200, "{name}");
    }
    assert!(over(&edge, "unknown.test").is_err(), "the default certificate is not for this name");

    // S6: a new pair takes effect without a dropped connection.
    let mut kept = over(&edge, "shop.test").unwrap();
    assert_eq!(kept.ask(get("/", &[])).status(), 200);
    let renewed = certs::pair(&["shop.test", "new.test"]);
    let text = json!({"_format_version": "3.0",
        "services": [{"name": "up", "url": upstream.url(), "routes": [{"name": "all", "paths": ["/"]}]}],
        "certificates": [{"cert": renewed.certificate, "key": renewed.key, "snis": [{"name": "shop.test"}, {"name": "new.test"}]}],
    });
    edge.reload(&text.to_string(), "reload");
    let end = std::time::Instant::now() + edge_tests::edge::READY;
    while over(&edge, "new.test").is_err() {
        assert!(std::time::Instant::now() < end, "the new pair is not in force");
    }
    assert_eq!(kept.ask(get("/", &[])).status(), 200);
    let broken = json!({"_format_version": "3.0", "certificates": [{"cert": renewed.certificate, "key": wild.key}]});
    edge.reload(&broken.to_string(), "certificate");
    assert!(over(&edge, "new.test").is_ok(), "a bad pair leaves the old one in force");
}

/// An upstream over TLS with this pair.
fn secure(pair: &Pair) -> Upstream {
    let config = certs::server_config(pair);
    Upstream::raw(move |socket, seen| {
        let session = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut reader = Reader::new(rustls::StreamOwned::new(session, socket));
        while let Ok(Some(request)) = reader.request() {
            seen.keep(request);
            let _ = std::io::Write::write_all(reader.stream(), b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure");
        }
    })
}

#[test]
fn upstreams_over_tls_are_verified() {
    // S2
    let (good, foreign) = (secure(&certs::pair(&["localhost"])), secure(&certs::pair(&["elsewhere.test"])));
    let stranger = secure(&certs::self_signed("localhost"));
    let service = |name: &str, upstream: &Upstream, more: serde_json::Value| {
        let url = format!("https://localhost:{}", upstream.address().port());
        let routes = json!([{"name": name, "paths": [format!("/{name}")]}]);
        super::plus(json!({"name": name, "url": url, "retries": 0, "routes": routes}), more)
    };
    let text = json!({"_format_version": "3.0", "services": [
        service("good", &good, json!({})),
        service("name", &foreign, json!({})),
        service("chain", &stranger, json!({})),
        service("off", &stranger, json!({"tls_verify": false})),
    ]});
    // The system's roots are those of this file (OpenSSL's variable).
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, certs::root()).unwrap();
    let edge = Setup::new(text.to_string()).env("SSL_CERT_FILE", roots.to_str().unwrap()).start();
    for (path, status, reason) in
        [("/good", 200, ""), ("/name", 502, "upstream_tls"), ("/chain", 502, "upstream_tls"), ("/off", 200, "")]
    {
        let answer = edge.ask(get(path, &[]));
        assert_eq!(answer.status(), status, "{path}: {}", answer.text());
        if status != 200 {
            assert_eq!(edge.reason_of(&answer), reason, "{path}");
        }
    }
    edge.logged("tls_verify");
    assert!(foreign.requests().is_empty());
}

#[test]
fn a_tls_listener_serves_only_https_routes_as_such() {
    let upstream = Upstream::with(|_| Reply::ok("ok"));
    let routes = json!([{"name": "secure", "paths": ["/"], "protocols": ["https"]}]);
    let edge = Setup::new(super::entities(&upstream.url(), routes)).clear().tls().start();
    assert_eq!(edge.ask(get("/", &[])).status(), 426);
    let mut client = Client::tls(edge.listener(1), "edge.test", certs::client(&[])).unwrap();
    assert_eq!(client.ask(get("/", &[])).status(), 200);
}
