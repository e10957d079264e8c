//! Every way of authenticating and both grants, at a certified issuer that refuses everything else.

use edge_tests::certs::Pair;
use edge_tests::edge::Setup;
use edge_tests::mint;
use edge_tests::parties::OidcProvider;
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, get};
use serde_json::{Value, json};

use super::{FAILURE, bearer, route};
use crate::plus;

const TRUSTED: &str = "11111111-1111-4111-8111-111111111111";
const STRANGER: &str = "22222222-2222-4222-8222-222222222222";

/// The plugin for one of the issuer's clients, with more of its record `client`.
fn config(url: &str, (id, secret): (&str, &str), client: Value) -> Value {
    let mut oauth = json!({"token_endpoint": format!("{url}/token"), "client_id": id, "scopes": ["orders:read"],
        "token_post_args": {"resource": "https://api.test/ES256"}});
    if !secret.is_empty() {
        oauth["client_secret"] = json!(secret);
    }
    json!({"oauth": oauth, "client": client})
}

#[test]
fn every_way_of_authenticating_is_taken_by_a_certified_issuer() {
    // I10, I11, L1
    let (issuer, upstream) = (OidcProvider::start(), Upstream::start());
    let by = |client: (&str, &str), method: &str| config(issuer.url(), client, json!({"auth_method": method}));
    let key = |algorithm: &str| {
        let client = json!({"auth_method": "private_key_jwt", "client_jwk": issuer.client_jwk(algorithm)});
        config(issuer.url(), (OidcProvider::KEY_JWT, ""), client)
    };
    let certificate = |id: &str| {
        let client = json!({"auth_method": "tls_client_auth", "tls_client_certificate": id});
        config(issuer.secure_url(), (OidcProvider::MTLS, ""), client)
    };
    // A public client has no token of its own: it asks for a user's.
    let user =
        json!({"grant_type": "password", "username": "alice", "password": "alice-password", "scopes": ["orders:read"]});
    let of_user = |mut config: Value| {
        config["oauth"] = plus(config["oauth"].clone(), user.clone());
        config
    };
    let routes = [
        ("default", config(issuer.url(), OidcProvider::POST, json!({}))),
        ("post", by(OidcProvider::POST, "client_secret_post")),
        ("basic", by(OidcProvider::BASIC, "client_secret_basic")),
        (
            "secret-jwt",
            config(
                issuer.url(),
                OidcProvider::SECRET_JWT,
                json!({"auth_method": "client_secret_jwt", "client_secret_jwt_alg": "HS256"}),
            ),
        ),
        ("key-jwt", key("RS256")),
        ("key-jwt-es", key("ES256")),
        ("mtls", certificate(TRUSTED)),
        ("password", of_user(by(OidcProvider::POST, "client_secret_post"))),
        ("none", of_user(by((OidcProvider::PUBLIC, ""), "none"))),
    ];
    // Another question than above: who asks an equal one has its token, whatever the proof.
    let both = || json!({"scopes": ["orders:read", "orders:write"]});
    let wrong = [
        ("wrong-secret", by((OidcProvider::POST.0, "another-secret-0123456789"), "client_secret_post")),
        ("wrong-method", plus_oauth(by(OidcProvider::POST, "client_secret_jwt"), both())),
        ("wrong-certificate", plus_oauth(certificate(STRANGER), both())),
        (
            "wrong-password",
            plus_oauth(of_user(by(OidcProvider::POST, "client_secret_post")), json!({"password": "bob-password"})),
        ),
        (
            "wrong-resource",
            plus_oauth(
                by(OidcProvider::POST, "client_secret_post"),
                json!({"token_post_args": {"resource": "nowhere"}}),
            ),
        ),
    ];
    let entity = |id: &str, pair: &Pair| json!({"id": id, "cert": pair.certificate, "key": pair.key});
    let all: Value = routes.iter().chain(&wrong).map(|(name, config)| route(name, config.clone())).collect();
    let entities = json!({"_format_version": "3.0",
        "certificates": [entity(TRUSTED, issuer.client_pair()), entity(STRANGER, issuer.self_signed_pair())],
        "services": [{"name": "up", "url": upstream.url(), "routes": all}]});
    let edge = Setup::new(entities.to_string()).log("level = \"debug\"").env("SSL_CERT_FILE", &issuer.root()).start();
    let mut tokens = Vec::new();
    for (name, config) in &routes {
        let answer = edge.ask(get(&format!("/{name}"), &[]));
        assert_eq!(answer.status(), 200, "{name}: {}\n{}", answer.text(), edge.errors().text());
        let token = bearer(&upstream.last());
        let claims = mint::open(&token).1;
        let subject = if config["oauth"]["grant_type"] == "password" {
            json!("alice")
        } else {
            config["oauth"]["client_id"].clone()
        };
        assert_eq!((&claims["client_id"], &claims["sub"]), (&config["oauth"]["client_id"], &subject), "{name}");
        assert_eq!(
            (&claims["scope"], &claims["aud"]),
            (&json!("orders:read"), &json!(OidcProvider::AUDIENCE)),
            "{name}"
        );
        tokens.push(token);
    }
    // One question has one answer: what differs in the way of asking alone is asked once.
    assert_eq!(tokens[0], tokens[1]);
    let calls = issuer.hits("/token");
    for (name, _) in &routes {
        assert_eq!(edge.ask(get(&format!("/{name}"), &[])).status(), 200, "{name}");
    }
    assert_eq!(issuer.hits("/token"), calls);
    let before = upstream.requests().len();
    for (name, _) in &wrong {
        let answer = edge.ask(get(&format!("/{name}"), &[]));
        assert_eq!((answer.status(), answer.text().as_str()), (502, FAILURE), "{name}");
        assert_eq!(edge.reason_of(&answer), "upstream_token_failed", "{name}");
    }
    assert_eq!(upstream.requests().len(), before);
    edge.logged("refuses this edge's own credentials");
    let (access, error) = edge.stop();
    let output = format!("{}\n{}", access.text(), error.text());
    let secrets = [
        OidcProvider::POST.1,
        OidcProvider::BASIC.1,
        OidcProvider::SECRET_JWT.1,
        "alice-password",
        "bob-password",
        "BEGIN",
    ];
    for secret in tokens.iter().map(String::as_str).chain(secrets) {
        assert!(!output.contains(secret), "{secret} was logged");
    }
}

fn plus_oauth(mut config: Value, more: Value) -> Value {
    config["oauth"] = plus(config["oauth"].clone(), more);
    config
}

#[test]
fn keys_that_the_edge_makes_are_published() {
    // `private_key_jwt` without a key of its own: what the issuer would find at `/openid-connect/jwks` has signed.
    let (issuer, upstream) = (edge_tests::issuer::Issuer::start(&[]), Upstream::start());
    super::issue(&issuer, "/token", &super::Tokens::default(), json!({"expires_in": 60}));
    let generated = config(&issuer.url(), ("edge", ""), json!({"auth_method": "private_key_jwt"}));
    let edge = Setup::new(crate::entities(&upstream.url(), json!([route("orders", generated)]))).start();
    assert_eq!(Client::connect(edge.address()).ask(get("/orders", &[])).status(), 200, "{}", edge.output());
    let asked = issuer.last("/token");
    let assertion = edge_tests::issuer::argument(&asked, "client_assertion").unwrap();
    let (header, claims) = mint::open(&assertion);
    let published = edge.admin_get("/openid-connect/jwks").json();
    assert_eq!((&published["keys"][0]["kid"], &header["alg"]), (&header["kid"], &json!("RS256")));
    assert_eq!((&claims["aud"], &claims["iss"]), (&json!(format!("{}/token", issuer.url())), &json!("edge")));
}

#[test]
fn the_issuers_certificate_is_verified() {
    // K8: no secret goes to whom the edge does not know.
    let (issuer, upstream) = (OidcProvider::start(), Upstream::start());
    let config = |client: Value| config(issuer.secure_url(), OidcProvider::POST, client);
    let unverified = plus_oauth(config(json!({"ssl_verify": false})), json!({"audience": ["https://api.test"]}));
    let routes = json!([route("verified", config(json!({}))), route("unverified", unverified)]);
    let edge = Setup::new(crate::entities(&upstream.url(), routes)).start();
    assert_eq!(edge.ask(get("/verified", &[])).status(), 502);
    assert_eq!(issuer.hits("/token"), 0);
    assert_eq!(edge.ask(get("/unverified", &[])).status(), 200, "{}", edge.output());
    edge.logged("ssl_verify");
}
