//! JWK: which keys of a set may verify, and what for (RFC 7517; RFC 7518, 6).

use super::*;

/// A good key with members set; `null` as a value stays, "-" removes.
fn with(mut jwk: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        if value == "-" {
            jwk.as_object_mut().expect("an object").remove(name);
        } else {
            jwk[name] = value.clone();
        }
    }
    jwk
}

/// The algorithms that a key verifies.
fn serves(jwk: &Value) -> Vec<Algorithm> {
    let key = key(jwk);
    ALGORITHMS
        .into_iter()
        .filter(|algorithm| key.as_ref().is_ok_and(|key| key.verifier(*algorithm).is_some()))
        .collect()
}

#[test]
fn use_key_ops_and_alg_bind_a_key() {
    // T6, T7, T8
    use Algorithm::{ES256, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let rsa = with(TestKey::new(RS256, "k").jwk(), json!({"alg": "-", "use": "-"}));
    let (ec, ed) = (TestKey::new(ES256, "k").jwk(), TestKey::new(EdDSA, "k").jwk());
    let all = vec![RS256, RS384, RS512, PS256, PS384, PS512];
    for (changes, expected) in [
        (json!({}), all.clone()),
        (json!({"use": "sig"}), all.clone()),
        (json!({"key_ops": ["verify"]}), all.clone()),
        (json!({"key_ops": ["sign", "verify"]}), all.clone()),
        (json!({"use": "sig", "key_ops": ["verify"], "alg": "RS256"}), vec![RS256]),
        (json!({"alg": "PS512"}), vec![PS512]),
        (json!({"use": "enc"}), vec![]),
        (json!({"use": "SIG"}), vec![]),
        (json!({"use": ""}), vec![]),
        (json!({"use": null}), vec![]),
        (json!({"use": ["sig"]}), vec![]),
        (json!({"use": "sig", "key_ops": ["sign"]}), vec![]),
        (json!({"use": "enc", "key_ops": ["verify"]}), vec![]),
        (json!({"key_ops": []}), vec![]),
        (json!({"key_ops": ["encrypt", "wrapKey"]}), vec![]),
        (json!({"key_ops": "verify"}), vec![]),
        (json!({"key_ops": ["Verify"]}), vec![]),
        (json!({"key_ops": [["verify"]]}), vec![]),
        (json!({"key_ops": null}), vec![]),
        (json!({"alg": "RSA-OAEP-256"}), vec![]),
        (json!({"alg": "RSA1_5"}), vec![]),
        (json!({"alg": "rs256"}), vec![]),
        (json!({"alg": ""}), vec![]),
        (json!({"alg": "none"}), vec![]),
        (json!({"alg": null}), vec![]),
        (json!({"alg": ["RS256"]}), vec![]),
        (json!({"alg": "HS256"}), vec![]),
        (json!({"alg": "ES256"}), vec![]),
        (json!({"kty": "rsa"}), vec![]),
        (json!({"kty": "oct"}), vec![]),
        (json!({"kty": "EC"}), vec![]),
        (json!({"kty": "-"}), vec![]),
        (json!({"kty": 1}), vec![]),
        (json!({"kid": 1}), vec![]),
        (json!({"kid": null}), vec![]),
    ] {
        assert_eq!(serves(&with(rsa.clone(), changes.clone())), expected, "{changes}");
    }
    assert_eq!(serves(&with(ec.clone(), json!({"alg": "-"}))), [ES256]);
    assert!(serves(&with(ec, json!({"alg": "ES384"}))).is_empty());
    assert_eq!(serves(&with(ed.clone(), json!({"alg": "-"}))), [EdDSA]);
    assert!(serves(&with(ed, json!({"alg": "ES256"}))).is_empty());
}

#[test]
fn secrets_in_a_set_verify_nothing() {
    // T5
    let k = encode([7; 64]);
    for jwk in [
        json!({"kty": "oct", "k": k}),
        json!({"kty": "oct", "k": k, "alg": "HS256", "use": "sig", "key_ops": ["verify"], "kid": "k"}),
        json!({"kty": "oct", "k": k, "alg": "RS256"}),
        json!({"kty": "oct", "k": "", "alg": "HS512"}),
        json!({"kty": "oct", "k": k, "n": encode([0xff; 256]), "e": "AQAB"}),
        json!({"kty": "OCT", "k": k}),
    ] {
        assert!(serves(&jwk).is_empty(), "{jwk}");
    }
}

#[test]
fn moduli_and_exponents_are_those_of_real_keys() {
    // T9: RFC 7518, 3.3; the neighbours of each bound.
    let modulus = |bits: usize| {
        let mut n = vec![0xff; bits.div_ceil(8)];
        n[0] >>= n.len() * 8 - bits;
        n
    };
    let rsa = |n: &[u8], e: &[u8]| json!({"kty": "RSA", "alg": "RS256", "n": encode(n), "e": encode(e)});
    for (bits, good) in [
        (512, false),
        (1023, false),
        (1024, false),
        (2047, false),
        (2048, true),
        (3072, true),
        (4096, true),
        (8192, true),
        (8193, false),
        (16384, false),
    ] {
        assert_eq!(key(&rsa(&modulus(bits), &[1, 0, 1])).is_ok(), good, "{bits} bit");
        // Leading zeros make no key longer.
        let padded = [&vec![0; 128][..], &modulus(bits)].concat();
        assert_eq!(key(&rsa(&padded, &[1, 0, 1])).is_ok(), good, "{bits} bit and zeros");
    }
    let n = modulus(2048);
    let mut even = n.clone();
    even[255] ^= 1;
    for (name, n, e) in [
        ("an even modulus", &even[..], &[1, 0, 1][..]),
        ("no modulus", &[], &[1, 0, 1]),
        ("a modulus of zeros", &[0; 256], &[1, 0, 1]),
        ("e 0", &n, &[0]),
        ("e 1", &n, &[1]),
        ("e 1 with zeros", &n, &[0, 0, 1]),
        ("e 2", &n, &[2]),
        ("e 65536", &n, &[1, 0, 0]),
        ("no e", &n, &[]),
        ("e of 34 bit", &n, &[2, 0, 0, 0, 1]),
        ("e as long as n", &n, &n),
    ] {
        assert!(key(&rsa(n, e)).is_err(), "{name}");
    }
    for e in [&[3][..], &[17], &[1, 0, 1], &[0, 1, 0, 1], &[1, 0xff, 0xff, 0xff, 0xff]] {
        assert!(key(&rsa(&n, e)).is_ok(), "e {e:?}");
    }
    let good = rsa(&n, &[1, 0, 1]);
    for changes in [
        json!({"n": "-"}),
        json!({"e": "-"}),
        json!({"n": 1}),
        json!({"e": 65537}),
        json!({"e": "65537!"}),
        json!({"n": format!("{} ", encode(&n))}),
        json!({"n": base64::engine::general_purpose::STANDARD.encode(&n)}),
        json!({"e": "AQ%41B"}),
    ] {
        assert!(key(&with(good.clone(), changes.clone())).is_err(), "{changes}");
    }
    assert!(key(&good).is_ok());
}

#[tokio::test]
async fn two_keys_of_one_kid_serve_each_their_own() {
    // K6, T8, T21: never "either type fits", and a bad key beside a good one of its `kid` takes nothing away.
    let (ec, ed) = (TestKey::new(Algorithm::ES256, "same"), TestKey::new(Algorithm::EdDSA, "same"));
    let second = TestKey::new(Algorithm::ES256, "same");
    let stranger = TestKey::new(Algorithm::ES256, "same");
    let bad = with(stranger.jwk(), json!({"use": "enc"}));
    let bench = bench(&[bad, ec.jwk(), ed.jwk(), second.jwk()], &[]).await;
    let payload = String::from_utf8(decode(JOE)).expect("UTF-8");
    for (key, alg, expected) in [
        (&ec, "ES256", Ok(())),
        (&second, "ES256", Ok(())),
        (&ed, "EdDSA", Ok(())),
        (&stranger, "ES256", Err(Reason::SignatureInvalid)),
        (&ec, "EdDSA", Err(Reason::SignatureInvalid)),
        (&ed, "ES256", Err(Reason::SignatureInvalid)),
        (&ec, "ES384", Err(Reason::AlgNotAllowed)),
    ] {
        let header = json!({"alg": alg, "kid": "same"}).to_string();
        assert_eq!(verdict(&bench, &key.mint_raw(&header, &payload)).await, expected, "{alg}");
    }
}
