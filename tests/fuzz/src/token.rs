//! Tokens and key sets: nothing is accepted without its signature, and nothing that two readers read in two ways.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge_user::reason::Reason;
use edge_user::token::cache::VerdictCache;
use edge_user::token::introspection::Extras;
use edge_user::token::jwks::Kinds;
use edge_user::token::jws::{self, Jws, Shape};
use edge_user::token::{Ask, Issuers, Judgement, Now, Progress, Settings, Validator, claims, jwks};
use jsonwebtoken::Algorithm;
use jsonwebtoken::signature::Verifier as _;
use ring::hmac;

use super::{first_line, json};

const SECRET: &[u8] = b"a secret of 32 bytes for testing";
const ISSUER: &str = "https://issuer.example";
const NOW: Now = Now { unix_ms: 1_700_000_000_000 };

/// A token as a client sends it.
pub fn jws(data: &[u8]) {
    let signed = check_form(data);
    let verified = judge(data);
    let proven = signed.is_some_and(|(signed, signature)| {
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed, &signature).is_ok()
    });
    assert!(verified.is_err() || proven, "accepted without a signature");
}

/// A header and, behind the first line end, a payload: signed here, so that what comes after the signature is reached.
pub fn claims(data: &[u8]) {
    let (header, payload) = first_line(data);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    let token = |signature: &[u8]| format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into_bytes();
    let good = token(tag.as_ref());
    check_form(&good);
    if let Ok(facts) = claims::Facts::parse(payload.to_vec(), "") {
        json::read(payload);
        assert!(facts.exp_ms().is_none_or(|exp| exp > 0));
        assert_eq!(facts.json(), std::str::from_utf8(payload).expect("UTF-8").trim_matches([' ', '\t', '\r', '\n']));
        let _ = (facts.is_bound(), facts.is_id_token(&["client"]), facts.bytes());
    }
    let verdict = judge(&good);
    if verdict != Ok(()) {
        return;
    }
    let (Some(header), Some(payload)) = (json::read(header), json::read(payload)) else { return };
    assert_eq!(header["alg"], "HS256");
    assert_eq!(payload["iss"], ISSUER);
    let seconds = payload["exp"].as_f64().expect("a number");
    assert!(seconds * 1000.0 > NOW.unix_ms as f64, "expired at {seconds}");
    assert!(
        payload.get("nbf").is_none_or(|nbf| nbf.as_f64().expect("a number") * 1000.0 < NOW.unix_ms as f64 + 1000.0)
    );
    for wrong in [&[][..], &[0; 32], &tag.as_ref()[1..], &[tag.as_ref(), &[0]].concat()] {
        assert!(judge(&token(wrong)).is_err(), "accepted with another signature");
    }
    for at in 0..tag.as_ref().len() {
        let mut wrong = tag.as_ref().to_vec();
        wrong[at] ^= 1 << (at % 8);
        assert!(judge(&token(&wrong)).is_err(), "accepted with another signature");
    }
}

/// A key set as an issuer sends it.
pub fn jwks(data: &[u8]) {
    let mut skipped = 0;
    let Ok(keys) = jwks::parse(data, Kinds::Public, |_, _| skipped += 1) else { return };
    let document: serde_json::Value = serde_json::from_slice(data).expect("an accepted set is JSON");
    let listed = document["keys"].as_array().expect("an accepted set has a list");
    assert_eq!(listed.len(), keys.len() + skipped, "every key is taken or named");
    assert!((1..=jwks::MAX_KEYS).contains(&keys.len()));
    for key in &keys {
        let fits = |jwk: &&serde_json::Value| jwk.get("kid").and_then(|kid| kid.as_str()) == key.kid();
        let jwk = listed.iter().find(fits).expect("a key has the `kid` it came with");
        assert!(listed.iter().filter(fits).count() > 1 || jwk["kty"] != "oct", "a secret that everyone knows");
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert!(key.verifier(algorithm).is_none(), "a public key verifies no HMAC");
        }
        use Algorithm::{ES256, ES384, EdDSA, PS256, RS256};
        for verifier in [RS256, PS256, ES256, ES384, EdDSA].into_iter().filter_map(|alg| key.verifier(alg)) {
            for length in [0, 64, 96, 256] {
                assert!(verifier.verify(b"message", &vec![0; length]).is_err(), "verified without a signature");
            }
        }
    }
}

/// What a token's form says, checked by hand: what is signed, and the signature.
fn check_form(token: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let shape = jws::shape(token);
    let Ok(parsed) = Jws::parse(token) else { return None };
    assert!(shape == Shape::Jws && token.len() <= jws::MAX_BYTES);
    let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    let [header, payload, signature] = parts[..] else { panic!("accepted in {} parts", parts.len()) };
    assert_eq!(parsed.signed, &token[..header.len() + 1 + payload.len()]);
    let header = decode(header).expect("an accepted header is base64url");
    if let Some(header) = json::read(&header) {
        assert_eq!(header["alg"], format!("{:?}", parsed.algorithm), "`alg` reads in two ways");
        assert_eq!(header.get("kid").map(|kid| kid.as_str().expect("a string")), parsed.kid.as_deref());
        for never in ["crit", "enc", "zip"] {
            assert!(header.get(never).is_none(), "`{never}` is not understood");
        }
    }
    assert_eq!(parsed.payload().ok(), decode(payload));
    assert_eq!(parsed.signature().ok(), decode(signature));
    Some((parsed.signed, parsed.signature().ok()?))
}

/// base64url that is spelled in its one way.
fn decode(part: &[u8]) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    (URL_SAFE_NO_PAD.encode(&bytes).as_bytes() == part).then_some(bytes)
}

/// The verdict, which is the same without a cache, with one, and from it.
fn judge(token: &[u8]) -> Result<(), Reason> {
    let settings = Settings {
        resigning: None,
        issuers: Issuers::Listed(vec![ISSUER.to_owned()]),
        algorithms: vec![Algorithm::HS256],
        hs_secrets: vec![SECRET.to_vec()],
        verify_signature: true,
        verify_claims: true,
        leeway: Duration::ZERO,
        types: vec!["".into(), "jwt".into(), "at+jwt".into()],
        ttl_without_exp: Duration::from_secs(3600),
        ttl_max: None,
    };
    let validator = Validator::new(settings, None, None).expect("a good secret");
    let verdict = |cache: &edge_user::token::cache::LocalCache| {
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let ask = Ask { token, now: NOW, source, extras: &Extras::default(), observer: Default::default() };
        match validator.judge(cache, ask, Progress::First) {
            Judgement::Verified(_) => Ok(()),
            Judgement::Refused(refused) => Err(refused.reason),
            Judgement::Wait(_) => panic!("there are no keys to wait for"),
        }
    };
    let fresh = verdict(&VerdictCache::new(0).local());
    let cached = VerdictCache::new(1 << 16).local();
    for _ in 0..3 {
        assert_eq!(verdict(&cached), fresh, "the cache changes the verdict");
    }
    fresh
}
