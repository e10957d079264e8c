//! The kernel object: maps and program entry points. Verdicts are in a file per hook, named after it.
#![no_std]
#![no_main]

mod packet;
mod penalty;
mod stats;
mod xdp;

use aya_ebpf::{
    macros::{map, xdp as xdp_program},
    maps::{Array, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    programs::XdpContext,
};
use edge_ebpf::{
    COUNTER_SLOTS, DENY_CAPACITY, DenyEntry, PENALTY_CAPACITY, PORT_WORDS, PenaltyEntry, SAMPLES_BYTES, SourceV4Key,
    SourceV6Key,
};

#[map]
static DENY_V4: LpmTrie<SourceV4Key, DenyEntry> = LpmTrie::with_max_entries(DENY_CAPACITY, 0);

#[map]
static DENY_V6: LpmTrie<SourceV6Key, DenyEntry> = LpmTrie::with_max_entries(DENY_CAPACITY, 0);

#[map]
static PENALTY_V4: LruHashMap<SourceV4Key, PenaltyEntry> = LruHashMap::with_max_entries(PENALTY_CAPACITY, 0);

#[map]
static PENALTY_V6: LruHashMap<SourceV6Key, PenaltyEntry> = LruHashMap::with_max_entries(PENALTY_CAPACITY, 0);

#[map]
static GUARDED_PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

#[map]
static SAMPLES: RingBuf = RingBuf::with_byte_size(SAMPLES_BYTES, 0);

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_SLOTS, 0);

/// Drops the frames of denied sources, and new connections of sources with a penalty. `frags`: also where frames are larger than a page.
#[xdp_program(frags)]
fn edge_xdp(ctx: XdpContext) -> u32 {
    xdp::verdict(&ctx)
}

/// The licence of this package, as the kernel asks for it: no helper that is kept for GPL programs is used.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: programs check instead of panicking, and the verifier would refuse an endless loop.
    loop {}
}
