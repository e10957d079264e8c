//! A client's HTTP/1 connection: one request after the other, each read whole before the next begins.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::body::{Decoder, Found};
use super::parse::{self, Framing, RequestMeta, Scanner};
use super::write::{self, BodyEncoder};
use crate::clock::{Clock, TICK, Wait};
use crate::http::buffer::Buffer;
use crate::http::downstream::{Downstream, Fault, ResponseShape};
use crate::http::head::{Head, Version};
use crate::http::io::Io;
use crate::http::tcp_info::TcpInfo;
use crate::kept::KeptConnection;
use crate::settings::{Limits, Timeouts};

/// Body bytes taken in one go.
pub const BODY_BUFFER_BYTES: usize = 64 * 1024;
/// What the buffer towards the client keeps between responses.
const KEEP_OUT_BYTES: usize = 64 * 1024;
/// The first half of HTTP/2's connection preface: no HTTP/1 request begins so.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// After an early answer: how much, and how long, is read and dropped so that no reset overtakes the answer.
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// Why no request came of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// The bytes are refused.
    Refused(parse::Error),
    /// The head did not arrive within `timeouts.request_head`.
    Timeout,
    /// The first bytes are HTTP/2's preface (RFC 9113, 3.3); they still stand in the buffer.
    Http2,
}

/// Ends our direction, then reads and drops what the peer still sends, for a while: a reset must not overtake the last
/// bytes.
pub(crate) async fn lingering_close(io: &Io, clock: &Rc<Clock>) {
    let mut wait = Wait::new(clock);
    let mut dropped = 0;
    let mut scratch = [0; 4096];
    let mut shut = false;
    poll_fn(|cx| {
        if !shut {
            shut = io.poll_shutdown(cx).is_ready();
        }
        loop {
            match io.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(n)) => dropped += n,
                Poll::Pending if wait.is_over(LINGER, cx) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
            if dropped > LINGER_BYTES {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

/// One client connection.
pub struct Conn {
    io: Io,
    input: Buffer,
    out: Vec<u8>,
    sent: usize,
    scanner: Scanner,
    decoder: Decoder,
    trailers: Head,
    framing: Framing,
    version: Version,
    persistent: bool,
    expect_continue: bool,
    /// Nothing was parsed yet.
    fresh: bool,
    /// An empty line before the next request was skipped.
    skipped: bool,
    /// What the response's fields told, for `write` and `finish`.
    response: Framing,
    limits: Limits,
    timeouts: Timeouts,
    read_wait: Wait,
    write_wait: Wait,
    read_bytes: u64,
    sent_bytes: u64,
    /// Behind the stream, so that it is dropped after it.
    kept: Option<KeptConnection>,
}

impl Conn {
    /// A connection on which nothing was read yet.
    pub fn new(io: Io, clock: &Rc<Clock>, limits: &Limits, timeouts: &Timeouts) -> Self {
        Self {
            io,
            input: Buffer::default(),
            out: Vec::new(),
            sent: 0,
            scanner: Scanner::default(),
            decoder: Decoder::new(Framing::None),
            trailers: Head::default(),
            framing: Framing::None,
            version: Version::Http11,
            persistent: false,
            expect_continue: false,
            fresh: true,
            skipped: false,
            response: Framing::None,
            limits: *limits,
            timeouts: *timeouts,
            read_wait: Wait::new(clock),
            write_wait: Wait::new(clock),
            read_bytes: 0,
            sent_bytes: 0,
            kept: None,
        }
    }

    /// Reads the next request head. `None`: the client closed, was idle for too long, or idle connections are closed.
    pub async fn read_head(
        &mut self,
        head: &mut Head,
        ends: impl Fn(&Wait) -> bool,
    ) -> Result<Option<RequestMeta>, HeadFault> {
        poll_fn(|cx| self.poll_head(cx, head, &ends)).await
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut Head,
        ends: &impl Fn(&Wait) -> bool,
    ) -> Poll<Result<Option<RequestMeta>, HeadFault>> {
        loop {
            if self.fresh && self.input.filled().starts_with(HTTP2_PREFACE) {
                return Poll::Ready(Err(HeadFault::Http2));
            }
            if let Some(found) = self.parse_head(head).transpose() {
                self.fresh = false;
                self.read_wait.progressed();
                return Poll::Ready(found.map(Some).map_err(HeadFault::Refused));
            }
            let idle = self.input.is_empty();
            match self.input.poll_fill(&self.io, self.limits.head_bytes + 1, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(n)) => {
                    self.read_bytes += n as u64;
                    // The idle limit ends and the head's begins; it is not extended by further bytes.
                    if idle {
                        self.read_wait.progressed();
                    }
                }
                // A request that has come is read, whoever else wants the place.
                Poll::Pending if idle && ends(&self.read_wait) && !self.io.has_unread() => {
                    return Poll::Ready(Ok(None));
                }
                Poll::Pending => {
                    let limit = if idle { self.timeouts.idle } else { self.timeouts.request_head };
                    return match self.read_wait.is_over(limit, cx) {
                        false => Poll::Pending,
                        true if idle => Poll::Ready(Ok(None)),
                        true => Poll::Ready(Err(HeadFault::Timeout)),
                    };
                }
            }
        }
    }

    fn parse_head(&mut self, head: &mut Head) -> Result<Option<RequestMeta>, parse::Error> {
        // One empty line before a request is an old client's habit (RFC 9112, 2.2); a second one is not, however they
        // arrive.
        if !self.skipped && self.input.filled().starts_with(b"\r\n") {
            self.input.consume(2);
            self.skipped = true;
        }
        if self.input.is_empty() || (!self.skipped && self.input.filled() == b"\r") {
            return Ok(None);
        }
        let bytes = self.input.filled();
        let Some(length) = self.scanner.find_end(bytes)? else {
            return if bytes.len() > self.limits.head_bytes { Err(parse::Error::TooLarge) } else { Ok(None) };
        };
        if length > self.limits.head_bytes {
            return Err(parse::Error::TooLarge);
        }
        let meta = parse::request(&bytes[..length], head, self.limits.fields)?;
        self.input.consume(length);
        self.input.shrink();
        self.skipped = false;
        self.framing = meta.framing;
        self.decoder = Decoder::new(meta.framing);
        self.trailers.clear();
        self.version = head.version();
        self.persistent = meta.persistent;
        self.expect_continue = meta.expect_continue && !self.decoder.is_end();
        Ok(Some(meta))
    }

    /// Whether the next request may come on this connection.
    pub fn is_persistent(&self) -> bool {
        self.persistent && self.decoder.is_end()
    }

    /// Whether the client has sent, or still owes, bytes that nobody will read.
    pub fn has_unread(&self) -> bool {
        !self.decoder.is_end() || !self.input.is_empty()
    }

    /// Sends the rest and ends the connection. With `linger`, whatever the client still sends is read and dropped for a moment:
    /// closing with unread bytes would make the kernel send a reset that overtakes the answer (RFC 9112, 9.6).
    pub async fn close(mut self, clock: &Rc<Clock>, linger: bool) {
        if let Some(kept) = &self.kept {
            kept.stands_nowhere();
            return self.close_kept(clock).await;
        }
        if poll_fn(|cx| self.poll_flush(cx)).await.is_err() {
            return;
        }
        if !linger {
            // Dropping the stream ends TCP; only TLS has something to say before, and nobody waits for it.
            return poll_fn(|cx| {
                self.io.close_notify(cx);
                Poll::Ready(())
            })
            .await;
        }
        lingering_close(&self.io, clock).await;
    }

    /// The stream and what was read ahead, for a tunnel after 101; and what must outlive the stream.
    pub fn into_parts(self) -> (Io, Buffer, Option<KeptConnection>) {
        if let Some(kept) = &self.kept {
            kept.becomes_a_tunnel();
            self.io.with_tcp(|tcp| SockRef::from(tcp).set_linger(None));
        }
        (self.io, self.input, self.kept)
    }

    /// Whether the kernel knows of the connection.
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// From here on the kernel may answer on the connection, and change its numbers. Whatever closes the socket throws
    /// away what the client has not acknowledged: nothing of it is sent once nobody changes its numbers any more.
    pub fn keep(&mut self, kept: KeptConnection) {
        let set = self.io.with_tcp(|tcp| SockRef::from(tcp).set_linger(Some(Duration::ZERO)));
        self.kept = set.is_some_and(|set| set.is_ok()).then_some(kept);
    }

    /// A response is whole, though not yet sent: says where the connection stands once it is, if that is between two
    /// requests, of which the last one had no body, and nothing was read beyond it.
    fn tell_where_it_stands(&self) {
        let Some(kept) = &self.kept else { return };
        if self.framing == Framing::None && self.is_persistent() && self.input.is_empty() {
            let written = self.sent_bytes + self.buffered() as u64;
            kept.stands_between(self.read_bytes, written, || {
                let info = self.io.with_tcp(TcpInfo::of);
                info.is_some_and(|info| info.is_ok_and(|info| info.came_in_order()))
            });
        }
    }

    /// Sends the rest and ends a connection that the kernel knows of: the socket is closed once the client has
    /// acknowledged everything, or has stopped doing so for `timeouts.response_write`.
    async fn close_kept(&mut self, clock: &Rc<Clock>) {
        if poll_fn(|cx| self.poll_flush(cx)).await.is_err() {
            return;
        }
        lingering_close(&self.io, clock).await;
        let limit = self.timeouts.response_write;
        let (mut open, mut since) = (None, Instant::now());
        while let Some(Ok(info)) = self.io.with_tcp(TcpInfo::of) {
            if info.is_acknowledged() {
                self.io.with_tcp(|tcp| SockRef::from(tcp).set_linger(None));
                return;
            }
            if open != Some(info.open()) {
                (open, since) = (Some(info.open()), Instant::now());
            } else if !limit.is_zero() && since.elapsed() > limit {
                return;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Bytes read and sent so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.read_bytes, self.sent_bytes)
    }

    fn poll_fill_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self.input.poll_fill(&self.io, BODY_BUFFER_BYTES, cx) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(Fault::Gone)),
            Poll::Ready(Ok(n)) => {
                self.read_bytes += n as u64;
                self.read_wait.progressed_by(n);
                Poll::Ready(Ok(()))
            }
            Poll::Pending if self.read_wait.is_over(self.timeouts.request_body, cx) => Poll::Ready(Err(Fault::Timeout)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Downstream for Conn {
    fn request_framing(&self) -> Framing {
        self.framing
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, sink: &mut BodyEncoder<'_>) -> Poll<Result<bool, Fault>> {
        loop {
            match self.decoder.decode(&mut self.input, &mut self.trailers).map_err(|_| Fault::Malformed)? {
                Found::Data(n) => {
                    sink.data(&self.input.filled()[..n]);
                    self.input.consume(n);
                    if sink.pending() >= BODY_BUFFER_BYTES {
                        return Poll::Ready(Ok(false));
                    }
                }
                Found::End => {
                    sink.end(&self.trailers);
                    self.read_wait.progressed();
                    return Poll::Ready(Ok(true));
                }
                Found::More if sink.pending() > 0 => return Poll::Ready(Ok(false)),
                Found::More => {
                    // Only now has every check before the body passed (RFC 9110, 10.1.1).
                    if std::mem::take(&mut self.expect_continue) {
                        self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    if !self.out.is_empty() {
                        ready!(self.poll_flush(cx))?;
                    }
                    ready!(self.poll_fill_body(cx))?;
                }
            }
        }
    }

    fn abandon_body(&mut self) {
        // What has arrived already costs nothing to skip; if that was all, the connection can be kept.
        while let Ok(Found::Data(n)) = self.decoder.decode(&mut self.input, &mut self.trailers) {
            self.input.consume(n);
        }
        self.persistent &= self.decoder.is_end();
    }

    fn interim(&mut self, head: &Head) {
        if self.version == Version::Http11 && self.response == Framing::None {
            write::status_line(&mut self.out, head.status(), head.reason());
            write::fields(&mut self.out, head, Framing::None);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn respond(&mut self, head: &Head, shape: ResponseShape, close: bool) {
        // HTTP/1.0 knows no chunks: the end of the connection ends the body.
        let chunks = self.version != Version::Http10;
        let fit = |framing| match framing {
            Framing::Chunked | Framing::Eof if chunks => Framing::Chunked,
            Framing::Chunked | Framing::Eof => Framing::Eof,
            framing => framing,
        };
        self.response = fit(shape.framing);
        self.persistent &= !close && self.response != Framing::Eof;
        let declared = match (shape.framing, shape.declared) {
            (Framing::None, Framing::Eof) => Framing::None,
            (_, declared) => fit(declared),
        };
        write::status_line(&mut self.out, head.status(), head.reason());
        write::fields(&mut self.out, head, declared);
        match (self.persistent, self.version) {
            (false, _) => self.out.extend_from_slice(b"Connection: close\r\n"),
            (true, Version::Http10) => self.out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (true, _) => {}
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn write(&mut self, data: &[u8]) {
        // A slow client never takes everything: what it has taken goes once it is the greater part.
        if self.sent > KEEP_OUT_BYTES && self.sent > self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        BodyEncoder::new(&mut self.out, self.response).data(data);
    }

    fn finish(&mut self, trailers: &Head) {
        BodyEncoder::new(&mut self.out, self.response).end(trailers);
        self.response = Framing::None;
        self.tell_where_it_stands();
    }

    fn abort(&mut self) {
        // Without the last chunk, or with bytes missing, no client takes the response for complete.
        self.persistent = false;
    }

    fn buffered(&self) -> usize {
        self.out.len() - self.sent
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let before = self.sent;
        let polled = self.io.poll_write_all(cx, &self.out, &mut self.sent);
        self.sent_bytes += (self.sent - before) as u64;
        match polled {
            Poll::Ready(Ok(())) => {
                self.write_wait.progressed();
                self.out.clear();
                self.out.shrink_to(KEEP_OUT_BYTES);
                self.sent = 0;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Fault::Gone)),
            Poll::Pending => {
                self.write_wait.progressed_by(self.sent - before);
                match self.write_wait.is_over(self.timeouts.response_write, cx) {
                    true => Poll::Ready(Err(Fault::Timeout)),
                    false => Poll::Pending,
                }
            }
        }
    }
}
