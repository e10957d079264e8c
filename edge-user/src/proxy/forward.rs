//! One exchange with an upstream: the request goes up while its answer may already come down, in one task and
//! without a copy of either body.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::owned::{OwnedNames, imitates_forwarding};
use super::upstream::connect;
use crate::config::snapshot::Service;
use crate::http::downstream::{self, Downstream};
use crate::http::h1::body::Found;
use crate::http::h1::client::{self, UpstreamConn};
use crate::http::h1::parse::{Framing, ResponseMeta};
use crate::http::h1::write::{self, BodyEncoder};
use crate::http::head::Head;
use crate::reason::Reason;
use crate::worker::Worker;

/// Response bytes that may wait for the client before the upstream is read further.
const HIGH_WATER_BYTES: usize = 64 * 1024;
/// Interim responses of one exchange; more is an upstream gone mad.
const MAX_INTERIM: u8 = 32;

/// Why an exchange did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client's side failed.
    Client(downstream::Fault),
    /// The request body is over `limits.body_bytes` or a plugin's limit.
    TooLarge,
    /// The upstream's side failed.
    Upstream(Reason),
}

impl From<client::Fault> for Failure {
    fn from(fault: client::Fault) -> Self {
        Self::Upstream(match fault {
            client::Fault::Closed { .. } => Reason::UpstreamReset,
            client::Fault::Malformed => Reason::UpstreamMalformed,
            client::Fault::Timeout => Reason::UpstreamTimeout,
        })
    }
}

/// How far the request has come.
struct Upload {
    framing: Framing,
    /// All of it is in the connection's buffer.
    ended: bool,
    /// All of it is sent.
    done: bool,
    /// The upstream takes no more of it; an answer may stand there all the same.
    broken: bool,
    /// Body bytes taken from the client.
    bytes: u64,
}

/// One exchange under way.
pub struct Exchange<'a, D> {
    worker: &'a Worker,
    service: &'a Service,
    down: &'a mut D,
    owned: &'a OwnedNames,
    body_limit: u64,
    upstream: UpstreamConn,
    /// The upstream's address.
    pub address: SocketAddr,
    upload: Upload,
    interim: u8,
    /// Response body bytes so far.
    pub response_bytes: u64,
}

/// A request as it goes upstream.
pub struct Outgoing<'a> {
    /// Its head; framing fields are told anew.
    pub head: &'a Head,
    /// Its target.
    pub target: &'a [u8],
    /// Names that no trailer of the client may bear (P1).
    pub owned: &'a OwnedNames,
    /// The longest body it may have, in bytes.
    pub body_limit: u64,
    /// The protocol to switch to, where the client asks for one that is allowed.
    pub upgrade: Option<&'a [u8]>,
}

impl<'a, D: Downstream> Exchange<'a, D> {
    /// Sends the request and reads the response's head into `response`. A request of which the upstream can have
    /// seen nothing, or which may be repeated (RFC 9110, 9.2.2), is tried again on another connection (D7).
    pub async fn start(
        worker: &'a Worker,
        service: &'a Service,
        outgoing: &Outgoing<'a>,
        down: &'a mut D,
        response: &mut Head,
    ) -> Result<(Self, ResponseMeta), Failure> {
        let framing = down.request_framing();
        let repeatable = matches!(outgoing.head.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE");
        let to_head = outgoing.head.method() == b"HEAD";
        let mut tries_left = service.retries;
        let (upstream, address) = obtain(worker, service, &mut tries_left).await?;
        let mut exchange = Self {
            worker,
            service,
            down,
            owned: outgoing.owned,
            body_limit: outgoing.body_limit,
            upstream,
            address,
            upload: Upload::new(framing),
            interim: 0,
            response_bytes: 0,
        };
        loop {
            exchange.write_head(outgoing);
            let failure =
                match poll_fn(|cx| exchange.poll_head(cx, response, to_head, outgoing.upgrade.is_some())).await {
                    Ok(meta) => return Ok((exchange, meta)),
                    Err(failure) => failure,
                };
            // An upstream may close an idle connection in the very moment we use it: not its fault, no try lost.
            let stale = exchange.upstream.reused;
            let silent = failure == Failure::Upstream(Reason::UpstreamReset);
            if !silent || exchange.upload.bytes > 0 || !repeatable || (!stale && tries_left == 0) {
                return Err(failure);
            }
            tries_left -= u32::from(!stale);
            (exchange.upstream, exchange.address) = obtain(worker, service, &mut tries_left).await?;
            exchange.upload = Upload::new(framing);
        }
    }

    fn write_head(&mut self, outgoing: &Outgoing<'_>) {
        let out = &mut self.upstream.out;
        write::request(out, outgoing.head, outgoing.target, self.upload.framing);
        if let Some(protocol) = outgoing.upgrade {
            out.extend_from_slice(b"Connection: Upgrade\r\n");
            write::field(out, b"Upgrade", protocol);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut Head,
        to_head: bool,
        upgrade: bool,
    ) -> Poll<Result<ResponseMeta, Failure>> {
        self.drive_upload(cx)?;
        loop {
            // The upstream owes no answer before it has the request.
            let limit = if self.upload.done { self.service.read_timeout } else { Duration::ZERO };
            let polled = self.upstream.poll_head(cx, response, to_head, limit);
            if polled.is_pending() && self.down.poll_gone(cx) {
                return Poll::Ready(Err(Failure::Client(downstream::Fault::Gone)));
            }
            let meta = ready!(polled)?;
            match response.status() {
                101 if upgrade => return Poll::Ready(Ok(meta)),
                101 => return Poll::Ready(Err(Failure::Upstream(Reason::UpstreamMalformed))),
                100..=199 => {
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        return Poll::Ready(Err(Failure::Upstream(Reason::UpstreamMalformed)));
                    }
                    // The edge has sent its own 100 when it began to read the body.
                    if response.status() != 100 {
                        super::headers::clean_response(response, false);
                        super::headers::add_via(response);
                        self.down.interim(response);
                        let _ = self.down.poll_flush(cx).map_err(Failure::Client)?;
                    }
                }
                _ => return Poll::Ready(Ok(meta)),
            }
        }
    }

    /// Goes on with the request as far as both sides let it.
    fn drive_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        if self.upload.done || self.upload.broken {
            return Ok(());
        }
        match self.poll_upload(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.upload.done = true;
                self.upstream.await_answer();
                Ok(())
            }
            // It may have answered before it closed: the reading side will tell.
            Poll::Ready(Err(Failure::Upstream(Reason::UpstreamReset))) => {
                self.upload.broken = true;
                Ok(())
            }
            Poll::Ready(Err(failure)) => Err(failure),
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            if !self.upload.ended && self.upstream.can_take_more() {
                let owned = self.owned;
                let may_trail = move |name: &[u8]| !owned.owns(name) && !imitates_forwarding(name);
                let mut sink = BodyEncoder::new(&mut self.upstream.out, self.upload.framing).trailing_only(&may_trail);
                let polled = self.down.poll_body(cx, &mut sink);
                self.upload.bytes += sink.data_bytes;
                if self.upload.bytes > self.body_limit {
                    return Poll::Ready(Err(Failure::TooLarge));
                }
                self.upload.ended = ready!(polled).map_err(Failure::Client)?;
            }
            ready!(self.upstream.poll_send(cx, self.service.write_timeout))?;
            if self.upload.ended {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Sends the response's body, and what is left of the request's, after `Downstream::respond`.
    pub async fn transfer(&mut self) -> Result<(), Failure> {
        let mut finished = false;
        poll_fn(|cx| self.poll_transfer(cx, &mut finished)).await
    }

    fn poll_transfer(&mut self, cx: &mut Context<'_>, finished: &mut bool) -> Poll<Result<(), Failure>> {
        self.drive_upload(cx)?;
        while !*finished {
            if self.down.buffered() >= HIGH_WATER_BYTES {
                ready!(self.down.poll_flush(cx)).map_err(Failure::Client)?;
            }
            let limit = self.service.read_timeout;
            let mut found = ready!(self.upstream.poll_data(cx, false, limit))?;
            if found == Found::More {
                // Nothing of what has come is held back while waiting for more.
                ready!(self.down.poll_flush(cx)).map_err(Failure::Client)?;
                found = ready!(self.upstream.poll_data(cx, true, limit))?;
            }
            match found {
                Found::Data(n) => {
                    self.down.write(self.upstream.data(n));
                    self.upstream.consume(n);
                    self.response_bytes += n as u64;
                }
                Found::End | Found::More => {
                    self.down.finish(&self.upstream.trailers);
                    *finished = true;
                }
            }
        }
        self.down.poll_flush(cx).map_err(Failure::Client)
    }

    /// Reads the response's body whole, in place of `transfer`; nothing where it is over `limit` bytes.
    pub async fn collect(&mut self, limit: usize) -> Result<Option<Vec<u8>>, Failure> {
        let mut body = Vec::new();
        poll_fn(|cx| {
            self.drive_upload(cx)?;
            loop {
                match ready!(self.upstream.poll_data(cx, true, self.service.read_timeout))? {
                    Found::Data(n) if body.len() + n > limit => return Poll::Ready(Ok(None)),
                    Found::Data(n) => {
                        body.extend_from_slice(self.upstream.data(n));
                        self.upstream.consume(n);
                    }
                    Found::End | Found::More => return Poll::Ready(Ok(Some(std::mem::take(&mut body)))),
                }
            }
        })
        .await
    }

    /// Sends a body of the edge's own making after `Downstream::respond`.
    pub async fn send(&mut self, body: &[u8]) -> Result<(), Failure> {
        self.down.write(body);
        self.response_bytes += body.len() as u64;
        self.down.finish(&Head::default());
        poll_fn(|cx| self.down.poll_flush(cx)).await.map_err(Failure::Client)
    }

    /// Ends the exchange: the connection is kept if request and response both came to their ends.
    pub fn finish(self, now: std::time::Instant) {
        if self.upload.done {
            self.worker.pool.put(self.service.endpoint, self.upstream, self.address, now);
        } else {
            self.down.abandon_body();
        }
    }

    /// Body bytes the client sent.
    pub fn request_bytes(&self) -> u64 {
        self.upload.bytes
    }

    /// The client's side, to answer on.
    pub fn down(&mut self) -> &mut D {
        self.down
    }

    /// Takes the connection out, for a tunnel.
    pub fn into_upstream(self) -> UpstreamConn {
        self.upstream
    }
}

impl Upload {
    fn new(framing: Framing) -> Self {
        let ended = matches!(framing, Framing::None | Framing::Length(0));
        Self { framing, ended, done: false, broken: false, bytes: 0 }
    }
}

/// An idle connection, or a fresh one after at most `tries_left` further attempts.
async fn obtain(
    worker: &Worker,
    service: &Service,
    tries_left: &mut u32,
) -> Result<(UpstreamConn, SocketAddr), Failure> {
    if let Some(kept) = worker.pool.take(service.endpoint) {
        worker.metrics.upstream_reuses.add(1);
        return Ok(kept);
    }
    loop {
        match connect(service, &worker.clock).await {
            Ok(fresh) => {
                worker.metrics.upstream_connects.add(1);
                return Ok(fresh);
            }
            // A wait that ended has cost the client its patience; the rest fails at once and may be tried again.
            Err(Reason::UpstreamConnect) if *tries_left > 0 => *tries_left -= 1,
            Err(reason) => {
                worker.metrics.upstream_failures.add(1);
                return Err(Failure::Upstream(reason));
            }
        }
    }
}
