//! Private JWKs (RFC 7517, RFC 7518 6, RFC 8037) as signing keys.

use super::es512::COORDINATE_BYTES;
use super::verify::der_length;
use super::{Error, sign};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use sign::{KeyAlgorithm, SigningKey};
use zeroize::Zeroizing;

/// `id-ecPublicKey` with `prime256v1` (RFC 5480, 2.1.1).
const P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// `id-ecPublicKey` with `secp384r1`.
const P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
/// `id-ecPublicKey` with `secp521r1`.
const P521: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23";
/// `id-Ed25519` (RFC 8410, 3).
const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

/// The algorithm a key of this type signs with where nothing says another.
pub fn default_algorithm(jwk: &Map<String, Value>) -> Option<Algorithm> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    match (text("kty")?, text("crv")) {
        ("RSA", _) => Some(Algorithm::RS256),
        ("EC", Some("P-256")) => Some(Algorithm::ES256),
        ("EC", Some("P-384")) => Some(Algorithm::ES384),
        ("OKP", Some("Ed25519")) => Some(Algorithm::EdDSA),
        _ => None,
    }
}

/// The signing key of a JWK with private members. Its public members must be those of the private ones.
pub fn signing_key(jwk: &Map<String, Value>, algorithm: impl Into<KeyAlgorithm>) -> Result<SigningKey, Error> {
    let algorithm = algorithm.into();
    let member = |name: &str| {
        let text = jwk.get(name).and_then(Value::as_str).ok_or(Error::KeyMalformed)?;
        URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map(Zeroizing::new).map_err(|_| Error::KeyMalformed)
    };
    let fitting = fitting(jwk).ok_or(Error::KeyMalformed)?;
    if fitting != algorithm && !(fitting.is_rsa() && algorithm.is_rsa()) {
        return Err(Error::KeyMalformed);
    }
    let der = match fitting {
        // RSAPrivateKey with two primes (RFC 8017, A.1.2): the members stand in its order.
        KeyAlgorithm::Known(Algorithm::RS256) => {
            let mut fields = Zeroizing::new(integer(&[]));
            for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
                fields.extend(integer(&member(name)?));
            }
            wrap(0x30, &fields)
        }
        KeyAlgorithm::Known(Algorithm::EdDSA) => pkcs8(ED25519, &wrap(0x04, &member("d")?)),
        // PKCS#8 (RFC 5208) around ECPrivateKey (RFC 5915, 3), with the public key that the backends ask for.
        curve => {
            let (curve, length) = match curve {
                KeyAlgorithm::Known(Algorithm::ES256) => (P256, 32),
                KeyAlgorithm::ES512 => (P521, COORDINATE_BYTES),
                _ => (P384, 48),
            };
            let (x, y, d) = (member("x")?, member("y")?, member("d")?);
            if [&x, &y, &d].iter().any(|number| number.len() != length) {
                return Err(Error::KeyMalformed);
            }
            let point = wrap(0xa1, &wrap(0x03, &[&[0, 4], &x[..], &y[..]].concat()));
            let fields = Zeroizing::new([integer(&[1]), wrap(0x04, &d), point].concat());
            pkcs8(curve, &wrap(0x30, &fields))
        }
    };
    let der = Zeroizing::new(der);
    let key = SigningKey::from_pkcs8(algorithm, &der)?;
    // Ed25519 in PKCS#8 version 1 has no public part that the backend could have compared.
    if sign::thumbprint(&Value::Object(jwk.clone())) != sign::thumbprint(key.public_jwk()) {
        return Err(Error::KeyMalformed);
    }
    // The backend reads RSA keys whose private members do not belong together, and then signs nothing with them.
    key.sign_parts(b"{}", b"{}").map_err(|_| Error::KeyMalformed)?;
    Ok(key)
}

/// The one algorithm of the key's type and curve; for RSA, which fits its whole family, RS256.
fn fitting(jwk: &Map<String, Value>) -> Option<KeyAlgorithm> {
    let is = |name: &str, text: &str| jwk.get(name).is_some_and(|member| member == text);
    if is("kty", "EC") && is("crv", "P-521") {
        return Some(KeyAlgorithm::ES512);
    }
    default_algorithm(jwk).map(KeyAlgorithm::Known)
}

fn pkcs8(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    wrap(0x30, &[integer(&[]), wrap(0x30, algorithm), wrap(0x04, key)].concat())
}

/// A positive INTEGER; no bytes are zero.
fn integer(number: &[u8]) -> Vec<u8> {
    let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    let sign = number.first().is_none_or(|first| first & 0x80 != 0);
    wrap(0x02, &[if sign { &[0][..] } else { &[] }, number].concat())
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    der_length(&mut out, content.len());
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(jwk: &Value, algorithm: Algorithm) -> Result<SigningKey, Error> {
        signing_key(jwk.as_object().expect("an object"), algorithm)
    }

    fn with(jwk: &Value, name: &str, value: Value) -> Value {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    }

    // RFC 7517, A.2 (P-256 and RSA), RFC 8037, A.1 and A.2; P-384 made for this test.
    fn keys() -> [(Algorithm, Value); 4] {
        let rsa = json!({"kty": "RSA", "e": "AQAB",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst\
n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI\
SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "d": "X4cTteJY_gn4FYPsXB8rdXix5vwsg1FLN5E3EaG6RJoVH-HLLKD9M7dx5oo7GURknchnrRweUkC7hT5fJLM0WbFAKNLWY2vv7B6NqXSzUvxT0_YSfqij\
wp3RTzlBaCxWp4doFk5N2o8Gy_nHNKroADIkJ46pRUohsXywbReAdYaMwFs9tv8d_cPVY3i07a3t8MN6TNwm0dSawm9v47UiCl3Sk5ZiG7xojPLu4sbg1U2jx4IBTNB\
znbJSzFHK66jT8bgkuqsk0GjskDJk19Z4qwjwbsnn4j2WBii3RL-Us2lGVkY8fkFzme1z0HbIkfz0Y6mqnOYtqc0X4jfcKoAC8Q",
            "p": "83i-7IvMGXoMXCskv73TKr8637FiO7Z27zv8oj6pbWUQyLPQBQxtPVnwD20R-60eTDmD2ujnMt5PoqMrm8RfmNhVWDtjjMmCMjOpSXicFHj7XOuVIYQy\
qVWlWEh6dN36GVZYk93N8Bc9vY41xy8B9RzzOGVQzXvNEvn7O0nVbfs",
            "q": "3dfOR9cuYq-0S-mkFLzgItgMEfFzB2q3hWehMuG0oCuqnb3vobLyumqjVZQO1dIrdwgTnCdpYzBcOfW5r370AFXjiWft_NGEiovonizhKpo9VVS78TzF\
gxkIdrecRezsZ-1kYd_s1qDbxtkDEgfAITAG9LUnADun4vIcb6yelxk",
            "dp": "G4sPXkc6Ya9y8oJW9_ILj4xuppu0lzi_H7VTkS8xj5SdX3coE0oimYwxIi2emTAue0UOa5dpgFGyBJ4c8tQ2VF402XRugKDTP8akYhFo5tAA77Qe_Nmt\
uYZc3C3m3I24G2GvR5sSDxUyAN2zq8Lfn9EUms6rY3Ob8YeiKkTiBj0",
            "dq": "s9lAH9fggBsoFR8Oac2R_E2gw282rT2kGOAhvIllETE1efrA6huUUvMfBcMpn8lqeW6vzznYY5SSQF7pMdC_agI3nG8Ibp1BUb0JUiraRNqUfLhcQb_d\
9GF4Dh7e74WbRsobRonujTYN1xCaP6TO61jvWrX-L18txXw494Q_cgk",
            "qi": "GyM_p6JrXySiz1toFgKbWV-JdI3jQ4ypu9rbMWx3rQJBfmt0FoYzgUIZEVFEcOqwemRN81zoDAaa-Bk0KWNGDjJHZDdDmFhW3AN7lI-puxk_mHZGJ11r\
xyR8O55XLSe3SPmRfKwZI6yU24ZxvQKFYItdldUKGzO6Ia6zTKhAVRU"});
        let p256 = json!({"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM", "d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"});
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        // RFC 6979, A.2.6.
        let hex = |text: &str| {
            let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
            URL_SAFE_NO_PAD.encode((0..text.len()).step_by(2).map(byte).collect::<Vec<_>>())
        };
        let p384 = json!({"kty": "EC", "crv": "P-384",
            "d": hex("6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5"),
            "x": hex("EC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13"),
            "y": hex("8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1288B231C3AE0D4FE7344FD2533264720")});
        [(Algorithm::RS256, rsa), (Algorithm::ES256, p256), (Algorithm::ES384, p384), (Algorithm::EdDSA, ed)]
    }

    #[test]
    fn published_keys_are_read() {
        for (algorithm, jwk) in keys() {
            let key = read(&jwk, algorithm).expect("a key");
            assert_eq!(default_algorithm(jwk.as_object().expect("an object")), Some(algorithm));
            for name in ["n", "e", "x", "y"] {
                assert_eq!(key.public_jwk().get(name), jwk.get(name), "{algorithm:?} {name}");
            }
            assert!(key.sign_parts(b"{}", b"{}").is_ok());
            assert!(!format!("{key:?}").contains(jwk["d"].as_str().expect("a private member")));
        }
        assert!(read(&keys()[0].1, Algorithm::PS512).is_ok(), "one RSA key, every RSA algorithm");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let [(_, rsa), (_, p256), (_, p384), (_, ed)] = keys();
        for (jwk, algorithm) in [
            (with(&rsa, "d", json!(null)), Algorithm::RS256),
            (with(&rsa, "qi", json!(null)), Algorithm::RS256),
            (with(&rsa, "e", json!("AQAC")), Algorithm::RS256),
            (with(&rsa, "dq", rsa["dp"].clone()), Algorithm::RS256),
            (rsa.clone(), Algorithm::ES256),
            (rsa, Algorithm::HS256),
            (with(&p256, "d", json!(1)), Algorithm::ES256),
            (with(&p256, "d", json!("AQ")), Algorithm::ES256),
            (with(&p256, "x", p256["y"].clone()), Algorithm::ES256),
            (with(&p256, "crv", json!("P-521")), Algorithm::ES256),
            (p256, Algorithm::ES384),
            (with(&p384, "x", json!("!")), Algorithm::ES384),
            (with(&ed, "x", ed["d"].clone()), Algorithm::EdDSA),
            (with(&ed, "kty", json!("oct")), Algorithm::EdDSA),
            (json!({}), Algorithm::RS256),
        ] {
            assert!(read(&jwk, algorithm).is_err(), "{jwk} {algorithm:?}");
        }
    }
}
