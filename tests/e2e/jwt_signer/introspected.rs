//! Opaque tokens: what is asked, what of the answer is checked, and the JWT that is made of it.

use super::*;
use edge_tests::issuer::argument;
use edge_tests::mint::now;

fn opaque(config: Value) -> Signer {
    let key = Key::es256("es-1");
    let issuer = Issuer::start(&[&key]);
    let base = json!({
        "access_token_introspection_endpoint": format!("{}/introspect", issuer.url()),
        "access_token_introspection_authorization": "Basic base64encode(client_id:client_secret)",
        "channel_token_optional": true,
    });
    Signer::over(issuer, key, plus(base, config), |setup| setup)
}

fn refused(signer: &Signer, token: &str) -> (u16, String) {
    let answer = signer.ask(token);
    (answer.status(), signer.edge.reason_of(&answer))
}

#[test]
fn an_opaque_token_becomes_a_jwt_of_what_its_issuer_says() {
    // S2.2, S2.14, I8, I9
    let signer = opaque(json!({"access_token_introspection_body_args": "resource=&tenant=a%26b"}));
    let said =
        json!({"active": true, "sub": "alice", "scope": "orders:read", "exp": now() + 600, "token_type": "Bearer"});
    signer.issuer.know("opaque-1", said.clone());
    let seen = signer.pass("opaque-1");
    let (_, payload) = signer.verified(&seen);
    assert_eq!(payload, with(said, json!({"iss": "kong"})));
    let asked = signer.issuer.last("/introspect");
    assert_eq!(asked.method(), "POST");
    assert_eq!(asked.field("authorization"), Some("Basic base64encode(client_id:client_secret)"));
    let sent = |name: &str| argument(&asked, name);
    assert_eq!(sent("token").as_deref(), Some("opaque-1"));
    assert_eq!(sent("token_type_hint").as_deref(), Some("access_token"));
    assert_eq!((sent("resource").as_deref(), sent("tenant").as_deref()), (Some(""), Some("a&b")));
    // Asked once, signed once.
    assert_eq!(signer.pass("opaque-1").field("authorization"), seen.field("authorization"));
    assert_eq!(signer.issuer.introspections("opaque-1"), 1);
    assert_eq!(refused(&signer, "opaque-2"), (401, "token_inactive".into()));
}

#[test]
fn what_the_issuer_says_is_checked() {
    // I2
    let active = |more: Value| with(json!({"active": true, "sub": "alice"}), more);
    for (config, said, expected) in [
        (json!({}), active(json!({"exp": now() - 5})), Some((401, "token_expired"))),
        (json!({"access_token_introspection_leeway": 60}), active(json!({"exp": now() - 5})), None),
        (json!({"verify_access_token_introspection_expiry": false}), active(json!({"exp": now() - 5})), None),
        (json!({}), active(json!({"nbf": now() + 60})), Some((401, "token_not_yet_valid"))),
        (
            json!({"access_token_introspection_issuers_allowed": ["https://a"]}),
            active(json!({"iss": "https://b"})),
            Some((401, "issuer_not_allowed")),
        ),
        (
            json!({"access_token_introspection_subjects_allowed": ["bob"]}),
            active(json!({})),
            Some((401, "subject_not_allowed")),
        ),
        (
            json!({"access_token_introspection_audiences_allowed": ["x"]}),
            active(json!({"aud": "y"})),
            Some((401, "audience_not_allowed")),
        ),
        (
            json!({"access_token_introspection_required_claims": [["act", "sub"]]}),
            active(json!({})),
            Some((401, "claim_missing")),
        ),
        (
            json!({"access_token_introspection_scopes_required": ["a b", "c"]}),
            active(json!({"scope": "a"})),
            Some((403, "scope_missing")),
        ),
        (json!({"access_token_introspection_scopes_required": ["a b", "c"]}), active(json!({"scope": "c"})), None),
        // What is required of a JWT is not of a trusted answer, and is of another.
        (json!({"access_token_scopes_required": ["a"]}), active(json!({})), None),
        (
            json!({"access_token_scopes_required": ["a"], "trust_access_token_introspection": false,
                "access_token_optional_claims": [["exp"]]}),
            active(json!({})),
            Some((403, "scope_missing")),
        ),
        (
            json!({"access_token_introspection_consumer_claim": ["sub"]}),
            active(json!({})),
            Some((403, "consumer_unknown")),
        ),
        (
            json!({"enable_access_token_introspection": false}),
            active(json!({})),
            Some((401, "introspection_unavailable")),
        ),
    ] {
        let signer = opaque(plus(config.clone(), json!({"access_token_signing": false})));
        signer.issuer.know("opaque", said.clone());
        let expected = expected.map_or((200, String::new()), |(status, reason)| (status, reason.to_owned()));
        for _ in 0..2 {
            let answer = signer.ask("opaque");
            let reason = if answer.status() == 200 { String::new() } else { signer.edge.reason_of(&answer) };
            assert_eq!((answer.status(), reason), expected, "{config} {said}");
        }
    }
}

#[test]
fn a_jwt_in_the_answer_is_the_payload() {
    let signer = opaque(json!({"access_token_introspection_jwt_claim": ["phantom", "jwt"]}));
    let claims = with(signer.claims(), json!({"sub": "inner"}));
    let jwt = signer.key.token(&claims);
    signer.issuer.know("good", json!({"active": true, "sub": "outer", "phantom": {"jwt": jwt}}));
    signer.issuer.know("none", json!({"active": true, "sub": "outer"}));
    signer.issuer.know("broken", json!({"active": true, "phantom": {"jwt": "a.b"}}));
    let (_, payload) = signer.verified(&signer.pass("good"));
    assert_eq!(payload, with(claims.clone(), json!({"iss": "kong", "original_iss": claims["iss"]})));
    // The answer is trusted: the times of the JWT in it are not looked at, and it is kept all the same.
    let old = signer.key.token(&with(claims.clone(), json!({"exp": now() - 60})));
    signer.issuer.know("old", json!({"active": true, "exp": now() + 600, "phantom": {"jwt": old}}));
    signer.pass("old");
    let distrusting = opaque(json!({"access_token_introspection_jwt_claim": ["phantom", "jwt"],
        "trust_access_token_introspection": false, "access_token_signing": false}));
    distrusting.issuer.know("old", json!({"active": true, "phantom": {"jwt": old}}));
    assert_eq!(refused(&distrusting, "old"), (401, "token_expired".into()));
    assert_eq!(refused(&signer, "none"), (401, "claim_missing".into()));
    assert_eq!(refused(&signer, "broken"), (401, "token_malformed".into()));
}

#[test]
fn answers_are_kept_or_not() {
    for (keep, calls) in [(true, 1), (false, 3)] {
        let signer = opaque(json!({"cache_access_token_introspection": keep}));
        signer.issuer.know("opaque", json!({"active": true, "exp": now() + 600}));
        for _ in 0..3 {
            signer.pass("opaque");
        }
        assert_eq!(signer.issuer.introspections("opaque"), calls, "cache {keep}");
    }
}

#[test]
fn a_thousand_requests_of_a_new_token_cost_one_call_and_one_signature() {
    // I6
    let signer = opaque(json!({}));
    signer.issuer.know("opaque", json!({"active": true, "exp": now() + 600}));
    let answers = crate::introspection::together(100, |_| {
        let mut client = signer.edge.connect();
        (0..10).map(|_| client.ask(with_token("opaque")).status()).collect::<Vec<_>>()
    });
    assert!(answers.iter().flatten().all(|status| *status == 200));
    assert_eq!(signer.issuer.introspections("opaque"), 1);
    let mut tokens: Vec<_> =
        signer.upstream.requests().iter().map(|seen| seen.field("authorization").unwrap().to_owned()).collect();
    assert_eq!(tokens.len(), 1000);
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 1, "all have one token");
}
