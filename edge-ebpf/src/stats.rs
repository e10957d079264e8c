//! Per-CPU counters: no two CPUs write the same slot, so a plain addition is exact.

use edge_ebpf::Counter;

use crate::COUNTERS;

/// Counts one frame.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter.index()) {
        // SAFETY: this CPU's slot, and a program is neither migrated nor re-entered while it runs on one.
        unsafe { *slot += 1 }
    }
}
