//! `kernel_reject`: answers the first request of a connection where its token is known to be rejected. Unsure means
//! pass: userspace decides.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::{bpf_ktime_get_ns, bpf_skb_load_bytes},
};
use edge_ebpf::rejection::{
    FIRST, HEAD_BYTES, KEPT, REPLY_BYTES, RejectCounter, RejectEntry, RejectKey, RejectListener, Reply,
};

use crate::{
    REJECT_ARMED, REJECT_COUNTERS, REJECT_GENERATION, REJECT_KEY, REJECT_LISTENERS, REJECTED, REPLIES, SCRATCH,
    answer::{self, Answer, Failure, Then},
    bounds::between,
    handshake::is_first,
    scan::{Found, Scratch, judge},
    segment::{ACK, FIN, Ip, Ipv4, Ipv6, PROTOCOL_IPV4, PROTOCOL_IPV6, RST, SYN, Segment, TO_THIS_HOST, URG},
};

/// The next program decides: `TCX_NEXT` as a link, and the same for a filter of a clsact queue with `direct-action`.
pub(crate) const NEXT: i32 = TC_ACT_UNSPEC;

/// Whether a listener is armed at all.
#[inline(always)]
pub(crate) fn is_needed() -> bool {
    REJECT_ARMED.get(0).is_some_and(|armed| *armed != 0)
}

/// What happens to the frame.
#[inline(always)]
pub(crate) fn verdict(skb: *mut __sk_buff) -> i32 {
    if !is_needed() {
        return NEXT;
    }
    // SAFETY: the context is valid while the program runs.
    let (protocol, tagged, direction) = unsafe { ((*skb).protocol, (*skb).vlan_present, (*skb).pkt_type) };
    // A tag that the driver has put aside would have to be put back into the answer.
    if tagged != 0 || direction != TO_THIS_HOST {
        return NEXT;
    }
    let outcome = match protocol {
        PROTOCOL_IPV4 => first_request::<Ipv4>(skb),
        PROTOCOL_IPV6 => first_request::<Ipv6>(skb),
        _ => None,
    };
    match outcome {
        Some(Outcome::Counted(counter)) => {
            count(counter);
            NEXT
        }
        Some(Outcome::Lost) => {
            count(RejectCounter::Failed);
            TC_ACT_SHOT as i32
        }
        None => NEXT,
    }
}

/// What became of a first data segment.
enum Outcome {
    /// It passes, or has become a reset that does.
    Counted(RejectCounter),
    /// It is neither and must not go on; its client repeats it.
    Lost,
}

/// Nothing where this is not the first data segment of a connection to an armed listener. A function of its own, with a
/// stack of its own, as are those it calls.
#[inline(never)]
fn first_request<I: Ip>(skb: *mut __sk_buff) -> Option<Outcome> {
    let mut segment = Segment::<I>::read(skb)?;
    if segment.payload_bytes == 0 || segment.tcp.flags & (SYN | RST | FIN | URG | ACK) != ACK {
        return None;
    }
    let listener = listener(segment.tcp.destination_port_be, FIRST)?;
    if !is_first(skb, &segment) {
        return None;
    }
    Some(match rejection(skb, &segment, listener, FIRST) {
        Err(counter) => Outcome::Counted(counter),
        Ok(Rejection { reply, length, .. }) => {
            let acknowledged = segment.tcp.sequence().wrapping_add(segment.payload_bytes);
            let answer = Answer { reply, length, acknowledged, then: Then::Reset };
            match answer::send(skb, &mut segment, &answer) {
                Ok(()) => Outcome::Counted(RejectCounter::Rejected),
                Err(Failure::Untouched) => Outcome::Counted(RejectCounter::Failed),
                Err(Failure::Spoilt) => Outcome::Lost,
            }
        }
    })
}

/// The number of the listener on this port, while requests of this kind are judged: [`FIRST`] or [`KEPT`].
#[inline(always)]
pub(crate) fn listener(port_be: [u8; 2], kind: u32) -> Option<u32> {
    // SAFETY: two integers; userspace changes them whole, and each is right by itself.
    let RejectListener { armed, listener } = unsafe { REJECT_LISTENERS.get(u16::from_be_bytes(port_be)) }?;
    (*armed & kind != 0).then_some(*listener)
}

/// What a rejected request is answered with.
pub(crate) struct Rejection {
    pub(crate) reply: *const Reply,
    /// At most [`REPLY_BYTES`].
    pub(crate) length: u32,
    /// The reply's place.
    pub(crate) place: u32,
}

/// The answer to this segment, a request of this kind, or why there is none.
#[inline(always)]
pub(crate) fn rejection<I: Ip>(
    skb: *mut __sk_buff,
    segment: &Segment<I>,
    listener: u32,
    kind: u32,
) -> Result<Rejection, RejectCounter> {
    let found = read_head(skb, segment).ok_or(RejectCounter::NotJudged)?;
    // Userspace would end the connection.
    if kind == KEPT && found.closes != 0 {
        return Err(RejectCounter::NotJudged);
    }
    let key = RejectKey { token_hash: found.token_hash, host_hash: found.host_hash, listener, pad: 0 };
    // SAFETY: integers. An entry that gives way to another one in this very moment shows that one's: then at worst a token
    // that was rejected until the last change is rejected once more.
    let entry = unsafe { REJECTED.get(key) }.ok_or(RejectCounter::Unknown)?;
    if !is_current(entry) {
        return Err(RejectCounter::Stale);
    }
    let place = if kind == KEPT { entry.kept_reply } else { entry.reply };
    let (reply, length) = reply(place).ok_or(RejectCounter::NoReply)?;
    Ok(Rejection { reply, length, place })
}

/// The usable reply at this place, and its length.
#[inline(always)]
pub(crate) fn reply(place: u32) -> Option<(*const Reply, u32)> {
    let reply = REPLIES.get_ptr(place)?;
    // SAFETY: a map's value.
    let length = unsafe { (*reply).length };
    (length != 0 && length <= REPLY_BYTES).then_some((reply, length))
}

#[inline(always)]
fn is_current(entry: &RejectEntry) -> bool {
    let generation = REJECT_GENERATION.get(0).is_some_and(|generation| *generation == entry.generation);
    // SAFETY: reads a clock.
    generation && unsafe { bpf_ktime_get_ns() } < entry.expires_ns
}

/// Copies the payload to where it can be read, and reads it.
#[inline(always)]
fn read_head<I: Ip>(skb: *mut __sk_buff, segment: &Segment<I>) -> Option<Found> {
    if segment.payload_bytes > HEAD_BYTES {
        return None;
    }
    let key = REJECT_KEY.get_ptr(0)?;
    let scratch = SCRATCH.get_ptr_mut(0)?;
    let offset = Segment::<I>::TCP_OFFSET as u32 + segment.tcp.bytes();
    let length = between::<1, HEAD_BYTES>(segment.payload_bytes);
    // SAFETY: the room is larger than the longest head; the helper writes that many bytes or fails.
    if unsafe { bpf_skb_load_bytes(skb.cast(), offset, Scratch::room(scratch), length) } != 0 {
        return None;
    }
    judge(scratch, segment.payload_bytes, key)
}

#[inline(always)]
pub(crate) fn count(counter: RejectCounter) {
    if let Some(slot) = REJECT_COUNTERS.get_ptr_mut(counter.index()) {
        // SAFETY: this CPU's slot, and a program is neither migrated nor re-entered while it runs on one.
        unsafe { *slot += 1 }
    }
}
