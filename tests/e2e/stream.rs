//! Stream routes: connections steered by server name, source and destination, TLS untouched or ended here.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use edge_tests::certs::{self, Pair};
use edge_tests::edge::{Edge, READY, Setup, free_address};
use edge_tests::upstream::Upstream;
use edge_tests::wire::Client;
use serde_json::{Value, json};

/// Says `hello from <name>` without being asked, then sends back what it gets; the end is sent back too.
fn talk(mut stream: impl Read + Write, name: &str) {
    let _ = stream.write_all(format!("hello from {name}\n").as_bytes()).and_then(|()| stream.flush());
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        if stream.write_all(&chunk[..read]).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
    let _ = stream.write_all(b"bye\n").and_then(|()| stream.flush());
}

fn plain(name: &'static str) -> Upstream {
    Upstream::raw(move |socket, _| {
        let end = socket.try_clone().unwrap();
        talk(socket, name);
        let _ = end.shutdown(Shutdown::Both);
    })
}

fn secure(name: &'static str, pair: &Pair) -> Upstream {
    let config = certs::server_config(pair);
    Upstream::raw(move |socket, _| {
        let session = rustls::ServerConnection::new(config.clone()).unwrap();
        talk(rustls::StreamOwned::new(session, socket), name);
    })
}

/// A service with one route, both of this name.
fn service(name: &str, protocol: &str, upstream: SocketAddr, route: Value) -> Value {
    let route = super::plus(json!({"name": name}), route);
    json!({"name": name, "protocol": protocol, "host": "127.0.0.1", "port": upstream.port(), "retries": 1, "routes": [route]})
}

fn text(services: &[Value]) -> String {
    json!({"_format_version": "3.0", "services": services}).to_string()
}

/// A TLS client that trusts the tests' authority and checks the name.
fn over(address: SocketAddr, name: &str) -> anyhow::Result<Client> {
    Client::tls(address, name, certs::client(&["postgresql"]))
}

/// Reads as many bytes as this has.
fn expect(client: &mut Client, expected: &str) {
    let (mut got, mut end) = (vec![0; expected.len()], 0);
    while end < got.len() {
        let read = client.some(&mut got[end..]).unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&got[..end]));
        end += read;
    }
    assert_eq!(String::from_utf8_lossy(&got), expected);
}

fn says_hello_and_echoes(client: &mut Client, name: &str) {
    expect(client, &format!("hello from {name}\n"));
    client.send("ping");
    expect(client, "ping");
}

/// The reason in the log of a connection that was closed.
fn reason(edge: &Edge, client: &mut Client) -> String {
    let port = client.socket().local_addr().unwrap().port();
    assert!(client.closes(), "it is open");
    line_of(edge, port)["reason"].as_str().unwrap_or("").to_owned()
}

fn line_of(edge: &Edge, client_port: u16) -> Value {
    edge.access(|line| line["client_port"] == client_port)
}

fn port_of(client: &Client) -> u16 {
    client.socket().local_addr().unwrap().port()
}

#[test]
fn tls_passes_through_by_server_name() {
    let (a, wild) = (secure("a", &certs::pair(&["a.test"])), secure("wild", &certs::pair(&["*.wild.test"])));
    let entities = text(&[
        service("a", "tcp", a.address(), json!({"protocols": ["tls_passthrough"], "snis": ["a.test"]})),
        service(
            "wild",
            "tls_passthrough",
            wild.address(),
            json!({"protocols": ["tls_passthrough"], "snis": ["*.wild.test"]}),
        ),
    ]);
    let edge = Setup::new(entities).stream(free_address(), "").start();
    for (sni, name) in [("a.test", "a"), ("x.wild.test", "wild")] {
        // The client checks the certificate, and the edge has none: it is the upstream's.
        let mut client = over(edge.address(), sni).unwrap();
        says_hello_and_echoes(&mut client, name);
        let port = port_of(&client);
        drop(client);
        let line = line_of(&edge, port);
        assert_eq!(line["protocol"], "tls_passthrough");
        assert_eq!((&line["host"], &line["route"], &line["service"]), (&json!(sni), &json!(name), &json!(name)));
        let upstream = if name == "a" { a.address() } else { wild.address() };
        assert_eq!(line["upstream"], upstream.to_string());
        assert!(line["bytes_in"].as_u64() > Some(200) && line["bytes_out"].as_u64() > Some(200), "{line}");
        assert!(line.get("tls").is_none() && line.get("status").is_none(), "{line}");
    }
    assert!(over(edge.address(), "unknown.test").is_err());
    let line = edge.access(|line| line["host"] == "unknown.test");
    assert_eq!(line["reason"], "stream_route_not_found");
    assert!(line.get("route").is_none() && line.get("upstream").is_none(), "{line}");
    // What is no TLS has no route here.
    let mut client = edge.connect();
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(reason(&edge, &mut client), "stream_route_not_found");
    assert_eq!(edge.metric("edge_refusals_total{reason=\"stream_route_not_found\"}"), 2.0);
    assert_eq!(edge.metric("edge_stream_session_seconds_count"), 4.0);
    assert_eq!((a.connections(), wild.connections()), (1, 1));
}

#[test]
fn tcp_is_steered_by_port_and_the_upstream_may_speak_first() {
    let (one, two) = (plain("one"), plain("two"));
    let ports = [free_address(), free_address(), free_address()];
    let to = |address: SocketAddr| json!({"protocols": ["tcp"], "destinations": [{"port": address.port()}]});
    let elsewhere = json!({"protocols": ["tcp"], "sources": [{"ip": "192.0.2.0/24"}],
        "destinations": [{"port": ports[0].port()}, {"port": ports[2].port()}]});
    let entities = text(&[
        service("one", "tcp", one.address(), to(ports[0])),
        service("two", "tcp", two.address(), to(ports[1])),
        service("elsewhere", "tcp", two.address(), elsewhere),
    ]);
    let edge = ports.iter().fold(Setup::new(entities), |setup, address| setup.stream(*address, "")).start();
    for (address, name) in [(ports[0], "one"), (ports[1], "two")] {
        let mut client = Client::connect(address);
        says_hello_and_echoes(&mut client, name);
        // Half-closed: the upstream sees the end and answers it.
        client.finish();
        expect(&mut client, "bye\n");
        assert!(client.closes());
        let line = line_of(&edge, port_of(&client));
        assert_eq!((&line["protocol"], &line["route"]), (&json!("tcp"), &json!(name)));
        assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&json!(4), &json!(12 + name.len() + 4 + 4)));
        assert!(line.get("reason").is_none(), "{line}");
    }
    // TLS is bytes to a tcp route.
    let mut client = Client::connect(ports[0]);
    expect(&mut client, "hello from one\n");
    client.send(hello("a.test", None));
    assert!(!client.bytes().unwrap().is_empty());
    let mut client = Client::connect(ports[2]);
    assert_eq!(reason(&edge, &mut client), "stream_route_not_found");
}

#[test]
fn tls_ends_at_the_edge_and_begins_again() {
    let (clear, again) = (plain("clear"), secure("again", &certs::pair(&["localhost"])));
    let raw = plain("raw");
    let (shop, spare) = (certs::pair(&["db.test", "*.again.test"]), free_address());
    let mut again_service =
        service("again", "tls", again.address(), json!({"protocols": ["tls"], "snis": ["*.again.test"]}));
    again_service["host"] = json!("localhost");
    let mut stranger =
        service("stranger", "tls", again.address(), json!({"protocols": ["tls"], "snis": ["bad.again.test"]}));
    stranger["retries"] = json!(0);
    let entities = json!({"_format_version": "3.0", "services": [
            service("clear", "tcp", clear.address(), json!({"protocols": ["tcp", "tls"], "snis": ["db.test"]})),
            again_service,
            stranger,
            service("raw", "tcp", raw.address(), json!({"protocols": ["tcp"], "destinations": [{"port": spare.port()}]})),
        ],
        "certificates": [{"cert": shop.certificate, "key": shop.key, "snis": [{"name": "db.test"}, {"name": "*.again.test"}]}],
    });
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, certs::root()).unwrap();
    let edge = Setup::new(entities.to_string())
        .stream(free_address(), "")
        .stream(spare, "tls = true\n")
        .env("SSL_CERT_FILE", roots.to_str().unwrap())
        .start();
    for (sni, name) in [("db.test", "clear"), ("x.again.test", "again")] {
        let mut client = over(edge.address(), sni).unwrap();
        says_hello_and_echoes(&mut client, name);
        let port = port_of(&client);
        drop(client);
        let line = line_of(&edge, port);
        assert_eq!((&line["protocol"], &line["tls"], &line["host"]), (&json!("tls"), &json!("TLSv1.3"), &json!(sni)));
        assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&json!(4), &json!(12 + name.len() + 4)));
    }
    // The same route takes what is no TLS as well.
    let mut client = edge.connect();
    client.send("x");
    expect(&mut client, "hello from clear\nx");
    // The upstream's certificate is for another name than 127.0.0.1.
    let mut client = over(edge.address(), "bad.again.test").unwrap();
    assert_eq!(reason(&edge, &mut client), "upstream_tls");
    // A listener with `tls = true` takes TLS alone.
    let mut client = Client::connect(spare);
    client.send("x");
    assert_eq!(reason(&edge, &mut client), "tls_required");
    // No certificate for the name: the handshake fails before any upstream is asked.
    let no_pair = text(&[service("clear", "tcp", clear.address(), json!({"protocols": ["tls"], "snis": ["db.test"]}))]);
    let before = clear.connections();
    edge.reload(&no_pair, "reload");
    let end = Instant::now() + READY;
    while over(edge.address(), "db.test").is_ok() {
        assert!(Instant::now() < end, "the certificate is still there");
    }
    edge.access(|line| line["reason"] == "tls_handshake_failed");
    assert!(clear.connections() <= before + 1);
}

/// A ClientHello for this name, in records of at most so many bytes.
fn hello(name: &str, record_bytes: Option<usize>) -> Vec<u8> {
    session(name, record_bytes).1
}

fn session(name: &str, record_bytes: Option<usize>) -> (rustls::ClientConnection, Vec<u8>) {
    let mut config = rustls::ClientConfig::clone(&*certs::client(&[]));
    config.max_fragment_size = record_bytes;
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut session = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    (session, bytes)
}

#[test]
fn a_client_hello_may_come_in_pieces() {
    let (through, ends) = (secure("through", &certs::pair(&["through.test"])), plain("ends"));
    let pair = certs::pair(&["ends.test"]);
    let entities = json!({"_format_version": "3.0", "services": [
            service("through", "tcp", through.address(), json!({"protocols": ["tls_passthrough"], "snis": ["through.test"]})),
            service("ends", "tcp", ends.address(), json!({"protocols": ["tls"], "snis": ["ends.test"]})),
        ],
        "certificates": [{"cert": pair.certificate, "key": pair.key, "snis": [{"name": "ends.test"}]}],
    });
    let edge = Setup::new(entities.to_string()).stream(free_address(), "").start();
    for name in ["through", "ends"] {
        for (record_bytes, segment_bytes) in [(None, 100), (Some(64), 40), (Some(32), 10_000)] {
            let (mut session, bytes) = session(&format!("{name}.test"), record_bytes);
            let mut socket = TcpStream::connect(edge.address()).unwrap();
            socket.set_nodelay(true).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            for segment in bytes.chunks(segment_bytes) {
                socket.write_all(segment).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
            let mut stream = rustls::Stream::new(&mut session, &mut socket);
            let expected = format!("hello from {name}\n");
            let mut got = vec![0; expected.len()];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got, expected.as_bytes(), "{record_bytes:?} {segment_bytes}");
        }
    }
}

#[test]
fn a_client_hello_is_bounded_in_time_and_size() {
    // D1, D2, D3
    let upstream = plain("up");
    let route = json!({"protocols": ["tls_passthrough"], "snis": ["a.test"]});
    let edge = Setup::new(text(&[service("up", "tcp", upstream.address(), route)]))
        .stream(free_address(), "")
        .section("[timeouts]\nhandshake = 400\n")
        .start();
    let whole = hello("a.test", None);
    for part in [&[][..], &whole[..1], &whole[..whole.len() - 1]] {
        let mut client = edge.connect();
        client.send(part);
        let start = Instant::now();
        assert_eq!(reason(&edge, &mut client), "client_hello_timeout");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    // Records that promise a message of 60,000 bytes and begin to keep the promise.
    let mut endless = Vec::new();
    for index in 0..5 {
        endless.extend([22, 3, 1, 0x10, 0]);
        let mut record = vec![0; 4096];
        if index == 0 {
            record[..6].copy_from_slice(&[1, 0, 0xea, 0x60, 3, 3]);
        }
        endless.extend(record);
    }
    let mut client = edge.connect();
    let _ = client.try_send(&endless);
    assert_eq!(reason(&edge, &mut client), "client_hello_too_large");
    let mut broken = whole.clone();
    broken[5] = 2;
    let mut client = edge.connect();
    client.send(&broken);
    assert_eq!(reason(&edge, &mut client), "client_hello_malformed");
    let mut client = edge.connect();
    client.finish();
    assert_eq!(reason(&edge, &mut client), "client_gone");
    assert_eq!(upstream.connections(), 0);
    let mut client = edge.connect();
    client.send(&whole);
    expect(&mut client, "hello from up\n");
}

#[test]
fn an_upstream_that_is_down_closes_the_connection() {
    let (listening, nobody) = (free_address(), free_address());
    let route = json!({"protocols": ["tcp"], "destinations": [{"ip": "127.0.0.0/8", "port": listening.port()}]});
    let edge = Setup::new(text(&[service("down", "tcp", nobody, route)])).stream(listening, "").start();
    let mut client = edge.connect();
    assert_eq!(reason(&edge, &mut client), "upstream_connect");
    let line = line_of(&edge, port_of(&client));
    assert_eq!((&line["route"], &line["upstream"]), (&json!("down"), &json!(nobody.to_string())));
    assert_eq!(edge.metric("edge_route_refusals_total{route=\"down\",reason=\"upstream_connect\"}"), 1.0);
}

#[test]
fn a_session_outlives_a_reload() {
    let (old, new, listening) = (plain("old"), plain("new"), free_address());
    let entities = |name, upstream: &Upstream| {
        let route = json!({"protocols": ["tcp"], "destinations": [{"port": listening.port()}]});
        text(&[service(name, "tcp", upstream.address(), route)])
    };
    let edge = Setup::new(entities("old", &old)).stream(listening, "").start();
    let mut kept = edge.connect();
    says_hello_and_echoes(&mut kept, "old");
    edge.reload(&entities("new", &new), "reload");
    let end = Instant::now() + READY;
    while Client::connect(listening).bytes().unwrap() != b"hello from new\n" {
        assert!(Instant::now() < end, "the new route is not in force");
    }
    kept.send("still there");
    expect(&mut kept, "still there");
    kept.finish();
    expect(&mut kept, "bye\n");
    assert_eq!(line_of(&edge, port_of(&kept))["route"], "old");
}

#[test]
fn sessions_end_when_silent_and_when_the_edge_stops() {
    // D1, D9
    let (upstream, quick, slow) = (plain("up"), free_address(), free_address());
    let to = |address: SocketAddr| json!({"protocols": ["tcp"], "destinations": [{"port": address.port()}]});
    let mut silent = service("silent", "tcp", upstream.address(), to(quick));
    silent["read_timeout"] = json!(300);
    let entities = text(&[silent, service("kept", "tcp", upstream.address(), to(slow))]);
    let edge = Setup::new(entities).stream(quick, "").stream(slow, "").section("[timeouts]\ndrain = 800\n").start();
    let mut client = Client::connect(quick);
    expect(&mut client, "hello from up\n");
    assert_eq!(reason(&edge, &mut client), "tunnel_idle");
    let mut client = Client::connect(slow);
    says_hello_and_echoes(&mut client, "up");
    let port = port_of(&client);
    let start = Instant::now();
    let (accesses, _) = edge.stop();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(client.closes());
    let line = accesses
        .lines()
        .iter()
        .find_map(|line| serde_json::from_str::<Value>(line).ok().filter(|line| line["client_port"] == port));
    assert_eq!(line.expect("a line")["reason"], "draining");
}

#[test]
fn limits_and_the_deny_list_hold_for_streams() {
    let (upstream, listening) = (plain("up"), free_address());
    let route = json!({"protocols": ["tcp"], "destinations": [{"port": listening.port()}]});
    let entities = text(&[service("up", "tcp", upstream.address(), route)]);
    let edge =
        Setup::new(entities.clone()).stream(listening, "").workers(1).section("[limits]\nconnections = 1\n").start();
    let mut first = edge.connect();
    expect(&mut first, "hello from up\n");
    let mut second = edge.connect();
    assert!(second.silent_for(Duration::from_millis(200)));
    drop(first);
    expect(&mut second, "hello from up\n");
    drop(edge);
    let denied =
        Setup::new(entities).stream(listening, "").section("[kernel]\nmode = \"off\"\ndeny = [\"127.0.0.1\"]\n");
    let before = upstream.connections();
    assert!(denied.start().connect().closes());
    assert_eq!(upstream.connections(), before);
}

#[test]
fn address_rules_guard_connections_too() {
    let (open, closed) = (plain("open"), secure("closed", &certs::pair(&["a.test"])));
    let local = json!({"deny": ["127.0.0.0/8"]});
    let nobody = json!({"allow": ["203.0.113.0/24"]});
    for (rules, passes) in [(local, false), (nobody, false), (json!({"allow": ["127.0.0.1"]}), true)] {
        // Globally, with the protocols that are its own: no kind of connection gets past it.
        let entities = json!({
            "_format_version": "3.0",
            "services": [
                service("open", "tcp", open.address(), json!({"protocols": ["tcp"], "sources": [{"ip": "127.0.0.0/8"}]})),
                service("closed", "tcp", closed.address(), json!({"protocols": ["tls_passthrough"], "snis": ["a.test"]})),
            ],
            "plugins": [{"name": "ip-restriction", "config": rules}],
        });
        let edge = Setup::new(entities.to_string()).stream(free_address(), "").start();
        let mut client = edge.connect();
        client.send("x");
        let passed = over(edge.address(), "a.test").is_ok();
        assert_eq!(passed, passes, "{rules}");
        match passes {
            true => expect(&mut client, "hello from open\n"),
            false => assert_eq!(reason(&edge, &mut client), "address_not_allowed"),
        }
    }
}
