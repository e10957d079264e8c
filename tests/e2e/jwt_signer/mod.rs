//! `jwt-signer` over sockets: which tokens pass, what goes upstream in their place, and that an upstream which knows nothing
//! of the edge can verify it.

mod explained;
mod introspected;
mod outages;
mod resigned;
mod strict;
mod verified;

use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key, with};
use edge_tests::parties::jose;
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{AUDIENCE, entities, plus, with_token};

/// Where generated keys are, in an edge of these tests.
pub(super) const IN_MEMORY: &str = "[key_sets]\nprivate_keys = \"memory\"\npublish_ahead = 0\n";

/// One route for everything, behind jwt-signer with this configuration.
pub(super) fn signed(url: &str, config: Value) -> String {
    let plugins = json!([{"name": "jwt-signer", "config": config}]);
    entities(url, json!([{"name": "all", "paths": ["/"], "strip_path": false, "plugins": plugins}]))
}

/// An upstream, an issuer with one key, and an edge that signs tokens anew.
pub(super) struct Signer {
    pub(super) edge: Edge,
    pub(super) upstream: Upstream,
    pub(super) issuer: Issuer,
    pub(super) key: Key,
}

impl Signer {
    /// The access token by the issuer's key set, no channel token.
    pub(super) fn start(config: Value) -> Self {
        let key = Key::es256("es-1");
        let issuer = Issuer::start(&[&key]);
        let base = json!({"access_token_jwks_uri": format!("{}/jwks", issuer.url()), "channel_token_optional": true});
        Self::over(issuer, key, plus(base, config), |setup| setup)
    }

    /// With a configuration of its own.
    pub(super) fn over(issuer: Issuer, key: Key, config: Value, change: impl FnOnce(Setup) -> Setup) -> Self {
        let upstream = Upstream::start();
        let edge = change(Setup::new(signed(&upstream.url(), config)).section(IN_MEMORY)).start();
        Self { edge, upstream, issuer, key }
    }

    pub(super) fn claims(&self) -> Value {
        mint::claims(&self.issuer.url(), AUDIENCE)
    }

    pub(super) fn token(&self) -> String {
        self.key.token(&self.claims())
    }

    /// The answer to a request with this token.
    pub(super) fn ask(&self, token: &str) -> Message {
        self.edge.ask(with_token(token))
    }

    /// What the upstream saw of a request that passes.
    pub(super) fn pass(&self, token: &str) -> Message {
        let answer = self.ask(token);
        assert_eq!(answer.status(), 200, "{} {}", answer.text(), self.edge.errors().text());
        self.upstream.last()
    }

    /// The key set that the edge publishes.
    pub(super) fn published(&self, name: &str) -> Value {
        let answer = self.edge.admin_get(&format!("/jwt-signer/jwks/{name}"));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()
    }

    /// Header and payload, as written, of the token in `Authorization`, verified by the published set `kong`.
    pub(super) fn verified(&self, seen: &Message) -> (Value, Value) {
        let value = seen.field("authorization").expect("a token");
        let token = value.strip_prefix("Bearer ").expect("a bearer token");
        jose::verify(&self.published("kong"), token).expect("a good token");
        mint::open(token)
    }
}
