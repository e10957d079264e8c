//! The edge's own token towards upstreams, over sockets (security properties, 8): what is asked for it, how long it is
//! kept, where it goes, and what it costs when there is none.

mod cache;
mod certified;
mod cluster;
mod fleet;
mod outages;
mod places;
mod refused;
mod requests;

use std::sync::{Arc, Mutex};

use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::{Issuer, good};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{entities, plus};

/// The edge's secret at the issuer.
const SECRET: &str = "edge-secret-of-the-tests-0123456789";
/// What the client gets where there is no token, exactly.
const FAILURE: &str = r#"{ "code": "502", "message": "Failed to authenticate request to upstream" }"#;

/// The plugin's configuration, with more in its record `oauth` and more records.
fn config(issuer: &str, oauth: Value, records: Value) -> Value {
    let own = json!({"token_endpoint": format!("{issuer}/token"), "client_id": "edge", "client_secret": SECRET});
    plus(json!({"oauth": plus(own, oauth)}), records)
}

/// A route under this path with the plugin.
fn route(name: &str, config: Value) -> Value {
    let plugins = json!([{"name": "upstream-oauth", "config": config}]);
    json!({"name": name, "paths": [format!("/{name}")], "strip_path": false, "plugins": plugins})
}

/// Tokens that were given out, and which of them the upstream takes no more.
#[derive(Clone, Default)]
struct Tokens(Arc<Mutex<(Vec<String>, Vec<String>)>>);

impl Tokens {
    fn issue(&self) -> String {
        let mut tokens = self.0.lock().unwrap();
        let token = format!("issued-token-{}-x0x", tokens.0.len());
        tokens.0.push(token.clone());
        token
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().0.clone()
    }

    fn revoke(&self, token: &str) {
        self.0.lock().unwrap().1.push(token.to_owned());
    }

    fn is_revoked(&self, token: &str) -> bool {
        self.0.lock().unwrap().1.iter().any(|revoked| revoked == token)
    }
}

/// An issuer that gives out a new token for each question, an upstream that takes them but for those that were revoked,
/// and an edge between them with one route, `/orders`.
struct Own {
    edge: Edge,
    upstream: Upstream,
    issuer: Issuer,
    tokens: Tokens,
}

impl Own {
    fn start() -> Self {
        Self::with(json!({}), json!({}))
    }

    /// With more of the plugin's configuration.
    fn with(oauth: Value, records: Value) -> Self {
        Self::set_up(oauth, records, |setup| setup)
    }

    fn set_up(oauth: Value, records: Value, change: impl FnOnce(Setup) -> Setup) -> Self {
        let (issuer, tokens) = (Issuer::start(&[]), Tokens::default());
        let upstream = strict(&tokens);
        let routes = json!([route("orders", config(&issuer.url(), oauth, records))]);
        let setup = Setup::new(entities(&upstream.url(), routes)).log("level = \"debug\"");
        let own = Self { edge: change(setup).start(), upstream, issuer, tokens };
        own.issue(json!({"expires_in": 3600}));
        own
    }

    /// Answers questions from now on with a new token and these members; `null` removes one.
    fn issue(&self, members: Value) {
        issue(&self.issuer, "/token", &self.tokens, members);
    }

    fn ask(&self) -> Message {
        self.edge.ask(get("/orders", &[]))
    }

    /// How often the token endpoint was asked.
    fn calls(&self) -> usize {
        self.issuer.hits("/token")
    }

    /// The token that the upstream got last.
    fn sent(&self) -> String {
        bearer(&self.upstream.last())
    }

    /// Whether nothing that was issued, nor any of these, stands in what the edge wrote (L1).
    fn assert_silent(&self, secrets: &[&str]) {
        let (output, issued) = (self.edge.output(), self.tokens.all());
        for secret in issued.iter().map(String::as_str).chain(secrets.iter().copied()).chain([SECRET]) {
            assert!(!output.contains(secret), "{secret} was logged");
        }
    }
}

/// Answers at a path with a new token and these members.
fn issue(issuer: &Issuer, path: &str, tokens: &Tokens, members: Value) {
    let tokens = tokens.clone();
    issuer.answer(path, move |_| {
        good(&plus(json!({"access_token": tokens.issue(), "token_type": "Bearer"}), members.clone()))
    });
}

/// An upstream that takes every token but those that were revoked.
fn strict(tokens: &Tokens) -> Upstream {
    let tokens = tokens.clone();
    Upstream::with(move |request| {
        match request.field("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) if !tokens.is_revoked(token) => Reply::ok("ok"),
            _ => Reply::new("401 Unauthorized", "Content-Type: text/plain\r\n", "who are you?"),
        }
    })
}

/// The token of a request, as `Authorization: Bearer`.
fn bearer(request: &Message) -> String {
    let value = request.field("authorization").expect("a token");
    value.strip_prefix("Bearer ").unwrap_or_else(|| panic!("{value:?}")).to_owned()
}

/// A request with a body of known length.
fn with_body(method: &str, target: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}
