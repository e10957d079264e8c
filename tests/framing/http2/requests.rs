//! Requests of HTTP/2 that are none, or whole, and what the others of their connection see of it (RFC 9113, 8).

use edge_tests::h2raw::{END_HEADERS, END_STREAM, Outcome, PREFACE, Raw, block, frame, kind};
use edge_tests::upstream::Upstream;

use super::frames::Ends::{Malformed, Served};
use super::frames::{ACK, check, data, headers, with};
use super::{Fields, edge, fields, get, post};

#[test]
fn requests_are_whole_and_well_formed() {
    // RFC 9113, 8; H20 to H24
    let set = |name: &'static [u8], value: &'static [u8]| {
        let all = fields(b"GET").into_iter().map(|(n, v)| if n == name { (n, value) } else { (n, v) });
        headers(&block(&all.collect::<Fields<'_>>()))
    };
    let connect = |more: Fields<'static>| {
        headers(&block(&[vec![(&b":method"[..], &b"CONNECT"[..]), (b":authority", b"t:443")], more].concat()))
    };
    let trailers = |flags: u8, all: &[(&[u8], &[u8])]| {
        [post(1), data(1, 0, b"x"), frame(kind::HEADERS, END_HEADERS | flags, 1, &block(all))].concat()
    };
    check(vec![
        ("8.1", "trailers", trailers(END_STREAM, &[(b"x-sum", b"1")]), Served(200)),
        ("8.1", "trailers that do not end the stream", trailers(0, &[(b"x-sum", b"1")]), Malformed),
        (
            "8.1",
            "a pseudo-header in trailers, which the crate drops",
            trailers(END_STREAM, &[(b":path", b"/")]),
            Served(200),
        ),
        ("8.1", "a status in trailers likewise", trailers(END_STREAM, &[(b":status", b"200")]), Served(200)),
        ("8.2.1", "an upper-case trailer", trailers(END_STREAM, &[(b"X-Sum", b"1")]), Malformed),
        ("8.2.1", "a trailer with a line end", trailers(END_STREAM, &[(b"x-sum", b"1\r\nx: y")]), Malformed),
        ("8.2.2", "a trailer of the hop", trailers(END_STREAM, &[(b"connection", b"close")]), Malformed),
        ("8.1.1", "DATA over the length", [post_of(b"1"), data(1, END_STREAM, b"xy")].concat(), Malformed),
        ("8.1.1", "DATA under the length", [post_of(b"3"), data(1, END_STREAM, b"xy")].concat(), Malformed),
        ("8.1.1", "two lengths", [length_twice(), data(1, END_STREAM, b"xy")].concat(), Malformed),
        ("8.1.1", "the length", [post_of(b"2"), data(1, END_STREAM, b"xy")].concat(), Served(200)),
        ("8.2.1", "a space in a name", with(b"x y", b"1"), Malformed),
        ("8.2.1", "a colon in a name", with(b"x:y", b"1"), Malformed),
        ("8.2.1", "an 8-bit name", with(b"x\xe4", b"1"), Malformed),
        ("8.2.1", "DEL in a name", with(b"x\x7f", b"1"), Malformed),
        ("8.2.1", "NUL in a value", with(b"x", b"a\0b"), Malformed),
        ("8.2.1", "LF in a value", with(b"x", b"a\nb"), Malformed),
        ("8.2.1", "CR in a value", with(b"x", b"a\rb"), Malformed),
        ("8.2.1", "a space before a value", with(b"x", b" a"), Malformed),
        ("8.2.1", "a tab behind a value", with(b"x", b"a\t"), Malformed),
        ("8.2.2", "Transfer-Encoding: chunked (H2.TE)", with(b"transfer-encoding", b"chunked"), Malformed),
        ("8.2.2", "Proxy-Connection", with(b"proxy-connection", b"close"), Malformed),
        ("8.2.2", "TE: trailers, gzip", with(b"te", b"trailers, gzip"), Malformed),
        (
            "8.2.3",
            "cookie crumbs",
            headers(&block(&[fields(b"GET"), vec![(b"cookie", b"a=1"), (b"cookie", b"b=2")]].concat())),
            Served(200),
        ),
        ("8.3", "a pseudo-header behind a field", with(b":path", b"/x"), Malformed),
        (
            "8.3",
            "an unknown pseudo-header",
            headers(&block(&[vec![(&b":x"[..], &b"1"[..])], fields(b"GET")].concat())),
            Malformed,
        ),
        (
            "8.3.1",
            "a path with a line end (request line injection)",
            set(b":path", b"/ HTTP/1.1\r\nHost: internal.test\r\n\r\n"),
            Malformed,
        ),
        ("8.3.1", "a method with a line end", set(b":method", b"GET / HTTP/1.1\r\nX:"), Malformed),
        ("8.3.1", "an authority with a line end", set(b":authority", b"t\r\nX: y"), Malformed),
        ("8.3.1", "an authority with an escape that is none", set(b":authority", b"t%zz"), Malformed),
        ("8.3.1", "an authority in brackets that is no address", set(b":authority", b"[:.:]"), Malformed),
        ("8.3.1", "a path with a fragment, which the crate drops", set(b":path", b"/a#b"), Served(200)),
        ("8.3.1", "an absolute path", set(b":path", b"http://internal.test/"), Malformed),
        ("8.3.1", "an empty scheme", set(b":scheme", b""), Malformed),
        ("8.3.1", "Host that is not :authority", with(b"host", b"internal.test"), Malformed),
        ("8.5", "CONNECT with a path", connect(vec![(b":path", b"/")]), Malformed),
        ("8.5", "CONNECT with a scheme", connect(vec![(b":scheme", b"http"), (b":path", b"/")]), Malformed),
        ("8.5", "CONNECT", connect(Vec::new()), Served(405)),
        (
            "8441 4",
            "CONNECT with a protocol nobody offered",
            headers(&block(&[fields(b"CONNECT"), vec![(b":protocol", b"websocket")]].concat())),
            Malformed,
        ),
        ("8.7", "a good request", get(1), Served(200)),
    ]);
}

/// A POST with this length.
fn post_of(length: &'static [u8]) -> Vec<u8> {
    let mut all = fields(b"POST");
    all.push((b"content-length", length));
    frame(kind::HEADERS, END_HEADERS, 1, &block(&all))
}

fn length_twice() -> Vec<u8> {
    let mut all = fields(b"POST");
    all.extend([(&b"content-length"[..], &b"2"[..]), (b"content-length", b"2")]);
    frame(kind::HEADERS, END_HEADERS, 1, &block(&all))
}

#[test]
fn what_the_crate_drops_reaches_nobody() {
    // H23: pseudo-headers of trailers and the fragment of a path are dropped before the edge sees them, so router and
    // upstream know nothing of them.
    let upstream = Upstream::start();
    let edge = edge(&upstream, "");
    let mut raw = Raw::connect(edge.address());
    let trailers = block(&[(b":path", b"/other"), (b":authority", b"internal.test"), (b"x-sum", b"1")]);
    raw.send([post(1), data(1, 0, b"x"), frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &trailers)].concat());
    assert_eq!(raw.outcome(1), Outcome::Response(200));
    let seen = upstream.last();
    assert_eq!((seen.target(), seen.text().as_str()), ("/", "x"));
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    let mut path = fields(b"GET");
    path[3].1 = b"/a#/../b";
    let mut raw = Raw::connect(edge.address());
    raw.request(1, &path);
    assert_eq!((raw.outcome(1), upstream.last().target()), (Outcome::Response(200), "/a"));
}

#[test]
fn a_stream_that_ends_leaves_the_others() {
    // RFC 9113, 5.4.2, 6.4, 6.8, 7; H27
    let upstream = Upstream::start();
    let edge = edge(&upstream, "");
    for (why, first) in [
        ("reset with an unknown code", [post(1), frame(kind::RST_STREAM, 0, 1, &[0xff; 4])].concat()),
        ("malformed", with(b"host", b"internal.test")),
        ("over its length", [post_of(b"1"), data(1, END_STREAM, b"xy")].concat()),
        ("of a client that says GOAWAY behind", Vec::new()),
    ] {
        let mut raw = Raw::connect(edge.address());
        raw.send([first, get(3)].concat());
        if why.contains("GOAWAY") {
            raw.send(frame(kind::GOAWAY, 0, 0, &[0; 8]));
        }
        assert_eq!(raw.outcome(3), Outcome::Response(200), "{why}");
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn settings_and_pings_are_answered() {
    // RFC 9113, 6.5.3, 6.7
    let upstream = Upstream::start();
    let edge = edge(&upstream, "");
    let mut raw = Raw::connect(edge.address());
    raw.send(frame(kind::PING, 0, 0, b"12345678"));
    let (mut acknowledged, mut ponged) = (false, false);
    while !(acknowledged && ponged) {
        let frame = raw.frame().unwrap();
        acknowledged |= frame.kind == kind::SETTINGS && frame.flags == ACK && frame.payload.is_empty();
        ponged |= frame.kind == kind::PING && frame.flags == ACK && frame.payload == b"12345678";
    }
}

#[test]
fn a_preface_that_is_none_ends_the_connection() {
    // RFC 9113, 3.4
    let upstream = Upstream::start();
    let edge = edge(&upstream, "[timeouts]\nrequest_head = 1000\n");
    for (why, bytes) in [
        ("its second half is another", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec()),
        ("no SETTINGS follow", [PREFACE, &get(1)].concat()),
        ("its second half never comes", b"PRI * HTTP/2.0\r\n\r\nSM".to_vec()),
        ("SETTINGS never come", PREFACE.to_vec()),
    ] {
        let mut raw = Raw::silent(edge.address());
        raw.send(bytes);
        let outcome = raw.outcome(1);
        assert!(matches!(outcome, Outcome::GoAway(_) | Outcome::Closed), "{why}: {outcome:?}");
    }
    assert!(upstream.requests().is_empty());
}
