//! A service that speaks HTTP/2, each of its streams served by a function of the test.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::certs::Pair;
use crate::wire::PATIENCE;

/// What a test's streams have told, in their order.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    /// Tells something.
    pub fn keep(&self, note: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note.into());
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until something like this was told.
    pub fn wait(&self, part: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(note) = self.all().into_iter().find(|note| note.contains(part)) {
                return note;
            }
            assert!(Instant::now() < end, "{part:?} is not among {:?}", self.all());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// How it listens.
#[derive(Default)]
pub struct Rules<'a> {
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`, where there is a limit.
    pub max_streams: Option<u32>,
    /// The certificate it shows, where it speaks TLS.
    pub pair: Option<&'a Pair>,
}

/// A listening upstream; its thread ends with the test's process.
pub struct H2Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl H2Upstream {
    /// Serves every stream, in a task of its own, by a function of the connection's number and the stream.
    pub fn start<S, F>(rules: Rules<'_>, serve: S) -> Self
    where
        S: Fn(usize, Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, tls) = (connections.clone(), rules.pair.map(acceptor));
        let max_streams = rules.max_streams;
        std::thread::spawn(move || {
            let serve = std::rc::Rc::new(serve);
            crate::h2raw::block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((socket, _)) = listener.accept().await {
                    let number = count.fetch_add(1, Ordering::SeqCst);
                    let (serve, tls) = (serve.clone(), tls.clone());
                    tokio::task::spawn_local(async move {
                        let _ = socket.set_nodelay(true);
                        match tls {
                            None => speak(socket, number, max_streams, &*serve).await,
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(socket).await {
                                    speak(stream, number, max_streams, &*serve).await;
                                }
                            }
                        }
                    });
                }
            });
        });
        Self { address, connections }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn acceptor(pair: &Pair) -> tokio_rustls::TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config).into()
}

async fn speak<T, S, F>(stream: T, number: usize, max_streams: Option<u32>, serve: &S)
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Fn(usize, Request<RecvStream>, SendResponse<Bytes>) -> F,
    F: Future<Output = ()> + 'static,
{
    let mut builder = h2::server::Builder::new();
    if let Some(limit) = max_streams {
        builder.max_concurrent_streams(limit);
    }
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::task::spawn_local(serve(number, request, respond));
    }
}

/// Reads the whole content of a request.
pub async fn content(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        all.extend(data);
    }
    (all, body.trailers().await.ok().flatten())
}

/// Answers 200 with this content, in pieces as the windows allow, and these trailers.
pub async fn answer(mut respond: SendResponse<Bytes>, content: &[u8], trailers: &[(&'static str, &str)]) {
    let Ok(mut stream) = respond.send_response(Response::new(()), false) else { return };
    let mut rest = Bytes::copy_from_slice(content);
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let Some(Ok(capacity)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
        if stream.send_data(rest.split_to(capacity.min(rest.len())), false).is_err() {
            return;
        }
    }
    let fields =
        trailers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a value")));
    let _ = match trailers.is_empty() {
        true => stream.send_data(Bytes::new(), true),
        false => stream.send_trailers(fields.collect()),
    };
}
