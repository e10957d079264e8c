//! HTTP/1.1 servers of the control runtime: Admin API, identity, echo. Routing is axum's, the connection is hyper's;
//! here stand the bounds that `axum::serve` does not have: connections, and every wait. Proxied traffic never comes
//! here, it has its own codec in `http`.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_service::Service;

/// The longest request head, and the step by which bodies are read.
const BUFFER_BYTES: usize = 64 * 1024;
/// A wait after `accept` failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one server lets its clients have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the backlog.
    pub connections: usize,
    /// For a request head to arrive, idle time before it included.
    pub head: Duration,
    /// For a request to be read and answered; then 408.
    pub request: Duration,
    /// For a connection as a whole, so that a client that stops reading does not keep it.
    pub lifetime: Duration,
    /// For connections to end once they are asked to.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            head: Duration::from_secs(30),
            request: Duration::from_secs(30),
            lifetime: Duration::from_secs(600),
            drain: Duration::from_secs(5),
        }
    }
}

/// Serves until `shutdown` is ready and the connections have ended or `limits.drain` is over.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, shutdown: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let (close, closing) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            (slot, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (slot, stream) = accepted => match stream {
                Ok((stream, peer)) => {
                    let serving = connection(stream, peer, router.clone(), limits, closing.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(target: "edge", "accept failed: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop((listener, close));
    // Whoever is still there afterwards is cut off when the set is dropped.
    let _ = timeout(limits.drain, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    mut closing: watch::Receiver<()>,
) {
    // Answers are small and whole; waiting to fill a segment only delays them. A failure costs just that.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let answer = timeout(limits.request, Service::call(&mut router, request)).await;
            Ok::<Response, Infallible>(match answer {
                Ok(Ok(response)) => response,
                Err(_) => (StatusCode::REQUEST_TIMEOUT, [("connection", "close")]).into_response(),
            })
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(BUFFER_BYTES);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How a client left is of no interest; what it asked has been answered or cannot be.
        _ = serving.as_mut() => return,
        _ = closing.changed() => {}
        () = sleep(limits.lifetime) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = timeout(limits.drain, serving).await;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    /// A server for one test; dropping it ends it.
    pub(crate) struct Running {
        pub(crate) address: SocketAddr,
        stop: Option<oneshot::Sender<()>>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Running {
        pub(crate) async fn start(router: Router, limits: Limits) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel();
            let task = tokio::spawn(serve(listener, router, limits, async {
                let _ = stopped.await;
            }));
            Self { address, stop: Some(stop), task }
        }

        /// Sends bytes, half-closes nothing, and answers all that comes until the server closes.
        pub(crate) async fn exchange(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        }

        /// One request with `Host: localhost` and these header lines; answers status, head and body.
        pub(crate) async fn request(&self, line: &str, headers: &str, body: &str) -> (u16, String, String) {
            let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
            let host = if headers.to_ascii_lowercase().contains("host:") { "" } else { "Host: localhost\r\n" };
            let text = format!("{line} HTTP/1.1\r\n{host}{headers}{length}Connection: close\r\n\r\n{body}");
            let answer = self.exchange(&text).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
        }

        pub(crate) async fn stop(mut self) {
            drop(self.stop.take());
            (&mut self.task).await.unwrap();
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    fn router() -> Router {
        let slow = || async {
            sleep(Duration::from_millis(200)).await;
            "slow"
        };
        Router::new()
            .route("/slow", get(slow))
            .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }))
            .route("/stuck", get(std::future::pending::<()>))
    }

    #[tokio::test]
    async fn a_stop_lets_the_current_request_finish() {
        let server = Running::start(router(), Limits::default()).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        sleep(Duration::from_millis(50)).await;
        server.stop().await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("slow"), "{answer}");
    }

    /// D1, D2: each wait ends by itself.
    #[tokio::test]
    async fn slow_clients_and_stuck_handlers_are_ended() {
        let short = Duration::from_millis(100);
        let limits = Limits { head: short, request: short, drain: short, ..Limits::default() };
        let server = Running::start(router(), limits).await;
        assert_eq!(server.request("GET /peer", "", "").await.2, "127.0.0.1");
        assert_eq!(server.request("GET /stuck", "", "").await.0, 408);
        for partial in ["", "GET /peer HT", "GET /peer HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let answered = timeout(Duration::from_secs(5), server.exchange(partial)).await;
            assert!(answered.is_ok(), "{partial:?} kept its connection");
        }
    }

    #[tokio::test]
    async fn connections_over_the_limit_wait_for_their_turn() {
        let limits = Limits { connections: 1, lifetime: Duration::from_millis(100), ..Limits::default() };
        let server = Running::start(router(), limits).await;
        let idle = TcpStream::connect(server.address).await.unwrap();
        let (status, ..) = timeout(Duration::from_secs(5), server.request("GET /peer", "", "")).await.unwrap();
        assert_eq!(status, 200, "the idle connection's life ended and made room");
        drop(idle);
    }
}
