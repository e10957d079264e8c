//! HTTP/2 by the `h2` crate, to and from `Head` (RFC 9113). Framing, flow control and HPACK are the crate's; what a
//! valid request is beyond that, and what a stream means to `proxy`, stands here.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason as Code, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::Buffer;
use super::downstream::{Downstream, Fault, ResponseShape};
use super::h1::conn::BODY_BUFFER_BYTES;
use super::h1::parse::{Framing, is_authority, may_trail};
use super::h1::write::BodyEncoder;
use super::h2_frames::Frames;
use super::head::{Head, Known, Owner, Version, is_field_name, is_field_value};
use super::io::Io;
use crate::clock::{Clock, Wait};
use crate::settings::{Limits, Timeouts};

/// A stream whose first bytes were already read, while finding out which protocol it speaks; its frames are counted.
pub struct Prefixed {
    io: Io,
    prefix: Buffer,
    frames: Rc<RefCell<Frames>>,
}

impl Prefixed {
    /// The stream with the bytes put back.
    pub fn new(io: Io, prefix: Buffer, frames: Rc<RefCell<Frames>>) -> Self {
        Self { io, prefix, frames }
    }

    fn counted(&self, written: Poll<std::io::Result<usize>>) -> Poll<std::io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = written {
            self.frames.borrow_mut().sent(n);
        }
        written
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.frames.borrow().fault().is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if self.prefix.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        } else {
            let n = self.prefix.filled().len().min(buf.remaining());
            buf.put_slice(&self.prefix.filled()[..n]);
            self.prefix.consume(n);
        }
        let mut frames = self.frames.borrow_mut();
        frames.received(&buf.filled()[before..], Instant::now);
        if frames.fault().is_some() {
            // Nothing more is read of such a client; whoever drives the connection ends it.
            buf.set_filled(before);
            return Poll::Pending;
        }
        drop(frames);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.counted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.counted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Why a request is no request. `h2` has refused most faults before (RFC 9113, 8.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A stream error: reset, nothing is answered.
    #[error("malformed request")]
    Malformed,
    /// Over `limits.fields`.
    #[error("too many fields")]
    TooLarge,
}

/// Fills `head` from a request (H20, H23, H24) and tells how its body is framed.
pub fn read_request(request: &Request<RecvStream>, head: &mut Head, max_fields: usize) -> Result<Framing, Error> {
    read_head(request, request.body().is_end_stream(), head, max_fields)
}

/// As `read_request`, of a request whose stream has `ended` with its head or not; nothing else is asked of the body.
pub fn read_head<B>(request: &Request<B>, ended: bool, head: &mut Head, max_fields: usize) -> Result<Framing, Error> {
    let uri = request.uri();
    let target = match uri.path_and_query() {
        Some(path) => path.as_str(),
        None if request.method() == http::Method::CONNECT => "/",
        None => return Err(Error::Malformed),
    };
    if !target.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'#') {
        return Err(Error::Malformed);
    }
    head.start_request(request.method().as_str().as_bytes(), target.as_bytes(), Version::Http2);
    let fields = request.headers();
    let mut hosts = fields.get_all(http::header::HOST).iter();
    let host = match (uri.authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return Err(Error::Malformed),
        (Some(authority), Some(host), None) if authority.as_str().as_bytes() != host.as_bytes() => {
            return Err(Error::Malformed);
        }
        (Some(authority), _, None) => authority.as_str().as_bytes(),
        (None, Some(host), None) => host.as_bytes(),
        (None, None, None) => return Err(Error::Malformed),
    };
    // The crate takes an empty scheme for none.
    if uri.authority().is_some()
        && uri.scheme().is_none_or(|scheme| scheme.as_str().is_empty())
        && request.method() != http::Method::CONNECT
    {
        return Err(Error::Malformed);
    }
    if !is_authority(host) {
        return Err(Error::Malformed);
    }
    head.push(Owner::Peer, b"Host", host);
    if fields.len() + 1 > max_fields {
        return Err(Error::TooLarge);
    }
    // `http` takes names with a quotation mark, which RFC 9110, 5.6.2 does not.
    if !fields.iter().all(|(name, value)| is_field_name(name.as_str().as_bytes()) && is_field_value(value.as_bytes())) {
        return Err(Error::Malformed);
    }
    // One field for HTTP/1 servers (RFC 9113, 8.2.3).
    let crumbs = fields.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes);
    // An empty one at either end would leave white space there.
    let crumbs: Vec<&[u8]> = crumbs.filter(|crumb| !crumb.is_empty()).collect();
    let mut cookie_done = false;
    for (name, value) in fields {
        if name == http::header::HOST || (name == http::header::COOKIE && cookie_done) {
            continue;
        }
        if name == http::header::COOKIE {
            cookie_done = true;
            head.push(Owner::Peer, b"cookie", &crumbs.join(&b"; "[..]));
            continue;
        }
        head.push(Owner::Peer, name.as_str().as_bytes(), value.as_bytes());
    }
    body_framing(head, ended)
}

fn body_framing(head: &Head, ended: bool) -> Result<Framing, Error> {
    let mut lengths = head.all(Known::ContentLength);
    let length = match (lengths.next(), lengths.next()) {
        (_, Some(_)) => return Err(Error::Malformed),
        (None, None) => None,
        (Some(text), None) if !text.is_empty() && text.iter().all(u8::is_ascii_digit) => {
            Some(std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Error::Malformed)?)
        }
        (Some(_), None) => return Err(Error::Malformed),
    };
    match (length, ended) {
        (None, true) => Ok(Framing::None),
        (Some(0), _) => Ok(Framing::Length(0)),
        (Some(_), true) => Err(Error::Malformed),
        (Some(length), false) => Ok(Framing::Length(length)),
        (None, false) => Ok(Framing::Chunked),
    }
}

/// How far the response has come.
enum Answer {
    /// Nothing was answered.
    None,
    /// The head waits to be sent, so that an empty body ends with it.
    Head(Box<Response<()>>),
    /// The head is sent.
    Body(SendStream<Bytes>),
    /// All is sent, or the stream is reset.
    Done,
}

/// One request's stream.
pub struct Stream {
    framing: Framing,
    recv: Option<RecvStream>,
    respond: SendResponse<Bytes>,
    response: Answer,
    pending: BytesMut,
    finished: bool,
    trailers: Option<HeaderMap>,
    timeouts: Timeouts,
    read_wait: Wait,
    write_wait: Wait,
    read_bytes: u64,
    sent_bytes: u64,
}

impl Stream {
    /// A stream whose request head was read.
    pub fn new(
        framing: Framing,
        recv: RecvStream,
        respond: SendResponse<Bytes>,
        clock: &Rc<Clock>,
        timeouts: &Timeouts,
    ) -> Self {
        Self {
            framing,
            recv: Some(recv),
            respond,
            response: Answer::None,
            pending: BytesMut::new(),
            finished: false,
            trailers: None,
            timeouts: *timeouts,
            read_wait: Wait::new(clock),
            write_wait: Wait::new(clock),
            read_bytes: 0,
            sent_bytes: 0,
        }
    }

    /// Body bytes read and sent so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.read_bytes, self.sent_bytes)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            match &mut self.response {
                Answer::None | Answer::Done => return Poll::Ready(Ok(())),
                Answer::Head(_) => {
                    let ends = self.finished && self.pending.is_empty() && self.trailers.is_none();
                    let Answer::Head(head) = std::mem::replace(&mut self.response, Answer::Done) else { continue };
                    let sent = self.respond.send_response(*head, ends).map_err(|_| Fault::Gone)?;
                    if ends {
                        return Poll::Ready(Ok(()));
                    }
                    self.response = Answer::Body(sent);
                }
                Answer::Body(stream) if !self.pending.is_empty() => {
                    stream.reserve_capacity(self.pending.len());
                    let capacity = match ready!(stream.poll_capacity(cx)) {
                        Some(Ok(capacity)) => capacity.min(self.pending.len()),
                        _ => return Poll::Ready(Err(Fault::Gone)),
                    };
                    if capacity == 0 {
                        continue;
                    }
                    let data = self.pending.split_to(capacity).freeze();
                    let ends = self.finished && self.pending.is_empty() && self.trailers.is_none();
                    stream.send_data(data, ends).map_err(|_| Fault::Gone)?;
                    self.sent_bytes += capacity as u64;
                    self.write_wait.progressed_by(capacity);
                    if ends {
                        self.response = Answer::Done;
                    }
                }
                Answer::Body(stream) if self.finished => {
                    match self.trailers.take() {
                        Some(trailers) => stream.send_trailers(trailers),
                        None => stream.send_data(Bytes::new(), true),
                    }
                    .map_err(|_| Fault::Gone)?;
                    self.response = Answer::Done;
                }
                Answer::Body(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl Downstream for Stream {
    fn request_framing(&self) -> Framing {
        self.framing
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, sink: &mut BodyEncoder<'_>) -> Poll<Result<bool, Fault>> {
        let Some(recv) = &mut self.recv else { return Poll::Ready(Err(Fault::Gone)) };
        while sink.pending() < BODY_BUFFER_BYTES {
            match recv.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.read_wait.progressed_by(data.len());
                    self.read_bytes += data.len() as u64;
                    sink.data(&data);
                    let _ = recv.flow_control().release_capacity(data.remaining());
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Fault::Gone)),
                Poll::Ready(None) => {
                    let mut trailers = Head::default();
                    match ready!(recv.poll_trailers(cx)) {
                        Ok(None) => {}
                        Ok(Some(fields)) => read_trailers(&fields, &mut trailers)?,
                        Err(_) => return Poll::Ready(Err(Fault::Gone)),
                    }
                    sink.end(&trailers);
                    return Poll::Ready(Ok(true));
                }
                Poll::Pending if sink.pending() > 0 => break,
                Poll::Pending => {
                    return match self.read_wait.is_over(self.timeouts.request_body, cx) {
                        true => Poll::Ready(Err(Fault::Timeout)),
                        false => Poll::Pending,
                    };
                }
            }
        }
        Poll::Ready(Ok(false))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.response {
            Answer::None | Answer::Head(_) => self.respond.poll_reset(cx).is_ready(),
            Answer::Body(stream) => stream.poll_reset(cx).is_ready(),
            Answer::Done => false,
        }
    }

    fn abandon_body(&mut self) {
        // Dropping the receiving half gives its flow-control window back to the connection.
        self.recv = None;
    }

    fn interim(&mut self, head: &Head) {
        if let Some(response) = response_of(head, Framing::None) {
            let _ = self.respond.send_informational(response);
        }
    }

    fn respond(&mut self, head: &Head, shape: ResponseShape, _close: bool) {
        self.response = match response_of(head, shape.declared) {
            Some(response) => Answer::Head(Box::new(response)),
            None => Answer::Done,
        };
    }

    fn write(&mut self, data: &[u8]) {
        self.pending.extend_from_slice(data);
    }

    fn finish(&mut self, trailers: &Head) {
        let mut fields = HeaderMap::new();
        for field in trailers.fields() {
            push_field(&mut fields, field.name, field.value);
        }
        self.trailers = (!fields.is_empty()).then_some(fields);
        self.finished = true;
    }

    fn abort(&mut self) {
        self.response = Answer::Done;
        self.respond.send_reset(Code::INTERNAL_ERROR);
    }

    fn buffered(&self) -> usize {
        self.pending.len()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self.poll_send(cx) {
            Poll::Ready(Ok(())) => {
                self.write_wait.progressed();
                Poll::Ready(Ok(()))
            }
            Poll::Pending if self.write_wait.is_over(self.timeouts.response_write, cx) => {
                Poll::Ready(Err(Fault::Timeout))
            }
            polled => polled,
        }
    }
}

/// Reads trailers, keeping only fields that may stand there.
pub(super) fn read_trailers(fields: &HeaderMap, trailers: &mut Head) -> Result<(), Fault> {
    trailers.start_request(b"", b"", Version::Http2);
    for (name, value) in fields {
        if !is_field_name(name.as_str().as_bytes()) || !is_field_value(value.as_bytes()) {
            return Err(Fault::Malformed);
        }
        if may_trail(Known::of(name.as_str().as_bytes())) {
            trailers.push(Owner::Peer, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    Ok(())
}

fn response_of(head: &Head, declared: Framing) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status()).ok()?;
    for field in head.fields() {
        match field.known {
            // HTTP/2 frames bodies itself and knows no fields of the hop (RFC 9113, 8.2.2).
            Known::TransferEncoding | Known::Connection | Known::Upgrade | Known::KeepAlive => {}
            Known::ContentLength if !matches!(declared, Framing::Length(_)) => {}
            _ => push_field(response.headers_mut(), field.name, field.value),
        }
    }
    if let Framing::Length(length) = declared {
        response.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Some(response)
}

/// Appends a field that is clean already.
pub(super) fn push_field(fields: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        fields.append(name, value);
    }
}

/// The crate's settings: every bound a client could otherwise push (H25, H26).
pub fn builder(limits: &Limits) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buffer_size(256 * 1024)
        .max_concurrent_reset_streams(32)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(128))
        .reset_stream_duration(Duration::from_secs(5));
    builder
}

/// The most streams a client may be allowed to have open at once; `h2_frames` gives credit for no more.
pub const MAX_STREAMS: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<Vec<(String, String)>, Error> {
        let mut request = Request::builder().uri("https://a/");
        for (name, value) in fields {
            // As `h2` reads them: stricter than the builder about case, looser about quotes.
            let name = HeaderName::from_lowercase(name.as_bytes()).expect("`http` takes it");
            request = request.header(name, *value);
        }
        let mut head = Head::default();
        read_head(&request.body(()).expect("`http` takes it"), true, &mut head, 64)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(head.fields().map(|field| (text(field.name), text(field.value))).collect())
    }

    // H20
    #[test]
    fn names_are_tokens_and_values_have_no_outer_space() {
        assert_eq!(read(&[("x\"a", "1")]), Err(Error::Malformed));
        let mut fields = HeaderMap::new();
        fields.insert(HeaderName::from_lowercase(b"x\"a").expect("`http` takes it"), HeaderValue::from_static("1"));
        assert_eq!(read_trailers(&fields, &mut Head::default()), Err(Fault::Malformed));
        assert!(read(&[("x'a", "1")]).is_ok());
        // Every crumb counts, not the first alone.
        assert_eq!(read(&[("cookie", "a=b"), ("cookie", "c=d ")]), Err(Error::Malformed));
    }

    // RFC 9113, 8.2.3
    #[test]
    fn cookies_become_one_field_without_space_at_its_ends() {
        for (crumbs, expected) in
            [(&["a=b", "c=d"][..], "a=b; c=d"), (&["", "a=b", ""], "a=b"), (&["", ""], ""), (&["a=b"], "a=b")]
        {
            let fields: Vec<_> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
            let seen = read(&fields).expect("good fields");
            assert_eq!(seen, [("Host", "a"), ("cookie", expected)].map(|(n, v)| (n.to_owned(), v.to_owned())));
        }
    }
}
