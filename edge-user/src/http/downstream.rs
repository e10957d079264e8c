//! The client's side of one exchange, the same for HTTP/1 and HTTP/2: what `proxy` reads from and answers to.

use std::task::{Context, Poll};

use super::h1::parse::Framing;
use super::h1::write::BodyEncoder;
use super::head::Head;

/// What is wrong with the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The client went away: there is nobody to answer.
    #[error("client gone")]
    Gone,
    /// A wait of `[timeouts]` ended.
    #[error("client too slow")]
    Timeout,
    /// The body violates its framing.
    #[error("malformed body")]
    Malformed,
}

/// How the response goes on after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseShape {
    /// The framing of the body that follows; `None` for HEAD, 204 and 304.
    pub framing: Framing,
    /// The framing the fields tell: differs from `framing` for HEAD and 304.
    pub declared: Framing,
}

/// One request's client. The methods that end in a `Poll` wake the exchange's task; the others only buffer.
pub trait Downstream {
    /// How the request body is framed.
    fn request_framing(&self) -> Framing;

    /// Appends what has arrived of the request body to `sink`; true once it is complete. Waits only while `sink`
    /// holds nothing.
    fn poll_body(&mut self, cx: &mut Context<'_>, sink: &mut BodyEncoder<'_>) -> Poll<Result<bool, Fault>>;

    /// Whether the client has given up on this exchange; wakes the task when it does. An HTTP/1 client that closes
    /// cannot be told from one that has sent its last request, so there it is never true.
    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> bool {
        false
    }

    /// Tells that the response will come before the rest of the request body was read: that rest must never be
    /// taken for a request, so the connection (HTTP/2: the stream) ends with this exchange unless it is all here.
    fn abandon_body(&mut self);

    /// Sends an interim response (RFC 9110, 15.2), where the client can take one.
    fn interim(&mut self, head: &Head);

    /// Starts the response. `close` asks for the connection's end after it.
    fn respond(&mut self, head: &Head, shape: ResponseShape, close: bool);

    /// Appends response data.
    fn write(&mut self, data: &[u8]);

    /// Ends the response, with trailers if there are fields in them.
    fn finish(&mut self, trailers: &Head);

    /// Cuts the response short so that the client cannot take it for complete.
    fn abort(&mut self);

    /// Bytes buffered towards the client.
    fn buffered(&self) -> usize;

    /// Sends what is buffered.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;
}
