//! The PROXY protocol at listeners: whose connection it is, and who may say so.

use std::process::Command;
use std::time::Duration;

use edge_tests::certs;
use edge_tests::edge::{Edge, Setup};
use edge_tests::mint::flip;
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, get};
use serde_json::json;

use super::{Guarded, open, with_token};

const LINE: &str = "PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\n";
const TRUSTED: &str = "[proxy]\ntrusted_ips = [\"127.0.0.0/8\"]\nreal_ip_header = \"X-Forwarded-For\"\n";

fn listener(versions: &str, more: &str) -> String {
    format!("address = \"127.0.0.1:0\"\nproxy_protocol = \"{versions}\"\n{more}")
}

/// A version 2 header for 203.0.113.7:50000 to 192.0.2.1:443, with these vectors.
fn v2(command: u8, vectors: &[u8]) -> Vec<u8> {
    let length = (12 + vectors.len() as u16).to_be_bytes();
    let addresses = [203, 0, 113, 7, 192, 0, 2, 1, 0xc3, 0x50, 0x01, 0xbb];
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, 0x11], &length, &addresses, vectors].concat()
}

fn edge(upstream: &Upstream, versions: &str) -> Edge {
    Setup::new(open(&upstream.url())).listener(&listener(versions, "")).section(TRUSTED).start()
}

/// The client sees its connection end, and the log says why.
fn refused(edge: &Edge, bytes: &[u8], reason: &str) {
    let mut client = edge.connect();
    let port = client.socket().local_addr().unwrap().port();
    // What is refused early may break the sending.
    let _ = client.try_send(bytes);
    assert!(client.rest().is_empty(), "{:?} is answered", String::from_utf8_lossy(bytes));
    let line = edge.access(|line| line["client_port"] == port);
    assert_eq!((&line["reason"], &line["method"]), (&json!(reason), &json!("")), "{line}");
}

#[test]
fn the_header_says_whose_connection_it_is() {
    let upstream = Upstream::start();
    let edge = edge(&upstream, "any");
    for header in [LINE.as_bytes().to_vec(), v2(0x21, b""), v2(0x21, b"\xe0\0\x03own")] {
        let mark = edge.accesses().mark();
        let mut client = edge.connect();
        let port = client.socket().local_addr().unwrap().port();
        // With the request behind it, and a second one later.
        client.send([&header[..], &get("/one", &[])].concat());
        assert_eq!(client.response().status(), 200);
        assert_eq!(client.ask(get("/two", &[])).status(), 200);
        let seen = upstream.last();
        let fields =
            ["x-real-ip", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto"].map(|name| seen.field(name));
        assert_eq!(fields, [Some("203.0.113.7"), Some("203.0.113.7"), Some("443"), Some("http")]);
        let line = edge.access_after(mark, |line| line["path"] == "/two");
        assert_eq!((&line["client"], &line["client_port"]), (&json!("203.0.113.7"), &json!(50000)), "{line}");
        assert_eq!((&line["local"], &line["via"]), (&json!("192.0.2.1:443"), &json!(format!("127.0.0.1:{port}"))));
    }
    // Byte by byte.
    let mut client = edge.connect();
    for byte in [&v2(0x21, b"\x04\0\x01n")[..], &get("/slow", &[])].concat() {
        client.send([byte]);
    }
    assert_eq!(client.response().status(), 200);
    assert_eq!(upstream.last().field("x-real-ip"), Some("203.0.113.7"));
    // Who speaks for itself is itself.
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, b"")] {
        let mut client = edge.connect();
        client.send(header);
        assert_eq!(client.ask(get("/", &[])).status(), 200);
        assert_eq!(upstream.last().field("x-real-ip"), Some("127.0.0.1"));
    }
}

#[test]
fn curl_speaks_it() {
    let upstream = Upstream::start();
    let edge = edge(&upstream, "v1");
    let url = format!("http://{}/curl", edge.address());
    let ran = Command::new("curl").args(["--silent", "--fail", "--haproxy-protocol", &url]).status().unwrap();
    assert!(ran.success());
    let seen = upstream.last();
    assert_eq!((seen.target(), seen.field("x-forwarded-for")), ("/curl", Some("127.0.0.1")));
}

/// P3: whom a client names in a field counts for nothing, as ever; trusted addresses in front of the sender may name others.
#[test]
fn fields_of_the_named_client_are_no_better_than_others() {
    let upstream = Upstream::start();
    let edge = edge(&upstream, "v1");
    let ask = |line: &str| {
        let mut client = edge.connect();
        client.send(line);
        client.ask(get("/", &["X-Forwarded-For: 198.51.100.9", "X-Forwarded-Proto: https"]));
        let seen = upstream.last();
        ["x-real-ip", "x-forwarded-for", "x-forwarded-proto"].map(|name| seen.field(name).unwrap().to_owned())
    };
    assert_eq!(ask(LINE), ["203.0.113.7", "203.0.113.7", "http"]);
    let trusted = "PROXY TCP4 127.0.0.9 192.0.2.1 50000 443\r\n";
    assert_eq!(ask(trusted), ["198.51.100.9", "198.51.100.9, 127.0.0.9", "https"]);
}

#[test]
fn whatever_else_is_refused_with_its_reason() {
    let upstream = Upstream::start();
    let edge = edge(&upstream, "v2");
    for (bytes, reason) in [
        (get("/", &[]), "proxy_protocol_missing"),
        (LINE.as_bytes().to_vec(), "proxy_protocol_missing"),
        (v2(0x22, b""), "proxy_protocol_malformed"),
        (v2(0x21, b"\x03\0\x04\0\0\0\0"), "proxy_protocol_malformed"),
        (v2(0x21, b"\x04\0\x09n"), "proxy_protocol_malformed"),
    ] {
        refused(&edge, &bytes, reason);
    }
    // A part of one, and then the end.
    let mut client = edge.connect();
    let port = client.socket().local_addr().unwrap().port();
    client.send(&v2(0x21, b"")[..20]);
    client.finish();
    assert!(client.rest().is_empty());
    assert_eq!(edge.access(|line| line["client_port"] == port)["reason"], "client_gone");
    assert!(upstream.requests().is_empty());
    assert_eq!(edge.metric("edge_refusals_total{reason=\"proxy_protocol_missing\"}"), 2.0);

    // D1: a header that does not come.
    let section = format!("{TRUSTED}[timeouts]\nhandshake = 200\n");
    let edge = Setup::new(open(&upstream.url())).listener(&listener("any", "")).section(&section).start();
    refused(&edge, b"PROXY TCP4 ", "proxy_protocol_timeout");

    // Nobody but trusted peers may say whose a connection is.
    let section = "[proxy]\ntrusted_ips = [\"192.0.2.0/24\"]\n";
    let edge = Setup::new(open(&upstream.url())).listener(&listener("any", "")).section(section).start();
    refused(&edge, &[LINE.as_bytes(), &get("/", &[])].concat(), "proxy_protocol_untrusted");
    assert!(upstream.requests().is_empty());
}

#[test]
fn it_comes_before_tls_and_before_streams() {
    let upstream = Upstream::start();
    let text = json!({"_format_version": "3.0", "services": [
        {"name": "up", "url": upstream.url(), "routes": [{"name": "all", "paths": ["/"]}]},
        {"name": "tcp", "protocol": "tcp", "host": "127.0.0.1", "port": upstream.address().port(), "routes": [
            {"name": "near", "protocols": ["tcp"], "sources": [{"ip": "203.0.113.7"}], "destinations": [{"port": 443}]}]},
    ]});
    let edge = Setup::new(text.to_string())
        .tls_with("proxy_protocol = \"v1\"")
        .listener(&listener("v1", "mode = \"stream\""))
        .section(TRUSTED)
        .start();
    let mut client = Client::tls_after(edge.listener(0), LINE, "edge.test", certs::client(&["http/1.1"])).unwrap();
    assert_eq!(client.ask(get("/tls", &[])).status(), 200);
    let seen = upstream.last();
    assert_eq!((seen.field("x-real-ip"), seen.field("x-forwarded-proto")), (Some("203.0.113.7"), Some("https")));

    let mut client = Client::connect(edge.listener(1));
    client.send(LINE);
    assert_eq!(client.ask(get("/stream", &[])).status(), 200);
    drop(client);
    let line = edge.access(|line| line["route"] == "near");
    assert_eq!((&line["client"], &line["client_port"]), (&json!("203.0.113.7"), &json!(50000)), "{line}");
    // A source for which there is no route, by the header.
    let mut client = Client::connect(edge.listener(1));
    client.send(LINE.replace("203.0.113.7", "203.0.113.8"));
    assert!(client.closes());
    assert_eq!(edge.access(|line| line["client"] == "203.0.113.8")["reason"], "stream_route_not_found");
}

/// What the sender says of the client's TLS goes for a listener in clear text: routes for https alone, the scheme, the log.
#[test]
fn tls_that_ended_before_the_header_counts() {
    let upstream = Upstream::start();
    let text = json!({"_format_version": "3.0", "services": [{"name": "up", "url": upstream.url(),
        "routes": [{"name": "secure", "paths": ["/"], "protocols": ["https"], "snis": ["api.test"]}]}]});
    let edge = Setup::new(text.to_string()).listener(&listener("v2", "")).section(TRUSTED).start();
    let ask = |vectors: &[u8]| {
        let mut client = edge.connect();
        client.send(v2(0x21, vectors));
        client.ask(get("/", &[]))
    };
    let tls = b"\x02\0\x08api.test\x20\0\x0f\x01\0\0\0\0\x21\0\x07TLSv1.3";
    assert_eq!(ask(tls).status(), 200);
    assert_eq!(upstream.last().field("x-forwarded-proto"), Some("https"));
    assert_eq!(edge.access(|line| line["status"] == 200)["tls"], "TLSv1.3");
    assert_eq!(ask(b"").status(), 426);
    assert_eq!(ask(b"\x02\0\x0aother.test\x20\0\x05\x01\0\0\0\0").status(), 404);
}

/// X2: bad tokens count against the real source, which is refused in userspace, its connection closed; not the balancer.
#[test]
fn sources_behind_it_are_judged_by_their_real_address() {
    let rules = "distinct_tokens = 5\nttl = 60\n";
    let section = format!("{TRUSTED}[kernel]\nmode = \"off\"\n[kernel.penalty]\nmode = \"enforce\"\n{rules}");
    let good = Guarded::with(json!({}), |setup| setup.listener(&listener("v1", "")).section(&section));
    let connect = |source: &str| {
        let mut client = good.edge.connect();
        client.send(LINE.replace("203.0.113.7", source));
        client
    };
    let mut offender = connect("203.0.113.7");
    for number in 0..5 {
        let claims = edge_tests::mint::with(good.claims(), json!({"n": number}));
        assert_eq!(offender.ask(with_token(&flip(&good.key.token(&claims)))).status(), 401);
    }
    good.edge.logged("the source gets a penalty");
    let mut again = connect("203.0.113.7");
    let answer = again.ask(with_token(&good.token()));
    assert_eq!((answer.status(), answer.says_close()), (429, true));
    assert!(again.closes());
    assert_eq!(connect("203.0.113.8").ask(with_token(&good.token())).status(), 200);
    assert_eq!(good.edge.metric("edge_penalties_total{mode=\"enforce\"}"), 1.0);
}

/// X1: a denied client is refused behind a balancer, too.
#[test]
fn denied_sources_stay_denied() {
    let upstream = Upstream::start();
    let section = format!("{TRUSTED}[kernel]\nmode = \"off\"\ndeny = [\"203.0.113.7\"]\n");
    let edge = Setup::new(open(&upstream.url())).listener(&listener("v1", "")).section(&section).start();
    let mut client = edge.connect();
    client.send([LINE.as_bytes(), &get("/", &[])].concat());
    client.patience(Duration::from_secs(5));
    assert!(client.rest().is_empty());
    let mut client = edge.connect();
    client.send(LINE.replace("203.0.113.7", "203.0.113.8"));
    assert_eq!(client.ask(get("/", &[])).status(), 200);
    assert_eq!(upstream.requests().len(), 1);
}
