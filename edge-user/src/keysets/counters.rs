//! The numbers of key sets. No label takes a set's name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::flights::Cause;
use super::set::Set;
use crate::metrics::{Exposition, Kind};

/// What happened since the start.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) generated: AtomicU64,
    pub(super) fetched: AtomicU64,
    pub(super) fetch_failures: AtomicU64,
    pub(super) store_failures: AtomicU64,
    manual: AtomicU64,
    periodic: AtomicU64,
}

impl Counters {
    /// A set was rotated.
    pub(super) fn rotated(&self, cause: &Cause) {
        let counter = match cause {
            Cause::Manual(_) => &self.manual,
            Cause::Periodic => &self.periodic,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn collect(&self, named: &[Arc<Set>], fetched: &[Arc<Set>], verifying: usize, to: &mut Exposition) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let kept = |sets: &[Arc<Set>]| sets.iter().filter_map(|set| set.record()).collect::<Vec<_>>();
        let (named, fetched) = (kept(named), kept(fetched));
        to.family("edge_key_sets", Kind::Gauge, "Key sets that are there, by where they come from");
        for (origin, count) in [("generated", named.len()), ("fetched", fetched.len()), ("verifying", verifying)] {
            to.sample(&[("origin", origin)], count);
        }
        to.family("edge_key_set_keys", Kind::Gauge, "Keys of the sets that the edge signs with");
        let records = || named.iter().chain(&fetched);
        to.sample(&[("age", "current")], records().map(|record| record.keys.len()).sum::<usize>());
        to.sample(&[("age", "previous")], records().map(|record| record.previous.len()).sum::<usize>());
        to.family("edge_key_sets_generated_total", Kind::Counter, "Key sets that got their first keys");
        to.sample(&[], read(&self.generated));
        to.family("edge_key_set_rotations_total", Kind::Counter, "Key sets that got other keys");
        to.sample(&[("cause", "manual")], read(&self.manual));
        to.sample(&[("cause", "periodic")], read(&self.periodic));
        to.family("edge_key_set_fetches_total", Kind::Counter, "Key sets fetched from their URLs");
        to.sample(&[("result", "good")], read(&self.fetched));
        to.sample(&[("result", "failed")], read(&self.fetch_failures));
        to.family(
            "edge_key_set_store_failures_total",
            Kind::Counter,
            "Generated key sets that could not be read or kept",
        );
        to.sample(&[], read(&self.store_failures));
    }
}
