use super::*;
use crate::crypto::sign::{Signer, SigningKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::signature::Signer as _;

fn bytes(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

fn public(key: &SigningKey) -> DecodingKey {
    let jwk = serde_json::from_value(key.public_jwk().clone()).expect("a JWK");
    DecodingKey::from_jwk(&jwk).expect("a key")
}

fn point(key: &SigningKey) -> Vec<u8> {
    let member = |name: &str| bytes(key.public_jwk()[name].as_str().expect("a member"));
    [vec![4], member("x"), member("y")].concat()
}

#[test]
fn rsa_keys_have_at_least_2048_bit() {
    // T9
    let size = |bits: usize| {
        let mut n = vec![0xff; bits / 8];
        n[0] = 0x80;
        VerifyingKey::new(Algorithm::RS256, &DecodingKey::from_rsa_raw_components(&n, &[1, 0, 1]))
    };
    for bits in [512, 1024, 2040, 8200] {
        assert!(matches!(size(bits), Err(Error::RsaSize { bits: seen }) if seen == bits), "{bits}");
    }
    for bits in [2048, 3072, 4096, 8192] {
        assert!(size(bits).is_ok(), "{bits}");
    }
    let mut padded = vec![0u8; 129];
    padded.extend_from_slice(&[0xff; 128]);
    let padded = DecodingKey::from_rsa_raw_components(&padded, &[3]);
    assert!(matches!(VerifyingKey::new(Algorithm::RS256, &padded), Err(Error::RsaSize { bits: 1024 })));
}

#[test]
fn rsa_exponents_are_odd_and_bounded() {
    let n = [0xff; 256];
    for (e, good) in
        [(&[1, 0, 1][..], true), (&[3], true), (&[1], false), (&[4], false), (&[], false), (&[1; 9], false)]
    {
        let key = DecodingKey::from_rsa_raw_components(&n, e);
        assert_eq!(VerifyingKey::new(Algorithm::PS256, &key).is_ok(), good, "{e:?}");
    }
}

#[test]
fn points_off_the_curve_are_not_loaded() {
    // T10
    for (algorithm, len) in [(Algorithm::ES256, 65), (Algorithm::ES384, 97)] {
        let good = point(&SigningKey::generate(algorithm).expect("a key"));
        assert!(VerifyingKey::new(algorithm, &DecodingKey::from_ec_der(&good)).is_ok());
        let mut off = good.clone();
        off[len - 1] ^= 1;
        let mut compressed = good.clone();
        compressed[0] = 2;
        for bad in [off, compressed, good[..len - 1].to_vec(), [&good[..], &[0]].concat(), vec![0; len], vec![]] {
            assert!(VerifyingKey::new(algorithm, &DecodingKey::from_ec_der(&bad)).is_err());
        }
    }
    for (len, good) in [(32, true), (31, false), (33, false), (0, false), (64, false)] {
        assert_eq!(VerifyingKey::new(Algorithm::EdDSA, &DecodingKey::from_ed_der(&vec![7; len])).is_ok(), good);
    }
}

#[test]
fn a_key_serves_its_own_family_only() {
    // T4, T8: neither an RSA key as HMAC secret nor any other crossing.
    let rsa = DecodingKey::from_rsa_raw_components(&[0xff; 256], &[3]);
    let ec = DecodingKey::from_ec_der(&point(&SigningKey::generate(Algorithm::ES256).expect("a key")));
    for (algorithm, key) in [
        (Algorithm::HS256, &rsa),
        (Algorithm::ES256, &rsa),
        (Algorithm::EdDSA, &rsa),
        (Algorithm::HS256, &ec),
        (Algorithm::RS256, &ec),
        (Algorithm::ES384, &ec),
        (Algorithm::EdDSA, &ec),
    ] {
        assert!(VerifyingKey::new(algorithm, key).is_err(), "{algorithm:?}");
    }
}

#[test]
fn ecdsa_signatures_are_fixed_and_in_range() {
    // T11
    let order_p256 = bytes("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE");
    let order_p384 = bytes("________________________________x2NNgfQ3Ld9YGg2ySLCneuzsGWrMxSlz");
    for (algorithm, order) in [(Algorithm::ES256, order_p256), (Algorithm::ES384, order_p384)] {
        let pkcs8 = SigningKey::generate_pkcs8(algorithm).expect("a key");
        let verifying =
            VerifyingKey::new(algorithm, &public(&SigningKey::from_pkcs8(algorithm, &pkcs8).expect("a key")))
                .expect("a key");
        let good = Signer::new(algorithm, &pkcs8).expect("a key").try_sign(b"m").expect("a signature");
        let half = good.len() / 2;
        let (r, s) = (good[..half].to_vec(), good[half..].to_vec());
        let zero = vec![0; half];
        assert!(verifying.verify(b"m", &good).is_ok());
        let mut der = vec![0x30, (2 * half + 6) as u8, 2, (half + 1) as u8, 0];
        der.extend_from_slice(&r);
        der.extend_from_slice(&[2, (half + 1) as u8, 0]);
        der.extend_from_slice(&s);
        for (name, bad) in [
            ("r zero", [zero.clone(), s.clone()].concat()),
            ("s zero", [r.clone(), zero.clone()].concat()),
            ("both zero", [zero.clone(), zero.clone()].concat()),
            ("r is the order", [order.clone(), s.clone()].concat()),
            ("s is the order", [r.clone(), order.clone()].concat()),
            ("all ones", vec![0xff; 2 * half]),
            ("DER", der),
            ("one short", good[..2 * half - 1].to_vec()),
            ("one long", [good.clone(), vec![0]].concat()),
            ("the other curve's length", vec![1; if half == 32 { 96 } else { 64 }]),
        ] {
            assert!(verifying.verify(b"m", &bad).is_err(), "{algorithm:?} {name}");
        }
    }
}

#[test]
fn ed25519_s_is_canonical() {
    // T12: S + L is the same number modulo the order, and refused (RFC 8032, 5.1.7).
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let pkcs8 = SigningKey::generate_pkcs8(Algorithm::EdDSA).expect("a key");
    let key = SigningKey::from_pkcs8(Algorithm::EdDSA, &pkcs8).expect("a key");
    let verifying = VerifyingKey::new(Algorithm::EdDSA, &public(&key)).expect("a key");
    let good = Signer::new(Algorithm::EdDSA, &pkcs8).expect("a key").try_sign(b"m").expect("a signature");
    assert!(verifying.verify(b"m", &good).is_ok());
    let mut bad = good;
    let mut carry = 0u16;
    for (byte, add) in bad[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = carry as u8;
        carry >>= 8;
    }
    assert!(verifying.verify(b"m", &bad).is_err());
}

#[test]
fn spoiled_signatures_are_refused() {
    // T13
    let rsa = SigningKey::generate_pkcs8(Algorithm::RS256).expect("a key");
    for algorithm in [Algorithm::RS256, Algorithm::PS384, Algorithm::EdDSA, Algorithm::ES256] {
        let pkcs8 = match algorithm {
            Algorithm::RS256 | Algorithm::PS384 => rsa.clone(),
            _ => SigningKey::generate_pkcs8(algorithm).expect("a key"),
        };
        let key = SigningKey::from_pkcs8(algorithm, &pkcs8).expect("a key");
        let verifying = VerifyingKey::new(algorithm, &public(&key)).expect("a key");
        let good = Signer::new(algorithm, &pkcs8).expect("a key").try_sign(b"m").expect("a signature");
        assert!(verifying.verify(b"m", &good).is_ok());
        assert!(verifying.verify(b"n", &good).is_err());
        for bad in [vec![], good[..good.len() - 1].to_vec(), [good.clone(), vec![0]].concat(), vec![0; good.len()]] {
            assert!(verifying.verify(b"m", &bad).is_err(), "{algorithm:?}");
        }
        for bit in (0..good.len() * 8).step_by(97) {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(verifying.verify(b"m", &flipped).is_err(), "{algorithm:?} bit {bit}");
        }
    }
}

#[test]
fn rsa_padding_schemes_do_not_mix() {
    // T6
    let pkcs8 = SigningKey::generate_pkcs8(Algorithm::RS256).expect("a key");
    let key = public(&SigningKey::from_pkcs8(Algorithm::RS256, &pkcs8).expect("a key"));
    let algorithms =
        [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
    for signed in algorithms {
        let signature = Signer::new(signed, &pkcs8).expect("a key").try_sign(b"m").expect("a signature");
        for verified in algorithms {
            let good = VerifyingKey::new(verified, &key).expect("a key").verify(b"m", &signature).is_ok();
            assert_eq!(good, signed == verified, "{signed:?} as {verified:?}");
        }
    }
}
