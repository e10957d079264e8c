//! Allow-lists of fields (F5: `HTTP::header sanitize`, `responseHeadersPermitted`): what a peer sent and nobody listed
//! goes. What the edge itself wrote stays, and so does what a message cannot be without.

use crate::config::reader::Reader;
use crate::http::head::{FieldRef, Head, Known, Owner, is_field_name};

/// The names that a list lets through beside those that always pass.
pub(super) struct Allowed(Box<[Box<str>]>);

impl Allowed {
    /// Reads a list; nothing where there is none.
    pub(super) fn parse(config: &mut Reader<'_>) -> Option<Self> {
        let name = |text: &str| is_field_name(text.as_bytes()).then(|| Box::from(text));
        config.parsed_list("allow", "the name of a field", name).map(|names| Self(names.into()))
    }

    /// Takes everything else out of a request. `Authorization` is not a matter of the list (S0.11).
    pub(super) fn clean_request(&self, head: &mut Head) {
        head.retain(|field| {
            field.owner == Owner::Edge
                || matches!(
                    field.known,
                    Known::Authorization
                        | Known::Dpop
                        | Known::Host
                        | Known::ContentLength
                        | Known::TransferEncoding
                        | Known::Trailer
                        | Known::ContentType
                        | Known::Via
                )
                // Of trusted peers alone by now.
                || field.known.tells_origin()
                || self.lists(&field)
        });
    }

    /// Takes everything else out of a response.
    pub(super) fn clean_response(&self, head: &mut Head) {
        head.retain(|field| {
            field.owner == Owner::Edge
                || matches!(
                    field.known,
                    Known::ContentLength
                        | Known::TransferEncoding
                        | Known::Trailer
                        | Known::ContentType
                        | Known::Date
                        | Known::Location
                        | Known::WwwAuthenticate
                        | Known::RetryAfter
                        | Known::Via
                        | Known::Connection
                        | Known::Upgrade
                )
                || self.lists(&field)
        });
    }

    /// Whether a trailer of this name passes: gRPC's status is one.
    pub(super) fn lets_trail(&self, name: &[u8]) -> bool {
        name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"grpc-")) || self.has(name)
    }

    fn lists(&self, field: &FieldRef<'_>) -> bool {
        // What a body is in, and what a switch of protocols is agreed by, cannot be left out alone.
        const ESSENTIAL: [&str; 2] = ["Content-Encoding", "Set-Cookie"];
        let starts =
            |prefix: &[u8]| field.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        ESSENTIAL.iter().any(|name| field.name.eq_ignore_ascii_case(name.as_bytes()))
            || starts(b"Sec-WebSocket-")
            || starts(b"grpc-")
            || self.has(field.name)
    }

    fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|listed| name.eq_ignore_ascii_case(listed.as_bytes()))
    }
}
