//! Answers a segment: the reply goes to its client, and the segment itself becomes what the local stack is to see in its
//! place.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_clone_redirect, bpf_skb_change_tail, bpf_skb_store_bytes},
};
use edge_ebpf::rejection::{REPLY_BYTES, Reply};

use crate::{
    OWN_ANSWER,
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

/// What is answered, and how. Numbers are the client's, but where they are for the local stack.
pub(crate) struct Answer {
    pub(crate) reply: *const Reply,
    /// How many of its bytes are sent.
    pub(crate) length: u32,
    /// What the client learns to have been received.
    pub(crate) acknowledged: u32,
    pub(crate) then: Then,
}

/// What the local stack sees in the segment's place.
pub(crate) enum Then {
    /// A reset, as if the client had given up after the answer, which ends the connection for it too: so the stack
    /// forgets the connection, and userspace hears nothing.
    Reset,
    /// A segment without data, of these numbers, while the client sees this window.
    Acknowledge { sequence: u32, acknowledgement: u32, window_be: [u8; 2] },
    /// Nothing, while the client sees this window. The segment must not go on.
    Nothing { window_be: [u8; 2] },
}

/// Answers a segment whose TCP options are none but timestamps.
#[inline(always)]
pub(crate) fn send<I: Ip>(skb: *mut __sk_buff, segment: &mut Segment<I>, answer: &Answer) -> Result<(), Failure> {
    if segment.tcp.is_plain::<BARE_TCP_BYTES>() {
        return send_with::<I, BARE_TCP_BYTES>(skb, segment, answer);
    }
    segment.tcp.load_timestamps(skb, Segment::<I>::TCP_OFFSET).ok_or(Failure::Untouched)?;
    if segment.tcp.is_plain::<STAMPED_TCP_BYTES>() {
        return send_with::<I, STAMPED_TCP_BYTES>(skb, segment, answer);
    }
    Err(Failure::Untouched)
}

/// Answers a segment that must not go on, whatever its options are: of them the answer has timestamps, where they come
/// first.
#[inline(always)]
pub(crate) fn replace<I: Ip>(skb: *mut __sk_buff, segment: &mut Segment<I>, answer: &Answer) -> Result<(), Failure> {
    if segment.tcp.bytes() >= STAMPED_TCP_BYTES as u32
        && segment.tcp.load_timestamps(skb, Segment::<I>::TCP_OFFSET).is_some()
        && segment.tcp.cut_to_timestamps()
    {
        return send_with::<I, STAMPED_TCP_BYTES>(skb, segment, answer);
    }
    segment.tcp.cut_bare();
    send_with::<I, BARE_TCP_BYTES>(skb, segment, answer)
}

#[inline(never)]
fn send_with<I: Ip, const TCP_BYTES: usize>(
    skb: *mut __sk_buff,
    segment: &mut Segment<I>,
    answer: &Answer,
) -> Result<(), Failure> {
    let Segment { ip, tcp, .. } = segment;
    let headers = (Segment::<I>::TCP_OFFSET + TCP_BYTES) as u32;
    // SAFETY: an entry of a map of replies.
    let bytes = unsafe { &(*answer.reply).bytes };
    let length = answer.length;
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
    let (sequence, acknowledgement, window_be) = (tcp.sequence(), tcp.acknowledgement(), tcp.window_be);
    tcp.turn();
    tcp.flags = ACK | PSH;
    match answer.then {
        Then::Reset => tcp.flags |= FIN,
        Then::Acknowledge { window_be, .. } | Then::Nothing { window_be } => tcp.window_be = window_be,
    }
    tcp.acknowledge(answer.acknowledged);
    // All of its bytes, since those behind the length are zero.
    let payload = Payload { bytes: length, sum: sum(bytes, REPLY_BYTES as usize, 0) };
    tcp.seal::<I, TCP_BYTES>(ip, payload, checksum);
    write::<I, TCP_BYTES>(skb, &ethernet, ip, tcp)?;
    let length = between::<1, REPLY_BYTES>(length);
    // SAFETY: as many bytes as the reply has at most.
    if unsafe { bpf_skb_store_bytes(skb, headers, bytes.as_ptr().cast(), length, 0) } != 0 {
        return Err(Failure::Spoilt);
    }
    leave(skb)?;

    tcp.turn();
    match answer.then {
        Then::Nothing { .. } => return Ok(()),
        Then::Reset => {
            tcp.number(sequence, acknowledgement);
            tcp.flags = ACK | RST;
        }
        Then::Acknowledge { sequence, acknowledgement, .. } => {
            tcp.number(sequence, acknowledgement);
            tcp.flags = ACK;
        }
    }
    tcp.window_be = window_be;
    ethernet.turn();
    ip.turn();
    ip.resize(TCP_BYTES as u32);
    tcp.seal::<I, TCP_BYTES>(ip, Payload::NONE, checksum);
    resize(skb, headers)?;
    write::<I, TCP_BYTES>(skb, &ethernet, ip, tcp)
}

/// Sends a copy out of the interface that the segment came in on. The programs there see it before the call returns.
#[inline(always)]
fn leave(skb: *mut __sk_buff) -> Result<(), Failure> {
    let own = OWN_ANSWER.get_ptr_mut(0).ok_or(Failure::Spoilt)?;
    // SAFETY: this CPU's slot of a map, and a valid context.
    let code = unsafe {
        *own = 1;
        let code = bpf_clone_redirect(skb, (*skb).ifindex, 0);
        *own = 0;
        code
    };
    if code == 0 { Ok(()) } else { Err(Failure::Spoilt) }
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
