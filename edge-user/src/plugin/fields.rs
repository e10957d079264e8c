//! Fields by name, and which names a plugin's settings may bear.

use crate::config::reader::Reader;
use crate::http::head::{Head, Known};

/// The first value of a field.
pub(super) fn value<'h>(head: &'h Head, name: &str) -> Option<&'h [u8]> {
    head.fields().find(|field| field.name.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.value)
}

/// Whether the field frames the message or is the hop's (RFC 9110, 7.6.1): the edge alone writes those.
pub(crate) fn is_of_hop(name: &str) -> bool {
    matches!(
        Known::of(name.as_bytes()),
        Known::ContentLength
            | Known::TransferEncoding
            | Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::Trailer
            | Known::Upgrade
    )
}

/// `X-Forwarded-*` and what else tells of the client.
pub(crate) fn is_of_forwarding(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("x-forwarded-") || matches!(Known::of(name.as_bytes()), Known::XRealIp | Known::XKongRequestId)
}

/// Whether Kong takes this for a header name.
pub(crate) fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Whether two names are one to a server that folds `_` and `.` into `-`.
pub(super) fn is_same(a: &[u8], b: &[u8]) -> bool {
    let fold = |byte: &u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte.to_ascii_lowercase() };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| fold(a) == fold(b))
}

/// A setting that is a header name.
pub(super) fn header_name<'a>(config: &mut Reader<'a>, key: &'static str) -> Option<&'a str> {
    let name = config.string(key)?;
    if !is_header_name(name) {
        let expected = format!("bad header name '{name}', allowed characters are A-Z, a-z, 0-9, '_', and '-'");
        config.problem(key, format!("{name:?}"), expected);
    }
    Some(name)
}

/// A setting that may be empty, which is the same as its absence.
pub(super) fn optional<'a>(config: &mut Reader<'a>, key: &'static str) -> Option<&'a str> {
    config.any_string(key).filter(|text| !text.is_empty())
}
