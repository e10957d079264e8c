//! The sentences in force, and who is suspect: written by one task, read by every worker.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dashmap::DashMap;
use edge_ebpf::PENALTY_CAPACITY;

use super::Source;
use crate::metrics::{Exposition, Kind};
use crate::reason::Reason;
use crate::settings::{Penalty, PenaltyMode};

/// Slots of the suspects' filter. Two sources in one slot cost a little counting and nothing else.
const SLOTS: usize = 4096;

/// What a source was sentenced to, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// When it began.
    pub since: Instant,
    /// When it ends.
    pub until: Instant,
    /// The reason of the last bad token.
    pub reason: Reason,
    /// Verified tokens within the window.
    pub good: u64,
    /// Proven bad ones.
    pub bad: u64,
    /// Different ones of these, at least.
    pub distinct_tokens: usize,
    /// Which of its penalties it is, from 1 on.
    pub offence: u32,
    /// Whether bad tokens came over the source's own connections, and not through trusted proxies alone.
    pub is_direct: bool,
}

/// See the module text.
pub struct PenaltyBox {
    rules: Penalty,
    sentences: DashMap<Source, Sentence>,
    /// As many as there are sentences: so that one load tells that there is none.
    count: AtomicUsize,
    /// In the order they were imposed; may name some that are gone.
    order: Mutex<VecDeque<Source>>,
    suspects: Box<[AtomicU32]>,
    suspect_count: AtomicUsize,
    hasher: RandomState,
    imposed: AtomicU64,
    refused_connections: AtomicU64,
    refused_requests: AtomicU64,
    ended_connections: AtomicU64,
}

impl PenaltyBox {
    /// By these rules.
    pub fn new(rules: Penalty) -> Self {
        Self {
            rules,
            sentences: DashMap::new(),
            count: AtomicUsize::new(0),
            order: Mutex::default(),
            suspects: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
            suspect_count: AtomicUsize::new(0),
            hasher: RandomState::new(),
            imposed: AtomicU64::new(0),
            refused_connections: AtomicU64::new(0),
            refused_requests: AtomicU64::new(0),
            ended_connections: AtomicU64::new(0),
        }
    }

    /// The rules.
    pub fn rules(&self) -> &Penalty {
        &self.rules
    }

    /// The source an address belongs to.
    pub fn source(&self, address: IpAddr) -> Source {
        Source::of(address, &self.rules)
    }

    /// Whether a new connection of this address is refused; counted, also where penalties are observed alone.
    pub fn refuses_connection(&self, address: IpAddr) -> bool {
        self.holds(address) && self.counted(&self.refused_connections)
    }

    /// The same for a request that a trusted proxy forwards.
    pub fn refuses_request(&self, address: IpAddr) -> bool {
        self.holds(address) && self.counted(&self.refused_requests)
    }

    /// Whether a connection of this address ends with the refusal it gets now.
    pub fn ends_connection(&self, address: IpAddr) -> bool {
        self.holds(address) && self.counted(&self.ended_connections)
    }

    fn counted(&self, counter: &AtomicU64) -> bool {
        counter.fetch_add(1, Ordering::Relaxed);
        self.rules.mode == PenaltyMode::Enforce
    }

    /// Whether a sentence of this address is in force, whatever follows from it.
    fn holds(&self, address: IpAddr) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && self.of(self.source(address)).is_some()
    }

    /// The sentence of this source that is in force.
    pub fn of(&self, source: Source) -> Option<Sentence> {
        let sentence = *self.sentences.get(&source)?;
        (Instant::now() < sentence.until).then_some(sentence)
    }

    /// Every sentence, the oldest first.
    pub fn all(&self) -> Vec<(Source, Sentence)> {
        let mut all: Vec<_> = self.sentences.iter().map(|entry| (*entry.key(), *entry.value())).collect();
        all.sort_by_key(|(_, sentence)| sentence.since);
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a sentence into force; which source has to go for it, where there are too many.
    pub(super) fn insert(&self, source: Source, sentence: Sentence) -> Option<Source> {
        self.imposed.fetch_add(1, Ordering::Relaxed);
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.push_back(source);
        if self.sentences.insert(source, sentence).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        let is_other = |oldest: &Source| *oldest != source && self.sentences.contains_key(oldest);
        let oldest = match self.len() > PENALTY_CAPACITY as usize {
            true => std::iter::from_fn(|| order.pop_front()).find(is_other),
            false => None,
        };
        if order.len() > 2 * self.len() + 64 {
            order.retain(|source| self.sentences.contains_key(source));
        }
        oldest
    }

    /// Ends a sentence; whether there was one.
    pub(super) fn remove(&self, source: Source) -> bool {
        let removed = self.sentences.remove(&source).is_some();
        if removed {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// Those whose time is over.
    pub(super) fn over(&self, now: Instant) -> Vec<Source> {
        match self.is_empty() {
            true => Vec::new(),
            false => self.sentences.iter().filter(|entry| entry.until <= now).map(|entry| *entry.key()).collect(),
        }
    }

    /// From now on good tokens of this source count.
    pub(super) fn suspect(&self, source: Source) {
        self.slot(source).fetch_add(1, Ordering::Relaxed);
        self.suspect_count.fetch_add(1, Ordering::Relaxed);
    }

    /// The opposite, of one that was suspect.
    pub(super) fn forget_suspect(&self, source: Source) {
        self.slot(source).fetch_sub(1, Ordering::Relaxed);
        self.suspect_count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether any source is suspect.
    pub(super) fn has_suspects(&self) -> bool {
        self.suspect_count.load(Ordering::Relaxed) > 0
    }

    /// Whether this one is, or another in its slot.
    pub(super) fn is_suspect(&self, source: Source) -> bool {
        self.slot(source).load(Ordering::Relaxed) > 0
    }

    fn slot(&self, source: Source) -> &AtomicU32 {
        &self.suspects[self.hasher.hash_one(source) as usize % SLOTS]
    }

    pub(super) fn collect(&self, to: &mut Exposition) {
        let mode = self.rules.mode.word();
        to.family("edge_penalties_total", Kind::Counter, "Penalties of sources that sent many bad tokens");
        to.sample(&[("mode", mode)], self.imposed.load(Ordering::Relaxed));
        to.family(
            "edge_penalty_refusals_total",
            Kind::Counter,
            "What sources with a penalty were refused in userspace; in mode observe: would have been",
        );
        for (what, count) in [
            ("connection", &self.refused_connections),
            ("request", &self.refused_requests),
            ("kept_connection", &self.ended_connections),
        ] {
            to.sample(&[("mode", mode), ("what", what)], count.load(Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sentence(seconds: u64) -> Sentence {
        let since = Instant::now();
        Sentence {
            since,
            until: since + Duration::from_secs(seconds),
            reason: Reason::SignatureInvalid,
            good: 0,
            bad: 50,
            distinct_tokens: 50,
            offence: 1,
            is_direct: true,
        }
    }

    #[test]
    fn only_enforced_sentences_refuse_and_only_in_their_time() {
        for (mode, enforced) in [(PenaltyMode::Observe, false), (PenaltyMode::Enforce, true)] {
            let sentences = PenaltyBox::new(Penalty { mode, ..Penalty::default() });
            let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
            assert!(!sentences.refuses_connection(one));
            sentences.insert(sentences.source(one), sentence(60));
            assert_eq!(sentences.refuses_connection(one), enforced);
            assert_eq!(sentences.refuses_request(one), enforced);
            assert_eq!(sentences.ends_connection(one), enforced);
            assert!(!sentences.refuses_connection(other));
            sentences.insert(sentences.source(other), sentence(0));
            assert!(!sentences.refuses_connection(other));
            assert_eq!(sentences.over(Instant::now()), [sentences.source(other)]);
            assert!(sentences.remove(sentences.source(one)) && !sentences.remove(sentences.source(one)));
            assert!(!sentences.refuses_connection(one));
        }
    }

    /// X2: bounded, the oldest out.
    #[test]
    fn sentences_are_bounded() {
        let sentences = PenaltyBox::new(Penalty::default());
        let nth = |n: u32| sentences.source(IpAddr::V4(n.into()));
        for n in 0..PENALTY_CAPACITY {
            assert_eq!(sentences.insert(nth(n), sentence(60)), None);
        }
        // Imposed anew on one: no further place.
        assert_eq!(sentences.insert(nth(0), sentence(60)), None);
        assert_eq!(sentences.insert(nth(PENALTY_CAPACITY), sentence(60)), Some(nth(0)));
    }

    #[test]
    fn suspects_come_and_go() {
        let sentences = PenaltyBox::new(Penalty::default());
        let source = sentences.source("192.0.2.1".parse().unwrap());
        assert!(!sentences.has_suspects() && !sentences.is_suspect(source));
        sentences.suspect(source);
        assert!(sentences.has_suspects() && sentences.is_suspect(source));
        sentences.forget_suspect(source);
        assert!(!sentences.has_suspects() && !sentences.is_suspect(source));
    }
}
