//! Whether a segment brings a connection's first bytes.
//!
//! A connection whose listener has `TCP_DEFER_ACCEPT` is still a request when its first bytes arrive, and programs cannot
//! read a request's sequence numbers. So they are noted when the SYN-ACK leaves. Both are compared: the client's, since
//! a later segment that overtook the first could look like a head; the server's, since who names it has seen the SYN-ACK,
//! and an answer is not sent to an address that someone else made up.

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_TCP_ESTABLISHED, BPF_TCP_NEW_SYN_RECV, bpf_sock},
    helpers::generated::{bpf_sk_release, bpf_tcp_sock},
};
use edge_ebpf::rejection::{FIRST, HandshakeEntry};

use crate::{
    HANDSHAKES,
    reject::{is_needed, listener},
    segment::{ACK, Ip, Ipv4, Ipv6, PROTOCOL_IPV4, PROTOCOL_IPV6, SYN, Segment, handshake_key},
};

/// Notes what a SYN-ACK of an armed listener says.
#[inline(always)]
pub(crate) fn note(skb: *mut __sk_buff) {
    if !is_needed() {
        return;
    }
    // SAFETY: the context is valid while the program runs.
    match unsafe { (*skb).protocol } {
        PROTOCOL_IPV4 => note_segment::<Ipv4>(skb),
        PROTOCOL_IPV6 => note_segment::<Ipv6>(skb),
        _ => None,
    };
}

#[inline(never)]
fn note_segment<I: Ip>(skb: *mut __sk_buff) -> Option<()> {
    let Segment { ip, tcp, .. } = Segment::<I>::read(skb)?;
    if tcp.flags & (SYN | ACK) != SYN | ACK {
        return None;
    }
    listener(tcp.source_port_be, FIRST)?;
    let (server, client) = ip.addresses();
    let key = handshake_key((client, tcp.destination_port_be), (server, tcp.source_port_be));
    let entry = HandshakeEntry {
        client_first: tcp.acknowledgement(),
        // A SYN takes one number (RFC 9293, 3.4).
        server_first: tcp.sequence().wrapping_add(1),
    };
    // A full map forgets its oldest entry; a failure makes the first request pass.
    let _ = HANDSHAKES.insert(key, entry, 0);
    Some(())
}

/// Whether nothing came before this segment, and nothing was sent that its sender has not seen.
#[inline(never)]
pub(crate) fn is_first<I: Ip>(skb: *mut __sk_buff, segment: &Segment<I>) -> bool {
    let socket = segment.ip.socket(skb, &segment.tcp);
    if socket.is_null() {
        return false;
    }
    // SAFETY: not null. Volatile, so that the read stays the one of this field that the verifier knows.
    let first = match unsafe { read_volatile(&raw const (*socket).state) } {
        BPF_TCP_ESTABLISHED => starts_established(socket, segment),
        BPF_TCP_NEW_SYN_RECV => starts_requested(segment),
        _ => false,
    };
    // SAFETY: the reference that the look-up took; it is not used again.
    unsafe { bpf_sk_release(socket.cast()) };
    first
}

#[inline(always)]
fn starts_established<I: Ip>(socket: *mut bpf_sock, segment: &Segment<I>) -> bool {
    // SAFETY: a referenced socket; the helper looks what kind it is.
    let tcp = unsafe { bpf_tcp_sock(socket) };
    if tcp.is_null() {
        return false;
    }
    // SAFETY: not null, and a view of a socket whose reference is held; volatile as above.
    let (received, next, sent, acknowledged) = unsafe {
        (
            read_volatile(&raw const (*tcp).bytes_received),
            read_volatile(&raw const (*tcp).rcv_nxt),
            read_volatile(&raw const (*tcp).snd_nxt),
            read_volatile(&raw const (*tcp).snd_una),
        )
    };
    let all_seen = segment.tcp.acknowledgement() == sent && sent == acknowledged;
    received == 0 && segment.tcp.sequence() == next && all_seen
}

#[inline(always)]
fn starts_requested<I: Ip>(segment: &Segment<I>) -> bool {
    let (client, server) = segment.ip.addresses();
    let tcp = &segment.tcp;
    let key = handshake_key((client, tcp.source_port_be), (server, tcp.destination_port_be));
    // SAFETY: two integers, which another CPU may replace meanwhile: then the connection is a new one, and a mixture of
    // both would have to be guessed by its client.
    let Some(entry) = (unsafe { HANDSHAKES.get(key) }) else { return false };
    entry.client_first == tcp.sequence() && entry.server_first == tcp.acknowledgement()
}
