//! Per-CPU counters, and samples of what they count: no two CPUs write the same slot, so a plain addition is exact.

use edge_ebpf::{Counter, SAMPLE_EVERY, Sample, SourceV6Key};

use crate::{COUNTERS, SAMPLES};

/// Counts one frame.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    next(counter);
}

/// Counts one frame of this source that does not go on, or would not, and samples some of them.
#[inline(always)]
pub(crate) fn count_drop(counter: Counter, source: SourceV6Key) {
    if next(counter) % SAMPLE_EVERY != 0 {
        return;
    }
    // Full where nobody reads: the counters are exact nevertheless.
    if let Some(mut slot) = SAMPLES.reserve::<Sample>(0) {
        slot.write(Sample { source, counter: counter.index() });
        slot.submit(0);
    }
}

/// How many of this kind were counted on this CPU before.
#[inline(always)]
fn next(counter: Counter) -> u64 {
    let Some(slot) = COUNTERS.get_ptr_mut(counter.index()) else { return 1 };
    // SAFETY: this CPU's slot, and a program is neither migrated nor re-entered while it runs on one.
    unsafe {
        let before = *slot;
        *slot = before + 1;
        before
    }
}
