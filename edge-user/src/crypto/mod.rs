//! The one door to cryptography: *ring*, or aws-lc-rs (which has ring's API) with the feature `aws-lc`.
//!
//! Here: digests, MACs, randomness, and the providers that rustls and jsonwebtoken are given. Verification keys stand
//! in `verify`, signing keys in `sign`; both are the types that jsonwebtoken's provider hands out.

mod es512;
pub mod jwk;
pub mod seal;
pub mod sign;
pub mod verify;

#[cfg(feature = "aws-lc")]
pub(crate) use aws_lc_rs as backend;
#[cfg(not(feature = "aws-lc"))]
pub(crate) use ring as backend;

use backend::rand::SecureRandom;
use backend::{digest, hmac, rand};
use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::{CryptoProvider, KeyUtils};
use jsonwebtoken::jwk::ThumbprintHash;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The signature algorithms that tokens are verified by, with their names (RFC 7518, 3.1; RFC 8037, 3.1). ES512 is not among
/// them: the backend has no P-521.
pub const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
];

/// What can go wrong with keys and signatures. No variant carries key material.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key's bytes are not a key of the wanted kind.
    #[error("the key is malformed or of another kind than its algorithm")]
    KeyMalformed,
    /// RFC 7518, 3.3: RSA keys have at least 2048 bit.
    #[error("the RSA key has {bits} bit; at least 2048 and at most 8192 are needed")]
    RsaSize {
        /// The modulus's length.
        bits: usize,
    },
    /// RFC 7518, 3.2: a secret is at least as long as the hash.
    #[error("the secret has {bytes} bytes, fewer than the algorithm's hash")]
    SecretSize {
        /// Its length.
        bytes: usize,
    },
    /// The point is not on its curve (RFC 8725, 3.4).
    #[error("the EC point is not on the curve")]
    PointInvalid,
    /// The algorithm is not offered for this.
    #[error("the algorithm {0} is not supported here")]
    AlgorithmUnsupported(&'static str),
    /// Key generation or signing failed inside the backend.
    #[error("the cryptographic backend failed")]
    Backend,
    /// A key could not be encoded or decoded as PKCS#8.
    #[error("the key's PKCS#8 or PEM encoding is invalid")]
    Encoding,
}

/// SHA-256.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

/// SHA-1, by which OCSP responses name issuers (RFC 6960, 4.1.1). It proves nothing.
pub fn sha1_name(data: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    out.copy_from_slice(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data).as_ref());
    out
}

/// SHA-256 over fields, each with its length before it: other fields never have the same digest.
pub struct FieldDigest(digest::Context);

impl Default for FieldDigest {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl FieldDigest {
    /// Appends one field.
    pub fn field(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// Appends a field that may be absent, which is not the same as empty.
    pub fn maybe(self, bytes: Option<impl AsRef<[u8]>>) -> Self {
        match bytes {
            None => self.field([0]),
            Some(bytes) => self.field([1]).field(bytes),
        }
    }

    /// Appends a list, with its length.
    pub fn list<T: AsRef<[u8]>>(self, items: impl ExactSizeIterator<Item = T>) -> Self {
        let counted = self.field((items.len() as u64).to_be_bytes());
        items.fold(counted, Self::field)
    }

    /// The digest.
    pub fn finish(self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        out
    }
}

/// An HMAC-SHA-256 key with its schedule computed once.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// A key from bytes of any length.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The MAC of `data`.
    pub fn mac(&self, data: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(hmac::sign(&self.0, data).as_ref());
        out
    }
}

/// Bytes of the system's generator.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    // A process without randomness cannot make keys, nonces or cache keys; going on would be worse.
    rand::SystemRandom::new().fill(&mut out).expect("the system's random generator answers");
    out
}

/// Whether two secrets are equal, in time that depends on their lengths alone.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// The rustls provider on the same backend.
pub fn tls_provider() -> Arc<rustls::crypto::CryptoProvider> {
    #[cfg(feature = "aws-lc")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc"))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}

/// jsonwebtoken's provider: keys of `verify` and `sign`.
pub static JWT_PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(sign::Signer::new(*algorithm, key.as_bytes()).map_err(provider)?)),
    verifier_factory: |algorithm, key| Ok(Box::new(verify::VerifyingKey::new(*algorithm, key).map_err(provider)?)),
    key_utils: KeyUtils { compute_digest: thumbprint_digest, ..KeyUtils::new_unimplemented() },
};

fn thumbprint_digest(data: &[u8], hash: ThumbprintHash) -> jsonwebtoken::errors::Result<Vec<u8>> {
    let algorithm = match hash {
        ThumbprintHash::SHA256 => &digest::SHA256,
        ThumbprintHash::SHA384 => &digest::SHA384,
        ThumbprintHash::SHA512 => &digest::SHA512,
        _ => return Err(provider(Error::Backend)),
    };
    Ok(digest::digest(algorithm, data).as_ref().to_vec())
}

fn provider(error: Error) -> jsonwebtoken::errors::Error {
    jsonwebtoken::errors::new_error(jsonwebtoken::errors::ErrorKind::Provider(error.to_string()))
}

/// Makes the backend the process default of rustls and jsonwebtoken. May be called any number of times.
pub fn install() {
    // An error means that a default stands already, which is what is wanted.
    let _ = tls_provider().as_ref().clone().install_default();
    let _ = JWT_PROVIDER.install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_and_mac_match_published_vectors() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // FIPS 180-2, B.1.
        assert_eq!(hex(&sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hex(&sha1_name(b"abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
        // RFC 4231, 4.3.
        let mac = MacKey::new(b"Jefe").mac(b"what do ya want for nothing?");
        assert_eq!(hex(&mac), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let none = None::<&str>;
        let all = [
            FieldDigest::default().field("ab").field("c"),
            FieldDigest::default().field("a").field("bc"),
            FieldDigest::default().field("abc"),
            FieldDigest::default().list(["a", "bc"].iter()),
            FieldDigest::default().list(["a"].iter()).field("bc"),
            FieldDigest::default().maybe(none),
            FieldDigest::default().maybe(Some("")),
            FieldDigest::default(),
        ]
        .map(FieldDigest::finish);
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one), "{at}");
        }
        assert_eq!(all[2], FieldDigest::default().field("abc").finish());
    }

    #[test]
    fn secrets_compare_as_a_whole() {
        // T17: the comparison itself is `subtle`'s, whose time depends on lengths alone.
        for (a, b, equal) in [("abc", "abc", true), ("abc", "abd", false), ("abc", "ab", false), ("", "", true)] {
            assert_eq!(constant_time_eq(a.as_bytes(), b.as_bytes()), equal);
        }
        assert_ne!(random::<32>(), random::<32>());
    }

    #[test]
    fn install_can_be_repeated() {
        install();
        install();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
