//! How much of a worker's time goes to signatures of senders who never sent a good one.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::time::Instant;

/// Bounds the time for signatures of sources without a good verdict to half of a worker's time (D4).
///
/// Credit grows by half of the time that passes, up to `MAX_CREDIT_NS`; each such signature costs what it took. A source
/// is good for a minute after a good signature; each bad one takes back what two good ones gave. Sources are remembered
/// in a fixed table by a seeded hash; a collision lends one source another's standing for a minute at most.
pub struct VerifyBudget {
    credit_ns: Cell<i64>,
    at: Cell<Instant>,
    sources: RefCell<Box<[(u32, i8, i64)]>>,
    seed: std::hash::RandomState,
}

const MAX_CREDIT_NS: i64 = 50_000_000;
const SOURCES: usize = 1024;
const GOOD_FOR_MS: i64 = 60_000;

impl Default for VerifyBudget {
    fn default() -> Self {
        Self {
            credit_ns: Cell::new(MAX_CREDIT_NS),
            at: Cell::new(Instant::now()),
            sources: RefCell::new(vec![(0, 0, 0); SOURCES].into()),
            seed: Default::default(),
        }
    }
}

impl VerifyBudget {
    fn place(&self, source: IpAddr) -> (usize, u32) {
        use std::hash::BuildHasher;
        // An IPv6 client owns its /64.
        let hash = match source {
            IpAddr::V4(v4) => self.seed.hash_one(v4.octets()),
            IpAddr::V6(v6) => self.seed.hash_one(&v6.octets()[..8]),
        };
        (hash as usize % SOURCES, (hash >> 32) as u32)
    }

    /// Whether the source had a good verdict in the last minute, and no more bad ones than that allows.
    pub fn is_good(&self, source: IpAddr, now_ms: i64) -> bool {
        let (place, print) = self.place(source);
        let (seen, score, good_until_ms) = self.sources.borrow()[place];
        seen == print && score > 0 && now_ms < good_until_ms
    }

    /// Verifies a signature unless the budget is used up, and books its cost and outcome.
    pub fn spend(&self, source: IpAddr, now_ms: i64, verify: impl FnOnce() -> bool) -> Option<bool> {
        let good_source = self.is_good(source, now_ms);
        let start = Instant::now();
        let passed = start.saturating_duration_since(self.at.replace(start)).as_nanos().min(1 << 40) as i64;
        let credit = (self.credit_ns.get() + passed / 2).min(MAX_CREDIT_NS);
        self.credit_ns.set(credit);
        if !good_source && credit <= 0 {
            return None;
        }
        let good = verify();
        if !good_source {
            self.credit_ns.set(credit - start.elapsed().as_nanos().min(1 << 40) as i64);
        }
        self.book(source, now_ms, good);
        Some(good)
    }

    /// Remembers a source's verdict.
    pub fn book(&self, source: IpAddr, now_ms: i64, good: bool) {
        let (place, print) = self.place(source);
        let slot = &mut self.sources.borrow_mut()[place];
        if slot.0 != print {
            *slot = (print, 0, 0);
        }
        if good {
            *slot = (print, (slot.1 + 1).min(16), now_ms + GOOD_FOR_MS);
        } else {
            slot.1 = (slot.1 - 2).max(-16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unproven_source_gets_half_of_the_time() {
        // D4
        let budget = VerifyBudget::default();
        let (bad, good) = (IpAddr::from([1, 1, 1, 1]), IpAddr::from([2, 2, 2, 2]));
        let slow = || {
            let start = Instant::now();
            while start.elapsed().as_millis() < 2 {}
            false
        };
        assert_eq!(budget.spend(good, 0, || true), Some(true));
        let (start, mut spent) = (Instant::now(), 0);
        while start.elapsed().as_millis() < 300 {
            spent += u128::from(budget.spend(bad, 0, slow).is_some()) * 2;
        }
        // 50 ms to start with, then half of the time, and the one that overdraws. A busy machine gets less.
        let allowed = 50 + start.elapsed().as_millis() / 2 + 4;
        assert!((20..=allowed).contains(&spent), "{spent} of {allowed}");
        assert_eq!(budget.spend(good, 1, || true), Some(true));
        assert!(budget.is_good(good, GOOD_FOR_MS) && !budget.is_good(good, GOOD_FOR_MS + 2));
        // Bad signatures take a good standing back.
        budget.spend(good, 2, || false);
        assert!(!budget.is_good(good, 3));
    }
}
