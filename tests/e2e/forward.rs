//! Plain forwarding: framing of bodies both ways, persistence, interim responses, upgrades, streaming.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use edge_tests::edge::Setup;
use edge_tests::upstream::{Reply, Seen, Upstream};
use edge_tests::wire::{PATIENCE, Reader, get};

use super::open;

#[test]
fn request_and_response_pass_as_they_are() {
    let upstream = Upstream::with(|_| {
        Reply::new("201 Made", "X-One: a\r\nSet-Cookie: k=1\r\nSet-Cookie: k=2\r\nx-lOWer: Ab\r\n", "{\"ok\":true}")
    });
    let edge = Setup::new(open(&upstream.url())).start();
    let answer = edge.ask(
        "PUT /v1/a%2Fb?x=1&y=%20&x=2 HTTP/1.1\r\nHost: api.test\r\nX-B: 1\r\nx-a: 2\r\nX-B: 3\r\n\
         Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(answer.start, "HTTP/1.1 201 Made");
    assert_eq!(answer.text(), "{\"ok\":true}");
    assert_eq!(answer.all("set-cookie"), ["k=1", "k=2"]);
    assert!(answer.fields.iter().any(|(name, value)| name == "x-lOWer" && value == "Ab"), "{:?}", answer.fields);

    let request = upstream.last();
    assert_eq!(request.start, "PUT /v1/a%2Fb?x=1&y=%20&x=2 HTTP/1.1");
    assert_eq!(request.text(), "hello");
    assert_eq!(request.field("content-length"), Some("5"));
    // Order, spelling and duplicates of what the client sent are kept.
    let sent = ["X-B", "x-a", "X-B", "Content-Type"];
    let kept: Vec<&str> =
        request.fields.iter().map(|(name, _)| name.as_str()).filter(|name| sent.contains(name)).collect();
    assert_eq!(kept, sent);
    assert_eq!(upstream.faults(), [""; 0]);
}

#[test]
fn bodies_keep_their_content_in_every_framing() {
    let upstream = Upstream::with(|request| match request.target() {
        "/length" => Reply::ok("by length"),
        "/empty" => Reply::new("200 OK", "", ""),
        "/chunked" => Reply::raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             3;ext=1\r\nby \r\n6\r\nchunks\r\n0\r\nX-Sum: 9\r\n\r\n",
        ),
        "/close" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil close").close(),
        "/old" => Reply::raw("HTTP/1.0 200 OK\r\n\r\nold").close(),
        _ => Reply::ok(&request.text()),
    });
    let edge = Setup::new(open(&upstream.url())).start();
    let mut client = edge.connect();
    for (target, body) in [
        ("/length", "by length"),
        ("/empty", ""),
        ("/chunked", "by chunks"),
        ("/close", "until close"),
        ("/old", "old"),
        ("/length", "by length"),
    ] {
        let answer = client.ask(get(target, &[]));
        assert_eq!((answer.status(), answer.text().as_str()), (200, body), "{target}");
        assert_eq!(answer.start.split(' ').next(), Some("HTTP/1.1"), "{target}");
        if answer.says_close() {
            client = edge.connect();
        }
    }

    for (framing, body) in [
        ("Content-Length: 3\r\n\r\nabc", "abc"),
        ("Content-Length: 0\r\n\r\n", ""),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc"),
        ("Transfer-Encoding: chunked\r\n\r\n0003;a=b;c=\"d\"\r\nabc\r\n0\r\n\r\n", "abc"),
        ("Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", ""),
    ] {
        let answer = client.ask(format!("POST /echo HTTP/1.1\r\nHost: test\r\n{framing}"));
        assert_eq!((answer.status(), answer.text().as_str()), (200, body), "{framing:?}");
        let request = upstream.last();
        assert_eq!(request.text(), body, "{framing:?}");
        // H4: extensions do not reach the upstream.
        assert!(!String::from_utf8_lossy(&request.raw).contains(";a=b"), "{framing:?}");
    }
    assert_eq!(upstream.faults(), [""; 0]);
}

#[test]
fn trailers_pass_but_never_frame_route_or_authenticate() {
    // H5, P1: what trailers must not carry is dropped; the others pass.
    let upstream = Upstream::with(|_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 9\r\nContent-Length: 7\r\n\r\n",
        )
    });
    let edge = Setup::new(open(&upstream.url())).start();
    let answer = edge.ask(
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\nTE: trailers\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Check: 1\r\nContent-Length: 9\r\nHost: evil\r\nAuthorization: Bearer x\r\n\
         X-Consumer-ID: 1\r\nTransfer-Encoding: chunked\r\nX_Consumer_Username: admin\r\n\r\n",
    );
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    let names = |fields: &[(String, String)]| fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&upstream.last().trailers), ["X-Check"]);
    assert!(!names(&answer.trailers).contains(&"Content-Length".to_owned()));
}

#[test]
fn responses_without_content_end_at_their_head() {
    // H19: nothing that follows such a response is taken for the next one.
    let upstream = Upstream::with(|request| match (request.method(), request.target()) {
        ("HEAD", _) => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"),
        (_, "/204") => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        (_, "/304") => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 99\r\n\r\n"),
        (_, "/early") => Reply::raw(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal",
        ),
        _ => Reply::ok("next"),
    });
    let edge = Setup::new(open(&upstream.url())).workers(1).start();
    let mut client = edge.connect();
    client.send("HEAD /x HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = client.response_to("HEAD");
    assert_eq!((answer.status(), answer.field("content-length")), (200, Some("1234")));
    for status in [204, 304] {
        let answer = client.ask(get(&format!("/{status}"), &[]));
        assert_eq!(answer.status(), status);
        if status == 204 {
            // RFC 9112, 6.1 and RFC 9110, 8.6: no framing field in a 204.
            assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), (None, None));
        }
    }
    let mut answer = client.ask(get("/early", &[]));
    if answer.status() == 103 {
        answer = client.response();
    }
    assert_eq!((answer.status(), answer.text().as_str()), (200, "final"));
    assert_eq!(client.ask(get("/", &[])).text(), "next");
    assert_eq!(upstream.connections(), 1, "the upstream connection is kept over all of them");
}

#[test]
fn continue_is_sent_before_the_body_is_awaited() {
    // H16
    let upstream = Upstream::with(|request| Reply::ok(&request.text()));
    let edge = Setup::new(open(&upstream.url())).start();
    let mut client = edge.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.response().status(), 100);
    client.send("body");
    let answer = client.response();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "body"));
    // A client that does not wait is served alike.
    client.send("POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody");
    let mut answer = client.response();
    if answer.status() == 100 {
        answer = client.response();
    }
    assert_eq!((answer.status(), answer.text().as_str()), (200, "body"));

    let answer = edge.ask("POST / HTTP/1.1\r\nHost: test\r\nExpect: 200-ok\r\nContent-Length: 0\r\n\r\n");
    assert!(matches!(answer.status(), 200 | 417), "{}", answer.status());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::with(|request| Reply::ok(request.target()));
    let edge = Setup::new(open(&upstream.url())).start();
    let mut client = edge.connect();
    let mut burst = Vec::new();
    for number in 0..20 {
        let body = "x".repeat(number);
        let length = body.len();
        burst
            .extend(format!("POST /{number} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}").bytes());
    }
    client.send(&burst);
    for number in 0..20 {
        assert_eq!(client.response().text(), format!("/{number}"));
    }
    // One byte at a time is the same request.
    for byte in get("/slow", &[]) {
        client.send([byte]);
    }
    assert_eq!(client.response().text(), "/slow");
    assert_eq!(upstream.requests().len(), 21);
}

#[test]
fn connections_persist_as_both_sides_say() {
    let upstream = Upstream::with(|request| match request.target() {
        "/close" => Reply::new("200 OK", "Connection: close\r\n", "bye").close(),
        _ => Reply::ok("ok"),
    });
    let edge = Setup::new(open(&upstream.url())).workers(1).start();
    let mut client = edge.connect();
    for _ in 0..5 {
        assert_eq!(client.ask(get("/", &[])).status(), 200);
    }
    assert_eq!(upstream.connections(), 1, "one upstream connection serves a kept client connection");
    // The upstream's wish to close is its own connection's affair.
    assert_eq!(client.ask(get("/close", &[])).text(), "bye");
    assert_eq!(client.ask(get("/", &[])).status(), 200);
    assert_eq!(upstream.connections(), 2);

    let answer = client.ask(get("/", &["Connection: close"]));
    assert!(answer.says_close() && client.closes(), "{:?}", answer.fields);

    let mut old = edge.connect();
    let answer = old.ask("GET / HTTP/1.0\r\nHost: test\r\n\r\n");
    assert_eq!((answer.status(), answer.field("transfer-encoding")), (200, None));
    assert!(old.closes());
}

#[test]
fn a_chunked_answer_suits_an_http_1_0_client() {
    let upstream =
        Upstream::with(|_| Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    let edge = Setup::new(open(&upstream.url())).start();
    let answer = edge.ask("GET / HTTP/1.0\r\nHost: test\r\n\r\n");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "abc"));
    assert_eq!(answer.field("transfer-encoding"), None);
}

/// Answers an upgrade with 101 and sends back what follows; anything else gets 200.
fn switching(socket: TcpStream, seen: &Seen) {
    let mut reader = Reader::new(socket);
    while let Ok(Some(request)) = reader.request() {
        let upgrade = request.target() == "/chat" && request.field("upgrade").is_some();
        seen.keep(request);
        if !upgrade {
            let _ = reader.stream().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
            continue;
        }
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello ";
        let _ = reader.stream().write_all(head);
        let mut chunk = [0; 1024];
        while let Ok(read @ 1..) = reader.stream().read(&mut chunk) {
            let _ = reader.stream().write_all(&chunk[..read]);
        }
        return;
    }
}

#[test]
fn an_upgrade_becomes_a_tunnel_only_after_101() {
    // H14, P8
    let upstream = Upstream::raw(switching);
    let edge = Setup::new(open(&upstream.url())).start();
    let upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"];
    let mut client = edge.connect();
    client.send(get("/chat", &upgrade));
    let head = client.head();
    assert_eq!(head.status(), 101);
    assert_eq!(head.field("upgrade"), Some("websocket"));
    client.send("ping");
    let mut got = Vec::new();
    while got.len() < 10 {
        got.extend(client.bytes().unwrap());
    }
    assert_eq!(got, b"hello ping");
    client.finish();
    assert!(client.closes());
    assert_eq!(upstream.last().field("sec-websocket-key"), Some("x"));

    // Without the 101 what follows is an ordinary request with its own checks.
    let mut client = edge.connect();
    let mut burst = get("/refused", &upgrade);
    burst.extend(get("/second", &[]));
    client.send(burst);
    assert_eq!(client.response().status(), 200);
    assert_eq!(client.response().status(), 200);
    assert_eq!(upstream.last().target(), "/second");
}

#[test]
fn cleartext_http2_upgrades_are_not_forwarded() {
    // H15
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    let h2c = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"];
    let mut client = edge.connect();
    let answer = client.ask(get("/", &h2c));
    assert_eq!(answer.status(), 200);
    let request = upstream.last();
    assert_eq!((request.field("upgrade"), request.field("http2-settings")), (None, None));
}

const LARGE: usize = 48 << 20;

fn resident_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_large_response_waits_for_a_slow_reader() {
    // D3: what the client does not take is not read from the upstream.
    let upstream = Upstream::raw(|mut socket, _| {
        let mut reader = Reader::new(socket.try_clone().unwrap());
        while let Ok(Some(_)) = reader.request() {
            socket.set_write_timeout(Some(PATIENCE)).unwrap();
            write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").unwrap();
            let chunk = vec![b'z'; 1 << 16];
            for _ in 0..LARGE / chunk.len() {
                if socket.write_all(&chunk).is_err() {
                    return;
                }
            }
        }
    });
    let edge = Setup::new(open(&upstream.url())).start();
    let before = resident_kib(edge.pid());
    let mut client = edge.connect();
    client.send(get("/", &[]));
    assert_eq!(client.head().status(), 200);
    let mut received = client.bytes().unwrap().len();
    // Another client is served meanwhile, and by then the first one's window is long full.
    for _ in 0..3 {
        edge.connect().send(get("/", &[]));
    }
    assert!(resident_kib(edge.pid()) < before + 16 * 1024, "the edge buffers what nobody reads");
    while received < LARGE {
        let chunk = client.bytes().unwrap();
        assert!(!chunk.is_empty() && chunk.iter().all(|&byte| byte == b'z'));
        received += chunk.len();
    }
    assert_eq!(received, LARGE);
}

#[test]
fn a_large_upload_waits_for_a_slow_upstream() {
    // D3: what the upstream does not take is not read from the client.
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let upstream = Upstream::raw(move |socket, seen| {
        let mut reader = Reader::new(socket);
        let Ok(Some(mut head)) = reader.head() else { return };
        gate.lock().unwrap().recv().unwrap();
        reader.rest_of_request(&mut head).unwrap();
        let count = head.body.len();
        seen.keep(head);
        let _ = write!(reader.stream(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Count: {count}\r\n\r\n");
    });
    let edge = Setup::new(open(&upstream.url())).start();
    let before = resident_kib(edge.pid());
    let mut client = edge.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {LARGE}\r\n\r\n"));
    client.patience(Duration::from_millis(300));
    let (chunk, mut sent) = (vec![b'q'; 1 << 16], 0);
    let mut socket = client.socket().try_clone().unwrap();
    // Until the socket takes no more.
    let mut refused = 0;
    while refused == 0 && sent < LARGE {
        match socket.write(&chunk[..chunk.len().min(LARGE - sent)]) {
            Ok(wrote) => sent += wrote,
            Err(_) => refused = sent,
        }
    }
    assert!(refused > 0, "all {LARGE} bytes vanished into the edge");
    assert!(resident_kib(edge.pid()) < before + 16 * 1024, "the edge buffers what nobody reads");
    go.send(()).unwrap();
    client.patience(PATIENCE);
    while sent < LARGE {
        sent += socket.write(&chunk[..chunk.len().min(LARGE - sent)]).unwrap();
    }
    assert_eq!(client.response().field("x-count"), Some(LARGE.to_string().as_str()));
}
