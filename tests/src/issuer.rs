//! An issuer with counters that can be made to fail in every way a real one does.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::mint::{Key, jwks};
use crate::upstream::{Seen, Upstream};
use crate::wire::Reader;

/// How the issuer answers instead of well.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status with an empty JSON object.
    Status(u16),
    /// A page of HTML with status 200.
    Html,
    /// Half of the JSON.
    Truncated,
    /// JSON that never seems to end: this many bytes.
    Huge(usize),
    /// Another URL to ask.
    Redirect(String),
    /// The right answer, after this time.
    Slow(Duration),
    /// A key set without keys.
    NoKeys,
    /// A key set of key types nobody knows.
    UnknownTypes,
    /// The connection closes without an answer.
    Close,
    /// A discovery document of somebody else.
    OtherIssuer,
}

#[derive(Default)]
struct State {
    keys: Value,
    fault: Option<Fault>,
    hits: HashMap<String, usize>,
}

/// A running issuer.
pub struct Issuer {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
}

impl Issuer {
    /// An issuer that publishes these keys.
    pub fn start(keys: &[&Key]) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").expect("bind"), keys)
    }

    /// An issuer at an address that was chosen before.
    pub fn at(address: SocketAddr, keys: &[&Key]) -> Self {
        Self::listen(TcpListener::bind(address).expect("bind"), keys)
    }

    fn listen(listener: TcpListener, keys: &[&Key]) -> Self {
        let state = Arc::new(Mutex::new(State { keys: jwks(keys), ..State::default() }));
        let shared = state.clone();
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let upstream = Upstream::listen(listener, move |socket, seen| serve(socket, seen, &shared, &url));
        Self { upstream, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its identifier.
    pub fn url(&self) -> String {
        self.upstream.url()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// Publishes other keys.
    pub fn rotate(&self, keys: &[&Key]) {
        self.lock().keys = jwks(keys);
    }

    /// Publishes any document as its key set.
    pub fn publish(&self, document: Value) {
        self.lock().keys = document;
    }

    /// Answers badly from now on.
    pub fn fail(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// Answers well again.
    pub fn recover(&self) {
        self.lock().fault = None;
    }

    /// How often the key set was asked for.
    pub fn key_fetches(&self) -> usize {
        self.hits("/jwks")
    }

    /// How often a path was asked for.
    pub fn hits(&self, path: &str) -> usize {
        self.lock().hits.get(path).copied().unwrap_or(0)
    }
}

fn serve(socket: TcpStream, seen: &Seen, state: &Mutex<State>, url: &str) {
    let mut reader = Reader::new(socket);
    while let Ok(Some(request)) = reader.request() {
        let path = request.target().to_owned();
        seen.keep(request);
        let (keys, fault) = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            *state.hits.entry(path.clone()).or_default() += 1;
            (state.keys.clone(), state.fault.clone())
        };
        let document = match (path.as_str(), &fault) {
            ("/jwks", Some(Fault::NoKeys)) => json!({"keys": []}),
            ("/jwks", Some(Fault::UnknownTypes)) => json!({"keys": [{"kty": "XYZ", "kid": "x", "use": "sig"}]}),
            ("/jwks", _) => keys,
            ("/.well-known/openid-configuration", Some(Fault::OtherIssuer)) => discovery("https://evil.example", url),
            ("/.well-known/openid-configuration", _) => discovery(url, url),
            _ => Value::Null,
        };
        if answer(reader.stream(), &document, fault).is_err() {
            return;
        }
    }
}

fn discovery(issuer: &str, base: &str) -> Value {
    json!({
        "issuer": issuer, "jwks_uri": format!("{base}/jwks"), "token_endpoint": format!("{base}/token"),
        "introspection_endpoint": format!("{base}/introspect"), "authorization_endpoint": format!("{base}/authorize"),
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
    })
}

fn answer(socket: &mut TcpStream, document: &Value, fault: Option<Fault>) -> std::io::Result<()> {
    let body = document.to_string();
    let head = |status: &str, kind: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n")
    };
    let json = "application/json";
    match fault {
        Some(Fault::Status(status)) => write!(socket, "{}{{}}", head(&format!("{status} Fault"), json, 2)),
        Some(Fault::Html) => write!(socket, "{}<html></html>", head("200 OK", "text/html", 13)),
        Some(Fault::Truncated) => {
            let half = &body[..body.len() / 2];
            write!(socket, "{}{half}", head("200 OK", json, half.len()))
        }
        Some(Fault::Huge(bytes)) => {
            write!(socket, "{}{{\"pad\":\"", head("200 OK", json, bytes))?;
            let pad = vec![b'x'; 65536];
            (0..bytes / pad.len()).try_for_each(|_| socket.write_all(&pad))
        }
        Some(Fault::Redirect(to)) => {
            write!(socket, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
        }
        Some(Fault::Close) => Err(std::io::ErrorKind::ConnectionAborted.into()),
        Some(Fault::Slow(wait)) => {
            std::thread::sleep(wait);
            write!(socket, "{}{body}", head("200 OK", json, body.len()))
        }
        None | Some(Fault::NoKeys | Fault::UnknownTypes | Fault::OtherIssuer) => {
            let status = if document.is_null() { "404 Not Found" } else { "200 OK" };
            write!(socket, "{}{body}", head(status, json, body.len()))
        }
    }
}
