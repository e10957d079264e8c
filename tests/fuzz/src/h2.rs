//! HTTP/2 request heads, as `h2` hands them over, and the HTTP/1 request that becomes of them.

use edge_user::http::h2::read_head;
use edge_user::http::head::{Head, Known};
use http::uri::{Authority, Parts, PathAndQuery};
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use super::{first_line, forward, h1};

/// Lines: method, authority (`-`: none), path (`-`: none), `end` where no body follows; then fields.
pub fn head(data: &[u8]) {
    let (method, data) = first_line(data);
    let (authority, data) = first_line(data);
    let (path, data) = first_line(data);
    let (end, data) = first_line(data);
    let Some(request) = build(method, authority, path, data) else { return };
    let ended = end == b"end";
    let mut head = Head::default();
    let Ok(framing) = read_head(&request, ended, &mut head, 64) else { return };
    let mut used = Head::default();
    used.start_request(b"PUT", b"/before", edge_user::http::head::Version::Http11);
    assert_eq!(read_head(&request, ended, &mut used, 64), Ok(framing), "a used head reads otherwise");
    assert_eq!(head.all(Known::Host).count(), 1);
    let host = head.get(Known::Host).expect("exactly one").to_vec();
    let named = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let fields: Vec<&[u8]> = request.headers().get_all("host").iter().map(HeaderValue::as_bytes).collect();
    assert!(named.is_none_or(|authority| authority == host) && fields.iter().all(|field| *field == host));
    assert!(head.all(Known::Cookie).count() <= 1, "one field for HTTP/1 servers");
    let target = head.target().to_vec();
    let written = h1::check_written(&head, &target, framing);
    assert_eq!((&written.method[..], written.all("host")), (method, vec![&host[..]]));
    let before = head.get(Known::Host).map(<[u8]>::to_vec);
    if let Some(resolved) = forward::check(&mut head, framing) {
        // `:authority` alone names the host: a path that looks like a URL must not (RFC 9113, 8.3.1).
        assert_eq!(before, Some(resolved), "`:path` has replaced `:authority`");
    }
}

/// The request `h2` would make of these, if it made any (its server.rs, `convert_poll_message`).
fn build(method: &[u8], authority: &[u8], path: &[u8], mut fields: &[u8]) -> Option<Request<()>> {
    let mut parts = Parts::default();
    if authority != b"-" {
        parts.authority = Some(Authority::try_from(authority).ok()?);
        parts.scheme = Some(http::uri::Scheme::HTTPS);
    }
    let method = Method::from_bytes(method).ok()?;
    if method == Method::CONNECT {
        parts.scheme = None;
    } else if path == b"-" || path.is_empty() {
        return None;
    } else {
        parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    }
    let mut request = Request::builder().method(method).uri(Uri::from_parts(parts).ok()?).body(()).ok()?;
    while !fields.is_empty() {
        let (line, rest) = first_line(fields);
        fields = rest;
        let colon = line.iter().position(|byte| *byte == b':')?;
        // A space behind the colon reads better; a second one is part of the value.
        let value = &line[colon + 1..];
        let value = HeaderValue::from_bytes(value.strip_prefix(b" ").unwrap_or(value)).ok()?;
        let name = HeaderName::from_lowercase(&line[..colon]).ok()?;
        // Its frame/headers.rs refuses these.
        let hop = ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"];
        if hop.contains(&name.as_str()) || (name == http::header::TE && value != "trailers") {
            return None;
        }
        request.headers_mut().append(name, value);
    }
    Some(request)
}
