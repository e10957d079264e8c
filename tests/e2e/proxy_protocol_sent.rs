//! PROXY headers towards upstreams (`[[proxy.upstreams]]`): what they say, and that no two clients share a connection with one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edge_tests::certs;
use edge_tests::edge::{Setup, free_address};
use edge_tests::parties::Nginx;
use edge_tests::parties::front::Front;
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, Reader, get};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{open, plus};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// `[proxy]` with a header of this version for services at 127.0.0.1.
fn sends(version: &str, more: &str) -> String {
    format!("[proxy]\n{more}\n[[proxy.upstreams]]\nhost = \"127.0.0.1\"\nproxy_protocol = \"{version}\"\n")
}

/// An upstream that takes a header off each connection, and the headers.
fn told() -> (Upstream, Arc<Mutex<Vec<Vec<u8>>>>) {
    let headers = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let kept = headers.clone();
    let upstream = Upstream::raw(move |mut socket, seen| {
        let Some(header) = header(&mut socket) else { return };
        kept.lock().unwrap().push(header);
        let mut reader = Reader::new(socket);
        while let Ok(Some(message)) = reader.request() {
            let upgrades = message.field("upgrade").is_some();
            seen.keep(message);
            let answer: &[u8] = match upgrades {
                true => b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                false => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            };
            if reader.stream().write_all(answer).is_err() || upgrades {
                return;
            }
        }
    });
    (upstream, headers)
}

/// Reads one header and no byte more.
fn header(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 12];
    socket.read_exact(&mut bytes).ok()?;
    if bytes == SIGNATURE {
        bytes.resize(16, 0);
        socket.read_exact(&mut bytes[12..]).ok()?;
        let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        bytes.resize(16 + length, 0);
        socket.read_exact(&mut bytes[16..]).ok()?;
        return Some(bytes);
    }
    while !bytes.ends_with(b"\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    Some(bytes)
}

/// A version 2 header's vectors; its checksum is right.
fn vectors(header: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut rest = &header[if header[13] == 0x11 { 28 } else { 52 }..];
    let mut found = Vec::new();
    while let [kind, high, low, after @ ..] = rest {
        let (value, after) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        found.push((*kind, value.to_vec()));
        rest = after;
    }
    let (kind, sum) = found.last().expect("a checksum");
    assert_eq!(*kind, 0x03);
    // Bit by bit, with zeros in its place.
    let zeroed = [&header[..header.len() - 4], &[0; 4]].concat();
    let computed = zeroed.iter().fold(u32::MAX, |mut sum, byte| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
        }
        sum
    });
    assert_eq!(*sum, (!computed).to_be_bytes());
    found
}

fn port(client: &Client) -> u16 {
    client.socket().local_addr().unwrap().port()
}

#[test]
fn each_client_is_stated_and_shares_with_nobody() {
    for version in ["v1", "v2"] {
        let (upstream, headers) = told();
        let edge = Setup::new(open(&upstream.url())).section(&sends(version, "")).workers(1).start();
        let (mut one, mut other) = (edge.connect(), edge.connect());
        for _ in 0..2 {
            for client in [&mut one, &mut other] {
                assert_eq!(client.ask(get("/", &[])).status(), 200);
            }
        }
        assert_eq!(upstream.per_connection(), [2, 2], "{version}");
        let to = edge.address().port();
        for (header, from) in headers.lock().unwrap().iter().zip([port(&one), port(&other)]) {
            if version == "v1" {
                let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n");
                assert_eq!(String::from_utf8_lossy(header), line);
                continue;
            }
            let ends = [&[127, 0, 0, 1, 127, 0, 0, 1][..], &from.to_be_bytes(), &to.to_be_bytes()].concat();
            assert_eq!((&header[12..14], &header[16..28]), (&b"\x21\x11"[..], &ends[..]));
            let vectors = vectors(header);
            let ids: Vec<_> =
                upstream.requests().iter().map(|seen| seen.field("x-kong-request-id").unwrap().to_owned()).collect();
            let kinds: Vec<u8> = vectors.iter().map(|(kind, _)| *kind).collect();
            assert_eq!(kinds, [0x05, 0x03]);
            assert!(ids.iter().any(|id| id.as_bytes() == vectors[0].1), "the id of the request it was opened for");
        }
        // Nobody else will use them.
        drop((one, other));
        upstream.wait_closed();
    }
}

/// Upstreams learn of it when the edge starts anew, for they have to expect it.
#[test]
fn a_reload_does_not_begin_with_it() {
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).section("[proxy]\n").workers(1).start();
    let path = edge.path("edge.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[proxy]\n", &sends("v1", ""))).unwrap();
    let mark = edge.errors().mark();
    edge.signal(Signal::SIGHUP);
    edge.logged_after(mark, "take effect at the next start");
    edge.logged_after(mark, "configuration loaded");
    assert_eq!(edge.ask(get("/", &[])).status(), 200);
    assert!(upstream.faults().is_empty());
}

/// Behind a trusted proxy one connection brings many clients.
#[test]
fn clients_that_a_trusted_proxy_names_are_told_apart() {
    let (upstream, headers) = told();
    let section = sends("v1", "trusted_ips = [\"127.0.0.1\"]\nreal_ip_header = \"X-Real-IP\"");
    let edge = Setup::new(open(&upstream.url())).section(&section).workers(1).start();
    let mut proxy = edge.connect();
    let named = ["203.0.113.7:50000", "203.0.113.7:50001", "203.0.113.7:50000", "2001:db8::1", "203.0.113.7"];
    for client in named {
        assert_eq!(proxy.ask(get("/", &[&format!("X-Real-IP: {client}")])).status(), 200);
    }
    // The same words over another connection are not taken for the same client.
    assert_eq!(edge.connect().ask(get("/", &["X-Real-IP: 203.0.113.7:50000"])).status(), 200);
    assert_eq!(upstream.per_connection(), [2, 1, 1, 1, 1]);
    let to = edge.address().port();
    let lines: Vec<String> = headers.lock().unwrap().iter().map(|line| String::from_utf8_lossy(line).into()).collect();
    assert_eq!(
        lines,
        [
            format!("PROXY TCP4 203.0.113.7 127.0.0.1 50000 {to}\r\n"),
            format!("PROXY TCP4 203.0.113.7 127.0.0.1 50001 {to}\r\n"),
            format!("PROXY TCP6 2001:db8::1 ::ffff:127.0.0.1 0 {to}\r\n"),
            format!("PROXY TCP4 203.0.113.7 127.0.0.1 0 {to}\r\n"),
            format!("PROXY TCP4 203.0.113.7 127.0.0.1 50000 {to}\r\n"),
        ]
    );
    // The access log says the same.
    for (client, port) in [("203.0.113.7", 50001), ("2001:db8::1", 0), ("203.0.113.7", 0)] {
        edge.access(|line| line["client"] == client && line["client_port"] == port);
    }
}

#[test]
fn the_clients_tls_is_told_and_only_as_its_own() {
    let (upstream, headers) = told();
    let section = sends("v2", "trusted_ips = [\"127.0.0.1\"]\nreal_ip_header = \"X-Real-IP\"");
    let edge = Setup::new(open(&upstream.url()))
        .file("clients.pem", certs::root())
        .tls_with("client_certificate = \"request\"\nclient_ca = \"clients.pem\"")
        .tls_with("client_certificate = \"request\"")
        .section(&section)
        .start();
    let last = || vectors(headers.lock().unwrap().last().unwrap());
    let ssl = |flags: u8, verify: u8, name: &str| {
        let mut value = [&[flags, 0, 0, 0, verify][..], b"\x21\0\x07TLSv1.3"].concat();
        if !name.is_empty() {
            value.extend([&[0x22, 0, name.len() as u8][..], name.as_bytes()].concat());
        }
        Some(value)
    };
    let of = |vectors: &[(u8, Vec<u8>)], kind: u8| {
        vectors.iter().find(|(own, _)| *own == kind).map(|(_, value)| value.clone())
    };
    let connect = |listener: usize, config: &Arc<rustls::ClientConfig>| {
        Client::tls(edge.listener(listener), "edge.test", config.clone()).unwrap()
    };

    let nobody = certs::client(&["http/1.1"]);
    assert_eq!(connect(0, &nobody).ask(get("/", &[])).status(), 200);
    assert_eq!((of(&last(), 0x20), of(&last(), 0x02)), (ssl(1, 1, ""), Some(b"edge.test".to_vec())));

    let bob = certs::client_showing(&certs::client_pair("bob"), &[&rustls::version::TLS13]);
    let mut first = connect(0, &bob);
    assert_eq!(first.ask(get("/", &[])).status(), 200);
    assert_eq!(of(&last(), 0x20), ssl(7, 0, "bob"));
    // A resumed session shows it no second time.
    assert_eq!(connect(0, &bob).ask(get("/", &[])).status(), 200);
    assert_eq!(of(&last(), 0x20), ssl(5, 0, "bob"));
    // Nobody vouched for it where the listener has no authorities.
    let bob = certs::client_showing(&certs::client_pair("bob"), &[&rustls::version::TLS13]);
    assert_eq!(connect(1, &bob).ask(get("/", &[])).status(), 200);
    assert_eq!(of(&last(), 0x20), ssl(7, 1, "bob"));
    // The proxy's session is not that of the client it names.
    assert_eq!(first.ask(get("/", &["X-Real-IP: 203.0.113.7"])).status(), 200);
    assert_eq!((of(&last(), 0x20), of(&last(), 0x02)), (None, None));
}

#[test]
fn nginx_and_haproxy_find_the_client() {
    let pair = certs::pair(&["127.0.0.1"]);
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("up.crt"), dir.path().join("up.key"));
    std::fs::write(&cert, &pair.certificate).unwrap();
    std::fs::write(&key, &pair.key).unwrap();
    let (clear, tls) = (free_address(), free_address());
    let _nginx = Nginx::start(&format!(
        "listen {clear} proxy_protocol; listen {tls} ssl proxy_protocol; ssl_certificate {}; ssl_certificate_key {};\n\
         location / {{ return 200 \"$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_port\"; }}",
        cert.display(),
        key.display()
    ));
    let haproxy = Front::haproxy_told();
    for version in ["v1", "v2"] {
        let service = |name: &str, url: String, more: Value| {
            let route = json!({"name": name, "paths": [format!("/{name}")]});
            plus(json!({"name": name, "url": url, "routes": [route]}), more)
        };
        let text = json!({"_format_version": "3.0", "services": [
            service("clear", format!("http://{clear}"), json!({})),
            service("tls", format!("https://{tls}"), json!({"tls_verify": false})),
            service("haproxy", format!("http://{}", haproxy.http), json!({})),
            service("h2", format!("grpc://{}", haproxy.http2), json!({})),
            {"name": "stream", "url": format!("tcp://{clear}"), "routes": [
                {"name": "stream", "protocols": ["tcp"], "sources": [{"ip": "127.0.0.1"}]}]},
            {"name": "stream-tls", "url": format!("tls://{tls}"), "tls_verify": false, "routes": [
                {"name": "stream-tls", "protocols": ["tls"], "snis": ["edge.test"]}]},
        ]});
        let edge = Setup::new(text.to_string())
            .clear()
            .tls()
            .listener("address = \"127.0.0.1:0\"\nmode = \"stream\"")
            .tls_with("mode = \"stream\"")
            .section(&sends(version, ""))
            .start();
        let secure =
            |listener| Client::tls(edge.listener(listener), "edge.test", certs::client(&["http/1.1"])).unwrap();
        for (listener, path) in [
            (0, "/clear"),
            (1, "/clear"),
            (0, "/tls"),
            (1, "/tls"),
            (0, "/haproxy"),
            (1, "/haproxy"),
            (0, "/h2"),
            (1, "/h2"),
            (2, "/"),
            (3, "/"),
        ] {
            let mut client =
                if listener % 2 == 1 { secure(listener) } else { Client::connect(edge.listener(listener)) };
            let from = port(&client);
            for _ in 0..2 {
                let answer = client.ask(get(path, &[]));
                let text = answer.text();
                let mut expected = format!("127.0.0.1 {from}");
                if matches!(path, "/haproxy" | "/h2") {
                    // It reads the server name and the id where they are.
                    let name = if listener == 1 && version == "v2" { "edge.test" } else { "" };
                    let id = text.rsplit(' ').next().unwrap();
                    assert_eq!(id.len(), if version == "v2" { 32 } else { 0 }, "{text}");
                    expected = format!("{expected} {name} {id}");
                } else {
                    expected = format!("{expected} {}", edge.listener(listener).port());
                }
                assert_eq!((answer.status(), text), (200, expected), "{version} {listener} {path}");
            }
        }
    }
}

#[test]
fn tunnels_begin_with_it() {
    let (upstream, headers) = told();
    let edge = Setup::new(open(&upstream.url())).section(&sends("v1", "")).start();
    let mut client = edge.connect();
    let fields = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    client.send(get("/", &fields));
    assert_eq!(client.head().status(), 101);
    let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", port(&client), edge.address().port());
    assert_eq!(String::from_utf8_lossy(&headers.lock().unwrap()[0]), line);
}

#[test]
fn probes_name_nobody() {
    for (version, expected) in
        [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x07\x03\0\x04")]
    {
        let (upstream, headers) = told();
        let probes = json!({"active": {"http_path": "/probe", "healthy": {"interval": 0.1}}});
        let text = json!({"_format_version": "3.0",
            "services": [{"name": "up", "host": "pool", "routes": [{"name": "all", "paths": ["/"]}]}],
            "upstreams": [{"name": "pool", "healthchecks": probes,
                "targets": [{"target": upstream.address().to_string()}]}]});
        let section = sends(version, "").replace("127.0.0.1", "Pool");
        let edge = Setup::new(text.to_string()).section(&section).start();
        let end = Instant::now() + Duration::from_secs(10);
        while upstream.count("GET", "/probe") == 0 {
            assert!(Instant::now() < end, "no probe came");
            std::thread::sleep(Duration::from_millis(10));
        }
        let first = headers.lock().unwrap()[0].clone();
        assert!(first.starts_with(expected), "{first:02x?}");
        assert_eq!(edge.ask(get("/", &[])).status(), 200);
        let last = headers.lock().unwrap().iter().filter(|header| !header.starts_with(expected)).count();
        assert_eq!(last, 1, "the request's own");
    }
}

#[test]
fn what_reaches_nobody_is_told_and_what_reaches_others_stays_plain() {
    let upstream = Upstream::start();
    let section = sends("v1", "").replace("127.0.0.1", "other.test");
    let edge = Setup::new(open(&upstream.url())).section(&section).start();
    edge.logged("none has the host other.test of `proxy.upstreams`");
    assert_eq!(edge.ask(get("/", &[])).status(), 200);
    assert!(upstream.faults().is_empty());
    let reached: SocketAddr = upstream.address();
    let edge = Setup::new(open(&format!("http://{reached}"))).section(&sends("v1", "")).start();
    // A service that expects none refuses it: nothing of it is taken for a request.
    assert_eq!(edge.ask(get("/", &[])).status(), 502);
    upstream.wait_fault();
    assert_eq!(upstream.requests().len(), 1);
}
