//! Whether a frame starts a connection that its source may not make for now.
//!
//! Open connections go on, and userspace ends them with their next 401; what is not TCP is none of the edge's. Where a
//! frame of such a source hides its flags, in fragments or behind extension headers, it is taken for a start: else
//! hiding would be the way around (X3).

use aya_ebpf::{helpers::generated::bpf_ktime_get_coarse_ns, programs::XdpContext};
use edge_ebpf::{Counter, PenaltyEntry, SourceV4Key, SourceV6Key, VERDICT_DROP, VERDICT_OBSERVE, port_bit, port_word};

use crate::{GUARDED_PORTS, PENALTY_V4, PENALTY_V6, packet::read_words};

/// Set by userspace before loading, so the verifier sees constants.
#[unsafe(no_mangle)]
static PENALTY_V4_MASK: SourceV4Key = [0xff; 4];
#[unsafe(no_mangle)]
static PENALTY_V6_MASK: SourceV6Key = [0xff; 16];

/// Protocol numbers.
const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// More fragments, and the offset, of an IPv4 header's seventh and eighth byte (RFC 791, 3.1).
const FRAGMENTED: u16 = 0x3fff;
/// SYN, ACK (RFC 9293, 3.1).
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Ports, sequence, acknowledgement, and a word with the flags.
const TCP_WORDS: usize = 4;

/// Whether a frame starts a connection.
enum Start {
    /// It does not.
    No,
    /// To this port.
    At(u16),
    /// It cannot be told.
    Hidden,
}

/// What becomes of an IPv4 frame; nothing where its source has no penalty. `offset`: of its header.
#[inline(always)]
pub(crate) fn judge_v4(ctx: &XdpContext, offset: usize, header: &[u32; 5], source: SourceV4Key) -> Option<Counter> {
    let entry = PENALTY_V4.get_ptr_mut(&cut_v4(source))?;
    let [_, protocol, ..] = header[2].to_ne_bytes();
    if protocol != TCP {
        return None;
    }
    let [_, _, high, low] = header[1].to_ne_bytes();
    let [version_and_words, ..] = header[0].to_ne_bytes();
    let start = match u16::from_be_bytes([high, low]) & FRAGMENTED {
        0 => start(ctx, offset + usize::from(version_and_words & 15) * 4),
        _ => Start::Hidden,
    };
    sentence(entry, start)
}

/// The same for IPv6.
#[inline(always)]
pub(crate) fn judge_v6(ctx: &XdpContext, offset: usize, header: &[u32; 10], source: SourceV6Key) -> Option<Counter> {
    let entry = PENALTY_V6.get_ptr_mut(&cut_v6(source))?;
    let [_, _, next_header, _] = header[1].to_ne_bytes();
    let start = match next_header {
        TCP => start(ctx, offset + 40),
        HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION => Start::Hidden,
        _ => return None,
    };
    sentence(entry, start)
}

/// Whether new connections of a source are dropped now.
#[inline(always)]
pub(crate) fn is_in_force_v4(source: SourceV4Key) -> bool {
    // SAFETY: integers; userspace writes entries whole.
    unsafe { PENALTY_V4.get(cut_v4(source)) }.is_some_and(drops)
}

/// The same for IPv6.
#[inline(always)]
pub(crate) fn is_in_force_v6(source: SourceV6Key) -> bool {
    // SAFETY: as above.
    unsafe { PENALTY_V6.get(cut_v6(source)) }.is_some_and(drops)
}

#[inline(always)]
fn drops(entry: &PenaltyEntry) -> bool {
    // SAFETY: a helper without arguments.
    entry.verdict == VERDICT_DROP && unsafe { bpf_ktime_get_coarse_ns() } < entry.expires_ns
}

/// The first address of the prefix by which sources are told apart.
#[inline(always)]
pub(crate) fn cut_v4(source: SourceV4Key) -> SourceV4Key {
    // SAFETY: an initialised constant; volatile, since the loader changes it after compilation.
    let mask = unsafe { core::ptr::read_volatile(&PENALTY_V4_MASK) };
    (u32::from_ne_bytes(source) & u32::from_ne_bytes(mask)).to_ne_bytes()
}

/// The same for IPv6.
#[inline(always)]
pub(crate) fn cut_v6(source: SourceV6Key) -> SourceV6Key {
    // SAFETY: as above.
    let mask = unsafe { core::ptr::read_volatile(&PENALTY_V6_MASK) };
    (u128::from_ne_bytes(source) & u128::from_ne_bytes(mask)).to_ne_bytes()
}

/// Reads the flags and the port of the TCP header at this offset.
#[inline(always)]
fn start(ctx: &XdpContext, offset: usize) -> Start {
    let Some([ports, _, _, flags]) = read_words::<TCP_WORDS>(ctx, offset) else { return Start::Hidden };
    match flags.to_ne_bytes()[1] & (SYN | ACK) {
        SYN => Start::At(u16::from_be_bytes([ports.to_ne_bytes()[2], ports.to_ne_bytes()[3]])),
        _ => Start::No,
    }
}

#[inline(always)]
fn sentence(entry: *mut PenaltyEntry, start: Start) -> Option<Counter> {
    match start {
        Start::No => return None,
        Start::At(port) if !is_guarded(port) => return None,
        Start::At(_) | Start::Hidden => {}
    }
    // SAFETY: a map's value stays readable until the program ends; integers, so that a concurrent write by userspace
    // gives the old or the new one.
    let (expires_ns, verdict) = unsafe { ((*entry).expires_ns, (*entry).verdict) };
    // The clock of the last tick: some milliseconds late, and a fifth of a frame's time cheaper.
    // SAFETY: a helper without arguments.
    if unsafe { bpf_ktime_get_coarse_ns() } >= expires_ns {
        return None;
    }
    let counter = match verdict {
        VERDICT_DROP => Counter::Penalized,
        VERDICT_OBSERVE => Counter::WouldPenalize,
        _ => return None,
    };
    // SAFETY: as above. CPUs that count at the same moment may lose a frame: it is a figure for an operator, and a
    // locked addition would cost more than the look-up.
    unsafe { (*entry).frames += 1 };
    Some(counter)
}

#[inline(always)]
fn is_guarded(port: u16) -> bool {
    GUARDED_PORTS.get(port_word(port)).is_some_and(|word| word & port_bit(port) != 0)
}
