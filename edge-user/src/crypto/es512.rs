//! ES512 (RFC 7518, 3.4): keys and signatures on P-521, a curve that the backends lack. RustCrypto's `p521` computes.

use p521::SecretKey;
use p521::ecdsa::{self, Signature, signature::Signer};
use p521::elliptic_curve::Generate;
use p521::pkcs8::{DecodePrivateKey, EncodePrivateKey};

use super::Error;

/// Bytes of a coordinate (RFC 7518, 6.2.1.2), of the private value, and of half a signature.
pub(super) const COORDINATE_BYTES: usize = 66;

/// A private key on P-521.
pub(super) struct Key(ecdsa::SigningKey);

impl Key {
    /// A new private key as PKCS#8 DER.
    pub(super) fn generate_pkcs8() -> Result<Vec<u8>, Error> {
        let key = SecretKey::try_generate_from_rng(&mut getrandom::SysRng).map_err(|_| Error::Backend)?;
        Ok(key.to_pkcs8_der().map_err(|_| Error::Encoding)?.as_bytes().to_vec())
    }

    /// A key from PKCS#8 DER. A public key beside the private one must be its own.
    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        let key = SecretKey::from_pkcs8_der(der).map_err(|_| Error::KeyMalformed)?;
        Ok(Self(key.into()))
    }

    /// r and s (RFC 7518, 3.4) over SHA-512 of the message; deterministic (RFC 6979).
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature: Signature = self.0.try_sign(message).map_err(|_| Error::Backend)?;
        Ok(signature.to_bytes().to_vec())
    }

    /// x and y of the public key.
    pub(super) fn coordinates(&self) -> (Vec<u8>, Vec<u8>) {
        let point = self.0.verifying_key().to_sec1_point(false);
        let (x, y) = point.as_bytes()[1..].split_at(COORDINATE_BYTES);
        (x.to_vec(), y.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use p521::ecdsa::VerifyingKey;
    use p521::ecdsa::signature::Verifier;
    use p521::elliptic_curve::sec1::FromSec1Point;
    use serde_json::{Value, json};

    use super::*;
    use crate::crypto::jwk;
    use crate::crypto::sign::{SigningAlgorithm, SigningKey};

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    }

    /// Whether a JWS is good, from the coordinates of a JWK alone: nothing of the signing side is used.
    fn verifies(token: &str, jwk: &Value) -> bool {
        let member = |name: &str| bytes(jwk[name].as_str().expect("a text"));
        let point = [&[4], &member("x")[..], &member("y")].concat();
        let point = p521::Sec1Point::from_bytes(&point).expect("a point's bytes");
        let key = VerifyingKey::from(p521::PublicKey::from_sec1_point(&point).expect("a point of the curve"));
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let signature = bytes(signature);
        assert_eq!(signature.len(), 2 * COORDINATE_BYTES, "fixed form (RFC 7518, 3.4)");
        Signature::from_slice(&signature).is_ok_and(|signature| key.verify(signed.as_bytes(), &signature).is_ok())
    }

    /// RFC 7515, A.4.
    fn published() -> (Value, &'static str) {
        let jwk = json!({"kty": "EC", "crv": "P-521",
            "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
            "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
            "d": "AY5pb7A0UFiB3RELSD64fTLOSV_jazdF7fLYyuTw8lOfRhWg6Y6rUrPAxerEzgdRhajnu0ferB0d53vM9mE15j2C"});
        let token = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZq\
                     wqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXuk\
                     OXolLzeO_Jn";
        (jwk, token)
    }

    #[test]
    fn the_published_key_is_read_and_what_it_signs_verifies() {
        let (jwk, published) = published();
        assert!(verifies(published, &jwk), "the check takes the RFC's own signature");
        let read = |jwk: &Value| jwk::signing_key(jwk.as_object().expect("an object"), SigningAlgorithm::ES512);
        let key = read(&jwk).expect("a key");
        for name in ["kty", "crv", "x", "y"] {
            assert_eq!(key.public_jwk()[name], jwk[name], "{name}");
        }
        assert_eq!((&key.public_jwk()["alg"], key.public_jwk().get("d")), (&json!("ES512"), None));
        let token = key.sign_parts(br#"{"alg":"ES512"}"#, b"Payload").expect("a token");
        assert!(token.starts_with("eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA."), "{token}");
        assert!(verifies(&token, &jwk));
        assert!(!verifies(&token.replacen("UGF5", "UGF6", 1), &jwk));
        let mut other = jwk.clone();
        other["x"] = jwk["y"].clone();
        assert!(read(&other).is_err(), "a public key that is not the private one's");
        let mut short = jwk;
        short["d"] = json!("AQ");
        assert!(read(&short).is_err());
    }

    #[test]
    fn signatures_are_rfc_6979s() {
        // A.2.7, SHA-512 of "sample".
        let (jwk, _) = published();
        let hex = |text: &str| {
            let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
            (0..text.len()).step_by(2).map(byte).collect::<Vec<_>>()
        };
        let d = hex(
            "00FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA896EB32F1F47C70855836A6D16FCC1466F6D8FBEC67DB89\
             EC0C08B0E996B83538",
        );
        let key = Key(ecdsa::SigningKey::from_slice(&d).expect("a key"));
        let expected = hex(
            "00C328FAFCBD79DD77850370C46325D987CB525569FB63C5D3BC53950E6D4C5F174E25A1EE9017B5D450606ADD152B534931D7D4E8455CC91F\
             9B15BF05EC36E377FA00617CCE7CF5064806C467F678D3B4080D6F1CC50AF26CA209417308281B68AF282623EAA63E5B5C0723D8B8C37FF07\
             77B1A20F8CCB1DCCC43997F1EE0E44DA4A67A",
        );
        assert_eq!(key.sign(b"sample").expect("a signature"), expected);
        assert_ne!(key.coordinates().0, bytes(jwk["x"].as_str().expect("a text")));
    }

    #[test]
    fn generated_keys_differ_and_verify() {
        let [first, second] = [(), ()].map(|()| SigningKey::generate(SigningAlgorithm::ES512).expect("a key"));
        assert_ne!(first.kid(), second.kid());
        let token = first.sign("JWT", &json!({"sub": "a"})).expect("a token");
        assert!(verifies(&token, first.public_jwk()) && !verifies(&token, second.public_jwk()));
        assert!(Key::from_pkcs8(b"nothing").is_err());
        let p256 = SigningKey::generate_pkcs8(SigningAlgorithm::ES256).expect("a key");
        assert!(Key::from_pkcs8(&p256).is_err(), "another curve");
    }
}
