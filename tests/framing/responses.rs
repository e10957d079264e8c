//! Raw responses of an upstream (H18, H19): what the client sees of each, and whether the connection it came on serves
//! another request.

use std::io::Write;
use std::sync::mpsc;

use edge_tests::edge::{Edge, Setup};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Reader, get, until_read};
use serde_json::json;

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

use Sees::{Cut, Malformed, Reset, Whole};

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

use Then::{Closed, Dropped, Kept};

/// Why, the request's method, the response, what the client sees, what follows.
type Row = (&'static str, &'static str, &'static str, Sees, Then);

const OK: &str = "HTTP/1.1 200 OK\r\n";

/// Status lines (RFC 9112, 4).
const STATUS_LINES: &[Row] = &[
    ("the neighbour of all these", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Whole(200, "ok"), Kept),
    ("no reason phrase", "GET", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", Whole(200, "ok"), Kept),
    ("nor its space", "GET", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", Whole(200, "ok"), Kept),
    ("a status nobody defined", "GET", "HTTP/1.1 299 X\r\nContent-Length: 2\r\n\r\nok", Whole(299, "ok"), Kept),
    ("another major version", "GET", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("HTTP/0.9 by name", "GET", "HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("a minor version nobody defined", "GET", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("the name in lower case", "GET", "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("another name", "GET", "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("letters for a status", "GET", "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("two digits", "GET", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("four digits", "GET", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("below 100", "GET", "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("above 599", "GET", "HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("a sign", "GET", "HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("no status", "GET", "HTTP/1.1\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("two spaces", "GET", "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("a tab", "GET", "HTTP/1.1\t200 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("NUL in the reason phrase", "GET", "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("a bare CR in it", "GET", "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("ESC in it", "GET", "HTTP/1.1 200 \x1b[31m\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("a request", "GET", "GET / HTTP/1.1\r\nHost: t\r\n\r\n", Malformed, Dropped),
    ("another protocol", "GET", "SSH-2.0-OpenSSH_9.2\r\n\r\n", Malformed, Dropped),
    ("content and no head, as HTTP/0.9", "GET", "<html>\r\n<body>\r\n\r\n</html>", Malformed, Dropped),
    ("an empty line before it", "GET", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("nothing and the end", "GET", "", Reset, Closed),
    ("half a head and the end", "GET", "HTTP/1.1 200 OK\r\nContent-Le", Malformed, Closed),
];

/// Fields and framing (RFC 9112, 5 and 6.3).
const HEADS: &[Row] = &[
    (
        "length and chunks",
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Malformed,
        Dropped,
    ),
    (
        "chunks and length",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        Malformed,
        Dropped,
    ),
    ("two lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", Malformed, Dropped),
    (
        "twice one length",
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        Malformed,
        Dropped,
    ),
    ("a list of lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", Malformed, Dropped),
    ("a signed length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", Malformed, Dropped),
    ("a negative length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", Malformed, Dropped),
    ("a length in hex", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok", Malformed, Dropped),
    ("an empty length", "GET", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", Malformed, Dropped),
    (
        "a length that wraps",
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok",
        Malformed,
        Dropped,
    ),
    ("a length of letters", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n", Malformed, Dropped),
    ("a coding not asked for", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", Malformed, Dropped),
    (
        "a list of codings",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        Malformed,
        Dropped,
    ),
    ("identity", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok", Malformed, Dropped),
    (
        "chunked twice",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Malformed,
        Dropped,
    ),
    ("nearly chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Malformed, Dropped),
    ("chunks in HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Malformed, Dropped),
    (
        "white space before a colon",
        "GET",
        "HTTP/1.1 200 OK\r\nName : x\r\nContent-Length: 2\r\n\r\nok",
        Malformed,
        Dropped,
    ),
    ("a folded line", "GET", "HTTP/1.1 200 OK\r\nName: x\r\n y\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("a line without a colon", "GET", "HTTP/1.1 200 OK\r\nName\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("an empty name", "GET", "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("a name in UTF-8", "GET", "HTTP/1.1 200 OK\r\nN\u{e4}me: x\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("NUL in a value", "GET", "HTTP/1.1 200 OK\r\nName: a\0b\r\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    (
        "a bare CR in a value",
        "GET",
        "HTTP/1.1 200 OK\r\nName: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok",
        Malformed,
        Dropped,
    ),
    ("bare line feeds", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Malformed, Dropped),
    ("one bare line feed", "GET", "HTTP/1.1 200 OK\r\nName: a\nContent-Length: 2\r\n\r\nok", Malformed, Dropped),
    ("HTTP/1.0 with a length", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Whole(200, "ok"), Dropped),
    (
        "HTTP/1.0 that is kept",
        "GET",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        Whole(200, "ok"),
        Kept,
    ),
    (
        "the end is wanted",
        "GET",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        Whole(200, "ok"),
        Dropped,
    ),
    ("content up to the end", "GET", "HTTP/1.1 200 OK\r\n\r\nall of it", Whole(200, "all of it"), Closed),
];

/// Content, and what has none (RFC 9110, 6.4.1; RFC 9112, 6.3 and 7.1).
const CONTENT: &[Row] = &[
    (
        "chunks",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Whole(200, "ok"),
        Kept,
    ),
    (
        "chunks with extensions and trailers",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0;c\r\nX-Sum: 1\r\n\r\n",
        Whole(200, "ok"),
        Kept,
    ),
    ("a length and less", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok", Cut, Closed),
    ("chunks without the last", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Cut, Closed),
    (
        "a last chunk without its empty line",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
        Cut,
        Closed,
    ),
    ("half a chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", Cut, Closed),
    (
        "a chunk size in 0x",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
        Cut,
        Dropped,
    ),
    (
        "a signed chunk size",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n",
        Cut,
        Dropped,
    ),
    (
        "a chunk size that wraps",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n",
        Cut,
        Dropped,
    ),
    (
        "letters for a chunk size",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n",
        Cut,
        Dropped,
    ),
    (
        "a size line ended by LF",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
        Cut,
        Dropped,
    ),
    (
        "a chunk without its line end",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok0\r\n\r\n",
        Cut,
        Dropped,
    ),
    (
        "more data than the chunk's size",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
        Cut,
        Dropped,
    ),
    (
        "LF in a chunk extension",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\nb\r\nok\r\n0\r\n\r\n",
        Cut,
        Dropped,
    ),
    (
        "a malformed trailer",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nbad\r\n\r\n",
        Cut,
        Dropped,
    ),
    (
        "a folded trailer",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: a\r\n b\r\n\r\n",
        Cut,
        Dropped,
    ),
    (
        "extra bytes behind a length",
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokEXTRA",
        Whole(200, "ok"),
        Dropped,
    ),
    (
        "a second response behind a length",
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
        Whole(200, "ok"),
        Dropped,
    ),
    (
        "a second response behind chunks",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
        Whole(200, "ok"),
        Dropped,
    ),
    ("an empty line behind it", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n", Whole(200, "ok"), Dropped),
    ("HEAD with a length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", Whole(200, ""), Kept),
    ("HEAD with chunks told", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Whole(200, ""), Kept),
    ("HEAD with content", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen", Whole(200, ""), Dropped),
    (
        "HEAD with content in chunks",
        "HEAD",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nstolen\r\n0\r\n\r\n",
        Whole(200, ""),
        Dropped,
    ),
    ("204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", Whole(204, ""), Kept),
    ("204 with a length of 0", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Whole(204, ""), Kept),
    ("204 with content", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nstolen", Whole(204, ""), Dropped),
    (
        "204 with chunks",
        "GET",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nstolen\r\n0\r\n\r\n",
        Whole(204, ""),
        Dropped,
    ),
    (
        "304 with the length of what it stands for",
        "GET",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n",
        Whole(304, ""),
        Kept,
    ),
    (
        "304 with content",
        "GET",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nstolen",
        Whole(304, ""),
        Dropped,
    ),
    (
        "205 with content by length",
        "GET",
        "HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nok",
        Whole(205, "ok"),
        Kept,
    ),
];

/// Interim responses (RFC 9110, 15.2).
const INTERIM: &[Row] = &[
    (
        "100",
        "GET",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Whole(200, "ok"),
        Kept,
    ),
    (
        "100 twice",
        "GET",
        "HTTP/1.1 100 A\r\n\r\nHTTP/1.1 100 B\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Whole(200, "ok"),
        Kept,
    ),
    (
        "100 with a length, which has no content",
        "GET",
        "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Whole(200, "ok"),
        Kept,
    ),
    (
        "100 with content",
        "GET",
        "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Malformed,
        Dropped,
    ),
    ("100 and the end", "GET", "HTTP/1.1 100 Continue\r\n\r\n", Reset, Closed),
    (
        "100 and a malformed response",
        "GET",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        Malformed,
        Dropped,
    ),
    (
        "a malformed 100",
        "GET",
        "HTTP/1.1 100 Continue\r\nX : y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Malformed,
        Dropped,
    ),
    (
        "101 nobody asked for",
        "GET",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        Malformed,
        Dropped,
    ),
    (
        "101 and a response behind",
        "GET",
        "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
        Malformed,
        Dropped,
    ),
];

/// An edge with one worker, so that one pool of connections, before this upstream.
fn edge(upstream: &Upstream) -> Edge {
    let route = json!([{"name": "all", "paths": ["/"], "strip_path": false}]);
    let service = json!({"name": "up", "url": upstream.url(), "retries": 0, "routes": route});
    Setup::new(json!({"_format_version": "3.0", "services": [service]}).to_string()).workers(1).start()
}

/// Sends the request of each row, on a connection of its own, and the same good one behind each.
fn check(rows: &'static [Row]) {
    let upstream = Upstream::with(|request| match request.target()[1..].parse::<usize>() {
        Ok(index) if rows[index].4 == Closed => Reply::raw(rows[index].2).close(),
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
            (Whole(status, content), Ok(answer)) => {
                assert_eq!((answer.status(), answer.text().as_str()), (*status, *content), "{why}");
            }
            (Malformed, Ok(answer)) => failures.push((why, answer, "upstream_malformed")),
            (Reset, Ok(answer)) => failures.push((why, answer, "upstream_reset")),
            (Cut, Ok(answer)) => assert_eq!(answer.status(), 502, "{why}: whole, {:?}", answer.text()),
            (Cut, Err(error)) => assert!(error.to_string().contains("closed"), "{why}: {error:#}"),
            (sees, Err(error)) => panic!("{why}: {error:#} for {sees:?}"),
        }
        let connections = upstream.connections();
        assert_eq!(edge.ask(get("/mine", &[])).text(), "mine", "behind {why}");
        let fresh = usize::from(*then != Kept);
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
