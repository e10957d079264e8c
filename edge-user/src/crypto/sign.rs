//! Signing keys: PKCS#8 in, JWTs and public JWKs out. Private parts leave this module only as the PKCS#8 that
//! `generate_pkcs8` returns to whoever stores it.

mod algorithm;

use super::{Error, backend, es512};
pub use algorithm::{KeyAlgorithm, SigningAlgorithm};
use backend::signature::KeyPair;
use backend::{hmac, rand, signature};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::JwtSigner;
use jsonwebtoken::signature::{Error as SignatureError, Signer as SignerTrait};
use rsa::pkcs8::EncodePrivateKey;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use serde_json::{Value, json};

/// RSA key length of generated keys (RFC 7518, 3.3 asks for at least this).
const RSA_BITS: usize = 2048;

/// A private key bound to one algorithm: jsonwebtoken's `JwtSigner`.
pub struct Signer {
    algorithm: Algorithm,
    kind: Kind,
}

enum Kind {
    Rsa(Box<signature::RsaKeyPair>, &'static dyn signature::RsaEncoding),
    Ecdsa(signature::EcdsaKeyPair),
    Ed25519(signature::Ed25519KeyPair),
    Hmac(Box<hmac::Key>),
}

impl Signer {
    /// A signer from PKCS#8 (RSA: PKCS#1 too), or from the secret itself for HMAC.
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, Error> {
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
        let kind = match algorithm {
            HS256 => Kind::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, key))),
            HS384 => Kind::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA384, key))),
            HS512 => Kind::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA512, key))),
            RS256 => Kind::Rsa(rsa_pair(key)?, &signature::RSA_PKCS1_SHA256),
            RS384 => Kind::Rsa(rsa_pair(key)?, &signature::RSA_PKCS1_SHA384),
            RS512 => Kind::Rsa(rsa_pair(key)?, &signature::RSA_PKCS1_SHA512),
            PS256 => Kind::Rsa(rsa_pair(key)?, &signature::RSA_PSS_SHA256),
            PS384 => Kind::Rsa(rsa_pair(key)?, &signature::RSA_PSS_SHA384),
            PS512 => Kind::Rsa(rsa_pair(key)?, &signature::RSA_PSS_SHA512),
            ES256 => Kind::Ecdsa(ec_pair(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, key)?),
            ES384 => Kind::Ecdsa(ec_pair(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, key)?),
            EdDSA => Kind::Ed25519(
                signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).map_err(|_| Error::KeyMalformed)?,
            ),
            other => return Err(Error::AlgorithmUnsupported(KeyAlgorithm::from(other).name())),
        };
        Ok(Self { algorithm, kind })
    }
}

fn rsa_pair(key: &[u8]) -> Result<Box<signature::RsaKeyPair>, Error> {
    signature::RsaKeyPair::from_pkcs8(key)
        .or_else(|_| signature::RsaKeyPair::from_der(key))
        .map(Box::new)
        .map_err(|_| Error::KeyMalformed)
}

fn ec_pair(algorithm: &'static signature::EcdsaSigningAlgorithm, key: &[u8]) -> Result<signature::EcdsaKeyPair, Error> {
    #[cfg(feature = "aws-lc")]
    let pair = signature::EcdsaKeyPair::from_pkcs8(algorithm, key);
    #[cfg(not(feature = "aws-lc"))]
    let pair = signature::EcdsaKeyPair::from_pkcs8(algorithm, key, &rand::SystemRandom::new());
    pair.map_err(|_| Error::KeyMalformed)
}

#[cfg(feature = "aws-lc")]
fn modulus_len(pair: &signature::RsaKeyPair) -> usize {
    pair.public_modulus_len()
}
#[cfg(not(feature = "aws-lc"))]
fn modulus_len(pair: &signature::RsaKeyPair) -> usize {
    pair.public().modulus_len()
}

impl SignerTrait<Vec<u8>> for Signer {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let random = rand::SystemRandom::new();
        match &self.kind {
            Kind::Rsa(pair, encoding) => {
                let mut out = vec![0; modulus_len(pair)];
                pair.sign(*encoding, &random, message, &mut out).map_err(|_| SignatureError::new())?;
                Ok(out)
            }
            Kind::Ecdsa(pair) => Ok(pair.sign(&random, message).map_err(|_| SignatureError::new())?.as_ref().to_vec()),
            Kind::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Kind::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for Signer {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// A private key with its `kid`, ready to sign.
pub struct SigningKey {
    material: Material,
    algorithm: KeyAlgorithm,
    kid: String,
    jwk: Value,
}

enum Material {
    Backend(Signer),
    P521(es512::Key),
}

/// What `sign` puts before the claims.
#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    kid: &'a str,
}

impl SigningKey {
    /// A new private key as PKCS#8 DER. RSA takes a noticeable fraction of a second.
    pub fn generate_pkcs8(algorithm: impl Into<KeyAlgorithm>) -> Result<Vec<u8>, Error> {
        let algorithm = algorithm.into();
        let random = rand::SystemRandom::new();
        let pkcs8 = |document: Result<backend::pkcs8::Document, backend::error::Unspecified>| {
            document.map(|document| document.as_ref().to_vec()).map_err(|_| Error::Backend)
        };
        match algorithm {
            KeyAlgorithm::Known(Algorithm::ES256) => {
                pkcs8(signature::EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &random))
            }
            KeyAlgorithm::Known(Algorithm::ES384) => {
                pkcs8(signature::EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, &random))
            }
            KeyAlgorithm::ES512 => es512::Key::generate_pkcs8(),
            KeyAlgorithm::Known(Algorithm::EdDSA) => pkcs8(signature::Ed25519KeyPair::generate_pkcs8(&random)),
            // ring makes no RSA keys. `rsa` only generates here; every operation with the key is the backend's.
            rsa if rsa.is_rsa() => {
                let key = rsa::RsaPrivateKey::new(&mut rand_core::UnwrapErr(getrandom::SysRng), RSA_BITS)
                    .map_err(|_| Error::Backend)?;
                Ok(key.to_pkcs8_der().map_err(|_| Error::Encoding)?.as_bytes().to_vec())
            }
            other => Err(Error::AlgorithmUnsupported(other.name())),
        }
    }

    /// A new key that lives only in this process.
    pub fn generate(algorithm: impl Into<KeyAlgorithm>) -> Result<Self, Error> {
        let algorithm = algorithm.into();
        Self::from_pkcs8(algorithm, &Self::generate_pkcs8(algorithm)?)
    }

    /// A key from PKCS#8 DER; its `kid` is the RFC 7638 thumbprint.
    pub fn from_pkcs8(algorithm: impl Into<KeyAlgorithm>, pkcs8: &[u8]) -> Result<Self, Error> {
        let algorithm = algorithm.into();
        let material = match algorithm {
            KeyAlgorithm::ES512 => Material::P521(es512::Key::from_pkcs8(pkcs8)?),
            other if other.is_symmetric() => return Err(Error::AlgorithmUnsupported(other.name())),
            KeyAlgorithm::Known(known) => Material::Backend(Signer::new(known, pkcs8)?),
        };
        let jwk = public_jwk(&material).ok_or(Error::KeyMalformed)?;
        let kid = URL_SAFE_NO_PAD.encode(thumbprint(&jwk).ok_or(Error::KeyMalformed)?);
        Ok(Self { material, algorithm, kid: String::new(), jwk }.with_kid(&kid))
    }

    /// A key from PEM: PKCS#8, or PKCS#1 for RSA.
    pub fn from_pem(algorithm: impl Into<KeyAlgorithm>, pem: &[u8]) -> Result<Self, Error> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| Error::Encoding)?;
        Self::from_pkcs8(algorithm, der.secret_der())
    }

    /// A key from the secret of an HMAC algorithm. Its JWK says nothing of the secret.
    pub fn from_secret(algorithm: SigningAlgorithm, kid: &str, secret: &[u8]) -> Result<Self, Error> {
        let (known, least) = match algorithm {
            SigningAlgorithm::HS256 => (Algorithm::HS256, 32),
            SigningAlgorithm::HS384 => (Algorithm::HS384, 48),
            SigningAlgorithm::HS512 => (Algorithm::HS512, 64),
            other => return Err(Error::AlgorithmUnsupported(other.name())),
        };
        if secret.len() < least {
            return Err(Error::SecretSize { bytes: secret.len() });
        }
        let material = Material::Backend(Signer::new(known, secret)?);
        let jwk = json!({"kty": "oct"});
        Ok(Self { material, algorithm: algorithm.into(), kid: String::new(), jwk }.with_kid(kid))
    }

    /// The same under another `kid`.
    pub fn with_kid(mut self, kid: &str) -> Self {
        self.jwk["alg"] = json!(self.algorithm.name());
        self.jwk["use"] = json!("sig");
        self.jwk["kid"] = json!(kid);
        self.kid = kid.to_owned();
        self
    }

    /// The `alg` of what this key signs.
    pub fn algorithm(&self) -> &'static str {
        self.algorithm.name()
    }

    /// The key's id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public part as a JWK with `kid`, `alg` and `use`.
    pub fn public_jwk(&self) -> &Value {
        &self.jwk
    }

    /// A JWT of these claims with this `typ`, `alg` and `kid` in its header.
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String, Error> {
        let header = Header { typ, alg: self.algorithm(), kid: &self.kid };
        let header = serde_json::to_vec(&header).map_err(|_| Error::Encoding)?;
        let claims = serde_json::to_vec(claims).map_err(|_| Error::Encoding)?;
        self.sign_parts(&header, &claims)
    }

    /// A JWS compact serialization of a header and a payload given as bytes (RFC 7515, 7.1).
    pub fn sign_parts(&self, header: &[u8], payload: &[u8]) -> Result<String, Error> {
        let mut token = String::with_capacity((header.len() + payload.len()) * 4 / 3 + 700);
        URL_SAFE_NO_PAD.encode_string(header, &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = match &self.material {
            Material::Backend(signer) => signer.try_sign(token.as_bytes()).map_err(|_| Error::Backend)?,
            Material::P521(key) => key.sign(token.as_bytes())?,
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

/// Names algorithm and `kid` only.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm()).field("kid", &self.kid).finish()
    }
}

fn public_jwk(material: &Material) -> Option<Value> {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signer = match material {
        Material::Backend(signer) => signer,
        Material::P521(key) => {
            let (x, y) = key.coordinates();
            return Some(json!({"kty": "EC", "crv": "P-521", "x": b64(&x), "y": b64(&y)}));
        }
    };
    Some(match &signer.kind {
        Kind::Rsa(pair, _) => {
            let (n, e) = rsa_components(pair.public_key().as_ref())?;
            json!({"kty": "RSA", "n": b64(&n), "e": b64(&e)})
        }
        Kind::Ecdsa(pair) => {
            let point = pair.public_key().as_ref().get(1..)?;
            let (x, y) = point.split_at(point.len() / 2);
            let crv = if signer.algorithm == Algorithm::ES256 { "P-256" } else { "P-384" };
            json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y)})
        }
        Kind::Ed25519(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref())}),
        Kind::Hmac(_) => return None,
    })
}

/// The RFC 7638 thumbprint of a public JWK: SHA-256 over its required members in lexical order.
pub fn thumbprint(jwk: &Value) -> Option<[u8; 32]> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str);
    let names: &[&str] = match member("kty")? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    let mut text = String::from("{");
    for (index, name) in names.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // The members are base64url or fixed names, so JSON escaping never applies.
        text.push_str(&format!("{comma}\"{name}\":\"{}\"", member(name)?));
    }
    text.push('}');
    Some(super::sha256(text.as_bytes()))
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017, A.1.1), without sign octets.
pub(super) fn rsa_components(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (sequence, rest) = der_value(der, 0x30)?;
    let (n, after) = der_value(sequence, 0x02)?;
    let (e, end) = der_value(after, 0x02)?;
    let unsigned = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
    (rest.is_empty() && end.is_empty()).then(|| (unsigned(n), unsigned(e)))
}

fn der_value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    if first != tag {
        return None;
    }
    let (len, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), rest.get(2..)?),
        _ => return None,
    };
    (len <= rest.len()).then(|| rest.split_at(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::install;
    use jsonwebtoken::{DecodingKey, EncodingKey, Validation};

    #[test]
    fn thumbprint_matches_the_rfc() {
        // RFC 7638, 3.1.
        let jwk = json!({"kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29", "n":
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst\
n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI\
SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"});
        let print = thumbprint(&jwk).expect("an RSA key");
        assert_eq!(URL_SAFE_NO_PAD.encode(print), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn every_generated_key_signs_what_jsonwebtoken_verifies() {
        install();
        let claims = json!({"sub": "a", "exp": 4_102_444_800u64});
        for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256] {
            let key = SigningKey::generate(algorithm).expect("a key");
            let token = key.sign("at+jwt", &claims).expect("a token");
            let jwk = serde_json::from_value(key.public_jwk().clone()).expect("a JWK");
            let mut validation = Validation::new(algorithm);
            validation.validate_aud = false;
            let decoded =
                jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_jwk(&jwk).expect("a key"), &validation)
                    .expect("a good signature");
            assert_eq!(decoded.header.kid.as_deref(), Some(key.kid()));
            assert_eq!(decoded.claims["sub"], "a");
            assert!(!format!("{key:?}").contains(key.public_jwk()["x"].as_str().unwrap_or("n\":")));
        }
    }

    #[test]
    fn jsonwebtoken_signs_with_the_provider() {
        install();
        let pkcs8 = SigningKey::generate_pkcs8(Algorithm::ES256).expect("a key");
        let token = jsonwebtoken::encode(
            &jsonwebtoken::Header::new(Algorithm::ES256),
            &json!({"exp": 4_102_444_800u64}),
            &EncodingKey::from_ec_der(&pkcs8),
        );
        assert_eq!(token.expect("a token").split('.').count(), 3);
    }

    #[test]
    fn secrets_sign_under_a_given_kid_and_show_nothing() {
        // R1
        install();
        let secret = [7; 64];
        for (algorithm, known) in
            [(SigningAlgorithm::HS256, Algorithm::HS256), (SigningAlgorithm::HS512, Algorithm::HS512)]
        {
            let key = SigningKey::from_secret(algorithm, "one", &secret).expect("a key");
            let expected = json!({"kty": "oct", "alg": algorithm.name(), "use": "sig", "kid": "one"});
            assert_eq!(*key.public_jwk(), expected);
            let token = key.sign("JWT", &json!({"sub": "a"})).expect("a token");
            let mut validation = Validation::new(known);
            validation.required_spec_claims.clear();
            let decoded = jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_secret(&secret), &validation);
            assert_eq!(decoded.expect("a good signature").header.kid.as_deref(), Some("one"));
        }
        for (algorithm, secret) in [
            (SigningAlgorithm::HS384, &secret[..47]),
            (SigningAlgorithm::HS256, b""),
            (SigningAlgorithm::RS256, &secret),
        ] {
            assert!(SigningKey::from_secret(algorithm, "one", secret).is_err(), "{algorithm:?}");
        }
        assert!(SigningKey::from_secret(SigningAlgorithm::HS384, "one", &secret[..48]).is_ok());
        assert!(SigningKey::generate(SigningAlgorithm::HS256).is_err());
    }

    #[test]
    fn a_key_may_have_its_owners_kid() {
        let key = SigningKey::generate(SigningAlgorithm::EdDSA).expect("a key").with_kid("mine");
        assert_eq!((key.kid(), &key.public_jwk()["kid"], key.algorithm()), ("mine", &json!("mine"), "EdDSA"));
        let token = key.sign("at+jwt", &json!({})).expect("a token");
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().expect("a header")).expect("base64url");
        assert_eq!(header, br#"{"typ":"at+jwt","alg":"EdDSA","kid":"mine"}"#);
    }
}
