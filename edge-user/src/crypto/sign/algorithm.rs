//! What keys may sign with: the closed set of Kong's `signing_algorithm`, and jsonwebtoken's beside ES512, which it lacks.

use jsonwebtoken::{Algorithm, AlgorithmFamily};

use crate::crypto::ALGORITHMS;

/// The algorithms that Kong's jwt-signer signs with (RFC 7518, 3.1; RFC 8037, 3.1). There is no RS384.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names of the standards")]
pub enum SigningAlgorithm {
    ES256,
    ES384,
    ES512,
    EdDSA,
    HS256,
    HS384,
    HS512,
    PS256,
    PS384,
    PS512,
    RS256,
    RS512,
}

impl SigningAlgorithm {
    /// Each of them.
    pub const ALL: [Self; 12] = [
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
        Self::HS256,
        Self::HS384,
        Self::HS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::RS256,
        Self::RS512,
    ];

    /// As `alg` spells it.
    pub fn name(self) -> &'static str {
        KeyAlgorithm::from(self).name()
    }

    /// The algorithm of this name, case and all.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Whether who verifies must know the key that signs.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

/// What one key signs with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyAlgorithm {
    /// One of jsonwebtoken's, computed by the backend.
    Known(Algorithm),
    /// ES512.
    ES512,
}

impl KeyAlgorithm {
    /// As `alg` spells it.
    pub fn name(self) -> &'static str {
        let Self::Known(known) = self else { return "ES512" };
        let named = ALGORITHMS.iter().find(|(_, algorithm)| *algorithm == known);
        named.expect("the table has every algorithm of jsonwebtoken's").0
    }

    /// Whether the key is RSA's, which serves every algorithm of its family.
    pub(in crate::crypto) fn is_rsa(self) -> bool {
        matches!(self, Self::Known(known) if known.family() == AlgorithmFamily::Rsa)
    }

    /// Whether the key is a secret.
    pub(in crate::crypto) fn is_symmetric(self) -> bool {
        matches!(self, Self::Known(known) if known.family() == AlgorithmFamily::Hmac)
    }
}

impl From<Algorithm> for KeyAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        Self::Known(algorithm)
    }
}

impl From<SigningAlgorithm> for KeyAlgorithm {
    fn from(algorithm: SigningAlgorithm) -> Self {
        Self::Known(match algorithm {
            SigningAlgorithm::ES256 => Algorithm::ES256,
            SigningAlgorithm::ES384 => Algorithm::ES384,
            SigningAlgorithm::ES512 => return Self::ES512,
            SigningAlgorithm::EdDSA => Algorithm::EdDSA,
            SigningAlgorithm::HS256 => Algorithm::HS256,
            SigningAlgorithm::HS384 => Algorithm::HS384,
            SigningAlgorithm::HS512 => Algorithm::HS512,
            SigningAlgorithm::PS256 => Algorithm::PS256,
            SigningAlgorithm::PS384 => Algorithm::PS384,
            SigningAlgorithm::PS512 => Algorithm::PS512,
            SigningAlgorithm::RS256 => Algorithm::RS256,
            SigningAlgorithm::RS512 => Algorithm::RS512,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_standards_and_whole() {
        let names: Vec<_> = SigningAlgorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
        let expected = "ES256 ES384 ES512 EdDSA HS256 HS384 HS512 PS256 PS384 PS512 RS256 RS512";
        assert_eq!(names.join(" "), expected);
        for algorithm in SigningAlgorithm::ALL {
            assert_eq!(SigningAlgorithm::from_name(algorithm.name()), Some(algorithm));
            assert_eq!(algorithm.is_symmetric(), algorithm.name().starts_with("HS"));
        }
        for name in ["RS384", "rs256", "RS256 ", "none", ""] {
            assert_eq!(SigningAlgorithm::from_name(name), None, "{name:?}");
        }
        for (name, algorithm) in ALGORITHMS {
            assert_eq!(KeyAlgorithm::from(algorithm).name(), name);
        }
    }
}
