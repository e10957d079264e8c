//! Tries, time-outs and buffers towards HTTP/1 upstreams.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use edge_tests::edge::Setup;
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Reader, get};
use serde_json::{Value, json};

fn entities(url: &str, service: Value, route: Value) -> String {
    let all = super::plus(json!({"name": "all", "paths": ["/"], "strip_path": false}), route);
    let up = super::plus(json!({"name": "up", "url": url, "routes": [all]}), service);
    json!({"_format_version": "3.0", "services": [up]}).to_string()
}

/// An upstream that closes its first `count` connections once it has read a request, and answers the others with it.
fn closing(count: usize) -> Upstream {
    let number = AtomicUsize::new(0);
    Upstream::raw(move |socket, seen| {
        let closes = number.fetch_add(1, Ordering::SeqCst) < count;
        let mut reader = Reader::new(socket);
        while let Ok(Some(message)) = reader.request() {
            seen.keep(message.clone());
            if closes {
                return;
            }
            let text = message.text();
            let _ = write!(reader.stream(), "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        }
    })
}

#[test]
fn only_what_may_be_repeated_is_sent_again() {
    // D7: a body that is held can be sent twice, one that streams cannot.
    let held = json!({});
    let streams = json!({"request_buffering": false});
    for (request, closes, route, status, sent) in [
        ("GET / HTTP/1.1\r\nHost: t\r\n\r\n", 2, &held, 200, 3),
        ("GET / HTTP/1.1\r\nHost: t\r\n\r\n", 3, &held, 502, 3),
        ("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi", 1, &held, 200, 2),
        ("PUT / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 1, &held, 200, 2),
        ("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi", 1, &streams, 502, 1),
        ("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi", 1, &held, 502, 1),
        ("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n", 1, &held, 502, 1),
    ] {
        let upstream = closing(closes);
        let edge = Setup::new(entities(&upstream.url(), json!({"retries": 2}), route.clone())).start();
        let answer = edge.ask(request);
        assert_eq!((answer.status(), upstream.requests().len()), (status, sent), "{request:?} {closes}");
        if status == 200 && request.contains("hi") {
            assert_eq!(answer.text(), "hi");
        }
        assert_eq!(edge.metric("edge_upstream_connections_total{result=\"failed\"}"), closes.min(sent) as f64);
    }
}

#[test]
fn connections_are_kept_for_so_many_requests_and_so_long() {
    for (keepalive, connections) in [
        ("", 1),
        ("upstream_keepalive_max_requests = 3", 2),
        ("upstream_keepalive_pool_size = 0", 6),
        ("upstream_keepalive_idle_timeout = 1", 2),
        ("upstream_keepalive_max_age = 1", 2),
    ] {
        let upstream = Upstream::start();
        let setup = Setup::new(entities(&upstream.url(), json!({}), json!({}))).workers(1);
        let edge = setup.section(&format!("[proxy]\n{keepalive}")).start();
        for request in 0..6 {
            if request == 3 && keepalive.contains("= 1") {
                // Once a second the pool is looked through.
                std::thread::sleep(Duration::from_millis(2500));
            }
            assert_eq!(edge.ask(get("/", &[])).status(), 200);
        }
        assert_eq!(upstream.connections(), connections, "{keepalive}");
    }
}

#[test]
fn an_upstream_that_does_not_answer_is_given_up() {
    let upstream = Upstream::raw(|socket, seen| {
        let mut reader = Reader::new(socket);
        while let Ok(Some(message)) = reader.request() {
            seen.keep(message);
        }
    });
    let edge = Setup::new(entities(&upstream.url(), json!({"read_timeout": 200}), json!({}))).start();
    let began = Instant::now();
    let answer = edge.ask(get("/", &[]));
    assert_eq!((answer.status(), edge.reason_of(&answer).as_str()), (504, "upstream_timeout"));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // There is no other address to try.
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_response_that_breaks_off_is_cut() {
    let upstream = Upstream::with(|_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it").close());
    let edge = Setup::new(entities(&upstream.url(), json!({}), json!({}))).start();
    let mut client = edge.connect();
    client.send(get("/", &[]));
    assert!(client.try_response("GET").is_err());
    let line = edge.access(|line| line["status"] == 200);
    assert_eq!(
        (&line["reason"], &line["upstream"]),
        (&json!("upstream_reset"), &json!(upstream.address().to_string()))
    );
}

#[test]
fn a_slow_client_costs_an_upstream_nothing_where_its_route_buffers() {
    for (route, early) in [(json!({}), 0), (json!({"request_buffering": false}), 1)] {
        let upstream = Upstream::with(|request| Reply::ok(&request.text()));
        let edge = Setup::new(entities(&upstream.url(), json!({}), route)).start();
        let mut client = edge.connect();
        client.send("POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n");
        assert_eq!(client.response().status(), 100);
        client.send("abc");
        let end = Instant::now() + Duration::from_secs(5);
        while upstream.connections() < early && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(upstream.connections(), early);
        client.send("def");
        assert_eq!(client.response().text(), "abcdef");
    }
    // What is beyond the buffer streams from there on.
    let upstream = Upstream::with(|request| Reply::ok(&request.body.len().to_string()));
    let edge =
        Setup::new(entities(&upstream.url(), json!({}), json!({}))).section("[limits]\nbuffer_bytes = 4096").start();
    let body = "x".repeat(3 << 20);
    let request = format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(edge.ask(request).text(), body.len().to_string());
}

#[test]
fn what_has_come_passes_at_once_whether_buffered_or_not() {
    for route in [json!({}), json!({"response_buffering": false})] {
        let upstream = Upstream::raw(|socket, _| {
            let mut reader = Reader::new(socket);
            let Ok(Some(_)) = reader.request() else { return };
            let stream = reader.stream();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n");
            std::thread::sleep(Duration::from_secs(1));
            let _ = write!(stream, "0\r\n\r\n");
        });
        let edge = Setup::new(entities(&upstream.url(), json!({}), route)).start();
        let mut client = edge.connect();
        let began = Instant::now();
        client.send(get("/", &[]));
        assert_eq!(client.head().status(), 200);
        let mut seen = Vec::new();
        while !seen.windows(5).any(|part| part == b"event") {
            seen.extend(client.bytes().unwrap());
        }
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    }
}
