//! Which source has earned a penalty: counts over a window, and nothing else.
//!
//! Bad tokens alone do not decide: behind one address there may be many clients, so they must be nearly all that comes
//! from it; and not one bad token over and over, as from a client that was set up wrongly, but many different ones. One
//! good token buys no immunity either.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use super::{Report, Sentence, Source};
use crate::reason::Reason;
use crate::settings::{Cidr, Penalty};

/// Sources that are counted at once; beyond that the oldest count goes.
const MAX_RECORDS: usize = 65_536;

/// What is known of one source that sent a bad token.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the window began.
    pub began: Instant,
    /// Verified tokens within it, after the first bad one.
    pub good: u64,
    /// Proven bad ones.
    pub bad: u64,
    /// The reason of the last bad one.
    pub reason: Reason,
    /// Penalties so far.
    pub offences: u32,
    is_direct: bool,
    tokens: HashSet<u64>,
    /// When its last penalty ends or ended.
    sentenced_until: Option<Instant>,
}

impl Record {
    /// How many different bad tokens it sent within the window; at most as many as the rules ask for.
    pub fn distinct_tokens(&self) -> usize {
        self.tokens.len()
    }
}

/// What a report led to.
#[derive(Default)]
pub(super) struct Heard {
    /// Whether the source was not counted before.
    pub(super) is_new: bool,
    /// What it is sentenced to.
    pub(super) sentence: Option<Sentence>,
    /// Whose count went for it.
    pub(super) forgotten: Option<Source>,
}

/// See the module text.
pub(super) struct Judge {
    rules: Penalty,
    trusted: Vec<Cidr>,
    records: HashMap<Source, Record>,
    /// In the order they came; may name some that are gone.
    order: VecDeque<Source>,
}

impl Judge {
    pub(super) fn new(rules: Penalty, trusted: Vec<Cidr>) -> Self {
        Self { rules, trusted, records: HashMap::new(), order: VecDeque::new() }
    }

    /// Sources that are counted.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn record(&self, source: Source) -> Option<&Record> {
        self.records.get(&source)
    }

    /// Takes a report, and says what became of its source.
    pub(super) fn hear(&mut self, report: Report, now: Instant) -> Heard {
        let mut heard = Heard::default();
        let Report { source, good, bad, tokens, reason, is_direct, .. } = report;
        let record = match (self.records.get_mut(&source), reason) {
            (Some(record), _) => record,
            // Good tokens of a source that was forgotten meanwhile.
            (None, None) => return heard,
            (None, Some(reason)) => {
                if self.trusted.iter().any(|range| source.overlaps(range)) {
                    return heard;
                }
                heard.is_new = true;
                heard.forgotten = self.make_room();
                self.order.push_back(source);
                self.records.entry(source).or_insert(Record {
                    began: now,
                    good: 0,
                    bad: 0,
                    reason,
                    offences: 0,
                    is_direct: false,
                    tokens: HashSet::new(),
                    sentenced_until: None,
                })
            }
        };
        if now.saturating_duration_since(record.began) > self.rules.window {
            (record.began, record.good, record.bad) = (now, 0, 0);
            record.tokens.clear();
        }
        record.good += u64::from(good);
        record.bad += u64::from(bad);
        record.reason = reason.unwrap_or(record.reason);
        record.is_direct |= is_direct;
        let room = self.rules.distinct_tokens.saturating_sub(record.tokens.len());
        record.tokens.extend(tokens.into_iter().take(room));
        heard.sentence = self.sentence(source, now);
        heard
    }

    fn sentence(&mut self, source: Source, now: Instant) -> Option<Sentence> {
        let rules = &self.rules;
        let record = self.records.get_mut(&source)?;
        let is_serving = record.sentenced_until.is_some_and(|until| now < until);
        let all = record.good + record.bad;
        if is_serving || record.tokens.len() < rules.distinct_tokens || (record.bad as f64) < rules.ratio * all as f64 {
            return None;
        }
        let twice_as_long = 2_u32.saturating_pow(record.offences);
        let ttl = rules.ttl.saturating_mul(twice_as_long).min(rules.max_ttl);
        record.offences = record.offences.saturating_add(1);
        record.sentenced_until = Some(now + ttl);
        let sentence = Sentence {
            since: now,
            until: now + ttl,
            reason: record.reason,
            good: record.good,
            bad: record.bad,
            distinct_tokens: record.tokens.len(),
            offence: record.offences,
            is_direct: record.is_direct,
        };
        // What it served for is not counted against it once more.
        (record.began, record.good, record.bad) = (now, 0, 0);
        record.tokens.clear();
        Some(sentence)
    }

    /// Knows of a sentence that another generation imposed; whether it is one that counts here.
    pub(super) fn adopt(&mut self, source: Source, sentence: &Sentence, now: Instant) -> bool {
        let is_trusted = self.trusted.iter().any(|range| source.overlaps(range));
        if is_trusted || self.records.len() >= MAX_RECORDS || self.records.contains_key(&source) {
            return false;
        }
        self.order.push_back(source);
        let (good, bad, offences) = (0, 0, sentence.offence);
        let (reason, is_direct, sentenced_until) = (sentence.reason, sentence.is_direct, Some(sentence.until));
        let tokens = HashSet::new();
        let record = Record { began: now, good, bad, reason, offences, is_direct, tokens, sentenced_until };
        self.records.insert(source, record);
        true
    }

    /// Forgets a source; whether it was known.
    pub(super) fn forget(&mut self, source: Source) -> bool {
        self.records.remove(&source).is_some()
    }

    /// Forgets those whose window is over and whose past does not count any more.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<Source> {
        let rules = &self.rules;
        let is_over = |record: &Record| {
            let past = record.sentenced_until.map(|until| until + rules.max_ttl);
            now.saturating_duration_since(record.began) > rules.window && past.is_none_or(|past| now > past)
        };
        let over: Vec<Source> =
            self.records.iter().filter(|(_, record)| is_over(record)).map(|(key, _)| *key).collect();
        for source in &over {
            self.records.remove(source);
        }
        if self.order.len() > 2 * self.records.len() + 64 {
            self.order.retain(|source| self.records.contains_key(source));
        }
        over
    }

    /// Makes room for one more record; whose place it is.
    fn make_room(&mut self) -> Option<Source> {
        if self.records.len() < MAX_RECORDS {
            return None;
        }
        while let Some(oldest) = self.order.pop_front() {
            if self.records.remove(&oldest).is_some() {
                return Some(oldest);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULES: Penalty = Penalty {
        mode: crate::settings::PenaltyMode::Enforce,
        ratio: 0.9,
        distinct_tokens: 5,
        window: Duration::from_secs(10),
        ttl: Duration::from_secs(60),
        max_ttl: Duration::from_secs(200),
        ipv4_prefix: 32,
        ipv6_prefix: 64,
    };

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap(), &RULES)
    }

    /// A report of `bad` tokens, the first of them number `first`, beside good ones.
    fn report(source: Source, good: u32, bad: std::ops::Range<u64>) -> Report {
        let reason = (!bad.is_empty()).then_some(Reason::SignatureInvalid);
        Report {
            source,
            good,
            bad: (bad.end - bad.start) as u32,
            tokens: bad.collect(),
            reason,
            is_proven: false,
            is_direct: true,
        }
    }

    fn judge() -> Judge {
        Judge::new(RULES, vec![Cidr::parse("10.0.0.0/8").unwrap()])
    }

    #[test]
    fn ratio_and_distinct_tokens_decide_together() {
        let now = Instant::now();
        let check = |reports: &[(u32, std::ops::Range<u64>)], expected: bool| {
            let mut judge = judge();
            let source = source("192.0.2.1");
            let sentenced = reports.iter().fold(false, |sentenced, (good, bad)| {
                judge.hear(report(source, *good, bad.clone()), now).sentence.is_some() || sentenced
            });
            assert_eq!(sentenced, expected, "{reports:?}");
        };
        check(&[(0, 0..5)], true);
        check(&[(0, 0..4)], false);
        check(&[(0, 0..3), (0, 3..5)], true);
        // The same four over and over.
        check(&[(0, 0..4), (0, 0..4), (0, 0..4), (0, 0..4)], false);
        // One good token buys no immunity.
        check(&[(1, 0..9)], true);
        check(&[(1, 0..8)], false);
        check(&[(10, 0..90)], true);
        check(&[(11, 0..90)], false);
        // Good ones alone, of one that was never suspect.
        check(&[(1000, 0..0)], false);
    }

    #[test]
    fn a_window_ends_and_penalties_grow_to_their_most() {
        let mut judge = judge();
        let (source, start) = (source("192.0.2.1"), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(judge.hear(report(source, 0, 0..4), at(0)).is_new);
        assert!(judge.hear(report(source, 0, 4..5), at(11)).sentence.is_none());
        let first = judge.hear(report(source, 0, 0..5), at(12)).sentence.unwrap();
        assert_eq!((first.until, first.offence), (at(72), 1));
        // While it serves nothing is added.
        assert!(judge.hear(report(source, 0, 5..99), at(13)).sentence.is_none());
        let second = judge.hear(report(source, 0, 0..5), at(73)).sentence.unwrap();
        assert_eq!((second.until, second.offence), (at(193), 2));
        let third = judge.hear(report(source, 0, 0..5), at(194)).sentence.unwrap();
        assert_eq!((third.until, third.offence), (at(394), 3), "240 s are more than `max_ttl`");
        // After a past of `max_ttl` it is forgotten.
        assert!(judge.sweep(at(594)).is_empty());
        assert_eq!(judge.sweep(at(595)), [source]);
        assert_eq!(judge.hear(report(source, 0, 0..5), at(596)).sentence.unwrap().offence, 1);
    }

    #[test]
    fn trusted_proxies_never_enter() {
        let mut judge = judge();
        let heard = judge.hear(report(source("10.1.2.3"), 0, 0..99), Instant::now());
        assert!(!heard.is_new && heard.sentence.is_none());
        assert_eq!(judge.len(), 0);
    }

    #[test]
    fn forgiven_is_forgotten() {
        let mut judge = judge();
        let (source, now) = (source("192.0.2.1"), Instant::now());
        assert!(!judge.forget(source));
        judge.hear(report(source, 0, 0..5), now);
        assert!(judge.forget(source));
        assert_eq!(judge.hear(report(source, 0, 0..5), now).sentence.unwrap().offence, 1);
    }

    #[test]
    fn records_are_bounded_and_the_oldest_goes() {
        let mut judge = judge();
        let now = Instant::now();
        let nth = |n: u32| Source::of(std::net::IpAddr::V4((0xc000_0000 + n).into()), &RULES);
        for n in 0..MAX_RECORDS as u32 {
            assert!(judge.hear(report(nth(n), 0, 0..1), now).forgotten.is_none());
        }
        assert!(judge.forget(nth(0)));
        assert!(judge.hear(report(nth(1_000_000), 0, 0..1), now).forgotten.is_none());
        assert_eq!(judge.hear(report(nth(1_000_001), 0, 0..1), now).forgotten, Some(nth(1)));
        assert_eq!(judge.len(), MAX_RECORDS);
        assert_eq!(judge.sweep(now + Duration::from_secs(1_000_000)).len(), MAX_RECORDS);
        assert_eq!((judge.len(), judge.order.len()), (0, 0));
    }
}
