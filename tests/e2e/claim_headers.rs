//! What upstreams and clients read of a caller in fields, and how refusals are told, over sockets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edge_tests::mint::{self, with};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{AUDIENCE, Guarded, bearer, guarded, plus, with_token};

fn good(config: Value) -> Guarded {
    Guarded::with(config, |setup| setup)
}

fn ask(good: &Guarded, claims: Value, fields: &[&str]) -> Message {
    let token = format!("Authorization: Bearer {}", good.key.token(&with(good.claims(), claims)));
    good.edge.ask(get("/orders", &[&[token.as_str()][..], fields].concat()))
}

#[test]
fn claims_go_upstream_and_a_clients_own_never_do() {
    // P1, T35
    let good = good(json!({
        "upstream_headers": [
            {"header": "X-User", "path": ["profile", "name"]},
            {"header": "X-Roles", "path": ["roles"]},
            {"header": "X-Profile", "path": ["profile"]},
        ],
        "upstream_headers_claims": ["azp", "level"],
        "upstream_headers_names": ["X-App", "X_Level"],
    }));
    let forged = [
        "X-User: root",
        "x_user: root",
        "X.Roles: root",
        "X-PROFILE: root",
        "x-app: root",
        "X-Level: root",
        "x_level: root",
    ];
    let claims = json!({"profile": {"name": "Ann Lee"}, "roles": ["ops", "dev"], "level": 7});
    assert_eq!(ask(&good, claims, &forged).status(), 200);
    let seen = good.upstream.last();
    for (name, expected) in [
        ("x-user", "Ann Lee"),
        ("x-roles", "ops, dev"),
        ("x-profile", "eyJuYW1lIjoiQW5uIExlZSJ9"),
        ("x-app", "app"),
        ("x_level", "7"),
    ] {
        assert_eq!(seen.field(name), Some(expected), "{name}");
    }
    assert!(!String::from_utf8_lossy(&seen.raw).contains("root"), "{seen:?}");

    // Nothing of the claims, or nothing that can stand in a field: nothing of the client's in its place either.
    for claims in [
        json!({"azp": null}),
        json!({"azp": "a\r\nX-Admin: 1", "profile": {"name": "a\0"}, "roles": ["a\n", "b"], "level": null}),
        json!({"azp": "\u{e9}", "profile": {"name": " a"}, "roles": ["a, b"]}),
    ] {
        assert_eq!(ask(&good, claims.clone(), &forged).status(), 200);
        let seen = good.upstream.last();
        for name in ["x-user", "x-roles", "x-app", "x_level", "x-level", "x-admin"] {
            assert_eq!(seen.all(name), [""; 0], "{name} {claims}");
        }
        assert!(!String::from_utf8_lossy(&seen.raw).contains("root"), "{seen:?}");
    }
}

#[test]
fn the_token_and_its_key_go_where_they_are_to() {
    let good = good(json!({
        "upstream_access_token_header": "X-Token:bearer",
        "upstream_access_token_jwk_header": "X-Key",
        "downstream_access_token_header": "X-Echo",
    }));
    let token = good.token();
    let answer = good.edge.ask(with_token(&token));
    assert_eq!((answer.status(), answer.field("x-echo")), (200, Some(token.as_str())));
    let seen = good.upstream.last();
    assert_eq!(seen.field("x-token"), Some(format!("Bearer {token}").as_str()));
    assert_eq!(seen.field("authorization"), None);
    let key: Value = serde_json::from_slice(&STANDARD.decode(seen.field("x-key").unwrap()).unwrap()).unwrap();
    let expected = good.key.jwk();
    for member in ["kty", "crv", "x", "y", "kid"] {
        assert_eq!(key[member], expected[member], "{member}");
    }
    // Only the public part.
    assert_eq!(key.get("d"), None);
}

#[test]
fn clients_read_claims_in_place_of_the_upstreams_fields() {
    let upstream = Upstream::with(|_| Reply::new("200 OK", "X-Sub: up\r\nX-Gone: up\r\nX-Other: up\r\n", "ok"));
    let key = mint::Key::es256("es-1");
    let issuer = edge_tests::issuer::Issuer::start(&[&key]);
    let config = json!({
        "downstream_headers": [{"header": "X-Sub", "path": ["sub"]}],
        "downstream_headers_claims": ["gone"],
        "downstream_headers_names": ["X-Gone"],
    });
    let edge = edge_tests::edge::Setup::new(guarded(&upstream.url(), plus(bearer(&issuer.url()), config))).start();
    let answer = edge.ask(with_token(&key.token(&mint::claims(&issuer.url(), AUDIENCE))));
    assert_eq!(answer.status(), 200);
    assert_eq!(
        (answer.field("x-sub"), answer.field("x-gone"), answer.field("x-other")),
        (Some("alice"), None, Some("up"))
    );
    // A refused caller is told nothing.
    let answer = edge.ask(get("/orders", &[]));
    assert_eq!((answer.status(), answer.field("x-sub")), (401, None));
}

#[test]
fn challenges_say_what_would_do() {
    // T37, RFC 9470, RFC 9728
    let metadata = "https://api.example/.well-known/oauth-protected-resource";
    let good = good(json!({
        "acr_required": ["urn:mfa", "urn:hw"],
        "max_age": 300,
        "leeway": 5,
        "scopes_required": ["orders:read orders:write", "admin"],
        "resource_metadata": metadata,
    }));
    let now = mint::now();
    let login = json!({"acr": "urn:mfa", "auth_time": now - 10});
    assert_eq!(ask(&good, login.clone(), &[]).status(), 200);
    let realm = "Bearer realm=\"test\"";
    let url = format!("resource_metadata=\"{metadata}\"");
    let step_up = format!(
        "{realm}, error=\"insufficient_user_authentication\", acr_values=\"urn:mfa urn:hw\", max_age=\"300\", {url}"
    );
    for (claims, status, reason, expected) in [
        (json!({"acr": "urn:pwd"}), 401, "acr_insufficient", step_up.clone()),
        (json!({"acr": null}), 401, "acr_insufficient", step_up.clone()),
        (json!({"auth_time": now - 400}), 401, "authentication_too_old", step_up.clone()),
        (json!({"auth_time": null}), 401, "authentication_too_old", step_up),
        (
            json!({"scope": "orders:read"}),
            403,
            "scope_missing",
            format!("{realm}, error=\"insufficient_scope\", scope=\"orders:read orders:write\", {url}"),
        ),
        (json!({"exp": 1}), 401, "token_expired", format!("{realm}, error=\"invalid_token\", {url}")),
    ] {
        let answer = ask(&good, plus(login.clone(), claims.clone()), &[]);
        assert_eq!(answer.status(), status, "{claims}");
        let challenge = answer.field("www-authenticate").expect("a challenge");
        assert_eq!(challenge, expected, "{claims}");
        assert_eq!(good.edge.reason_of(&answer), reason, "{claims}");
    }
    let none = good.edge.ask(get("/orders", &[]));
    assert_eq!(none.field("www-authenticate"), Some(format!("{realm}, {url}").as_str()));
    assert_eq!(none.text(), "{\"message\":\"Unauthorized\"}");
}

#[test]
fn bodies_say_why_where_that_is_wanted() {
    let good = good(json!({
        "display_errors": true,
        "unauthorized_error_message": "Who \"are\" you?",
        "forbidden_error_message": "No.",
        "groups_required": ["staff"],
    }));
    for (claims, status, message, words) in [
        (json!({"exp": 1}), 401, "Who \"are\" you?", "token expired"),
        (json!({"groups": ["guests"]}), 403, "No.", "group is missing"),
    ] {
        let answer = ask(&good, claims, &[]);
        assert_eq!((answer.status(), answer.json()["message"].as_str()), (status, Some(message)));
        assert_eq!(answer.field("content-type"), Some("application/json; charset=utf-8"));
        let description = answer.json()["error_description"].as_str().expect("a reason").to_owned();
        assert!(description.contains(words), "{description}");
        let challenge = answer.field("www-authenticate").expect("a challenge");
        assert!(challenge.contains(&format!("error_description=\"{description}\"")), "{challenge}");
    }
    let none = good.edge.ask(get("/orders", &[]));
    assert!(!none.field("www-authenticate").unwrap().contains("error"), "no credential, no error (RFC 6750, 3.1)");
}
