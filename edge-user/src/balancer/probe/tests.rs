use std::convert::Infallible;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::balancer::settings::{Healthchecks, Thresholds, Upstream};
use crate::balancer::{Affinity, Balancers, Room, State};
use crate::dns::Resolver;
use crate::reason::Reason;

/// What a server does with each connection.
#[derive(Clone)]
enum Server {
    /// Sends this whatever it gets, and closes.
    Answer(&'static str),
    /// As `Answer`, over TLS, but only to those who ask for `good.test`.
    Tls(&'static str),
    /// Keeps quiet.
    Silent,
    /// Speaks HTTP/2 and sends this as the response's body.
    Http2(&'static [u8]),
    /// Speaks HTTP/2 and refuses every stream.
    Reset,
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nsorry";

/// The address of a server, and what it was sent last.
async fn serve(server: Server) -> (SocketAddr, Arc<std::sync::Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let kept = seen.clone();
    let minted = rcgen::generate_simple_self_signed(["good.test".to_owned()]).unwrap();
    let pair = tls::pair(minted.cert.pem().as_bytes(), minted.signing_key.serialize_pem().as_bytes()).unwrap();
    let certificates = tls::Certificates::new([("good.test".into(), tls::Pairs::new(pair, None))], vec![None]);
    let acceptor = TlsAcceptor::from(tls::testing::server_config(certificates));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (server, kept, acceptor) = (server.clone(), kept.clone(), acceptor.clone());
            tokio::spawn(async move {
                match server {
                    Server::Answer(text) => answer(stream, text, &kept).await,
                    Server::Tls(text) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            answer(stream, text, &kept).await;
                        }
                    }
                    Server::Silent => std::future::pending().await,
                    Server::Http2(body) => http2(stream, Some(body)).await,
                    Server::Reset => http2(stream, None).await,
                }
            });
        }
    });
    (address, seen)
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str, seen: &std::sync::Mutex<String>) {
    let mut head = vec![0; 4096];
    let len = stream.read(&mut head).await.unwrap_or(0);
    *seen.lock().unwrap() = String::from_utf8_lossy(&head[..len]).into_owned();
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn http2(stream: TcpStream, body: Option<&'static [u8]>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let Some(body) = body else {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            continue;
        };
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(body), false).unwrap();
        stream.send_trailers(HeaderMap::new()).unwrap();
    }
}

fn active(probe: ProbeType) -> Active {
    Active { probe, timeout: Duration::from_millis(300), https_verify_certificate: false, ..Active::default() }
}

fn upstream(address: SocketAddr, active: Active) -> Upstream {
    let healthchecks = Healthchecks { active, ..Healthchecks::default() };
    Upstream { healthchecks, ..crate::balancer::tests::upstream(&[(&address.to_string(), 100)]) }
}

async fn probe(address: SocketAddr, active: Active) -> Option<Seen> {
    let prober = Prober::new(&active).unwrap();
    let balancer = Balancers::new(Resolver::idle(), None, None, Room::ENDLESS).upstream(&upstream(address, active));
    prober.probe(&balancer.current(), 0).await
}

#[tokio::test]
async fn probes_judge_what_they_see() {
    use ProbeType::*;
    // Bound and not listening: refused, and nobody else's meanwhile.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = held.local_addr().unwrap();
    let sni = |name: &str| Active { https_sni: Some(name.into()), ..active(Https) };
    let verified = Active { https_verify_certificate: true, ..sni("good.test") };
    for (server, active, expected) in [
        (Server::Answer(OK), active(Http), Some(Seen::Success)),
        (Server::Answer(BROKEN), active(Http), Some(Seen::HttpFailure)),
        (Server::Answer("HTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n"), active(Http), None),
        (Server::Answer("SSH-2.0\r\n"), active(Http), Some(Seen::TcpFailure)),
        (Server::Answer(""), active(Http), Some(Seen::TcpFailure)),
        (Server::Silent, active(Http), Some(Seen::Timeout)),
        (Server::Silent, active(Tcp), Some(Seen::Success)),
        (Server::Tls(OK), sni("good.test"), Some(Seen::Success)),
        (Server::Tls(BROKEN), sni("good.test"), Some(Seen::HttpFailure)),
        (Server::Tls(OK), sni("other.test"), Some(Seen::TcpFailure)),
        (Server::Tls(OK), verified, Some(Seen::TcpFailure)),
        (Server::Answer(OK), sni("good.test"), Some(Seen::TcpFailure)),
        (Server::Silent, sni("good.test"), Some(Seen::Timeout)),
        // SERVING, NOT_SERVING, UNKNOWN, no such service.
        (Server::Http2(&[0, 0, 0, 0, 2, 8, 1]), active(Grpc), Some(Seen::Success)),
        (Server::Http2(&[0, 0, 0, 0, 2, 8, 2]), active(Grpc), Some(Seen::HttpFailure)),
        (Server::Http2(&[0, 0, 0, 0, 0]), active(Grpc), Some(Seen::HttpFailure)),
        (Server::Http2(&[]), active(Grpc), Some(Seen::Success)),
        (Server::Reset, active(Grpc), Some(Seen::Success)),
        (Server::Answer(OK), active(Grpc), Some(Seen::TcpFailure)),
        (Server::Silent, active(Grpc), Some(Seen::Timeout)),
    ] {
        let name = match &server {
            Server::Answer(text) | Server::Tls(text) => format!("{text:?}"),
            Server::Http2(body) => format!("{body:?}"),
            Server::Silent | Server::Reset => "silent or reset".to_owned(),
        };
        let (address, _) = serve(server).await;
        let kind = active.probe;
        assert_eq!(probe(address, active).await, expected, "{name} {kind:?}");
    }
    for kind in [Http, Https, Tcp, Grpc, Grpcs] {
        assert_eq!(probe(closed, active(kind)).await, Some(Seen::TcpFailure), "{kind:?}");
    }
}

#[tokio::test]
async fn a_probe_asks_as_configured() {
    let (address, seen) = serve(Server::Answer(OK)).await;
    let mut settings = active(ProbeType::Http);
    settings.http_path = "/status?full=1".into();
    settings.headers = vec![("X-A".into(), "1".into()), ("X-A".into(), "2".into())];
    probe(address, settings.clone()).await;
    let expected =
        format!("GET /status?full=1 HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nx-a: 1\r\nx-a: 2\r\n\r\n");
    assert_eq!(*seen.lock().unwrap(), expected);
    settings.headers = vec![("Host".into(), "other.test".into())];
    probe(address, settings.clone()).await;
    assert!(seen.lock().unwrap().to_ascii_lowercase().contains("\r\nhost: other.test\r\n"));
    for (path, name) in [("/ x", "a"), ("/", "a b")] {
        settings.http_path = path.into();
        settings.headers = vec![(name.into(), "1".into())];
        assert!(Prober::new(&settings).is_err());
    }
}

/// Waits for a state, not for a time.
async fn until(balancers: &Balancers, expected: State) {
    let state = || balancers.health()[0].targets[0].addresses[0].state;
    timeout(Duration::from_secs(10), async {
        while state() != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("never {expected:?}"));
}

#[tokio::test]
async fn targets_go_and_come_back_and_probes_end_with_their_balancer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let interval = Duration::from_millis(10);
    let thresholds = Thresholds { successes: 2, tcp_failures: 2, ..Active::default().thresholds };
    let tcp = Active { healthy_interval: interval, unhealthy_interval: interval, thresholds, ..active(ProbeType::Tcp) };
    let balancers = Balancers::new(Resolver::idle(), Some(tokio::runtime::Handle::current()), None, Room::ENDLESS);
    let settings = upstream(address, tcp);
    let balancer = balancers.upstream(&settings);
    drop(listener);
    // Nothing is probed before the configuration is in force.
    tokio::time::sleep(5 * interval).await;
    assert!(balancer.pick(&Affinity::default(), &[]).await.is_ok());
    balancers.activate([&balancer]);
    until(&balancers, State::Unhealthy).await;
    let refused = balancer.pick(&Affinity::default(), &[]).await.map(|_| ());
    assert_eq!(refused, Err(Reason::UpstreamUnhealthy));
    let listener = TcpListener::bind(address).await.unwrap();
    until(&balancers, State::Healthy).await;
    assert_eq!(balancers.health()[0].changes, [1, 1]);
    // A successor probes in its place; the same settings leave the probes alone.
    let probing = |balancer: &Balancer| balancer.probes.lock().unwrap().is_some();
    balancers.activate([&balancers.upstream(&settings)]);
    assert!(probing(&balancer));
    let successor = balancers.upstream(&Upstream { slots: 77, ..settings });
    balancers.activate([&successor]);
    assert!(!probing(&balancer) && probing(&successor));
    drop((balancer, successor));
    let accept = async {
        while timeout(20 * interval, listener.accept()).await.is_ok() {}
        Ok::<_, Infallible>(())
    };
    timeout(Duration::from_secs(10), accept).await.expect("probes go on").unwrap();
}
