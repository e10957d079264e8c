//! ECDSA on P-256 and P-384: the signature's range, form and length, and the key's point (RFC 7518, 3.4 and 6.2).

use super::*;

/// A curve, its order, its field's prime, and a key on it.
struct Curve {
    algorithm: Algorithm,
    name: &'static str,
    order: Vec<u8>,
    prime: Vec<u8>,
    key: TestKey,
}

fn curves() -> [Curve; 2] {
    [
        Curve {
            algorithm: Algorithm::ES256,
            name: "P-256",
            order: decode("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE"),
            prime: decode("_____wAAAAEAAAAAAAAAAAAAAAD_______________8"),
            key: TestKey::new(Algorithm::ES256, "k"),
        },
        Curve {
            algorithm: Algorithm::ES384,
            name: "P-384",
            order: decode("________________________________x2NNgfQ3Ld9YGg2ySLCneuzsGWrMxSlz"),
            prime: decode("__________________________________________7_____AAAAAAAAAAD_____"),
            key: TestKey::new(Algorithm::ES384, "k"),
        },
    ]
}

/// The difference of two numbers of one length, the first the larger.
fn subtract(a: &[u8], b: &[u8]) -> Vec<u8> {
    let (mut out, mut borrow) = (vec![0; a.len()], 0);
    for at in (0..a.len()).rev() {
        let digit = 256 + i32::from(a[at]) - i32::from(b[at]) - borrow;
        (out[at], borrow) = (digit as u8, i32::from(digit < 256));
    }
    out
}

/// A number of one more.
fn next(number: &[u8]) -> Vec<u8> {
    let mut out = number.to_vec();
    for digit in out.iter_mut().rev() {
        *digit = digit.wrapping_add(1);
        if *digit != 0 {
            break;
        }
    }
    out
}

/// A DER `INTEGER` of an unsigned number.
fn integer(number: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = number.iter().copied().skip_while(|digit| *digit == 0).collect();
    let sign = usize::from(digits.first().is_none_or(|first| first & 0x80 != 0));
    der(2, &[&vec![0; sign][..], &digits].concat())
}

fn header(curve: &Curve) -> String {
    format!("{{\"alg\":\"{:?}\",\"kid\":\"k\"}}", curve.algorithm)
}

fn sign(curve: &Curve) -> Vec<u8> {
    let token = curve.key.mint_raw(&header(curve), std::str::from_utf8(&decode(JOE)).expect("UTF-8"));
    decode(token.rsplit('.').next().expect("a signature"))
}

#[tokio::test]
async fn signatures_are_two_numbers_in_range_side_by_side() {
    // T11, T13
    for curve in curves() {
        let (good, order) = (sign(&curve), &curve.order);
        let half = good.len() / 2;
        let (r, s) = (good[..half].to_vec(), good[half..].to_vec());
        let (zero, ones) = (vec![0; half], vec![0xff; half]);
        let one = next(&zero);
        let der_form = der(0x30, &[integer(&r), integer(&s)].concat());
        let wide = |number: &[u8]| [&[0], number].concat();
        let bench = bench(&[curve.key.jwk()], &[]).await;
        for (name, wrong) in [
            ("both zero", [&zero[..], &zero].concat()),
            ("r zero", [&zero[..], &s].concat()),
            ("s zero", [&r[..], &zero].concat()),
            ("both one", [&one[..], &one].concat()),
            ("r the order", [&order[..], &s].concat()),
            ("s the order", [&r[..], order].concat()),
            ("both the order", [&order[..], order].concat()),
            ("r above the order", [&next(order)[..], &s].concat()),
            ("s above the order", [&r[..], &next(order)].concat()),
            ("r one, s zero", [&one[..], &zero].concat()),
            ("r the prime", [&curve.prime[..], &s].concat()),
            ("all ones", [&ones[..], &ones].concat()),
            ("r negated in two's complement", [&subtract(&ones, &r)[..], &s].concat()),
            ("s negated in two's complement", [&r[..], &subtract(&ones, &s)].concat()),
            ("r negated modulo the order", [&subtract(order, &r)[..], &s].concat()),
            ("swapped", [&s[..], &r].concat()),
            ("r twice", [&r[..], &r].concat()),
            ("in DER", der_form.clone()),
            ("in DER, padded to the length", {
                let mut padded = der_form;
                padded.resize(half * 2, 0);
                padded
            }),
            ("a sign octet before each", [wide(&r), wide(&s)].concat()),
            ("a zero behind", [&good[..], &[0]].concat()),
            ("a zero before", wide(&good)),
            ("cut short", good[..half * 2 - 1].to_vec()),
            ("r alone", r.clone()),
            ("twice", [&good[..], &good].concat()),
            ("the other curve's length", vec![1; if half == 32 { 96 } else { 64 }]),
            ("P-521's length", vec![1; 132]),
        ] {
            let wrong = token(&header(&curve), |_| wrong);
            assert_eq!(verdict(&bench, &wrong).await, Err(Reason::SignatureInvalid), "{} {name}", curve.name);
        }
        assert_eq!(verdict(&bench, &token(&header(&curve), |_| good)).await, Ok(()));
        // The one exception to "one token, one signature": whoever has a token can compute the other one of its own
        // two signatures. RFC 7518 and 7515, A.3 allow both, so what is refused by name is refused by `jti`, not by hash.
        let twin = token(&header(&curve), |_| [r, subtract(order, &s)].concat());
        assert_eq!(verdict(&bench, &twin).await, Ok(()));
    }
}

#[tokio::test]
async fn a_curve_serves_its_own_algorithm() {
    // T6, T8
    let [p256, p384] = curves();
    for (curve, key) in [(&p256, &p384.key), (&p384, &p256.key)] {
        // The other curve's key of this `kid` is known, and not for this algorithm.
        let bench = bench(&[key.jwk()], &[]).await;
        let crossed = token(&header(curve), |_| sign(curve));
        assert_eq!(verdict(&bench, &crossed).await, Err(Reason::AlgNotAllowed), "{}", curve.name);
    }
    let bench = bench(&[p256.key.jwk(), p384.key.jwk()], &[]).await;
    for alg in ["ES512", "ES256K", "ES224", "ES256 ", "es256", "ECDSA", "P-256", "SHA256withECDSA", "ES"] {
        let wrong = token(&format!("{{\"alg\":\"{alg}\",\"kid\":\"k\"}}"), |_| sign(&p256));
        assert_eq!(verdict(&bench, &wrong).await, Err(Reason::AlgNotAllowed), "{alg}");
    }
    for curve in [&p256, &p384] {
        assert_eq!(verdict(&bench, &token(&header(curve), |_| sign(curve))).await, Ok(()));
    }
}

#[test]
fn a_key_is_one_point_of_its_curve_in_full_length() {
    // T10: RFC 7518, 6.2.1
    for curve in curves() {
        let good = curve.key.jwk();
        let member = |name: &str| decode(good[name].as_str().expect("a coordinate"));
        let (x, y) = (member("x"), member("y"));
        let point = |x: &[u8], y: &[u8]| json!({"kty": "EC", "crv": curve.name, "x": encode(x), "y": encode(y)});
        let zero = vec![0; x.len()];
        let other = if curve.name == "P-256" { "P-384" } else { "P-256" };
        let wide = |number: &[u8]| [&[0], number].concat();
        for (name, wrong) in [
            ("off the curve", point(&x, &next(&y))),
            ("swapped", point(&y, &x)),
            ("the origin", point(&zero, &zero)),
            ("x zero", point(&zero, &y)),
            ("y zero", point(&x, &zero)),
            ("x the prime", point(&curve.prime, &y)),
            ("y the prime", point(&x, &curve.prime)),
            ("all ones", point(&vec![0xff; x.len()], &vec![0xff; x.len()])),
            ("cut short", point(&x[1..], &y[1..])),
            ("a sign octet", point(&wide(&x), &wide(&y))),
            ("y lacking", json!({"kty": "EC", "crv": curve.name, "x": good["x"]})),
            ("y empty", point(&x, &[])),
            ("y a number", json!({"kty": "EC", "crv": curve.name, "x": good["x"], "y": 1})),
            ("compressed", json!({"kty": "EC", "crv": curve.name, "x": encode([&[2], &x[..]].concat())})),
            ("the point in x", point(&[&[4], &x[..], &y].concat(), &[])),
            ("the other curve's name", json!({"kty": "EC", "crv": other, "x": good["x"], "y": good["y"]})),
            ("secp256k1", json!({"kty": "EC", "crv": "secp256k1", "x": good["x"], "y": good["y"]})),
            (
                "the curve in lower case",
                json!({"kty": "EC", "crv": curve.name.to_lowercase(), "x": good["x"], "y": good["y"]}),
            ),
            ("no curve", json!({"kty": "EC", "x": good["x"], "y": good["y"]})),
            ("a curve list", json!({"kty": "EC", "crv": [curve.name], "x": good["x"], "y": good["y"]})),
        ] {
            assert!(key(&wrong).is_err(), "{} {name}", curve.name);
        }
        assert!(key(&point(&x, &y)).is_ok());
        // The same number is a coordinate of the point below the axis.
        assert!(key(&point(&x, &subtract(&curve.prime, &y))).is_ok());
    }
    // secp256k1's generator, under P-256's name: the invalid curve attack begins so.
    let foreign = json!({"kty": "EC", "crv": "P-256",
        "x": "eb5mfvncu6xVoGKVzocLBwKb_NstzijZWfKBWxb4F5g", "y": "SDradyajxGVdpPv8DhEIqP0XtEimhVQZnEfQj_sQ1Lg"});
    assert!(key(&foreign).is_err());
}
