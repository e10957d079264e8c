//! A key set with private members, as a URL gives it: whatever else it holds, what is published of it is public.

use edge_user::crypto::sign::SigningAlgorithm;
use edge_user::keysets::fetched::parse;
use serde_json::{Value, json};

/// A JWK set.
pub fn fetched(data: &[u8]) {
    let unused = std::cell::Cell::new(0);
    let Ok(fetched) = parse(data, |_, _| unused.set(unused.get() + 1)) else { return };
    let set: Value = serde_json::from_slice(data).expect("what was read is JSON");
    let given = set["keys"].as_array().expect("what was read has keys");
    assert_eq!(fetched.keys.len() + unused.get(), given.len(), "a key is neither taken nor named");
    assert!((1..=100).contains(&fetched.keys.len()));
    for key in &fetched.keys {
        let public = key.public_jwk().as_object().expect("an object");
        let members: &[&str] = match public["kty"].as_str() {
            Some("RSA") => &["alg", "e", "kid", "kty", "n", "use"],
            Some("EC") => &["alg", "crv", "kid", "kty", "use", "x", "y"],
            Some("OKP") => &["alg", "crv", "kid", "kty", "use", "x"],
            _ => &["alg", "kid", "kty", "use"],
        };
        assert!(public.keys().eq(members), "{:?}", public.keys());
        assert_eq!(
            (&public["alg"], &public["use"], &public["kid"]),
            (&json!(key.algorithm()), &json!("sig"), &json!(key.kid()))
        );
        assert!(SigningAlgorithm::from_name(key.algorithm()).is_some());
        let is_it = |given: &Value| {
            given["alg"] == key.algorithm()
                && given["kty"] == public["kty"]
                && given.get("kid").is_none_or(|kid| kid.as_str().is_none_or(|kid| kid == key.kid()))
        };
        assert!(given.iter().any(is_it), "a key that nobody gave");
        let token = key.sign_parts(b"{}", b"{}").expect("what was taken signs");
        assert!(token.starts_with("e30.e30.") && token.len() > 50, "an empty signature");
    }
}
