//! The same at a certified issuer.

use edge_tests::edge::Setup;
use edge_tests::mint::{self, Key};
use edge_tests::parties::OidcProvider;
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{basic, client};
use crate::{entities, plus};

#[test]
fn a_certified_issuer_understands_every_question() {
    let (issuer, upstream) = (OidcProvider::start(), Upstream::start());
    let (id, secret) = OidcProvider::POST;
    let own = |methods: Value, more: Value| {
        let config = plus(
            client(issuer.url(), methods),
            json!({"client_id": [id], "client_secret": [secret],
            "client_auth": ["client_secret_post"], "scopes": ["orders:read"]}),
        );
        plus(config, more)
    };
    let jwt = json!({"token_post_args_names": ["resource"], "token_post_args_values": ["https://api.test/ES256"],
        "scopes_required": ["orders:read"], "audience_required": [OidcProvider::AUDIENCE]});
    let basic_client = plus(
        own(json!(["client_credentials"]), jwt.clone()),
        json!({"token_endpoint_auth_method": "client_secret_basic"}),
    );
    let opaque = plus(jwt.clone(), json!({"token_post_args_values": ["https://api.test/opaque"]}));
    let foreign = json!({"subject_token_issuers": [{"issuer": "https://other.example"}]});
    let user = json!({"scopes": ["openid", "email", "offline_access"], "upstream_id_token_header": "X-Id",
        "upstream_refresh_token_header": "X-Refresh", "upstream_user_info_header": "X-User"});
    let routes = [
        ("client", basic_client.clone()),
        ("opaque", plus(basic_client, plus(opaque, json!({"auth_methods": ["client_credentials", "introspection"]})))),
        ("password", own(json!(["password"]), jwt.clone())),
        ("user", own(json!(["password"]), user)),
        (
            "refresh",
            own(json!(["refresh_token"]), json!({"refresh_token_param_name": "Refresh", "scopes": ["openid"]})),
        ),
        ("exchange", own(json!(["bearer"]), plus(jwt, json!({"token_exchange": foreign})))),
    ];
    let routes: Value = routes
        .map(|(name, config)| {
            let plugins = json!([{"name": "openid-connect", "config": config}]);
            json!({"name": name, "paths": [format!("/{name}")], "plugins": plugins})
        })
        .into();
    let edge = Setup::new(entities(&upstream.url(), routes)).log("level = \"debug\"").start();
    let ask = |name: &str, field: &str| -> Message { edge.ask(get(&format!("/{name}"), &[field])) };
    let good = |name: &str, field: &str| {
        let answer = ask(name, field);
        assert_eq!(answer.status(), 200, "{name}: {}\n{}", answer.text(), edge.output());
        let seen = upstream.last();
        let token = seen.field("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        (seen, token)
    };
    // RFC 6749, 2.3.1: the client form-encodes both before it makes them Basic, and so does the edge.
    let (_, token) = good("client", &basic("gate+way%3A1", "s%3Ae%25c%2Br+e%2Ft"));
    assert_eq!(mint::open(&token).1["client_id"], OidcProvider::BASIC.0);
    let (_, token) = good("opaque", &basic("gate+way%3A1", "s%3Ae%25c%2Br+e%2Ft"));
    assert_eq!((token.contains('.'), issuer.introspections(&token)), (false, 1));
    let (_, token) = good("password", &basic("alice", "alice-password"));
    assert_eq!(mint::open(&token).1["sub"], "alice");
    let calls = issuer.hits("/token");
    good("password", &basic("alice", "alice-password"));
    assert_eq!(issuer.hits("/token"), calls);
    let (seen, _) = good("user", &basic("bob", "bob-password"));
    assert_eq!(mint::open(seen.field("x-id").unwrap()).1["sub"], "bob");
    assert!(seen.field("x-user").is_some());
    let refresh = seen.field("x-refresh").expect("a refresh token").to_owned();
    good("refresh", &format!("Refresh: {refresh}"));
    assert_eq!(upstream.last().field("refresh"), None);
    let subject = Key::es256("k").token(&mint::claims("https://other.example", "x"));
    let (_, token) = good("exchange", &format!("Authorization: Bearer {subject}"));
    assert_eq!((&mint::open(&token).1["sub"], &mint::open(&token).1["iss"]), (&json!("alice"), &json!(issuer.url())));

    for (name, field) in [
        ("client", basic("app", "wrong-secret")),
        ("password", basic("alice", "wrong-password")),
        ("refresh", "Refresh: unknown-refresh-token".to_owned()),
    ] {
        let answer = ask(name, &field);
        assert_eq!((answer.status(), edge.reason_of(&answer).as_str()), (401, "grant_refused"), "{name}");
    }
    edge.logged("error=\"invalid_grant\"");
    let output = edge.output();
    for secret in [secret, "s:e%c+r", "alice-password", "bob-password", "wrong-secret", &refresh, &subject, &token] {
        assert!(!output.contains(secret), "{secret} was logged");
    }
}
