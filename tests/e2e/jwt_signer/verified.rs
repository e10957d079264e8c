//! JWTs: found, verified by a key set, replaced.

use super::*;
use edge_tests::mint::{flip, now};

#[test]
fn the_caller_s_token_is_verified_and_replaced() {
    // T43, R1, S2.1
    let signer = Signer::start(json!({}));
    let claims =
        with(signer.claims(), json!({"sub": "alice", "n": 12345678901234567890u64, "nested": {"a": [1.5, null]}}));
    let token = signer.key.token(&claims);
    let seen = signer.pass(&token);
    let (header, payload) = signer.verified(&seen);
    assert_eq!((&header["alg"], &header["typ"]), (&json!("RS256"), &json!("JWT")));
    let expected = with(claims.clone(), json!({"iss": "kong", "original_iss": claims["iss"]}));
    assert_eq!(payload, expected);
    assert!(!format!("{seen:?}").contains(&token), "the caller's token is gone");
    // The signature is paid once.
    let again = signer.pass(&token);
    assert_eq!(again.field("authorization"), seen.field("authorization"));
}

#[test]
fn only_good_tokens_pass() {
    // T1, T13, T37, R4
    let signer = Signer::start(json!({"realm": "orders"}));
    let good = signer.token();
    let resigned = signer.pass(&good).field("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    signer.upstream.take();
    let expired = signer.key.token(&with(signer.claims(), json!({"exp": now() - 60})));
    let foreign = Key::es256("es-1").token(&signer.claims());
    let unsigned = mint::unsigned(&json!({"alg": "none", "kid": "es-1"}), &signer.claims(), "");
    let malformed = "Bearer realm=\"orders\", error=\"invalid_token\"";
    for (token, reason) in [
        (expired.as_str(), "token_expired"),
        (&foreign, "signature_invalid"),
        (&flip(&good), "signature_invalid"),
        (&unsigned, "token_malformed"),
        ("opaque", "introspection_unavailable"),
        // The edge's own tokens open nothing at its front door.
        (&resigned, "kid_unknown"),
    ] {
        let answer = signer.ask(token);
        assert_eq!((answer.status(), answer.field("www-authenticate")), (401, Some(malformed)), "{reason}");
        assert_eq!(answer.json(), json!({"message": "Unauthorized"}));
        assert_eq!(signer.edge.reason_of(&answer), reason);
    }
    let answer = signer.edge.ask(get("/orders", &[]));
    assert_eq!((answer.status(), answer.field("www-authenticate")), (401, Some("Bearer realm=\"orders\"")));
    for fields in [
        &["Authorization: Bearer a", "Authorization: Bearer a"][..],
        &["Authorization: Digest a"],
        &["Authorization: Bearer a b"],
    ] {
        assert_eq!(signer.edge.ask(get("/orders", fields)).status(), 401, "{fields:?}");
    }
    assert_eq!(signer.upstream.requests().len(), 0, "nothing of a refused request reaches the upstream");
    let log = signer.edge.errors().text();
    assert!(log.contains("[jwt-signer] token expired") && log.contains("issuer=\"127.0.0.1\""), "{log}");
    for secret in [&expired, &foreign, &resigned] {
        assert!(!log.contains(secret.rsplit('.').next().unwrap()), "L1");
    }
}

#[test]
fn tokens_come_under_either_scheme_or_in_a_field() {
    // S2: `Authorization: Bearer` or `Basic`
    for (config, field, status) in [
        (json!({}), "Authorization: Bearer", 200),
        (json!({}), "authorization: basic", 200),
        (json!({"access_token_request_header": "authorization:bearer"}), "Authorization: Basic", 401),
        (json!({"access_token_request_header": "X-Token"}), "X-Token:", 200),
        (json!({"access_token_request_header": "x-token"}), "X-TOKEN: bearer", 200),
        (json!({"access_token_request_header": "X-Token"}), "Authorization: Bearer", 401),
    ] {
        let signer = Signer::start(config.clone());
        let answer = signer.edge.ask(get("/orders", &[&format!("{field} {}", signer.token())]));
        assert_eq!(answer.status(), status, "{config} {field}");
        if status == 200 {
            let seen = signer.upstream.last();
            assert_eq!(seen.field("x-token"), None);
            signer.verified(&seen);
        }
    }
}

#[test]
fn two_tokens_are_verified_each_by_its_own_keys() {
    // S2.3, S2.4, P1
    let (access, channel) = (Key::es256("access"), Key::eddsa("channel"));
    let other = Issuer::start(&[&channel]);
    let issuer = Issuer::start(&[&access]);
    let config = json!({
        "access_token_jwks_uri": format!("{}/jwks", issuer.url()),
        "channel_token_jwks_uri": format!("{}/jwks", other.url()),
        "channel_token_request_header": "X-JWT-channel-client",
        "channel_token_upstream_header": "X-JWT-channel-upstream",
        "channel_token_signing_algorithm": "ES256",
        "channel_token_issuer": "edge-channel",
    });
    let signer = Signer::over(issuer, access, config, |setup| setup);
    let first = signer.token();
    let second = channel.token(&mint::claims(&other.url(), "channel"));
    let ask = |first: &str, second: &str| {
        let fields = [format!("Authorization: Bearer {first}"), format!("X-JWT-channel-client: {second}")];
        signer.edge.ask(get(
            "/orders",
            &[&fields[0], &fields[1], "X-JWT-Channel-Upstream: forged", "x_jwt_channel_upstream: forged"],
        ))
    };
    assert_eq!(ask(&first, &second).status(), 200);
    let seen = signer.upstream.last();
    assert_eq!(signer.verified(&seen).1["iss"], "kong");
    assert_eq!(seen.field("x-jwt-channel-client"), None);
    assert_eq!(seen.field("x_jwt_channel_upstream"), None);
    let values = seen.all("x-jwt-channel-upstream");
    assert_eq!(values.len(), 1, "{values:?}");
    let (header, payload) = jose::verify(&signer.published("kong"), values[0]).unwrap();
    assert_eq!(
        (&header["alg"], &payload["iss"], &payload["aud"]),
        (&json!("ES256"), &json!("edge-channel"), &json!("channel"))
    );
    for (one, two, reason) in [
        (&first, &first, "kid_unknown"),
        (&second, &second, "kid_unknown"),
        (&first, &flip(&second), "signature_invalid"),
    ] {
        let answer = ask(one, two);
        assert_eq!((answer.status(), signer.edge.reason_of(&answer)), (401, reason.to_owned()));
    }
    let answer = signer.ask(&first);
    assert_eq!((answer.status(), signer.edge.reason_of(&answer)), (401, "header_missing".to_owned()));
}

#[test]
fn secrets_verify_only_where_that_was_enabled() {
    // T4, T5
    let secret = Key::hs256(b"a-secret-of-more-than-thirty-two-bytes", "hs");
    for (config, status) in [(json!({}), 401), (json!({"enable_hs_signatures": true}), 200)] {
        let signer = Signer::start(config);
        let ec = signer.key.jwk();
        signer.issuer.publish(json!({"keys": [ec, secret.jwk()]}));
        let token = secret.token(&signer.claims());
        assert_eq!(signer.ask(&token).status(), status);
        // A public key is nobody's secret.
        let claims = signer.claims();
        let point = mint::decode(ec["x"].as_str().unwrap());
        let forged = Key::hs256(&point, "es-1").token(&claims);
        let answer = signer.ask(&forged);
        assert_eq!((answer.status(), signer.edge.reason_of(&answer)), (401, "alg_not_allowed".to_owned()));
        assert_eq!(signer.ask(&signer.token()).status(), 200);
    }
}

#[test]
fn key_sets_are_fetched_with_the_edges_credentials() {
    let signer = Signer::start(
        json!({"access_token_jwks_uri_client_username": "edge", "access_token_jwks_uri_client_password": "p:w"}),
    );
    signer.pass(&signer.token());
    let asked = signer.issuer.last("/jwks");
    assert_eq!(asked.field("authorization"), Some("Basic ZWRnZTpwOnc="));
    let listed = signer.edge.admin_get("/jwt-signer/jwks").json();
    let names: Vec<&str> = listed["data"].as_array().unwrap().iter().filter_map(|set| set["name"].as_str()).collect();
    assert!(names.contains(&"kong") && names.iter().any(|name| name.ends_with("/jwks")), "{listed}");
    assert!(!listed.to_string().contains("\"d\""), "R1");
}

#[test]
fn rotated_keys_are_fetched_when_a_token_names_them() {
    // K4
    let signer = Signer::start(json!({}));
    let old = signer.token();
    signer.pass(&old);
    let next = Key::es256("es-2");
    signer.issuer.rotate(&[&next]);
    signer.pass(&next.token(&signer.claims()));
    let answer = signer.ask(&old);
    assert_eq!((answer.status(), signer.edge.reason_of(&answer)), (401, "kid_unknown".to_owned()));
}

#[test]
fn consumers_are_mapped_by_the_first_token_that_names_one() {
    // S2.13, P1
    let (access, channel) = (Key::es256("access"), Key::es256("channel"));
    let issuer = Issuer::start(&[&access, &channel]);
    let jwks = format!("{}/jwks", issuer.url());
    let config = json!({
        "access_token_jwks_uri": jwks, "access_token_consumer_claim": ["sub"],
        "channel_token_jwks_uri": jwks, "channel_token_request_header": "X-Channel", "channel_token_optional": true,
        "channel_token_consumer_claim": ["name"], "channel_token_consumer_by": ["id", "custom_id"],
    });
    let upstream = Upstream::start();
    let plugins = json!([{"name": "jwt-signer", "config": config}]);
    let id = "33333333-3333-4333-8333-333333333333";
    let entities = json!({"_format_version": "3.0",
        "consumers": [{"id": id, "username": "alice", "custom_id": "c-1"}, {"username": "bob"}],
        "services": [{"name": "up", "url": upstream.url(), "routes": [{"name": "all", "paths": ["/"], "plugins": plugins}]}]});
    let edge = Setup::new(entities.to_string()).section(IN_MEMORY).start();
    let token = |key: &Key, claims: Value| key.token(&with(mint::claims(&issuer.url(), AUDIENCE), claims));
    let ask = |first: Value, second: Value| {
        let fields = [
            format!("Authorization: Bearer {}", token(&access, first)),
            format!("X-Channel: {}", token(&channel, second)),
        ];
        edge.ask(get("/", &[&fields[0], &fields[1], "X-Consumer-ID: forged", "X-Consumer-Username: forged"]))
    };
    // The channel token names nobody, which nobody asks.
    assert_eq!(ask(json!({"sub": "alice"}), json!({"name": "nobody"})).status(), 200);
    let seen = upstream.last();
    assert_eq!(seen.all("x-consumer-id"), [id]);
    assert_eq!(seen.all("x-consumer-username"), ["alice"]);
    assert_eq!(seen.all("x-consumer-custom-id"), ["c-1"]);
    assert_eq!(edge.access(|line| line["status"] == 200)["consumer"], "alice");
    let answer = ask(json!({"sub": "mallory"}), json!({"name": "c-1"}));
    assert_eq!((answer.status(), edge.reason_of(&answer)), (403, "consumer_unknown".to_owned()));
    assert_eq!(answer.json(), json!({"message": "Forbidden"}));
}
