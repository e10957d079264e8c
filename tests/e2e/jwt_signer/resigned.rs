//! The token that goes upstream: its algorithm, its claims, its keys and how they change.

use super::*;
use edge_tests::issuer::good;
use edge_tests::mint::{encode, now};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

#[test]
fn every_algorithm_signs_what_others_verify() {
    // S2.12, R1
    for algorithm in ["RS256", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"] {
        let signer = Signer::start(json!({"access_token_signing_algorithm": algorithm}));
        let (header, payload) = signer.verified(&signer.pass(&signer.token()));
        assert_eq!((&header["alg"], &payload["iss"]), (&json!(algorithm), &json!("kong")));
        let set = signer.published("kong");
        let kids: Vec<&str> = set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
        let mut distinct = kids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), kids.len());
        for member in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(set["keys"].as_array().unwrap().iter().all(|key| key.get(member).is_none()), "{member}");
        }
    }
}

#[test]
fn claims_are_changed_as_configured() {
    // S2.10, S2.15, R2
    let signer = Signer::start(json!({
        "access_token_issuer": "https://edge.example", "access_token_upstream_leeway": -30,
        "remove_access_token_claims": ["secret"],
        "add_claims": {"zone": "dmz", "sub": "never"}, "add_access_token_claims": {"level": "3"},
        "set_claims": {"gateway": "{\"name\":\"edge\"}"}, "set_access_token_claims": {"aud": "https://up"},
    }));
    let claims = with(signer.claims(), json!({"sub": "alice", "secret": 1, "exp": now() + 600}));
    let (_, payload) = signer.verified(&signer.pass(&signer.key.token(&claims)));
    let expected = with(
        claims.clone(),
        json!({"secret": null, "iss": "https://edge.example", "original_iss": claims["iss"], "zone": "dmz", "level": 3,
            "gateway": {"name": "edge"}, "aud": "https://up", "exp": claims["exp"].as_i64().unwrap() - 30}),
    );
    assert_eq!(payload, expected);
}

#[test]
fn the_new_token_goes_where_it_is_told_and_the_old_one_too() {
    // T43
    let original = json!({"original_access_token_upstream_header": "X-Original"});
    for (config, authorization, own, old) in [
        (json!({}), true, false, false),
        (original.clone(), true, false, true),
        (json!({"access_token_upstream_header": "X-Signed"}), false, true, false),
        (json!({"access_token_upstream_header": null}), false, false, false),
        (json!({"access_token_signing": false}), false, false, false),
        (plus(original, json!({"access_token_signing": false})), false, false, true),
    ] {
        let signer = Signer::start(config.clone());
        let token = signer.token();
        let answer = signer.edge.ask(get(
            "/orders",
            &[&format!("Authorization: Bearer {token}"), "X-Signed: forged", "X-Original: forged"],
        ));
        assert_eq!(answer.status(), 200, "{config}");
        let seen = signer.upstream.last();
        assert_eq!(seen.field("authorization").is_some(), authorization, "{config}");
        let signed = seen.all("x-signed");
        assert_eq!(signed.iter().any(|value| value.matches('.').count() == 2), own, "{config} {signed:?}");
        let expected: &[&str] = if old { &[&token] } else { &[] };
        if config.get("original_access_token_upstream_header").is_some() {
            assert_eq!(seen.all("x-original"), expected, "{config}");
        }
    }
}

#[test]
fn nobody_else_writes_the_field_of_the_edges_token() {
    // P1: the token need not come, and then none of the client's goes where the edge's would.
    let signer = Signer::start(json!({"access_token_request_header": "X-Token", "access_token_optional": true}));
    let answer = signer.edge.ask(get("/orders", &["Authorization: Bearer forged"]));
    assert_eq!(answer.status(), 200);
    assert_eq!(signer.upstream.last().field("authorization"), None);
    let answer =
        signer.edge.ask(get("/orders", &["Authorization: Bearer forged", &format!("X-Token: {}", signer.token())]));
    assert_eq!(answer.status(), 200);
    signer.verified(&signer.upstream.last());
}

#[test]
fn tokens_of_one_sets_keys_are_no_other_sets() {
    // R6: one URL, asked as two users, who are given other keys.
    let keys = Issuer::start(&[]);
    let (first, second) = (private_jwk("of-a"), private_jwk("of-b"));
    let bodies = [json!({"keys": [first.clone()]}), json!({"keys": [second.clone()]})];
    keys.answer("/private", move |asked| {
        good(&bodies[usize::from(asked.field("authorization") == Some("Basic Yjpw"))])
    });
    let (key, upstream) = (Key::es256("es-1"), Upstream::start());
    let issuer = Issuer::start(&[&key]);
    let route = |name: &str| {
        let config = json!({"access_token_jwks_uri": format!("{}/jwks", issuer.url()), "channel_token_optional": true,
            "access_token_keyset": format!("{}/private", keys.url()), "access_token_signing_algorithm": "ES256",
            "access_token_keyset_client_username": name, "access_token_keyset_client_password": "p"});
        json!({"name": name, "paths": [format!("/{name}")], "plugins": [{"name": "jwt-signer", "config": config}]})
    };
    let edge = Setup::new(entities(&upstream.url(), json!([route("a"), route("b")]))).section(IN_MEMORY).start();
    let token = format!("Authorization: Bearer {}", key.token(&mint::claims(&issuer.url(), AUDIENCE)));
    for (path, jwk) in [("/a", &first), ("/b", &second), ("/a", &first)] {
        assert_eq!(edge.ask(get(path, &[&token])).status(), 200, "{}", edge.errors().text());
        let seen = upstream.last().field("authorization").unwrap()["Bearer ".len()..].to_owned();
        assert!(jose::verify(&public(jwk), &seen).is_ok(), "{path}");
    }
}

/// A private P-256 key as a key set has it.
fn private_jwk(kid: &str) -> Value {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &SystemRandom::new());
    let point = pair.unwrap().public_key().as_ref().to_vec();
    // RFC 5915 within PKCS#8: the 32 bytes after the octet string's head.
    let at = document.as_ref().windows(3).position(|bytes| bytes == [1, 4, 32]).unwrap() + 3;
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig", "x": encode(&point[1..33]),
        "y": encode(&point[33..]), "d": encode(&document.as_ref()[at..at + 32])})
}

fn public(jwk: &Value) -> Value {
    json!({"keys": [with(jwk.clone(), json!({"d": null}))]})
}

#[test]
fn keys_of_a_url_sign_and_stay_while_it_is_down() {
    // S2.11, S2.6, R1
    let keys = Issuer::start(&[]);
    let (first, second) = (private_jwk("up-1"), private_jwk("up-2"));
    let publish = |jwk: &Value| {
        let body = json!({"keys": [jwk]});
        keys.answer("/private", move |_| good(&body));
    };
    publish(&first);
    let url = format!("{}/private", keys.url());
    let signer = Signer::start(json!({"access_token_keyset": url, "access_token_signing_algorithm": "ES256",
        "access_token_keyset_client_username": "u", "access_token_keyset_client_password": "p"}));
    let token_of = |seen: &Message| seen.field("authorization").unwrap()["Bearer ".len()..].to_owned();
    let token = token_of(&signer.pass(&signer.token()));
    assert_eq!(jose::verify(&public(&first), &token).unwrap().0["kid"], "up-1");
    assert_eq!(keys.last("/private").field("authorization"), Some("Basic dTpw"));
    publish(&second);
    let name: String = url.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let rotated = signer.edge.admin_ask("POST", &format!("/jwt-signer/jwks/{name}/rotate"));
    assert_eq!(rotated.status(), 200, "{}", rotated.text());
    assert!(rotated.text().contains("up-2") && !rotated.text().contains("\"d\""), "{}", rotated.text());
    let token = token_of(&signer.pass(&signer.token()));
    assert_eq!(jose::verify(&public(&second), &token).unwrap().0["kid"], "up-2");
    keys.fail(edge_tests::issuer::Fault::Status(500));
    let token = token_of(&signer.pass(&signer.token()));
    assert!(jose::verify(&public(&second), &token).is_ok());
    for jwk in [&first, &second] {
        let secret = jwk["d"].as_str().unwrap();
        assert!(!signer.edge.errors().text().contains(secret));
    }
}

#[test]
fn a_rotation_changes_the_key_and_keeps_the_old_one_published() {
    // S2.6, R5
    let signer = Signer::start(json!({"access_token_signing_algorithm": "ES256"}));
    let source = signer.token();
    let token_of = |seen: &Message| seen.field("authorization").unwrap()["Bearer ".len()..].to_owned();
    let before = token_of(&signer.pass(&source));
    let rotate = || signer.edge.admin_ask("POST", "/jwt-signer/jwks/kong/rotate");
    let rotated = rotate();
    assert_eq!(rotated.status(), 200);
    assert_eq!(rotated.json(), signer.published("kong"));
    let after = token_of(&signer.pass(&source));
    assert_ne!(before, after, "what was signed before is signed anew");
    let all = || signer.published("kong?all=true");
    assert!(jose::verify(&all(), &before).is_ok() && jose::verify(&all(), &after).is_ok());
    assert!(jose::verify(&signer.published("kong"), &before).is_err());
    assert_eq!(rotate().status(), 200);
    let newest = token_of(&signer.pass(&source));
    assert!(jose::verify(&all(), &before).is_err(), "two rotations forget");
    assert!(jose::verify(&all(), &after).is_ok() && jose::verify(&all(), &newest).is_ok());
    let unknown = signer.edge.admin_ask("POST", "/jwt-signer/jwks/nobody/rotate");
    assert_eq!(unknown.status(), 404);
}
