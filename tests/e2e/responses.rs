//! What an upstream may do wrong, and that no client gets what belongs to another.

use std::io::Write;
use std::time::Duration;

use edge_tests::edge::Setup;
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Reader, get};

use super::open;

#[test]
fn a_response_with_broken_framing_is_502_and_its_connection_ends() {
    // H18
    let broken: &[(&str, &str)] = &[
        ("/both", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("/lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
        ("/sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab"),
        ("/coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab"),
        ("/space", "HTTP/1.1 200 OK\r\nName : x\r\nContent-Length: 2\r\n\r\nab"),
        ("/nul", "HTTP/1.1 200 OK\r\nName: a\0b\r\nContent-Length: 2\r\n\r\nab"),
        ("/version", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nab"),
        ("/status", "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nab"),
        ("/short", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nab"),
        ("/nothing", "SSH-2.0-OpenSSH\r\n\r\n"),
        ("/switch", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"),
        ("/lf", "HTTP/1.1 200 OK\nContent-Length: 2\n\nab"),
    ];
    let upstream = Upstream::with(|request| {
        let reply = broken.iter().find(|(path, _)| *path == request.target());
        reply.map_or_else(|| Reply::ok("good"), |(_, bytes)| Reply::raw(*bytes))
    });
    let edge = Setup::new(open(&upstream.url())).workers(1).start();
    for (path, _) in broken {
        let answer = edge.ask(get(path, &[]));
        assert_eq!(answer.status(), 502, "{path}");
        let text = answer.text();
        assert!(text.contains("An invalid response was received from the upstream server"), "{path}: {text}");
        // P7: no address of the upstream's, no version.
        assert!(!text.contains("127.0.0.1"), "{text}");
        let connections = upstream.connections();
        assert_eq!(edge.ask(get("/good", &[])).text(), "good");
        assert_eq!(upstream.connections(), connections + 1, "the connection of {path} was used again");
        assert_eq!(edge.reason_of(&answer), "upstream_malformed", "{path}");
    }
}

#[test]
fn a_body_that_breaks_off_is_a_cut_stream() {
    // H18: a head that has gone out cannot be taken back, but the message must not look whole.
    let upstream = Upstream::with(|request| match request.target() {
        "/length" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").close(),
        "/chunked" => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").close(),
        "/bad" => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\nabc\r\n0\r\n\r\n"),
        _ => Reply::ok("good"),
    });
    let edge = Setup::new(open(&upstream.url())).start();
    for path in ["/length", "/chunked", "/bad"] {
        let mut client = edge.connect();
        client.send(get(path, &[]));
        match client.try_response("GET") {
            Ok(answer) => assert_eq!(answer.status(), 502, "{path} looks whole: {:?}", answer.text()),
            Err(e) => assert!(e.to_string().contains("closed"), "{path}: {e:#}"),
        }
        assert_eq!(edge.ask(get("/good", &[])).text(), "good");
    }
}

#[test]
fn bytes_behind_a_response_are_given_to_nobody() {
    // H19: a response nobody asked for ends the connection it came on.
    let upstream = Upstream::with(|request| match request.target() {
        "/extra" => Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
        ),
        "/head" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"),
        "/204" => Reply::raw("HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nstolen"),
        _ => Reply::ok("mine"),
    });
    let edge = Setup::new(open(&upstream.url())).workers(1).start();
    for request in ["GET /extra", "HEAD /head", "GET /204"] {
        let mut client = edge.connect();
        client.send(format!("{request} HTTP/1.1\r\nHost: t\r\n\r\n"));
        let method = request.split(' ').next().unwrap();
        let answer = client.response_to(method);
        assert!(matches!(answer.status(), 200 | 204 | 502), "{request}: {}", answer.start);
        for _ in 0..3 {
            assert_eq!(edge.ask(get("/mine", &[])).text(), "mine", "after {request}");
        }
    }
}

#[test]
fn a_client_that_leaves_takes_its_response_with_it() {
    // H19
    let upstream = Upstream::with(|request| {
        if request.target() == "/slow" {
            std::thread::sleep(Duration::from_millis(300));
            return Reply::ok("slow");
        }
        Reply::ok("mine")
    });
    let edge = Setup::new(open(&upstream.url())).workers(1).start();
    let mut client = edge.connect();
    client.send(get("/slow", &[]));
    upstream_has_head(&upstream);
    client.reset();
    for _ in 0..5 {
        assert_eq!(edge.ask(get("/mine", &[])).text(), "mine");
    }
}

/// A connection to the upstream stands: the request is on its way.
fn upstream_has_head(upstream: &Upstream) {
    while upstream.connections() == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn an_unreachable_upstream_is_502_503_or_504() {
    let closed = edge_tests::edge::free_address();
    let silent = Upstream::raw(|socket, _| {
        let mut reader = Reader::new(socket);
        let _ = reader.request();
        // Neither an answer nor an end.
        let _ = reader.request();
    });
    let services = serde_json::json!({"_format_version": "3.0", "services": [
        {"name": "closed", "url": format!("http://{closed}"), "retries": 0, "routes": [{"name": "closed", "paths": ["/closed"]}]},
        {"name": "nowhere", "url": "http://does-not-exist.invalid/", "retries": 0, "routes": [{"name": "nowhere", "paths": ["/nowhere"]}]},
        {"name": "silent", "url": silent.url(), "retries": 0, "read_timeout": 300, "routes": [{"name": "silent", "paths": ["/silent"]}]},
    ]});
    let edge = Setup::new(services.to_string()).start();
    for (path, statuses, text, reason) in [
        ("/closed", &[502, 503][..], "", "upstream_connect"),
        ("/nowhere", &[503][..], "name resolution failed", "upstream_resolve"),
        ("/silent", &[504][..], "The upstream server is timing out", "upstream_timeout"),
    ] {
        let answer = edge.ask(get(path, &["Accept: application/json"]));
        assert!(statuses.contains(&answer.status()), "{path}: {}", answer.start);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(text), "{path}: {message}");
        assert!(answer.json()["request_id"].is_string(), "{path}: {}", answer.text());
        assert_eq!(edge.reason_of(&answer), reason, "{path}");
    }
}

#[test]
fn a_stale_connection_is_not_the_clients_fault() {
    // D7: a request that certainly was not taken is sent again on another connection; one that may have been is not,
    // unless its method is idempotent.
    let upstream = Upstream::raw(|socket, seen| {
        let mut reader = Reader::new(socket);
        // One answer a connection, and the end without notice at the next request.
        if let Ok(Some(request)) = reader.request() {
            seen.keep(request);
            let _ = reader.stream().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        if let Ok(Some(request)) = reader.request() {
            seen.keep(request);
        }
    });
    let edge = Setup::new(open(&upstream.url())).workers(1).start();
    assert_eq!(edge.ask(get("/1", &[])).status(), 200);
    assert_eq!(edge.ask(get("/2", &[])).status(), 200, "GET is repeated on a new connection");
    let seen: Vec<String> = upstream.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(seen, ["/1", "/2", "/2"]);
    // The last answer left a connection that ends at its next request.
    let answer = edge.ask("POST /3 HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi");
    assert!(matches!(answer.status(), 200 | 502), "{}", answer.start);
    let posts = upstream.requests().iter().filter(|request| request.target() == "/3").count();
    assert_eq!(posts, 1, "a POST is never sent twice");
}

#[test]
fn an_early_answer_of_the_upstream_ends_the_upload() {
    // The upstream answers 413 and closes while the client still sends: the answer arrives, nothing is mixed.
    let upstream = Upstream::raw(|socket, _| {
        let mut reader = Reader::new(socket);
        if let Ok(Some(_)) = reader.head() {
            let _ = reader
                .stream()
                .write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    // A body that is held first would not be on its way yet.
    let route = serde_json::json!([{"name": "all", "paths": ["/"], "strip_path": false, "request_buffering": false}]);
    let edge = Setup::new(super::entities(&upstream.url(), route)).start();
    let mut client = edge.connect();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\nbegin");
    assert_eq!(client.response().status(), 413);
}
