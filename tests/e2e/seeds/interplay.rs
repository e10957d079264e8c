//! The seeds' plugins together on one route, one test a check, named by its id.

use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::{Issuer, good};
use edge_tests::mint::{self, Key};
use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::{Value, json};

use crate::{AUDIENCE, bearer, entities, with_token};

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
        Setup::new(entities(&self.upstream.url(), routes)).start()
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
