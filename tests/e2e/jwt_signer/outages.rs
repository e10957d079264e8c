//! Issuers and key sets that fail: never a verdict on the token, never a token that nobody signed.

use super::*;
use edge_tests::issuer::{Fault, good};

fn refused(signer: &Signer, token: &str) -> (u16, String) {
    let answer = signer.ask(token);
    (answer.status(), signer.edge.reason_of(&answer))
}

#[test]
fn keys_that_cannot_be_had_are_503() {
    // K5, K7
    let key = Key::es256("es-1");
    let issuer = Issuer::start(&[&key]);
    issuer.fail(Fault::Status(500));
    let config = json!({"access_token_jwks_uri": format!("{}/jwks", issuer.url()), "channel_token_optional": true});
    let signer = Signer::over(issuer, key, config, |setup| setup);
    let answer = signer.ask(&signer.token());
    assert_eq!((answer.status(), signer.edge.reason_of(&answer)), (503, "keys_unavailable".to_owned()));
    assert!(answer.field("retry-after").is_some());
    signer.issuer.recover();
    crate::introspection::wait(|| signer.ask(&signer.token()).status() == 200, "keys");
}

#[test]
fn issuers_that_do_not_answer_are_503() {
    // I1, I7
    for fault in [Fault::Status(500), Fault::Status(401), Fault::Html, Fault::Truncated, Fault::Close] {
        let key = Key::es256("es-1");
        let issuer = Issuer::start(&[&key]);
        issuer.know("opaque", json!({"active": true}));
        issuer.fail(fault.clone());
        let config = json!({"access_token_introspection_endpoint": format!("{}/introspect", issuer.url()),
            "access_token_introspection_timeout": 500, "channel_token_optional": true});
        let signer = Signer::over(issuer, key, config, |setup| setup);
        assert_eq!(refused(&signer, "opaque"), (503, "introspection_failed".into()), "{fault:?}");
        assert_eq!(signer.upstream.requests().len(), 0);
    }
}

#[test]
fn without_a_key_nothing_is_signed_and_nothing_goes_upstream() {
    // R1; U4's like for keys
    let keys = Issuer::start(&[]);
    keys.fail(Fault::Status(500));
    let config =
        json!({"access_token_keyset": format!("{}/private", keys.url()), "access_token_signing_algorithm": "ES256"});
    let signer = Signer::start(config);
    for _ in 0..2 {
        let answer = signer.ask(&signer.token());
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.json(), json!({"message": "An unexpected error occurred"}));
        assert!(answer.field("www-authenticate").is_some());
        assert_eq!(signer.edge.reason_of(&answer), "signing_failed");
    }
    assert_eq!(signer.upstream.requests().len(), 0);
    // A set without a key of the algorithm is as good as none.
    keys.recover();
    let body = json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS256"}]});
    keys.answer("/private", move |_| good(&body));
    assert_eq!(refused(&signer, &signer.token()).0, 500);
}

#[test]
fn a_token_without_a_place_is_the_configurations_fault() {
    // S2.7
    let key = Key::es256("es-1");
    let issuer = Issuer::start(&[&key]);
    let config = json!({"access_token_jwks_uri": format!("{}/jwks", issuer.url())});
    let signer = Signer::over(issuer, key, config, |setup| setup);
    let answer = signer.ask(&signer.token());
    assert_eq!((answer.status(), signer.edge.reason_of(&answer)), (500, "token_unlocated".to_owned()));
    assert!(signer.edge.errors().text().contains("every request gets 500"), "{}", signer.edge.errors().text());
}

#[test]
fn generated_keys_need_a_place() {
    let config = json!({"channel_token_optional": true});
    let error = Setup::new(signed("http://127.0.0.1:9", config)).try_start().map(drop).unwrap_err().to_string();
    for part in ["access_token_keyset", "key_file", "private_keys"] {
        assert!(error.contains(part), "{error}");
    }
}
