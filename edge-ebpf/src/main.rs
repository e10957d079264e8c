//! The kernel object: maps and program entry points. Verdicts are in a file per hook, named after it.
#![no_std]
#![no_main]
// Some bounds and loads must reach the verifier as they are. Any compiler that can build `core` takes the feature.
#![feature(asm_experimental_arch)]

mod answer;
mod bounds;
mod bytes;
mod flow;
mod handshake;
mod keep;
mod packet;
mod penalty;
mod reject;
mod scan;
mod segment;
mod siphash;
mod stats;
mod steer;
mod vip;
mod xdp;

use aya_ebpf::{
    macros::{classifier, map, sk_lookup, sk_reuseport, xdp as xdp_program},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ReusePortSockArray, RingBuf, SockMap},
    programs::{SkLookupContext, SkReuseportContext, TcContext, XdpContext},
};
use edge_ebpf::{
    COUNTER_SLOTS, DENY_CAPACITY, DenyEntry, LANE_CAPACITY, LANE_SOCKETS_CAPACITY, LaneCounter, LaneEntry, ListenerKey,
    PENALTY_CAPACITY, PORT_WORDS, PenaltyEntry, SAMPLES_BYTES, STEERED_CAPACITY, SourceV4Key, SourceV6Key,
    SteeredEntry, VIP_CAPACITY, VIP_LISTENERS, VipCounter, VipEntry, kept, rejection,
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

#[map]
static LANE_V4: LruHashMap<SourceV4Key, LaneEntry> = LruHashMap::with_max_entries(LANE_CAPACITY, 0);

#[map]
static LANE_V6: LruHashMap<SourceV6Key, LaneEntry> = LruHashMap::with_max_entries(LANE_CAPACITY, 0);

#[map]
static STEERED: HashMap<ListenerKey, SteeredEntry> = HashMap::with_max_entries(STEERED_CAPACITY, 0);

#[map]
static LANE_SOCKETS: ReusePortSockArray = ReusePortSockArray::with_max_entries(LANE_SOCKETS_CAPACITY, 0);

#[map]
static LANE_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(LaneCounter::ALL.len() as u32, 0);

#[map]
static VIPS_V4: LpmTrie<SourceV4Key, VipEntry> = LpmTrie::with_max_entries(VIP_CAPACITY, 0);

#[map]
static VIPS_V6: LpmTrie<SourceV6Key, VipEntry> = LpmTrie::with_max_entries(VIP_CAPACITY, 0);

#[map]
static VIP_PORTS: Array<u64> = Array::with_max_entries(VIP_LISTENERS * PORT_WORDS, 0);

#[map]
static VIP_SOCKETS: SockMap = SockMap::with_max_entries(VIP_LISTENERS, 0);

#[map]
static VIP_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(VipCounter::ALL.len() as u32, 0);

/// Chooses the socket of a listener that a new connection goes to.
#[sk_reuseport]
fn edge_lane(ctx: SkReuseportContext) -> u32 {
    steer::choose(&ctx)
}

/// Finds the listener of a virtual address.
#[sk_lookup]
fn edge_vip(ctx: SkLookupContext) -> u32 {
    vip::assign(&ctx)
}

/// Drops the frames of denied sources, and new connections of sources with a penalty. `frags`: also where frames are larger than a page.
#[xdp_program(frags)]
fn edge_xdp(ctx: XdpContext) -> u32 {
    xdp::verdict(&ctx)
}

#[map]
static REJECT_LISTENERS: HashMap<u16, rejection::RejectListener> =
    HashMap::with_max_entries(rejection::REJECT_LISTENER_CAPACITY, 0);

#[map]
static REJECT_ARMED: Array<u64> = Array::with_max_entries(1, 0);

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

/// Memory that userspace maps: `BPF_F_MMAPABLE` of linux/bpf.h.
const MAPPED: u32 = 1 << 10;
/// Memory that entries take when they are made: `BPF_F_NO_PREALLOC`.
const ON_DEMAND: u32 = 1;

#[map]
static FLOWS: HashMap<rejection::HandshakeKey, kept::Flow> = HashMap::with_max_entries(kept::FLOW_CAPACITY, ON_DEMAND);

#[map]
static FLOW_COUNT: Array<u64> = Array::with_max_entries(1, 0);

#[map]
static GATES: Array<u64> = Array::with_max_entries(kept::FLOW_CAPACITY, MAPPED);

/// The programs' own: 1 while this CPU sends an answer of theirs, whose numbers are right as they are. Sending is over
/// before the program goes on, and nothing else is sent on the CPU meanwhile.
#[map]
static OWN_ANSWER: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Answers requests on kept connections whose token is known to be rejected, and hides that from the local stack.
#[classifier]
fn edge_kept(ctx: TcContext) -> i32 {
    keep::arriving(ctx.skb.skb)
}

/// Tells clients the numbers that they know.
#[classifier]
fn edge_shift(ctx: TcContext) -> i32 {
    keep::leaving(ctx.skb.skb)
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
