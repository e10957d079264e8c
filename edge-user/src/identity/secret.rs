//! Client secrets: kept as a slow salted hash, compared in constant time.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use crate::crypto::backend::pbkdf2;
use crate::crypto::{MacKey, constant_time_eq, random, sha256};

/// About 30 ms: a guesser pays it each time, a client once.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(100_000).expect("not zero");
static ALGORITHM: &pbkdf2::Algorithm = &pbkdf2::PBKDF2_HMAC_SHA256;

/// A secret that can be checked and not read (RFC 9700, 2.5; NIST SP 800-132).
pub(super) struct SecretHash {
    salt: [u8; 16],
    hash: [u8; 32],
    /// MAC of the secret that was found right last, under the process's own key: makes the next check quick.
    proven: Mutex<Option<[u8; 32]>>,
}

impl SecretHash {
    /// Hashes a secret, after SHA-256: HMAC pads its key with zeros, so PBKDF2 alone takes `a` and `a\0` for one. Slow.
    pub(super) fn new(secret: &str) -> Self {
        let (salt, mut hash) = (random(), [0; 32]);
        pbkdf2::derive(*ALGORITHM, ITERATIONS, &salt, &sha256(secret.as_bytes()), &mut hash);
        Self { salt, hash, proven: Mutex::new(None) }
    }

    /// A hash that no known secret has: what unknown clients are checked against, so that time tells nothing of ids.
    pub(super) fn decoy() -> Self {
        Self { salt: random(), hash: random(), proven: Mutex::new(None) }
    }

    /// Whether this secret was proven before. Quick; `false` says nothing.
    pub(super) fn is_proven(&self, secret: &str, key: &MacKey) -> bool {
        let proven = *self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.is_some_and(|mac| constant_time_eq(&mac, &key.mac(secret.as_bytes())))
    }

    /// Whether this is the secret. Slow: not on a runtime's thread.
    pub(super) fn verify(&self, secret: &str, key: &MacKey) -> bool {
        let right = pbkdf2::verify(*ALGORITHM, ITERATIONS, &self.salt, &sha256(secret.as_bytes()), &self.hash).is_ok();
        if right {
            *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.mac(secret.as_bytes()));
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O1.
    #[test]
    fn only_the_secret_itself_is_right_and_quick_afterwards() {
        let (hash, key) = (SecretHash::new("s3cret"), MacKey::new(b"k"));
        assert!(!hash.is_proven("s3cret", &key));
        for (secret, right) in [("S3cret", false), ("", false), ("s3cret\0", false), ("s3cret", true)] {
            assert_eq!(hash.verify(secret, &key), right, "{secret:?}");
        }
        assert!(hash.is_proven("s3cret", &key) && !hash.is_proven("S3cret", &key));
        assert!(!hash.is_proven("s3cret", &MacKey::new(b"another")));
        assert!(!SecretHash::decoy().verify("", &key));
    }
}
