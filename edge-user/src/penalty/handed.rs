//! A sentence on its way from one generation of the process to the next.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Sentence, Source};
use crate::reason::Reason;

/// What the next generation has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// The first address of the source.
    pub address: IpAddr,
    /// How long it is in force, in milliseconds.
    since_ms: u64,
    /// How long it will be, in milliseconds.
    left_ms: u64,
    /// The code of the reason of the last bad token.
    reason: String,
    good: u64,
    bad: u64,
    distinct_tokens: usize,
    offence: u32,
    is_direct: bool,
}

impl Handed {
    /// Of a sentence in force; nothing of one that is over.
    pub(super) fn new(source: Source, sentence: &Sentence, now: Instant) -> Option<Self> {
        let left = sentence.until.checked_duration_since(now)?;
        Some(Self {
            address: source.address(),
            since_ms: now.saturating_duration_since(sentence.since).as_millis() as u64,
            left_ms: left.as_millis() as u64,
            reason: sentence.reason.code().to_owned(),
            good: sentence.good,
            bad: sentence.bad,
            distinct_tokens: sentence.distinct_tokens,
            offence: sentence.offence,
            is_direct: sentence.is_direct,
        })
    }

    /// The sentence; nothing where its reason is one that this version does not know.
    pub(super) fn sentence(&self, now: Instant) -> Option<Sentence> {
        let since = Duration::from_millis(self.since_ms);
        Some(Sentence {
            since: now.checked_sub(since).unwrap_or(now),
            until: now + Duration::from_millis(self.left_ms.min(86_400_000)),
            reason: *Reason::ALL.iter().find(|reason| reason.code() == self.reason)?,
            good: self.good,
            bad: self.bad,
            distinct_tokens: self.distinct_tokens,
            offence: self.offence,
            is_direct: self.is_direct,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Penalty;

    #[test]
    fn a_sentence_goes_over_whole_and_one_that_is_over_does_not() {
        let now = Instant::now() + Duration::from_secs(10);
        let sentence = Sentence {
            since: now - Duration::from_secs(5),
            until: now + Duration::from_secs(55),
            reason: Reason::SignatureInvalid,
            good: 1,
            bad: 60,
            distinct_tokens: 50,
            offence: 2,
            is_direct: true,
        };
        let source = Source::of("192.0.2.1".parse().unwrap(), &Penalty::default());
        let handed = Handed::new(source, &sentence, now).unwrap();
        let text = serde_json::to_string(&handed).unwrap();
        assert_eq!(serde_json::from_str::<Handed>(&text).unwrap().sentence(now), Some(sentence));
        assert_eq!(Handed::new(source, &sentence, sentence.until + Duration::from_millis(1)), None);
        let other = text.replace("signature_invalid", "of_tomorrow");
        assert_eq!(serde_json::from_str::<Handed>(&other).unwrap().sentence(now), None);
    }
}
