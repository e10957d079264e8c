//! `kernel_reject = "kept"`: answers requests on kept connections whose token is known to be rejected, takes them out of
//! the stream that the server's TCP sees, and changes both ends' numbers from then on.
//!
//! A request is judged only where nothing else can be meant by its bytes: userspace says that it has read all before
//! them, stands between two requests and has written all of its answers; the server's TCP has neither received nor sent
//! more; the client has acknowledged all of it; and no byte behind the request has come before it. Whatever is not so
//! passes. The answer is repeated until the client has acknowledged it, for the server's TCP knows of none; and nothing else
//! acknowledges its request meanwhile, for a client to whom everything is acknowledged repeats nothing.

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_TCP_ESTABLISHED, TC_ACT_SHOT, bpf_sock},
    helpers::generated::{bpf_sk_release, bpf_tcp_sock},
};
use edge_ebpf::{
    kept::{DATA, DETOUR, Flow, gate},
    rejection::{HandshakeKey, KEPT, RejectCounter},
};

use crate::{
    FLOW_COUNT, FLOWS, GATES, OWN_ANSWER,
    answer::{self, Answer, Failure, Then},
    flow::{Held, Shifts, precedes, renumber},
    reject::{NEXT, Rejection, count, listener, rejection, reply},
    segment::{
        ACK, FIN, Ip, Ipv4, Ipv6, PROTOCOL_IPV4, PROTOCOL_IPV6, RST, SYN, Segment, TO_THIS_HOST, URG, handshake_key,
    },
};

/// The frame must not go on.
const LOST: i32 = TC_ACT_SHOT as i32;

/// Bytes after which nobody asks for the last answer any more, nor sends what was before it.
const FAR: i32 = 1 << 30;

/// Whether there is a connection at all.
#[inline(always)]
fn is_needed() -> bool {
    FLOW_COUNT.get(0).is_some_and(|count| *count != 0)
}

/// What happens to a frame that comes in.
#[inline(always)]
pub(crate) fn arriving(skb: *mut __sk_buff) -> i32 {
    if !is_needed() {
        return NEXT;
    }
    // SAFETY: the context is valid while the program runs.
    let (protocol, tagged, direction) = unsafe { ((*skb).protocol, (*skb).vlan_present, (*skb).pkt_type) };
    match protocol {
        // Tagged frames are the interface's that takes the tag away.
        _ if direction != TO_THIS_HOST || tagged != 0 => NEXT,
        PROTOCOL_IPV4 => arrives::<Ipv4>(skb),
        PROTOCOL_IPV6 => arrives::<Ipv6>(skb),
        _ => NEXT,
    }
}

/// What happens to a frame that goes out.
#[inline(always)]
pub(crate) fn leaving(skb: *mut __sk_buff) -> i32 {
    if !is_needed() || OWN_ANSWER.get(0).is_some_and(|own| *own != 0) {
        return NEXT;
    }
    // SAFETY: the context is valid while the program runs.
    let (protocol, tagged) = unsafe { ((*skb).protocol, (*skb).vlan_present) };
    match protocol {
        _ if tagged != 0 => NEXT,
        PROTOCOL_IPV4 => leaves::<Ipv4>(skb).unwrap_or(NEXT),
        PROTOCOL_IPV6 => leaves::<Ipv6>(skb).unwrap_or(NEXT),
        _ => NEXT,
    }
}

#[inline(never)]
fn arrives<I: Ip>(skb: *mut __sk_buff) -> i32 {
    let Some(mut segment) = Segment::<I>::read_padded(skb) else { return NEXT };
    let (client, server) = segment.ip.addresses();
    let key: HandshakeKey =
        handshake_key((client, segment.tcp.source_port_be), (server, segment.tcp.destination_port_be));
    let Some(flow) = FLOWS.get_ptr_mut(&key) else { return NEXT };
    let Some(held) = Held::try_new(flow) else { return LOST };
    // SAFETY: a map's value, of which this program alone writes these fields, and it is held.
    unsafe { note_way(skb, &raw mut (*flow).way_in, &raw mut (*flow).seen_in) };
    let verdict = verdict(skb, &mut segment, flow);
    held.release();
    verdict
}

/// Notes by which interface a segment passes.
///
/// # Safety
/// Fields of a map's value, which are written on one way alone. Writes of several CPUs on that way say the same.
#[inline(always)]
unsafe fn note_way(skb: *mut __sk_buff, way: *mut u32, seen: *mut u32) {
    // SAFETY: the caller's; and the context is valid while the program runs.
    unsafe {
        let interface = (*skb).ifindex;
        if *way == 0 {
            *way = interface;
        } else if *way != interface && *seen & DETOUR == 0 {
            *seen |= DETOUR;
        }
    }
}

/// What happens to a segment of a connection whose entry is held.
#[inline(always)]
fn verdict<I: Ip>(skb: *mut __sk_buff, segment: &mut Segment<I>, flow: *mut Flow) -> i32 {
    note_acknowledged(segment, flow);
    if must_repeat(segment, flow) {
        return repeat(skb, segment, flow);
    }
    if segment.payload_bytes != 0 && segment.tcp.flags & (SYN | RST | FIN | URG | ACK) == ACK {
        match judge(skb, segment, flow) {
            Judged::Answered => {
                count(RejectCounter::Kept);
                return LOST;
            }
            Judged::Acknowledged => {
                count(RejectCounter::Kept);
                return NEXT;
            }
            Judged::Lost => {
                count(RejectCounter::Failed);
                return LOST;
            }
            Judged::Passes(Some(counter)) => count(counter),
            Judged::Passes(None) => {}
        }
    }
    note_passed(segment, flow);
    let shifts = Shifts::read(flow);
    if shifts.is_none() {
        return NEXT;
    }
    let given = shifts.given.wrapping_neg();
    match renumber(skb, segment, shifts.taken.wrapping_neg(), given, given) {
        Some(()) => NEXT,
        None => LOST,
    }
}

/// Notes that the client has the last answer, where a segment says so.
#[inline(always)]
fn note_acknowledged<I: Ip>(segment: &Segment<I>, flow: *mut Flow) {
    let tcp = &segment.tcp;
    // SAFETY: a map's value, which is held.
    unsafe {
        let answer_end = (*flow).answer_start.wrapping_add((*flow).answer_bytes);
        if (*flow).pending != 0 && tcp.flags & ACK != 0 && !precedes(tcp.acknowledgement(), answer_end) {
            (*flow).pending = 0;
        }
    }
}

/// Whether a segment says that its client has not seen the last answer: it repeats that request, or acknowledges what
/// came before the answer and nothing more.
#[inline(always)]
fn must_repeat<I: Ip>(segment: &Segment<I>, flow: *const Flow) -> bool {
    let tcp = &segment.tcp;
    // SAFETY: a map's value, which is held.
    let (pending, answer_start, start, end) =
        unsafe { ((*flow).pending, (*flow).answer_start, (*flow).request_start, (*flow).request_end) };
    if pending == 0 || tcp.flags & (SYN | RST | FIN | URG | ACK) != ACK || tcp.acknowledgement() != answer_start {
        return false;
    }
    let last = tcp.sequence().wrapping_add(segment.payload_bytes);
    segment.payload_bytes == 0 || !precedes(tcp.sequence(), start) && !precedes(end, last)
}

/// Sends the last answer again in the segment's place. A client that has something else to say says it again.
#[inline(always)]
fn repeat<I: Ip>(skb: *mut __sk_buff, segment: &mut Segment<I>, flow: *const Flow) -> i32 {
    // SAFETY: a map's value, which is held.
    let (place, acknowledged, window_be) = unsafe { ((*flow).reply, (*flow).request_end, (*flow).window_be) };
    let Some((reply, length)) = reply(place) else { return LOST };
    // The answer's own bytes are known by what it was answered with then.
    // SAFETY: as above.
    if length != unsafe { (*flow).answer_bytes } {
        return LOST;
    }
    let answer = Answer { reply, length, acknowledged, then: Then::Nothing { window_be } };
    let outcome = match answer::replace(skb, segment, &answer) {
        Ok(()) => RejectCounter::Repeated,
        Err(_) => RejectCounter::Failed,
    };
    count(outcome);
    LOST
}

/// What became of a segment with data.
enum Judged {
    /// It passes, and why, where it is a request that might have been judged.
    Passes(Option<RejectCounter>),
    /// Its client is answered, and the server's TCP hears nothing.
    Answered,
    /// The same, and the segment has become one without data, for what it acknowledges.
    Acknowledged,
    /// It must not go on; its client repeats it.
    Lost,
}

#[inline(always)]
fn judge<I: Ip>(skb: *mut __sk_buff, segment: &mut Segment<I>, flow: *mut Flow) -> Judged {
    let Some(listener) = listener(segment.tcp.destination_port_be, KEPT) else { return Judged::Passes(None) };
    let start = segment.tcp.sequence();
    // SAFETY: a map's value, which is held.
    let (seen_in, client_next) = unsafe { ((*flow).seen_in, (*flow).client_next) };
    // SAFETY: as above; each is right by itself.
    let (way_out, seen_out, window_be) = unsafe { ((*flow).way_out, (*flow).seen_out, (*flow).window_be) };
    let one_way = seen_in == DATA && way_out != 0 && seen_out == 0;
    // How the window scales is not known. Where it is too small, the answer is repeated once it has grown.
    let room = segment.tcp.window_be != [0; 2];
    if !one_way || start != client_next || !room || !segment.fills(skb) {
        return Judged::Passes(Some(RejectCounter::Busy));
    }
    let shifts = Shifts::read(flow);
    let (sequence, acknowledgement) =
        (start.wrapping_sub(shifts.taken), segment.tcp.acknowledgement().wrapping_sub(shifts.given));
    // SAFETY: as above.
    let Some(stands) = stands(skb, segment, unsafe { (*flow).gate }, &shifts) else {
        return Judged::Passes(Some(RejectCounter::Busy));
    };
    // Userspace is to end the connections of such a source.
    if segment.ip.is_penalized() {
        return Judged::Passes(Some(RejectCounter::NotJudged));
    }
    let Rejection { reply, length, place } = match rejection(skb, segment, listener, KEPT) {
        Ok(rejection) => rejection,
        Err(counter) => return Judged::Passes(Some(counter)),
    };
    let end = start.wrapping_add(segment.payload_bytes);
    let answer_start = segment.tcp.acknowledgement();
    let then = match stands {
        Stands::Acknowledged => Then::Nothing { window_be },
        Stands::Sent => Then::Acknowledge { sequence, acknowledgement, window_be },
    };
    let sent = answer::send(skb, segment, &Answer { reply, length, acknowledged: end, then });
    if let Err(Failure::Untouched) = sent {
        return Judged::Passes(Some(RejectCounter::Failed));
    }
    // SAFETY: as above.
    unsafe {
        (*flow).client_next = end;
        (*flow).request_start = start;
        (*flow).request_end = end;
        (*flow).answer_start = answer_start;
        (*flow).answer_bytes = length;
        (*flow).reply = place;
        (*flow).server_next = acknowledgement;
        // Before numbers change: see `leaves`.
        (*flow).pending = 1;
    }
    let taken = shifts.taken.wrapping_add(end.wrapping_sub(start));
    Shifts { taken, given: shifts.given.wrapping_add(length) }.write(flow);
    match (sent, stands) {
        // The client repeats the request, and is answered then.
        (Err(_), _) => Judged::Lost,
        (Ok(()), Stands::Acknowledged) => Judged::Answered,
        (Ok(()), Stands::Sent) => Judged::Acknowledged,
    }
}

/// Notes how far a segment that passes reaches.
#[inline(always)]
fn note_passed<I: Ip>(segment: &Segment<I>, flow: *mut Flow) {
    if segment.payload_bytes == 0 {
        return;
    }
    let end = segment.tcp.sequence().wrapping_add(segment.payload_bytes);
    // SAFETY: a map's value, which is held.
    unsafe {
        if (*flow).seen_in & DATA == 0 || precedes((*flow).client_next, end) {
            (*flow).client_next = end;
        }
        (*flow).seen_in |= DATA;
    }
}

/// How a connection stands whose next bytes are a request's first.
#[derive(Clone, Copy)]
enum Stands {
    /// The server's TCP knows that the client has all of its bytes.
    Acknowledged,
    /// It learns that from this segment.
    Sent,
}

/// Nothing where it does not stand so.
#[inline(never)]
fn stands<I: Ip>(skb: *mut __sk_buff, segment: &Segment<I>, place: u32, shifts: &Shifts) -> Option<Stands> {
    let socket = segment.ip.socket(skb, &segment.tcp);
    if socket.is_null() {
        return None;
    }
    let stands = stands_at(socket, segment, place, shifts);
    // SAFETY: the reference that the look-up took; it is not used again.
    unsafe { bpf_sk_release(socket.cast()) };
    stands
}

#[inline(always)]
fn stands_at<I: Ip>(socket: *mut bpf_sock, segment: &Segment<I>, place: u32, shifts: &Shifts) -> Option<Stands> {
    // SAFETY: not null, and its reference is held. Volatile, so that reads stay those of fields that the verifier knows.
    if unsafe { read_volatile(&raw const (*socket).state) } != BPF_TCP_ESTABLISHED {
        return None;
    }
    // SAFETY: as above; the helper looks what kind it is.
    let tcp = unsafe { bpf_tcp_sock(socket) };
    if tcp.is_null() {
        return None;
    }
    // SAFETY: not null, and a view of a socket whose reference is held; volatile as above.
    let (received, next, sent, acknowledged, acknowledged_bytes) = unsafe {
        (
            read_volatile(&raw const (*tcp).bytes_received),
            read_volatile(&raw const (*tcp).rcv_nxt),
            read_volatile(&raw const (*tcp).snd_nxt),
            read_volatile(&raw const (*tcp).snd_una),
            read_volatile(&raw const (*tcp).bytes_acked),
        )
    };
    let written = acknowledged_bytes.wrapping_add(u64::from(sent.wrapping_sub(acknowledged)));
    // SAFETY: a map's value, which userspace writes as one.
    let said = unsafe { read_volatile(GATES.get_ptr(place)?) };
    let is_between = said != 0 && said == gate(received, written);
    let is_next = segment.tcp.sequence().wrapping_sub(shifts.taken) == next
        && segment.tcp.acknowledgement().wrapping_sub(shifts.given) == sent;
    match is_between && is_next {
        false => None,
        true if sent == acknowledged => Some(Stands::Acknowledged),
        true => Some(Stands::Sent),
    }
}

#[inline(never)]
fn leaves<I: Ip>(skb: *mut __sk_buff) -> Option<i32> {
    let segment = Segment::<I>::read_padded(skb)?;
    let (server, client) = segment.ip.addresses();
    let tcp = &segment.tcp;
    let key: HandshakeKey = handshake_key((client, tcp.destination_port_be), (server, tcp.source_port_be));
    let flow = FLOWS.get_ptr_mut(&key)?;
    if tcp.flags & SYN != 0 {
        // A new connection of the same addresses and ports: the old one is over.
        let _ = FLOWS.remove(key);
        return None;
    }
    let shifts = Shifts::read(flow);
    // SAFETY: a map's value; each field is right by itself.
    unsafe {
        if tcp.flags & (ACK | RST) == ACK {
            (*flow).window_be = tcp.window_be;
            note_way(skb, &raw mut (*flow).way_out, &raw mut (*flow).seen_out);
        }
        if segment.payload_bytes != 0 && (*flow).answer_bytes != 0 {
            let end = tcp.sequence().wrapping_add(segment.payload_bytes);
            match end.wrapping_sub((*flow).server_next) as i32 {
                // What the client has acknowledged is not sent again: its numbers are other ones by now.
                ..=0 => return Some(LOST),
                // Numbers come round: what is compared with them is over long before.
                FAR.. => (*flow).answer_bytes = 0,
                _ => {}
            }
        }
    }
    if shifts.is_none() {
        return None;
    }
    // SAFETY: as above.
    let (pending, request_start) = unsafe { ((*flow).pending, (*flow).request_start) };
    let acknowledged = match pending != 0 && precedes(request_start, tcp.acknowledgement().wrapping_add(shifts.taken)) {
        false => shifts.taken,
        // The server's TCP knows nothing of the request, and only the answer may acknowledge it.
        true => request_start.wrapping_sub(tcp.acknowledgement()),
    };
    Some(match renumber(skb, &segment, shifts.given, acknowledged, shifts.taken) {
        Some(()) => NEXT,
        None => LOST,
    })
}
