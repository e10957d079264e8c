//! One token of the edge's own, for how long it is kept, and when it is asked for anew. No I/O.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::oauth::kept::{Refusal, Value};
use crate::oauth::tokens::{GrantError, SecretText};
use crate::token::Now;

/// The least that a token is kept which says that it ends later than now: so that one with a short life is not asked for
/// by each request.
const LEAST: Duration = Duration::from_secs(1);
/// The most, whatever it says.
const MOST: Duration = Duration::from_secs(24 * 3600);
/// After the first failure; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const SCHEME: &str = "Bearer ";

/// `cache.default_ttl` and `cache.eagerly_expire`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Times {
    pub(super) default_ttl: Duration,
    pub(super) eagerly_expire: Duration,
}

impl Times {
    /// How long a token is kept that ends in this time (`expires_in`), or does not say, and no longer than a JWT says itself
    /// (`exp`). One that is over already is for those alone who wait for it.
    pub(super) fn kept(&self, left: Option<Duration>, exp: Option<Duration>) -> Duration {
        let left = left.unwrap_or(self.default_ttl);
        let left = exp.map_or(left, |exp| left.min(exp));
        left.saturating_sub(self.eagerly_expire).max(left.min(LEAST)).min(MOST)
    }
}

/// How long to leave an issuer alone after so many failures: between half and the whole of a time that doubles.
pub(super) fn pause(failures: u32, random: u16) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    whole / 2 + part(whole / 2, random)
}

/// When a token that is kept this long is asked for anew: in its last tenth, each one at another moment, so that neither
/// a request waits nor a fleet asks as one.
fn fresh(kept: Duration, random: u16) -> Duration {
    kept - kept / 20 - part(kept / 20, random)
}

fn part(whole: Duration, random: u16) -> Duration {
    whole.mul_f64(f64::from(random) / f64::from(u16::MAX))
}

/// How often tokens may be purged: an upstream that refuses whatever it is sent must not make each request a call to the
/// issuer.
#[derive(Default)]
pub(super) struct Purges {
    /// When those so far would have been spent at their rate, Unix milliseconds.
    spent_ms: AtomicI64,
}

impl Purges {
    /// So many at once.
    const BURST: i64 = 10;
    /// One more in this time.
    const EACH_MS: i64 = 1000;

    /// Whether there may be one more; it counts then.
    pub(super) fn spend(&self, now: Now) -> bool {
        let one = |spent_ms: i64| {
            let spent_ms = spent_ms.max(now.unix_ms);
            (spent_ms - now.unix_ms <= (Self::BURST - 1) * Self::EACH_MS).then_some(spent_ms + Self::EACH_MS)
        };
        self.spent_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_ok()
    }
}

/// A token as requests carry it, wiped when it is dropped.
pub struct UpstreamToken {
    /// `Bearer <token>`
    value: SecretText,
    /// Unix milliseconds from which on it is asked for anew.
    due_ms: AtomicI64,
    /// How often that failed.
    failures: AtomicU32,
}

impl UpstreamToken {
    /// A token that is kept from now on.
    pub(super) fn new(token: &str, kept: Duration, now: Now, random: u16) -> Self {
        // Room for all of it at once: a text that grows leaves copies behind.
        let mut value = Zeroizing::new(String::with_capacity(SCHEME.len() + token.len()));
        value.push_str(SCHEME);
        value.push_str(token);
        let due_ms = AtomicI64::new(after(now, fresh(kept, random)));
        Self { value, due_ms, failures: AtomicU32::new(0) }
    }

    /// The value of the header.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The token itself.
    pub(super) fn token(&self) -> &str {
        &self.value[SCHEME.len()..]
    }

    /// Whether it is to be asked for anew.
    pub(super) fn is_due(&self, now: Now) -> bool {
        now.unix_ms >= self.due_ms.load(Ordering::Relaxed)
    }

    /// Whether it falls to the caller to ask anew: to one of all that find it due, until `limit` has passed.
    pub(super) fn falls_due(&self, now: Now, limit: Duration) -> bool {
        let due_ms = self.due_ms.load(Ordering::Relaxed);
        let next_ms = after(now, limit);
        now.unix_ms >= due_ms
            && self.due_ms.compare_exchange(due_ms, next_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// It could not be had anew: it is tried again after a pause.
    pub(super) fn postpone(&self, now: Now, random: u16) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.due_ms.store(after(now, pause(failures, random)), Ordering::Relaxed);
    }
}

/// Names nothing.
impl std::fmt::Debug for UpstreamToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamToken").field("due_ms", &self.due_ms).finish_non_exhaustive()
    }
}

fn after(now: Now, time: Duration) -> i64 {
    now.unix_ms.saturating_add(time.as_millis() as i64)
}

impl Value for UpstreamToken {
    fn heap_bytes(&self) -> usize {
        self.value.capacity()
    }
}

/// Why no token came.
#[derive(Debug)]
pub struct Unissued(pub(super) GrantError);

impl Refusal for Unissued {
    /// Whatever it is, the issuer is left alone for a moment.
    fn is_answer(&self) -> bool {
        true
    }

    fn heap_bytes(&self) -> usize {
        Refusal::heap_bytes(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { unix_ms: 1_000_000 };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    // U4
    #[test]
    fn tokens_are_kept_for_their_time_but_for_the_last_seconds() {
        for (left, expected) in [
            (Some(3600), secs(3595)),
            (None, secs(595)),
            (Some(6), secs(1)),
            // A life as short as the margin is no reason to ask at each request, and never stands past its end.
            (Some(5), secs(1)),
            (Some(1), secs(1)),
            (Some(0), Duration::ZERO),
            (Some(86_405), MOST),
            (Some(u64::MAX), MOST),
        ] {
            let times = Times { default_ttl: secs(600), eagerly_expire: secs(5) };
            assert_eq!(times.kept(left.map(secs), None), expected, "{left:?}");
        }
        let times = Times { default_ttl: Duration::ZERO, eagerly_expire: Duration::ZERO };
        assert_eq!((times.kept(None, None), times.kept(Some(secs(7)), None)), (Duration::ZERO, secs(7)));
        assert_eq!(
            (times.kept(None, Some(secs(9))), times.kept(Some(secs(7)), Some(secs(3)))),
            (Duration::ZERO, secs(3))
        );
        let times = Times { default_ttl: Duration::ZERO, eagerly_expire: secs(60) };
        assert_eq!(times.kept(Some(Duration::from_millis(300)), None), Duration::from_millis(300));
    }

    // U2
    #[test]
    fn renewals_and_pauses_are_spread() {
        for (kept, random, expected) in [(1000, 0, 950_000), (1000, u16::MAX, 900_000), (0, 7, 0)] {
            assert_eq!(fresh(secs(kept), random).as_millis(), expected);
        }
        for (failures, random, expected_ms) in [
            (0, 0, 500),
            (1, 0, 500),
            (1, u16::MAX, 1000),
            (2, u16::MAX, 2000),
            (5, u16::MAX, 16_000),
            (6, u16::MAX, 30_000),
            (u32::MAX, 0, 15_000),
        ] {
            assert_eq!(pause(failures, random).as_millis(), expected_ms, "{failures} {random}");
        }
    }

    // U5
    #[test]
    fn purges_are_bounded_and_come_back() {
        let purges = Purges::default();
        let spent = |ms: i64| (0..20).filter(|_| purges.spend(Now { unix_ms: NOW.unix_ms + ms })).count();
        for (ms, expected) in [(0, 10), (999, 0), (1000, 1), (3500, 2), (60_000, 10)] {
            assert_eq!(spent(ms), expected, "after {ms} ms");
        }
    }

    // U2
    #[test]
    fn one_of_many_renews_and_a_failure_gives_a_pause() {
        let at = |ms: i64| Now { unix_ms: NOW.unix_ms + ms };
        let token = UpstreamToken::new("t0k", secs(100), NOW, 0);
        assert_eq!((token.value(), token.token()), ("Bearer t0k", "t0k"));
        assert!(!token.is_due(at(94_999)) && !token.falls_due(at(94_999), secs(10)));
        assert!(token.is_due(at(95_000)) && token.falls_due(at(95_000), secs(10)));
        assert!(!token.is_due(at(104_999)), "while somebody asks");
        assert!(token.is_due(at(105_000)), "who asked is lost");
        token.postpone(at(105_000), u16::MAX);
        assert!(!token.is_due(at(105_999)) && token.is_due(at(106_000)));
        token.postpone(at(106_000), u16::MAX);
        assert!(!token.is_due(at(107_999)) && token.is_due(at(108_000)));
        assert!(!format!("{token:?}").contains("t0k"));
    }
}
