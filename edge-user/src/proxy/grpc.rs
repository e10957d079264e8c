//! gRPC over HTTP/2: what such a request is, what its routes refuse, and how the edge's own answers read to it.

use std::time::Duration;

use super::respond::Local;
use crate::http::head::{Head, Known, Owner, Version};
use crate::reason::Reason;

/// The content type of the edge's own answers.
pub const CONTENT_TYPE: &str = "application/grpc";

/// Whether a request is gRPC: its content type is `application/grpc`, with or without a codec.
pub fn is_grpc(head: &Head) -> bool {
    let content_type = head.get(Known::ContentType).unwrap_or_default();
    content_type.get(..CONTENT_TYPE.len()).is_some_and(|start| start.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes()))
}

/// What a route for gRPC answers to a request that is none, or that came by HTTP/1.
pub fn refuse(head: &Head) -> Option<Local<'static>> {
    if !is_grpc(head) {
        return Some(Local::new(415, Reason::NotGrpc, "Non-gRPC request matched gRPC route"));
    }
    if head.version() != Version::Http2 {
        let answer = Local::new(426, Reason::Http2Required, "Please use HTTP2 protocol");
        return Some(answer.field(Known::Connection, "Upgrade").field(Known::Upgrade, "HTTP/2"));
    }
    None
}

/// The gRPC status that says what an HTTP status does, and its name.
pub fn status_of(http_status: u16) -> (u8, &'static str) {
    match http_status {
        200..=299 => (0, "OK"),
        401 => (16, "Unauthenticated"),
        403 => (7, "PermissionDenied"),
        404 => (5, "NotFound"),
        409 => (6, "AlreadyExists"),
        429 => (8, "ResourceExhausted"),
        499 => (1, "Canceled"),
        501 => (12, "Unimplemented"),
        // A client may try again where the upstream, not the request, was at fault.
        502 | 503 => (14, "Unavailable"),
        504 => (4, "DeadlineExceeded"),
        400..=498 => (3, "InvalidArgument"),
        500..=599 => (13, "Internal"),
        _ => (2, "Unknown"),
    }
}

/// Appends the two fields by which a gRPC client reads a status.
pub fn push_status(head: &mut Head, http_status: u16) {
    let (code, name) = status_of(http_status);
    head.push(Owner::Edge, b"grpc-status", code.to_string().as_bytes());
    head.push(Owner::Edge, b"grpc-message", name.as_bytes());
}

/// How long the client waits: `grpc-timeout`, at most eight digits and a unit. `None` where it does not say.
pub fn deadline(head: &Head) -> Option<Duration> {
    let field = head.fields().find(|field| field.name.eq_ignore_ascii_case(b"grpc-timeout"))?;
    let (unit, digits) = field.value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        head.start_request(b"POST", b"/a.B/C", version);
        fields.iter().for_each(|(name, value)| head.push(Owner::Peer, name.as_bytes(), value.as_bytes()));
        head
    }

    #[test]
    fn routes_for_grpc_refuse_the_rest() {
        for (version, content_type, expected) in [
            (Version::Http2, "application/grpc", None),
            (Version::Http2, "Application/gRPC+proto", None),
            (Version::Http2, "application/json", Some(415)),
            (Version::Http2, "application/grp", Some(415)),
            (Version::Http11, "application/json", Some(415)),
            (Version::Http11, "application/grpc", Some(426)),
        ] {
            let answer = refuse(&request(version, &[("content-type", content_type)]));
            assert_eq!(answer.map(|answer| answer.status), expected, "{content_type}");
        }
    }

    #[test]
    fn every_status_has_its_name() {
        for (http, expected) in [
            (200, (0, "OK")),
            (204, (0, "OK")),
            (400, (3, "InvalidArgument")),
            (401, (16, "Unauthenticated")),
            (403, (7, "PermissionDenied")),
            (404, (5, "NotFound")),
            (409, (6, "AlreadyExists")),
            (418, (3, "InvalidArgument")),
            (429, (8, "ResourceExhausted")),
            (499, (1, "Canceled")),
            (500, (13, "Internal")),
            (501, (12, "Unimplemented")),
            (502, (14, "Unavailable")),
            (503, (14, "Unavailable")),
            (504, (4, "DeadlineExceeded")),
            (505, (13, "Internal")),
            (302, (2, "Unknown")),
        ] {
            assert_eq!(status_of(http), expected, "{http}");
        }
    }

    #[test]
    fn deadlines_are_read_with_their_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("100000000m", None),
            ("-1S", None),
            ("1", None),
            ("S", None),
            ("1s", None),
            ("", None),
        ] {
            assert_eq!(deadline(&request(Version::Http2, &[("GRPC-Timeout", text)])), expected, "{text}");
        }
        assert_eq!(deadline(&request(Version::Http2, &[])), None);
    }
}
