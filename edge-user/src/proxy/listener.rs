//! Client connections: accept, TLS, choice of protocol, one request after the other, and their end at a drain.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::arrival::{self, arrive};
use super::connection::{Connection, ListenerInfo};
use super::context::Context as Request;
use super::respond::{self, Body, Local};
use super::{After, Heads, handle};
use crate::clock::Wait;
use crate::http::buffer::Buffer;
use crate::http::downstream::Downstream;
use crate::http::h1::conn::{Conn, HeadFault};
use crate::http::h1::parse;
use crate::http::h2::{self, Prefixed};
use crate::http::h2_frames::{Fault, Frames};
use crate::http::head::Version;
use crate::http::io::{Io, Stream};
use crate::http::tunnel::End;
use crate::reason::Reason;
use crate::settings::Mode;
use crate::stream;
use crate::tls::Policy;
use crate::token::Now;
use crate::worker::{Phase, SETTLED, Worker};

/// How long accepting rests after the process ran out of descriptors (D5).
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How long a client that is sent away has to take the frame that says why.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The bound sockets of one listener that are one worker's.
pub struct Bound {
    /// The sockets, a lane each.
    pub sockets: Vec<LaneSocket>,
    /// What requests see of it.
    pub info: Arc<ListenerInfo>,
    /// What its connections are.
    pub mode: Mode,
}

/// One lane's socket.
pub struct LaneSocket {
    /// It listens and is non-blocking.
    pub socket: std::net::TcpListener,
    /// How many connections are taken from it before it is the next one's turn.
    pub share: usize,
}

/// Counts one client connection for as long as it lives.
struct Counted(Rc<Worker>);

impl Counted {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.connections.set(worker.connections.get() + 1);
        worker.metrics.open_connections.raise();
        Self(worker.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.metrics.open_connections.lower();
        self.0.connection_ended.notify_waiters();
    }
}

/// Accepts on the sockets of one listener until the drain, then what the kernel has queued by then, then closes them.
pub fn accept(
    worker: Rc<Worker>,
    bound: Bound,
    mut phase: watch::Receiver<Phase>,
) -> io::Result<impl Future<Output = ()>> {
    let lane = |lane: LaneSocket| Ok((TcpListener::from_std(lane.socket)?, lane.share));
    let lanes: Vec<(TcpListener, usize)> = bound.sockets.into_iter().map(lane).collect::<io::Result<_>>()?;
    let (info, mode) = (bound.info, bound.mode);
    worker.listeners.set(worker.listeners.get() + 1);
    Ok(async move {
        let has_room = || worker.connections.get() < worker.max_connections;
        let take = |tcp, peer| spawn(&worker, tcp, peer, &info, mode);
        loop {
            while !has_room() {
                // The kernel's queues hold the rest; they are bounded too (D3).
                worker.make_room();
                let _ = tokio::time::timeout(SETTLED, worker.connection_ended.notified()).await;
            }
            let round = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase != Phase::Serve) => break,
                round = poll_fn(|cx| poll_round(&lanes, &has_room, &take, cx)) => round,
            };
            match round {
                // What was taken is served before the next round, or the shares would mean nothing.
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::warn!(listener = %info.label, %error, "could not accept a connection");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
        poll_fn(|cx| {
            for (listener, _) in &lanes {
                while let Poll::Ready(Ok((tcp, peer))) = listener.poll_accept(cx) {
                    take(tcp, peer);
                }
            }
            Poll::Ready(())
        })
        .await;
        drop(lanes);
        worker.listeners.set(worker.listeners.get() - 1);
        worker.connection_ended.notify_waiters();
    })
}

/// Takes the share of each lane, as far as there are connections. Ready once there was one.
fn poll_round(
    lanes: &[(TcpListener, usize)],
    has_room: &impl Fn() -> bool,
    take: &impl Fn(TcpStream, SocketAddr),
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut any = false;
    for (listener, share) in lanes {
        for _ in 0..*share {
            if !has_room() {
                return Poll::Ready(Ok(()));
            }
            match listener.poll_accept(cx) {
                Poll::Ready(Ok((tcp, peer))) => {
                    any = true;
                    take(tcp, peer);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
    }
    if any { Poll::Ready(Ok(())) } else { Poll::Pending }
}

fn spawn(worker: &Rc<Worker>, tcp: TcpStream, peer: SocketAddr, info: &Arc<ListenerInfo>, mode: Mode) {
    worker.metrics.accepted.add(1);
    if worker.denied.load().contains(peer.ip()) || worker.penalties.refuses_connection(peer.ip()) {
        return;
    }
    let counted = Counted::new(worker);
    let (worker, info) = (worker.clone(), info.clone());
    tokio::task::spawn_local(async move {
        match mode {
            Mode::Http => serve(&worker, tcp, peer, info).await,
            // Boxed, so that requests do not carry its size.
            Mode::Stream => Box::pin(stream::serve(&worker, tcp, peer, &info)).await,
        }
        drop(counted);
    });
}

async fn serve(worker: &Rc<Worker>, mut tcp: TcpStream, peer: SocketAddr, info: Arc<ListenerInfo>) {
    // It fails for a client that has gone already.
    let Ok(local) = info.local(&tcp) else { return };
    let arrival = match arrive(worker, &mut tcp, peer, local, info.proxy_protocol).await {
        Ok(arrival) => arrival,
        Err(None) => return,
        Err(Some(reason)) => return arrival::refuse(worker, peer, local, info, reason),
    };
    let peer = arrival.client;
    if !info.tls {
        let connection = Rc::new(arrival.connection(worker, info, None, None));
        return serve_requests(worker, connection, Io::new(Stream::Tcp(tcp)), false).await;
    }
    let failed = |error: &dyn fmt::Display| {
        worker.metrics.failed_handshakes.add(1);
        tracing::debug!(%peer, %error, "TLS handshake failed");
    };
    let handshake = tokio::time::timeout(worker.settings.timeouts.handshake, shake_hands(worker, tcp, &info)).await;
    let (stream, policy) = match handshake {
        Ok(Ok(made)) => made,
        Ok(Err(error)) => return failed(&error),
        Err(_) => return failed(&"it took too long"),
    };
    let session = stream.get_ref().1;
    let client_certificate = match policy.certificate(session) {
        Ok(certificate) => certificate,
        Err(error) => return failed(&error),
    };
    worker.metrics.handshakes.add(1);
    let version = crate::tls::version(session);
    let http2 = session.alpn_protocol() == Some(b"h2");
    let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    let mut connection = arrival.connection(worker, info, Some(version), session.server_name());
    connection.client_certificate = client_certificate;
    connection.policy = RefCell::new(Some(policy));
    connection.judged_unix_ms = Cell::new(Now::read().unix_ms);
    connection.is_resumed = is_resumed;
    let connection = Rc::new(connection);
    serve_requests(worker, connection, Io::new(Stream::TlsServer(Box::new(stream))), http2).await;
}

async fn serve_requests(worker: &Rc<Worker>, connection: Rc<Connection>, io: Io, http2: bool) {
    let serial = connection.serial;
    match http2 {
        true => serve_h2(worker, connection, io, Buffer::default()).await,
        false => serve_h1(worker, connection, io).await,
    }
    worker.pool.client_left(serial);
}

/// The handshake, by the policy for the name that the client asks for.
async fn shake_hands(
    worker: &Worker,
    tcp: TcpStream,
    info: &ListenerInfo,
) -> io::Result<(TlsStream<TcpStream>, Arc<Policy>)> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
    let policy = {
        let view = worker.view();
        let tls = view.listener(info).ok_or_else(|| io::Error::other("the listener has no TLS"))?;
        tls.policy(hello.client_hello().server_name().map(str::as_bytes)).clone()
    };
    let stream = hello.into_stream(policy.config().clone()).await?;
    Ok((stream, policy))
}

async fn serve_h1(worker: &Rc<Worker>, connection: Rc<Connection>, io: Io) {
    let settings = &worker.settings;
    let mut conn = Conn::new(io, &worker.clock, &settings.limits, &settings.timeouts);
    let mut heads = Heads::default();
    let mut counted = (0, 0);
    loop {
        let meta = match conn.read_head(&mut heads.request, |idle| worker.ends_idle(idle)).await {
            Ok(Some(meta)) => meta,
            Ok(None) => return conn.close(&worker.clock, false).await,
            Err(HeadFault::Http2) if !connection.listener.tls => {
                let (io, input, _) = conn.into_parts();
                return serve_h2(worker, connection, io, input).await;
            }
            Err(fault) => {
                refuse_head(worker, &connection, &mut heads, fault, &mut conn).await;
                return conn.close(&worker.clock, true).await;
            }
        };
        let after = handle(worker, &connection, &mut heads, meta.upgrade, &mut conn).await;
        let traffic = conn.traffic();
        worker.metrics.bytes_in.add(traffic.0 - counted.0);
        worker.metrics.bytes_out.add(traffic.1 - counted.1);
        counted = traffic;
        match after {
            After::Next if conn.is_persistent() => keep(worker, &connection, &mut conn),
            After::Next => {
                let linger = conn.has_unread();
                return conn.close(&worker.clock, linger).await;
            }
            After::Tunnel(tunnel) => {
                let (io, input, kept) = conn.into_parts();
                tunnel.run(worker, &connection, &heads.request, End { io, input }).await;
                return drop(kept);
            }
        }
    }
}

/// Has the kernel know of a connection that brought a rejected token.
fn keep(worker: &Worker, connection: &Connection, conn: &mut Conn) {
    let keeps = connection.listener.rejects.is_some_and(|rejects| rejects.keeps);
    if keeps && !conn.is_kept() && connection.brought_rejected.take() {
        let local = SocketAddr::new(connection.local, connection.port);
        if let Some(kept) = worker.kept.keep(connection.peer, local) {
            conn.keep(kept);
        }
    }
}

/// Answers bytes that are no request.
async fn refuse_head(
    worker: &Rc<Worker>,
    connection: &Connection,
    heads: &mut Heads,
    fault: HeadFault,
    conn: &mut Conn,
) {
    let (status, reason, message) = match fault {
        HeadFault::Timeout => (408, Reason::RequestTimeout, "Request timeout"),
        HeadFault::Http2 => (505, Reason::VersionNotSupported, "HTTP version not supported"),
        HeadFault::Refused(parse::Error::Version) => (505, Reason::VersionNotSupported, "HTTP version not supported"),
        HeadFault::Refused(parse::Error::TooLarge) => (431, Reason::HeadTooLarge, "Request header or cookie too large"),
        HeadFault::Refused(parse::Error::Expectation) => (417, Reason::ExpectationFailed, "Expectation failed"),
        HeadFault::Refused(_) => (400, Reason::RequestMalformed, "Bad request"),
    };
    // Nothing of what could not be read is taken for fields of a request.
    heads.request.clear();
    let mut context = Request::new(worker, connection);
    let answer = Local::new(status, reason, message).body(Body::ProxyError).close();
    respond::local(&mut context, &heads.request, &mut heads.response, conn, &answer);
    let _ = poll_fn(|cx| conn.poll_flush(cx)).await;
    if let HeadFault::Refused(error) = fault {
        tracing::debug!(client = %connection.peer, request_id = context.request_id.as_str(), %error, "request refused");
    }
    worker.account(&context, heads);
}

async fn serve_h2(worker: &Rc<Worker>, connection: Rc<Connection>, io: Io, prefix: Buffer) {
    let settings = &worker.settings;
    let builder = h2::builder(&settings.limits);
    let frames = Rc::new(RefCell::new(Frames::new(Instant::now())));
    let handshake = builder.handshake(Prefixed::new(io, prefix, frames.clone()));
    let Ok(Ok(mut conn)) = tokio::time::timeout(settings.timeouts.request_head, handshake).await else { return };
    let active = Rc::new(Cell::new(0usize));
    let mut idle = Wait::new(&worker.clock);
    let (mut told, mut ended) = (false, false);
    poll_fn(|cx| {
        loop {
            if let (false, Some(fault)) = (ended, frames.borrow().fault()) {
                ended = true;
                let (reason, code) = match fault {
                    Fault::Flood => (Reason::Http2Flood, ::h2::Reason::ENHANCE_YOUR_CALM),
                    Fault::Preface => (Reason::RequestMalformed, ::h2::Reason::PROTOCOL_ERROR),
                };
                refused(worker, &connection, Heads::default(), 0, reason);
                tracing::debug!(client = %connection.peer, %fault, "HTTP/2 connection ended");
                conn.abrupt_shutdown(code);
                idle.progressed();
            }
            if (worker.draining.get() || connection.ends.get()) && !told {
                told = true;
                conn.graceful_shutdown();
            }
            match conn.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    idle.progressed();
                    spawn_stream(worker, &connection, request, respond, &active);
                }
                Poll::Ready(Some(Err(error))) => {
                    if let (false, Some(reason)) = (ended, fault_of(&error)) {
                        refused(worker, &connection, Heads::default(), 0, reason);
                    }
                    tracing::debug!(client = %connection.peer, %error, "HTTP/2 connection ended");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                // Found while this very call read; it is looked at above.
                Poll::Pending if !ended && frames.borrow().fault().is_some() => {}
                // The client has a moment to take what ends the connection.
                Poll::Pending if ended => {
                    return if idle.is_over(LAST_WORD, cx) { Poll::Ready(()) } else { Poll::Pending };
                }
                Poll::Pending if active.get() > 0 => {
                    idle.progressed();
                    // The alarm still wakes this task, so that a drain is seen.
                    let _ = idle.is_over(Duration::ZERO, cx);
                    idle.progressed();
                    return Poll::Pending;
                }
                Poll::Pending if idle.is_over(settings.timeouts.idle, cx) || worker.gives_way(&idle) => {
                    if told {
                        return Poll::Ready(());
                    }
                    told = true;
                    conn.graceful_shutdown();
                    idle.progressed();
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// Why the crate ended a connection; `None` where the client did.
fn fault_of(error: &::h2::Error) -> Option<Reason> {
    let is_ours = !error.is_io() && !error.is_remote();
    is_ours.then(|| match error.reason() {
        Some(::h2::Reason::ENHANCE_YOUR_CALM) => Reason::Http2Flood,
        _ => Reason::RequestMalformed,
    })
}

/// Counts and logs what was refused over HTTP/2 before it was a request; status 0 where a stream or all of the connection
/// ended in place of an answer.
fn refused(worker: &Rc<Worker>, connection: &Connection, mut heads: Heads, status: u16, reason: Reason) {
    // Nothing of what could not be read is taken for a request's.
    heads.request.start_request(b"", b"", Version::Http2);
    let mut context = Request::new(worker, connection);
    (context.status, context.reason) = (status, Some(reason));
    worker.account(&context, &heads);
}

fn spawn_stream(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    request: http::Request<::h2::RecvStream>,
    mut respond: ::h2::server::SendResponse<bytes::Bytes>,
    active: &Rc<Cell<usize>>,
) {
    let mut heads = Heads::default();
    let framing = match h2::read_request(&request, &mut heads.request, worker.settings.limits.fields) {
        Ok(framing) => framing,
        Err(h2::Error::Malformed) => {
            refused(worker, connection, heads, 0, Reason::RequestMalformed);
            return respond.send_reset(::h2::Reason::PROTOCOL_ERROR);
        }
        Err(h2::Error::TooLarge) => {
            let mut response = http::Response::new(());
            *response.status_mut() = http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            let _ = respond.send_response(response, true);
            return refused(worker, connection, heads, 431, Reason::HeadTooLarge);
        }
    };
    active.set(active.get() + 1);
    let (worker, connection, active) = (worker.clone(), connection.clone(), active.clone());
    tokio::task::spawn_local(async move {
        let mut stream =
            h2::Stream::new(framing, request.into_body(), respond, &worker.clock, &worker.settings.timeouts);
        handle(&worker, &connection, &mut heads, false, &mut stream).await;
        let (read, sent) = stream.traffic();
        worker.metrics.bytes_in.add(read);
        worker.metrics.bytes_out.add(sent);
        active.set(active.get() - 1);
    });
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// With more waiting in every lane than it takes, each gets its share of a round, and none is passed over.
    #[tokio::test]
    async fn a_round_takes_the_share_of_each_lane() {
        let mut lanes = Vec::new();
        let mut clients = Vec::new();
        for share in [8, 3, 1] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            for _ in 0..20 {
                clients.push(TcpStream::connect(address).await.unwrap());
            }
            lanes.push((listener, share));
        }
        let ports: Vec<u16> = lanes.iter().map(|(listener, _)| listener.local_addr().unwrap().port()).collect();
        let taken = RefCell::new([0; 3]);
        let take = |tcp: TcpStream, _| {
            let lane = ports.iter().position(|port| *port == tcp.local_addr().unwrap().port()).unwrap();
            taken.borrow_mut()[lane] += 1;
        };
        for round in 1..=2 {
            poll_fn(|cx| poll_round(&lanes, &|| true, &take, cx)).await.unwrap();
            assert_eq!(*taken.borrow(), [8, 3, 1].map(|share| share * round));
        }
        // Where there is room for two more, two are taken, of the best lane.
        let room = || taken.borrow().iter().sum::<i32>() < 26;
        poll_fn(|cx| poll_round(&lanes, &room, &take, cx)).await.unwrap();
        assert_eq!(*taken.borrow(), [18, 6, 2]);
    }
}
