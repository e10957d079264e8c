//! Raw responses of an upstream (H18, H19): what the client sees of each, and whether the connection it came on serves
//! another request.

mod tables;

use std::io::Write;
use std::sync::mpsc;

use edge_tests::edge::{Edge, Setup};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Reader, get, until_read};
use serde_json::json;

use self::tables::{CONTENT, HEADS, INTERIM, STATUS_LINES};

/// What the client must see.
#[derive(Clone, Copy, Debug)]
enum Sees {
    /// 502 with the reason `upstream_malformed`.
    Malformed,
    /// 502 with the reason `upstream_reset`.
    Reset,
    /// This status and content.
    Whole(u16, &'static str),
    /// 502, or a head and a message that is visibly cut off: never a whole one.
    Cut,
}

/// What follows on the upstream's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It is used again.
    Kept,
    /// It is not, although the upstream leaves it open.
    Dropped,
    /// The upstream closes it.
    Closed,
}

/// Why, the request's method, the response, what the client sees, what follows.
type Row = (&'static str, &'static str, &'static str, Sees, Then);

const OK: &str = "HTTP/1.1 200 OK\r\n";

/// An edge with one worker, so that one pool of connections, before this upstream.
fn edge(upstream: &Upstream) -> Edge {
    let route = json!([{"name": "all", "paths": ["/"], "strip_path": false}]);
    let service = json!({"name": "up", "url": upstream.url(), "retries": 0, "routes": route});
    Setup::new(json!({"_format_version": "3.0", "services": [service]}).to_string()).workers(1).start()
}

/// Sends the request of each row, on a connection of its own, and the same good one behind each.
fn check(rows: &'static [Row]) {
    let upstream = Upstream::with(|request| match request.target()[1..].parse::<usize>() {
        Ok(index) if rows[index].4 == Then::Closed => Reply::raw(rows[index].2).close(),
        Ok(index) => Reply::raw(rows[index].2),
        Err(_) => Reply::ok("mine"),
    });
    let edge = edge(&upstream);
    let mut failures = Vec::new();
    for (index, (why, method, _, sees, then)) in rows.iter().enumerate() {
        // The row's own connection begins with it.
        let mut client = edge.connect();
        client.send(format!("{method} /{index} HTTP/1.1\r\nHost: t\r\n\r\n"));
        let answer = client.try_response(method);
        match (sees, answer) {
            (Sees::Whole(status, content), Ok(answer)) => {
                assert_eq!((answer.status(), answer.text().as_str()), (*status, *content), "{why}");
            }
            (Sees::Malformed, Ok(answer)) => failures.push((why, answer, "upstream_malformed")),
            (Sees::Reset, Ok(answer)) => failures.push((why, answer, "upstream_reset")),
            (Sees::Cut, Ok(answer)) => assert_eq!(answer.status(), 502, "{why}: whole, {:?}", answer.text()),
            (Sees::Cut, Err(error)) => assert!(error.to_string().contains("closed"), "{why}: {error:#}"),
            (sees, Err(error)) => panic!("{why}: {error:#} for {sees:?}"),
        }
        let connections = upstream.connections();
        assert_eq!(edge.ask(get("/mine", &[])).text(), "mine", "behind {why}");
        let fresh = usize::from(*then != Then::Kept);
        assert_eq!(upstream.connections(), connections + fresh, "connections behind {why}");
    }
    for (why, answer, reason) in failures {
        assert_eq!((answer.status(), edge.reason_of(&answer).as_str()), (502, reason), "{why}");
    }
    assert_eq!(upstream.faults(), [""; 0]);
}

#[test]
fn status_lines_are_as_the_grammar_has_them() {
    // H18
    check(STATUS_LINES);
}

#[test]
fn fields_and_framing_are_judged_as_those_of_requests() {
    // H18
    check(HEADS);
}

#[test]
fn content_ends_where_its_framing_says() {
    // H18, H19
    check(CONTENT);
}

#[test]
fn interim_responses_are_not_the_response() {
    // H18, H19
    check(INTERIM);
}

#[test]
fn the_tables_are_large() {
    let count = [STATUS_LINES, HEADS, CONTENT, INTERIM].iter().map(|rows| rows.len()).sum::<usize>();
    assert!(count >= 60, "{count} responses");
    let mut seen = std::collections::HashSet::new();
    for (why, method, raw, ..) in [STATUS_LINES, HEADS, CONTENT, INTERIM].concat() {
        assert!(seen.insert((method, raw)), "{why} stands in another row, too");
    }
}

#[test]
fn floods_of_head_and_trailers_are_bounded() {
    // H18, D3
    let upstream = Upstream::with(|request| {
        let floods = match request.target() {
            "/bytes" => format!("{OK}X: {}\r\n\r\n", "x".repeat(70_000)),
            "/endless" => format!("{OK}{}", "X: y\r\n".repeat(20_000)),
            "/fields" => format!("{OK}{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(300)),
            "/interim" => "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000),
            "/continue" => "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000),
            "/trailer" => {
                format!("{OK}Transfer-Encoding: chunked\r\n\r\n0\r\nX: {}\r\n\r\n", "x".repeat(9000))
            }
            "/extensions" => {
                format!("{OK}Transfer-Encoding: chunked\r\n\r\n2;{}\r\nok\r\n0\r\n\r\n", "e".repeat(5000))
            }
            _ => return Reply::ok("mine"),
        };
        Reply::raw(floods)
    });
    let edge = edge(&upstream);
    let mut failures = Vec::new();
    for (target, malformed) in [
        ("/bytes", true),
        ("/endless", true),
        ("/fields", true),
        ("/interim", true),
        ("/continue", true),
        ("/trailer", false),
        ("/extensions", false),
    ] {
        let mut client = edge.connect();
        client.send(get(target, &[]));
        let answer = loop {
            match client.try_response("GET") {
                Ok(answer) if answer.status() == 103 => {}
                answer => break answer,
            }
        };
        match answer {
            Ok(answer) => failures.push(answer),
            Err(error) => assert!(!malformed && error.to_string().contains("closed"), "{target}: {error:#}"),
        }
        let connections = upstream.connections();
        assert_eq!(edge.ask(get("/mine", &[])).text(), "mine", "behind {target}");
        assert_eq!(upstream.connections(), connections + 1, "the connection of {target} was used again");
    }
    for answer in failures {
        assert_eq!((answer.status(), edge.reason_of(&answer).as_str()), (502, "upstream_malformed"));
    }
}

#[test]
fn bytes_that_come_late_on_a_kept_connection_end_it() {
    // H19: a response to nobody, sent once the connection is idle, is not the next client's.
    let (told, late) = mpsc::channel();
    let upstream = Upstream::raw(move |socket, seen| {
        let mut reader = Reader::new(socket);
        while let Ok(Some(request)) = reader.request() {
            let is_first = request.target() == "/first";
            seen.keep(request);
            let stream = reader.stream();
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine").is_err() {
                return;
            }
            if is_first {
                until_read(stream);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen");
                let _ = told.send(());
            }
        }
    });
    let edge = edge(&upstream);
    for _ in 0..5 {
        assert_eq!(edge.ask(get("/first", &[])).text(), "mine");
        late.recv().unwrap();
        for _ in 0..3 {
            assert_eq!(edge.ask(get("/next", &[])).text(), "mine");
        }
    }
}

#[test]
fn an_answer_before_the_request_ended_leaves_nothing_behind() {
    // H18, H19: the upstream answers from the head alone and leaves the connection open; the content that was on its
    // way, or still is, never reads as a request of the next client's.
    for fields in ["", "Connection: close\r\n"] {
        let upstream = Upstream::raw(move |socket, seen| {
            let mut reader = Reader::new(socket);
            while let Ok(Some(head)) = reader.head() {
                let is_early = head.target() == "/early";
                seen.keep(head);
                let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 4\r\n\r\nmine");
                if reader.stream().write_all(answer.as_bytes()).is_err() || (is_early && !fields.is_empty()) {
                    return;
                }
                if is_early {
                    // Whatever else comes here belongs to the content.
                    let mut rest = Vec::new();
                    let _ = std::io::Read::read_to_end(reader.stream(), &mut rest);
                    return;
                }
            }
        });
        let route = json!([{"name": "all", "paths": ["/"], "strip_path": false, "request_buffering": false}]);
        let edge = Setup::new(crate::entities(&upstream.url(), route)).workers(1).start();
        let mut client = edge.connect();
        client.send("POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\nGET /smuggled HTTP/1.1\r\n");
        assert_eq!(client.response().text(), "mine");
        for _ in 0..3 {
            assert_eq!(edge.ask(get("/next", &[])).text(), "mine");
        }
        let targets: Vec<String> = upstream.requests().iter().map(|seen| seen.target().to_owned()).collect();
        assert_eq!(targets, ["/early", "/next", "/next", "/next"], "{fields:?}");
    }
}
