//! HTTP/1: request heads, response heads, chunked bodies.

use edge_user::http::buffer::Buffer;
use edge_user::http::h1::body::{Decoder, Error, Found};
use edge_user::http::h1::parse::{self, Framing, Scanner};
use edge_user::http::h1::write;
use edge_user::http::head::{Head, Known, Version};

use super::{prefixes, strict};

const MAX_FIELDS: usize = 64;

/// A head has one meaning however its bytes arrive and whatever follows them, and what is written of it has the same
/// meaning to any strict server.
pub fn request(data: &[u8]) {
    let Some(bytes) = scanned(data) else { return };
    let mut head = Head::default();
    let verdict = parse::request(bytes, &mut head, MAX_FIELDS);
    // A connection uses one head for all its requests.
    let mut used = Head::default();
    let _ = parse::request(b"POST /before HTTP/1.1\r\nHost: b\r\nX: y\r\n\r\n", &mut used, MAX_FIELDS);
    assert_eq!(parse::request(bytes, &mut used, MAX_FIELDS), verdict, "a used head reads otherwise");
    let Ok(meta) = verdict else { return };
    assert_eq!((fields(&used), used.method(), used.target()), (fields(&head), head.method(), head.target()));
    if head.version() == Version::Http10 && !head.has(Known::Host) {
        head.push_known(Known::Host, b"h");
    }
    let target = head.target().to_vec();
    check_written(&head, &target, meta.framing);
}

/// Writes a request with a body that looks like another request, and reads it back as a server would.
pub fn check_written(head: &Head, target: &[u8], framing: Framing) -> strict::Request {
    const INNER: &[u8] = b"GET /inner HTTP/1.1\r\nHost: i\r\n\r\n";
    let mut out = Vec::new();
    write::request(&mut out, head, target, framing);
    out.extend_from_slice(b"\r\n");
    let (seen, expected, body) = match framing {
        // Nobody has so many bytes; the head alone says enough.
        Framing::Length(length) if length > INNER.len() as u64 => {
            let (seen, rest) = strict::head(&out).expect("a strict server reads what the edge writes");
            assert!(rest.is_empty());
            (seen, strict::Framing::Length(length), Vec::new())
        }
        Framing::Length(length) => {
            out.extend_from_slice(&INNER[..length as usize]);
            let (seen, body) = strict::only_request(&out).expect("one request with its length");
            assert_eq!(body, INNER[..length as usize]);
            (seen, strict::Framing::Length(length), body)
        }
        Framing::Chunked => {
            write::chunk(&mut out, INNER);
            write::last_chunk(&mut out, &Head::default(), |_| true);
            let (seen, body) = strict::only_request(&out).expect("one request in chunks");
            (seen, strict::Framing::Chunked, body)
        }
        Framing::None => {
            let (seen, body) = strict::only_request(&out).expect("one request");
            (seen, strict::Framing::None, body)
        }
        Framing::Eof => panic!("no request ends with its connection"),
    };
    assert_eq!((&seen.method[..], &seen.target[..], seen.framing), (head.method(), target, expected));
    assert!(body.is_empty() || INNER.starts_with(&body));
    let unframed = |all: &[strict::Field]| -> Vec<strict::Field> {
        let framing = |name: &[u8]| {
            name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
        };
        all.iter().filter(|field| !framing(&field.0)).cloned().collect()
    };
    assert_eq!(unframed(&seen.fields), unframed(&fields(head)), "fields keep order, spelling and value");
    seen
}

/// A response head has one meaning however its bytes arrive, and gives the client no other line than its own.
pub fn response(data: &[u8]) {
    let Some(bytes) = scanned(data) else { return };
    for to_head in [false, true] {
        let mut head = Head::default();
        let Ok(meta) = parse::response(bytes, &mut head, to_head) else { continue };
        assert!((100..=599).contains(&head.status()));
        let bodiless = to_head || matches!(head.status(), 100..=199 | 204 | 304);
        assert!(!bodiless || meta.framing == Framing::None, "{} has no body", head.status());
        assert!(meta.framing != Framing::Eof || !meta.persistent, "only the end of the connection ends this body");
        let mut out = Vec::new();
        write::status_line(&mut out, head.status(), head.reason());
        write::fields(&mut out, &head, meta.declared);
        // As a request, so that the strict reader reads it: only the first line differs.
        let end = out.windows(2).position(|pair| pair == b"\r\n").expect("a status line ends");
        let line = &out[..end];
        assert!(line.starts_with(b"HTTP/1.1 ") && !line.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)));
        head.remove(Known::Host);
        let mut as_request = b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec();
        write::fields(&mut as_request, &head, meta.declared);
        as_request.extend_from_slice(b"\r\n");
        let (seen, rest) = strict::head(&as_request).expect("a strict client reads what the edge writes");
        assert!(rest.is_empty());
        let framing = match meta.declared {
            Framing::None | Framing::Eof => strict::Framing::None,
            Framing::Length(length) => strict::Framing::Length(length),
            Framing::Chunked => strict::Framing::Chunked,
        };
        assert_eq!(seen.framing, framing);
    }
}

/// A chunked body has one meaning however its bytes arrive, ends where a strict server ends it, and can be told again.
pub fn chunked(data: &[u8]) {
    let whole = decode(data, std::iter::once(data.len()));
    for longest in [1, 3, 64] {
        assert_eq!(decode(data, prefixes(data, longest)), whole, "in pieces of up to {longest}");
    }
    let Ok(Decoded { body, trailers, left }) = whole else { return };
    let (seen, all, rest) = strict::chunked(data).expect("a strict server reads what the edge accepts");
    assert_eq!((&seen, rest.len()), (&body, left), "two readers agree where the body ends");
    const NEVER: [&str; 8] =
        ["content-length", "transfer-encoding", "host", "authorization", "cookie", "connection", "te", "x-real-ip"];
    for field in &trailers {
        assert!(all.contains(field));
        assert!(!NEVER.iter().any(|name| field.0.eq_ignore_ascii_case(name.as_bytes())), "no trailer");
    }
    let mut again = Vec::new();
    for piece in body.chunks(7) {
        write::chunk(&mut again, piece);
    }
    let mut last = Head::default();
    for (name, value) in &trailers {
        last.push(edge_user::http::head::Owner::Peer, name, value);
    }
    write::last_chunk(&mut again, &last, |_| true);
    assert_eq!(strict::chunked(&again), Ok((body.clone(), trailers.clone(), &b""[..])));
    assert_eq!(decode(&again, prefixes(&again, 5)), Ok(Decoded { body, trailers, left: 0 }));
}

/// Cuts off the first head, if `data` has a whole one; however it arrives, it ends in the same place.
fn scanned(data: &[u8]) -> Option<&[u8]> {
    let whole = scan(data, std::iter::once(data.len()));
    for longest in [1, 3, 64] {
        assert_eq!(scan(data, prefixes(data, longest)), whole, "in pieces of up to {longest}");
    }
    let end = match whole {
        Ok(end) => end?,
        Err(()) => {
            // More bytes make nothing good.
            let more = [data, b"\r\n\r\n"].concat();
            assert_eq!(scan(&more, std::iter::once(more.len())), Err(()));
            return None;
        }
    };
    let more = [&data[..end], b"GET / HTTP/1.1\r\n\r\n"].concat();
    assert_eq!(scan(&more, std::iter::once(more.len())), Ok(Some(end)), "what follows a head moves its end");
    assert_eq!(scan(&data[..end - 1], std::iter::once(end - 1)), Ok(None), "a head without its last byte is whole");
    Some(&data[..end])
}

fn scan(data: &[u8], ends: impl Iterator<Item = usize>) -> Result<Option<usize>, ()> {
    let mut scanner = Scanner::default();
    for end in ends {
        if let Some(found) = scanner.find_end(&data[..end]).map_err(|_| ())? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    body: Vec<u8>,
    trailers: Vec<strict::Field>,
    /// Bytes behind the body.
    left: usize,
}

fn decode(data: &[u8], ends: impl Iterator<Item = usize>) -> Result<Decoded, Error> {
    let (mut decoder, mut trailers, mut body) = (Decoder::new(Framing::Chunked), Head::default(), Vec::new());
    let (mut buffer, mut fed) = (Buffer::default(), 0);
    for end in ends {
        let unread = [buffer.filled(), &data[fed..end]].concat();
        fed = end;
        buffer = Buffer::default();
        buffer.prefill(&unread);
        loop {
            match decoder.decode(&mut buffer, &mut trailers)? {
                Found::More => break,
                Found::Data(n) => {
                    body.extend_from_slice(&buffer.filled()[..n]);
                    buffer.consume(n);
                }
                Found::End => {
                    let left = buffer.filled().len() + data.len() - fed;
                    return Ok(Decoded { body, trailers: fields(&trailers), left });
                }
            }
        }
    }
    decoder.finish()?;
    panic!("a chunked body ends by its last chunk alone");
}

fn fields(head: &Head) -> Vec<strict::Field> {
    head.fields().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}
