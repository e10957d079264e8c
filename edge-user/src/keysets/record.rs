//! What a key set consists of, and which of its keys signs at a time. No I/O, no clock.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::crypto::sign::{SigningAlgorithm, SigningKey};

/// The keys of one set: those of now, and those of before.
pub(super) struct Record {
    /// The set's id.
    pub(super) id: Uuid,
    /// Grows with each rotation.
    pub(super) revision: i64,
    /// When it was made or first fetched, Unix milliseconds.
    pub(super) created_ms: i64,
    /// When it was last made, fetched or rotated.
    pub(super) updated_ms: i64,
    /// When `keys` came in. They sign once they have been published for a while.
    pub(super) rotated_ms: i64,
    /// The current keys.
    pub(super) keys: Vec<Arc<SigningKey>>,
    /// Those that were current before, until the next rotation.
    pub(super) previous: Vec<Arc<SigningKey>>,
}

impl Record {
    /// A set of keys that follow none.
    pub(super) fn first(id: Uuid, keys: Vec<Arc<SigningKey>>, now_ms: i64) -> Self {
        let (created_ms, updated_ms, rotated_ms) = (now_ms, now_ms, now_ms);
        Self { id, revision: 1, created_ms, updated_ms, rotated_ms, keys, previous: Vec::new() }
    }

    /// The set with new keys; what was current is previous, and what was previous is forgotten.
    pub(super) fn rotated(&self, keys: Vec<Arc<SigningKey>>, now_ms: i64) -> Self {
        let (updated_ms, rotated_ms, previous) = (now_ms, now_ms, self.keys.clone());
        let Self { id, created_ms, .. } = *self;
        Self { id, revision: self.revision + 1, created_ms, updated_ms, rotated_ms, keys, previous }
    }

    /// The same keys, looked at again.
    pub(super) fn confirmed(&self, now_ms: i64) -> Self {
        let (keys, previous) = (self.keys.clone(), self.previous.clone());
        let Self { id, revision, created_ms, rotated_ms, .. } = *self;
        Self { id, revision, created_ms, updated_ms: now_ms, rotated_ms, keys, previous }
    }

    /// Whether the other is the same set, rotated as often.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.id, self.revision) == (other.id, other.revision)
    }

    /// When the current keys begin to sign, where others do until then.
    pub(super) fn signs_from(&self, ahead: Duration) -> Option<i64> {
        (!self.previous.is_empty()).then(|| self.rotated_ms.saturating_add(millis(ahead)))
    }

    /// The keys that sign at a time: the previous ones, which everybody has had the time to fetch, until the current ones
    /// have been published for `ahead` (R5). An algorithm that has no previous key is signed by its current one.
    pub(super) fn signing(&self, ahead: Duration, now_ms: i64) -> Signing {
        // A rotation in the future was made by a clock that was wrong: nobody waits for that time to come.
        let waits = self.rotated_ms <= now_ms && self.signs_from(ahead).is_some_and(|from| now_ms < from);
        Signing(SigningAlgorithm::ALL.map(|algorithm| {
            let of = |keys: &[Arc<SigningKey>]| keys.iter().find(|key| key.algorithm() == algorithm.name()).cloned();
            let previous = if waits { of(&self.previous) } else { None };
            previous.or_else(|| of(&self.keys))
        }))
    }

    /// When new keys are to be made. Times are the stored ones: a restart postpones nothing. Keys that did not sign yet are
    /// not pushed aside.
    pub(super) fn rotates_at(&self, period: Duration, ahead: Duration) -> i64 {
        self.rotated_ms.saturating_add(millis(period.max(ahead)))
    }

    /// When the set is to be fetched again.
    pub(super) fn fetched_again_at(&self, period: Duration) -> i64 {
        self.updated_ms.saturating_add(millis(period))
    }

    /// The public keys: the current ones, and the previous ones.
    pub(super) fn published(&self) -> (Vec<Value>, Vec<Value>) {
        let public = |keys: &[Arc<SigningKey>]| keys.iter().map(|key| key.public_jwk().clone()).collect();
        (public(&self.keys), public(&self.previous))
    }
}

/// The key that signs, by algorithm.
pub(super) struct Signing([Option<Arc<SigningKey>>; SigningAlgorithm::ALL.len()]);

impl Signing {
    /// The key of an algorithm.
    pub(super) fn key(&self, algorithm: SigningAlgorithm) -> Option<&Arc<SigningKey>> {
        let at = SigningAlgorithm::ALL.iter().position(|one| *one == algorithm)?;
        self.0[at].as_ref()
    }

    /// Whether the same keys sign.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|pair| match pair {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        })
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AHEAD: Duration = Duration::from_secs(60);

    fn key(algorithm: SigningAlgorithm) -> Arc<SigningKey> {
        Arc::new(SigningKey::generate(algorithm).expect("a key"))
    }

    fn keys() -> Vec<Arc<SigningKey>> {
        vec![key(SigningAlgorithm::ES256), key(SigningAlgorithm::EdDSA)]
    }

    fn signs(record: &Record, now_ms: i64) -> String {
        let signing = record.signing(AHEAD, now_ms);
        signing.key(SigningAlgorithm::ES256).expect("a key").kid().to_owned()
    }

    #[test]
    fn new_keys_sign_once_they_were_published_for_a_while() {
        // R5: the first, then two rotations, the second of which comes before the keys of the first have signed.
        let sets = [keys(), keys(), keys()];
        let kid = |at: usize| sets[at][0].kid().to_owned();
        let first = Record::first(Uuid::nil(), sets[0].clone(), 1_000_000);
        assert_eq!((signs(&first, 1_000_000), first.signs_from(AHEAD)), (kid(0), None), "nothing came before");
        let second = first.rotated(sets[1].clone(), 2_000_000);
        let third = second.rotated(sets[2].clone(), 2_030_000);
        for (record, now_ms, signer) in [
            (&second, 2_000_000, 0),
            (&second, 2_059_999, 0),
            (&second, 2_060_000, 1),
            (&second, 9_000_000, 1),
            // The first is not published any more; of the other two, the second has been for longer.
            (&third, 2_030_000, 1),
            (&third, 2_089_999, 1),
            (&third, 2_090_000, 2),
        ] {
            assert_eq!(signs(record, now_ms), kid(signer), "{now_ms}");
        }
        assert_eq!((third.id, third.created_ms, third.updated_ms), (Uuid::nil(), 1_000_000, 2_030_000));
        assert_eq!(third.signs_from(AHEAD), Some(2_090_000));
        let (current, previous) = third.published();
        assert_eq!((&current[0]["kid"], &previous[0]["kid"]), (&kid(2).into(), &kid(1).into()));
        assert_eq!((current.len(), previous.len()), (2, 2));
    }

    #[test]
    fn an_algorithm_without_a_previous_key_signs_at_once() {
        let first = Record::first(Uuid::nil(), vec![key(SigningAlgorithm::ES256)], 0);
        let second = first.rotated(keys(), 1000);
        let now = second.signing(AHEAD, 1000);
        assert!(Arc::ptr_eq(now.key(SigningAlgorithm::ES256).expect("a key"), &first.keys[0]));
        assert!(Arc::ptr_eq(now.key(SigningAlgorithm::EdDSA).expect("a key"), &second.keys[1]));
        assert!(now.key(SigningAlgorithm::RS256).is_none());
        let third = second.rotated(vec![key(SigningAlgorithm::ES256)], 2000);
        assert!(third.signing(AHEAD, 2000).key(SigningAlgorithm::EdDSA).is_some());
        assert!(third.signing(AHEAD, 62_000).key(SigningAlgorithm::EdDSA).is_none(), "its key is not current");
        assert!(now.is(&second.signing(AHEAD, 2000)) && !now.is(&second.signing(AHEAD, 61_000)));
        assert!(!third.signing(AHEAD, 62_000).is(&third.signing(AHEAD, 2000)));
    }

    #[test]
    fn periods_count_from_the_stored_times() {
        let hour = Duration::from_secs(3600);
        let record = Record::first(Uuid::nil(), keys(), 5000).confirmed(9000);
        assert_eq!((record.rotates_at(hour, AHEAD), record.fetched_again_at(hour)), (3_605_000, 3_609_000));
        assert_eq!(record.rotates_at(Duration::from_secs(1), AHEAD), 65_000, "not before its keys sign");
        assert_eq!(record.rotates_at(Duration::MAX, AHEAD), i64::MAX, "never, rather than at once");
    }
}
