//! Which socket of a listener a new connection goes to: by its source one of three lanes, within the lane the worker of
//! the CPU that its first packet arrived on. Where a slot is empty the kernel's own hash chooses, as without a program.

use core::ptr::read_volatile;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_hdr_start_off::BPF_HDR_START_NET, bpf_sock},
    helpers::{
        bpf_get_smp_processor_id,
        generated::{bpf_ktime_get_coarse_ns, bpf_skb_load_bytes_relative},
    },
    programs::SkReuseportContext,
};
use edge_ebpf::{LANE_UNKNOWN, LANES, LaneCounter, LaneEntry, ListenerKey, SourceV4Key, SourceV6Key, slot};

use crate::{LANE_COUNTERS, LANE_SOCKETS, LANE_V4, LANE_V6, STEERED, penalty};

/// What every verdict of such a program is: the connection goes on. Dropping is XDP's.
const SK_PASS: u32 = 1;
/// Type field of IPv4, network byte order, as the context has it.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
const AF_INET6: u32 = 10;
const V4_SOURCE_OFFSET: u32 = 12;
const V6_SOURCE_OFFSET: u32 = 8;

/// Chooses, and counts what came of it.
#[inline(always)]
pub(crate) fn choose(ctx: &SkReuseportContext) -> u32 {
    let Some(listener) = listener(ctx) else { return fall_back() };
    // SAFETY: a map's value stays readable until the program ends.
    let Some(steered) = (unsafe { STEERED.get(&listener) }) else { return fall_back() };
    let workers = steered.workers;
    if workers == 0 {
        return fall_back();
    }
    let lane = lane(ctx);
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    match LANE_SOCKETS.select_reuseport(ctx, slot(steered.base, lane, workers, cpu % workers)) {
        Ok(()) => count(LaneCounter::of_lane(lane)),
        Err(_) => return fall_back(),
    }
    SK_PASS
}

#[inline(always)]
fn fall_back() -> u32 {
    count(LaneCounter::FellBack);
    SK_PASS
}

/// Where the group of sockets listens.
#[inline(always)]
fn listener(ctx: &SkReuseportContext) -> Option<ListenerKey> {
    let sock: *const bpf_sock = ctx.sk().sock;
    // SAFETY: the kernel lends a socket of the group for the time of the call; the verifier checks each field.
    let (family, port) = unsafe { ((*sock).family, (*sock).src_port) };
    // SAFETY: as above. All of them, whatever the family, one by one: where only some were wanted, the compiler would
    // choose between their addresses, and the verifier wants no arithmetic on such a pointer.
    let word = |index: usize| unsafe { read_volatile(&raw const (*sock).src_ip6[index]) };
    let v6 = [word(0), word(1), word(2), word(3)];
    // SAFETY: as above.
    let v4 = unsafe { read_volatile(&raw const (*sock).src_ip4) };
    let address = if family == AF_INET6 { v6 } else { [0, 0, 0xffff_u32.to_be(), v4] };
    Some(ListenerKey { address, port })
}

/// The lane of the connection's source.
#[inline(always)]
fn lane(ctx: &SkReuseportContext) -> u32 {
    let entry: Option<&LaneEntry> = match ctx.eth_protocol() {
        IPV4 => source(ctx, V4_SOURCE_OFFSET).and_then(|source: SourceV4Key| {
            // SAFETY: a map's value stays readable until the program ends.
            unsafe { LANE_V4.get(&penalty::cut_v4(source)) }
        }),
        _ => source(ctx, V6_SOURCE_OFFSET).and_then(|source: SourceV6Key| {
            // SAFETY: as above.
            unsafe { LANE_V6.get(&penalty::cut_v6(source)) }
        }),
    };
    match entry {
        // SAFETY: a helper without arguments.
        Some(entry) if entry.lane < LANES && unsafe { bpf_ktime_get_coarse_ns() } < entry.expires_ns => entry.lane,
        _ => LANE_UNKNOWN,
    }
}

#[inline(always)]
fn source<const N: usize>(ctx: &SkReuseportContext, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    // SAFETY: the helper writes as many bytes as it is told, or fails.
    let code = unsafe {
        bpf_skb_load_bytes_relative(ctx.as_ptr().cast(), offset, bytes.as_mut_ptr().cast(), N as u32, BPF_HDR_START_NET)
    };
    if code == 0 { Some(bytes) } else { None }
}

#[inline(always)]
fn count(counter: LaneCounter) {
    if let Some(slot) = LANE_COUNTERS.get_ptr_mut(counter.index()) {
        // SAFETY: this CPU's slot, and a program is neither migrated nor re-entered while it runs on one.
        unsafe { *slot += 1 }
    }
}
