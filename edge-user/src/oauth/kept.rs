//! What calls to token, exchange and user info endpoints brought, kept until it ends; one call at a time per question.
//!
//! Questions are told apart by a MAC under a key of this process, so nothing that was asked with can be had back. The
//! calls run on the control runtime; a worker looks here without waiting, or waits for the end of a call that runs.
//! What is kept is bounded in bytes, and values are expected to wipe themselves when they are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::crypto::{self, MacKey};
use crate::metrics::{Exposition, Kind};
use crate::token::Now;

/// Calls under way at one time; who asks for more is told to come again.
const MAX_FLIGHTS: usize = 4096;
/// What an entry costs beside its value.
const ENTRY_BYTES: usize = 256;
/// Between two searches for what has ended.
const SWEEP_MS: i64 = 60_000;
/// An entry without an end of its own still has one.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// `cache_ttl`, `cache_ttl_min`, `cache_ttl_max`, `cache_ttl_neg`: how long answers are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetimes {
    /// For a value that does not say when it ends; zero: it is not kept.
    pub ttl: Duration,
    /// The least, though never past a value's own end.
    pub min: Option<Duration>,
    /// The most.
    pub max: Option<Duration>,
    /// For refusals; zero: not kept.
    pub negative: Duration,
}

impl Default for Lifetimes {
    /// Kong's, but that refusals are not kept.
    fn default() -> Self {
        Self { ttl: Duration::from_secs(3600), min: None, max: None, negative: Duration::ZERO }
    }
}

impl Lifetimes {
    /// How long a value is kept that ends in this time, or does not say.
    pub fn of(&self, left: Option<Duration>) -> Duration {
        let wanted = left.unwrap_or(self.ttl);
        let most = self.max.unwrap_or(LONGEST).min(LONGEST);
        let wanted = wanted.max(self.min.unwrap_or_default()).min(most);
        left.map_or(wanted, |left| wanted.min(left))
    }
}

/// A question, as nobody can read it: `Kept::key` makes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// A value that is kept.
pub trait Value: Send + Sync + 'static {
    /// Bytes it holds on the heap.
    fn heap_bytes(&self) -> usize;
}

/// Why a call brought none.
pub trait Refusal: Send + Sync + 'static {
    /// Whether the other side judged what it was asked: only then is it an answer, which may be kept.
    fn is_answer(&self) -> bool;

    /// Bytes it holds on the heap.
    fn heap_bytes(&self) -> usize;
}

/// What a call brought.
pub struct Brought<T> {
    /// The value.
    pub value: T,
    /// How much of its time is left, where it says so.
    pub left: Option<Duration>,
}

/// How a call ended, for all who asked.
pub type Outcome<T, E> = Result<Arc<T>, Arc<E>>;

/// Whether a value is kept beyond the call that brings it: `cache_tokens`, `cache_user_info`, `cache_token_exchange`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// For these times.
    For(Lifetimes),
    /// Only those who wait for the call have it.
    Nothing,
}

struct Entry<T, E> {
    outcome: Outcome<T, E>,
    until_ms: i64,
    bytes: usize,
}

type Flight<T, E> = watch::Receiver<Option<Outcome<T, E>>>;

/// The store; one for the process and kind of value, kept across reloads.
pub struct Kept<T, E> {
    /// In metrics.
    name: &'static str,
    mac: MacKey,
    limit_bytes: usize,
    control: Option<Handle>,
    entries: DashMap<Key, Entry<T, E>>,
    flights: DashMap<Key, Flight<T, E>>,
    bytes: AtomicUsize,
    /// Of those, the ones for refusals.
    refusal_bytes: AtomicUsize,
    swept_ms: AtomicI64,
    hits: AtomicU64,
    calls: AtomicU64,
    joined: AtomicU64,
    turned_away: AtomicU64,
    evicted: AtomicU64,
}

/// The end of a call, or of the time one waits for it.
pub struct Waiting<T, E> {
    flight: Flight<T, E>,
}

impl<T, E> Waiting<T, E> {
    /// How the call ended; nothing where it did not within `limit`, or was given up.
    pub async fn outcome(mut self, limit: Duration) -> Option<Outcome<T, E>> {
        let ended = tokio::time::timeout(limit, self.flight.wait_for(Option::is_some)).await;
        ended.ok()?.ok()?.clone()
    }
}

impl<T: Value, E: Refusal> Kept<T, E> {
    /// An empty store of at most `limit_bytes`. Without `control` nothing is ever asked.
    pub fn new(name: &'static str, limit_bytes: usize, control: Option<Handle>) -> Self {
        Self {
            name,
            mac: MacKey::new(&crypto::random::<32>()),
            limit_bytes,
            control,
            entries: DashMap::new(),
            flights: DashMap::new(),
            bytes: AtomicUsize::new(0),
            refusal_bytes: AtomicUsize::new(0),
            swept_ms: AtomicI64::new(0),
            hits: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    /// The key of a question: purpose, salt, grant, credentials, and what else makes another question of it. Each part
    /// stands with its length.
    pub fn key(&self, parts: &[&[u8]]) -> Key {
        let parts = parts.iter().fold(crypto::FieldDigest::default(), |digest, part| digest.field(part));
        Key(self.mac.mac(&parts.finish()))
    }

    /// What is known at once.
    pub fn look(&self, key: &Key, now: Now) -> Option<Outcome<T, E>> {
        let found = self.stored(key, now);
        if found.is_some() {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    fn stored(&self, key: &Key, now: Now) -> Option<Outcome<T, E>> {
        let entry = self.entries.get(key)?;
        (now.unix_ms < entry.until_ms).then(|| entry.outcome.clone())
    }

    /// Has a value that turned out to be of no use end within this time, so that it is asked for anew, but not by each
    /// request. Whether it would have stood longer.
    pub fn shorten(&self, key: &Key, left: Duration, now: Now) -> bool {
        let Some(mut entry) = self.entries.get_mut(key) else { return false };
        let until_ms = now.unix_ms.saturating_add(left.as_millis() as i64);
        let stands_longer = entry.until_ms > until_ms;
        if stands_longer {
            entry.until_ms = until_ms;
        }
        stands_longer
    }

    /// Where calls run.
    pub fn control(&self) -> Option<&Handle> {
        self.control.as_ref()
    }

    /// Joins the call that asks this already, or begins it; nothing where too many are under way.
    pub fn ask<F>(self: &Arc<Self>, key: Key, keep: Keep, call: impl FnOnce() -> F) -> Option<Waiting<T, E>>
    where
        F: Future<Output = Result<Brought<T>, E>> + Send + 'static,
    {
        let control = self.control.as_ref()?;
        let full = self.is_full();
        let slot = match self.flights.entry(key) {
            dashmap::Entry::Occupied(flight) => {
                self.joined.fetch_add(1, Ordering::Relaxed);
                return Some(Waiting { flight: flight.get().clone() });
            }
            dashmap::Entry::Vacant(slot) => slot,
        };
        // A flight is taken away only after what it brought stands among the entries: one of the two is seen.
        if let Some(outcome) = self.stored(&key, Now::read()) {
            return Some(Waiting { flight: watch::channel(Some(outcome)).1 });
        }
        if full {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let (done, flight) = watch::channel(None);
        slot.insert(flight.clone());
        self.launch(control, (key, keep), call, done);
        Some(Waiting { flight })
    }

    /// Asks anew for what stands still and is `known`, and has nobody wait: it stands until another value takes its
    /// place. Whether a call begins; none does while one is under way.
    pub fn renew<F>(self: &Arc<Self>, key: Key, keep: Keep, known: &Arc<T>, call: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = Result<Brought<T>, E>> + Send + 'static,
    {
        let full = self.is_full();
        let Some(control) = self.control.as_ref().filter(|_| !full) else { return false };
        let dashmap::Entry::Vacant(slot) = self.flights.entry(key) else { return false };
        let stands = self.stored(&key, Now::read()).is_some_and(|outcome| is(&outcome, known));
        if stands {
            let (done, flight) = watch::channel(None);
            slot.insert(flight);
            self.launch(control, (key, keep), call, done);
        }
        stands
    }

    /// Forgets a value that turned out to be of no use, where it is what stands there and `may` says yes; another that
    /// was brought meanwhile stays. Whether it is gone by this.
    pub fn forget(&self, key: &Key, known: &Arc<T>, may: impl FnOnce() -> bool) -> bool {
        let removed = self.entries.remove_if(key, |_, entry| is(&entry.outcome, known) && may());
        if let Some((_, entry)) = &removed {
            self.unbook(entry);
        }
        removed.is_some()
    }

    fn is_full(&self) -> bool {
        self.flights.len() >= MAX_FLIGHTS
    }

    /// Begins the call of a flight that stands already, whose end those learn who watch `done`.
    fn launch<F>(
        self: &Arc<Self>,
        control: &Handle,
        (key, keep): (Key, Keep),
        call: impl FnOnce() -> F,
        done: watch::Sender<Option<Outcome<T, E>>>,
    ) where
        F: Future<Output = Result<Brought<T>, E>> + Send + 'static,
    {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let landing = Landing { store: self.clone(), key };
        let call = call();
        control.spawn(async move {
            let brought = call.await;
            let outcome = landing.store.keep(key, keep, brought);
            // Whoever comes after the landing finds the entry; whoever waits, the outcome.
            drop(landing);
            done.send_replace(Some(outcome));
        });
    }

    fn keep(&self, key: Key, keep: Keep, brought: Result<Brought<T>, E>) -> Outcome<T, E> {
        let now_ms = Now::read().unix_ms;
        let (outcome, ttl, bytes) = match (brought, keep) {
            (Ok(Brought { value, left }), Keep::For(lifetimes)) => {
                let bytes = value.heap_bytes() + size_of::<T>();
                (Ok(Arc::new(value)), lifetimes.of(left), bytes)
            }
            (Ok(Brought { value, .. }), Keep::Nothing) => (Ok(Arc::new(value)), Duration::ZERO, 0),
            (Err(error), Keep::For(lifetimes)) if error.is_answer() => {
                let bytes = error.heap_bytes() + size_of::<E>();
                (Err(Arc::new(error)), lifetimes.negative, bytes)
            }
            (Err(error), _) => (Err(Arc::new(error)), Duration::ZERO, 0),
        };
        let until_ms = now_ms.saturating_add(ttl.min(LONGEST).as_millis() as i64);
        // A value that stands while it is asked for anew is better than why it cannot be had.
        let stands =
            || matches!(self.entries.get(&key), Some(entry) if entry.outcome.is_ok() && now_ms < entry.until_ms);
        if until_ms > now_ms && (outcome.is_ok() || !stands()) {
            self.insert(key, Entry { outcome: outcome.clone(), until_ms, bytes: bytes + ENTRY_BYTES }, now_ms);
        }
        outcome
    }

    fn insert(&self, key: Key, entry: Entry<T, E>, now_ms: i64) {
        // Before anything is turned away: what has ended makes room.
        if now_ms - self.swept_ms.load(Ordering::Relaxed) >= SWEEP_MS {
            self.sweep(now_ms);
        }
        let refusals = if entry.outcome.is_err() { self.refusal_bytes.load(Ordering::Relaxed) } else { 0 };
        // Refusals get a part of their own: whoever collects them pushes out nobody's tokens.
        if refusals + entry.bytes > self.limit_bytes / 8 {
            return;
        }
        self.book(&entry);
        if let Some(old) = self.entries.insert(key, entry) {
            self.unbook(&old);
        }
        if self.bytes.load(Ordering::Relaxed) > self.limit_bytes {
            self.sweep(now_ms);
        }
    }

    fn book(&self, entry: &Entry<T, E>) {
        self.bytes.fetch_add(entry.bytes, Ordering::Relaxed);
        if entry.outcome.is_err() {
            self.refusal_bytes.fetch_add(entry.bytes, Ordering::Relaxed);
        }
    }

    fn unbook(&self, entry: &Entry<T, E>) {
        self.bytes.fetch_sub(entry.bytes, Ordering::Relaxed);
        if entry.outcome.is_err() {
            self.refusal_bytes.fetch_sub(entry.bytes, Ordering::Relaxed);
        }
    }

    /// Drops what has ended and, where that is not enough, what ends soonest, down to seven eighths: on the control
    /// runtime, and so that the next insertions find room.
    fn sweep(&self, now_ms: i64) {
        self.swept_ms.store(now_ms, Ordering::Relaxed);
        self.remove_if(|entry| entry.until_ms <= now_ms);
        if self.bytes.load(Ordering::Relaxed) <= self.limit_bytes {
            return;
        }
        let mut ends: Vec<_> = self.entries.iter().map(|entry| (entry.until_ms, entry.bytes)).collect();
        ends.sort_unstable();
        let mut excess = self.bytes.load(Ordering::Relaxed).saturating_sub(self.limit_bytes / 8 * 7);
        let last = ends.into_iter().find(|(_, bytes)| {
            excess = excess.saturating_sub(*bytes);
            excess == 0
        });
        let Some((last_ms, _)) = last else { return };
        let before = self.entries.len();
        self.remove_if(|entry| entry.until_ms <= last_ms);
        self.evicted.fetch_add(before.saturating_sub(self.entries.len()) as u64, Ordering::Relaxed);
    }

    fn remove_if(&self, gone: impl Fn(&Entry<T, E>) -> bool) {
        self.entries.retain(|_, entry| {
            let gone = gone(entry);
            if gone {
                self.unbook(entry);
            }
            !gone
        });
    }
}

/// Whether this value is how a call ended.
fn is<T, E>(outcome: &Outcome<T, E>, known: &Arc<T>) -> bool {
    matches!(outcome, Ok(value) if Arc::ptr_eq(value, known))
}

/// A store's numbers.
pub trait Counted {
    /// Its name, and its questions by what became of them.
    fn counts(&self) -> (&'static str, [(&'static str, u64); 5]);

    /// Memory for what is kept, in bytes.
    fn bytes(&self) -> usize;
}

impl<T: Value, E: Refusal> Counted for Kept<T, E> {
    fn counts(&self) -> (&'static str, [(&'static str, u64); 5]) {
        let counts = [
            ("hit", &self.hits),
            ("asked", &self.calls),
            ("joined", &self.joined),
            ("turned_away", &self.turned_away),
            ("evicted", &self.evicted),
        ];
        (self.name, counts.map(|(result, count)| (result, count.load(Ordering::Relaxed))))
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Writes the numbers of stores.
pub fn collect(stores: &[&dyn Counted], to: &mut Exposition) {
    to.family("edge_kept_answers_total", Kind::Counter, "Questions to issuers, by what became of them.");
    for (name, counts) in stores.iter().map(|store| store.counts()) {
        for (result, count) in counts {
            to.sample(&[("store", name), ("result", result)], count);
        }
    }
    to.family("edge_kept_answers_bytes", Kind::Gauge, "Memory for answers of issuers that are kept.");
    for store in stores {
        to.sample(&[("store", store.counts().0)], store.bytes());
    }
}

/// Takes the flight away when its task ends, however that is.
struct Landing<T: Value, E: Refusal> {
    store: Arc<Kept<T, E>>,
    key: Key,
}

impl<T: Value, E: Refusal> Drop for Landing<T, E> {
    fn drop(&mut self) {
        self.store.flights.remove(&self.key);
    }
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
