use proptest::prelude::*;

use super::*;

fn parse(bytes: &[u8]) -> Result<(Head, RequestMeta), Error> {
    let length = Scanner::default().find_end(bytes)?.ok_or(Error::Malformed("incomplete"))?;
    let mut head = Head::default();
    let meta = request(&bytes[..length], &mut head, 64)?;
    Ok((head, meta))
}

const PLAIN: RequestMeta =
    RequestMeta { framing: Framing::None, persistent: true, expect_continue: false, upgrade: false };

fn check(fields: &str, expected: Result<RequestMeta, Error>) {
    let text = format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    assert_eq!(parse(text.as_bytes()).map(|(_, meta)| meta), expected, "{fields:?}");
}

// H1, H2, H3: one way to frame a body, or none.
#[test]
fn framing_is_told_once_and_plainly() {
    check("", Ok(PLAIN));
    check("Content-Length: 5\r\n", Ok(RequestMeta { framing: Framing::Length(5), ..PLAIN }));
    check("content-length:5\r\n", Ok(RequestMeta { framing: Framing::Length(5), ..PLAIN }));
    check("Content-Length: 0\r\n", Ok(RequestMeta { framing: Framing::Length(0), ..PLAIN }));
    check("Content-Length: 18446744073709551615\r\n", Ok(RequestMeta { framing: Framing::Length(u64::MAX), ..PLAIN }));
    for value in ["+5", "-5", "0x5", "5_0", "5 5", "5, 5", "5,5", "", "18446744073709551616", "5.0", "５", "\"5\""] {
        check(&format!("Content-Length: {value}\r\n"), Err(Error::Framing("Content-Length is not a number")));
    }
    check("Content-Length: 5\r\nContent-Length: 5\r\n", Err(Error::Framing("more than one Content-Length")));
    for value in ["chunked", "Chunked", "CHUNKED"] {
        check(&format!("Transfer-Encoding: {value}\r\n"), Ok(RequestMeta { framing: Framing::Chunked, ..PLAIN }));
    }
    for value in [
        "",
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunked,",
        "chunked;q=1",
        "\"chunked\"",
        "xchunked",
        "identity",
    ] {
        check(
            &format!("Transfer-Encoding: {value}\r\n"),
            Err(Error::Framing("Transfer-Encoding other than one chunked")),
        );
    }
    check(
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        Err(Error::Framing("Transfer-Encoding other than one chunked")),
    );
    for both in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"]
    {
        check(both, Err(Error::Framing("Content-Length beside Transfer-Encoding")));
    }
}

// H6
#[test]
fn old_versions_do_not_chunk() {
    let old = |fields: &str| parse(format!("GET / HTTP/1.0\r\n{fields}\r\n").as_bytes()).map(|(_, meta)| meta);
    assert_eq!(old("Transfer-Encoding: chunked\r\n"), Err(Error::Framing("Transfer-Encoding in HTTP/1.0")));
    assert_eq!(old(""), Ok(RequestMeta { persistent: false, ..PLAIN }));
    assert_eq!(old("Connection: keep-alive\r\n"), Ok(PLAIN));
    assert_eq!(old("Expect: anything\r\n"), Ok(RequestMeta { persistent: false, ..PLAIN }));
}

// H7, H8
#[test]
fn fields_follow_the_grammar() {
    for bad in [
        "A : b\r\n",
        " A: b\r\n",
        "\tA: b\r\n",
        ": b\r\n",
        "A\r\n",
        "A b: c\r\n",
        "A\u{e9}: b\r\n",
        "A: b\0c\r\n",
        "A: b\rc\r\n",
        "A: b\r\n c\r\n",
        "A: b\r\n\tc\r\n",
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{bad}\r\n");
        assert!(matches!(parse(text.as_bytes()), Err(Error::Malformed(_))), "{bad:?}");
    }
    check("A: b\nB: c\r\n", Err(Error::Malformed("bare line feed")));
    let (head, _) = parse(b"GET / HTTP/1.1\r\nHost: a\r\nA:\t b \t\r\nB:\r\n\r\n").expect("valid");
    assert_eq!(head.fields().map(|field| field.value).collect::<Vec<_>>(), [&b"a"[..], b"b", b""]);
}

// H9
#[test]
fn request_lines_have_three_parts() {
    for (line, expected) in [
        ("GET / HTTP/1.1", None),
        ("get /a?b=c HTTP/1.1", None),
        ("GET http://a/ HTTP/1.1", None),
        ("GET /", Some(Error::Malformed("request line"))),
        ("GET  / HTTP/1.1", Some(Error::Malformed("request line"))),
        ("GET /  HTTP/1.1", Some(Error::Malformed("version"))),
        ("GET / a HTTP/1.1", Some(Error::Malformed("version"))),
        ("GET / HTTP/1.1 ", Some(Error::Malformed("line end"))),
        (" GET / HTTP/1.1", Some(Error::Malformed("request line"))),
        ("G(T / HTTP/1.1", Some(Error::Malformed("request line"))),
        ("GET /\u{e9} HTTP/1.1", Some(Error::Malformed("request target"))),
        ("GET /#a HTTP/1.1", Some(Error::Malformed("request target"))),
        ("GET / HTTP/1.2", Some(Error::Version)),
        ("GET / HTTP/2.0", Some(Error::Version)),
        ("GET / HTTP/0.9", Some(Error::Version)),
        ("GET / http/1.1", Some(Error::Malformed("version"))),
        ("GET / a HTTP/2.0", Some(Error::Malformed("version"))),
        ("GET / HTTP/11", Some(Error::Malformed("version"))),
    ] {
        let seen = parse(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).err();
        assert_eq!(seen.is_some(), expected.is_some(), "{line:?}: {seen:?}");
        let is_version = |error| error == Some(Error::Version);
        assert_eq!(is_version(seen), is_version(expected), "{line:?}: {seen:?}");
    }
}

// H10
#[test]
fn host_stands_exactly_once() {
    let host = |fields: &str| parse(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes()).err();
    for good in ["a", "a.b:80", "127.0.0.1:8000", "[::1]:8000", "[::ffff:1.2.3.4]", "A_b", "a:", "%61"] {
        assert_eq!(host(&format!("Host: {good}\r\n")), None, "{good}");
    }
    for bad in [
        "",
        "a b",
        "a/b",
        "a@b",
        "a:x",
        "a:123456",
        "[::1",
        "::1",
        "a,b",
        "http://a",
        "a\tb",
        "[]",
        "a#b",
        "[:.:]",
        "[1.2.3.4]",
        "a%",
        "a%4",
        "a%zz",
    ] {
        assert_eq!(host(&format!("Host: {bad}\r\n")), Some(Error::Malformed("Host")), "{bad:?}");
    }
    let once = Some(Error::Malformed("Host must stand exactly once"));
    assert_eq!(host(""), once);
    assert_eq!(host("Host: a\r\nhost: a\r\n"), once);
}

// H16
#[test]
fn expectations_and_upgrades() {
    check("Expect: 100-Continue\r\n", Ok(RequestMeta { expect_continue: true, ..PLAIN }));
    check("Expect: 200-ok\r\n", Err(Error::Expectation));
    check("Connection: close\r\n", Ok(RequestMeta { persistent: false, ..PLAIN }));
    check("Connection: x, CLOSE\r\n", Ok(RequestMeta { persistent: false, ..PLAIN }));
    check("Connection: Upgrade\r\nUpgrade: websocket\r\n", Ok(RequestMeta { upgrade: true, ..PLAIN }));
    check("Upgrade: websocket\r\n", Ok(PLAIN));
    check("Connection: upgrade\r\n", Ok(PLAIN));
}

#[test]
fn too_many_fields_are_too_large() {
    let many =
        |count: usize| parse(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(count)).as_bytes()).err();
    assert_eq!(many(63), None);
    assert_eq!(many(64), Some(Error::TooLarge));
    assert_eq!(many(1000), Some(Error::TooLarge));
}

#[test]
fn a_head_is_found_however_it_is_cut() {
    let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\n";
    let mut scanner = Scanner::default();
    for end in 0..=text.len() {
        let found = scanner.find_end(&text[..end]).expect("no bare line feed");
        assert_eq!(found, (end == 27).then_some(27), "{end}");
        if found.is_some() {
            break;
        }
    }
    for bad in [&b"\nGET"[..], b"GET / HTTP/1.1\n\n", b"GET / HTTP/1.1\r\n\n"] {
        assert!(Scanner::default().find_end(bad).is_err(), "{bad:?}");
    }
}

// H18
#[test]
fn responses_are_framed_by_the_same_rules() {
    let check = |text: &str, to_head: bool, expected: Result<(Framing, Framing, bool), Error>| {
        let mut head = Head::default();
        let seen = response(text.as_bytes(), &mut head, to_head);
        assert_eq!(seen.map(|meta| (meta.framing, meta.declared, meta.persistent)), expected, "{text:?}");
    };
    use Framing::{Chunked, Eof, Length, None};
    check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false, Ok((Length(3), Length(3), true)));
    check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, Ok((None, Length(3), true)));
    check("HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n", false, Ok((None, Length(3), true)));
    check("HTTP/1.1 204 \r\nContent-Length: 3\r\n\r\n", false, Ok((None, None, true)));
    check("HTTP/1.1 200\r\n\r\n", false, Ok((Eof, Eof, false)));
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, Ok((Chunked, Chunked, true)));
    check("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", false, Ok((Length(3), Length(3), false)));
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        false,
        Err(Error::Framing("Content-Length beside Transfer-Encoding")),
    );
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        false,
        Err(Error::Framing("more than one Content-Length")),
    );
    check("HTTP/1.1 600 OK\r\n\r\n", false, Err(Error::Malformed("status code")));
    check("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", false, Err(Error::Malformed("field name")));
    check("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", false, Err(Error::Malformed("field name")));
}

// H5
#[test]
fn trailers_frame_and_identify_nothing() {
    let mut kept = Head::default();
    let section = b"X-Sum: 1\r\nContent-Length: 5\r\nHost: b\r\nAuthorization: x\r\nTransfer-Encoding: chunked\r\nCookie: a\r\nX-Two: 2\r\n\r\n";
    trailers(section, &mut kept).expect("valid");
    assert_eq!(kept.fields().map(|field| field.name).collect::<Vec<_>>(), [&b"X-Sum"[..], b"X-Two"]);
}

proptest! {
    // D6
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
        let mut head = Head::default();
        let _ = response(&bytes, &mut head, false);
        let _ = trailers(&bytes, &mut head);
    }

    // Whatever is accepted reads the same when written and read again.
    #[test]
    fn accepted_heads_read_the_same_again(
        target in "/[!-\"$-~]{0,20}",
        fields in proptest::collection::vec(("[A-Za-z][A-Za-z0-9_.-]{0,12}", "[!-~]([ -~]{0,20}[!-~])?"), 0..12),
    ) {
        let mut text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n");
        for (name, value) in &fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        if let Ok((head, meta)) = parse(text.as_bytes()) {
            let mut out = Vec::new();
            crate::http::h1::write::request(&mut out, &head, head.target(), meta.framing);
            out.extend_from_slice(b"\r\n");
            let (again, second) = parse(&out).expect("what is written is valid");
            prop_assert_eq!(meta, second);
            let all = |head: &Head| head.fields().map(|f| (f.name.to_vec(), f.value.to_vec())).collect::<Vec<_>>();
            prop_assert_eq!(all(&head), all(&again));
        }
    }
}
