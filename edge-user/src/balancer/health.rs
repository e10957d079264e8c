//! Healthy or not: what checks have seen of one address, and when that is enough.
//!
//! Active and passive checks count apart, each by its own thresholds; either may change the state, which starts all
//! counts anew. Failures count in a row: a success clears them. An unhealthy address gets no requests, so passive
//! checks see at most the ends of those under way: `passive.healthy.successes` alone hardly ever brings an address
//! back, active probes do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::settings::{ProbeType, Thresholds};

/// What a check has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// What a healthy target does.
    Success,
    /// No connection, or a broken one.
    TcpFailure,
    /// No answer in time.
    Timeout,
    /// An answer of a broken target.
    HttpFailure,
}

impl Seen {
    /// What a status says; `None` where it is on neither list. Checks of type tcp do not look at it.
    pub(super) fn of_status(status: u16, probe: ProbeType, thresholds: &Thresholds) -> Option<Self> {
        match probe {
            ProbeType::Tcp => Some(Self::Success),
            _ if thresholds.healthy_statuses.contains(&status) => Some(Self::Success),
            _ if thresholds.unhealthy_statuses.contains(&status) => Some(Self::HttpFailure),
            _ => None,
        }
    }

    /// For the log.
    pub(super) fn phrase(self) -> &'static str {
        match self {
            Self::Success => "successes",
            Self::TcpFailure => "connections failed",
            Self::Timeout => "time-outs",
            Self::HttpFailure => "answers of a failing target",
        }
    }
}

/// Who looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Check {
    /// Probes.
    Active,
    /// Requests.
    Passive,
}

#[derive(Default, Debug)]
struct Counts {
    successes: AtomicU32,
    tcp_failures: AtomicU32,
    timeouts: AtomicU32,
    http_failures: AtomicU32,
}

impl Counts {
    fn clear_failures(&self) {
        for count in [&self.tcp_failures, &self.timeouts, &self.http_failures] {
            clear(count);
        }
    }
}

/// A plain load first: on the hot path the count is zero already, and its cache line stays shared.
fn clear(count: &AtomicU32) {
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
}

/// The health of one address. Workers that count at once may lose a count, never a change of state.
#[derive(Default, Debug)]
pub(super) struct Health {
    unhealthy: AtomicBool,
    active: Counts,
    passive: Counts,
}

impl Health {
    /// Whether it gets requests; so it does until a check says otherwise.
    pub(super) fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    /// Counts what a check has seen. True for the one caller whose count changes the state.
    pub(super) fn count(&self, check: Check, seen: Seen, thresholds: &Thresholds) -> bool {
        let counts = match check {
            Check::Active => &self.active,
            Check::Passive => &self.passive,
        };
        let healthy = self.is_healthy();
        let (count, threshold) = match seen {
            Seen::Success if healthy => {
                counts.clear_failures();
                return false;
            }
            Seen::Success => (&counts.successes, thresholds.successes),
            _ if !healthy => {
                clear(&counts.successes);
                return false;
            }
            Seen::TcpFailure => (&counts.tcp_failures, thresholds.tcp_failures),
            Seen::Timeout => (&counts.timeouts, thresholds.timeouts),
            Seen::HttpFailure => (&counts.http_failures, thresholds.http_failures),
        };
        if threshold == 0 || count.fetch_add(1, Ordering::Relaxed) + 1 < threshold {
            return false;
        }
        let changed = self.unhealthy.compare_exchange(!healthy, healthy, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if changed {
            for counts in [&self.active, &self.passive] {
                counts.clear_failures();
                clear(&counts.successes);
            }
        }
        changed
    }
}

/// The state of one address, or of a target without any, in the words of `kong_upstream_target_health`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing is checked.
    HealthchecksOff,
    /// It gets requests.
    Healthy,
    /// It gets none.
    Unhealthy,
    /// The target's name has no address.
    DnsError,
}

impl State {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HealthchecksOff => "healthchecks_off",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::DnsError => "dns_error",
        }
    }
}

/// The health of one upstream entity.
#[derive(Clone, PartialEq, Debug)]
pub struct UpstreamHealth {
    /// The entity's name.
    pub upstream: Box<str>,
    /// Whether it takes requests: by `threshold`, or one healthy address.
    pub healthy: bool,
    /// Changes of addresses to healthy and to unhealthy, since the upstream is known.
    pub changes: [u64; 2],
    /// Its targets in the file's order, those of weight 0 left out.
    pub targets: Vec<TargetHealth>,
}

/// The health of one target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetHealth {
    /// `host:port`.
    pub target: String,
    /// The target's weight.
    pub weight: u32,
    /// Healthy where one of its addresses is.
    pub state: State,
    /// None where its name has none.
    pub addresses: Vec<AddressHealth>,
}

/// The health of one address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressHealth {
    /// Where requests go.
    pub address: SocketAddr,
    /// Whether they do.
    pub state: State,
    /// The target's weight, or that of an SRV record.
    pub weight: u32,
    /// Tries under way.
    pub in_flight: u32,
}

#[cfg(test)]
mod tests {
    use super::Seen::*;
    use super::*;

    fn thresholds() -> Thresholds {
        Thresholds {
            successes: 2,
            healthy_statuses: [200, 302].into(),
            tcp_failures: 2,
            timeouts: 3,
            http_failures: 4,
            unhealthy_statuses: [500].into(),
        }
    }

    #[test]
    fn every_threshold_changes_the_state_when_it_is_reached() {
        let off = Thresholds { successes: 0, tcp_failures: 0, timeouts: 0, http_failures: 0, ..thresholds() };
        // The indices at which the state changes.
        let check = |thresholds: &Thresholds, seen: &[Seen], changes: &[usize]| {
            for by in [Check::Active, Check::Passive] {
                let health = Health::default();
                let found: Vec<_> =
                    seen.iter().enumerate().filter(|(_, seen)| health.count(by, **seen, thresholds)).collect();
                let found: Vec<_> = found.into_iter().map(|(index, _)| index).collect();
                assert_eq!(found, changes, "{by:?} {seen:?}");
                assert_eq!(health.is_healthy(), changes.len().is_multiple_of(2));
            }
        };
        let on = thresholds();
        check(&on, &[TcpFailure], &[]);
        check(&on, &[TcpFailure, TcpFailure], &[1]);
        check(&on, &[TcpFailure, Success, TcpFailure], &[]);
        check(&on, &[Timeout, Timeout], &[]);
        check(&on, &[Timeout, Timeout, Timeout], &[2]);
        check(&on, &[HttpFailure, HttpFailure, HttpFailure], &[]);
        check(&on, &[HttpFailure, HttpFailure, HttpFailure, HttpFailure], &[3]);
        // Each kind has its own count.
        check(&on, &[TcpFailure, Timeout, HttpFailure, Timeout], &[]);
        check(&on, &[TcpFailure, Timeout, HttpFailure, TcpFailure], &[3]);
        // The way back, in a row too; all counts start anew.
        check(&on, &[TcpFailure, TcpFailure, Success, Success], &[1, 3]);
        check(&on, &[TcpFailure, TcpFailure, Success, Timeout, Success], &[1]);
        check(&on, &[TcpFailure, TcpFailure, Success, Success, TcpFailure], &[1, 3]);
        check(&on, &[TcpFailure, TcpFailure, TcpFailure], &[1]);
        check(&off, &[TcpFailure; 100], &[]);
        check(&off, &[Timeout; 100], &[]);
        check(&off, &[HttpFailure; 100], &[]);
        let no_way_back = Thresholds { successes: 0, ..thresholds() };
        check(&no_way_back, &[TcpFailure, TcpFailure, Success, Success, Success], &[1]);
    }

    #[test]
    fn active_and_passive_checks_count_apart() {
        let (health, on) = (Health::default(), thresholds());
        assert!(!health.count(Check::Active, TcpFailure, &on));
        assert!(!health.count(Check::Passive, TcpFailure, &on));
        assert!(!health.count(Check::Passive, Success, &on));
        assert!(health.count(Check::Active, TcpFailure, &on));
        assert!(!health.is_healthy());
    }

    #[test]
    fn statuses_are_judged_by_the_lists() {
        for (status, probe, expected) in [
            (200, ProbeType::Http, Some(Success)),
            (302, ProbeType::Https, Some(Success)),
            (500, ProbeType::Http, Some(HttpFailure)),
            (404, ProbeType::Http, None),
            (500, ProbeType::Tcp, Some(Success)),
        ] {
            assert_eq!(Seen::of_status(status, probe, &thresholds()), expected, "{status} {probe:?}");
        }
    }
}
