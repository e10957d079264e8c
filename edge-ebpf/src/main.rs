//! The kernel object: maps and program entry points. Verdicts are in a file per hook, named after it.
#![no_std]
#![no_main]
// Some bounds and loads must reach the verifier as they are. Any compiler that can build `core` takes the feature.
#![feature(asm_experimental_arch)]

mod answer;
mod bounds;
mod bytes;
mod handshake;
mod packet;
mod reject;
mod scan;
mod segment;
mod siphash;
mod stats;
mod xdp;

use aya_ebpf::{
    macros::{classifier, map, xdp as xdp_program},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray},
    programs::{TcContext, XdpContext},
};
use edge_ebpf::{COUNTER_SLOTS, DENY_CAPACITY, DenyEntry, SourceV4Key, SourceV6Key, rejection};

#[map]
static DENY_V4: LpmTrie<SourceV4Key, DenyEntry> = LpmTrie::with_max_entries(DENY_CAPACITY, 0);

#[map]
static DENY_V6: LpmTrie<SourceV6Key, DenyEntry> = LpmTrie::with_max_entries(DENY_CAPACITY, 0);

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_SLOTS, 0);

/// Drops the frames of denied sources. `frags`: also where frames are larger than a page.
#[xdp_program(frags)]
fn edge_xdp(ctx: XdpContext) -> u32 {
    xdp::verdict(&ctx)
}

#[map]
static REJECT_LISTENERS: HashMap<u16, rejection::RejectListener> =
    HashMap::with_max_entries(rejection::REJECT_LISTENER_CAPACITY, 0);

#[map]
static REJECTED: LruHashMap<rejection::RejectKey, rejection::RejectEntry> =
    LruHashMap::with_max_entries(rejection::REJECTED_CAPACITY, 0);

#[map]
static REJECT_GENERATION: Array<u64> = Array::with_max_entries(1, 0);

#[map]
static REJECT_KEY: Array<[u64; 2]> = Array::with_max_entries(1, 0);

#[map]
static REPLIES: Array<rejection::Reply> = Array::with_max_entries(rejection::REPLY_CAPACITY, 0);

#[map]
static HANDSHAKES: LruHashMap<rejection::HandshakeKey, rejection::HandshakeEntry> =
    LruHashMap::with_max_entries(rejection::HANDSHAKE_CAPACITY, 0);

#[map]
static REJECT_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(rejection::REJECT_COUNTER_SLOTS, 0);

/// The programs' own: where a head is read.
#[map]
static SCRATCH: PerCpuArray<scan::Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Answers first requests whose token is known to be rejected.
#[classifier]
fn edge_reject(ctx: TcContext) -> i32 {
    reject::verdict(ctx.skb.skb)
}

/// Notes where the streams of new connections begin.
#[classifier]
fn edge_handshake(ctx: TcContext) -> i32 {
    handshake::note(ctx.skb.skb);
    reject::NEXT
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
