//! Requests whose framing could be read in two ways: one reading, or a refusal (security properties, 9).

use edge_tests::edge::{Edge, Setup};
use edge_tests::upstream::Upstream;
use edge_tests::wire::get;

use super::open;

/// Refused with one of these statuses, the connection closed, nothing of it upstream.
fn refused(edge: &Edge, request: impl AsRef<[u8]>, statuses: &[u16]) {
    let request = request.as_ref();
    let shown = String::from_utf8_lossy(request).into_owned();
    let mut client = edge.connect();
    // What follows must never be taken for a request of its own.
    client.send([request, b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"].concat());
    let answer = client.try_response("GET").unwrap_or_else(|e| panic!("{shown:?}: {e:#}"));
    assert!(statuses.contains(&answer.status()), "{} for {shown:?}", answer.start);
    assert!(client.closes(), "the connection goes on after {shown:?}");
}

/// Accepted as one request on a connection that goes on; what the upstream read as its content.
fn accepted(edge: &Edge, upstream: &Upstream, request: impl AsRef<[u8]>) -> String {
    let shown = String::from_utf8_lossy(request.as_ref()).into_owned();
    let before = upstream.requests().len();
    let mut client = edge.connect();
    let answer = client.ask(request);
    assert_eq!(answer.status(), 200, "{shown:?}");
    assert_eq!(client.ask(get("/next", &[])).status(), 200, "the connection ends after {shown:?}");
    let seen = upstream.requests();
    assert_eq!(seen.len(), before + 2, "{shown:?}");
    assert_eq!(seen[before + 1].target(), "/next");
    seen[before].text()
}

/// Checks a table; a status list refuses, none accepts.
fn check(rows: &[(&str, &[u16])]) {
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    let mut passed = 0;
    for (request, statuses) in rows {
        if statuses.is_empty() {
            accepted(&edge, &upstream, request);
            passed += 2;
        } else {
            refused(&edge, request, statuses);
        }
        assert_eq!(upstream.requests().len(), passed, "{request:?}");
    }
    assert_eq!(upstream.faults(), [""; 0]);
}

const ACCEPTED: &[u16] = &[];
const BAD: &[u16] = &[400];

#[test]
fn length_and_coding_together_are_refused() {
    // H1
    check(&[
        ("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
        ("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", BAD),
        ("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", BAD),
        ("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ACCEPTED),
        ("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello", ACCEPTED),
    ]);
}

#[test]
fn only_one_final_chunked_is_a_coding() {
    // H2
    let refuse: &[u16] = &[400, 501];
    let row = |coding: &str| format!("POST / HTTP/1.1\r\nHost: t\r\n{coding}\r\n\r\n0\r\n\r\n");
    let rows = [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: 'chunked'",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: chunked\0",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "X: a\r\n\tTransfer-Encoding: chunked",
        "Transfer-Encoding: chu\u{f1}ked",
        "Transfer\u{2d}Encoding\u{a0}: chunked",
    ]
    .map(row);
    let mut table: Vec<(&str, &[u16])> = rows.iter().map(|row| (row.as_str(), refuse)).collect();
    let spellings =
        ["transfer-encoding: chunked", "TRANSFER-ENCODING:CHUNKED", "Transfer-Encoding: \tchunked \t"].map(row);
    table.extend(spellings.iter().map(|row| (row.as_str(), ACCEPTED)));
    check(&table);
}

#[test]
fn content_length_is_digits() {
    // H3
    let row = |length: &str| format!("POST / HTTP/1.1\r\nHost: t\r\n{length}\r\n\r\nhello");
    let rows = [
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5_0",
        "Content-Length: 5 5",
        "Content-Length: 5, 5",
        "Content-Length: 5,6",
        "Content-Length: ",
        "Content-Length: 5.0",
        "Content-Length: 5e0",
        "Content-Length: 18446744073709551621",
        "Content-Length: 99999999999999999999999999",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: \u{663}",
        "Content-Length: 5\r\n 5",
        "Content-Length : 5",
    ]
    .map(row);
    let mut table: Vec<(&str, &[u16])> = rows.iter().map(|row| (row.as_str(), BAD)).collect();
    let good = ["Content-Length: 5", "content-length:5", "CONTENT-LENGTH: \t5\t "].map(row);
    table.extend(good.iter().map(|row| (row.as_str(), ACCEPTED)));
    check(&table);
}

#[test]
fn a_bad_chunk_never_completes_the_request() {
    // H4
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    let head = "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(70_000));
    for body in [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5_\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\0b\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nbad name: x\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        long.as_str(),
    ] {
        let mut client = edge.connect();
        // The refusal may come, and close, before everything is sent.
        let _ = client.try_send(format!("{head}{body}GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n"));
        let answer = client.try_response("GET");
        let shown: String = body.chars().take(40).collect();
        if let Ok(answer) = answer {
            assert_eq!(answer.status(), 400, "{shown:?}");
        }
        assert!(client.closes(), "the connection goes on after {shown:?}");
        assert!(upstream.requests().is_empty(), "the upstream completed {shown:?}");
    }
    for body in [
        "5\r\nhello\r\n0\r\n\r\n",
        "05;x=y\r\nhello\r\n000\r\n\r\n",
        "2\r\nhe\r\n3\r\nllo\r\n0\r\nX: a\r\n\r\n",
        "A\r\nhellohello\r\n0\r\n\r\n",
    ] {
        let content = accepted(&edge, &upstream, format!("{head}{body}"));
        assert!(content == "hello" || content == "hellohello", "{content}");
    }
}

#[test]
fn http_1_0_knows_no_codings() {
    // H6
    check(&[
        ("POST / HTTP/1.0\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
        ("POST / HTTP/1.0\r\nHost: t\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
    ]);
}

#[test]
fn field_lines_are_as_the_grammar_has_them() {
    // H7, H8
    let row = |line: &str| format!("GET / HTTP/1.1\r\nHost: t\r\n{line}\r\n\r\n");
    let rows = [
        "Name : x",
        "Name\t: x",
        ": x",
        "no colon",
        "Na me: x",
        "N\u{e4}me: x",
        "Na(me: x",
        "Na\"me: x",
        "Na\0me: x",
        "Name: a\0b",
        "Name: a\rb",
        "Name: a\nb: c",
        "Name: a\r b",
        "Name: a\u{1}b",
        "Name: a\u{7f}b",
        "Name: a\r\n b",
        "Name: a\r\n\tb",
    ]
    .map(row);
    let mut table: Vec<(&str, &[u16])> = rows.iter().map(|row| (row.as_str(), BAD)).collect();
    let first = "GET / HTTP/1.1\r\n Host: t\r\n\r\n";
    table.push((first, BAD));
    let good =
        ["Name: x", "Name:x", "Name:", "Name: \t a\tb c ", "!#$%&'*+-.^_`|~9: x", "Name: \u{e4}\u{f6}", "Name: a:b::c"]
            .map(row);
    table.extend(good.iter().map(|row| (row.as_str(), ACCEPTED)));
    check(&table);
}

#[test]
fn line_ends_are_crlf() {
    // H8: where RFC 9112, 2.2 lets a recipient take a bare LF, this one refuses.
    check(&[
        ("GET / HTTP/1.1\nHost: t\n\n", BAD),
        ("GET / HTTP/1.1\r\nHost: t\nX: y\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: t\r\nX: y\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: t\r\n\n", BAD),
        ("GET / HTTP/1.1\rHost: t\r\r", BAD),
        ("GET / HTTP/1.1\r\nHost: t\r\n\r\n", ACCEPTED),
        // RFC 9112, 2.2: at least one empty line before the request line is skipped.
        ("\r\nGET / HTTP/1.1\r\nHost: t\r\n\r\n", ACCEPTED),
    ]);
}

#[test]
fn the_request_line_has_three_parts() {
    // H9
    let version: &[u16] = &[400, 505];
    check(&[
        ("GET / HTTP/2.0\r\nHost: t\r\n\r\n", version),
        ("GET / HTTP/3.0\r\nHost: t\r\n\r\n", version),
        ("GET / HTTP/0.9\r\nHost: t\r\n\r\n", version),
        ("GET / HTTP/1.10\r\nHost: t\r\n\r\n", version),
        ("GET / HTTP/1\r\nHost: t\r\n\r\n", version),
        ("GET / http/1.1\r\nHost: t\r\n\r\n", version),
        ("GET / HTTP/1.1 \r\nHost: t\r\n\r\n", version),
        ("GET /\r\nHost: t\r\n\r\n", version),
        ("GET  / HTTP/1.1\r\nHost: t\r\n\r\n", BAD),
        ("GET /  HTTP/1.1\r\nHost: t\r\n\r\n", version),
        ("GET\t/ HTTP/1.1\r\nHost: t\r\n\r\n", BAD),
        (" GET / HTTP/1.1\r\nHost: t\r\n\r\n", BAD),
        ("G\0ET / HTTP/1.1\r\nHost: t\r\n\r\n", BAD),
        ("GET /a b HTTP/1.1\r\nHost: t\r\n\r\n", version),
        ("GET /a\u{7}b HTTP/1.1\r\nHost: t\r\n\r\n", BAD),
        ("GET orders HTTP/1.1\r\nHost: t\r\n\r\n", BAD),
        ("GET /a#b HTTP/1.1\r\nHost: t\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: t\r\n\r\n", ACCEPTED),
        ("G-E_T / HTTP/1.1\r\nHost: t\r\n\r\n", ACCEPTED),
    ]);
}

#[test]
fn exactly_one_valid_host_is_needed() {
    // H10
    check(&[
        ("GET / HTTP/1.1\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", BAD),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", ACCEPTED),
        ("GET / HTTP/1.1\r\nHost: a:8000\r\n\r\n", ACCEPTED),
        ("GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", ACCEPTED),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", ACCEPTED),
    ]);
}

#[test]
fn absolute_form_names_the_one_host() {
    // H11
    let upstream = Upstream::start();
    let routes = serde_json::json!([
        {"name": "inner", "hosts": ["inner.test"], "paths": ["/"], "strip_path": false, "preserve_host": true},
        {"name": "outer", "hosts": ["outer.test"], "paths": ["/"], "strip_path": false, "preserve_host": true},
    ]);
    let edge = Setup::new(super::entities(&upstream.url(), routes)).start();
    let answer = edge.ask("GET http://outer.test/a?b HTTP/1.1\r\nHost: inner.test\r\n\r\n");
    assert_eq!(answer.status(), 200);
    let request = upstream.last();
    assert_eq!((request.start.as_str(), request.field("host")), ("GET /a?b HTTP/1.1", Some("outer.test")));
    assert_eq!(request.field("x-forwarded-host"), Some("outer.test"));
    let line = edge.access(|line| line["status"] == 200);
    assert_eq!((line["route"].as_str(), line["host"].as_str()), (Some("outer"), Some("outer.test")));
    assert_eq!(edge.ask("GET http://inner.test HTTP/1.1\r\nHost: inner.test\r\n\r\n").status(), 200);
    assert_eq!(upstream.last().start, "GET / HTTP/1.1");
}

#[test]
fn methods_that_mean_another_thing_to_a_proxy_are_refused() {
    // H12
    let refuse: &[u16] = &[400, 405, 501];
    check(&[
        ("CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n", refuse),
        ("TRACE / HTTP/1.1\r\nHost: t\r\n\r\n", refuse),
        ("OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n", refuse),
        ("GET * HTTP/1.1\r\nHost: t\r\n\r\n", refuse),
        ("OPTIONS / HTTP/1.1\r\nHost: t\r\n\r\n", ACCEPTED),
    ]);
}

#[test]
fn content_behind_an_early_answer_is_never_a_request() {
    // H13, H16: 404 and 401 come before the body, 100 is not sent, and the body is drained or the connection closed.
    let good = super::Guarded::start();
    let mut client = good.edge.connect();
    client.send("POST /orders HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 48\r\n\r\n");
    assert_eq!(client.response().status(), 401, "credentials are looked at before 100");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: t\r\nX: abcdefgh\r\n\r\n";
    assert_eq!(smuggled.len(), 48);
    let token = good.token();
    let after = format!("GET /after HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\n\r\n");
    for framing in [
        "Content-Length: 48\r\n\r\n".to_owned() + smuggled,
        format!("Transfer-Encoding: chunked\r\n\r\n30\r\n{smuggled}\r\n0\r\n\r\n"),
    ] {
        let mut client = good.edge.connect();
        client.send(format!("POST /orders HTTP/1.1\r\nHost: t\r\n{framing}{after}"));
        assert_eq!(client.response().status(), 401);
        match client.try_response("GET") {
            // Drained: the next answer belongs to what was sent after the body.
            Ok(answer) => assert_eq!(answer.status(), 200),
            Err(_) => assert!(client.closes()),
        }
        assert!(good.upstream.requests().iter().all(|request| request.target() == "/after"));
    }
    // The same by a request that carries a good token passes.
    let mut client = good.edge.connect();
    let answer = client.ask(format!(
        "POST /orders HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nContent-Length: 48\r\n\r\n{smuggled}"
    ));
    assert_eq!((answer.status(), good.upstream.last().text().as_str()), (200, smuggled));
}

#[test]
fn every_request_of_a_connection_is_authenticated_on_its_own() {
    // H17
    let good = super::Guarded::start();
    let token = good.token();
    let mut client = good.edge.connect();
    for _ in 0..3 {
        assert_eq!(client.ask(super::with_token(&token)).status(), 200);
        let answer = client.ask(get("/orders", &[]));
        assert_eq!(answer.status(), 401);
        if answer.says_close() {
            client = good.edge.connect();
        }
    }
    let mut burst = super::with_token(&token);
    burst.extend(get("/orders", &[]));
    burst.extend(super::with_token(&token));
    let mut client = good.edge.connect();
    client.send(burst);
    assert_eq!([client.response().status(), client.response().status()], [200, 401]);
    assert!(good.upstream.requests().iter().all(|request| request.field("authorization").is_some()));
}
