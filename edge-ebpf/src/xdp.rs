//! The verdict for one frame: dropped if its source address is denied, or if it starts a connection and its source has
//! a penalty. Unsure means pass: userspace and the stack decide.
//!
//! The source stands at a fixed place of the IP header. So for a denied one nothing behind it matters: not options, not
//! extension headers, not the protocol; and every fragment has it.

use aya_ebpf::{bindings::xdp_action, maps::lpm_trie::Key, programs::XdpContext};
use aya_log_ebpf::debug;
use edge_ebpf::{Counter, SourceV4Key, SourceV6Key, VERDICT_DROP};

use crate::{
    DENY_V4, DENY_V6,
    packet::{mapped, read, read_words},
    penalty,
    stats::{count, count_drop},
};

/// Type fields (IEEE 802.3), network byte order.
type EtherType = [u8; 2];
const IPV4: EtherType = 0x0800_u16.to_be_bytes();
const IPV6: EtherType = 0x86dd_u16.to_be_bytes();
const VLAN: EtherType = 0x8100_u16.to_be_bytes();
const QINQ: EtherType = 0x88a8_u16.to_be_bytes();

/// Destination, source, type.
const ETHERNET_BYTES: usize = 14;
const ETHERTYPE_OFFSET: usize = 12;
/// Tag control, type (IEEE 802.1Q, 9.6).
const TAG_BYTES: usize = 4;
const TAG_ETHERTYPE_OFFSET: usize = 2;
/// An outer and an inner tag (802.1ad); Linux itself takes a third only on a device stacked by hand.
const TAGS: usize = 2;

/// The fixed part of an IPv4 header (RFC 791, 3.1).
const IPV4_WORDS: usize = 5;
const IPV4_SOURCE_WORD: usize = 3;
/// An IPv6 header (RFC 8200, 3).
const IPV6_WORDS: usize = 10;

/// What happens to the frame; counted.
#[inline(always)]
pub(crate) fn verdict(ctx: &XdpContext) -> u32 {
    // A frame too short to be judged is too short for the stack, which drops it.
    match judge(ctx) {
        None => pass(Counter::Malformed),
        Some(Judged::Passed(counter)) => pass(counter),
        Some(Judged::Marked(counter, source)) => {
            count_drop(counter, source);
            match counter {
                Counter::WouldPenalize => xdp_action::XDP_PASS,
                _ => xdp_action::XDP_DROP,
            }
        }
    }
}

#[inline(always)]
fn pass(counter: Counter) -> u32 {
    count(counter);
    xdp_action::XDP_PASS
}

/// What was found of a frame.
enum Judged {
    /// Nothing against it.
    Passed(Counter),
    /// Its source is denied or has a penalty; an IPv4 one mapped into IPv6.
    Marked(Counter, SourceV6Key),
}

/// Finds the IP header below the VLAN tags.
#[inline(always)]
fn judge(ctx: &XdpContext) -> Option<Judged> {
    let mut ethertype: EtherType = read(ctx, ETHERTYPE_OFFSET)?;
    let mut offset = ETHERNET_BYTES;
    for _ in 0..TAGS {
        if ethertype != VLAN && ethertype != QINQ {
            break;
        }
        ethertype = read(ctx, offset + TAG_ETHERTYPE_OFFSET)?;
        offset += TAG_BYTES;
    }
    match ethertype {
        IPV4 => judge_v4(ctx, offset),
        IPV6 => judge_v6(ctx, offset),
        _ => Some(Judged::Passed(Counter::NotIp)),
    }
}

#[inline(always)]
fn judge_v4(ctx: &XdpContext, offset: usize) -> Option<Judged> {
    let header: [u32; IPV4_WORDS] = read_words(ctx, offset)?;
    if version(header[0]) != 4 {
        return None;
    }
    let source: SourceV4Key = header[IPV4_SOURCE_WORD].to_ne_bytes();
    let penalty = penalty::judge_v4(ctx, offset, &header, source);
    // A flood of what is dropped for a penalty does not pay for the trie.
    let counter = match penalty {
        Some(Counter::Penalized) => penalty,
        _ => match DENY_V4.get(Key::new(32, source)) {
            Some(entry) if entry.verdict == VERDICT_DROP => {
                debug!(ctx, "dropped a frame of denied source {:i}", source);
                Some(Counter::DeniedV4)
            }
            _ => penalty,
        },
    };
    Some(counter.map_or(Judged::Passed(Counter::Passed), |counter| Judged::Marked(counter, mapped(source))))
}

/// The version field of an IP header's first word.
#[inline(always)]
fn version(first: u32) -> u8 {
    first.to_ne_bytes()[0] >> 4
}

/// The source of an IPv6 header: its third word to its sixth.
#[inline(always)]
fn v6_source(header: &[u32; IPV6_WORDS]) -> SourceV6Key {
    let [_, _, a, b, c, d, ..] = *header;
    let low = u64::from(a) | u64::from(b) << 32;
    let high = u64::from(c) | u64::from(d) << 32;
    (u128::from(low) | u128::from(high) << 64).to_le_bytes()
}

#[inline(always)]
fn judge_v6(ctx: &XdpContext, offset: usize) -> Option<Judged> {
    let header: [u32; IPV6_WORDS] = read_words(ctx, offset)?;
    if version(header[0]) != 6 {
        return None;
    }
    let source = v6_source(&header);
    let penalty = penalty::judge_v6(ctx, offset, &header, source);
    // A flood of what is dropped for a penalty does not pay for the trie.
    let counter = match penalty {
        Some(Counter::Penalized) => penalty,
        _ => match DENY_V6.get(Key::new(128, source)) {
            Some(entry) if entry.verdict == VERDICT_DROP => {
                debug!(ctx, "dropped a frame of denied source {:i}", source);
                Some(Counter::DeniedV6)
            }
            _ => penalty,
        },
    };
    Some(counter.map_or(Judged::Passed(Counter::Passed), |counter| Judged::Marked(counter, source)))
}
