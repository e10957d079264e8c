//! All seven ways in which the edge authenticates, at a certified issuer that refuses everything else.

use edge_tests::edge::{Edge, Setup};
use edge_tests::parties::OidcProvider;
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use crate::plus;

/// The entities of certificates a plugin names.
const TRUSTED: &str = "11111111-1111-4111-8111-111111111111";
const SELF_SIGNED: &str = "22222222-2222-4222-8222-222222222222";

/// An edge with one route for each of these configurations, beside the issuer's URL.
fn edge(issuer: &OidcProvider, upstream: &Upstream, routes: &[(&str, Value)]) -> Edge {
    let common = json!({"issuer": issuer.url(), "auth_methods": ["introspection"], "scopes_required": ["orders:read"],
        "audience_required": [OidcProvider::AUDIENCE]});
    let route = |(name, config): &(&str, Value)| {
        let plugins = json!([{"name": "openid-connect", "config": plus(common.clone(), config.clone())}]);
        json!({"name": name, "paths": [format!("/{name}")], "plugins": plugins})
    };
    let routes: Value = routes.iter().map(route).collect();
    let certificate =
        |id: &str, pair: &edge_tests::certs::Pair| json!({"id": id, "cert": pair.certificate, "key": pair.key});
    let entities = json!({
        "_format_version": "3.0",
        "services": [{"name": "up", "url": upstream.url(), "routes": routes}],
        "certificates": [
            certificate(TRUSTED, issuer.client_pair()), certificate(SELF_SIGNED, issuer.self_signed_pair()),
        ],
    });
    Setup::new(entities.to_string()).log("level = \"debug\"").env("SSL_CERT_FILE", &issuer.root()).start()
}

fn client((id, secret): (&str, &str), method: &str) -> Value {
    json!({"client_id": [id], "client_secret": [secret], "client_auth": [method]})
}

fn key_client(issuer: &OidcProvider, algorithm: &str) -> Value {
    json!({"client_id": [OidcProvider::KEY_JWT], "client_auth": ["private_key_jwt"], "client_alg": [algorithm],
        "client_jwk": [issuer.client_jwk(algorithm)]})
}

fn certificate_client(id: &str, method: &str, certificate: &str) -> Value {
    json!({"client_id": [id], "client_auth": [method], "tls_client_auth_cert_id": certificate})
}

#[test]
fn every_way_of_authenticating_is_taken_by_a_certified_issuer() {
    // S3.8, I8, I10, I11, L1
    let (issuer, upstream) = (OidcProvider::start(), Upstream::start());
    let mtls = || certificate_client(OidcProvider::MTLS, "tls_client_auth", TRUSTED);
    // The endpoint's own method, and its own place for certificates, go before what is said of the client and issuer.
    let by_post = client(OidcProvider::POST, "client_secret_basic");
    let by_post = plus(by_post, json!({"introspection_endpoint_auth_method": "client_secret_post"}));
    let alias = format!("{}/token/introspection", issuer.secure_url());
    let nowhere = "http://127.0.0.1:1/introspect";
    let by_alias = plus(mtls(), json!({"introspection_endpoint": nowhere, "mtls_introspection_endpoint": alias}));
    let routes = [
        ("post", client(OidcProvider::POST, "client_secret_post")),
        ("basic", client(OidcProvider::BASIC, "client_secret_basic")),
        ("secret-jwt", client(OidcProvider::SECRET_JWT, "client_secret_jwt")),
        ("key-jwt", key_client(&issuer, "RS256")),
        ("key-jwt-ps", key_client(&issuer, "PS256")),
        ("key-jwt-es", key_client(&issuer, "ES256")),
        ("key-jwt-ed", key_client(&issuer, "EdDSA")),
        ("mtls", mtls()),
        ("self", certificate_client(OidcProvider::SELF_SIGNED, "self_signed_tls_client_auth", SELF_SIGNED)),
        ("none", json!({"client_id": [OidcProvider::PUBLIC], "client_auth": ["none"]})),
        ("endpoint", by_post),
        ("alias", by_alias),
        // The issuer says which way it takes first, and that is `client_secret_basic`.
        ("default", json!({"client_id": [OidcProvider::BASIC.0], "client_secret": [OidcProvider::BASIC.1]})),
    ];
    let edge = edge(&issuer, &upstream, &routes);
    let ask =
        |name: &str, token: &str| edge.ask(get(&format!("/{name}"), &[&format!("Authorization: Bearer {token}")]));
    let (mut tokens, mut refused) = (Vec::new(), Vec::new());
    for (name, _) in &routes {
        // More than one: an assertion that came before is refused.
        for _ in 0..2 {
            let token = issuer.token("opaque");
            let answer = ask(name, &token);
            assert_eq!(answer.status(), 200, "{name}: {}\n{}", answer.text(), edge.errors().text());
            assert_eq!(ask(name, &token).status(), 200, "{name}");
            assert_eq!(issuer.introspections(&token), 1, "{name}");
            assert_eq!(upstream.last().field("authorization"), Some(format!("Bearer {token}").as_str()));
            tokens.push(token);
        }
        refused.push(ask(name, "a-token-that-nobody-issued"));
    }
    for answer in &refused {
        assert_eq!((answer.status(), edge.reason_of(answer).as_str()), (401, "token_inactive"));
    }
    let (access, error) = edge.stop();
    let output = format!("{}\n{}", access.text(), error.text());
    for (_, secret) in [OidcProvider::POST, OidcProvider::BASIC, OidcProvider::SECRET_JWT] {
        assert!(!output.contains(secret), "{secret} was logged");
    }
    assert!(!tokens.iter().any(|token| output.contains(token.as_str())), "a token was logged");
    assert!(!output.contains("BEGIN"), "a key was logged");
}

#[test]
fn the_issuers_certificate_is_verified() {
    // I8, K8: neither token nor secret goes to whom the edge does not know.
    let (issuer, upstream) = (OidcProvider::start(), Upstream::start());
    let endpoint = json!({"introspection_endpoint": format!("{}/token/introspection", issuer.secure_url())});
    let config = plus(client(OidcProvider::POST, "client_secret_post"), endpoint);
    let unverified = plus(config.clone(), json!({"ssl_verify": false}));
    let route = |(name, config): (&str, Value)| {
        let config = plus(json!({"issuer": issuer.url(), "auth_methods": ["introspection"]}), config);
        json!({"name": name, "paths": [format!("/{name}")], "plugins": [{"name": "openid-connect", "config": config}]})
    };
    let routes: Value = [("verified", config), ("unverified", unverified)].map(route).into();
    let setup = || Setup::new(crate::entities(&upstream.url(), routes.clone()));
    let token = issuer.token("opaque");
    let ask = |edge: &Edge, path: &str| edge.ask(get(path, &[&format!("Authorization: Bearer {token}")])).status();
    let stranger = setup().start();
    assert_eq!(ask(&stranger, "/verified"), 503);
    assert_eq!(issuer.introspections(&token), 0);
    assert_eq!(ask(&stranger, "/unverified"), 200);
    stranger.logged("ssl_verify");
    assert_eq!(ask(&setup().env("SSL_CERT_FILE", &issuer.root()).start(), "/verified"), 200);
}

#[test]
fn wrong_credentials_are_the_operators_error() {
    // I13: at each way of authenticating 503, and no verdict on the token.
    let (issuer, upstream) = (OidcProvider::start(), Upstream::start());
    let wrong = |(id, _): (&str, &str), method: &str| client((id, "wrong-secret-of-thirty-two-bytes-or-more"), method);
    let routes = [
        ("post", wrong(OidcProvider::POST, "client_secret_post")),
        ("basic", wrong(OidcProvider::BASIC, "client_secret_basic")),
        ("secret-jwt", wrong(OidcProvider::SECRET_JWT, "client_secret_jwt")),
        ("another-way", client(OidcProvider::POST, "client_secret_jwt")),
        (
            "key-jwt",
            plus(
                key_client(&issuer, "ES256"),
                json!({"client_jwk": [issuer.client_jwk("EdDSA")], "client_alg": ["EdDSA"], "client_id": ["app"]}),
            ),
        ),
        ("mtls", certificate_client(OidcProvider::MTLS, "tls_client_auth", SELF_SIGNED)),
        ("self", certificate_client(OidcProvider::SELF_SIGNED, "self_signed_tls_client_auth", TRUSTED)),
        ("none", json!({"client_id": ["nobody"], "client_auth": ["none"]})),
        ("good", client(OidcProvider::POST, "client_secret_post")),
    ];
    let edge = edge(&issuer, &upstream, &routes);
    let token = issuer.token("opaque");
    let ask =
        |(name, _): &(&str, Value)| edge.ask(get(&format!("/{name}"), &[&format!("Authorization: Bearer {token}")]));
    let answers: Vec<Message> = routes.iter().map(ask).collect();
    for ((name, _), answer) in routes.iter().zip(&answers) {
        if *name == "good" {
            assert_eq!(answer.status(), 200);
            continue;
        }
        assert_eq!((answer.status(), edge.reason_of(answer).as_str()), (503, "introspection_failed"), "{name}");
        assert!(answer.field("retry-after").is_some(), "{name}");
    }
    // One endpoint, one alarm: the first names what is wrong.
    edge.logged("the issuer refuses this edge's own credentials");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_revoked_token_ends_and_a_short_one_by_itself() {
    // I3 with a certified issuer (RFC 7009).
    let (issuer, upstream) = (OidcProvider::start(), Upstream::start());
    let config = plus(client(OidcProvider::POST, "client_secret_post"), json!({"cache_ttl_max": 1}));
    let edge = edge(&issuer, &upstream, &[("all", config)]);
    let ask = |token: &str| edge.ask(get("/all", &[&format!("Authorization: Bearer {token}")])).status();
    let (revoked, kept, short) = (issuer.token("opaque"), issuer.token("opaque"), issuer.token("opaque/2"));
    assert_eq!((ask(&revoked), ask(&kept), ask(&short)), (200, 200, 200));
    issuer.revoke(&revoked);
    super::wait(|| ask(&revoked) == 401, "the revocation to be seen");
    super::wait(|| ask(&short) == 401, "the end of a short token");
    assert_eq!(ask(&kept), 200);
}
