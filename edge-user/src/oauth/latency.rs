//! How long calls to issuers take, for the metrics.

use crate::metrics::Exposition;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds of the latency histogram.
const BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000, 10_000];

/// A distribution of durations that many may add to.
#[derive(Default)]
pub(super) struct Latency {
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Latency {
    pub(super) fn observe(&self, took: Duration) {
        let slot =
            BOUNDS_MS.iter().position(|bound| took.as_micros() <= u128::from(bound * 1000)).unwrap_or(BOUNDS_MS.len());
        self.counts[slot].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    pub(super) fn write<'a>(
        all: impl Iterator<Item = &'a Self> + Clone,
        issuer: &str,
        purpose: &str,
        to: &mut Exposition,
    ) {
        let sum = |number: &dyn Fn(&Self) -> &AtomicU64| -> u64 {
            all.clone().map(|one| number(one).load(Ordering::Relaxed)).sum()
        };
        let labels = [("issuer", issuer), ("endpoint", purpose)];
        let mut below = 0;
        for slot in 0..=BOUNDS_MS.len() {
            below += sum(&|one| &one.counts[slot]);
            let bound = BOUNDS_MS.get(slot).map_or("+Inf".to_owned(), |bound| (*bound as f64 / 1e3).to_string());
            to.suffixed("_bucket", &[labels[0], labels[1], ("le", &bound)], below);
        }
        to.suffixed("_sum", &labels, sum(&|one| &one.sum_us) as f64 / 1e6);
        to.suffixed("_count", &labels, below);
    }
}
