//! One worker's counts between two looks of its ticker: no lock, no wait, and for most good requests one load.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{PenaltyBox, Source};
use crate::reason::Reason;
use crate::settings::PenaltyMode;

/// Sources a worker counts between two batches; beyond that their tokens count for nothing, as if they had not come.
const MAX_SOURCES: usize = 4096;

/// How often the lanes are told that a source is good: well before they forget it.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What one worker saw of one source since its last report.
#[derive(Debug)]
pub struct Report {
    /// Whom it is about.
    pub source: Source,
    /// Verified tokens, since it is suspect.
    pub good: u32,
    /// Proven bad ones.
    pub bad: u32,
    /// Fingerprints of different bad ones, as many as the rules ask for.
    pub tokens: Vec<u64>,
    /// What the last bad one was refused for.
    pub reason: Option<Reason>,
    /// Whether a verified one came, and the lanes have to know.
    pub is_proven: bool,
    /// Whether one of the bad ones came over the source's own connection, and not through a trusted proxy.
    pub is_direct: bool,
}

/// See the module text.
pub struct Tally {
    sentences: Arc<PenaltyBox>,
    to: mpsc::Sender<Vec<Report>>,
    counts: HashMap<Source, Report>,
    /// Sources that the lanes know for good, where there are lanes.
    proven: Option<Proven>,
}

/// Sources that were told of lately.
struct Proven {
    sources: HashSet<Source>,
    since: Instant,
}

impl Tally {
    pub(super) fn new(sentences: Arc<PenaltyBox>, has_lanes: bool, to: mpsc::Sender<Vec<Report>>) -> Self {
        let proven = has_lanes.then(|| Proven { sources: HashSet::new(), since: Instant::now() });
        Self { sentences, to, counts: HashMap::new(), proven }
    }

    /// What workers read.
    pub fn sentences(&self) -> &Arc<PenaltyBox> {
        &self.sentences
    }

    /// Whether anybody wants to hear of good tokens.
    pub fn counts_good(&self) -> bool {
        self.proven.is_some() || self.sentences.has_suspects()
    }

    /// A token of this address was verified.
    pub fn good(&mut self, address: IpAddr) {
        let source = self.sentences.source(address);
        if self.proven.as_mut().is_some_and(|proven| proven.is_news(source))
            && let Some(report) = self.report(source)
        {
            report.is_proven = true;
        }
        if self.sentences.is_suspect(source)
            && let Some(report) = self.report(source)
        {
            report.good = report.good.saturating_add(1);
        }
    }

    /// A token of this address was proven bad. `token` tells it from others.
    pub fn bad(&mut self, address: IpAddr, reason: Reason, token: u64, is_direct: bool) {
        let rules = self.sentences.rules();
        if rules.mode == PenaltyMode::Off {
            return;
        }
        let enough = rules.distinct_tokens;
        let source = self.sentences.source(address);
        let Some(report) = self.report(source) else { return };
        report.bad = report.bad.saturating_add(1);
        report.reason = Some(reason);
        report.is_direct |= is_direct;
        if report.tokens.len() < enough && !report.tokens.contains(&token) {
            report.tokens.push(token);
        }
    }

    /// Hands the counts over; where the task is that far behind, they wait for the next time.
    pub fn hand_over(&mut self) {
        if self.counts.is_empty() {
            return;
        }
        let Ok(place) = self.to.try_reserve() else { return };
        place.send(self.counts.drain().map(|(_, report)| report).collect());
    }

    fn report(&mut self, source: Source) -> Option<&mut Report> {
        if self.counts.len() >= MAX_SOURCES && !self.counts.contains_key(&source) {
            return None;
        }
        let new =
            || Report { source, good: 0, bad: 0, tokens: Vec::new(), reason: None, is_proven: false, is_direct: false };
        Some(self.counts.entry(source).or_insert_with(new))
    }
}

impl Proven {
    /// Whether the lanes have to be told of this one, for the first time or again.
    fn is_news(&mut self, source: Source) -> bool {
        if self.since.elapsed() > TELL_AGAIN || self.sources.len() >= MAX_SOURCES {
            self.sources.clear();
            self.since = Instant::now();
        }
        self.sources.insert(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Penalty;

    fn tally(rules: Penalty) -> (Tally, Arc<PenaltyBox>, mpsc::Receiver<Vec<Report>>) {
        let sentences = Arc::new(PenaltyBox::new(rules));
        let (to, from) = mpsc::channel(1);
        (Tally::new(sentences.clone(), false, to), sentences, from)
    }

    #[test]
    fn good_tokens_count_for_suspects_alone() {
        let (mut tally, sentences, mut from) = tally(Penalty::default());
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        tally.good(one);
        tally.hand_over();
        assert!(from.try_recv().is_err());

        tally.bad(one, Reason::SignatureInvalid, 7, true);
        tally.bad(one, Reason::TokenMalformed, 7, false);
        tally.hand_over();
        let batch = from.try_recv().unwrap();
        assert_eq!(batch.len(), 1);
        let report = &batch[0];
        assert_eq!((report.good, report.bad, report.tokens.as_slice(), report.is_direct), (0, 2, &[7][..], true));
        assert_eq!(report.reason, Some(Reason::TokenMalformed));

        sentences.suspect(report.source);
        tally.good(one);
        tally.good(other);
        tally.hand_over();
        let batch = from.try_recv().unwrap();
        assert_eq!((batch.len(), batch[0].good, batch[0].bad), (1, 1, 0));
    }

    #[test]
    fn a_full_channel_loses_nothing_and_delays_nobody() {
        let (mut tally, _sentences, mut from) = tally(Penalty::default());
        let address = "192.0.2.1".parse().unwrap();
        for token in 0..3 {
            tally.bad(address, Reason::SignatureInvalid, token, true);
            tally.hand_over();
        }
        assert_eq!(from.try_recv().unwrap()[0].bad, 1);
        tally.hand_over();
        assert_eq!(from.try_recv().unwrap()[0].bad, 2);
    }

    #[test]
    fn counts_are_bounded() {
        let (mut tally, _sentences, mut from) = tally(Penalty { distinct_tokens: 3, ..Penalty::default() });
        for n in 0..MAX_SOURCES as u32 + 10 {
            for token in 0..5 {
                tally.bad(IpAddr::V4(n.into()), Reason::SignatureInvalid, token, true);
            }
        }
        tally.hand_over();
        let batch = from.try_recv().unwrap();
        assert_eq!(batch.len(), MAX_SOURCES);
        assert!(batch.iter().all(|report| report.tokens.len() == 3 && report.bad == 5));
    }

    #[test]
    fn where_penalties_are_off_nothing_is_counted() {
        let (mut tally, _sentences, mut from) = tally(Penalty { mode: PenaltyMode::Off, ..Penalty::default() });
        tally.bad("192.0.2.1".parse().unwrap(), Reason::SignatureInvalid, 7, true);
        tally.hand_over();
        assert!(from.try_recv().is_err());
    }

    #[test]
    fn lanes_hear_of_a_good_source_once_in_a_while() {
        let sentences = Arc::new(PenaltyBox::new(Penalty::default()));
        let (to, mut from) = mpsc::channel(1);
        let mut tally = Tally::new(sentences, true, to);
        for _ in 0..9 {
            tally.good("192.0.2.1".parse().unwrap());
        }
        tally.hand_over();
        let batch = from.try_recv().unwrap();
        assert_eq!((batch.len(), batch[0].is_proven, batch[0].good), (1, true, 0));
        tally.good("192.0.2.1".parse().unwrap());
        tally.hand_over();
        assert!(from.try_recv().is_err());
    }
}
