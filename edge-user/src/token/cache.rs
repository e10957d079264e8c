//! The verdict cache: facts of verified tokens and a few kinds of lasting refusal, by a keyed hash of token and
//! validator. Whether a verdict still stands (keys, clock) is judged by `Validator` on every hit.
//!
//! Two levels. Each worker has a small `LocalCache` of shared entries, without locks or atomics that others write. The
//! second level is shared, sharded and bounded by bytes: seven eighths for facts, one eighth for refusals, each with a
//! CLOCK per shard. An evicted entry is marked dead, so that no first level keeps its memory for long.

mod level;

use super::budget::VerifyBudget;
use super::claims::Facts;
use super::introspection::Flights;
use super::resigned::Resigned;
use crate::crypto::{self, MacKey};
use arc_swap::ArcSwapOption;
use level::Level;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// Of `verdicts.cache_bytes`, the part for refusals.
const NEGATIVE_PART: usize = 8;
/// What an entry costs beside its facts: itself, its key in map and CLOCK, counts, table slack.
const ENTRY_BYTES: usize = 192;
/// Places that share a key's slot group in the first level.
const WAYS: usize = 4;
/// Prints of keys refused once, for admission on second sight.
const SIGHTS: usize = 8192;

/// 256 bit over token and validator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// Under a key of this process and validator: a verdict is found by nothing but its own token and validator.
    pub fn new(mac: &MacKey, token: &[u8]) -> Self {
        Self(mac.mac(token))
    }

    /// The key of the same token together with something else.
    pub fn and(&self, digest: &[u8; 32]) -> Self {
        Self(crypto::sha256(&[self.0, *digest].concat()))
    }

    fn word(&self, index: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[index * 8..index * 8 + 8]);
        u64::from_le_bytes(bytes)
    }
}

/// The MAC key for a validator's cache keys, derived from one that lives as long as the process.
pub fn derive_mac(validator: &[u8; 32]) -> MacKey {
    static PROCESS: OnceLock<MacKey> = OnceLock::new();
    let process = PROCESS.get_or_init(|| MacKey::new(&crypto::random::<32>()));
    MacKey::new(&process.mac(validator))
}

/// What is remembered of a token.
pub enum Verdict {
    /// Signature and issuer were good.
    Verified(Facts),
    /// No key and no time makes this a token.
    Malformed,
    /// The signature does not verify under the key it names.
    BadSignature,
    /// `exp` has passed; the signature may never have been looked at.
    Expired {
        /// `exp` in Unix milliseconds.
        exp_ms: i64,
    },
    /// Its issuer says that it is not good (RFC 7662, 2.2).
    Inactive,
}

/// What a verdict rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ground {
    /// Nothing that changes.
    Always,
    /// The key of this identity.
    Key([u8; 32]),
    /// The whole key set as it was.
    Set,
}

/// One verdict, shared by all levels.
pub struct Entry {
    /// The verdict itself.
    pub verdict: Verdict,
    /// What it rests on.
    pub ground: Ground,
    /// The key set's epoch under which the ground was last seen to hold.
    pub epoch: AtomicU64,
    /// Unix milliseconds up to which the verdict stands.
    pub until_ms: i64,
    /// Unix milliseconds from which whoever finds it has it asked for anew.
    pub refresh_at_ms: i64,
    /// How much longer it may serve while nobody answers, in milliseconds.
    stale_ms: i64,
    refreshing: AtomicBool,
    dead: AtomicBool,
    touched: AtomicBool,
    /// The token that was made of this one.
    pub resigned: ArcSwapOption<Resigned>,
    /// Bytes kept free for it.
    room: usize,
}

/// Says nothing of what the token says.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verified = matches!(self.verdict, Verdict::Verified(_));
        f.debug_struct("Entry").field("verified", &verified).field("until_ms", &self.until_ms).finish_non_exhaustive()
    }
}

impl Entry {
    /// A live entry.
    pub fn new(verdict: Verdict, ground: Ground, epoch: u64, until_ms: i64) -> Self {
        Self {
            verdict,
            ground,
            epoch: AtomicU64::new(epoch),
            until_ms,
            refresh_at_ms: i64::MAX,
            stale_ms: 0,
            refreshing: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            touched: AtomicBool::new(false),
            resigned: ArcSwapOption::empty(),
            room: 0,
        }
    }

    /// With room for a token that is made of this one.
    pub fn with_room(mut self, bytes: usize) -> Self {
        self.room = bytes;
        self
    }

    /// With a time from which it is asked for anew.
    pub fn refreshed_at(mut self, at_ms: i64) -> Self {
        self.refresh_at_ms = at_ms;
        self
    }

    /// With a time it may serve on while nobody answers.
    pub fn stale_for(mut self, stale_ms: i64) -> Self {
        self.stale_ms = stale_ms;
        self
    }

    /// Whether the caller is the one to have it asked for anew.
    pub fn is_due(&self, now_ms: i64) -> bool {
        now_ms >= self.refresh_at_ms && !self.refreshing.swap(true, Ordering::AcqRel)
    }

    /// Whether it may still serve where nobody answers.
    pub fn serves_stale(&self, now_ms: i64) -> bool {
        !self.is_dead() && now_ms < self.until_ms.saturating_add(self.stale_ms)
    }

    /// Ends the entry in every level at once: revoked, evicted, or its ground is gone.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::Release);
    }

    /// Whether it was ended.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    fn touch(&self) {
        // Read first: a hot entry's line stays shared between cores.
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }

    fn bytes(&self) -> usize {
        let facts = match &self.verdict {
            Verdict::Verified(facts) => facts.bytes() - size_of::<Facts>(),
            _ => 0,
        };
        ENTRY_BYTES + size_of::<Self>() + facts + self.room
    }
}

/// Counts of one worker; it alone writes them.
#[derive(Default)]
struct Counters {
    local_hits: AtomicU64,
    shared_hits: AtomicU64,
    negative_hits: AtomicU64,
    misses: AtomicU64,
    signatures: AtomicU64,
}

fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Sums over all workers, and what the shared level holds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Facts found in a worker's own level.
    pub local_hits: u64,
    /// Facts found in the shared level.
    pub shared_hits: u64,
    /// Refusals found in either level.
    pub negative_hits: u64,
    /// Tokens that had to be examined.
    pub misses: u64,
    /// Signatures verified.
    pub signatures: u64,
    /// Entries with facts.
    pub positive_entries: u64,
    /// Bytes they take.
    pub positive_bytes: u64,
    /// Entries with refusals.
    pub negative_entries: u64,
    /// Bytes they take.
    pub negative_bytes: u64,
}

/// The level that all workers share.
pub struct VerdictCache {
    positive: Level,
    negative: Level,
    sights: Box<[AtomicU64]>,
    slots: usize,
    counters: Mutex<Vec<Weak<Counters>>>,
    flights: Arc<Flights>,
}

impl VerdictCache {
    /// A cache of about this many bytes; 0 is off.
    pub fn new(cache_bytes: usize) -> Arc<Self> {
        let negative = cache_bytes / NEGATIVE_PART;
        let slots = match cache_bytes {
            0 => 0,
            bytes => (bytes / 8192).next_power_of_two().clamp(WAYS, 8192),
        };
        let sights = if slots == 0 { 0 } else { SIGHTS };
        Arc::new(Self {
            positive: Level::new(cache_bytes - negative),
            negative: Level::new(negative),
            sights: (0..sights).map(|_| AtomicU64::new(0)).collect(),
            slots,
            counters: Mutex::default(),
            flights: Arc::default(),
        })
    }

    /// The first level for one worker.
    pub fn local(self: &Arc<Self>) -> LocalCache {
        let counters = Arc::new(Counters::default());
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|counters| counters.strong_count() > 0);
        all.push(Arc::downgrade(&counters));
        LocalCache {
            shared: Arc::clone(self),
            slots: RefCell::new((0..self.slots).map(|_| None).collect()),
            turn: Cell::new(0),
            counters,
            budget: VerifyBudget::default(),
        }
    }

    fn get(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        self.positive.get(key).or_else(|| self.negative.get(key))
    }

    /// Whether the entry of this key stands still.
    pub fn holds(&self, key: &CacheKey, now_ms: i64) -> bool {
        self.get(key).is_some_and(|entry| !entry.is_dead() && now_ms < entry.until_ms)
    }

    /// The tokens that are being asked about.
    pub fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    /// Keeps facts that were asked for, in place of what was known of the token.
    pub fn keep_positive(&self, key: &CacheKey, entry: &Arc<Entry>, now_ms: i64) {
        if self.slots > 0 {
            self.positive.insert(*key, Arc::clone(entry), now_ms);
        }
    }

    /// Ends what was known of a token that is no longer good, and keeps that if it is the second time, or news.
    pub fn keep_inactive(&self, key: &CacheKey, entry: &Arc<Entry>, now_ms: i64) {
        if self.slots == 0 {
            return;
        }
        let news = self.positive.remove(key);
        if self.seen_before(key) || news {
            self.negative.insert(*key, Arc::clone(entry), now_ms);
        }
    }

    /// Whether this key was refused before; remembers that it was now.
    fn seen_before(&self, key: &CacheKey) -> bool {
        let place = &self.sights[key.word(1) as usize % SIGHTS];
        place.swap(key.word(2), Ordering::Relaxed) == key.word(2)
    }

    /// Counts so far.
    pub fn stats(&self) -> Stats {
        let (positive_entries, positive_bytes) = self.positive.size();
        let (negative_entries, negative_bytes) = self.negative.size();
        let mut stats =
            Stats { positive_entries, positive_bytes, negative_entries, negative_bytes, ..Stats::default() };
        let all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for counters in all.iter().filter_map(Weak::upgrade) {
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            stats.local_hits += read(&counters.local_hits);
            stats.shared_hits += read(&counters.shared_hits);
            stats.negative_hits += read(&counters.negative_hits);
            stats.misses += read(&counters.misses);
            stats.signatures += read(&counters.signatures);
        }
        stats
    }
}

/// An entry as one worker holds it: counted without atomics.
pub type Held = Rc<Arc<Entry>>;

/// One worker's first level, its counts, and its budget for signatures.
pub struct LocalCache {
    shared: Arc<VerdictCache>,
    slots: RefCell<Vec<Option<(CacheKey, Held)>>>,
    turn: Cell<usize>,
    counters: Arc<Counters>,
    budget: VerifyBudget,
}

impl LocalCache {
    /// The level that all workers share.
    pub fn shared(&self) -> &Arc<VerdictCache> {
        &self.shared
    }

    /// Takes an entry that a flight brought into the first level.
    pub fn take(&self, key: &CacheKey, entry: Arc<Entry>) -> Held {
        let held = Rc::new(entry);
        if !self.is_off() && !held.is_dead() {
            self.hold(key, &held);
        }
        held
    }

    /// Whether `verdicts.cache_bytes` is 0.
    pub fn is_off(&self) -> bool {
        self.shared.slots == 0
    }

    /// The budget for signatures of unproven sources.
    pub fn budget(&self) -> &VerifyBudget {
        &self.budget
    }

    fn group(&self, key: &CacheKey) -> usize {
        (key.word(1) as usize & (self.shared.slots - 1)) & !(WAYS - 1)
    }

    /// The entry of this key, if there is a live one.
    pub fn find(&self, key: &CacheKey) -> Option<Held> {
        if self.is_off() {
            return None;
        }
        let group = self.group(key);
        {
            let mut slots = self.slots.borrow_mut();
            for slot in &mut slots[group..group + WAYS] {
                let Some((slot_key, held)) = slot else { continue };
                if slot_key != key {
                    continue;
                }
                if held.is_dead() {
                    *slot = None;
                    break;
                }
                held.touch();
                bump(if matches!(held.verdict, Verdict::Verified(_)) {
                    &self.counters.local_hits
                } else {
                    &self.counters.negative_hits
                });
                return Some(Rc::clone(held));
            }
        }
        let entry = self.shared.get(key).filter(|entry| !entry.is_dead())?;
        entry.touch();
        bump(if matches!(entry.verdict, Verdict::Verified(_)) {
            &self.counters.shared_hits
        } else {
            &self.counters.negative_hits
        });
        let held = Rc::new(entry);
        self.hold(key, &held);
        Some(held)
    }

    /// Puts an entry into the first level, in an unused place of its group or the next in turn.
    fn hold(&self, key: &CacheKey, held: &Held) {
        let group = self.group(key);
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let mut slots = self.slots.borrow_mut();
        // A few slots elsewhere are looked over each time, so that dead entries do not keep memory here.
        let sweep = turn.wrapping_mul(8) & (self.shared.slots - 1);
        for slot in slots.iter_mut().skip(sweep).take(8) {
            if slot.as_ref().is_some_and(|(_, held)| held.is_dead()) {
                *slot = None;
            }
        }
        let ways = &mut slots[group..group + WAYS];
        let place = ways
            .iter()
            .position(|slot| slot.as_ref().is_none_or(|(slot_key, held)| slot_key == key || held.is_dead()))
            .unwrap_or(turn % WAYS);
        ways[place] = Some((*key, Rc::clone(held)));
    }

    /// Counts a token that is examined.
    pub fn count_miss(&self) {
        bump(&self.counters.misses);
    }

    /// Counts a signature that is verified.
    pub fn count_signature(&self) {
        bump(&self.counters.signatures);
    }

    /// Keeps facts.
    pub fn keep(&self, key: &CacheKey, entry: Entry, now_ms: i64) -> Held {
        let held = Rc::new(Arc::new(entry));
        if !self.is_off() {
            self.shared.positive.insert(*key, Arc::clone(&held), now_ms);
            self.hold(key, &held);
        }
        held
    }

    /// Keeps a refusal, if it is the second of its token.
    pub fn keep_refusal(&self, key: &CacheKey, entry: Entry, now_ms: i64) {
        if !self.is_off() && self.shared.seen_before(key) {
            let held = Rc::new(Arc::new(entry));
            self.shared.negative.insert(*key, Arc::clone(&held), now_ms);
            self.hold(key, &held);
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
