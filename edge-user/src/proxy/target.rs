//! The request target in its parts: what routing, rules, log and upstream all see alike (P4, H11).

use std::ops::Range;

use super::respond::{Body, Local};
use crate::http::h1::parse::{is_authority, split_port};
use crate::http::head::{Head, Known};
use crate::reason::Reason;
use crate::router::{self, Match};

/// A target, normalised.
pub struct Target {
    host: Vec<u8>,
    /// The port of `Host`, or the listener's.
    pub port: u16,
    /// The normalised path, then the query.
    text: Vec<u8>,
    path_length: usize,
    has_query: bool,
    /// How its route was found.
    pub found: Option<Match>,
    original: Range<usize>,
    upgrade: Option<Vec<u8>>,
}

/// Takes the request line and `Host` apart. An absolute target's authority replaces `Host` (RFC 9112, 3.2.2).
/// `host` is told the authority that counts.
pub fn resolve(head: &mut Head, host: &mut Vec<u8>, listener_port: u16) -> Result<Target, Local<'static>> {
    host.extend_from_slice(head.get(Known::Host).unwrap_or_default());
    if matches!(head.method(), b"CONNECT" | b"TRACE") {
        return Err(Local::new(405, Reason::MethodNotAllowed, "Method not allowed").body(Body::ProxyError).close());
    }
    let raw = head.target();
    let (authority, start) = match raw {
        [b'/', ..] => (None, 0),
        _ => {
            let (authority, start) = absolute(raw).ok_or_else(malformed)?;
            (Some(authority.to_vec()), start)
        }
    };
    let end = raw.iter().position(|byte| *byte == b'?').unwrap_or(raw.len());
    let query = raw.get(end + 1..);
    let path: &[u8] = if start >= end { b"/" } else { &raw[start..end] };
    let mut scratch = Vec::new();
    let path = router::normalize_path(path, &mut scratch).map_err(|_| malformed())?;
    let mut text = Vec::with_capacity(raw.len() + 1);
    text.extend_from_slice(path);
    let path_length = text.len();
    if let Some(query) = query {
        text.push(b'?');
        text.extend_from_slice(query);
    }
    let has_query = query.is_some();
    if let Some(authority) = authority {
        head.set_known(Known::Host, &authority);
        *host = authority;
    }
    let (name, port) = split_port(host);
    // The root's dot makes no other host of it: a rule for `a.test` is one for `a.test.` (P5).
    let name = name.strip_suffix(b".").filter(|name| !name.is_empty()).unwrap_or(name);
    let port = match port {
        None | Some(b"") => listener_port,
        Some(digits) => {
            std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or_else(malformed)?
        }
    };
    let upgrade = head.get(Known::Upgrade).filter(|_| head.all(Known::Upgrade).count() == 1).map(<[u8]>::to_vec);
    Ok(Target {
        host: name.to_vec(),
        port,
        text,
        path_length,
        has_query,
        found: None,
        original: start.min(end)..end,
        upgrade,
    })
}

/// Authority and start of the path of `http://authority/path`.
fn absolute(target: &[u8]) -> Option<(&[u8], usize)> {
    let scheme = target.windows(3).position(|window| window == b"://")?;
    if !target[..scheme].eq_ignore_ascii_case(b"http") && !target[..scheme].eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = &target[scheme + 3..];
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    is_authority(&rest[..length]).then_some((&rest[..length], scheme + 3 + length))
}

fn malformed() -> Local<'static> {
    Local::new(400, Reason::RequestMalformed, "Bad request").body(Body::ProxyError).close()
}

impl Target {
    /// The host without its port and without the root's dot, as the client spelled it.
    pub fn host(&self) -> &[u8] {
        &self.host
    }

    /// The normalised path.
    pub fn path(&self) -> &[u8] {
        &self.text[..self.path_length]
    }

    /// The query as it came, or as a plugin set it.
    pub fn query(&self) -> Option<&[u8]> {
        self.has_query.then(|| &self.text[self.path_length + 1..])
    }

    /// Gives it another query, or none.
    pub fn set_query(&mut self, query: Option<&[u8]>) {
        self.text.truncate(self.path_length);
        self.has_query = query.is_some();
        if let Some(query) = query {
            self.text.push(b'?');
            self.text.extend_from_slice(query);
        }
    }

    /// Bytes of the path that its route's prefix or expression took.
    pub fn matched(&self) -> usize {
        self.found.map_or(0, |found| found.matched)
    }

    /// Path and query together.
    pub fn path_and_query(&self) -> &[u8] {
        &self.text
    }

    /// The path as the client sent it, within `head`'s target.
    pub fn original_path(&self, head: &Head) -> Vec<u8> {
        match &head.target()[self.original.clone()] {
            [] => b"/".to_vec(),
            path => path.to_vec(),
        }
    }

    /// The protocol the client wants to switch to, if it is one of `allowed` (H14).
    pub fn upgrade(&self, allowed: &[String]) -> Option<&[u8]> {
        let wanted = self.upgrade.as_deref()?;
        allowed.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(wanted)).then_some(wanted)
    }
}
