//! Keys that the edge makes for itself, for `private_key_jwt` without a `client_jwk`: published by the Admin API.
//!
//! They live in this process: another start, or another node, has others, and the issuer finds them by their `kid`.

use crate::crypto::{self, sign::SigningKey};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

type Slot = (Algorithm, Arc<OnceCell<Arc<SigningKey>>>);

/// One key for each algorithm that some client signs with.
#[derive(Default)]
pub struct GeneratedKeys(Mutex<Vec<Slot>>);

impl GeneratedKeys {
    /// Some client signs with this algorithm: it is published from now on. Makes no key yet.
    pub fn want(&self, algorithm: Algorithm) {
        self.slot(algorithm);
    }

    /// The key of an algorithm, made where there is none.
    pub async fn key(&self, algorithm: Algorithm) -> Result<Arc<SigningKey>, crypto::Error> {
        make(algorithm, &self.slot(algorithm)).await
    }

    /// The public keys of all that are wanted, as a JWK set.
    pub async fn published(&self) -> Result<Value, crypto::Error> {
        let slots = self.slots().clone();
        let mut keys = Vec::with_capacity(slots.len());
        for (algorithm, slot) in slots {
            keys.push(make(algorithm, &slot).await?.public_jwk().clone());
        }
        Ok(json!({ "keys": keys }))
    }

    /// Forgets every key; the next use of each makes another.
    pub fn rotate(&self) {
        for (_, slot) in self.slots().iter_mut() {
            *slot = Arc::default();
        }
    }

    fn slot(&self, algorithm: Algorithm) -> Arc<OnceCell<Arc<SigningKey>>> {
        let mut slots = self.slots();
        if let Some((_, slot)) = slots.iter().find(|(known, _)| *known == algorithm) {
            return Arc::clone(slot);
        }
        let slot = Arc::default();
        slots.push((algorithm, Arc::clone(&slot)));
        slot
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        // Pushes and replacements leave the list whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn make(algorithm: Algorithm, slot: &OnceCell<Arc<SigningKey>>) -> Result<Arc<SigningKey>, crypto::Error> {
    // An RSA key takes a noticeable part of a second, which the other work of the runtime does not wait for.
    let generate = async || {
        let made = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm)).await;
        made.map_err(|_| crypto::Error::Backend)?.map(Arc::new)
    };
    slot.get_or_try_init(generate).await.cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_are_made_once_published_without_private_parts_and_rotated() {
        let keys = GeneratedKeys::default();
        assert_eq!(keys.published().await.unwrap(), json!({"keys": []}));
        keys.want(Algorithm::ES256);
        let first = keys.key(Algorithm::ES256).await.unwrap();
        let published = keys.published().await.unwrap();
        assert_eq!(published, json!({"keys": [first.public_jwk()]}));
        assert!(published["keys"][0].get("d").is_none());
        assert!(Arc::ptr_eq(&first, &keys.key(Algorithm::ES256).await.unwrap()));
        keys.rotate();
        let second = keys.published().await.unwrap();
        assert_ne!(second["keys"][0]["kid"], published["keys"][0]["kid"]);
        keys.key(Algorithm::EdDSA).await.unwrap();
        assert_eq!(keys.published().await.unwrap()["keys"].as_array().unwrap().len(), 2);
    }
}
