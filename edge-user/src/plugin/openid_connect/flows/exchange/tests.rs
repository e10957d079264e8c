use super::*;
use serde_json::{Value, json};

fn conditions(has_audience: &[&str], missing_audience: &[&str], has_scopes: &[&str], missing: &[&str]) -> Conditions {
    let list = |texts: &[&str]| texts.iter().copied().map(Box::from).collect();
    Conditions {
        aud: ClaimPath::new(["aud"]),
        scope: ClaimPath::new(["scope"]),
        has_audience: list(has_audience),
        missing_audience: list(missing_audience),
        has_scopes: list(has_scopes),
        missing_scopes: list(missing),
    }
}

fn check(conditions: &Conditions, claims: Value, expected: bool) {
    let facts = Facts::introspected(claims.to_string().into_bytes(), None).expect("facts");
    assert_eq!(conditions.hold(&facts), expected, "{claims}");
}

#[test]
fn all_conditions_must_hold() {
    let audience = conditions(&["a", "b"], &["c"], &[], &[]);
    check(&audience, json!({"aud": ["a", "b"]}), true);
    check(&audience, json!({"aud": ["b", "x", "a"]}), true);
    check(&audience, json!({"aud": ["a"]}), false);
    check(&audience, json!({"aud": "a b"}), false);
    check(&audience, json!({"aud": ["a", "b", "c"]}), false);
    check(&audience, json!({}), false);

    let scope = conditions(&[], &[], &["r", "w"], &["admin"]);
    check(&scope, json!({"scope": "w r"}), true);
    check(&scope, json!({"scope": ["r", "w"]}), true);
    check(&scope, json!({"scope": "r"}), false);
    check(&scope, json!({"scope": "rw"}), false);
    check(&scope, json!({"scope": "r w admin"}), false);
    check(&scope, json!({"scope": "r w administrator"}), true);

    let both = conditions(&["a"], &[], &[], &["admin"]);
    check(&both, json!({"aud": "a"}), true);
    check(&both, json!({"aud": "a", "scope": "admin"}), false);
    check(&both, json!({"aud": "x", "scope": "r"}), false);

    // What is to be missing is, where the claim is.
    check(&conditions(&[], &["c"], &[], &["admin"]), json!({}), true);
    assert!(conditions(&[], &[], &[], &[]).is_empty() && !both.is_empty() && !scope.is_empty());
}

#[test]
fn only_jwts_name_an_issuer() {
    let jwt = |payload: &str| {
        let encode = |text: &str| {
            use base64::Engine;
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
        };
        format!("{}.{}.c2ln", encode("{\"alg\":\"ES256\"}"), encode(payload))
    };
    for (token, expected) in [
        (jwt("{\"iss\":\"https://a.example\"}"), Some("https://a.example")),
        (jwt("{\"iss\":1}"), None),
        (jwt("{}"), None),
        (jwt("{\"iss\":\"a\",\"iss\":\"b\"}"), None),
        (jwt("no JSON"), None),
        ("opaque".to_owned(), None),
        ("a.b.c".to_owned(), None),
    ] {
        assert_eq!(issuer_of(token.as_bytes()).as_deref(), expected, "{token}");
    }
}
