//! The moving average behind the algorithm `latency`: of the time to the response's head, weighing the latest more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The time in which a value loses all but 1/e of its weight.
const DECAY_MS: f32 = 10_000.0;
/// What a failed try counts at least, doubled by each further one.
const PENALTY_MS: f32 = 1000.0;
/// The most a peer's failures count, so that it is back within minutes.
const MAX_PENALTY_MS: f32 = 60_000.0;

/// One peer's average. Workers that write at once may lose a sample.
#[derive(Default, Debug)]
pub(super) struct Latency {
    /// Above the time of the last sample in milliseconds, below the average's bits; zero before the first sample.
    packed: AtomicU64,
}

impl Latency {
    fn read(&self, now_ms: u64) -> Option<(f32, f32)> {
        let packed = self.packed.load(Ordering::Relaxed);
        let age = (now_ms as u32).wrapping_sub((packed >> 32) as u32);
        // Another worker may have read the clock a moment later.
        let age = if age > u32::MAX / 2 { 0 } else { age };
        (packed != 0).then(|| (f32::from_bits(packed as u32), (-(age as f32) / DECAY_MS).exp()))
    }

    fn write(&self, now_ms: u64, average_ms: f32) {
        // Never zero, which says that there is no sample.
        let bits = average_ms.max(f32::MIN_POSITIVE).to_bits();
        self.packed.store((now_ms & 0xffff_ffff) << 32 | u64::from(bits), Ordering::Relaxed);
    }

    /// The average in milliseconds; it fades while nothing is sent, so that a slow peer is tried again.
    pub(super) fn score(&self, now_ms: u64) -> f32 {
        self.read(now_ms).map_or(0.0, |(average, fade)| average * fade)
    }

    /// Counts a response's head that took so long.
    pub(super) fn sample(&self, now_ms: u64, took: Duration) {
        let took_ms = took.as_secs_f32() * 1000.0;
        let average = self.read(now_ms).map_or(took_ms, |(average, fade)| average * fade + took_ms * (1.0 - fade));
        self.write(now_ms, average);
    }

    /// Counts a failed try: it was quick perhaps, but is not wanted again soon.
    pub(super) fn penalise(&self, now_ms: u64) {
        let doubled = 2.0 * self.score(now_ms);
        self.write(now_ms, doubled.clamp(PENALTY_MS, MAX_PENALTY_MS));
    }

    /// Starts a peer without samples at what is usual, so that it is not flooded.
    pub(super) fn start(&self, now_ms: u64, usual_ms: f32) {
        if self.packed.load(Ordering::Relaxed) == 0 {
            self.write(now_ms, usual_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_decay_and_failures_stand_out() {
        let latency = Latency::default();
        let check = |now_ms, expected: f32| {
            let score = latency.score(now_ms);
            assert!((score - expected).abs() <= expected / 50.0, "{score}, not {expected}");
        };
        check(5, 0.0);
        latency.sample(5, Duration::from_millis(100));
        check(5, 100.0);
        // Idle: it fades.
        check(10_005, 36.8);
        // As much weight as time has passed.
        latency.sample(10_005, Duration::from_millis(200));
        check(10_005, 36.8 + 126.4);
        latency.penalise(10_005);
        check(10_005, 1000.0);
        latency.penalise(10_005);
        check(10_005, 2000.0);
        (0..20).for_each(|_| latency.penalise(10_005));
        check(10_005, 60_000.0);
        // A clock read a little earlier, and one that has wrapped.
        check(10_004, 60_000.0);
        latency.start(10_005, 1.0);
        check(10_005, 60_000.0);
        let fresh = Latency::default();
        fresh.start(0, 0.0);
        fresh.sample(u64::from(u32::MAX), Duration::from_millis(5));
        assert!(fresh.score(u64::from(u32::MAX) + 1) > 0.0);
    }

    #[test]
    fn a_penalised_peer_is_back_within_minutes() {
        let latency = Latency::default();
        (0..20).for_each(|_| latency.penalise(0));
        assert!(latency.score(100_000) < 5.0);
    }
}
