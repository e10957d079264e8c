use super::*;
use crate::crypto::sign::SigningKey;
use serde_json::{Value as Json, json};

const NOW: Now = Now { unix_ms: 1_700_000_000_000 };
const TOKEN: &[u8] = b"some.access.token";
const RULES: Rules = Rules { lifetime_ms: 300_000, nonce: false };

fn target() -> Target<'static> {
    Target { method: b"POST", https: true, authority: b"api.example", path: b"/orders" }
}

fn claims() -> Json {
    json!({"jti": "one", "htm": "POST", "htu": "https://api.example/orders", "iat": NOW.unix_ms / 1000,
        "ath": URL_SAFE_NO_PAD.encode(crypto::sha256(TOKEN))})
}

fn public(key: &SigningKey) -> Json {
    let mut jwk = key.public_jwk().clone();
    for member in ["kid", "alg", "use"] {
        jwk.as_object_mut().expect("an object").remove(member);
    }
    jwk
}

fn header(key: &SigningKey) -> Json {
    json!({"typ": "dpop+jwt", "alg": key.algorithm(), "jwk": public(key)})
}

fn with(mut object: Json, name: &str, value: Json) -> Json {
    if value.is_null() {
        object.as_object_mut().expect("an object").remove(name);
    } else {
        object[name] = value;
    }
    object
}

fn proof(key: &SigningKey, header: &Json, claims: &Json) -> String {
    key.sign_parts(header.to_string().as_bytes(), claims.to_string().as_bytes()).expect("a proof")
}

fn judge_with(proof: &[u8], key: &SigningKey, rules: Rules, ledger: &Ledger, now: Now) -> Result<Proven, Fault> {
    check(proof, &target(), &Bound { token: TOKEN, jkt: key.kid() }, rules, ledger, now)
}

fn judge(proof: &str, key: &SigningKey) -> Option<Fault> {
    judge_with(proof.as_bytes(), key, RULES, &Ledger::default(), NOW).err()
}

const RFC_HEADER: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQy\
VVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19";
const RFC_JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

#[test]
fn the_rfcs_proof_for_a_protected_resource_holds() {
    // RFC 9449, figures 13 and 14; the thumbprint is that of figure 9 (section 6.1). S5
    let proof = format!(
        "{RFC_HEADER}.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2\
MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
    );
    let bound = Bound { token: b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU", jkt: RFC_JKT };
    let target =
        Target { method: b"GET", https: true, authority: b"resource.example.org", path: b"/protectedresource" };
    let at = Now { unix_ms: 1_562_262_618_000 };
    let judge = |bound: &Bound<'_>, target: &Target<'_>, at| {
        check(proof.as_bytes(), target, bound, RULES, &Ledger::default(), at).err()
    };
    assert_eq!(judge(&bound, &target, at), None);
    assert_eq!(judge(&Bound { token: b"another", ..bound }, &target, at), Some(Fault::Token));
    assert_eq!(judge(&Bound { jkt: "another", ..bound }, &target, at), Some(Fault::Thumbprint));
    assert_eq!(judge(&bound, &Target { method: b"POST", ..target }, at), Some(Fault::Method));
    assert_eq!(judge(&bound, &target, Now { unix_ms: at.unix_ms + 300_000 }), Some(Fault::Time));
}

#[test]
fn the_rfcs_proof_for_a_token_endpoint_is_for_no_token() {
    // RFC 9449, figures 2 and 4: no `ath`.
    let proof = format!(
        "{RFC_HEADER}.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.\
2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
    );
    let target = Target { method: b"POST", https: true, authority: b"server.example.com", path: b"/token" };
    let bound = Bound { token: b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU", jkt: RFC_JKT };
    let at = Now { unix_ms: 1_562_262_616_000 };
    let judged = check(proof.as_bytes(), &target, &bound, RULES, &Ledger::default(), at);
    assert_eq!(judged, Err(Fault::Claim));
}

#[test]
fn every_asymmetric_algorithm_proves() {
    for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256, Algorithm::PS256] {
        let key = SigningKey::generate(algorithm).expect("a key");
        assert_eq!(judge(&proof(&key, &header(&key), &claims()), &key), None, "{algorithm:?}");
    }
}

#[test]
fn one_fault_in_the_claims_is_one_too_many() {
    // S5
    let key = SigningKey::generate(Algorithm::ES256).expect("a key");
    let seconds = NOW.unix_ms / 1000;
    for (name, value, expected) in [
        ("jti", json!("another"), None),
        ("jti", json!("j".repeat(MAX_JTI_BYTES)), None),
        ("jti", json!("j".repeat(MAX_JTI_BYTES + 1)), Some(Fault::Claim)),
        ("jti", json!(""), Some(Fault::Claim)),
        ("jti", json!(1), Some(Fault::Claim)),
        ("jti", json!(null), Some(Fault::Claim)),
        ("htm", json!("GET"), Some(Fault::Method)),
        ("htm", json!("post"), Some(Fault::Method)),
        ("htm", json!(["POST"]), Some(Fault::Claim)),
        ("htm", json!(null), Some(Fault::Claim)),
        ("htu", json!("https://API.example:443/orders?page=2#x"), None),
        ("htu", json!("https://api.example/orders/1"), Some(Fault::Target)),
        ("htu", json!("http://api.example/orders"), Some(Fault::Target)),
        ("htu", json!("https://api.example.org/orders"), Some(Fault::Target)),
        ("htu", json!(null), Some(Fault::Claim)),
        ("iat", json!(seconds - 299), None),
        ("iat", json!(seconds - 300), Some(Fault::Time)),
        ("iat", json!(seconds + 10), None),
        ("iat", json!(seconds + 11), Some(Fault::Time)),
        ("iat", json!(seconds as f64 + 0.5), None),
        ("iat", json!(seconds.to_string()), Some(Fault::Claim)),
        ("iat", json!(1e300), Some(Fault::Claim)),
        ("iat", json!(-1), Some(Fault::Time)),
        ("iat", json!(null), Some(Fault::Claim)),
        ("exp", json!(seconds + 1), None),
        ("exp", json!(seconds - 10), Some(Fault::Time)),
        ("exp", json!("soon"), Some(Fault::Claim)),
        ("nbf", json!(seconds + 10), None),
        ("nbf", json!(seconds + 11), Some(Fault::Time)),
        ("ath", json!(URL_SAFE_NO_PAD.encode(crypto::sha256(b"another"))), Some(Fault::Token)),
        ("ath", json!(""), Some(Fault::Token)),
        ("ath", json!(null), Some(Fault::Claim)),
        ("nonce", json!("whatever"), None),
        ("more", json!({"a": [1]}), None),
    ] {
        let proof = proof(&key, &header(&key), &with(claims(), name, value.clone()));
        assert_eq!(judge(&proof, &key), expected, "{name} {value}");
    }
}

#[test]
fn one_fault_in_the_header_is_one_too_many() {
    // S5, T1, T5
    let key = SigningKey::generate(Algorithm::ES256).expect("a key");
    let other = SigningKey::generate(Algorithm::ES256).expect("a key");
    let rsa = SigningKey::generate(Algorithm::RS256).expect("a key");
    let jwk = public(&key);
    for (name, value, expected) in [
        ("typ", json!("DPoP+JWT"), None),
        ("typ", json!("application/dpop+jwt"), None),
        ("typ", json!("JWT"), Some(Fault::Malformed)),
        ("typ", json!("at+jwt"), Some(Fault::Malformed)),
        ("typ", json!(null), Some(Fault::Malformed)),
        ("alg", json!("none"), Some(Fault::Algorithm)),
        ("alg", json!("HS256"), Some(Fault::Algorithm)),
        ("alg", json!("ES384"), Some(Fault::Key)),
        ("alg", json!("RS256"), Some(Fault::Key)),
        ("alg", json!(null), Some(Fault::Algorithm)),
        ("crit", json!(["x"]), Some(Fault::Malformed)),
        ("kid", json!("some"), None),
        ("jwk", json!(null), Some(Fault::Key)),
        ("jwk", json!("text"), Some(Fault::Key)),
        ("jwk", json!([jwk]), Some(Fault::Key)),
        ("jwk", public(&other), Some(Fault::Thumbprint)),
        ("jwk", public(&rsa), Some(Fault::Thumbprint)),
        ("jwk", with(jwk.clone(), "kid", json!("any")), None),
        ("jwk", with(jwk.clone(), "alg", json!("ES256")), None),
        ("jwk", with(jwk.clone(), "alg", json!("ES384")), Some(Fault::Key)),
        ("jwk", with(jwk.clone(), "use", json!("enc")), Some(Fault::Key)),
        ("jwk", with(jwk.clone(), "d", json!("AA")), Some(Fault::Key)),
        ("jwk", with(jwk.clone(), "k", json!("AA")), Some(Fault::Key)),
        ("jwk", with(jwk.clone(), "x", json!("AA")), Some(Fault::Key)),
        ("jwk", with(jwk.clone(), "y", jwk["x"].clone()), Some(Fault::Key)),
        ("jwk", with(jwk.clone(), "y", json!(null)), Some(Fault::Key)),
        ("jwk", json!({"kty": "oct", "k": "AAAA"}), Some(Fault::Key)),
    ] {
        let proof = proof(&key, &with(header(&key), name, value.clone()), &claims());
        // Twice: what a thread keeps ready of keys changes nothing.
        for _ in 0..2 {
            assert_eq!(judge(&proof, &key), expected, "{name} {value}");
        }
    }
    for private in ["p", "q", "dp", "dq", "qi", "oth"] {
        let header = with(header(&rsa), "jwk", with(public(&rsa), private, json!("AA")));
        assert_eq!(judge(&proof(&rsa, &header, &claims()), &rsa), Some(Fault::Key), "{private}");
    }
    let twice = format!("{{\"typ\":\"dpop+jwt\",\"alg\":\"ES256\",\"jwk\":{jwk},\"jwk\":{}}}", public(&other));
    let proof = key.sign_parts(twice.as_bytes(), claims().to_string().as_bytes()).expect("a proof");
    assert_eq!(judge(&proof, &key), Some(Fault::Malformed));
}

#[test]
fn the_form_is_a_bounded_compact_jws() {
    let key = SigningKey::generate(Algorithm::ES256).expect("a key");
    let good = proof(&key, &header(&key), &claims());
    let long = |bytes: usize| {
        let padding = |count: usize| proof(&key, &header(&key), &with(claims(), "more", json!("x".repeat(count))));
        padding((bytes - padding(0).len()) * 3 / 4 - 1)
    };
    assert_eq!(judge(&long(MAX_BYTES), &key), None);
    assert_eq!(judge(&long(MAX_BYTES + 200), &key), Some(Fault::Malformed));
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    for text in ["", "a", "a.b", "..", signed, &format!("{good}.a"), &format!("{good}="), &format!("{good},{good}")] {
        assert_eq!(judge(text, &key), Some(Fault::Malformed), "{text}");
    }
    let stranger = SigningKey::generate(Algorithm::ES256).expect("a key");
    let forged = proof(&stranger, &header(&key), &claims());
    assert_eq!(judge(&forged, &key), Some(Fault::Signature));
    let cut = format!("{signed}.{}", &signature[..signature.len() - 2]);
    assert_eq!(judge(&cut, &key), Some(Fault::Signature));
    assert_eq!(judge(&good, &stranger), Some(Fault::Thumbprint));
}

#[test]
fn no_mutation_of_a_proof_is_accepted() {
    // S5
    let key = SigningKey::generate(Algorithm::ES256).expect("a key");
    let good = proof(&key, &header(&key), &claims()).into_bytes();
    let mut state = 0x5eed_u64;
    let mut random = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    const BASE64URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=";
    for round in 0..4_000 {
        let mut mutated = good.clone();
        for _ in 0..=random(3) {
            let at = random(mutated.len());
            match random(4) {
                0 => mutated[at] = BASE64URL[random(BASE64URL.len())],
                1 => drop(mutated.remove(at)),
                2 => mutated.insert(at, BASE64URL[random(BASE64URL.len())]),
                _ => {
                    let other = random(mutated.len());
                    mutated.swap(at, other);
                }
            }
        }
        let judged = judge_with(&mutated, &key, RULES, &Ledger::default(), NOW);
        assert!(judged.is_err() || mutated == good, "{round}: {}", String::from_utf8_lossy(&mutated));
    }
    assert!(judge_with(&good, &key, RULES, &Ledger::default(), NOW).is_ok());
}

#[test]
fn a_proof_is_used_once() {
    // S5
    let (key, other) = (SigningKey::generate(Algorithm::ES256), SigningKey::generate(Algorithm::EdDSA));
    let (key, other) = (key.expect("a key"), other.expect("a key"));
    let ledger = Ledger::default();
    let first = proof(&key, &header(&key), &claims());
    let judge = |proof: &str, key| judge_with(proof.as_bytes(), key, RULES, &ledger, NOW).err();
    assert_eq!(judge(&first, &key), None);
    assert_eq!(judge(&first, &key), Some(Fault::Replayed));
    // Signed anew, but of the same `jti`; another key's `jti` is its own.
    assert_eq!(judge(&proof(&key, &header(&key), &claims()), &key), Some(Fault::Replayed));
    assert_eq!(judge(&proof(&other, &header(&other), &claims()), &other), None);
    assert_eq!(judge(&proof(&key, &header(&key), &with(claims(), "jti", json!("two"))), &key), None);
    // A proof that was refused is not used up.
    let early = proof(&key, &header(&key), &with(claims(), "jti", json!("three")));
    let before = Now { unix_ms: NOW.unix_ms - 20_000 };
    assert_eq!(judge_with(early.as_bytes(), &key, RULES, &ledger, before), Err(Fault::Time));
    assert_eq!(judge(&early, &key), None);
    // Of many workers one takes it.
    let proof = proof(&key, &header(&key), &with(claims(), "jti", json!("four")));
    let passed = std::thread::scope(|scope| {
        let judges: Vec<_> = (0..8).map(|_| scope.spawn(|| judge(&proof, &key).is_none())).collect();
        judges.into_iter().filter_map(|judge| judge.join().ok()).filter(|passed| *passed).count()
    });
    assert_eq!(passed, 1);
}

#[test]
fn nonces_date_proofs_where_they_are_asked_for() {
    let key = SigningKey::generate(Algorithm::ES256).expect("a key");
    let rules = Rules { nonce: true, ..RULES };
    let ledger = Ledger::default();
    let nonce = ledger.nonce(rules, NOW);
    let judge = |claims: Json, after_ms: i64| {
        let proof = proof(&key, &header(&key), &claims);
        judge_with(proof.as_bytes(), &key, rules, &ledger, Now { unix_ms: NOW.unix_ms + after_ms })
    };
    let good = |jti: &str| with(with(claims(), "nonce", json!(nonce)), "jti", json!(jti));
    assert_eq!(judge(good("a"), 0), Ok(Proven { nonce_is_ageing: false }));
    assert_eq!(judge(good("a"), 0), Err(Fault::Replayed));
    assert_eq!(judge(good("b"), 150_000), Ok(Proven { nonce_is_ageing: true }));
    assert_eq!(judge(good("c"), 300_000), Err(Fault::Nonce));
    assert_eq!(judge(claims(), 0), Err(Fault::Nonce));
    assert_eq!(judge(with(good("d"), "nonce", json!(7)), 0), Err(Fault::Nonce));
    assert_eq!(judge(with(good("d"), "nonce", json!(Ledger::default().nonce(rules, NOW))), 0), Err(Fault::Nonce));
    // A clock that is minutes slow is what nonces are for; one ahead would keep room from those that are not.
    for (off_secs, expected) in [(-299, true), (59, true), (-301, false), (61, false)] {
        let iat = json!(NOW.unix_ms / 1000 + off_secs);
        let judged = judge(with(good(&format!("e{off_secs}")), "iat", iat), 0);
        assert_eq!(judged.is_ok(), expected, "{off_secs}");
    }
}
