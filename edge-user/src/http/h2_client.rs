//! HTTP/2 towards upstreams by the `h2` crate (RFC 9113): connections that a worker's exchanges share, and the stream
//! of one exchange. Which connection is used for what stands in `proxy::upstream`.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason as Code, RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

use super::h1::body::Found;
use super::h1::client::Fault;
use super::h1::conn::BODY_BUFFER_BYTES;
use super::h1::parse::{Framing, ResponseMeta};
use super::h1::write::{BodyEncoder, MayTrail};
use super::h2::{push_field, read_trailers};
use super::head::{Head, Known, Owner, Version, is_field_name, is_field_value};
use super::io::Io;
use crate::clock::{Clock, Wait};

/// Streams on one connection, where the upstream allows so many.
const MAX_STREAMS: usize = 100;
/// What an upstream may send on one stream before it is taken.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same for all streams of a connection: one that nobody reads must not stop the others (D2).
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// Bytes of one stream's request that wait for the upstream's window.
const SEND_BUFFER: usize = 256 * 1024;
/// A response's field section.
const HEAD_BYTES: u32 = 64 * 1024;
/// How often an upstream with requests under way must show that it is there.
const PING: Duration = Duration::from_secs(15);

/// What a connection, its task and its streams all know.
struct State {
    streams: Cell<usize>,
    closed: Cell<bool>,
    idle_since: Cell<Instant>,
}

/// One connection; it ends once it and all its streams are dropped.
pub struct Connection {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
    used: Cell<bool>,
}

impl Connection {
    /// Speaks first and waits for the upstream's settings, so that its limits hold for the first stream already.
    pub async fn open(io: Io, clock: &Rc<Clock>) -> Result<Self, Fault> {
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES)
            .max_send_buffer_size(SEND_BUFFER)
            .initial_max_send_streams(1)
            .max_concurrent_reset_streams(32)
            .reset_stream_duration(Duration::from_secs(5));
        let (sender, mut connection) = builder.handshake::<_, Bytes>(io).await.map_err(|error| fault(&error))?;
        let mut pings = connection.ping_pong().expect("taken for the first time");
        // The settings are an upstream's first frame (RFC 9113, 3.4), so they have come when its answer has.
        pings.send_ping(Ping::opaque()).map_err(|error| fault(&error))?;
        poll_fn(|cx| {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Err(ended.err().map_or(CLOSED, |error| fault(&error))));
            }
            pings.poll_pong(cx).map_ok(drop).map_err(|error| fault(&error))
        })
        .await?;
        let state =
            Rc::new(State { streams: Cell::new(0), closed: Cell::new(false), idle_since: Cell::new(Instant::now()) });
        tokio::task::spawn_local(drive(connection, pings, state.clone(), Wait::new(clock)));
        Ok(Self { sender, state, used: Cell::new(false) })
    }

    /// Whether nothing can be asked of it any more.
    pub fn is_closed(&self) -> bool {
        self.state.closed.get()
    }

    /// Streams under way.
    pub fn streams(&self) -> usize {
        self.state.streams.get()
    }

    /// Whether one more stream can begin at once (RFC 9113, 5.1.2).
    pub fn has_room(&self) -> bool {
        self.streams() < self.sender.current_max_send_streams().clamp(1, MAX_STREAMS)
    }

    /// Since when there has been no stream, where there is none.
    pub fn idle_since(&self) -> Option<Instant> {
        (self.streams() == 0).then(|| self.state.idle_since.get())
    }

    /// A stream for one exchange. Beyond the upstream's limit it begins when another one ends.
    pub fn stream(&self, clock: &Rc<Clock>) -> Stream {
        self.state.streams.set(self.streams() + 1);
        Stream {
            place: Place(self.state.clone()),
            sender: self.sender.clone(),
            response: None,
            send: None,
            recv: None,
            out: Vec::new(),
            out_trailers: Head::default(),
            data: Bytes::new(),
            trailers: Head::default(),
            sent_end: false,
            received_end: false,
            reused: self.used.replace(true),
            refused: false,
            read_wait: Wait::new(clock),
            write_wait: Wait::new(clock),
        }
    }
}

/// Runs a connection until it ends. An upstream that owes an answer and does not answer a PING is gone.
async fn drive(
    mut connection: h2::client::Connection<Io, Bytes>,
    mut pings: PingPong,
    state: Rc<State>,
    mut wait: Wait,
) {
    let mut asked = false;
    poll_fn(|cx| {
        loop {
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            match pings.poll_pong(cx) {
                Poll::Ready(Ok(_)) => {
                    asked = false;
                    wait.progressed();
                    continue;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if !wait.is_over(PING, cx) {
                return Poll::Pending;
            }
            wait.progressed();
            if asked {
                return Poll::Ready(());
            }
            asked = state.streams.get() > 0 && pings.send_ping(Ping::opaque()).is_ok();
        }
    })
    .await;
    state.closed.set(true);
}

/// A stream's place among those of its connection.
struct Place(Rc<State>);

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.0.streams.get() - 1;
        self.0.streams.set(left);
        if left == 0 {
            self.0.idle_since.set(Instant::now());
        }
    }
}

const CLOSED: Fault = Fault::Closed { silent: true };

fn fault(error: &h2::Error) -> Fault {
    match error.reason() {
        // RFC 9113, 8.7. `h2` tells a remote GOAWAY to streams beyond its last one alone.
        Some(Code::REFUSED_STREAM) if error.is_reset() && error.is_remote() => Fault::Refused,
        Some(_) if error.is_go_away() && error.is_remote() => Fault::Refused,
        Some(_) if error.is_library() => Fault::Malformed,
        _ => CLOSED,
    }
}

/// One exchange's stream. The methods mean what those of `h1::client::UpstreamConn` do.
pub struct Stream {
    place: Place,
    sender: SendRequest<Bytes>,
    response: Option<ResponseFuture>,
    send: Option<SendStream<Bytes>>,
    recv: Option<RecvStream>,
    /// Body bytes to send.
    out: Vec<u8>,
    out_trailers: Head,
    data: Bytes,
    /// The response's trailers once `poll_data` reported the end.
    pub trailers: Head,
    sent_end: bool,
    received_end: bool,
    /// Whether its connection served others before.
    pub reused: bool,
    /// Whether the upstream has said that it did not look at the request.
    pub refused: bool,
    read_wait: Wait,
    write_wait: Wait,
}

impl Stream {
    /// Sends the request's head; `ended` where nothing follows.
    pub fn send_head(&mut self, request: Request<()>, ended: bool) -> Result<(), Fault> {
        match self.sender.send_request(request, ended) {
            Ok((response, send)) => {
                (self.response, self.send, self.sent_end) = (Some(response), Some(send), ended);
                Ok(())
            }
            Err(_) => {
                // Nothing was sent: the connection takes no stream any more.
                self.place.0.closed.set(true);
                self.refused = true;
                Err(Fault::Refused)
            }
        }
    }

    /// Where the body goes. Trailers `may_trail` says yes to are kept for the end.
    pub fn sink<'a>(&'a mut self, may_trail: MayTrail<'a>) -> BodyEncoder<'a> {
        BodyEncoder::new(&mut self.out, Framing::None).trailing_only(may_trail).keeping(&mut self.out_trailers)
    }

    /// Whether the body may go on.
    pub fn can_take_more(&self) -> bool {
        self.out.len() < BODY_BUFFER_BYTES
    }

    /// The request is out: the wait for the answer begins now.
    pub fn await_answer(&mut self) {
        self.read_wait.progressed();
    }

    /// Hands over all of the body there is, as far as the upstream's windows let it, and the end once it has `ended`.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, limit: Duration, ended: bool) -> Poll<Result<(), Fault>> {
        match self.poll_hand_over(cx, ended) {
            Poll::Pending if self.write_wait.is_over(limit, cx) => Poll::Ready(Err(Fault::Timeout)),
            polled => polled,
        }
    }

    fn poll_hand_over(&mut self, cx: &mut Context<'_>, ended: bool) -> Poll<Result<(), Fault>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Err(CLOSED)) };
        while !self.out.is_empty() {
            send.reserve_capacity(self.out.len());
            let capacity = match ready!(send.poll_capacity(cx)) {
                Some(Ok(capacity)) => capacity.min(self.out.len()),
                _ => return Poll::Ready(Err(CLOSED)),
            };
            if capacity == 0 {
                continue;
            }
            let rest = self.out.split_off(capacity);
            let data = Bytes::from(std::mem::replace(&mut self.out, rest));
            let last = ended && self.out.is_empty() && self.out_trailers.fields().len() == 0;
            send.send_data(data, last).map_err(|_| CLOSED)?;
            self.sent_end = last;
            self.write_wait.progressed();
        }
        if ended && !self.sent_end {
            let mut trailers = HeaderMap::new();
            self.out_trailers.fields().for_each(|field| push_field(&mut trailers, field.name, field.value));
            match trailers.is_empty() {
                true => send.send_data(Bytes::new(), true),
                false => send.send_trailers(trailers),
            }
            .map_err(|_| CLOSED)?;
            self.sent_end = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads a response head, interim ones included: the caller asks again after one.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut Head,
        to_head: bool,
        limit: Duration,
    ) -> Poll<Result<ResponseMeta, Fault>> {
        let polled = self.poll_response(cx, head, to_head);
        if let Poll::Ready(Err(Fault::Refused)) = polled {
            self.refused = true;
        }
        match polled {
            Poll::Pending if self.read_wait.is_over(limit, cx) => Poll::Ready(Err(Fault::Timeout)),
            Poll::Pending => Poll::Pending,
            ready => {
                self.read_wait.progressed();
                ready
            }
        }
    }

    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut Head,
        to_head: bool,
    ) -> Poll<Result<ResponseMeta, Fault>> {
        let Some(response) = &mut self.response else {
            return Poll::Ready(Err(if self.refused { Fault::Refused } else { CLOSED }));
        };
        match response.poll_informational(cx) {
            Poll::Ready(Some(Ok(interim))) => {
                return Poll::Ready(read_response(interim.status(), interim.headers(), false, to_head, head));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(fault(&error))),
            Poll::Ready(None) | Poll::Pending => {}
        }
        let (parts, body) = ready!(Pin::new(response).poll(cx)).map_err(|error| fault(&error))?.into_parts();
        let meta = read_response(parts.status, &parts.headers, body.is_end_stream(), to_head, head)?;
        self.received_end = body.is_end_stream();
        // Whatever an upstream sends where there is no content is not read.
        self.recv = Some(body).filter(|_| meta.framing != Framing::None);
        self.response = None;
        Poll::Ready(Ok(meta))
    }

    /// Finds the next piece of the response body: its length at the front of `data`, or the end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, wait: bool, limit: Duration) -> Poll<Result<Found, Fault>> {
        loop {
            if !self.data.is_empty() {
                return Poll::Ready(Ok(Found::Data(self.data.len())));
            }
            let Some(recv) = &mut self.recv else { return Poll::Ready(Ok(Found::End)) };
            match recv.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.read_wait.progressed();
                    self.data = data;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(late(fault(&error)))),
                Poll::Ready(None) => {
                    match ready!(recv.poll_trailers(cx)) {
                        Ok(None) => {}
                        Ok(Some(fields)) => {
                            read_trailers(&fields, &mut self.trailers).map_err(|_| Fault::Malformed)?;
                        }
                        Err(error) => return Poll::Ready(Err(late(fault(&error)))),
                    }
                    (self.recv, self.received_end) = (None, true);
                }
                Poll::Pending if !wait => return Poll::Ready(Ok(Found::More)),
                Poll::Pending if self.read_wait.is_over(limit, cx) => return Poll::Ready(Err(Fault::Timeout)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The data `poll_data` reported.
    pub fn data(&self, n: usize) -> &[u8] {
        &self.data[..n]
    }

    /// Marks reported data as taken; only then may the upstream send as much again.
    pub fn consume(&mut self, n: usize) {
        self.data.advance(n);
        if let Some(recv) = &mut self.recv {
            // An error means that the stream is closed already.
            let _ = recv.flow_control().release_capacity(n);
        }
    }
}

/// Tells the upstream that nobody waits any more, where it is not done (RFC 9113, 8.1).
impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(send) = &mut self.send
            && !(self.sent_end && self.received_end)
        {
            send.send_reset(Code::CANCEL);
        }
    }
}

/// After a head, nobody can take the request back.
fn late(fault: Fault) -> Fault {
    match fault {
        Fault::Malformed => Fault::Malformed,
        _ => Fault::Closed { silent: false },
    }
}

/// A request as HTTP/2 has it: no field of the hop (RFC 9113, 8.2.2) but `te: trailers` where it is asked for, the
/// length its framing tells. `None` where the target cannot be a `:path`.
pub fn request(head: &Head, target: &[u8], https: bool, framing: Framing, trailers: bool) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(head.method()).ok()?;
    *request.uri_mut() = Uri::builder()
        .scheme(if https { "https" } else { "http" })
        .authority(Authority::try_from(head.get(Known::Host)?).ok()?)
        .path_and_query(PathAndQuery::try_from(target).ok()?)
        .build()
        .ok()?;
    let fields = request.headers_mut();
    fields.reserve(head.fields().len() + 2);
    for field in head.fields() {
        match field.known {
            Known::Host | Known::ContentLength | Known::TransferEncoding | Known::Connection | Known::KeepAlive => {}
            Known::ProxyConnection | Known::Upgrade | Known::Te | Known::Http2Settings => {}
            _ => push_field(fields, field.name, field.value),
        }
    }
    if let Framing::Length(length) = framing {
        fields.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if trailers {
        fields.insert(HeaderName::from_static("te"), HeaderValue::from_static("trailers"));
    }
    Some(request)
}

/// Fills `head` from a response (RFC 9113, 8.2 and 8.3.2; `h2` refuses fields of the hop) and tells how its body is
/// framed; one without a length comes in chunks to whoever needs framing.
fn read_response(
    status: StatusCode,
    fields: &HeaderMap,
    ended: bool,
    to_head: bool,
    head: &mut Head,
) -> Result<ResponseMeta, Fault> {
    let code = status.as_u16();
    if !(100..=599).contains(&code) || code == 101 {
        return Err(Fault::Malformed);
    }
    head.start_response(code, status.canonical_reason().unwrap_or_default().as_bytes(), Version::Http2);
    for (name, value) in fields {
        if !is_field_name(name.as_str().as_bytes()) || !is_field_value(value.as_bytes()) {
            return Err(Fault::Malformed);
        }
        head.push(Owner::Peer, name.as_str().as_bytes(), value.as_bytes());
    }
    let mut lengths = head.all(Known::ContentLength);
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(text), None) if !text.is_empty() && text.iter().all(u8::is_ascii_digit) => {
            Some(std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Fault::Malformed)?)
        }
        _ => return Err(Fault::Malformed),
    };
    let framing = match (code, length) {
        _ if to_head => Framing::None,
        (100..=199 | 204 | 304, _) => Framing::None,
        (_, Some(length)) if ended && length > 0 => return Err(Fault::Malformed),
        (_, Some(length)) => Framing::Length(length),
        (_, None) if ended => Framing::Length(0),
        (_, None) => Framing::Chunked,
    };
    let declared = match (code, length) {
        (100..=199 | 204, _) => Framing::None,
        (_, Some(length)) => Framing::Length(length),
        (_, None) => framing,
    };
    Ok(ResponseMeta { framing, declared, persistent: true })
}

#[cfg(test)]
mod tests;
