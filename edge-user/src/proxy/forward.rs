//! One exchange with an upstream: the request goes up while its answer may already come down, in one task and
//! without a copy of either body.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::body::Held;
use super::buffers::Part;
use super::content::Chunking;
use super::headers::Via;
use super::link::Link;
use super::tries::{Tally, Tries, Try};
use super::upload::{Trailing, Upload};
use super::upstream::{Sharing, Terms};
use crate::balancer::{Affinity, Outcome, Pick};
use crate::config::snapshot::Service;
use crate::http::buffer::KEEP_BYTES;
use crate::http::downstream::{self, Downstream};
use crate::http::h1::body::Found;
use crate::http::h1::client::{self, UpstreamConn};
use crate::http::h1::parse::ResponseMeta;
use crate::http::h1::write::Case;
use crate::http::head::{Head, Known};
use crate::reason::Reason;
use crate::worker::Worker;

/// Interim responses of one exchange; more is an upstream gone mad.
const MAX_INTERIM: u8 = 32;

/// Where the room of what is read of a response comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// It has to be read, whatever there is.
    Own,
    /// `limits.buffered_bytes`.
    Shared,
}

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
            client::Fault::Closed { .. } | client::Fault::Refused => Reason::UpstreamReset,
            client::Fault::Malformed => Reason::UpstreamMalformed,
            client::Fault::Timeout => Reason::UpstreamTimeout,
        })
    }
}

/// One exchange under way.
pub struct Exchange<'a, D> {
    worker: &'a Worker,
    service: &'a Service,
    down: &'a mut D,
    attempt: Try,
    upload: Upload<'a>,
    /// Whether its method lets the request be sent again (RFC 9110, 9.2.2).
    repeatable: bool,
    interim: u8,
    response_via: &'a Via,
    sharing: Sharing,
    /// Response bytes that may wait for the client before the upstream is read further.
    ahead_bytes: usize,
    /// The room they have.
    part: Part,
    /// When the response's head came.
    pub answered: Instant,
    /// Response body bytes so far.
    pub response_bytes: u64,
}

/// A request as it goes upstream.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// Its head; framing fields are told anew.
    pub head: &'a Head,
    /// Its target.
    pub target: &'a [u8],
    /// Whether HTTP/2 is to call its scheme `https`.
    pub https: bool,
    /// Which trailers of the client may go up.
    pub trailing: Trailing<'a>,
    /// How the way of an interim response is told.
    pub response_via: &'a Via,
    /// The longest body it may have, in bytes.
    pub body_limit: u64,
    /// The protocol to switch to, where the client asks for one that is allowed.
    pub upgrade: Option<&'a [u8]>,
    /// Where consistent hashing leads it.
    pub affinity: &'a Affinity,
    /// Body bytes read before an upstream is asked.
    pub hold_bytes: usize,
    /// Response bytes read while the client is slow.
    pub ahead_bytes: usize,
    /// How HTTP/1 spells the names of its fields.
    pub header_case: Case,
    /// What it asks of its connection.
    pub terms: Terms<'a>,
    /// How its body is framed.
    pub chunking: Chunking,
    /// Whether its `Host` is the client's, whatever an SRV record says.
    pub keeps_host: bool,
}

impl<'a, D: Downstream> Exchange<'a, D> {
    /// Sends the request, of whose body plugins left what is `held`, and reads the response's head into `response`. A request of which the upstream can have
    /// seen nothing, or which may be repeated (RFC 9110, 9.2.2), is tried again elsewhere (D7).
    pub(super) async fn start(
        worker: &'a Worker,
        service: &'a Service,
        outgoing: &Outgoing<'a>,
        held: Option<Box<Held>>,
        tally: &mut Tally,
        down: &'a mut D,
        response: &mut Head,
    ) -> Result<(Self, ResponseMeta), Failure> {
        let repeatable = matches!(outgoing.head.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE");
        let to_head = outgoing.head.method() == b"HEAD";
        let framing = down.request_framing();
        let part = worker.buffers.part();
        let mut upload = Upload::new(framing, outgoing.chunking, outgoing.trailing, outgoing.body_limit, held, part)?;
        if outgoing.hold_bytes > 0 && !upload.ended {
            upload.hold(down, outgoing.hold_bytes).await?;
        }
        let mut tries = Tries::new(worker, service, outgoing.affinity, outgoing.terms, tally);
        let attempt = tries.next().await.map_err(Failure::Upstream)?;
        let mut exchange = Self {
            worker,
            service,
            down,
            attempt,
            upload,
            repeatable,
            interim: 0,
            response_via: outgoing.response_via,
            sharing: outgoing.terms.sharing,
            ahead_bytes: outgoing.ahead_bytes,
            part: worker.buffers.part(),
            answered: Instant::now(),
            response_bytes: 0,
        };
        loop {
            let failure = match exchange.ask(outgoing, response, to_head).await {
                Ok(meta) => return Ok((exchange, meta)),
                Err(failure) => failure,
            };
            let Failure::Upstream(reason) = failure else { return Err(failure) };
            let lost = matches!(reason, Reason::UpstreamReset | Reason::UpstreamTimeout);
            let may = exchange.attempt.link.is_refused() || (exchange.repeatable && lost);
            // Told of every failure, whether there is another try or not.
            let goes_on = tries.failed(&exchange.attempt, reason);
            if !may || !exchange.upload.is_whole() || !goes_on {
                return Err(failure);
            }
            // It may wait for the very place that this try has.
            exchange.attempt.pick.end();
            exchange.attempt = tries.next().await.map_err(Failure::Upstream)?;
            exchange.upload.rewind();
        }
    }

    /// One try: the request out, the response's head in.
    async fn ask(
        &mut self,
        outgoing: &Outgoing<'_>,
        response: &mut Head,
        to_head: bool,
    ) -> Result<ResponseMeta, Failure> {
        let mut head = None;
        if self.upload.drops_trailers && outgoing.head.has(Known::Trailer) {
            head.get_or_insert_with(|| outgoing.head.clone()).remove(Known::Trailer);
        }
        if let Some(name) = self.attempt.pick.srv_name().filter(|_| !outgoing.keeps_host) {
            let port = self.attempt.pick.address.port();
            let own = port == self.service.scheme.default_port();
            let host = if own { name.to_owned() } else { format!("{name}:{port}") };
            head.get_or_insert_with(|| outgoing.head.clone()).set_known(Known::Host, host.as_bytes());
        }
        let changed = head.as_ref().map(|head| Outgoing { head, ..*outgoing });
        if !self.upload.begin(&mut self.attempt.link, changed.as_ref().unwrap_or(outgoing))? {
            return Err(Failure::Client(downstream::Fault::Malformed));
        }
        let upgrade = outgoing.upgrade.is_some();
        let meta = poll_fn(|cx| self.poll_head(cx, response, to_head, upgrade)).await?;
        self.answered = Instant::now();
        let took = self.answered.duration_since(self.attempt.began);
        self.attempt.pick.report(Outcome::Answered(response.status(), took));
        Ok(meta)
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
            let polled = self.attempt.link.poll_head(cx, response, to_head, limit);
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
                        super::headers::add_via(response, self.response_via);
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
        self.upload.drive(cx, self.down, &mut self.attempt.link, self.service.write_timeout)
    }

    /// Takes the response's body over, and sends what is left of the request's, after `Downstream::respond`. What the client
    /// has not taken yet is to be flushed.
    pub async fn transfer(&mut self) -> Result<(), Failure> {
        self.upload.forget();
        let mut finished = false;
        poll_fn(|cx| self.poll_transfer(cx, &mut finished)).await
    }

    fn poll_transfer(&mut self, cx: &mut Context<'_>, finished: &mut bool) -> Poll<Result<(), Failure>> {
        self.drive_upload(cx)?;
        while !*finished {
            let limit = self.service.read_timeout;
            let mut found = self.attempt.link.poll_data(cx, false, limit)?;
            if matches!(found, Poll::Ready(Found::More)) {
                // Nothing of what has come is held back while waiting for more.
                let _ = self.down.poll_flush(cx).map_err(Failure::Client)?;
                if self.is_ahead() {
                    self.attempt.link.rest();
                    return Poll::Pending;
                }
                found = self.attempt.link.poll_data(cx, true, limit)?;
            }
            match found {
                Poll::Pending if self.down.poll_gone(cx) => {
                    return Poll::Ready(Err(Failure::Client(downstream::Fault::Gone)));
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Found::Data(n)) => {
                    self.down.write(self.attempt.link.data(n));
                    self.attempt.link.consume(n);
                    self.response_bytes += n as u64;
                    if self.is_ahead() && self.down.poll_flush(cx).map_err(Failure::Client)?.is_pending() {
                        self.attempt.link.rest();
                        return Poll::Pending;
                    }
                }
                Poll::Ready(Found::End | Found::More) => {
                    self.down.finish(self.attempt.link.trailers());
                    *finished = true;
                }
            }
        }
        // The upstream has done its part, however long the client takes for its own.
        if self.upload.done { Poll::Ready(Ok(())) } else { self.down.poll_flush(cx).map_err(Failure::Client) }
    }

    /// Whether as much of the response waits for the client as may.
    fn is_ahead(&mut self) -> bool {
        let waiting = self.down.buffered();
        // As much as may come at once has to have room.
        waiting >= self.ahead_bytes || !self.part.has_room(waiting + KEEP_BYTES - 1)
    }

    /// Reads the response's body until a little over `limit` bytes have come, or as many as have room, and tells whether
    /// that is all of it. What is not is left to `transfer`.
    pub async fn gather(&mut self, limit: usize, room: Room) -> Result<(Vec<u8>, bool), Failure> {
        self.upload.forget();
        let mut body = Vec::new();
        poll_fn(|cx| {
            self.drive_upload(cx)?;
            while body.len() <= limit && (room == Room::Own || self.part.has_room(body.len())) {
                match ready!(self.attempt.link.poll_data(cx, true, self.service.read_timeout))? {
                    Found::Data(n) => {
                        body.extend_from_slice(self.attempt.link.data(n));
                        self.attempt.link.consume(n);
                    }
                    Found::End | Found::More => return Poll::Ready(Ok((std::mem::take(&mut body), true))),
                }
            }
            Poll::Ready(Ok((std::mem::take(&mut body), false)))
        })
        .await
    }

    /// Appends what was gathered to the response, before `transfer`.
    pub fn put(&mut self, body: Vec<u8>) {
        self.down.write(&body);
        self.response_bytes += body.len() as u64;
    }

    /// Puts a body of the edge's own making behind `Downstream::respond`.
    pub fn send(&mut self, body: Vec<u8>) {
        self.put(body);
        self.down.finish(&Head::default());
    }

    /// Ends the exchange: the connection is kept if request and response both came to their ends. What is left is the
    /// room of what the client has not taken yet.
    pub(super) fn finish(self, now: Instant) -> Part {
        if !self.upload.done {
            self.down.abandon_body();
        } else if let Link::H1(conn) = self.attempt.link {
            let key = (self.service.endpoint, self.attempt.pick.address, self.sharing);
            self.worker.pool.put(key, conn, now);
        }
        self.part
    }

    /// Whether the request could be sent once more as it was, although its answer has begun: nothing of that was used.
    pub(super) fn may_be_repeated(&self) -> bool {
        self.repeatable && self.upload.is_whole()
    }

    /// Gives the answer up unused; what is held of the request, for another exchange. The connection is kept if what is
    /// left of the answer is short and comes soon.
    pub(super) async fn give_up(mut self) -> Option<Box<Held>> {
        const SHORT: usize = 64 << 10;
        const SOON: Duration = Duration::from_millis(100);
        let held = self.upload.forget();
        if self.upload.done
            && matches!(tokio::time::timeout(SOON, self.gather(SHORT, Room::Own)).await, Ok(Ok((_, true))))
        {
            drop(self.finish(Instant::now()));
        }
        held
    }

    /// Body bytes the client sent.
    pub fn request_bytes(&self) -> u64 {
        self.upload.bytes
    }

    /// The client's side, to answer on.
    pub fn down(&mut self) -> &mut D {
        self.down
    }

    /// Takes the connection out, for a tunnel; only HTTP/1 switches protocols.
    pub fn into_upstream(self) -> Option<(UpstreamConn, Pick)> {
        match self.attempt.link {
            Link::H1(conn) => Some((conn, self.attempt.pick)),
            Link::H2(_) => None,
        }
    }
}
