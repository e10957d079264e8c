//! Ed25519: the signature's `S`, points of small order, lengths (RFC 8032, 5.1.7; RFC 8037, 2).

use super::*;

/// The group's order, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];
const HEADER: &str = "{\"alg\":\"EdDSA\",\"kid\":\"k\"}";

/// Adds the order `times` times; nothing where the sum has more than 32 bytes.
fn plus_order(number: &[u8], times: usize) -> Option<Vec<u8>> {
    (0..times).try_fold(number.to_vec(), |mut sum, _| {
        let mut carry = 0;
        for (digit, add) in sum.iter_mut().zip(ORDER) {
            carry += u16::from(*digit) + u16::from(add);
            *digit = carry as u8;
            carry >>= 8;
        }
        (carry == 0).then_some(sum)
    })
}

/// Encodings of the points of small order, canonical and not (RFC 7748, 6; RFC 8032, 5.1.3).
fn small_order() -> Vec<Vec<u8>> {
    let simple = |first: u8, middle: u8, last: u8| [&[first][..], &[middle; 30], &[last]].concat();
    let order_8 = decode("JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU");
    let other_8 = decode("xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o");
    let signed = |mut point: Vec<u8>| {
        point[31] ^= 0x80;
        point
    };
    vec![
        simple(1, 0, 0),
        simple(1, 0, 0x80),
        simple(0, 0, 0),
        simple(0, 0, 0x80),
        simple(0xec, 0xff, 0x7f),
        simple(0xec, 0xff, 0xff),
        simple(0xed, 0xff, 0x7f),
        simple(0xed, 0xff, 0xff),
        simple(0xee, 0xff, 0x7f),
        simple(0xee, 0xff, 0xff),
        signed(order_8.clone()),
        order_8,
        signed(other_8.clone()),
        other_8,
    ]
}

#[tokio::test]
async fn signatures_are_canonical_and_whole() {
    // T12, T13
    let key = TestKey::new(Algorithm::EdDSA, "k");
    let bench = bench(&[key.jwk()], &[]).await;
    let good = {
        let token = key.mint_raw(HEADER, std::str::from_utf8(&decode(JOE)).expect("UTF-8"));
        decode(token.rsplit('.').next().expect("a signature"))
    };
    let (r, s) = (good[..32].to_vec(), good[32..].to_vec());
    let zero = vec![0; 32];
    let mut rows = vec![
        ("S is the order".to_owned(), [&r[..], &ORDER].concat()),
        ("S is zero".to_owned(), [&r[..], &zero].concat()),
        ("R is zero".to_owned(), [&zero[..], &s].concat()),
        ("all zero".to_owned(), vec![0; 64]),
        ("all ones".to_owned(), vec![0xff; 64]),
        ("S all ones".to_owned(), [&r[..], &[0xff; 32]].concat()),
        ("swapped".to_owned(), [&s[..], &r].concat()),
        ("R twice".to_owned(), [&r[..], &r].concat()),
        ("R of the other sign".to_owned(), {
            let mut turned = good.clone();
            turned[31] ^= 0x80;
            turned
        }),
        ("S in big-endian".to_owned(), r.iter().chain(s.iter().rev()).copied().collect()),
        ("R alone".to_owned(), r.clone()),
        ("cut short".to_owned(), good[..63].to_vec()),
        ("a zero behind".to_owned(), [&good[..], &[0]].concat()),
        ("a zero before".to_owned(), [&[0], &good[..]].concat()),
        ("the message behind".to_owned(), [&good[..], signing_input(HEADER).as_bytes()].concat()),
        ("Ed448's length".to_owned(), [&good[..], &[0; 50]].concat()),
    ];
    for times in 1..=15 {
        if let Some(sum) = plus_order(&s, times) {
            rows.push((format!("S + {times} L"), [&r[..], &sum].concat()));
        }
    }
    assert!(rows.len() > 25, "S has many spellings in 256 bit");
    for (n, point) in small_order().into_iter().enumerate() {
        rows.push((format!("R of small order, {n}"), [&point[..], &s].concat()));
        rows.push((format!("R of small order, S zero, {n}"), [&point[..], &zero].concat()));
    }
    for (name, wrong) in rows {
        assert_eq!(verdict(&bench, &token(HEADER, |_| wrong)).await, Err(Reason::SignatureInvalid), "{name}");
    }
    assert_eq!(verdict(&bench, &token(HEADER, |_| good)).await, Ok(()));
}

#[test]
fn keys_of_small_order_or_another_length_or_curve_are_not_loaded() {
    // T10: under a key of small order one signature of zeros fits many messages.
    let jwk = |x: &[u8]| json!({"kty": "OKP", "crv": "Ed25519", "x": encode(x)});
    for point in small_order() {
        assert!(key(&jwk(&point)).is_err(), "{point:x?}");
        let mut neighbour = point;
        neighbour[5] ^= 4;
        assert!(key(&jwk(&neighbour)).is_ok(), "{neighbour:x?}");
    }
    let good = TestKey::new(Algorithm::EdDSA, "k").jwk();
    let x = decode(good["x"].as_str().expect("x"));
    for (name, wrong) in [
        ("one short", jwk(&x[..31])),
        ("one long", jwk(&[&x[..], &[0]].concat())),
        ("a zero before", jwk(&[&[0], &x[..]].concat())),
        ("empty", jwk(&[])),
        ("Ed448", json!({"kty": "OKP", "crv": "Ed448", "x": encode([9; 57])})),
        ("X25519", json!({"kty": "OKP", "crv": "X25519", "x": good["x"]})),
        ("no curve", json!({"kty": "OKP", "x": good["x"]})),
        ("as EC", json!({"kty": "EC", "crv": "Ed25519", "x": good["x"]})),
        ("lower case", json!({"kty": "okp", "crv": "Ed25519", "x": good["x"]})),
        ("x a list", json!({"kty": "OKP", "crv": "Ed25519", "x": [good["x"]]})),
    ] {
        assert!(key(&wrong).is_err(), "{name}");
    }
    assert!(key(&jwk(&x)).is_ok());
}

#[test]
fn a_key_that_is_no_point_verifies_nothing() {
    // T10: 2 is no point's y. Whether such a key loads is the backend's affair; a signature under it never verifies.
    let no_point = [&[2][..], &[0; 31]].concat();
    let Ok(key) = key(&json!({"kty": "OKP", "crv": "Ed25519", "x": encode(no_point)})) else { return };
    let verifier = key.verifier(Algorithm::EdDSA).expect("an Ed25519 key");
    for (r, s) in small_order().iter().zip(small_order().iter().rev()) {
        assert!(verifier.verify(b"message", &[&r[..], s].concat()).is_err());
        assert!(verifier.verify(b"message", &[&r[..], &[0; 32]].concat()).is_err());
    }
}
