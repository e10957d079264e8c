//! What is known of one name, and what the end of a flight makes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::query::Found;
use super::{Answer, LookupError, Outcome};
use crate::settings::{Dns, RecordType};

/// The least TTL, so that an answer of TTL 0 does not make every request a query.
const LEAST_TTL: Duration = Duration::from_secs(1);
/// The greatest TTL: a mistake in a zone is over in a day.
const GREATEST_TTL: Duration = Duration::from_secs(86_400);

/// What is known of a name.
pub(super) struct State {
    /// `None` until the first flight has ended.
    pub(super) outcome: Option<Outcome>,
    /// The type of the records; for answers only.
    kind: Option<RecordType>,
    /// When to ask again; not after `until`.
    pub(super) refresh_at: Instant,
    /// When the outcome must not be used any more.
    until: Instant,
}

impl State {
    /// Nothing is known, and it is time to ask.
    pub(super) fn new(now: Instant) -> Self {
        Self { outcome: None, kind: None, refresh_at: now, until: now }
    }

    /// What may be used.
    pub(super) fn at(&self, now: Instant) -> Option<Outcome> {
        self.outcome.clone().filter(|_| now < self.until)
    }

    /// Takes in the end of a flight.
    pub(super) fn settle(&mut self, name: &str, found: Result<Found, LookupError>, settings: &Dns, now: Instant) {
        let keeps = matches!(self.at(now), Some(Ok(_)));
        match found {
            // A type that goes before it failed: the one that answered last time is more likely to be right.
            Ok(found) if keeps && found.in_doubt && self.kind != Some(found.kind) => {
                self.serve_on(name, LookupError::Failed, settings, now);
            }
            Ok(found) => self.answer(name, found, settings, now),
            Err(LookupError::NotFound) => self.fail(name, LookupError::NotFound, now + settings.not_found_ttl),
            Err(error) if keeps => self.serve_on(name, error, settings, now),
            Err(error) => self.fail(name, error, now + settings.error_ttl),
        }
    }

    fn answer(&mut self, name: &str, found: Found, settings: &Dns, now: Instant) {
        self.refresh_at = now + settings.valid_ttl.unwrap_or(found.ttl.clamp(LEAST_TTL, GREATEST_TTL));
        self.until = self.refresh_at + settings.stale_ttl;
        self.kind = Some(found.kind);
        if let Some(Err(_)) = self.outcome {
            tracing::info!(%name, "name resolves again");
        }
        if !matches!(&self.outcome, Some(Ok(same)) if same.addresses == found.records) {
            self.outcome = Some(Ok(Arc::new(Answer { addresses: found.records })));
        }
    }

    fn serve_on(&mut self, name: &str, error: LookupError, settings: &Dns, now: Instant) {
        self.refresh_at = (now + settings.error_ttl).min(self.until);
        tracing::warn!(%name, %error, "name could not be refreshed, its last answer serves on");
    }

    fn fail(&mut self, name: &str, error: LookupError, until: Instant) {
        if self.outcome != Some(Err(error)) {
            tracing::warn!(%name, %error, "name does not resolve");
        }
        (self.outcome, self.kind) = (Some(Err(error)), None);
        (self.refresh_at, self.until) = (until, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Record;

    fn found(last: u8, kind: RecordType, in_doubt: bool) -> Result<Found, LookupError> {
        let records = Box::new([Record::plain([10, 0, 0, last].into())]);
        Ok(Found { kind, records, ttl: Duration::from_secs(10), in_doubt })
    }

    #[test]
    fn outcomes_follow_one_another() {
        let settings = Dns { stale_ttl: Duration::from_secs(20), ..Dns::default() };
        let (start, seconds) = (Instant::now(), Duration::from_secs);
        let mut state = State::new(start);
        let mut last: Option<Outcome> = None;
        // Second, what a flight found, last byte or error, whether it is the same as before, when to ask again.
        let (a, srv) = (RecordType::A, RecordType::Srv);
        for (second, flight, expected, same, refresh) in [
            (0, Err(LookupError::Failed), Err(LookupError::Failed), false, 1),
            (1, Err(LookupError::TimedOut), Err(LookupError::TimedOut), false, 2),
            (2, found(1, a, false), Ok(1), false, 12),
            (12, found(1, a, false), Ok(1), true, 22),
            (22, found(2, a, false), Ok(2), false, 32),
            (32, Err(LookupError::Failed), Ok(2), true, 33),
            (33, Err(LookupError::TimedOut), Ok(2), true, 34),
            // The last second of stale_ttl: the next time to ask is its end.
            (51, Err(LookupError::Failed), Ok(2), true, 52),
            (52, Err(LookupError::Failed), Err(LookupError::Failed), false, 53),
            (53, found(3, srv, false), Ok(3), false, 63),
            (63, found(4, a, true), Ok(3), true, 64),
            (64, found(5, srv, true), Ok(5), false, 74),
            (74, found(6, a, false), Ok(6), false, 84),
            (84, Err(LookupError::NotFound), Err(LookupError::NotFound), false, 114),
            (114, found(7, a, true), Ok(7), false, 124),
        ] {
            let now = start + seconds(second);
            state.settle("a.test", flight, &settings, now);
            let outcome = state.at(now).expect("an outcome");
            let byte = outcome.as_ref().map(|answer| match answer.addresses[0].address {
                std::net::IpAddr::V4(address) => address.octets()[3],
                std::net::IpAddr::V6(_) => 0,
            });
            assert_eq!(byte.map_err(|error| *error), expected, "second {second}");
            let kept = matches!((&last, &outcome), (Some(Ok(old)), Ok(new)) if Arc::ptr_eq(old, new));
            assert_eq!(kept, same, "second {second}");
            assert_eq!(state.refresh_at, start + seconds(refresh), "second {second}");
            assert!(state.refresh_at <= state.until);
            last = Some(outcome);
        }
        assert!(state.at(start + seconds(143)).is_some() && state.at(start + seconds(144)).is_none());
    }

    #[test]
    fn ttls_have_bounds_unless_they_are_set() {
        for (valid_ttl, ttl, expected) in
            [(None, 0, 1000), (None, 5, 5000), (None, u32::MAX, 86_400_000), (Some(Duration::from_millis(200)), 5, 200)]
        {
            let settings = Dns { valid_ttl, ..Dns::default() };
            let now = Instant::now();
            let mut state = State::new(now);
            let found = found(1, RecordType::A, false).map(|f| Found { ttl: Duration::from_secs(ttl.into()), ..f });
            state.settle("a.test", found, &settings, now);
            assert_eq!(state.refresh_at, now + Duration::from_millis(expected), "{valid_ttl:?} {ttl}");
        }
    }
}
