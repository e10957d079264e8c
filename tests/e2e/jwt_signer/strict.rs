//! `strict_claims`: the token that goes upstream is the edge's, and says no more than it must.

use super::*;
use edge_tests::mint::now;

#[test]
fn only_allowed_claims_are_copied_and_the_rest_is_the_edges() {
    // R2, R3
    let signer = Signer::start(json!({
        "strict_claims": true, "upstream_audience": ["https://up"], "claims_allowed": ["sub", "scope"],
        "set_claims": {"tenant": "t-1"},
    }));
    let exp = now() + 600;
    let claims =
        with(signer.claims(), json!({"sub": "alice", "scope": "read", "roles": ["root"], "jti": "old", "exp": exp}));
    let token = signer.key.token(&claims);
    let (_, payload) = signer.verified(&signer.pass(&token));
    let iat = payload["iat"].as_i64().unwrap();
    assert!((now() - 10..=now()).contains(&iat), "{payload}");
    assert!(payload["jti"].as_str().is_some_and(|jti| jti != "old" && jti.len() >= 32), "{payload}");
    let expected = json!({"sub": "alice", "scope": "read", "iss": "kong", "original_iss": claims["iss"], "aud": "https://up",
        "exp": exp, "iat": iat, "jti": payload["jti"], "tenant": "t-1"});
    assert_eq!(payload, expected);
}
