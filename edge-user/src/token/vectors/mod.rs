//! Vectors: the examples of RFC 7515, 7520 and 8037, our own for each class of Project Wycheproof that concerns a JWS,
//! and properties over arbitrary tokens. What must verify does, and each neighbour of it does not.

mod ecdsa;
mod ed25519;
mod hmac;
mod jwk;
mod jws;
mod mutations;
mod properties;
mod rfc;
mod rsa;

use super::cache::VerdictCache;
use super::jwks::{self, Key, Kinds};
use super::jws::Jws;
use super::testing::{Bench, TestKey, judge, policy, settings};
use super::{Issuers, Now, Settings};
use crate::reason::Reason;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::signature::Verifier as _;
use serde_json::{Value, json};

/// Every algorithm the edge knows.
const ALGORITHMS: [Algorithm; 12] = {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, HS256, HS384, HS512]
};

/// The payload of RFC 7515's examples, as they encode it: issuer `joe`, `exp` 1300819380.
const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
/// A second before those expire.
const BEFORE: Now = Now { unix_ms: 1_300_819_379_000 };

/// A validator for tokens of `joe` under every algorithm, with this key set behind loopback and these HMAC secrets.
async fn bench(keys: &[Value], hs_secrets: &[&[u8]]) -> Bench {
    let settings = Settings {
        issuers: Issuers::Listed(vec!["joe".to_owned()]),
        algorithms: ALGORITHMS.to_vec(),
        hs_secrets: hs_secrets.iter().map(|secret| secret.to_vec()).collect(),
        ..settings()
    };
    let bench = Bench::with(&[], settings, policy()).await;
    bench.issuer.answer("/jwks", 200, &json!({"keys": keys}).to_string());
    bench
}

/// Judges a token thrice, so that what the cache remembers is asked too. A new cache has a whole budget for signatures.
async fn verdict(bench: &Bench, token: &str) -> Result<(), Reason> {
    let cache = VerdictCache::new(1 << 18).local();
    let first = judge(&bench.validator, &cache, token, BEFORE).await;
    for _ in 0..2 {
        let again = judge(&bench.validator, &cache, token, BEFORE).await;
        assert_eq!(again, first, "another look changes the verdict on {token}");
    }
    first
}

/// What is signed in a token with this header and the payload of `JOE`.
fn signing_input(header: &str) -> String {
    format!("{}.{JOE}", encode(header))
}

/// A token whose signature is what `sign` makes of the signed bytes.
fn token(header: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = signing_input(header);
    let signature = encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Whether a token's signature verifies under this key alone, whatever its payload is.
fn proven(jwk: &Value, token: &str) -> bool {
    let (key, jws) = (key(jwk).expect("a usable key"), Jws::parse(token.as_bytes()).expect("a JWS"));
    let verifier = key.verifier(jws.algorithm).expect("a key of the algorithm");
    verifier.verify(jws.signed, &jws.signature().expect("base64url")).is_ok()
}

/// The one key of a set.
fn key(jwk: &Value) -> Result<Key, jwks::Error> {
    jwks::parse(json!({"keys": [jwk]}).to_string().as_bytes(), Kinds::Public, |_, _| {}).map(|mut keys| keys.remove(0))
}

/// The token's nearest neighbours: one bit of header, payload or signature turned, at both ends and between.
fn neighbours(token: &str) -> Vec<String> {
    let parts: Vec<Vec<u8>> = token.split('.').map(decode).collect();
    let mut all = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let bits = part.len() * 8;
        for bit in (0..bits).step_by((bits / 24).max(1)).chain([bits - 1]) {
            let mut turned = parts.clone();
            turned[index][bit / 8] ^= 1 << (bit % 8);
            all.push(turned.iter().map(encode).collect::<Vec<_>>().join("."));
        }
    }
    all
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

/// A DER element.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        len @ 0..0x80 => vec![len as u8],
        len @ 0x80..0x100 => vec![0x81, len as u8],
        len => vec![0x82, (len >> 8) as u8, len as u8],
    };
    [&[tag], &length[..], content].concat()
}

/// A key of the test's choice that signs with HMAC.
fn secret(algorithm: Algorithm, kid: &str, secret: &[u8]) -> TestKey {
    TestKey { kid: kid.to_owned(), algorithm, pkcs8: secret.to_vec() }
}
