//! One key as an issuer publishes it: it verifies what RFC 7517 and 7518 let it verify, and nothing else in it counts.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge_user::token::jwks::{self, Key, Kinds};
use jsonwebtoken::Algorithm;
use jsonwebtoken::signature::Verifier as _;
use serde_json::{Value, json};

const ALGORITHMS: [(&str, Algorithm); 12] = {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    [
        ("RS256", RS256),
        ("RS384", RS384),
        ("RS512", RS512),
        ("PS256", PS256),
        ("PS384", PS384),
        ("PS512", PS512),
        ("ES256", ES256),
        ("ES384", ES384),
        ("EdDSA", EdDSA),
        ("HS256", HS256),
        ("HS384", HS384),
        ("HS512", HS512),
    ]
};

/// A JWK.
pub fn one(data: &[u8]) {
    let Ok(jwk) = serde_json::from_slice::<Value>(data) else { return };
    let allowed = allowed(&jwk);
    let Some(key) = parse(&jwk) else {
        // Whether a point lies on its curve is the backend's to say; everything else is said here.
        assert!(allowed.is_empty() || jwk["kty"] != "RSA", "a good key is not taken");
        return;
    };
    let serves: Vec<&str> =
        ALGORITHMS.iter().filter(|(_, algorithm)| key.verifier(*algorithm).is_some()).map(|(name, _)| *name).collect();
    assert_eq!(serves, allowed, "a key serves what it may");
    assert_eq!(key.kid(), jwk.get("kid").map(|kid| kid.as_str().expect("a text")));
    for (_, algorithm) in ALGORITHMS {
        let Some(verifier) = key.verifier(algorithm) else { continue };
        for signature in [vec![], vec![0; 64], vec![0; 96], vec![0; 256], vec![0xff; 64], vec![0xff; 256]] {
            assert!(verifier.verify(b"message", &signature).is_err(), "verified without a signature");
        }
    }
    // What a verdict remembers of its key: neither certificates nor private parts change it, another `kid` does.
    let with = |name: &str, value: Value| {
        let mut other = jwk.clone();
        other[name] = value;
        parse(&other).map(|key| *key.identity())
    };
    for name in ["x5c", "x5u", "x5t", "d", "k", "iss", "ALG"] {
        assert_eq!(with(name, json!("AA")).as_ref(), Some(key.identity()), "`{name}` counts");
    }
    let another = format!("{}'", key.kid().unwrap_or_default());
    assert_ne!(with("kid", json!(another)).as_ref(), Some(key.identity()), "`kid` does not count");
}

fn parse(jwk: &Value) -> Option<Key> {
    jwks::parse(json!({"keys": [jwk]}).to_string().as_bytes(), Kinds::Public, |_, _| {}).ok()?.pop()
}

/// The algorithms that a key may serve, by its members alone.
fn allowed(jwk: &Value) -> Vec<&'static str> {
    let absent_or = |name: &str, good: &dyn Fn(&Value) -> bool| jwk.get(name).is_none_or(good);
    let verifies = |operations: &Value| operations.as_array().is_some_and(|all| all.contains(&json!("verify")));
    if !jwk.is_object()
        || !absent_or("kid", &Value::is_string)
        || !absent_or("use", &|purpose| purpose == "sig")
        || !absent_or("key_ops", &verifies)
    {
        return Vec::new();
    }
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok();
    let long = |name: &str, length: usize| bytes(name).is_some_and(|bytes| bytes.len() == length);
    let family: &[&str] = match (text("kty"), text("crv")) {
        (Some("RSA"), _) if is_rsa(bytes("n"), bytes("e")) => &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
        (Some("EC"), Some("P-256")) if long("x", 32) && long("y", 32) => &["ES256"],
        (Some("EC"), Some("P-384")) if long("x", 48) && long("y", 48) => &["ES384"],
        (Some("OKP"), Some("Ed25519")) if long("x", 32) => &["EdDSA"],
        _ => &[],
    };
    family.iter().copied().filter(|name| absent_or("alg", &|alg| alg == name)).collect()
}

/// RFC 7518, 3.3 and 6.3.1; an exponent of at most 33 bit, as the backends take it.
fn is_rsa(n: Option<Vec<u8>>, e: Option<Vec<u8>>) -> bool {
    let digits = |number: Option<Vec<u8>>| {
        number.map(|number| number.into_iter().skip_while(|digit| *digit == 0).collect::<Vec<u8>>())
    };
    let (Some(n), Some(e)) = (digits(n), digits(e)) else { return false };
    let bits = |number: &[u8]| number.len() * 8 - number.first().map_or(0, |first| first.leading_zeros() as usize);
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    (2048..=8192).contains(&bits(&n)) && odd(&n) && odd(&e) && (2..=33).contains(&bits(&e))
}
