//! One connection for a stream route, from its first bytes to its end: steered by server name, source and destination,
//! then joined with an upstream. TLS ends here, or goes through untouched.

mod hello;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};
use tokio_rustls::StartHandshake;

use self::hello::Opening;
use crate::balancer::{Affinity, Outcome, Pick};
use crate::config::snapshot::{Protocol, Service};
use crate::http::buffer::Buffer;
use crate::http::io::{Io, Stream};
use crate::http::tunnel::{self, Bounds, End, Traffic};
use crate::plugin::Caller;
use crate::proxy::arrival::arrive;
use crate::proxy::connection::ListenerInfo;
use crate::proxy::context::RequestId;
use crate::proxy::sources::Seat;
use crate::proxy::upstream;
use crate::proxy_protocol::{Tls, Told};
use crate::reason::Reason;
use crate::router::{StreamProtocol, StreamRequest};
use crate::telemetry::SessionRecord;
use crate::worker::Worker;

/// What becomes of one connection, for the log. It keeps no snapshot: sessions outlive reloads.
struct Session<'a> {
    worker: &'a Rc<Worker>,
    listener: &'a ListenerInfo,
    request_id: RequestId,
    started: Instant,
    client: SocketAddr,
    destination: Option<SocketAddr>,
    protocol: Option<&'static str>,
    tls: Option<&'static str>,
    sni: Option<String>,
    route: Option<Arc<str>>,
    service: Option<Arc<str>>,
    upstream: Option<Duration>,
    upstream_address: Option<SocketAddr>,
    traffic: Traffic,
    /// The client's place among its source's connections, where those are limited.
    seat: Option<Seat>,
}

/// Serves one connection and logs it.
pub(crate) async fn serve(worker: &Rc<Worker>, tcp: TcpStream, peer: SocketAddr, listener: &ListenerInfo) {
    let mut session = Session {
        worker,
        listener,
        request_id: worker.next_request_id(),
        started: Instant::now(),
        client: canonical(peer),
        destination: None,
        protocol: None,
        tls: None,
        sni: None,
        route: None,
        service: None,
        upstream: None,
        upstream_address: None,
        traffic: Traffic::default(),
        seat: None,
    };
    let reason = session.run(tcp).await.err();
    session.account(reason);
}

impl Session<'_> {
    async fn run(&mut self, tcp: TcpStream) -> Result<(), Reason> {
        let (client, service) = self.steer(tcp).await?;
        let worker = self.worker;
        // The pick stays until the end: some balancers count what is under way.
        let (io, _pick) = self.connect(&service).await?;
        let bounds = Bounds {
            idle: service.read_timeout,
            write: service.write_timeout,
            total: Duration::ZERO,
            websocket: false,
            draining: &worker.draining,
            drain: worker.settings.timeouts.drain,
        };
        let upstream = End { io, input: Buffer::default() };
        let (traffic, ending) = tunnel::join(client, upstream, &worker.clock, &bounds).await;
        self.traffic = traffic;
        ending.reason().map_or(Ok(()), Err)
    }

    /// Finds the route, and takes the client's TLS off where the route ends it.
    async fn steer(&mut self, mut tcp: TcpStream) -> Result<(End, Arc<Service>), Reason> {
        let view = self.worker.view();
        let deadline = tokio::time::Instant::now() + self.worker.settings.timeouts.handshake;
        let local = tcp.local_addr().map_err(|_| Reason::ClientGone)?;
        let arrival = arrive(self.worker, &mut tcp, self.client, local, self.listener.proxy_protocol).await;
        // One whose source may not connect has gone, as far as anybody is told.
        let mut arrival = arrival.map_err(|reason| reason.unwrap_or(Reason::ClientGone))?;
        self.seat = arrival.seat.take();
        self.client = canonical(arrival.client);
        let destination = canonical(arrival.local);
        self.destination = Some(destination);
        let router = &view.snapshot.stream_router;
        let opening = match self.listener.tls || router.asks_for_tls(self.client, destination) {
            // Nobody asks for TLS, so nothing is waited for: the upstream may have to speak first.
            false => Opening::default(),
            true => timeout_at(deadline, hello::read(&tcp)).await.map_err(|_| Reason::ClientHelloTimeout)??,
        };
        self.sni = opening.sni().or_else(|| arrival.authority().map(str::to_ascii_lowercase));
        if self.listener.tls && opening.hello.is_none() {
            return Err(Reason::TlsRequired);
        }
        let request =
            StreamRequest { source: self.client, destination, sni: self.sni.as_deref(), tls: opening.hello.is_some() };
        let route = router.select(&request).map(|index| &view.snapshot.stream_routes[index]);
        let route = route.ok_or(Reason::StreamRouteNotFound)?;
        self.route = Some(route.label.clone());
        let protocol = match (request.tls, route.protocols.contains(&StreamProtocol::TlsPassthrough)) {
            (true, true) => Protocol::TlsPassthrough,
            (true, false) if route.protocols.contains(&StreamProtocol::Tls) => Protocol::Tls,
            _ => Protocol::Tcp,
        };
        let nobody = Caller::default();
        let mut plugins = route.plugins.slots.iter().filter_map(|slot| slot.choose(protocol, &nobody));
        if let Some(reason) = plugins.find_map(|plugin| plugin.steer(self.client.ip())) {
            return Err(reason);
        }
        let service = route.service.clone().ok_or(Reason::ServiceNotFound)?;
        self.service = Some(service.label.clone());
        let Opening { bytes, hello } = opening;
        let (protocol, ends_here) = match hello {
            Some(hello) if route.protocols.contains(&StreamProtocol::Tls) => ("tls", Some(hello)),
            Some(_) if route.protocols.contains(&StreamProtocol::TlsPassthrough) => ("tls_passthrough", None),
            _ => ("tcp", None),
        };
        self.protocol = Some(protocol);
        let tls = view.listener(self.listener).map(|tls| tls.policy(None).config().clone());
        drop(view);
        let Some(hello) = ends_here else {
            let mut input = Buffer::default();
            input.prefill(&bytes);
            return Ok((End { io: Io::new(Stream::Tcp(tcp)), input }, service));
        };
        let tls = tls.ok_or(Reason::TlsHandshakeFailed)?;
        let metrics = &self.worker.metrics;
        let handshake = StartHandshake::from_parts(*hello, tcp).into_stream(tls);
        let stream = timeout_at(deadline, handshake).await.map_err(|_| None).and_then(|made| made.map_err(Some));
        let stream = stream.map_err(|error| {
            metrics.failed_handshakes.add(1);
            tracing::debug!(client = %self.client, error = error.as_ref().map(tracing::field::display), "TLS handshake failed");
            Reason::TlsHandshakeFailed
        })?;
        metrics.handshakes.add(1);
        self.tls = Some(crate::tls::version(stream.get_ref().1));
        Ok((End { io: Io::new(Stream::TlsServer(Box::new(stream))), input: Buffer::default() }, service))
    }

    /// A connection to one of the service's targets. One that fails at once costs a try; a wait that ended has cost the
    /// client its patience.
    async fn connect(&mut self, service: &Service) -> Result<(Io, Pick), Reason> {
        let (began, affinity) = (Instant::now(), Affinity::default());
        let mut tried = Vec::new();
        let header = self.header(service);
        loop {
            let pick = service.balancer.pick(&affinity, &tried).await?;
            self.upstream_address = Some(pick.address);
            let opened = timeout(service.connect_timeout, upstream::open(service, pick.address, true, &header)).await;
            self.upstream = Some(began.elapsed());
            let failure = match opened {
                Ok(Ok((io, _))) => {
                    self.worker.metrics.upstream_connects.add(1);
                    pick.report(Outcome::Answered(200, began.elapsed()));
                    return Ok((io, pick));
                }
                Ok(Err(reason)) => {
                    pick.report(Outcome::Failed);
                    reason
                }
                Err(_) => {
                    pick.report(Outcome::TimedOut);
                    Reason::UpstreamTimeout
                }
            };
            tried.push(pick.address);
            if failure == Reason::UpstreamTimeout || tried.len() > service.retries as usize {
                self.worker.metrics.upstream_failures.add(1);
                return Err(failure);
            }
        }
    }

    /// The PROXY header for the service, where it wants one.
    fn header(&self, service: &Service) -> Vec<u8> {
        let told = self.destination.map(|destination| Told {
            client: self.client,
            destination,
            authority: self.sni.as_deref(),
            // Listeners of streams ask for no certificate.
            tls: self.tls.map(|version| Tls { version, certificate: None }),
            unique_id: self.request_id.as_str(),
        });
        service.proxy_protocol.map(|sends| sends.header(told.as_ref())).unwrap_or_default()
    }

    fn account(&self, reason: Option<Reason>) {
        let (metrics, total) = (&self.worker.metrics, self.started.elapsed());
        metrics.bytes_in.add(self.traffic.up_bytes);
        metrics.bytes_out.add(self.traffic.down_bytes);
        metrics.sessions.observe(total);
        if let Some(reason) = reason {
            metrics.refused(reason, self.route.as_deref());
        }
        self.worker.log_session(&SessionRecord {
            time: SystemTime::now(),
            request_id: self.request_id.as_str(),
            client: self.client,
            listener: &self.listener.label,
            protocol: self.protocol,
            tls: self.tls,
            sni: self.sni.as_deref(),
            route: self.route.as_deref(),
            service: self.service.as_deref(),
            reason,
            total,
            upstream: self.upstream,
            bytes_in: self.traffic.up_bytes,
            bytes_out: self.traffic.down_bytes,
            upstream_address: self.upstream_address,
        });
    }
}

/// An IPv4 address mapped into IPv6 is the IPv4 one.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
