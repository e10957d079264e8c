//! New keys for a set: one for each algorithm whose public part others can verify with.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::crypto::{
    Error,
    sign::{SigningAlgorithm, SigningKey},
};

/// A key that was just made, with the private part that a store keeps.
pub(super) struct Made {
    /// What it signs with.
    pub(super) algorithm: SigningAlgorithm,
    /// The private key as PKCS#8 DER.
    pub(super) pkcs8: Zeroizing<Vec<u8>>,
    /// The same, ready.
    pub(super) key: Arc<SigningKey>,
}

/// Makes a key for each of the algorithms.
pub(super) async fn keys(algorithms: Arc<[SigningAlgorithm]>) -> Result<Vec<Made>, Error> {
    // The RSA keys take a second or so together: one after another, they take it from one core alone.
    let made = tokio::task::spawn_blocking(move || algorithms.iter().copied().map(make).collect());
    made.await.map_err(|_| Error::Backend)?
}

fn make(algorithm: SigningAlgorithm) -> Result<Made, Error> {
    let pkcs8 = Zeroizing::new(SigningKey::generate_pkcs8(algorithm)?);
    let key = Arc::new(SigningKey::from_pkcs8(algorithm, &pkcs8)?);
    Ok(Made { algorithm, pkcs8, key })
}
