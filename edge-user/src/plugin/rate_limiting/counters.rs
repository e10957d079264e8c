//! Counters in memory, one store for all workers.
//!
//! A request looks its counters up under a shard's read lock and counts with atomics. A write lock is taken for a key
//! that is new. Each shard is bounded: once half of it is taken, counters whose window has passed go, and if that is
//! not enough, those that nobody used since the last time.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

const SHARDS: usize = 64;
/// Counters that a shard keeps of one generation; there are two.
const GENERATION: usize = 1024;

/// How often one key was used in its window.
pub(super) struct Counter {
    count: AtomicU64,
    /// When the window is over.
    pub(super) end_ms: i64,
    /// What of the count others have not been told yet.
    pub(super) unsent: AtomicU64,
    /// Whether it waits to be told.
    pub(super) queued: AtomicBool,
}

impl Counter {
    fn new(end_ms: i64) -> Self {
        Self { count: AtomicU64::new(0), end_ms, unsent: AtomicU64::new(0), queued: AtomicBool::new(false) }
    }

    /// The uses so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts one use, unless there were `most` already; the uses before it.
    fn take(&self, most: u64) -> Result<u64, u64> {
        let more = |count| (count < most).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
    }

    /// Takes a use back.
    fn give_back(&self) {
        // A correction may have been here meanwhile.
        let less = |count: u64| Some(count.saturating_sub(1));
        let _ = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Others counted too: what was known as `known` is `total` in truth.
    pub(super) fn correct(&self, known: u64, total: u64) {
        let corrected = |count: u64| Some((count + total).saturating_sub(known));
        let _ = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, corrected);
    }
}

/// Counts one use of every counter, or of none where one has its `most` already; the uses before this one.
pub(super) fn take_all(counters: &[(Arc<Counter>, u64)], before: &mut Vec<u64>) -> bool {
    before.clear();
    before.extend(counters.iter().map(|(counter, _)| counter.count()));
    if before.iter().zip(counters).any(|(count, (_, most))| count >= most) {
        return false;
    }
    for (index, (counter, most)) in counters.iter().enumerate() {
        match counter.take(*most) {
            Ok(count) => before[index] = count,
            Err(count) => {
                // Another request took the last use meanwhile.
                counters[..index].iter().for_each(|(taken, _)| taken.give_back());
                before[index] = count;
                return false;
            }
        }
    }
    true
}

type Keyed = HashMap<Box<[u8]>, Arc<Counter>>;

#[derive(Default)]
struct Shard {
    young: Keyed,
    old: Keyed,
}

/// The store; see the module text.
pub(super) struct Counters {
    shards: Box<[RwLock<Shard>]>,
    hasher: RandomState,
    evicted: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            evicted: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// The counter of a key, whose window ends then; made where there is none.
    pub(super) fn counter(&self, key: &[u8], end_ms: i64, now_ms: i64) -> Arc<Counter> {
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        // Every change leaves the maps whole, so a panic elsewhere spoils nothing.
        if let Some(counter) = shard.read().unwrap_or_else(PoisonError::into_inner).young.get(key) {
            return counter.clone();
        }
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = shard.young.get(key) {
            return counter.clone();
        }
        // Before the old ones go: a counter that is asked for is in use.
        let kept = shard.old.remove(key);
        if shard.young.len() >= GENERATION {
            shard.young.retain(|_, counter| counter.end_ms > now_ms);
            if shard.young.len() >= GENERATION / 2 {
                let young = std::mem::take(&mut shard.young);
                let dropped = std::mem::replace(&mut shard.old, young);
                let lost = dropped.values().filter(|counter| counter.end_ms > now_ms).count();
                self.evicted.fetch_add(lost as u64, Ordering::Relaxed);
            }
        }
        let counter = kept.unwrap_or_else(|| Arc::new(Counter::new(end_ms)));
        shard.young.insert(key.into(), counter.clone());
        counter
    }

    /// How many counters there are.
    pub(super) fn len(&self) -> usize {
        let shards = self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner));
        shards.map(|shard| shard.young.len() + shard.old.len()).sum()
    }

    /// How many were forgotten before their window was over, for want of room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn limits_hold_under_many_threads() {
        let counters = Counters::default();
        let (threads, each, limits) = (8, 20_000, [10_000_u64, 50_000]);
        let passed: u64 = std::thread::scope(|scope| {
            let run = || {
                let mut before = Vec::new();
                let take = |_| {
                    let pair = limits.map(|limit| (counters.counter(format!("k{limit}").as_bytes(), 9, 0), limit));
                    u64::from(take_all(&pair, &mut before))
                };
                (0..each).map(take).sum::<u64>()
            };
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            handles.into_iter().map(|handle| handle.join().expect("a count")).sum()
        });
        assert_eq!(passed, limits[0]);
        // What the shorter limit refused was not counted by the longer one.
        assert_eq!(counters.counter(b"k50000", 9, 0).count(), limits[0]);
    }

    #[test]
    fn the_store_is_bounded_and_keeps_what_is_used() {
        let counters = Counters::default();
        let mut before = Vec::new();
        for index in 0..20 * SHARDS * GENERATION {
            if index % 1000 == 0 {
                assert!(take_all(&[(counters.counter(b"hot", i64::MAX, 0), u64::MAX)], &mut before));
            }
            counters.counter(&index.to_be_bytes(), i64::MAX, 0);
        }
        assert!(counters.len() <= 2 * SHARDS * (GENERATION + 1), "{}", counters.len());
        assert!(counters.evicted() > 0);
        assert_eq!(counters.counter(b"hot", i64::MAX, 0).count(), (20 * SHARDS * GENERATION).div_ceil(1000) as u64);
    }

    #[test]
    fn counters_of_past_windows_make_room_first() {
        let counters = Counters::default();
        for index in 0..10 * SHARDS * GENERATION {
            counters.counter(&index.to_be_bytes(), index as i64, index as i64);
        }
        assert_eq!(counters.evicted(), 0);
    }

    #[test]
    fn corrections_keep_what_was_counted_meanwhile() {
        let counter = Counter::new(1);
        for _ in 0..5 {
            counter.take(100).expect("room");
        }
        // Three were sent when the count was three; the others' seven came back, two more were counted here.
        counter.correct(3, 10);
        assert_eq!(counter.count(), 12);
        counter.correct(12, 0);
        assert_eq!(counter.count(), 0);
    }

    /// `cargo nextest run --release --run-ignored all -E 'test(cost_of_a_limit)' --no-capture`
    #[test]
    #[ignore = "a measurement"]
    fn cost_of_a_limit() {
        let counters = Counters::default();
        let key = [b'k'; 120];
        let (mut before, rounds) = (Vec::new(), 1_000_000);
        let began = Instant::now();
        for _ in 0..rounds {
            let pair = [(counters.counter(&key, i64::MAX, 0), u64::MAX)];
            assert!(take_all(&pair, &mut before));
        }
        println!("{:.0} ns a counter", began.elapsed().as_nanos() as f64 / f64::from(rounds));
    }
}
