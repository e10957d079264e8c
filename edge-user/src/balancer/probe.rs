//! Active health checks: probes of every address, at the interval of its state, on the control runtime.
//!
//! A probe ends with the response's head. gRPC asks the standard health service, which alone can say that a server
//! that speaks HTTP/2 is not serving; one without that service counts as healthy.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_rustls::TlsConnector;

use super::Balancer;
use super::health::{Check, Seen};
use super::ring::{Ring, Rules};
use super::settings::{Active, ProbeType, Target};
use crate::config::snapshot::Host;
use crate::crypto;
use crate::tls::{self, Alpn, ClientTls, Verify};

/// The longest response head of a probe.
const HEAD_BYTES: usize = 64 * 1024;
/// A gRPC message without fields: uncompressed, of length 0.
const EMPTY_MESSAGE: &[u8] = &[0; 5];
/// The most that is read of the health service's answer.
const MESSAGE_BYTES: usize = 1024;

/// Why there is nothing to probe with.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("http_path is no path ({0})")]
    Path(#[source] http::uri::InvalidUri),
    #[error("headers has a malformed one")]
    Header,
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// Why a probe got no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    #[error(transparent)]
    Http2(#[from] h2::Error),
    #[error(transparent)]
    Request(#[from] http::Error),
}

/// Probes until the balancer is gone or the task is ended.
pub(super) async fn run(balancer: Weak<Balancer>, rules: Arc<Rules>) {
    let active = &rules.upstream.healthchecks.active;
    let prober = match Prober::new(active) {
        Ok(prober) => Arc::new(prober),
        Err(error) => {
            tracing::error!(upstream = %rules.upstream.name, "healthchecks.active: {error}; nothing is probed");
            return;
        }
    };
    tokio::join!(
        rounds(&balancer, &prober, true, active.healthy_interval),
        rounds(&balancer, &prober, false, active.unhealthy_interval)
    );
}

/// Probes all addresses of one state, again and again.
async fn rounds(balancer: &Weak<Balancer>, prober: &Arc<Prober>, healthy: bool, interval: Duration) {
    if interval.is_zero() {
        return;
    }
    // Upstreams that start together are not probed together.
    let part = f64::from(u16::from_be_bytes(crypto::random())) / f64::from(u16::MAX);
    let mut ticks = interval_at(Instant::now() + interval.mul_f64(part), interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(ring) = balancer.upgrade().map(|balancer| balancer.current()) else { return };
        // Ends with this task, wherever it stands.
        let mut probes = JoinSet::new();
        for (index, place) in ring.places.iter().enumerate() {
            if place.peer.health.is_healthy() == healthy {
                let (prober, ring) = (prober.clone(), ring.clone());
                probes.spawn(async move {
                    if let Some(seen) = prober.probe(&ring, index).await {
                        ring.count(index, Check::Active, seen);
                    }
                });
            }
        }
        while probes.join_next().await.is_some() {}
    }
}

/// What the probes of one upstream have in common.
struct Prober {
    active: Active,
    path: Uri,
    headers: HeaderMap,
    tls: Option<Arc<ClientConfig>>,
    /// Probes at once.
    slots: Semaphore,
}

impl Prober {
    fn new(active: &Active) -> Result<Self, Error> {
        let mut headers = HeaderMap::new();
        for (name, value) in &active.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Header)?;
            headers.append(name, HeaderValue::from_str(value).map_err(|_| Error::Header)?);
        }
        let verify = if active.https_verify_certificate { Verify::Full } else { Verify::Off };
        let tls = match active.probe {
            ProbeType::Http | ProbeType::Tcp | ProbeType::Grpc => None,
            ProbeType::Https => Some(tls::client_config(&ClientTls { verify, ..ClientTls::default() })?),
            ProbeType::Grpcs => {
                Some(tls::client_config(&ClientTls { verify, alpn: Alpn::Http2, ..ClientTls::default() })?)
            }
        };
        let path = active.http_path.parse().map_err(Error::Path)?;
        let slots = Semaphore::new(active.concurrency.max(1) as usize);
        Ok(Self { active: active.clone(), path, headers, tls, slots })
    }

    /// Probes one address; `None` where its status says nothing.
    async fn probe(&self, ring: &Ring, index: usize) -> Option<Seen> {
        let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
        let place = &ring.places[index];
        let (target, address) = (&ring.rules.upstream.targets[place.target], place.peer.address);
        let exchange = async {
            let mut tcp = TcpStream::connect(address).await?;
            if let Some(sends) = ring.rules.upstream.proxy_protocol {
                tcp.write_all(&sends.header(None)).await?;
            }
            match &self.tls {
                None => self.speak(tcp, target, address.port()).await,
                Some(tls) => {
                    let name = self.server_name(target)?;
                    let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await?;
                    self.speak(stream, target, address.port()).await
                }
            }
        };
        match timeout(self.active.timeout, exchange).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => {
                tracing::debug!(upstream = %ring.rules.upstream.name, %address, %error, "probe failed");
                Some(Seen::TcpFailure)
            }
            Err(_) => Some(Seen::Timeout),
        }
    }

    fn server_name(&self, target: &Target) -> Result<ServerName<'static>, io::Error> {
        let name = match (&self.active.https_sni, &target.host) {
            (Some(sni), _) => sni,
            (None, Host::Name(name)) => name,
            (None, Host::Ip(address)) => return Ok(ServerName::IpAddress((*address).into())),
        };
        ServerName::try_from(name.to_string()).map_err(io::Error::other)
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        target: &Target,
        port: u16,
    ) -> Result<Option<Seen>, Failure> {
        // As in URLs: the scheme's own port is not named.
        let authority = match (port, self.active.probe) {
            (80, ProbeType::Http | ProbeType::Grpc) | (443, ProbeType::Https | ProbeType::Grpcs) => {
                target.host.to_string()
            }
            _ => format!("{}:{port}", target.host),
        };
        match self.active.probe {
            ProbeType::Tcp => Ok(Some(Seen::Success)),
            ProbeType::Http | ProbeType::Https => {
                let status = self.get(stream, &authority).await?;
                Ok(Seen::of_status(status, self.active.probe, &self.active.thresholds))
            }
            ProbeType::Grpc | ProbeType::Grpcs => self.check(stream, &authority).await.map(Some),
        }
    }

    /// The status of a GET.
    async fn get(&self, stream: impl AsyncRead + AsyncWrite + Unpin, authority: &str) -> Result<u16, Failure> {
        let mut request = Request::get(self.path.clone()).body(String::new())?;
        request.headers_mut().insert(header::HOST, HeaderValue::try_from(authority).map_err(http::Error::from)?);
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        for name in self.headers.keys() {
            request.headers_mut().remove(name);
        }
        request.headers_mut().extend(self.headers.clone());
        let mut builder = http1::Builder::new();
        let (mut sender, connection) = builder.max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
        Ok(driven(sender.send_request(request), connection).await?.status().as_u16())
    }

    /// What the health service says (`grpc.health.v1.Health/Check`, of the server as a whole).
    async fn check(&self, stream: impl AsyncRead + AsyncWrite + Unpin, authority: &str) -> Result<Seen, Failure> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri = format!("{scheme}://{authority}/grpc.health.v1.Health/Check");
        let mut request = Request::builder().method(Method::POST).uri(uri).body(())?;
        request.headers_mut().extend(self.headers.clone());
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        let (sender, connection) = h2::client::handshake(stream).await?;
        let exchange = async move {
            let mut sender = sender.ready().await?;
            let (answer, mut body) = sender.send_request(request, false)?;
            body.send_data(Bytes::from_static(EMPTY_MESSAGE), true)?;
            let mut answer = answer.await?.into_body();
            let mut message = Vec::new();
            while let Some(data) = answer.data().await {
                let data = data?;
                answer.flow_control().release_capacity(data.len())?;
                message.extend_from_slice(&data);
                if message.len() > MESSAGE_BYTES {
                    break;
                }
            }
            Ok::<_, h2::Error>(message)
        };
        match driven(exchange, connection).await {
            Ok(message) if is_refusing(&message) => Ok(Seen::HttpFailure),
            Ok(_) => Ok(Seen::Success),
            // It speaks HTTP/2, if only to say that it does not want this.
            Err(error) if error.is_reset() && error.is_remote() => Ok(Seen::Success),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether this is a `HealthCheckResponse` whose `status`, field 1, is anything but `SERVING`, 1. Zero is left out on
/// the wire. No message at all is no statement.
fn is_refusing(message: &[u8]) -> bool {
    match message {
        [0, 0, 0, 0, 0] => true,
        [0, 0, 0, 0, 2, 8, status] => *status != 1,
        _ => false,
    }
}

/// The result of an exchange while its connection is driven; a connection may end right after the answer came.
async fn driven<T>(exchange: impl Future<Output = T>, connection: impl Future) -> T {
    let (mut exchange, connection) = (pin!(exchange), pin!(connection));
    tokio::select! {
        biased;
        result = &mut exchange => result,
        _ = connection => exchange.await,
    }
}

#[cfg(test)]
mod tests;
