//! The level that all workers share: a map bounded by bytes.

use super::{CacheKey, Entry};
use dashmap::DashMap;
use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;

/// A map bounded by bytes, with a CLOCK per shard.
pub(super) struct Level {
    map: DashMap<CacheKey, Arc<Entry>, BuildHasherDefault<Passthrough>>,
    clocks: Box<[Mutex<Clock>]>,
    shard_bytes: usize,
}

#[derive(Default)]
struct Clock {
    ring: VecDeque<CacheKey>,
    bytes: usize,
}

impl Level {
    /// An empty one of at most this many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        let clocks = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { map: DashMap::default(), clocks, shard_bytes: bytes / SHARDS }
    }

    fn clock(&self, key: &CacheKey) -> MutexGuard<'_, Clock> {
        self.clocks[key.word(3) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of this key.
    pub(super) fn get(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        self.map.get(key).map(|entry| Arc::clone(&entry))
    }

    /// Keeps an entry in place of what was there, where it is not too large.
    pub(super) fn insert(&self, key: CacheKey, entry: Arc<Entry>, now_ms: i64) {
        let bytes = entry.bytes();
        if bytes > self.shard_bytes {
            return;
        }
        let mut clock = self.clock(&key);
        // Two steps without need keep entries that died or expired from lingering.
        for _ in 0..2 {
            self.advance(&mut clock, now_ms, false);
        }
        while clock.bytes + bytes > self.shard_bytes && !clock.ring.is_empty() {
            self.advance(&mut clock, now_ms, true);
        }
        clock.bytes += bytes;
        match self.map.insert(key, entry) {
            Some(old) => {
                old.kill();
                clock.bytes -= old.bytes();
            }
            None => clock.ring.push_back(key),
        }
    }

    /// Ends the entry of this key; whether there was one. Its place in the ring goes when the hand comes by.
    pub(super) fn remove(&self, key: &CacheKey) -> bool {
        let mut clock = self.clock(key);
        let Some((_, entry)) = self.map.remove(key) else { return false };
        entry.kill();
        clock.bytes -= entry.bytes();
        true
    }

    /// Moves the hand by one entry: drops it if it is of no use, or (when room is needed) untouched since last time.
    fn advance(&self, clock: &mut Clock, now_ms: i64, need: bool) {
        let Some(key) = clock.ring.pop_front() else { return };
        let useless = |entry: &Entry| entry.is_dead() || entry.until_ms.saturating_add(entry.stale_ms) <= now_ms;
        let keep = self.map.get(&key).is_some_and(|entry| {
            let spared = !need || entry.touched.swap(false, Ordering::Relaxed);
            !useless(&entry) && spared
        });
        if keep {
            clock.ring.push_back(key);
        } else if let Some((_, entry)) = self.map.remove(&key) {
            entry.kill();
            clock.bytes -= entry.bytes();
        }
    }

    /// Entries, and the bytes they take.
    pub(super) fn size(&self) -> (u64, u64) {
        let bytes = self.clocks.iter().map(|clock| clock.lock().unwrap_or_else(PoisonError::into_inner).bytes);
        (self.map.len() as u64, bytes.sum::<usize>() as u64)
    }
}

/// The key is a MAC under a secret key, so any part of it is a seeded hash already.
impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.word(0));
    }
}

#[derive(Default)]
struct Passthrough(u64);

impl Hasher for Passthrough {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(false, "keys are written as one word");
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}
