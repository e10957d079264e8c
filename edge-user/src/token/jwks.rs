//! Key sets (RFC 7517): parsing, and the choice of the keys that may verify a token. Fetching is `keys`'s.

use crate::crypto;
use crate::crypto::sign::thumbprint;
use crate::crypto::verify::VerifyingKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Bytes of a key set or discovery document.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Keys of one set.
pub const MAX_KEYS: usize = 100;
/// Keys that are tried for one token: those without `kid` of fitting type, or several of one `kid`.
pub const MAX_CANDIDATES: usize = 4;

/// Why a set, or one key of it, was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a JSON object with an array `keys`.
    #[error("not a JWK set")]
    NotASet,
    /// More than `MAX_KEYS`.
    #[error("the set has {0} keys, more than {MAX_KEYS}")]
    TooMany(usize),
    /// No key can verify anything.
    #[error("the set has no usable key")]
    Empty,
    /// A member is missing or malformed.
    #[error("member `{0}` is missing or malformed")]
    Member(&'static str),
    /// `use` or `key_ops` says that the key verifies nothing.
    #[error("the key is not for verifying signatures")]
    Purpose,
    /// Symmetric keys, unknown types, curves and algorithms.
    #[error("the key's type or algorithm is not supported")]
    Unsupported,
    /// The key itself is unusable.
    #[error(transparent)]
    Key(#[from] crypto::Error),
}

/// Which keys of a set verify anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kinds {
    /// Public ones: a secret that stands in a set is known to whoever reads it (T5).
    #[default]
    Public,
    /// Secrets too, for HS algorithms: the operator says that nobody else reads the set.
    PublicAndSecret,
}

/// One key, usually public: a verifier for every algorithm it may be used with.
pub struct Key {
    kid: Option<Box<str>>,
    identity: [u8; 32],
    verifiers: Vec<VerifyingKey>,
    /// Its public members as JSON.
    jwk: Box<str>,
}

impl Key {
    /// Hash over `kid`, RFC 7638 thumbprint and algorithms: what a cached verdict remembers of its key.
    pub fn identity(&self) -> &[u8; 32] {
        &self.identity
    }

    /// The key's `kid`.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The key as a JWK (RFC 7517): its public members alone, whatever its issuer published beside them.
    pub fn jwk(&self) -> &str {
        &self.jwk
    }

    /// The verifier for an algorithm.
    pub fn verifier(&self, algorithm: Algorithm) -> Option<&VerifyingKey> {
        self.verifiers.iter().find(|verifier| verifier.algorithm() == algorithm)
    }

    /// Reads one key.
    pub(super) fn parse(jwk: &Value, kinds: Kinds) -> Result<Self, Error> {
        let text = |name: &'static str| jwk.get(name).and_then(Value::as_str).ok_or(Error::Member(name));
        let kid: Option<Box<str>> = match jwk.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(Box::from(kid.as_str())),
            Some(_) => return Err(Error::Member("kid")),
        };
        if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
            return Err(Error::Purpose);
        }
        if let Some(operations) = jwk.get("key_ops")
            && !operations.as_array().is_some_and(|list| list.iter().any(|operation| operation == "verify"))
        {
            return Err(Error::Purpose);
        }
        let stated = match jwk.get("alg") {
            None => None,
            Some(alg) => {
                let alg = alg.as_str().ok_or(Error::Member("alg"))?;
                Some(Algorithm::from_str(alg).map_err(|_| Error::Unsupported)?)
            }
        };
        let (fitting, key): (&[Algorithm], _) = match text("kty")? {
            "RSA" => {
                let key = DecodingKey::from_rsa_raw_components(&number(text("n")?, "n")?, &number(text("e")?, "e")?);
                (AlgorithmFamily::Rsa.algorithms(), key)
            }
            "EC" => {
                let (algorithm, len): (&[Algorithm], _) = match text("crv")? {
                    "P-256" => (&[Algorithm::ES256], 32),
                    "P-384" => (&[Algorithm::ES384], 48),
                    _ => return Err(Error::Unsupported),
                };
                let (x, y) = (number(text("x")?, "x")?, number(text("y")?, "y")?);
                // RFC 7518, 6.2.1.2: coordinates have the curve's full length.
                if x.len() != len || y.len() != len {
                    return Err(Error::Member("x"));
                }
                (algorithm, DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
            }
            "OKP" if text("crv")? == "Ed25519" => {
                let x = number(text("x")?, "x")?;
                if is_small_order(&x) {
                    return Err(Error::Member("x"));
                }
                (AlgorithmFamily::Ed.algorithms(), DecodingKey::from_ed_der(&x))
            }
            "oct" if kinds == Kinds::PublicAndSecret => {
                let secret = Zeroizing::new(number(text("k")?, "k")?);
                // RFC 7518, 3.2: a key is no shorter than its algorithm's hash.
                let fitting = match secret.len() {
                    64.. => AlgorithmFamily::Hmac.algorithms(),
                    48.. => &[Algorithm::HS256, Algorithm::HS384],
                    32.. => &[Algorithm::HS256],
                    _ => return Err(Error::Member("k")),
                };
                (fitting, DecodingKey::from_secret(&secret))
            }
            _ => return Err(Error::Unsupported),
        };
        let mut verifiers = Vec::new();
        for algorithm in fitting.iter().filter(|algorithm| stated.is_none_or(|stated| stated == **algorithm)) {
            verifiers.push(VerifyingKey::new(*algorithm, &key)?);
        }
        if verifiers.is_empty() {
            return Err(Error::Unsupported);
        }
        let print = match text("kty")? {
            "oct" => crypto::sha256(text("k")?.as_bytes()),
            _ => thumbprint(jwk).ok_or(Error::Member("kty"))?,
        };
        let mut identity = print.to_vec();
        identity.extend(verifiers.iter().map(|verifier| verifier.algorithm() as u8));
        identity.push(u8::from(kid.is_some()));
        identity.extend_from_slice(kid.as_deref().unwrap_or_default().as_bytes());
        Ok(Self { kid, identity: crypto::sha256(&identity), verifiers, jwk: public(jwk) })
    }
}

fn public(jwk: &Value) -> Box<str> {
    const MEMBERS: [&str; 9] = ["kty", "use", "alg", "kid", "n", "e", "crv", "x", "y"];
    let members = MEMBERS.iter().filter_map(|name| Some(((*name).to_owned(), jwk.get(name)?.clone())));
    Value::Object(members.collect()).to_string().into()
}

/// Whether this is one of the points of Ed25519 under which a signature of zeros can verify (RFC 8032, 8.4; T10).
fn is_small_order(x: &[u8]) -> bool {
    const HIGH: [u8; 30] = [0xff; 30];
    const ORDER_8: [&[u8]; 2] = [
        b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
        b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
    ];
    let [first, middle @ .., last] = x else { return false };
    // The top bit is the sign of the other coordinate.
    match (first, last & 0x7f) {
        (0 | 1, 0) => middle.iter().all(|byte| *byte == 0),
        (0xec..=0xee, 0x7f) if middle == HIGH => true,
        (_, last) => ORDER_8.iter().any(|y| y[..1] == [*first] && y[1..31] == *middle && y[31] == last),
    }
}

/// Padding is against RFC 7518, 2, but issuers write it; it changes nothing.
fn number(text: &str, name: &'static str) -> Result<Vec<u8>, Error> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| Error::Member(name))
}

/// Parses a set's JSON. Unusable keys are left out and named to `skipped`; the others serve.
pub fn parse(json: &[u8], kinds: Kinds, mut skipped: impl FnMut(Option<&str>, &Error)) -> Result<Vec<Key>, Error> {
    let document: Value = serde_json::from_slice(json).map_err(|_| Error::NotASet)?;
    let list = document.get("keys").and_then(Value::as_array).ok_or(Error::NotASet)?;
    if list.len() > MAX_KEYS {
        return Err(Error::TooMany(list.len()));
    }
    let mut keys = Vec::with_capacity(list.len());
    for jwk in list {
        match Key::parse(jwk, kinds) {
            Ok(key) => keys.push(key),
            Err(error) => skipped(jwk.get("kid").and_then(Value::as_str), &error),
        }
    }
    if keys.is_empty() { Err(Error::Empty) } else { Ok(keys) }
}

/// What a token's `kid` and algorithm lead to.
pub enum Choice<'a> {
    /// Keys to try, in the set's order.
    Keys(Vec<&'a Key>),
    /// The set has no key of this `kid` (or, without `kid`, none of fitting type).
    Unknown,
    /// Keys of this `kid` exist, but for other algorithms.
    AlgorithmDiffers,
}

/// The keys in force for one source, immutable.
#[derive(Default)]
pub struct KeySet {
    /// The keys in the order of their URLs.
    pub keys: Vec<std::sync::Arc<Key>>,
    /// The discovered issuer, exactly as its document spells it.
    pub issuer: Option<Box<str>>,
    /// Grows with every change of the keys or the issuer; 0 is "nothing yet".
    pub epoch: u64,
}

impl KeySet {
    /// Chooses by `kid` byte for byte, then by algorithm. A token without `kid` is tried with at most
    /// `MAX_CANDIDATES` keys of fitting type; so is one whose `kid` several fitting keys carry.
    pub fn choose(&self, kid: Option<&str>, algorithm: Algorithm) -> Choice<'_> {
        let mut known = false;
        let mut keys = Vec::new();
        for key in &self.keys {
            if kid.is_some() && key.kid() != kid {
                continue;
            }
            known = true;
            if key.verifier(algorithm).is_some() && keys.len() < MAX_CANDIDATES {
                keys.push(&**key);
            }
        }
        match (keys.is_empty(), known && kid.is_some()) {
            (false, _) => Choice::Keys(keys),
            (true, true) => Choice::AlgorithmDiffers,
            (true, false) => Choice::Unknown,
        }
    }

    /// Whether a key of this identity is in force.
    pub fn contains(&self, identity: &[u8; 32]) -> bool {
        self.keys.iter().any(|key| key.identity() == identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sign::SigningKey;
    use serde_json::json;

    fn jwk(algorithm: Algorithm, kid: &str) -> Value {
        let mut jwk = SigningKey::generate(algorithm).expect("a key").public_jwk().clone();
        jwk["kid"] = json!(kid);
        jwk.as_object_mut().expect("an object").remove("alg");
        jwk
    }

    fn set(keys: &[Value]) -> Result<KeySet, Error> {
        let keys = parse(json!({"keys": keys}).to_string().as_bytes(), Kinds::Public, |_, _| {})?;
        Ok(KeySet { keys: keys.into_iter().map(std::sync::Arc::new).collect(), ..KeySet::default() })
    }

    fn with(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk[name] = value;
        jwk
    }

    fn serves(set: &KeySet, kid: Option<&str>, algorithm: Algorithm) -> usize {
        match set.choose(kid, algorithm) {
            Choice::Keys(keys) => keys.len(),
            _ => 0,
        }
    }

    #[test]
    fn the_key_says_which_algorithm() {
        // T6, T8
        let rsa = jwk(Algorithm::RS256, "a");
        let all = set(std::slice::from_ref(&rsa)).expect("a set");
        for algorithm in AlgorithmFamily::Rsa.algorithms() {
            assert_eq!(serves(&all, Some("a"), *algorithm), 1);
        }
        let one = set(&[with(rsa.clone(), "alg", json!("PS256"))]).expect("a set");
        assert_eq!(serves(&one, Some("a"), Algorithm::PS256), 1);
        for algorithm in [Algorithm::RS256, Algorithm::PS384, Algorithm::ES256, Algorithm::HS256, Algorithm::EdDSA] {
            assert!(matches!(one.choose(Some("a"), algorithm), Choice::AlgorithmDiffers), "{algorithm:?}");
        }
        for (key, alg) in [
            (rsa.clone(), json!("ES256")),
            (rsa.clone(), json!("HS256")),
            (rsa.clone(), json!("RSA-OAEP")),
            (rsa.clone(), json!("none")),
            (rsa, json!(1)),
            (jwk(Algorithm::ES256, "a"), json!("ES384")),
            (jwk(Algorithm::EdDSA, "a"), json!("ES256")),
        ] {
            assert!(set(&[with(key, "alg", alg.clone())]).is_err(), "{alg}");
        }
    }

    #[test]
    fn secrets_verify_hs_alone_and_only_where_they_may() {
        // T4, T5, T6; RFC 7518, 3.2: as long as the hash at least.
        use Algorithm::{HS256, HS384, HS512};
        let secret = |bytes: usize, alg: Value| {
            with(json!({"kty": "oct", "kid": "s", "k": URL_SAFE_NO_PAD.encode(vec![7; bytes])}), "alg", alg)
        };
        for (bytes, alg, expected) in [
            (31, json!(null), &[][..]),
            (32, json!("HS256"), &[HS256]),
            (47, json!("HS384"), &[]),
            (48, json!("HS384"), &[HS384]),
            (64, json!("HS512"), &[HS512]),
            (64, json!("RS256"), &[]),
        ] {
            let text = json!({"keys": [secret(bytes, alg.clone())]}).to_string();
            assert!(parse(text.as_bytes(), Kinds::Public, |_, _| {}).is_err());
            let keys = parse(text.as_bytes(), Kinds::PublicAndSecret, |_, _| {}).unwrap_or_default();
            let taken: Vec<Algorithm> = crate::crypto::ALGORITHMS
                .iter()
                .map(|(_, algorithm)| *algorithm)
                .filter(|algorithm| keys.iter().any(|key| key.verifier(*algorithm).is_some()))
                .collect();
            assert_eq!(taken, expected, "{bytes} {alg}");
            assert!(keys.iter().all(|key| !key.jwk().contains("\"k\"")), "a secret is shown to nobody");
        }
    }

    #[test]
    fn only_verification_keys_are_loaded() {
        // T5, T7, T9, T10
        let good = jwk(Algorithm::ES256, "good");
        let mut off = jwk(Algorithm::ES256, "bad");
        off["y"] = off["x"].clone();
        let bad = [
            json!({"kty": "oct", "kid": "bad", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "alg": "HS256"}),
            with(jwk(Algorithm::ES256, "bad"), "use", json!("enc")),
            with(jwk(Algorithm::ES256, "bad"), "use", json!(null)),
            with(jwk(Algorithm::ES256, "bad"), "key_ops", json!(["sign"])),
            with(jwk(Algorithm::ES256, "bad"), "key_ops", json!("verify")),
            with(jwk(Algorithm::ES256, "bad"), "kid", json!(1)),
            with(jwk(Algorithm::ES256, "bad"), "crv", json!("secp256k1")),
            with(jwk(Algorithm::ES256, "bad"), "x", json!("AA")),
            with(jwk(Algorithm::EdDSA, "bad"), "x", json!("AA")),
            with(jwk(Algorithm::EdDSA, "bad"), "crv", json!("X25519")),
            json!({"kty": "RSA", "kid": "bad", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0xff; 128])}),
            json!({"kty": "XYZ", "kid": "bad"}),
            json!({"kid": "bad"}),
            json!(1),
            off,
        ];
        for key in &bad {
            assert!(set(std::slice::from_ref(key)).is_err(), "{key}");
            // K6
            let mixed = set(&[key.clone(), good.clone()]).expect("the other key serves");
            assert_eq!(serves(&mixed, Some("good"), Algorithm::ES256), 1);
            assert!(matches!(mixed.choose(Some("bad"), Algorithm::ES256), Choice::Unknown));
        }
        assert!(set(&[with(good, "key_ops", json!(["verify"]))]).is_ok());
        let mut reasons = Vec::new();
        let text = json!({"keys": [bad[10], jwk(Algorithm::ES256, "good")]}).to_string();
        parse(text.as_bytes(), Kinds::Public, |kid, error| reasons.push(format!("{kid:?} {error}"))).expect("one key");
        assert_eq!(reasons, ["Some(\"bad\") the RSA key has 1024 bit; at least 2048 and at most 8192 are needed"]);
    }

    #[test]
    fn kid_is_compared_byte_for_byte() {
        // T19
        let keys = set(&[jwk(Algorithm::ES256, "key-1")]).expect("a set");
        let long = "k".repeat(10_000);
        for kid in ["KEY-1", "key-1 ", "key-1\0", "key", "", "../key-1", "' OR 1=1", "key-1\r\n", long.as_str()] {
            assert!(matches!(keys.choose(Some(kid), Algorithm::ES256), Choice::Unknown), "{kid:?}");
        }
        assert_eq!(serves(&keys, Some("key-1"), Algorithm::ES256), 1);
    }

    #[test]
    fn without_kid_fitting_keys_are_tried_up_to_a_bound() {
        // T21
        let mut keys: Vec<_> = (0..10).map(|n| jwk(Algorithm::ES256, &n.to_string())).collect();
        keys.push(jwk(Algorithm::EdDSA, "ed"));
        let keys = set(&keys).expect("a set");
        assert_eq!(serves(&keys, None, Algorithm::ES256), MAX_CANDIDATES);
        assert_eq!(serves(&keys, None, Algorithm::EdDSA), 1);
        assert!(matches!(keys.choose(None, Algorithm::RS256), Choice::Unknown));
    }

    #[test]
    fn one_kid_on_two_keys_is_tried_in_order_among_fitting_ones() {
        // K6
        let keys = [jwk(Algorithm::ES256, "a"), jwk(Algorithm::EdDSA, "a"), jwk(Algorithm::ES256, "a")];
        let keys = set(&keys).expect("a set");
        assert_eq!(serves(&keys, Some("a"), Algorithm::ES256), 2);
        assert_eq!(serves(&keys, Some("a"), Algorithm::EdDSA), 1);
        assert!(matches!(keys.choose(Some("a"), Algorithm::ES384), Choice::AlgorithmDiffers));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        // K5, K8
        let many: Vec<_> = (0..=MAX_KEYS).map(|_| json!({"kty": "oct"})).collect();
        let texts =
            ["", "<html>", "{\"keys\":[", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"x\"}]}"];
        for text in texts.into_iter().map(str::to_owned).chain([json!({"keys": many}).to_string()]) {
            assert!(parse(text.as_bytes(), Kinds::Public, |_, _| {}).is_err(), "{text:.40}");
        }
    }

    // T10
    #[test]
    fn ed25519_keys_of_small_order_are_not_loaded() {
        let key = |first: u8, middle: u8, last: u8| [&[first][..], &[middle; 30], &[last]].concat();
        for (x, small) in [
            (key(0, 0, 0), true),
            (key(0, 0, 0x80), true),
            (key(1, 0, 0), true),
            (key(0xec, 0xff, 0x7f), true),
            (key(0xee, 0xff, 0xff), true),
            (key(2, 0, 0), false),
            (key(0xeb, 0xff, 0x7f), false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_small_order(&x), small, "{x:?}");
        }
        for y in [
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        ] {
            let mut y: Vec<u8> =
                (0..32).map(|at| u8::from_str_radix(&y[2 * at..2 * at + 2], 16).expect("hex")).collect();
            assert!(is_small_order(&y), "order 8");
            y[31] |= 0x80;
            assert!(is_small_order(&y), "order 8, the other sign");
            y[0] ^= 1;
            assert!(!is_small_order(&y), "its neighbour");
        }
    }

    #[test]
    fn identity_changes_with_kid_key_and_algorithms() {
        let base = jwk(Algorithm::RS256, "a");
        let identity = |jwk: &Value| *set(std::slice::from_ref(jwk)).expect("a set").keys[0].identity();
        assert_eq!(identity(&base), identity(&with(base.clone(), "use", json!("sig"))));
        assert_ne!(identity(&base), identity(&with(base.clone(), "kid", json!("b"))));
        assert_ne!(identity(&base), identity(&with(base.clone(), "alg", json!("RS256"))));
        assert_ne!(identity(&base), identity(&jwk(Algorithm::RS256, "a")));
    }
}
