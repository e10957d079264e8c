//! What the edge fetches itself, over sockets: tokens for other credentials and for other tokens, ID tokens beside them,
//! and user info.

mod certified;
mod exchange;
mod failures;
mod fleet;
mod grants;
mod id_tokens;
mod kept;
mod user_info;

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::{Issuer, argument, form, good};
use edge_tests::mint::{self, Key, with};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{AUDIENCE, guarded, plus};

/// The edge's own secret at the issuer.
const SECRET: &str = "edge-secret-of-the-tests-0123456789";
/// A caller's, and its client's id.
const CALLER: (&str, &str) = ("app", "app-secret-of-the-tests-9876543210");

/// The plugin's configuration of an edge that is a client itself.
fn client(issuer: &str, methods: Value) -> Value {
    json!({"issuer": issuer, "auth_methods": methods, "client_id": ["edge"], "client_secret": [SECRET]})
}

fn basic(id: &str, secret: &str) -> String {
    format!("Authorization: Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

/// A POST of a form.
fn post(target: &str, body: &str) -> Vec<u8> {
    post_with(target, "X-Test: form", body)
}

/// The same with one more field.
fn post_with(target: &str, field: &str, body: &str) -> Vec<u8> {
    let kind = "application/x-www-form-urlencoded";
    let length = body.len();
    let head = format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n");
    format!("{head}{field}\r\n\r\n{body}").into_bytes()
}

/// Whom a request to the token endpoint wants a token for.
fn subject(request: &Message) -> String {
    let refreshed = || argument(request, "refresh_token").map(|token| format!("refreshed {}", token.len()));
    let named = argument(request, "username").or_else(refreshed);
    let exchanged =
        argument(request, "subject_token").map(|token| mint::open(&token).1["sub"].as_str().unwrap().into());
    let client = || {
        let basic = request.field("authorization")?.strip_prefix("Basic ")?;
        let pair = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
        Some(pair.split_once(':')?.0.to_owned())
    };
    named.or(exchanged).or_else(|| argument(request, "client_id")).or_else(client).expect("somebody")
}

/// An issuer that gives out signed tokens, an upstream, and an edge between them.
struct Flow {
    edge: Edge,
    upstream: Upstream,
    issuer: Issuer,
    key: Arc<Key>,
    issued: Arc<Mutex<Vec<String>>>,
}

impl Flow {
    /// With these methods, and more of the plugin's configuration.
    fn start(methods: Value, config: Value) -> Self {
        Self::with(methods, |_| config, json!({}))
    }

    /// The same, where the configuration needs the issuer's URL, and answers of the token endpoint have more members.
    fn with(methods: Value, config: impl FnOnce(&str) -> Value, members: Value) -> Self {
        let (upstream, key) = (Upstream::start(), Arc::new(Key::es256("es-1")));
        let issuer = Issuer::start(&[&key]);
        let config = plus(client(&issuer.url(), methods), config(&issuer.url()));
        let edge = Setup::new(guarded(&upstream.url(), config)).log("level = \"debug\"").start();
        let flow = Self { edge, upstream, issuer, key, issued: Arc::default() };
        flow.issue(members);
        flow
    }

    /// Answers token requests from now on with a new token for whoever asks, and these members besides.
    fn issue(&self, members: Value) {
        let (url, key, issued) = (self.issuer.url(), Arc::clone(&self.key), Arc::clone(&self.issued));
        self.issuer.answer("/token", move |request| {
            let token = key.token(&with(mint::claims(&url, AUDIENCE), json!({"sub": subject(request)})));
            issued.lock().unwrap().push(token.clone());
            good(&plus(json!({"access_token": token, "token_type": "Bearer", "expires_in": 300}), members.clone()))
        });
    }

    /// Answers token requests with this token from now on.
    fn give(&self, token: &str) {
        let (token, issued) = (token.to_owned(), Arc::clone(&self.issued));
        self.issuer.answer("/token", move |_| {
            issued.lock().unwrap().push(token.clone());
            good(&json!({"access_token": token, "token_type": "Bearer", "expires_in": 300}))
        });
    }

    fn ask(&self, fields: &[&str]) -> Message {
        self.edge.ask(get("/orders", fields))
    }

    /// The status of a request of the caller's client.
    fn status(&self) -> u16 {
        self.ask(&[&basic(CALLER.0, CALLER.1)]).status()
    }

    /// How often the token endpoint was asked.
    fn calls(&self) -> usize {
        self.issuer.hits("/token")
    }

    /// The form of the last token request.
    fn form(&self) -> Vec<(String, String)> {
        form(&self.issuer.last("/token"))
    }

    fn issued(&self) -> String {
        self.issued.lock().unwrap().last().cloned().expect("a token")
    }

    /// Whose token the upstream got, as `Authorization: Bearer`.
    fn upstream_subject(&self) -> String {
        let seen = self.upstream.last();
        let token = seen.field("authorization").unwrap().strip_prefix("Bearer ").unwrap();
        mint::open(token).1["sub"].as_str().unwrap().to_owned()
    }

    /// Whether nothing that was issued, nor any of these, stands in what the edge wrote (L1).
    fn assert_silent(&self, secrets: &[&str]) {
        let output = self.edge.output();
        let issued = self.issued.lock().unwrap().clone();
        let all = issued.iter().map(String::as_str).chain(secrets.iter().copied()).chain([SECRET, CALLER.1]);
        for secret in all {
            assert!(!output.contains(secret), "{secret} was logged");
        }
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}
