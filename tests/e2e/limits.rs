//! Limits of size and of time (security properties, 17).

use std::time::{Duration, Instant};

use edge_tests::certs;
use edge_tests::edge::Setup;
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, Reader, get};

use super::open;

#[test]
fn heads_over_the_limit_get_431() {
    // D3
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).section("[limits]\nhead_bytes = 4096\nfields = 20").start();
    let pad = |bytes: usize| get("/", &[&format!("X-Pad: {}", "a".repeat(bytes))]);
    let fields = |count: usize| get("/", &vec!["X: y"; count]);
    for (request, statuses) in [
        (pad(5000), &[431][..]),
        (pad(500_000), &[431]),
        (get(&format!("/{}", "a".repeat(5000)), &[]), &[414, 431]),
        (fields(21), &[431]),
        (fields(1000), &[431]),
    ] {
        let mut client = edge.connect();
        let _ = client.try_send(&request);
        let answer = client.response();
        assert!(statuses.contains(&answer.status()), "{}", answer.start);
        assert!(client.closes());
        assert_eq!(edge.reason_of(&answer), "head_too_large");
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(edge.ask(pad(3900)).status(), 200);
    assert_eq!(edge.ask(fields(19)).status(), 200);
}

#[test]
fn heads_as_large_as_the_f5s_pass_by_default() {
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    assert_eq!(edge.ask(get("/", &[&format!("X-Pad: {}", "a".repeat(32_000))])).status(), 200);
    assert_eq!(edge.ask(get("/", &[&format!("X-Pad: {}", "a".repeat(33_000))])).status(), 431);
    assert_eq!(edge.ask(get("/", &["X: y"; 63])).status(), 200);
    assert_eq!(edge.ask(get("/", &["X: y"; 64])).status(), 431);
}

#[test]
fn bodies_over_the_limit_get_413() {
    // D3, H13
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).section("[limits]\nbody_bytes = 1000").start();
    let mut client = edge.connect();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1001\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status(), edge.reason_of(&answer).as_str()), (413, "body_too_large"));
    assert!(upstream.requests().is_empty());

    let mut client = edge.connect();
    let chunk = format!("3e8\r\n{}\r\n", "a".repeat(1000));
    let _ = client
        .try_send(format!("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"));
    if let Ok(answer) = client.try_response("GET") {
        assert_eq!(answer.status(), 413);
    }
    assert!(client.closes());
    assert!(upstream.requests().is_empty(), "the upstream completed a body over the limit");

    let body = "a".repeat(1000);
    assert_eq!(edge.ask(format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n{body}")).status(), 200);
    let chunked = format!("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
    assert_eq!(edge.ask(chunked).status(), 200);
}

const QUICK: &str = "[timeouts]\nhandshake = 400\nrequest_head = 400\nidle = 400\nrequest_body = 400\n\
                     response_write = 400\ntunnel_idle = 400\n";

/// How long the edge keeps a connection after this was sent, and what it said.
fn lasts(mut client: Client, sent: &[u8]) -> (Duration, Vec<u8>) {
    let start = Instant::now();
    client.send(sent);
    let said = client.rest();
    (start.elapsed(), said)
}

#[test]
fn waiting_clients_are_let_go() {
    // D1, D2: each row is one wait with its limit of 400 ms.
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).clear().tls().section(QUICK).start();
    let soon = Duration::from_secs(5);
    let reached = Duration::from_millis(300);
    for (name, address, sent, answer) in [
        ("nothing", 0, &b""[..], ""),
        ("half a request line", 0, b"GET / HT", "408"),
        ("half a head", 0, b"GET / HTTP/1.1\r\nHost: t\r\n", "408"),
        ("half a body", 0, b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nhalf", "408"),
        ("half a chunk", 0, b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", "408"),
        ("half a handshake", 1, b"\x16\x03\x01\x02\x00\x01", ""),
        ("no handshake", 1, b"", ""),
        ("half a preface", 0, b"PRI * HTTP/2.0\r\n\r\n", ""),
    ] {
        let (lasted, said) = lasts(Client::connect(edge.listener(address)), sent);
        assert!(lasted < soon && lasted > reached, "{name} lasted {lasted:?}");
        let said = String::from_utf8_lossy(&said);
        // The end may come without a word, but no other word.
        assert!(
            answer.is_empty() || said.is_empty() || said.starts_with(&format!("HTTP/1.1 {answer}")),
            "{name}: {said}"
        );
    }
    let mut client = edge.connect();
    assert_eq!(client.ask(get("/", &[])).status(), 200);
    let start = Instant::now();
    assert!(client.closes());
    assert!(start.elapsed() < soon, "an idle connection is kept");
    // Nobody else was harmed.
    assert_eq!(edge.ask(get("/", &[])).status(), 200);
    let mut client = Client::tls(edge.listener(1), "edge.test", certs::client(&["http/1.1"])).unwrap();
    assert_eq!(client.ask(get("/", &[])).status(), 200);
}

#[test]
fn a_byte_now_and_then_does_not_extend_the_head() {
    // D2: the limit is on the head, not on the silence between two bytes.
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).section("[timeouts]\nrequest_head = 600").start();
    let mut client = edge.connect();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        if client.try_send("X").is_err() || !client.silent_for(Duration::from_millis(100)) {
            break;
        }
    }
    assert!(start.elapsed() < Duration::from_secs(6), "a drip kept the connection for {:?}", start.elapsed());
}

#[test]
fn a_body_at_a_trickle_is_ended_and_others_are_served() {
    // D2: what counts is how much comes in that time, not that something does.
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).workers(1).section("[timeouts]\nrequest_body = 600").start();
    let mut client = edge.connect();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        if client.try_send("x").is_err() || !client.silent_for(Duration::from_millis(100)) {
            break;
        }
        assert_eq!(edge.ask(get("/", &[])).status(), 200, "others wait");
    }
    assert!(start.elapsed() < Duration::from_secs(6), "a drip kept the connection for {:?}", start.elapsed());
}

#[test]
fn a_reader_that_does_not_read_is_let_go() {
    // D2
    let upstream = Upstream::with(|_| edge_tests::upstream::Reply::ok(&"z".repeat(32 << 20)));
    let edge = Setup::new(open(&upstream.url())).section("[timeouts]\nresponse_write = 500").start();
    let mut client = edge.connect();
    client.send(get("/", &[]));
    assert_eq!(client.head().status(), 200);
    let line = edge.access(|line| line["status"] == 200);
    assert!(line["bytes_out"].as_u64().unwrap() < 32 << 20, "{line}");
}

#[test]
fn an_upstream_that_never_answers_is_given_up() {
    // D1: the whole request has a limit as well.
    let upstream = Upstream::raw(|socket, _| {
        let mut reader = Reader::new(socket);
        while let Ok(Some(_)) = reader.request() {}
    });
    let edge = Setup::new(open(&upstream.url())).section("[timeouts]\nrequest_total = 500").start();
    let start = Instant::now();
    assert_eq!(edge.ask(get("/", &[])).status(), 504);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_upstream_that_takes_no_connection_is_given_up() {
    // D1: its queue is full, so that nothing answers to the SYN.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue has no end");
    }
    let mut entities: serde_json::Value = serde_json::from_str(&open(&format!("http://{address}"))).unwrap();
    entities["services"][0]["connect_timeout"] = 300.into();
    entities["services"][0]["retries"] = 0.into();
    let edge = Setup::new(entities.to_string()).start();
    let start = Instant::now();
    let answer = edge.ask(get("/", &[]));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!((answer.status(), edge.reason_of(&answer).as_str()), (504, "upstream_timeout"));
}

#[test]
fn connections_are_bounded() {
    // D3: beyond the limit connections wait or are refused; those that were taken are served.
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).workers(1).section("[limits]\nconnections = 4").start();
    let mut taken: Vec<Client> = (0..4).map(|_| edge.connect()).collect();
    for client in &mut taken {
        assert_eq!(client.ask(get("/", &[])).status(), 200);
        // In the middle of the next request: one that waits for it would give way.
        client.send("GET / HTTP/1.1\r\n");
    }
    let mut extra = edge.connect();
    let _ = extra.try_send(get("/", &[]));
    let refused = match extra.try_response("GET") {
        Ok(answer) => answer.status() == 503,
        Err(_) => true,
    };
    assert!(refused, "a fifth connection is served beside four");
    drop(taken);
    let end = Instant::now() + Duration::from_secs(10);
    let served = || {
        let mut client = edge.connect();
        client.try_send(get("/", &[])).is_ok() && client.try_response("GET").is_ok_and(|answer| answer.status() == 200)
    };
    while !served() {
        assert!(Instant::now() < end, "no connection is taken after the others have gone");
    }
}

#[test]
fn a_websocket_is_bounded_in_silence() {
    // D1
    let upstream = Upstream::raw(|socket, _| {
        let mut reader = Reader::new(socket);
        if let Ok(Some(_)) = reader.request() {
            use std::io::Write as _;
            let _ = reader
                .stream()
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
            let _ = reader.request();
        }
    });
    let edge = Setup::new(open(&upstream.url())).section(QUICK).start();
    let mut client = edge.connect();
    client.send(get("/", &["Connection: Upgrade", "Upgrade: websocket"]));
    assert_eq!(client.head().status(), 101);
    let start = Instant::now();
    assert!(client.closes());
    assert!(start.elapsed() < Duration::from_secs(5));
}
