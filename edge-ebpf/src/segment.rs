//! Ethernet, IP and TCP headers of one segment: read from a socket buffer, turned round, resized, summed up.
//!
//! Only the plain case: no VLAN tag, no IP option, fragment or extension header, no TCP option but timestamps.

mod ip;

use core::{mem::size_of, ptr};

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_csum_diff, bpf_skb_load_bytes, bpf_skb_store_bytes},
};
use edge_ebpf::rejection::HandshakeKey;

pub(crate) use self::ip::{Ip, Ipv4, Ipv6};
use crate::packet::Wire;

/// Destination, source, type (IEEE 802.3).
pub(crate) const ETHERNET_BYTES: usize = 14;
/// Type fields as `__sk_buff` has them: in network byte order, in a host integer.
pub(crate) const PROTOCOL_IPV4: u32 = 0x0800_u16.to_be() as u32;
pub(crate) const PROTOCOL_IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// `PACKET_HOST` of linux/if_packet.h: the frame is for this host's hardware address.
pub(crate) const TO_THIS_HOST: u32 = 0;

const TCP: u8 = 6;
/// What a fresh datagram starts with (RFC 1340).
const TIME_TO_LIVE: u8 = 64;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;

/// A TCP header without options, in bytes (RFC 9293, 3.1).
pub(crate) const BARE_TCP_BYTES: usize = 20;
/// The same with timestamps, aligned as all large systems do (RFC 7323, appendix A).
pub(crate) const STAMPED_TCP_BYTES: usize = 32;
/// Twice "no operation", then the option's kind and length.
const TIMESTAMPS: [u8; 4] = [1, 1, 8, 10];

/// Reads the first bytes of a header at an offset from the frame's start, wherever its bytes are kept.
#[inline(always)]
pub(crate) fn load<T: Wire>(skb: *mut __sk_buff, offset: usize, header: &mut T, bytes: usize) -> Option<()> {
    let to = ptr::from_mut(header).cast();
    // SAFETY: callers name at most the header's size; the helper writes that many bytes or fails, and `Wire` takes any.
    let code = unsafe { bpf_skb_load_bytes(skb.cast(), offset as u32, to, bytes as u32) };
    (code == 0).then_some(())
}

/// Writes the first bytes of a header at an offset from the frame's start.
#[inline(always)]
pub(crate) fn store<T: Wire>(skb: *mut __sk_buff, offset: usize, header: &T, bytes: usize) -> Option<()> {
    // SAFETY: callers name at most the header's size.
    let code = unsafe { bpf_skb_store_bytes(skb, offset as u32, ptr::from_ref(header).cast(), bytes as u32, 0) };
    (code == 0).then_some(())
}

/// The one's complement sum of these bytes, a multiple of four and at most 512, added to another sum (RFC 1071).
#[inline(always)]
pub(crate) fn sum<T: Wire>(value: &T, bytes: usize, start: u32) -> u32 {
    // SAFETY: callers name at most the value's size; the helper reads only.
    unsafe { bpf_csum_diff(ptr::null_mut(), 0, ptr::from_ref(value).cast_mut().cast(), bytes as u32, start) as u32 }
}

/// A sum folded into 16 bits.
#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The 16-bit words of an address, added up.
#[inline(always)]
fn words<const N: usize>(bytes: &[u8; N]) -> u64 {
    bytes.as_chunks::<2>().0.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum()
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ethernet {
    destination: [u8; 6],
    source: [u8; 6],
    ethertype: [u8; 2],
}

// SAFETY: bytes.
unsafe impl Wire for Ethernet {}

impl Ethernet {
    pub(crate) const EMPTY: Self = Self { destination: [0; 6], source: [0; 6], ethertype: [0; 2] };

    /// The type field as `__sk_buff` has it.
    #[inline(always)]
    pub(crate) fn protocol(&self) -> u32 {
        u32::from(u16::from_ne_bytes(self.ethertype))
    }

    #[inline(always)]
    pub(crate) fn turn(&mut self) {
        (self.destination, self.source) = (self.source, self.destination);
    }
}

/// A TCP header, with room for timestamps behind it.
#[repr(C, align(4))]
#[derive(Clone, Copy)]
pub(crate) struct Tcp {
    pub(crate) source_port_be: [u8; 2],
    pub(crate) destination_port_be: [u8; 2],
    sequence_be: [u8; 4],
    acknowledgement_be: [u8; 4],
    words: u8,
    pub(crate) flags: u8,
    pub(crate) window_be: [u8; 2],
    checksum: [u8; 2],
    urgent: [u8; 2],
    timestamps: Timestamps,
}
const _: () = assert!(size_of::<Tcp>() == STAMPED_TCP_BYTES);

// SAFETY: as for `Ipv4`.
unsafe impl Wire for Tcp {}

#[repr(C)]
#[derive(Clone, Copy)]
struct Timestamps {
    lead: [u8; 4],
    value: [u8; 4],
    echo: [u8; 4],
}

// SAFETY: bytes.
unsafe impl Wire for Timestamps {}

/// Who completes the checksum of a segment that is made from another one.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Checksum {
    /// It must be whole.
    Whole,
    /// The kernel or a device adds the segment to the pseudo header's sum (`CHECKSUM_PARTIAL`).
    Partial,
}

impl Tcp {
    const EMPTY: Self = Self {
        source_port_be: [0; 2],
        destination_port_be: [0; 2],
        sequence_be: [0; 4],
        acknowledgement_be: [0; 4],
        words: 0,
        flags: 0,
        window_be: [0; 2],
        checksum: [0; 2],
        urgent: [0; 2],
        timestamps: Timestamps { lead: [0; 4], value: [0; 4], echo: [0; 4] },
    };

    #[inline(always)]
    fn load(skb: *mut __sk_buff, offset: usize) -> Option<Self> {
        let mut tcp = Self::EMPTY;
        load(skb, offset, &mut tcp, BARE_TCP_BYTES)?;
        Some(tcp)
    }

    /// The length with all options.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> u32 {
        u32::from(self.words >> 4) * 4
    }

    #[inline(always)]
    pub(crate) fn sequence(&self) -> u32 {
        u32::from_be_bytes(self.sequence_be)
    }

    #[inline(always)]
    pub(crate) fn acknowledgement(&self) -> u32 {
        u32::from_be_bytes(self.acknowledgement_be)
    }

    /// Whether this header is as long as it says, and one that can be answered.
    #[inline(always)]
    pub(crate) fn is_plain<const BYTES: usize>(&self) -> bool {
        self.bytes() == BYTES as u32 && (BYTES == BARE_TCP_BYTES || self.timestamps.lead == TIMESTAMPS)
    }

    /// Reads the bytes behind the header proper.
    #[inline(always)]
    pub(crate) fn load_timestamps(&mut self, skb: *mut __sk_buff, header_offset: usize) -> Option<()> {
        load(skb, header_offset + BARE_TCP_BYTES, &mut self.timestamps, size_of::<Timestamps>())
    }

    /// The header of an answer. Its timestamp is the last one of ours that the client saw, which no later one
    /// precedes (RFC 7323, 5.3).
    #[inline(always)]
    pub(crate) fn turn(&mut self) {
        (self.source_port_be, self.destination_port_be) = (self.destination_port_be, self.source_port_be);
        (self.sequence_be, self.acknowledgement_be) = (self.acknowledgement_be, self.sequence_be);
        (self.timestamps.value, self.timestamps.echo) = (self.timestamps.echo, self.timestamps.value);
    }

    #[inline(always)]
    pub(crate) fn acknowledge(&mut self, number: u32) {
        self.acknowledgement_be = number.to_be_bytes();
    }

    #[inline(always)]
    pub(crate) fn number(&mut self, sequence: u32, acknowledgement: u32) {
        self.sequence_be = sequence.to_be_bytes();
        self.acknowledgement_be = acknowledgement.to_be_bytes();
    }

    /// Lets all options go.
    #[inline(always)]
    pub(crate) fn cut_bare(&mut self) {
        self.words = (BARE_TCP_BYTES as u8 / 4) << 4;
    }

    /// Lets all options go that are behind timestamps; false where none are the first.
    #[inline(always)]
    pub(crate) fn cut_to_timestamps(&mut self) -> bool {
        self.words = (STAMPED_TCP_BYTES as u8 / 4) << 4;
        self.timestamps.lead == TIMESTAMPS
    }

    /// Sums up a segment of this header, its first `BYTES` bytes, and a payload.
    #[inline(always)]
    pub(crate) fn seal<I: Ip, const BYTES: usize>(&mut self, ip: &I, payload: Payload, checksum: Checksum) {
        let segment_bytes = (BYTES as u32 + payload.bytes) as u16;
        let pseudo = ip.address_sum() + u64::from(u16::from(TCP).to_be()) + u64::from(segment_bytes.to_be());
        self.urgent = [0; 2];
        self.checksum = [0; 2];
        let sealed = match checksum {
            Checksum::Whole => !fold(pseudo + u64::from(sum(self, BYTES, payload.sum))),
            Checksum::Partial => fold(pseudo),
        };
        self.checksum = sealed.to_ne_bytes();
    }
}

/// What follows a TCP header: its length and sum.
#[derive(Clone, Copy)]
pub(crate) struct Payload {
    pub(crate) bytes: u32,
    pub(crate) sum: u32,
}

impl Payload {
    pub(crate) const NONE: Self = Self { bytes: 0, sum: 0 };
}

/// One segment's headers. Timestamps are not read yet.
pub(crate) struct Segment<I> {
    pub(crate) ip: I,
    pub(crate) tcp: Tcp,
    pub(crate) payload_bytes: u32,
}

impl<I: Ip> Segment<I> {
    pub(crate) const TCP_OFFSET: usize = ETHERNET_BYTES + I::BYTES;

    /// Reads the headers; nothing where the frame is not plain TCP, or not wholly one segment.
    #[inline(always)]
    pub(crate) fn read(skb: *mut __sk_buff) -> Option<Self> {
        let mut ip = I::EMPTY;
        load(skb, ETHERNET_BYTES, &mut ip, I::BYTES)?;
        let segment_bytes = ip.segment_bytes()?;
        // SAFETY: the context is valid while the program runs.
        let frame_bytes = unsafe { (*skb).len };
        // On a device without Ethernet headers these would be other bytes, which do not add up; nor do padded frames.
        if frame_bytes != Self::TCP_OFFSET as u32 + segment_bytes {
            return None;
        }
        let tcp = Tcp::load(skb, Self::TCP_OFFSET)?;
        let payload_bytes = segment_bytes.checked_sub(tcp.bytes())?;
        Some(Self { ip, tcp, payload_bytes })
    }

    /// The same where its numbers are all that matters: short frames may be padded (IEEE 802.3, 3.2.8).
    #[inline(always)]
    pub(crate) fn read_padded(skb: *mut __sk_buff) -> Option<Self> {
        let mut ethernet = Ethernet::EMPTY;
        load(skb, 0, &mut ethernet, ETHERNET_BYTES)?;
        // SAFETY: the context is valid while the program runs.
        if ethernet.protocol() != unsafe { (*skb).protocol } {
            return None;
        }
        let mut ip = I::EMPTY;
        load(skb, ETHERNET_BYTES, &mut ip, I::BYTES)?;
        let segment_bytes = ip.segment_bytes()?;
        let tcp = Tcp::load(skb, Self::TCP_OFFSET)?;
        let payload_bytes = segment_bytes.checked_sub(tcp.bytes())?;
        Some(Self { ip, tcp, payload_bytes })
    }

    /// Whether the frame ends with the segment.
    #[inline(always)]
    pub(crate) fn fills(&self, skb: *mut __sk_buff) -> bool {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*skb).len == Self::TCP_OFFSET as u32 + self.tcp.bytes() + self.payload_bytes }
    }
}

/// The connection's key, from the addresses and ports of its two ends.
#[inline(always)]
pub(crate) fn handshake_key(client: End, server: End) -> HandshakeKey {
    HandshakeKey { client: client.0, server: server.0, client_port_be: client.1, server_port_be: server.1 }
}

/// An address and a port, in network byte order.
pub(crate) type End = ([u8; 16], [u8; 2]);
