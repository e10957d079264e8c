//! Verification keys: parsed and checked once, then held for one algorithm each.
//!
//! `VerifyingKey` is what jsonwebtoken's provider returns as `JwtVerifier`; the key sets of `token::jwks` hold the same
//! type, so that a token never pays for parsing a key.

use super::{Error, backend};
use backend::{agreement, hmac, rand, signature};
use jsonwebtoken::crypto::JwtVerifier;
use jsonwebtoken::signature::{Error as SignatureError, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

/// A key bound to one algorithm.
pub struct VerifyingKey {
    algorithm: Algorithm,
    kind: Kind,
}

enum Kind {
    Public(PublicKey),
    Hmac(Box<hmac::Key>),
}

/// aws-lc-rs keeps a parsed key; ring parses at each use, at a cost that is part of its 24 µs for RSA.
#[cfg(feature = "aws-lc")]
struct PublicKey(signature::ParsedPublicKey);
#[cfg(not(feature = "aws-lc"))]
struct PublicKey(signature::UnparsedPublicKey<Vec<u8>>);

#[cfg(feature = "aws-lc")]
impl PublicKey {
    fn new(algorithm: &'static dyn signature::VerificationAlgorithm, bytes: Vec<u8>) -> Result<Self, Error> {
        signature::ParsedPublicKey::new(algorithm, bytes).map(Self).map_err(|_| Error::KeyMalformed)
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}

#[cfg(not(feature = "aws-lc"))]
impl PublicKey {
    fn new(algorithm: &'static dyn signature::VerificationAlgorithm, bytes: Vec<u8>) -> Result<Self, Error> {
        Ok(Self(signature::UnparsedPublicKey::new(algorithm, bytes)))
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify(message, signature).is_ok()
    }
}

impl VerifyingKey {
    /// Parses and checks a key for one algorithm. RSA under 2048 bit and points off their curve are refused.
    pub fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        if key.family() != algorithm.family() {
            return Err(Error::KeyMalformed);
        }
        let kind = match key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => Kind::Public(rsa(algorithm, n, e)?),
            // Everyone knows the empty secret.
            DecodingKeyKind::SecretOrDer(bytes) if bytes.is_empty() => return Err(Error::KeyMalformed),
            DecodingKeyKind::SecretOrDer(bytes) => match algorithm {
                Algorithm::HS256 => Kind::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, bytes))),
                Algorithm::HS384 => Kind::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA384, bytes))),
                Algorithm::HS512 => Kind::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA512, bytes))),
                Algorithm::ES256 | Algorithm::ES384 => Kind::Public(ec(algorithm, bytes)?),
                Algorithm::EdDSA => Kind::Public(ed25519(bytes)?),
                _ => {
                    let (n, e) = super::sign::rsa_components(bytes).ok_or(Error::KeyMalformed)?;
                    Kind::Public(rsa(algorithm, &n, &e)?)
                }
            },
        };
        Ok(Self { algorithm, kind })
    }

    /// The algorithm this key verifies, and no other.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for VerifyingKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        // Fixed form only: DER and padded forms are other lengths (RFC 7518, 3.4).
        let good = match (&self.kind, self.algorithm) {
            (Kind::Public(_), Algorithm::ES256 | Algorithm::EdDSA) if signature.len() != 64 => false,
            (Kind::Public(_), Algorithm::ES384) if signature.len() != 96 => false,
            (Kind::Public(key), _) => key.verify(message, signature),
            (Kind::Hmac(key), _) => hmac::verify(key, message, signature).is_ok(),
        };
        if good { Ok(()) } else { Err(SignatureError::new()) }
    }
}

impl JwtVerifier for VerifyingKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn rsa(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Result<PublicKey, Error> {
    let parameters: &'static signature::RsaParameters = match algorithm {
        Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return Err(Error::KeyMalformed),
    };
    // Some issuers write the sign octet of ASN.1 into `n`, which RFC 7518, 6.3.1.1 forbids; it changes nothing.
    let n = strip_zeros(n);
    let e = strip_zeros(e);
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(Error::RsaSize { bits });
    }
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    // e: odd, at least 3, at most 33 bit as the backends have it.
    let e_value = e.iter().fold(0u64, |value, byte| value.saturating_mul(256).saturating_add(u64::from(*byte)));
    if !odd(n) || !odd(e) || !(3..1 << 33).contains(&e_value) {
        return Err(Error::KeyMalformed);
    }
    PublicKey::new(parameters, rsa_der(n, e))
}

fn strip_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn ec(algorithm: Algorithm, point: &[u8]) -> Result<PublicKey, Error> {
    let (exchange, parameters, len): (_, &'static dyn signature::VerificationAlgorithm, _) = match algorithm {
        Algorithm::ES256 => (&agreement::ECDH_P256, &signature::ECDSA_P256_SHA256_FIXED, 65),
        _ => (&agreement::ECDH_P384, &signature::ECDSA_P384_SHA384_FIXED, 97),
    };
    if point.len() != len || point[0] != 4 {
        return Err(Error::KeyMalformed);
    }
    // A key agreement is the backends' public way to have a point checked against its curve.
    let ephemeral =
        agreement::EphemeralPrivateKey::generate(exchange, &rand::SystemRandom::new()).map_err(|_| Error::Backend)?;
    let peer = agreement::UnparsedPublicKey::new(exchange, point);
    #[cfg(feature = "aws-lc")]
    agreement::agree_ephemeral(ephemeral, peer, Error::PointInvalid, |_| Ok(()))?;
    #[cfg(not(feature = "aws-lc"))]
    agreement::agree_ephemeral(ephemeral, &peer, |_| ()).map_err(|_| Error::PointInvalid)?;
    PublicKey::new(parameters, point.to_vec())
}

fn ed25519(bytes: &[u8]) -> Result<PublicKey, Error> {
    if bytes.len() != 32 {
        return Err(Error::KeyMalformed);
    }
    PublicKey::new(&signature::ED25519, bytes.to_vec())
}

/// `RSAPublicKey` of RFC 8017, A.1.1, which both backends parse.
fn rsa_der(n: &[u8], e: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(n.len() + e.len() + 16);
    for number in [n, e] {
        let sign = usize::from(number.first().is_some_and(|first| first & 0x80 != 0));
        body.push(0x02);
        der_length(&mut body, number.len() + sign);
        body.extend(std::iter::repeat_n(0, sign));
        body.extend_from_slice(number);
    }
    let mut out = Vec::with_capacity(body.len() + 4);
    out.push(0x30);
    der_length(&mut out, body.len());
    out.extend_from_slice(&body);
    out
}

pub(super) fn der_length(out: &mut Vec<u8>, len: usize) {
    match len {
        0..=0x7f => out.push(len as u8),
        0x80..=0xff => out.extend_from_slice(&[0x81, len as u8]),
        _ => out.extend_from_slice(&[0x82, (len >> 8) as u8, len as u8]),
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
