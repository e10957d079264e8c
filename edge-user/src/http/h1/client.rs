//! A connection to an upstream: one exchange after the other, kept between them while both sides are in step.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::body::{Decoder, Found};
use super::conn::BODY_BUFFER_BYTES;
use super::parse::{self, Framing, ResponseMeta, Scanner};
use crate::clock::{Clock, Wait};
use crate::http::buffer::Buffer;
use crate::http::head::Head;
use crate::http::io::Io;

/// A response head's bytes: as much as the edge takes from clients by default, twice.
const HEAD_BYTES: usize = 64 * 1024;

/// What is wrong with the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It closed or reset the connection; `silent` before a single byte of the answer.
    #[error("upstream closed the connection")]
    Closed {
        /// Nothing of an answer had come.
        silent: bool,
    },
    /// Its answer is not HTTP/1, or lies about its framing.
    #[error("upstream's answer is malformed")]
    Malformed,
    /// It says that it has not looked at the request, which may go elsewhere (RFC 9113, 8.7).
    #[error("upstream refused the request unseen")]
    Refused,
    /// A wait ended.
    #[error("upstream too slow")]
    Timeout,
}

/// One upstream connection.
pub struct UpstreamConn {
    io: Io,
    input: Buffer,
    /// Bytes to send; the owner appends, `poll_send` empties.
    pub out: Vec<u8>,
    sent: usize,
    scanner: Scanner,
    decoder: Decoder,
    /// The response's trailers once `poll_data` reported the end.
    pub trailers: Head,
    read_wait: Wait,
    write_wait: Wait,
    persistent: bool,
    /// How many exchanges ran over it before this one.
    pub exchanges: u32,
    /// When it was opened.
    pub opened: Instant,
}

impl UpstreamConn {
    /// A fresh connection.
    pub fn new(io: Io, clock: &Rc<Clock>) -> Self {
        Self {
            io,
            input: Buffer::default(),
            out: Vec::with_capacity(2048),
            sent: 0,
            scanner: Scanner::default(),
            decoder: Decoder::new(Framing::None),
            trailers: Head::default(),
            read_wait: Wait::new(clock),
            write_wait: Wait::new(clock),
            persistent: false,
            exchanges: 0,
            opened: Instant::now(),
        }
    }

    /// Whether the upstream still waits for a request here.
    pub fn is_quiet(&self) -> bool {
        self.io.is_quiet()
    }

    /// Makes ready for another exchange; false if this one left the connection out of step.
    pub fn recycle(&mut self) -> bool {
        let kept = self.persistent && self.decoder.is_end() && self.input.is_empty() && self.out.is_empty();
        self.exchanges = self.exchanges.saturating_add(1);
        self.trailers.clear();
        self.out.shrink_to(BODY_BUFFER_BYTES);
        self.input.shrink();
        kept
    }

    /// Whether `out` may be appended to: nothing of it is half sent, and it is not full.
    pub fn can_take_more(&self) -> bool {
        self.sent == 0 && self.out.len() < BODY_BUFFER_BYTES
    }

    /// The request is out: the wait for the answer begins now.
    pub fn await_answer(&mut self) {
        self.read_wait.progressed();
    }

    /// Sends all of `out`.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<Result<(), Fault>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let before = self.sent;
        match self.io.poll_write_all(cx, &self.out, &mut self.sent) {
            Poll::Ready(Ok(())) => {
                self.write_wait.progressed();
                self.out.clear();
                self.sent = 0;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Fault::Closed { silent: true })),
            Poll::Pending => {
                if self.sent > before {
                    self.write_wait.progressed();
                }
                match self.write_wait.is_over(limit, cx) {
                    true => Poll::Ready(Err(Fault::Timeout)),
                    false => Poll::Pending,
                }
            }
        }
    }

    /// Reads a response head, interim ones included: the caller asks again after one.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut Head,
        to_head: bool,
        limit: Duration,
    ) -> Poll<Result<ResponseMeta, Fault>> {
        loop {
            if !self.input.is_empty() {
                let bytes = self.input.filled();
                if let Some(length) = self.scanner.find_end(bytes).map_err(|_| Fault::Malformed)? {
                    let meta = parse::response(&bytes[..length], head, to_head).map_err(|_| Fault::Malformed)?;
                    self.input.consume(length);
                    self.decoder = Decoder::new(meta.framing);
                    self.persistent = meta.persistent;
                    self.read_wait.progressed();
                    return Poll::Ready(Ok(meta));
                }
                if bytes.len() >= HEAD_BYTES {
                    return Poll::Ready(Err(Fault::Malformed));
                }
            }
            if ready!(self.poll_fill(cx, limit))? == 0 {
                let silent = self.input.is_empty();
                return Poll::Ready(Err(if silent { Fault::Closed { silent } } else { Fault::Malformed }));
            }
        }
    }

    /// Finds the next piece of the response body: its length at the front of `data`, or the end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, wait: bool, limit: Duration) -> Poll<Result<Found, Fault>> {
        loop {
            match self.decoder.decode(&mut self.input, &mut self.trailers).map_err(|_| Fault::Malformed)? {
                Found::More if !wait => return Poll::Ready(Ok(Found::More)),
                Found::More => {
                    if ready!(self.poll_fill(cx, limit))? == 0 {
                        self.persistent = false;
                        self.decoder.finish().map_err(|_| Fault::Closed { silent: false })?;
                        return Poll::Ready(Ok(Found::End));
                    }
                }
                found => return Poll::Ready(Ok(found)),
            }
        }
    }

    /// The data `poll_data` reported.
    pub fn data(&self, n: usize) -> &[u8] {
        &self.input.filled()[..n]
    }

    /// Marks reported data as taken.
    pub fn consume(&mut self, n: usize) {
        self.input.consume(n);
    }

    /// Nothing is read for a while.
    pub fn rest(&mut self) {
        self.input.rest();
    }

    /// The stream and what was read ahead, for a tunnel after 101.
    pub fn into_parts(self) -> (Io, Buffer) {
        (self.io, self.input)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<Result<usize, Fault>> {
        match self.input.poll_fill(&self.io, HEAD_BYTES + 1, cx) {
            Poll::Ready(Ok(n)) => {
                self.read_wait.progressed();
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Fault::Closed { silent: self.input.is_empty() })),
            Poll::Pending if self.read_wait.is_over(limit, cx) => Poll::Ready(Err(Fault::Timeout)),
            Poll::Pending => Poll::Pending,
        }
    }
}
