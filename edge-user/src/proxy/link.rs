//! The upstream's side of one exchange, the same for HTTP/1 and HTTP/2: what `forward` writes to and reads from.

use std::task::{Context, Poll};
use std::time::Duration;

use super::forward::Outgoing;
use crate::http::h1::body::Found;
use crate::http::h1::client::{Fault, UpstreamConn};
use crate::http::h1::parse::{Framing, ResponseMeta};
use crate::http::h1::write::{self, BodyEncoder, MayTrail};
use crate::http::h2_client::{self, Stream};
use crate::http::head::Head;

/// A connection for one exchange, or a stream of one that others share. Methods mean what those of `UpstreamConn` do.
#[allow(clippy::large_enum_variant, reason = "HTTP/1, the usual case, is not to pay an allocation a request")]
pub enum Link {
    /// HTTP/1.
    H1(UpstreamConn),
    /// HTTP/2.
    H2(Box<Stream>),
}

/// Calls the same method on either.
macro_rules! either {
    ($link:expr, $side:ident => $call:expr) => {
        match $link {
            Link::H1($side) => $call,
            Link::H2($side) => $call,
        }
    };
}

impl Link {
    /// Begins the request; `ended` where nothing follows its head. False where HTTP/2 cannot carry its target.
    pub fn begin(&mut self, outgoing: &Outgoing<'_>, framing: Framing, ended: bool) -> Result<bool, Fault> {
        match self {
            Self::H1(conn) => {
                let out = &mut conn.out;
                let start = out.len();
                write::request(out, outgoing.head, outgoing.target, framing);
                if let Some(protocol) = outgoing.upgrade {
                    out.extend_from_slice(b"Connection: Upgrade\r\n");
                    write::field(out, b"Upgrade", protocol);
                }
                out.extend_from_slice(b"\r\n");
                outgoing.header_case.apply(&mut out[start..]);
                Ok(true)
            }
            Self::H2(stream) => {
                let grpc = super::grpc::is_grpc(outgoing.head);
                match h2_client::request(outgoing.head, outgoing.target, outgoing.https, framing, grpc) {
                    Some(request) => stream.send_head(request, ended).map(|()| true),
                    None => Ok(false),
                }
            }
        }
    }

    /// Where the request's body goes.
    pub fn sink<'a>(&'a mut self, framing: Framing, may_trail: MayTrail<'a>) -> BodyEncoder<'a> {
        match self {
            Self::H1(conn) => BodyEncoder::new(&mut conn.out, framing).trailing_only(may_trail),
            Self::H2(stream) => stream.sink(may_trail),
        }
    }

    /// Whether the sink takes more now.
    pub fn can_take_more(&self) -> bool {
        either!(self, side => side.can_take_more())
    }

    /// Sends what the sink was given, and the end once the body has `ended`.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, limit: Duration, ended: bool) -> Poll<Result<(), Fault>> {
        match self {
            Self::H1(conn) => conn.poll_send(cx, limit),
            Self::H2(stream) => stream.poll_send(cx, limit, ended),
        }
    }

    /// The request is out.
    pub fn await_answer(&mut self) {
        either!(self, side => side.await_answer());
    }

    /// Reads a response head.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut Head,
        to_head: bool,
        limit: Duration,
    ) -> Poll<Result<ResponseMeta, Fault>> {
        either!(self, side => side.poll_head(cx, head, to_head, limit))
    }

    /// Finds the next piece of the response body.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, wait: bool, limit: Duration) -> Poll<Result<Found, Fault>> {
        either!(self, side => side.poll_data(cx, wait, limit))
    }

    /// The data `poll_data` reported.
    pub fn data(&self, n: usize) -> &[u8] {
        either!(self, side => side.data(n))
    }

    /// Marks reported data as taken.
    pub fn consume(&mut self, n: usize) {
        either!(self, side => side.consume(n));
    }

    /// Nothing of the response is read for a while.
    pub fn rest(&mut self) {
        if let Self::H1(conn) = self {
            conn.rest();
        }
    }

    /// The response's trailers at its end.
    pub fn trailers(&self) -> &Head {
        either!(self, side => &side.trailers)
    }

    /// Whether its end says nothing about the upstream: a kept connection that was closed while it was idle, or a
    /// stream that was never looked at.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::H1(conn) => conn.exchanges > 0,
            Self::H2(stream) => stream.refused,
        }
    }

    /// Whether the upstream has said that it did not look at the request (RFC 9113, 8.7).
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::H2(stream) if stream.refused)
    }
}
