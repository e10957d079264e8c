//! The edge over sockets, without privileges: a module per feature, each test with an edge of its own.
#![allow(clippy::unwrap_used, reason = "a failed test is the message")]

mod addresses;
mod admin;
mod balancing;
mod claim_headers;
mod client_rules;
mod clusters;
mod consumers;
mod credential_names;
mod credentials;
mod differential;
mod dns;
mod doctor;
mod explain;
mod fleet;
mod flows;
mod forward;
mod framing;
mod generations;
mod grpc;
mod guide;
mod h2_upstream;
mod harness;
mod headers;
mod http2;
mod import;
mod introspection;
mod jwt_signer;
mod key_sets;
mod keys;
mod limits;
mod logs;
mod oidc;
mod overload;
mod parties;
mod penalty;
mod plugins;
mod plugins_redis;
mod possession;
mod privileges;
mod prometheus;
mod proxy_protocol;
mod proxy_protocol_sent;
mod reload;
mod responses;
mod routing;
mod seeds;
mod sessions;
mod settings;
mod staples;
mod statements;
mod stream;
mod tls;
mod upstream_oauth;
mod upstreams;
mod websocket;

use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::Issuer;
use edge_tests::mint::Key;
use edge_tests::upstream::Upstream;
use serde_json::{Value, json};

/// The audience of the tests' protected routes.
const AUDIENCE: &str = "api://orders";

/// Entities with one service behind these routes.
fn entities(url: &str, routes: Value) -> String {
    json!({"_format_version": "3.0", "services": [{"name": "up", "url": url, "routes": routes}]}).to_string()
}

/// One route for everything, nothing cut off.
fn open(url: &str) -> String {
    entities(url, json!([{"name": "all", "paths": ["/"], "strip_path": false}]))
}

/// One route for everything, behind openid-connect with this configuration.
fn guarded(url: &str, config: Value) -> String {
    let plugins = json!([{"name": "openid-connect", "config": config}]);
    entities(url, json!([{"name": "all", "paths": ["/"], "strip_path": false, "plugins": plugins}]))
}

/// The plugin's configuration for an issuer: discovery, bearer tokens alone, the tests' audience.
fn bearer(issuer: &str) -> Value {
    json!({"issuer": issuer, "auth_methods": ["bearer"], "audience_required": [AUDIENCE]})
}

/// Adds members to a configuration.
fn plus(mut config: Value, more: Value) -> Value {
    let members = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(members);
    config
}

/// An upstream, an issuer with one ES256 key, and an edge that guards the one by the other.
struct Guarded {
    edge: Edge,
    upstream: Upstream,
    issuer: Issuer,
    key: Key,
}

impl Guarded {
    fn start() -> Self {
        Self::with(json!({}), |setup| setup)
    }

    fn with(config: Value, change: impl FnOnce(Setup) -> Setup) -> Self {
        let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
        let issuer = Issuer::start(&[&key]);
        let config = plus(bearer(&issuer.url()), config);
        let edge = change(Setup::new(guarded(&upstream.url(), config))).start();
        Self { edge, upstream, issuer, key }
    }

    /// The claims of a good token.
    fn claims(&self) -> Value {
        edge_tests::mint::claims(&self.issuer.url(), AUDIENCE)
    }

    /// A good token.
    fn token(&self) -> String {
        self.key.token(&self.claims())
    }
}

/// A GET of `/orders` with this token.
fn with_token(token: &str) -> Vec<u8> {
    edge_tests::wire::get("/orders", &[&format!("Authorization: Bearer {token}")])
}
