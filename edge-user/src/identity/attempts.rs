//! Slows guessing: failed authentications are counted by client and by address, each with a wait that doubles.
//!
//! Behind a proxy all callers share an address, so addresses have more room than clients. A client whose secret was
//! proven before never waits (`token_endpoint`): a guesser cannot lock it out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who failed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Subject {
    /// A client that exists, by server and id.
    Client(String, String),
    /// Anyone at an address; IPv6 by /64, which one host can use as a whole.
    Address(IpAddr),
}

impl Subject {
    pub(super) fn address(ip: IpAddr) -> Self {
        Self::Address(match ip.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
            v4 => v4,
        })
    }

    /// Failures that cost no wait.
    fn free(&self) -> u32 {
        match self {
            Self::Client(..) => 5,
            Self::Address(_) => 20,
        }
    }
}

/// Subjects remembered; when full, the one that failed least of a few gives way.
const CAPACITY: usize = 10_000;
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Failures are forgotten after this time without another.
const MEMORY: Duration = Duration::from_secs(15 * 60);

struct Failures {
    count: u32,
    last: Instant,
    until: Instant,
}

/// Failed attempts so far.
#[derive(Default)]
pub(super) struct Attempts {
    failures: Mutex<HashMap<Subject, Failures>>,
}

impl Attempts {
    /// How long the subject has to wait before its next attempt is looked at.
    pub(super) fn wait(&self, subject: &Subject, now: Instant) -> Option<Duration> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(subject).map(|known| known.until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// Counts a failed attempt.
    pub(super) fn failed(&self, subject: Subject, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= CAPACITY && !failures.contains_key(&subject) {
            make_room(&mut failures, now);
        }
        let free = subject.free();
        let known = failures.entry(subject).or_insert(Failures { count: 0, last: now, until: now });
        if now.saturating_duration_since(known.last) > MEMORY {
            known.count = 0;
        }
        known.count = known.count.saturating_add(1);
        known.last = now;
        if known.count > free {
            let doubled = Duration::from_secs(1 << (known.count - free - 1).min(6));
            known.until = now + doubled.min(LONGEST_WAIT);
        }
    }

    /// Forgets a client's failures. Not an address's: one valid client there must not free the guesser beside it.
    pub(super) fn succeeded(&self, client: &Subject) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(client);
    }
}

fn make_room(failures: &mut HashMap<Subject, Failures>, now: Instant) {
    failures.retain(|_, known| now.saturating_duration_since(known.last) <= MEMORY);
    if failures.len() >= CAPACITY {
        let least = failures.iter().take(64).min_by_key(|(_, known)| known.count).map(|(subject, _)| subject.clone());
        if let Some(subject) = least {
            failures.remove(&subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: &str) -> Subject {
        Subject::Client("s".into(), id.into())
    }

    #[test]
    fn waits_begin_after_the_free_failures_and_double() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        for expected in [None, None, None, None, None, Some(1), Some(2), Some(4), Some(8), Some(16), Some(32), Some(60)]
        {
            attempts.failed(client("a"), start);
            assert_eq!(attempts.wait(&client("a"), start), expected.map(Duration::from_secs));
        }
        assert_eq!(attempts.wait(&client("b"), start), None);
        assert_eq!(attempts.wait(&client("a"), start + LONGEST_WAIT), None);
        attempts.failed(client("a"), start + MEMORY * 2);
        assert_eq!(attempts.wait(&client("a"), start + MEMORY * 2), None, "forgotten");
    }

    #[test]
    fn success_frees_the_client_and_not_the_address() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let address = Subject::address(IpAddr::from([192, 0, 2, 1]));
        for _ in 0..30 {
            attempts.failed(client("a"), now);
            attempts.failed(address.clone(), now);
        }
        attempts.succeeded(&client("a"));
        assert_eq!((attempts.wait(&client("a"), now), attempts.wait(&address, now).is_some()), (None, true));
    }

    #[test]
    fn one_host_cannot_change_its_address_away() {
        let address = |text: &str| Subject::address(text.parse().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }

    /// D3.
    #[test]
    fn the_map_is_bounded_and_keeps_who_failed_most() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..10 {
            attempts.failed(client("guesser"), now);
        }
        for index in 0..CAPACITY + 100 {
            attempts.failed(client(&index.to_string()), now);
        }
        assert_eq!(attempts.failures.lock().unwrap().len(), CAPACITY);
        assert!(attempts.wait(&client("guesser"), now).is_some());
    }
}
