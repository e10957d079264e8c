//! When an endpoint that does not answer is left alone. No clock of its own, no I/O.

use std::time::{Duration, Instant};

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// The first time it stays open; doubles with each further failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest time it stays open by itself.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest that `Retry-After` may ask for.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// Counts what became of calls, and says whether the next may be made.
#[derive(Default)]
pub(super) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    /// One call is finding out whether the endpoint is back.
    probing: bool,
}

/// What the endpoint did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It answered; what it said does not matter here.
    Answered,
    /// It did not, or with 5xx or 429, and asked for this much time.
    Failed { retry_after: Option<Duration> },
    /// The call was given up; nothing is known.
    Abandoned,
}

/// Its state, as a metric has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Closed,
    HalfOpen,
    Open,
}

impl Breaker {
    /// Lets a call through, or says how long none will be. What was let through must be recorded.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let Some(until) = self.open_until else { return Ok(()) };
        if now < until {
            return Err(until - now);
        }
        if self.probing {
            return Err(FIRST);
        }
        self.probing = true;
        Ok(())
    }

    /// What became of a call that was let through.
    pub(super) fn record(&mut self, outcome: Outcome, now: Instant) {
        let retry_after = match outcome {
            Outcome::Abandoned => {
                self.probing = false;
                return;
            }
            Outcome::Answered => {
                *self = Self::default();
                return;
            }
            Outcome::Failed { retry_after } => retry_after,
        };
        // Calls that began before it opened say nothing new.
        if self.open_until.is_some() && !self.probing {
            return;
        }
        self.probing = false;
        self.failures = self.failures.saturating_add(1);
        let steps = self.failures.saturating_sub(FAILURES).min(8);
        let own = (self.failures >= FAILURES).then(|| (FIRST * (1 << steps)).min(LONGEST));
        let asked = retry_after.map(|asked| asked.min(LONGEST_ASKED));
        self.open_until = own.max(asked).map(|pause| now + pause);
    }

    pub(super) fn state(&self, now: Instant) -> State {
        match self.open_until {
            None => State::Closed,
            Some(until) if now < until => State::Open,
            Some(_) => State::HalfOpen,
        }
    }

    /// How long no call will be let through.
    pub(super) fn remaining(&self, now: Instant) -> Duration {
        self.open_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Outcome = Outcome::Failed { retry_after: None };

    fn asked(secs: u64) -> Outcome {
        Outcome::Failed { retry_after: Some(Duration::from_secs(secs)) }
    }

    // I7
    #[test]
    fn five_failures_open_it_and_one_probe_closes_it() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            breaker.admit(start).unwrap();
            breaker.record(FAILED, start);
        }
        breaker.record(Outcome::Answered, start);
        for _ in 0..4 {
            breaker.admit(start).unwrap();
            breaker.record(FAILED, start);
        }
        assert_eq!(breaker.state(start), State::Closed);
        breaker.record(FAILED, start);
        assert_eq!(breaker.state(start), State::Open);
        assert_eq!(breaker.admit(start), Err(Duration::from_secs(1)));
        // A call from before does not prolong it.
        breaker.record(FAILED, start);
        let mut now = start;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(breaker.remaining(now), Duration::from_secs(pause));
            assert!(breaker.admit(now + Duration::from_millis(pause * 1000 - 1)).is_err());
            now += Duration::from_secs(pause);
            assert_eq!(breaker.state(now), State::HalfOpen);
            assert_eq!(breaker.admit(now), Ok(()));
            assert_eq!(breaker.admit(now), Err(FIRST), "one probe");
            breaker.record(FAILED, now);
        }
        now += Duration::from_secs(30);
        breaker.admit(now).unwrap();
        breaker.record(Outcome::Abandoned, now);
        assert_eq!(breaker.admit(now), Ok(()), "another probe in place of the one given up");
        breaker.record(Outcome::Answered, now);
        assert_eq!((breaker.state(now), breaker.admit(now)), (State::Closed, Ok(())));
    }

    #[test]
    fn retry_after_opens_it_at_once_and_within_bounds() {
        let now = Instant::now();
        for (outcome, remaining) in [(asked(7), 7), (asked(100_000), 300), (asked(0), 0), (FAILED, 0)] {
            let mut breaker = Breaker::default();
            breaker.record(outcome, now);
            assert_eq!(breaker.remaining(now), Duration::from_secs(remaining), "{outcome:?}");
        }
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            breaker.record(asked(0), now);
            breaker.admit(now).ok();
        }
        assert_eq!(breaker.remaining(now), Duration::from_secs(1), "its own pause where that is longer");
    }
}
