//! The seeds' plugins together on one route, one test a check, named by its id.

use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::{Issuer, good};
use edge_tests::mint::{self, Key};
use edge_tests::parties::jose;
use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::{Value, json};

use crate::jwt_signer::IN_MEMORY;
use crate::{AUDIENCE, bearer, entities, plus, with_token};

/// An upstream, an issuer that also gives the edge its own token, and what the edge runs on one route for all.
struct Together {
    upstream: Upstream,
    issuer: Issuer,
    key: Key,
}

impl Together {
    fn start() -> Self {
        let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
        let issuer = Issuer::start(&[&key]);
        issuer.answer("/token", |_| {
            good(&json!({"access_token": "token-of-the-edge", "token_type": "Bearer", "expires_in": 3600}))
        });
        Self { upstream, issuer, key }
    }

    fn edge(&self, plugins: &[Value]) -> Edge {
        let routes = json!([{"name": "all", "paths": ["/"], "strip_path": false, "plugins": plugins}]);
        Setup::new(entities(&self.upstream.url(), routes)).section(IN_MEMORY).start()
    }

    fn jwt_signer(&self, more: Value) -> Value {
        let jwks = format!("{}/jwks", self.issuer.url());
        let config = plus(json!({"access_token_jwks_uri": jwks, "channel_token_optional": true}), more);
        json!({"name": "jwt-signer", "config": config})
    }

    fn openid_connect(&self) -> Value {
        json!({"name": "openid-connect", "config": bearer(&self.issuer.url())})
    }

    fn upstream_oauth(&self) -> Value {
        let oauth = json!({"token_endpoint": format!("{}/token", self.issuer.url()), "client_id": "edge", "client_secret": "s"});
        json!({"name": "upstream-oauth", "config": {"oauth": oauth}})
    }

    fn token(&self) -> String {
        self.key.token(&mint::claims(&self.issuer.url(), AUDIENCE))
    }

    /// What of `Authorization` the upstream got.
    fn seen(&self) -> String {
        self.upstream.last().field("authorization").unwrap_or_default().to_owned()
    }
}

#[test]
fn x1() {
    // The caller is verified, and the upstream gets the edge's own token.
    let all = Together::start();
    let edge = all.edge(&[all.upstream_oauth(), all.openid_connect()]);
    let token = all.token();
    assert_eq!(edge.ask(with_token(&token)).status(), 200, "{}", edge.output());
    assert_eq!(all.seen(), "Bearer token-of-the-edge");
    assert!(!String::from_utf8_lossy(&all.upstream.last().raw).contains(&token), "T43");
    for refused in [get("/orders", &[]), with_token(&mint::flip(&token))] {
        assert_eq!(edge.ask(refused).status(), 401);
    }
    assert_eq!((all.upstream.requests().len(), all.issuer.hits("/token")), (1, 1));
}

#[test]
fn x2() {
    // openid-connect verifies the caller's token and leaves it in `Authorization`; jwt-signer signs it anew.
    let all = Together::start();
    let edge = all.edge(&[all.jwt_signer(json!({})), all.openid_connect()]);
    let token = all.token();
    assert_eq!(edge.ask(with_token(&token)).status(), 200, "{}", edge.output());
    let seen = all.seen();
    let set = edge.admin_get("/jwt-signer/jwks/kong").json();
    jose::verify(&set, seen.strip_prefix("Bearer ").unwrap()).unwrap();
    let (_, before) = mint::open(&token);
    let (_, after) = mint::open(seen.strip_prefix("Bearer ").unwrap());
    assert_eq!(after, mint::with(before.clone(), json!({"iss": "kong", "original_iss": before["iss"]})));
    // Whom the one refuses the other never sees.
    let other = all.key.token(&mint::claims(&all.issuer.url(), "api://other"));
    assert_eq!(edge.ask(with_token(&other)).status(), 403);
    assert_eq!(all.upstream.requests().len(), 1);
    // The edge's own token beside both: it goes upstream, and nothing of the others.
    let edge = all.edge(&[all.jwt_signer(json!({})), all.openid_connect(), all.upstream_oauth()]);
    assert_eq!(edge.ask(with_token(&token)).status(), 200);
    assert_eq!(all.seen(), "Bearer token-of-the-edge");
}

#[test]
fn x3() {
    // request-transformer: `add` changes nothing of a token that is there, `replace` goes before openid-connect's word,
    // and upstream-oauth's goes before both.
    let all = Together::start();
    let transformer = |way: &str| json!({"name": "request-transformer", "config": {way: {"headers": ["Authorization:Bearer transformed"]}}});
    let token = all.token();
    for (plugins, expected) in [
        (vec![all.openid_connect(), transformer("add")], format!("Bearer {token}")),
        (vec![all.openid_connect(), transformer("replace")], "Bearer transformed".to_owned()),
        (vec![all.openid_connect(), transformer("add"), all.upstream_oauth()], "Bearer token-of-the-edge".to_owned()),
        (
            vec![all.openid_connect(), transformer("replace"), all.upstream_oauth()],
            "Bearer token-of-the-edge".to_owned(),
        ),
    ] {
        let edge = all.edge(&plugins);
        assert_eq!(edge.ask(with_token(&token)).status(), 200, "{}", edge.output());
        assert_eq!(all.seen(), expected);
    }
}

#[test]
fn x4() {
    // What one dump writes, with every default, another edge takes, and dumps the same. (By `edge dump`; the seed's own
    // `GET /plugins` and decK belong to the Admin API's entities.)
    let all = Together::start();
    let transformer = json!({"name": "request-transformer", "config": {"add": {"headers": ["X-A:b"]}}});
    let plugins = [all.openid_connect(), all.jwt_signer(json!({})), transformer, all.upstream_oauth()];
    let edge = all.edge(&plugins);
    let dump = |edge: &Edge| {
        let output = edge.command(&["dump", "--with-secrets"]);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{err}");
        out
    };
    let first = dump(&edge);
    for name in ["openid-connect", "jwt-signer", "request-transformer", "upstream-oauth"] {
        assert!(first.contains(name), "{first}");
    }
    let again = Setup::new(first.clone()).section(IN_MEMORY).start();
    assert_eq!(dump(&again), first);
    let token = all.token();
    assert_eq!(again.ask(with_token(&token)).status(), 200);
    assert_eq!(all.seen(), "Bearer token-of-the-edge");
}

#[test]
fn x5() {
    // The consumer that jwt-signer maps brings its own request-transformer.
    let all = Together::start();
    let plugins = [all.jwt_signer(json!({"access_token_consumer_claim": ["sub"]}))];
    let routes = json!([{"name": "all", "paths": ["/"], "strip_path": false, "plugins": plugins}]);
    let own = json!([{"name": "request-transformer", "config": {"add": {"headers": ["X-Plan:gold"]}}}]);
    let mut document: Value = serde_json::from_str(&entities(&all.upstream.url(), routes)).unwrap();
    document["consumers"] = json!([{"username": "alice", "plugins": own}, {"username": "bob"}]);
    let edge = Setup::new(document.to_string()).section(IN_MEMORY).start();
    for (sub, plan) in [("alice", Some("gold")), ("bob", None)] {
        let claims = mint::with(mint::claims(&all.issuer.url(), AUDIENCE), json!({"sub": sub}));
        assert_eq!(edge.ask(with_token(&all.key.token(&claims))).status(), 200, "{}", edge.output());
        assert_eq!(all.upstream.last().field("x-plan"), plan, "{sub}");
    }
}
