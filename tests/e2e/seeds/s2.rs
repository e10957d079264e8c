//! The page on `jwt-signer`: its five demonstrations and what it says of the parameters.
//!
//! Its POSTs to the Admin API stand in the declarative file here, one configuration an edge, as a reader deletes the plugin
//! of one demonstration before the next. A certified issuer stands for Keycloak, one whose answers are set for Curity.

use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::{Issuer, argument};
use edge_tests::mint::{self, Key, now, with};
use edge_tests::parties::{OidcProvider, jose};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{Shell, listening};
use crate::jwt_signer::IN_MEMORY;
use crate::{AUDIENCE, plus};

/// An edge with the plugin for all, as the page has it, in front of `/demo`.
struct Demo {
    edge: Edge,
    upstream: Upstream,
}

impl Demo {
    fn start(config: Value) -> Self {
        Self::with(config, json!([]))
    }

    fn with(config: Value, consumers: Value) -> Self {
        let upstream = Upstream::start();
        let edge = Setup::new(entities(&upstream.url(), config, consumers)).section(IN_MEMORY).start();
        Self { edge, upstream }
    }

    fn ask(&self, fields: &[&str]) -> Message {
        self.edge.ask(get("/demo", fields))
    }

    fn status(&self, token: &str) -> u16 {
        self.ask(&[&format!("Authorization: Bearer {token}")]).status()
    }

    fn published(&self) -> Value {
        self.edge.admin_get("/jwt-signer/jwks/kong").json()
    }

    /// Header and payload of what the upstream gets for this token.
    fn upstream_token(&self, token: &str) -> (Value, Value) {
        let answer = self.ask(&[&format!("Authorization: Bearer {token}")]);
        assert_eq!(answer.status(), 200, "{}", self.edge.errors().text());
        let seen = self.upstream.last();
        let token = seen.field("authorization").and_then(|value| value.strip_prefix("Bearer ")).expect("a token");
        jose::verify(&self.published(), token).expect("a good token")
    }
}

fn entities(upstream: &str, config: Value, consumers: Value) -> String {
    let services = json!([{"name": "up", "url": upstream, "routes": [{"name": "demo", "paths": ["/demo"]}]}]);
    let plugins = json!([{"name": "jwt-signer", "config": config}]);
    json!({"_format_version": "3.0", "consumers": consumers, "plugins": plugins, "services": services}).to_string()
}

/// An issuer of one key, its key set's URL, and the claims of a good token.
fn issuer() -> (Issuer, Key, String, Value) {
    let key = Key::es256("es-1");
    let issuer = Issuer::start(&[&key]);
    let (jwks, claims) = (format!("{}/jwks", issuer.url()), mint::claims(&issuer.url(), AUDIENCE));
    (issuer, key, jwks, claims)
}

/// Whose access tokens are JWTs, with more of the configuration.
fn by_keys(more: Value) -> (Demo, Issuer, Key, Value) {
    let (issuer, key, jwks, claims) = issuer();
    let demo = Demo::start(plus(json!({"access_token_jwks_uri": jwks, "channel_token_optional": true}), more));
    (demo, issuer, key, claims)
}

#[test]
fn s2_1() {
    let provider = OidcProvider::start();
    let jwks = format!("{}/jwks", provider.url());
    let demo = Demo::start(json!({"access_token_jwks_uri": jwks, "channel_token_optional": true}));
    let token = provider.token("RS256");
    let (header, payload) = demo.upstream_token(&token);
    let (_, before) = mint::open(&token);
    assert_eq!(header["alg"], "RS256");
    let kids = demo.published()["keys"].clone();
    assert!(kids.as_array().unwrap().iter().any(|key| key["kid"] == header["kid"]), "{kids}");
    assert_eq!(payload, with(before.clone(), json!({"iss": "kong", "original_iss": before["iss"]})));
    assert_eq!(demo.ask(&[]).status(), 401);
    assert_eq!(demo.status(&mint::flip(&token)), 401);
    let (demo, _issuer, key, claims) = by_keys(json!({}));
    assert_eq!(demo.status(&key.token(&with(claims, json!({"exp": now() - 5})))), 401);
}

/// The page's `'config.access_token_introspection_authorization=Basic base64encode('client_id:client_secret')'`, as bash
/// reads it.
const CURITY: &str = "Basic base64encode(client_id:client_secret)";

#[test]
fn s2_2() {
    let issuer = Issuer::start(&[]);
    let demo = Demo::start(json!({"access_token_introspection_endpoint": format!("{}/introspect", issuer.url()),
        "access_token_introspection_authorization": CURITY, "channel_token_optional": true}));
    let said = json!({"active": true, "sub": "alice", "exp": now() + 600});
    issuer.know("opaque-good", said.clone());
    let (_, payload) = demo.upstream_token("opaque-good");
    assert_eq!(payload, with(said, json!({"iss": "kong"})));
    let asked = issuer.last("/introspect");
    assert_eq!((asked.method(), asked.field("authorization")), ("POST", Some(CURITY)));
    assert_eq!(argument(&asked, "token").as_deref(), Some("opaque-good"));
    issuer.know("opaque-bad", json!({"active": false}));
    assert_eq!(demo.status("opaque-bad"), 401);
}

/// The third demonstration: opaque access tokens, JWTs as channel tokens; over TLS too.
fn both() -> (Demo, Issuer, Key, Value) {
    let (issuer, key, jwks, claims) = issuer();
    let config = json!({
        "access_token_introspection_endpoint": format!("{}/introspect", issuer.url()),
        "access_token_introspection_authorization": CURITY,
        "channel_token_jwks_uri": jwks, "channel_token_request_header": "X-JWT-channel-client",
        "channel_token_upstream_header": "X-JWT-channel-upstream",
    });
    let upstream = Upstream::start();
    let edge = listening(entities(&upstream.url(), config, json!([]))).section(IN_MEMORY).start();
    issuer.know("opaque", json!({"active": true, "sub": "alice"}));
    (Demo { edge, upstream }, issuer, key, claims)
}

#[test]
fn s2_3() {
    // One plugin for both tokens loads; the second `--url` of the page's command is curl's to complain about.
    let (demo, _issuer, key, claims) = both();
    let channel = format!("X-JWT-channel-client: {}", key.token(&claims));
    assert_eq!(demo.ask(&["Authorization: Bearer opaque", &channel]).status(), 200);
}

#[test]
fn s2_4() {
    let (demo, _issuer, key, claims) = both();
    let secure = demo.edge.listener(1);
    let connect = format!("connect-to = \"kong.example.com:8443:{}:{}\"", secure.ip(), secure.port());
    let shell = Shell::new(&[]).setting(&connect).setting("include");
    let text = |opaque: &str, jwt: &str| {
        format!(
            "curl --request GET \\\n--url https://$KONG_PROXY:8443/demo \\\n\
             --header 'Authorization: Bearer {opaque}' \\\n--header 'X-JWT-channel-client: {jwt}'"
        )
    };
    let run = |opaque: &str, jwt: &str| shell.run(&text(opaque, jwt), &[("KONG_PROXY", "kong.example.com")]);
    let good = key.token(&claims);
    let answer = run("opaque", &good);
    assert_eq!(answer.status(), 200, "{}", answer.out);
    let seen = demo.upstream.last();
    let (_, access) =
        jose::verify(&demo.published(), seen.field("authorization").unwrap().strip_prefix("Bearer ").unwrap()).unwrap();
    let (_, channel) = jose::verify(&demo.published(), seen.field("x-jwt-channel-upstream").unwrap()).unwrap();
    assert_eq!((&access["sub"], &access["iss"]), (&json!("alice"), &json!("kong")));
    assert_eq!((&channel["original_iss"], &channel["iss"]), (&claims["iss"], &json!("kong")));
    assert_eq!(seen.field("x-jwt-channel-client"), None);
    for (opaque, jwt) in [("opaque", mint::flip(&good)), ("unknown", good.clone())] {
        assert_eq!(run(opaque, &jwt).status(), 401);
    }
    assert_eq!(demo.ask(&["Authorization: Bearer opaque"]).status(), 401);
}

#[test]
fn s2_5() {
    let demo = Demo::start(json!({"channel_token_optional": true, "verify_access_token_signature": false,
        "verify_access_token_expiry": false}));
    let claims = json!({"iss": "https://anybody", "sub": "ann", "exp": now() - 3600});
    for key in [Key::es256("a"), Key::rsa(mint::RSA_A, "b", "RS256"), Key::hs256(b"secret", "c")] {
        let (_, payload) = demo.upstream_token(&key.token(&claims));
        assert_eq!(payload, with(claims.clone(), json!({"iss": "kong", "original_iss": "https://anybody"})));
    }
    assert_eq!(demo.status("opaque"), 401);
    assert_eq!(demo.ask(&[]).status(), 401);
}

#[test]
fn s2_6() {
    let (demo, _issuer, key, claims) = by_keys(json!({"access_token_signing_algorithm": "ES256"}));
    let source = key.token(&claims);
    let sent = || demo.upstream.last().field("authorization").unwrap()["Bearer ".len()..].to_owned();
    assert_eq!(demo.status(&source), 200);
    let before = sent();
    let kids = |set: &Value, of: &str| -> Vec<String> {
        set[of].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    };
    let old = kids(&demo.published(), "keys");
    // `POST kong:8001/jwt-signer/jwks/<JWK_ID>/rotate`, by name and by id, without a body.
    let listed = demo.edge.admin_get("/jwt-signer/jwks").json();
    let set = listed["data"].as_array().unwrap().iter().find(|set| set["name"] == "kong").unwrap().clone();
    let shell = Shell::new(&[]);
    let admin = demo.edge.admin().to_string();
    let rotate = |name: &str| {
        let text = format!("curl -i -X POST http://$KONG_ADMIN/jwt-signer/jwks/{name}/rotate");
        shell.run(&text, &[("KONG_ADMIN", &admin)])
    };
    let answer = rotate(set["id"].as_str().unwrap());
    assert_eq!((answer.status(), answer.field("content-type")), (200, Some("application/jwk-set+json")));
    let rotated: Value = serde_json::from_str(answer.body()).unwrap();
    assert_eq!(kids(&rotated, "previous"), old);
    assert!(kids(&rotated, "keys").iter().all(|kid| !old.contains(kid)));
    let previous = json!({"keys": rotated["previous"]});
    assert!(jose::verify(&previous, &before).is_ok(), "what was signed before still verifies");
    assert_eq!(rotate("kong").status(), 200);
    let again = demo.published();
    assert!(kids(&again, "previous").iter().all(|kid| !old.contains(kid)), "twice rotated, forgotten");
    assert_eq!(rotate("nobody").status(), 404);
    assert_eq!(demo.status(&source), 200);
    assert_ne!(sent(), before);
}

#[test]
fn s2_7() {
    // "all *_optional are false by default": without channel settings every request is 500.
    let (issuer, key, jwks, claims) = issuer();
    let demo = Demo::start(json!({"access_token_jwks_uri": jwks}));
    let answer = demo.ask(&[&format!("Authorization: Bearer {}", key.token(&claims))]);
    assert_eq!((answer.status(), answer.json()), (500, json!({"message": "An unexpected error occurred"})));
    drop(issuer);
}

#[test]
fn s2_8() {
    let nested = |value: Value| json!({"employee": {"favourites": {"beverage": value}}});
    let config = json!({"access_token_scopes_claim": ["employee", "favourites", "beverage"],
        "access_token_scopes_required": ["coffee"]});
    let (demo, _issuer, key, claims) = by_keys(config);
    for (value, status) in [
        (json!("coffee"), 200),
        (json!(["tea", "coffee"]), 200),
        (json!("tea coffee"), 200),
        (json!("tea"), 403),
        (json!({"coffee": 1}), 403),
    ] {
        assert_eq!(demo.status(&key.token(&with(claims.clone(), nested(value.clone())))), status, "{value}");
    }
    assert_eq!(demo.status(&key.token(&claims)), 403);
}

#[test]
fn s2_9() {
    for (required, scope, status) in [
        (json!(["scope1 scope2"]), "scope2 scope1", 200),
        (json!(["scope1 scope2"]), "scope1", 403),
        (json!(["scope1", "scope2"]), "scope2", 200),
        (json!(["scope1", "scope2"]), "Scope1", 403),
    ] {
        let (demo, _issuer, key, claims) = by_keys(json!({"access_token_scopes_required": required}));
        assert_eq!(demo.status(&key.token(&with(claims, json!({"scope": scope})))), status, "{required} {scope}");
    }
}

#[test]
fn s2_10() {
    for leeway in [60, -60] {
        let (demo, _issuer, key, claims) = by_keys(json!({"access_token_upstream_leeway": leeway}));
        let exp = now() + 600;
        let (_, payload) = demo.upstream_token(&key.token(&with(claims, json!({"exp": exp}))));
        assert_eq!(payload["exp"], json!(exp + leeway));
    }
}

#[test]
fn s2_11() {
    // A name is generated and listed; the URL is `resigned::keys_of_a_url_sign_and_stay_while_it_is_down`'s.
    let (demo, _issuer, key, claims) = by_keys(json!({"access_token_keyset": "mine"}));
    assert_eq!(demo.status(&key.token(&claims)), 200);
    let listed = demo.edge.admin_get("/jwt-signer/jwks").json();
    let names: Vec<&str> = listed["data"].as_array().unwrap().iter().filter_map(|set| set["name"].as_str()).collect();
    assert!(names.contains(&"mine") && !names.contains(&"kong"), "{names:?}");
}

#[test]
fn s2_12() {
    for algorithm in ["RS512", "ES384", "EdDSA"] {
        let (demo, _issuer, key, claims) = by_keys(json!({"access_token_signing_algorithm": algorithm}));
        assert_eq!(demo.upstream_token(&key.token(&claims)).0["alg"], algorithm);
    }
    let (demo, _issuer, key, claims) = by_keys(json!({}));
    assert_eq!(demo.upstream_token(&key.token(&claims)).0["alg"], "RS256");
}

#[test]
fn s2_13() {
    let consumers = json!([{"username": "alice", "custom_id": "c-1"}]);
    let (issuer, key, jwks, claims) = issuer();
    let config = json!({"access_token_jwks_uri": jwks, "channel_token_optional": true,
        "access_token_introspection_endpoint": format!("{}/introspect", issuer.url()),
        "access_token_consumer_claim": ["sub"], "access_token_introspection_consumer_claim": ["username"]});
    let demo = Demo::with(config, consumers);
    issuer.know("opaque-alice", json!({"active": true, "username": "c-1"}));
    issuer.know("opaque-nobody", json!({"active": true, "username": "nobody"}));
    let jwt = |sub: &str| key.token(&with(claims.clone(), json!({"sub": sub})));
    for (token, status) in [
        (jwt("alice"), 200),
        (jwt("c-1"), 200),
        (jwt("nobody"), 403),
        ("opaque-alice".to_owned(), 200),
        ("opaque-nobody".to_owned(), 403),
    ] {
        assert_eq!(demo.status(&token), status, "{token}");
        if status == 200 {
            let seen = demo.upstream.last();
            let told = [seen.field("x-consumer-username"), seen.field("x-consumer-custom-id")];
            assert_eq!(told, [Some("alice"), Some("c-1")]);
            assert!(seen.field("x-consumer-id").is_some());
        }
    }
}

#[test]
fn s2_14() {
    let issuer = Issuer::start(&[]);
    let demo = Demo::start(json!({"access_token_introspection_endpoint": format!("{}/introspect", issuer.url()),
        "access_token_introspection_body_args": "resource=urn%3Aorders&x=1", "access_token_introspection_hint": "custom",
        "channel_token_optional": true}));
    issuer.know("opaque", json!({"active": true}));
    assert_eq!(demo.status("opaque"), 200);
    let asked = issuer.last("/introspect");
    for (name, value) in [("resource", "urn:orders"), ("x", "1"), ("token_type_hint", "custom"), ("token", "opaque")] {
        assert_eq!(argument(&asked, name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn s2_15() {
    let (demo, _issuer, key, claims) =
        by_keys(json!({"add_claims": {"sub": "other", "zone": "1"}, "set_claims": {"aud": "up"}}));
    let (_, payload) = demo.upstream_token(&key.token(&claims));
    let expected = json!({"iss": "kong", "original_iss": claims["iss"], "zone": 1, "aud": "up"});
    assert_eq!(payload, with(claims, expected));
}
