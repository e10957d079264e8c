//! Which proofs were used: bounded, shared by the workers, and never wrong towards accepting.
//!
//! A set of fixed size, of buckets that each keep the youngest proofs (by `iat`) that fell into them. What a bucket has
//! to let go raises its floor, and a proof that is not younger than the floor is refused: it may have been seen. So no
//! proof passes twice, whatever the load, the lifetimes of routes or the clock do; more proofs than the set holds only
//! shorten the time in which a proof is taken. At 1,000 proofs/s that is 17 minutes, at 10,000 it is 100 s. The hash is
//! keyed, so nobody can aim at a bucket, and only proofs that a token's owner signed come here.
//!
//! It dies with the process; nonces do too, so with `dpop_use_nonce` a restart forgets nothing that still counts.

use std::sync::{Mutex, PoisonError};

/// Proofs per bucket.
const WAYS: usize = 8;
/// Buckets under one lock, which is held for a look at one of them.
const BUCKETS: usize = 128;
/// Locks; 2^20 proofs in all, 13 MiB once they are in use.
const SHARDS: usize = 1024;

/// See the module text.
pub(super) struct Replays {
    shards: Box<[Mutex<Box<[Bucket]>>]>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// Hashes; which place is in use the other list says.
    tags: [u64; WAYS],
    /// Seconds since 1970; 0 is an empty place.
    issued: [u32; WAYS],
    /// The youngest proof this bucket has let go.
    floor: u32,
}

impl Default for Replays {
    fn default() -> Self {
        Self::new(SHARDS, BUCKETS)
    }
}

impl Replays {
    fn new(shards: usize, buckets: usize) -> Self {
        let shard = || Mutex::new(vec![Bucket::default(); buckets].into_boxed_slice());
        Self { shards: (0..shards).map(|_| shard()).collect() }
    }

    /// Uses a proof up; false if it was used before, or may have been.
    pub(super) fn take(&self, digest: &[u8; 32], iat_ms: i64) -> bool {
        let (word, tag) = (part(digest, 0), part(digest, 8));
        let place = usize::try_from(word >> 1).unwrap_or(usize::MAX / 2);
        let shard = &self.shards[place % self.shards.len()];
        let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = place / self.shards.len() % buckets.len();
        let issued = u32::try_from(iat_ms.div_euclid(1000)).unwrap_or(0).max(1);
        buckets[bucket].take(tag, issued)
    }
}

fn part(digest: &[u8; 32], from: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[from..from + 8]);
    u64::from_be_bytes(bytes)
}

impl Bucket {
    fn take(&mut self, tag: u64, issued: u32) -> bool {
        let seen = self.tags.iter().zip(&self.issued).any(|(kept, at)| *at != 0 && *kept == tag);
        if seen || issued <= self.floor {
            return false;
        }
        // An empty place counts as the oldest.
        let (oldest, at) = self.issued.iter().copied().enumerate().min_by_key(|(_, at)| *at).unwrap_or((0, 0));
        if issued < at {
            self.floor = issued;
            return true;
        }
        self.floor = self.floor.max(at);
        self.tags[oldest] = tag;
        self.issued[oldest] = issued;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn digest(number: u64) -> [u8; 32] {
        sha256(&number.to_be_bytes())
    }

    #[test]
    fn what_was_let_go_is_not_taken_again() {
        let small = Replays::new(1, 1);
        for number in 1..=8 {
            assert!(small.take(&digest(number), number as i64 * 1000), "{number}");
        }
        assert!(!small.take(&digest(1), 1000), "seen");
        assert!(small.take(&digest(9), 9000), "the oldest goes");
        assert!(!small.take(&digest(1), 1000), "forgotten, and refused");
        assert!(!small.take(&digest(100), 1000), "no younger than what was let go");
        // Younger than what was let go, older than all that is kept: taken, and let go at once.
        for number in 11..=18 {
            assert!(small.take(&digest(number), 20_000), "{number}");
        }
        assert!(small.take(&digest(19), 19_000) && !small.take(&digest(20), 19_000));
        for number in 1..=19 {
            assert!(!small.take(&digest(number), number as i64 * 1000), "{number}");
        }
    }

    #[test]
    fn no_order_of_arrival_lets_a_proof_pass_twice() {
        // S5: a set much too small, times in any order, everything sent twice at random.
        let small = Replays::new(2, 2);
        let mut state = 0x9e37_79b9_u64;
        let mut random = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % bound
        };
        let mut taken = std::collections::HashSet::new();
        for round in 0..20_000u64 {
            let number = random(2_000) + round / 100 * 100;
            let iat_ms = (number * 7 % 600 + number / 20) as i64 * 1000;
            if small.take(&digest(number), iat_ms) {
                assert!(taken.insert(number), "{number} passed twice");
            }
        }
        assert!(taken.len() > 500, "{}", taken.len());
    }

    #[test]
    fn fresh_proofs_pass_while_far_more_than_fit_come() {
        let small = Replays::new(4, 4);
        let passed = (0..100_000u64).filter(|number| small.take(&digest(*number), *number as i64 * 10)).count();
        // 128 fit, 100 come each second.
        assert!(passed > 95_000, "{passed}");
    }

    #[test]
    fn of_many_threads_one_passes() {
        let all = Replays::new(16, 16);
        for number in 0..200 {
            let passed = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        if all.take(&digest(number), 1_000_000) {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(passed.into_inner(), 1);
        }
    }
}
