use super::*;

fn response(status: u16, fields: &[(&str, &str)], ended: bool, to_head: bool) -> Result<(Framing, Framing), Fault> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(
            HeaderName::from_lowercase(name.as_bytes()).expect("a name"),
            HeaderValue::from_str(value).expect("a value"),
        );
    }
    let status = StatusCode::from_u16(status).expect("a status");
    let mut head = Head::default();
    let meta = read_response(status, &map, ended, to_head, &mut head)?;
    assert_eq!((head.status(), head.fields().len()), (status.as_u16(), fields.len()));
    Ok((meta.framing, meta.declared))
}

#[test]
fn responses_are_framed_as_they_say_or_refused() {
    let (none, length, chunked) = (Framing::None, Framing::Length, Framing::Chunked);
    let of = |length| [("content-length", length)];
    for (status, fields, ended, to_head, expected) in [
        (200, &[][..], false, false, Ok((chunked, chunked))),
        (200, &[], true, false, Ok((length(0), length(0)))),
        (200, &of("5"), false, false, Ok((length(5), length(5)))),
        (200, &of("5"), true, false, Err(Fault::Malformed)),
        (200, &of("5"), true, true, Ok((none, length(5)))),
        (304, &of("5"), true, false, Ok((none, length(5)))),
        (204, &[], true, false, Ok((none, none))),
        (103, &[("link", "</a>")], false, false, Ok((none, none))),
        (200, &of("-5"), false, false, Err(Fault::Malformed)),
        (200, &of(""), false, false, Err(Fault::Malformed)),
        (200, &[("content-length", "5"), ("content-length", "5")], false, false, Err(Fault::Malformed)),
        (200, &[("x", "a ")], false, false, Err(Fault::Malformed)),
        (200, &[("x\"y", "a")], false, false, Err(Fault::Malformed)),
        (101, &[], false, false, Err(Fault::Malformed)),
        (600, &[], false, false, Err(Fault::Malformed)),
    ] {
        assert_eq!(response(status, fields, ended, to_head), expected, "{status} {fields:?} {ended} {to_head}");
    }
}

#[test]
fn requests_carry_no_field_of_the_hop() {
    let mut head = Head::default();
    head.start_request(b"PATCH", b"/ignored", Version::Http11);
    for (name, value) in [
        ("Host", "a.example:81"),
        ("X-One", "1"),
        ("x-one", "2"),
        ("Connection", "close"),
        ("Keep-Alive", "1"),
        ("Proxy-Connection", "x"),
        ("Upgrade", "x"),
        ("TE", "gzip"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "9"),
    ] {
        head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
    }
    let sent = request(&head, b"/a%20b?q=1", true, Framing::Chunked, false).expect("a request");
    assert_eq!((sent.method().as_str(), sent.uri().to_string().as_str()), ("PATCH", "https://a.example:81/a%20b?q=1"));
    assert_eq!(sent.headers().len(), 2);
    assert_eq!(sent.headers().get_all("x-one").iter().collect::<Vec<_>>(), ["1", "2"]);
    let sent = request(&head, b"/", false, Framing::Length(3), true).expect("a request");
    assert_eq!(
        (&sent.headers()["content-length"], &sent.headers()["te"]),
        (&"3".parse().unwrap(), &"trailers".parse().unwrap())
    );
    assert_eq!(sent.uri().scheme_str(), Some("http"));
    assert!(request(&head, b"/<", false, Framing::None, false).is_none(), "no `:path`");
}
