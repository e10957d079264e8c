//! Answers a segment: the reply and the connection's end go to its client, and the segment itself becomes a reset for
//! the local stack, as if the client had given up. So the stack forgets the connection, and userspace hears nothing.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_clone_redirect, bpf_skb_change_tail, bpf_skb_store_bytes},
};
use edge_ebpf::rejection::{REPLY_BYTES, Reply};

use crate::{
    bounds::between,
    segment::{
        ACK, BARE_TCP_BYTES, Checksum, ETHERNET_BYTES, Ethernet, FIN, Ip, PSH, Payload, RST, STAMPED_TCP_BYTES,
        Segment, Tcp, load, store, sum,
    },
};

/// Why a segment is not answered.
pub(crate) enum Failure {
    /// It is as it was, and may pass.
    Untouched,
    /// It is no longer what the client sent.
    Spoilt,
}

/// Answers with this many bytes of the reply.
#[inline(always)]
pub(crate) fn send<I: Ip>(
    skb: *mut __sk_buff,
    segment: &mut Segment<I>,
    reply: *const Reply,
    length: u32,
) -> Result<(), Failure> {
    if segment.tcp.is_plain::<BARE_TCP_BYTES>() {
        return send_with::<I, BARE_TCP_BYTES>(skb, segment, reply, length);
    }
    segment.tcp.load_timestamps(skb, Segment::<I>::TCP_OFFSET).ok_or(Failure::Untouched)?;
    if segment.tcp.is_plain::<STAMPED_TCP_BYTES>() {
        return send_with::<I, STAMPED_TCP_BYTES>(skb, segment, reply, length);
    }
    Err(Failure::Untouched)
}

#[inline(never)]
fn send_with<I: Ip, const TCP_BYTES: usize>(
    skb: *mut __sk_buff,
    segment: &mut Segment<I>,
    reply: *const Reply,
    length: u32,
) -> Result<(), Failure> {
    let Segment { ip, tcp, payload_bytes } = segment;
    let headers = (Segment::<I>::TCP_OFFSET + TCP_BYTES) as u32;
    // SAFETY: an entry of a map of replies.
    let bytes = unsafe { &(*reply).bytes };
    let mut ethernet = Ethernet::EMPTY;
    load(skb, 0, &mut ethernet, ETHERNET_BYTES).ok_or(Failure::Untouched)?;
    // SAFETY: the context is valid while the program runs.
    if ethernet.protocol() != unsafe { (*skb).protocol } {
        return Err(Failure::Untouched);
    }
    let checksum = checksum::<I>(skb)?;
    resize(skb, headers + length)?;

    ethernet.turn();
    ip.turn();
    ip.resize(TCP_BYTES as u32 + length);
    let (sequence, flags) = (tcp.sequence(), tcp.flags);
    tcp.turn();
    tcp.flags = ACK | PSH | FIN;
    tcp.acknowledge(sequence.wrapping_add(*payload_bytes));
    // All of its bytes, since those behind the length are zero.
    let payload = Payload { bytes: length, sum: sum(bytes, REPLY_BYTES as usize, 0) };
    tcp.seal::<I, TCP_BYTES>(ip, payload, checksum);
    write::<I, TCP_BYTES>(skb, &ethernet, ip, tcp)?;
    let length = between::<1, REPLY_BYTES>(length);
    // SAFETY: as many bytes as the reply has at most.
    if unsafe { bpf_skb_store_bytes(skb, headers, bytes.as_ptr().cast(), length, 0) } != 0 {
        return Err(Failure::Spoilt);
    }
    // SAFETY: the context is valid; the copy leaves by the interface the segment came in on.
    if unsafe { bpf_clone_redirect(skb, (*skb).ifindex, 0) } != 0 {
        return Err(Failure::Spoilt);
    }

    ethernet.turn();
    ip.turn();
    ip.resize(TCP_BYTES as u32);
    tcp.acknowledge(sequence);
    tcp.turn();
    tcp.flags = flags & ACK | RST;
    tcp.seal::<I, TCP_BYTES>(ip, Payload::NONE, checksum);
    resize(skb, headers)?;
    write::<I, TCP_BYTES>(skb, &ethernet, ip, tcp)
}

/// Finds out who completes the checksum, as no field tells: cuts the frame, no longer needed as it is, within the
/// checksum. The kernel refuses that while the checksum is still to be completed (`__bpf_skb_min_len`). Where it cuts, the
/// checksum must be whole: it was before, or this kernel takes back a promise to complete it (stable ones since late 2026).
#[inline(always)]
fn checksum<I: Ip>(skb: *mut __sk_buff) -> Result<Checksum, Failure> {
    /// `checksum` of a TCP header (RFC 9293, 3.1).
    const CHECKSUM_OFFSET: u32 = 16;
    const EINVAL: i64 = 22;
    // SAFETY: the context is valid.
    match unsafe { bpf_skb_change_tail(skb, Segment::<I>::TCP_OFFSET as u32 + CHECKSUM_OFFSET, 0) } {
        0 => Ok(Checksum::Whole),
        code if code == -EINVAL => Ok(Checksum::Partial),
        _ => Err(Failure::Untouched),
    }
}

#[inline(always)]
fn resize(skb: *mut __sk_buff, bytes: u32) -> Result<(), Failure> {
    // SAFETY: the context is valid.
    if unsafe { bpf_skb_change_tail(skb, bytes, 0) } == 0 { Ok(()) } else { Err(Failure::Spoilt) }
}

#[inline(always)]
fn write<I: Ip, const TCP_BYTES: usize>(
    skb: *mut __sk_buff,
    ethernet: &Ethernet,
    ip: &I,
    tcp: &Tcp,
) -> Result<(), Failure> {
    store(skb, 0, ethernet, ETHERNET_BYTES)
        .and_then(|()| store(skb, ETHERNET_BYTES, ip, I::BYTES))
        .and_then(|()| store(skb, Segment::<I>::TCP_OFFSET, tcp, TCP_BYTES))
        .ok_or(Failure::Spoilt)
}
