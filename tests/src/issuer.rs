//! An issuer whose answers a test sets, that counts and keeps what it was asked, and that can be made to fail in every
//! way a real one does.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::mint::{Key, jwks, with};
use crate::reply::Reply;
use crate::upstream::{Seen, Upstream};
use crate::wire::{Message, Reader};

/// How the issuer answers instead of well.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status with an empty JSON object.
    Status(u16),
    /// 401 to the edge's own credentials (RFC 6749, 5.2).
    InvalidClient,
    /// 429, to be asked again after so many seconds.
    TooMany(u32),
    /// A page of HTML with status 200.
    Html,
    /// The right answer as another type of content.
    ContentType(&'static str),
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

type Answer = Arc<dyn Fn(&Message) -> Reply + Send + Sync>;

#[derive(Default)]
struct State {
    keys: Value,
    description: Value,
    /// What answers at a path.
    answers: HashMap<String, Answer>,
    /// What is known of a token.
    tokens: HashMap<String, Value>,
    fault: Option<Fault>,
    /// Faults of one path alone, which go before that of all.
    faults: HashMap<String, Fault>,
    requests: HashMap<String, Vec<Message>>,
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
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let description = discovery(&url);
        let state = Arc::new(Mutex::new(State { keys: jwks(keys), description, ..State::default() }));
        let shared = state.clone();
        let upstream = Upstream::listen(listener, move |socket, seen| serve(socket, seen, &shared));
        Self { upstream, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Its identifier.
    pub fn url(&self) -> String {
        self.upstream.url()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// Listens no longer; another may listen at its address then.
    pub fn stop(self) {
        self.upstream.stop();
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.upstream.connections()
    }

    /// Publishes other keys.
    pub fn rotate(&self, keys: &[&Key]) {
        self.lock().keys = jwks(keys);
    }

    /// Publishes any document as its key set.
    pub fn publish(&self, document: Value) {
        self.lock().keys = document;
    }

    /// Changes members of the discovery document; `null` removes one.
    pub fn describe(&self, changes: Value) {
        let mut state = self.lock();
        state.description = with(std::mem::take(&mut state.description), changes);
    }

    /// What `/introspect` and `/userinfo` say of a token from now on; of others the one says that they are inactive,
    /// the other 401.
    pub fn know(&self, token: &str, facts: Value) {
        self.lock().tokens.insert(token.to_owned(), facts);
    }

    /// Nothing is known of a token any more: it was revoked.
    pub fn forget(&self, token: &str) {
        self.lock().tokens.remove(token);
    }

    /// Answers a path by a function from now on.
    pub fn answer(&self, path: &str, answer: impl Fn(&Message) -> Reply + Send + Sync + 'static) {
        self.lock().answers.insert(path.to_owned(), Arc::new(answer));
    }

    /// Answers badly from now on, whatever is asked.
    pub fn fail(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// Answers badly at one path.
    pub fn fail_at(&self, path: &str, fault: Fault) {
        self.lock().faults.insert(path.to_owned(), fault);
    }

    /// Answers well again.
    pub fn recover(&self) {
        let mut state = self.lock();
        state.fault = None;
        state.faults.clear();
    }

    /// How often the key set was asked for.
    pub fn key_fetches(&self) -> usize {
        self.hits("/jwks")
    }

    /// How often a path was asked for.
    pub fn hits(&self, path: &str) -> usize {
        self.lock().requests.get(path).map_or(0, Vec::len)
    }

    /// What was asked at a path.
    pub fn requests(&self, path: &str) -> Vec<Message> {
        self.lock().requests.get(path).cloned().unwrap_or_default()
    }

    /// The last that was asked at a path.
    pub fn last(&self, path: &str) -> Message {
        self.requests(path).pop().unwrap_or_else(|| panic!("nothing was asked at {path}"))
    }

    /// How often this token was introspected.
    pub fn introspections(&self, token: &str) -> usize {
        let state = self.lock();
        let asked = state.requests.get("/introspect").into_iter().flatten();
        asked.filter(|request| argument(request, "token").as_deref() == Some(token)).count()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The fields of a form (WHATWG URL, application/x-www-form-urlencoded), in order.
pub fn form(request: &Message) -> Vec<(String, String)> {
    let text = request.text();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(n, v)| (unescape(n), unescape(v))).collect()
}

/// The value of one field of a form; a field that came twice fails the test.
pub fn argument(request: &Message, name: &str) -> Option<String> {
    let mut found = form(request).into_iter().filter(|(n, _)| n == name).map(|(_, value)| value);
    let first = found.next();
    assert!(found.next().is_none(), "{name} came twice in {:?}", request.text());
    first
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let (byte, next) = match (first, escaped) {
            (b'%', Some(value)) => (value, &after[2..]),
            (b'+', _) => (b' ', after),
            _ => (first, after),
        };
        rest = next;
        bytes.push(byte);
    }
    String::from_utf8(bytes).expect("a form of UTF-8")
}

/// 200 with JSON.
pub fn good(document: &Value) -> Reply {
    Reply::new("200 OK", "Content-Type: application/json\r\n", &document.to_string())
}

/// An OAuth error with status 400 (RFC 6749, 5.2).
pub fn error(code: &str, description: &str) -> Reply {
    let document = json!({"error": code, "error_description": description});
    Reply::new("400 Bad Request", "Content-Type: application/json\r\n", &document.to_string())
}

fn serve(socket: TcpStream, seen: &Seen, state: &Mutex<State>) {
    let mut reader = Reader::new(socket);
    while let Ok(Some(request)) = reader.request() {
        let path = request.target().split('?').next().unwrap_or_default().to_owned();
        let (answer, document, fault) = {
            let mut state = lock(state);
            state.requests.entry(path.clone()).or_default().push(request.clone());
            let fault = state.faults.get(&path).or(state.fault.as_ref()).cloned();
            (state.answers.get(&path).cloned(), document(&state, &path, &request, fault.as_ref()), fault)
        };
        // A test's function may take its time: the state is free meanwhile.
        let reply = match (answer, document) {
            (Some(answer), _) => answer(&request),
            (None, Value::Null) if path == "/userinfo" => {
                unauthorized("Bearer error=\"invalid_token\"", "invalid_token")
            }
            (None, Value::Null) => Reply::new("404 Not Found", "", ""),
            (None, document) => good(&document),
        };
        seen.keep(request);
        let written = match fault {
            Some(Fault::Huge(bytes)) => huge(reader.stream(), bytes),
            Some(fault) => spoilt(reply, fault).write(reader.stream()),
            None => reply.write(reader.stream()),
        };
        if !matches!(written, Ok(true)) {
            return;
        }
    }
}

fn unauthorized(challenge: &str, code: &str) -> Reply {
    let fields = format!("Content-Type: application/json\r\nWWW-Authenticate: {challenge}\r\n");
    Reply::new("401 Unauthorized", &fields, &json!({"error": code}).to_string())
}

fn spoilt(reply: Reply, fault: Fault) -> Reply {
    const JSON: &str = "Content-Type: application/json\r\n";
    match fault {
        Fault::Status(status) => Reply::new(&format!("{status} Fault"), JSON, "{}"),
        Fault::InvalidClient => unauthorized("Basic realm=\"issuer\"", "invalid_client"),
        Fault::TooMany(seconds) => {
            Reply::new("429 Too Many Requests", &format!("{JSON}Retry-After: {seconds}\r\n"), "{}")
        }
        Fault::Html => Reply::new("200 OK", "Content-Type: text/html\r\n", "<html></html>"),
        Fault::ContentType(kind) => Reply::new("200 OK", &format!("Content-Type: {kind}\r\n"), &reply.body()),
        Fault::Truncated => {
            let body = reply.body();
            Reply::new("200 OK", JSON, &body[..body.len() / 2])
        }
        Fault::Redirect(to) => Reply::new("302 Found", &format!("Location: {to}\r\n"), ""),
        Fault::Slow(wait) => reply.after(wait),
        Fault::Close => Reply::raw("").close(),
        Fault::Huge(_) | Fault::NoKeys | Fault::UnknownTypes | Fault::OtherIssuer => reply,
    }
}

fn huge(socket: &mut TcpStream, bytes: usize) -> io::Result<bool> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n");
    write!(socket, "{head}{{\"pad\":\"")?;
    let pad = vec![b'x'; 65536];
    (0..bytes / pad.len()).try_for_each(|_| socket.write_all(&pad))?;
    Ok(false)
}

fn document(state: &State, path: &str, request: &Message, fault: Option<&Fault>) -> Value {
    match (path, fault) {
        ("/jwks", Some(Fault::NoKeys)) => json!({"keys": []}),
        ("/jwks", Some(Fault::UnknownTypes)) => json!({"keys": [{"kty": "XYZ", "kid": "x", "use": "sig"}]}),
        ("/jwks", _) => state.keys.clone(),
        ("/.well-known/openid-configuration", Some(Fault::OtherIssuer)) => {
            with(state.description.clone(), json!({"issuer": "https://evil.example"}))
        }
        ("/.well-known/openid-configuration", _) => state.description.clone(),
        ("/introspect", _) => {
            let known = argument(request, "token").and_then(|token| state.tokens.get(&token).cloned());
            known.unwrap_or_else(|| json!({"active": false}))
        }
        ("/userinfo", _) => {
            let token = request.field("authorization").and_then(|value| value.strip_prefix("Bearer "));
            token.and_then(|token| state.tokens.get(token).cloned()).unwrap_or(Value::Null)
        }
        _ => Value::Null,
    }
}

fn discovery(url: &str) -> Value {
    json!({
        "issuer": url, "jwks_uri": format!("{url}/jwks"), "token_endpoint": format!("{url}/token"),
        "introspection_endpoint": format!("{url}/introspect"), "userinfo_endpoint": format!("{url}/userinfo"),
        "authorization_endpoint": format!("{url}/authorize"), "response_types_supported": ["code"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256", "ES256"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Client;

    fn ask(issuer: &Issuer, path: &str, token: &str) -> Message {
        let body = format!("token={token}&token_type_hint=access_token");
        let length = body.len();
        let request = format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n{body}");
        Client::connect(issuer.address()).ask(request)
    }

    #[test]
    fn it_answers_as_it_is_told() {
        let issuer = Issuer::start(&[]);
        issuer.know("a+b", json!({"active": true}));
        assert_eq!(ask(&issuer, "/introspect", "a%2Bb").json(), json!({"active": true}));
        assert_eq!(ask(&issuer, "/introspect", "a+b").json(), json!({"active": false}));
        issuer.forget("a+b");
        assert_eq!(ask(&issuer, "/introspect", "a%2Bb").json(), json!({"active": false}));
        assert_eq!((issuer.introspections("a+b"), issuer.hits("/introspect")), (2, 3));
        assert_eq!(ask(&issuer, "/other", "x").status(), 404);
        assert_eq!(ask(&issuer, "/userinfo", "x").status(), 401);
        issuer.answer("/other", |request| good(&json!(argument(request, "token"))));
        assert_eq!(ask(&issuer, "/other?x=1", "t").json(), "t");
        issuer.describe(json!({"token_endpoint": null, "x": 1}));
        let document = ask(&issuer, "/.well-known/openid-configuration", "").json();
        assert_eq!((&document["x"], &document["token_endpoint"]), (&json!(1), &Value::Null));
    }

    #[test]
    fn it_fails_as_it_is_told() {
        let issuer = Issuer::start(&[]);
        issuer.know("t", json!({"active": true}));
        let status = |fault: Fault| {
            issuer.fail_at("/introspect", fault);
            let answer = ask(&issuer, "/introspect", "t");
            (answer.status(), answer.text(), answer.field("content-type").map(str::to_owned))
        };
        let json = Some("application/json".to_owned());
        assert_eq!(status(Fault::Status(503)), (503, "{}".into(), json.clone()));
        assert_eq!(status(Fault::InvalidClient), (401, "{\"error\":\"invalid_client\"}".into(), json.clone()));
        assert_eq!(status(Fault::TooMany(3)), (429, "{}".into(), json.clone()));
        assert_eq!(status(Fault::Html).2, Some("text/html".into()));
        assert_eq!(
            status(Fault::ContentType("text/plain")),
            (200, "{\"active\":true}".into(), Some("text/plain".into()))
        );
        assert_eq!(status(Fault::Truncated), (200, "{\"activ".into(), json.clone()));
        assert_eq!(status(Fault::Redirect("http://x/".into())).0, 302);
        issuer.fail(Fault::Status(500));
        assert_eq!(ask(&issuer, "/jwks", "t").status(), 500);
        assert_eq!(ask(&issuer, "/introspect", "t").status(), 302);
        issuer.fail_at("/introspect", Fault::Close);
        let mut client = Client::connect(issuer.address());
        client.send("GET /introspect HTTP/1.1\r\nHost: t\r\n\r\n");
        assert!(client.closes());
        issuer.recover();
        assert_eq!(ask(&issuer, "/introspect", "t").json(), json!({"active": true}));
    }
}
