//! HMAC: whole tags alone, no empty secret, and no public key's bytes as one (RFC 7518, 3.2; RFC 8725, 2.1).

use super::*;
use crate::crypto;
use crate::crypto::verify::VerifyingKey;
use crate::token::Validator;
use jsonwebtoken::DecodingKey;

const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const SECRET: &[u8] = b"a secret of the length that RFC 7518 asks for, for each of the three hashes";

fn header(algorithm: Algorithm) -> String {
    format!("{{\"alg\":\"{algorithm:?}\"}}")
}

fn tag(algorithm: Algorithm, under: &[u8]) -> Vec<u8> {
    let payload = String::from_utf8(decode(JOE)).expect("UTF-8");
    let token = secret(algorithm, "", under).mint_raw(&header(algorithm), &payload);
    decode(token.rsplit('.').next().expect("a tag"))
}

#[tokio::test]
async fn tags_are_compared_whole() {
    // T13
    let bench = bench(&[], &[SECRET]).await;
    for algorithm in HMAC {
        let good = tag(algorithm, SECRET);
        let judge = async |wrong: Vec<u8>| verdict(&bench, &token(&header(algorithm), |_| wrong)).await;
        for length in 1..good.len() {
            assert_eq!(judge(good[..length].to_vec()).await, Err(Reason::SignatureInvalid), "{length} of its bytes");
        }
        assert_eq!(judge(vec![]).await, Err(Reason::TokenMalformed), "no tag");
        for (name, wrong) in [
            ("a zero behind", [&good[..], &[0]].concat()),
            ("a zero before", [&[0], &good[..]].concat()),
            ("twice", [&good[..], &good].concat()),
            ("backwards", good.iter().rev().copied().collect()),
            ("zeros", vec![0; good.len()]),
            ("ones", vec![0xff; good.len()]),
            ("under another secret", tag(algorithm, &SECRET[1..])),
            ("under no secret", tag(algorithm, b"")),
            ("of another hash, cut to the length", {
                let other = HMAC.iter().rev().find(|other| **other != algorithm).expect("another");
                let mut other = tag(*other, SECRET);
                other.resize(good.len(), 0);
                other
            }),
        ] {
            assert_eq!(judge(wrong).await, Err(Reason::SignatureInvalid), "{algorithm:?} {name}");
        }
        assert_eq!(judge(good).await, Ok(()));
    }
}

#[test]
fn an_empty_secret_is_no_key() {
    // T2: everyone knows it, so a validator with one would accept everyone.
    for algorithm in HMAC {
        assert!(VerifyingKey::new(algorithm, &DecodingKey::from_secret(b"")).is_err(), "{algorithm:?}");
        assert!(VerifyingKey::new(algorithm, &DecodingKey::from_secret(b"s")).is_ok(), "{algorithm:?}");
        let with = |secrets: &[&[u8]]| {
            let hs_secrets = secrets.iter().map(|secret| secret.to_vec()).collect();
            let settings = Settings { algorithms: vec![algorithm], hs_secrets, ..settings() };
            Validator::new(settings, None, None).map(drop)
        };
        assert!(matches!(with(&[b"good", b""]), Err(crypto::Error::KeyMalformed)));
        assert!(with(&[b"good"]).is_ok());
    }
}

#[tokio::test]
async fn no_form_of_a_public_key_is_a_secret() {
    // T4: PEM, DER, JWK, modulus, point, each as it is, as text, and with a line end.
    const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    const P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    let (rsa, ec) = (TestKey::new(Algorithm::RS256, "rsa"), TestKey::new(Algorithm::ES256, "ec"));
    let bench = bench(&[rsa.jwk(), ec.jwk()], &[SECRET]).await;
    let member = |jwk: &Value, name: &str| decode(jwk[name].as_str().expect("a member"));
    let (rsa_jwk, ec_jwk) = (rsa.jwk(), ec.jwk());
    let (n, e) = (member(&rsa_jwk, "n"), member(&rsa_jwk, "e"));
    let (x, y) = (member(&ec_jwk, "x"), member(&ec_jwk, "y"));
    let point = [&[4], &x[..], &y].concat();
    let pkcs1 = der(0x30, &[der(2, &[&[0], &n[..]].concat()), der(2, &e)].concat());
    let spki = |name: &[u8], key: &[u8]| der(0x30, &[der(0x30, name), der(3, &[&[0], key].concat())].concat());
    let (rsa_spki, ec_spki) = (spki(RSA, &pkcs1), spki(P256, &point));
    let pem = |label: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    let mut secrets = vec![n.clone(), x.clone(), point, pkcs1.clone(), rsa_spki.clone(), ec_spki.clone()];
    for jwk in [&rsa_jwk, &ec_jwk] {
        secrets.push(jwk.to_string().into_bytes());
        secrets.push(serde_json::to_vec_pretty(jwk).expect("JSON"));
        secrets.push(json!({"keys": [jwk]}).to_string().into_bytes());
    }
    for text in [
        pem("PUBLIC KEY", &rsa_spki),
        pem("RSA PUBLIC KEY", &pkcs1),
        pem("PUBLIC KEY", &ec_spki),
        encode(&n),
        encode(&rsa_spki),
        encode(&ec_spki),
        "rsa".to_owned(),
        "ec".to_owned(),
    ] {
        secrets.extend([
            text.trim_end().as_bytes().to_vec(),
            text.replace('\n', "\r\n").into_bytes(),
            text.into_bytes(),
        ]);
    }
    let payload = String::from_utf8(decode(JOE)).expect("UTF-8");
    // These also bring the set in: until it is there, no `kid` names a public key.
    for key in [&rsa, &ec] {
        let header = format!("{{\"alg\":\"{:?}\",\"kid\":\"{}\"}}", key.algorithm, key.kid);
        assert_eq!(verdict(&bench, &key.mint_raw(&header, &payload)).await, Ok(()));
    }
    for under in &secrets {
        for algorithm in HMAC {
            for (kid, reason) in [
                ("\"kid\":\"rsa\"", Reason::AlgNotAllowed),
                ("\"kid\":\"ec\"", Reason::AlgNotAllowed),
                ("\"typ\":\"JWT\"", Reason::SignatureInvalid),
            ] {
                let header = format!("{{\"alg\":\"{algorithm:?}\",{kid}}}");
                let confused = secret(algorithm, "", under).mint_raw(&header, &payload);
                assert_eq!(verdict(&bench, &confused).await, Err(reason), "{}", under.escape_ascii());
            }
        }
    }
    let own = secret(Algorithm::HS256, "", SECRET).mint_raw(&header(Algorithm::HS256), &payload);
    assert_eq!(verdict(&bench, &own).await, Ok(()));
}
