//! IP headers without options or extensions, and the sockets between their addresses.

use core::mem::size_of;

use aya_ebpf::{
    bindings::{
        __sk_buff, bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    helpers::generated::bpf_skc_lookup_tcp,
};

use super::{TCP, TIME_TO_LIVE, Tcp, fold, sum, words};
use crate::{
    packet::{Wire, mapped},
    penalty,
};

/// An IP header without options or extensions.
pub(crate) trait Ip: Wire {
    const EMPTY: Self;
    const BYTES: usize = size_of::<Self>();
    /// How many bytes of TCP follow, if nothing but TCP does.
    fn segment_bytes(&self) -> Option<u32>;
    /// Exchanges the addresses, and forgets what routers on the way here marked.
    fn turn(&mut self);
    /// Lets this many bytes of TCP follow.
    fn resize(&mut self, segment_bytes: u32);
    /// The sum of the addresses, for the pseudo header.
    fn address_sum(&self) -> u64;
    /// Source and destination as [`HandshakeKey`] has them.
    fn addresses(&self) -> ([u8; 16], [u8; 16]);
    /// Whether new connections of the source are dropped now.
    fn is_penalized(&self) -> bool;
    /// The socket that a segment between these ports is for: null, or a reference that must be released.
    fn socket(&self, skb: *mut __sk_buff, tcp: &Tcp) -> *mut bpf_sock;
}

#[repr(C, align(4))]
#[derive(Clone, Copy)]
pub(crate) struct Ipv4 {
    version_and_words: u8,
    service: u8,
    total_bytes_be: [u8; 2],
    identification: [u8; 2],
    fragment: [u8; 2],
    time_to_live: u8,
    protocol: u8,
    checksum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
}
const _: () = assert!(Ipv4::BYTES == 20);

// SAFETY: bytes; the alignment is for the helpers that sum words up, and the kernel's copy knows none.
unsafe impl Wire for Ipv4 {}

impl Ip for Ipv4 {
    const EMPTY: Self = Self {
        version_and_words: 0,
        service: 0,
        total_bytes_be: [0; 2],
        identification: [0; 2],
        fragment: [0; 2],
        time_to_live: 0,
        protocol: 0,
        checksum: [0; 2],
        source: [0; 4],
        destination: [0; 4],
    };

    #[inline(always)]
    fn segment_bytes(&self) -> Option<u32> {
        // "More fragments" and the offset; "don't fragment" is welcome (RFC 791, 3.1).
        let fragmented = self.fragment[0] & 0x3f != 0 || self.fragment[1] != 0;
        if self.version_and_words != 0x45 || self.protocol != TCP || fragmented {
            return None;
        }
        u32::from(u16::from_be_bytes(self.total_bytes_be)).checked_sub(Self::BYTES as u32)
    }

    #[inline(always)]
    fn turn(&mut self) {
        (self.source, self.destination) = (self.destination, self.source);
        self.service = 0;
    }

    #[inline(always)]
    fn resize(&mut self, segment_bytes: u32) {
        self.total_bytes_be = ((Self::BYTES as u32 + segment_bytes) as u16).to_be_bytes();
        self.time_to_live = TIME_TO_LIVE;
        self.checksum = [0; 2];
        self.checksum = (!fold(u64::from(sum(self, Self::BYTES, 0)))).to_ne_bytes();
    }

    #[inline(always)]
    fn address_sum(&self) -> u64 {
        words(&self.source) + words(&self.destination)
    }

    #[inline(always)]
    fn addresses(&self) -> ([u8; 16], [u8; 16]) {
        (mapped(self.source), mapped(self.destination))
    }

    #[inline(always)]
    fn is_penalized(&self) -> bool {
        penalty::is_in_force_v4(self.source)
    }

    #[inline(always)]
    fn socket(&self, skb: *mut __sk_buff, tcp: &Tcp) -> *mut bpf_sock {
        let ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: u32::from_ne_bytes(self.source),
            daddr: u32::from_ne_bytes(self.destination),
            sport: u16::from_ne_bytes(tcp.source_port_be),
            dport: u16::from_ne_bytes(tcp.destination_port_be),
        };
        let mut tuple = bpf_sock_tuple { __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 { ipv4 } };
        look_up(skb, &mut tuple, size_of_val(&ipv4))
    }
}

#[repr(C, align(4))]
#[derive(Clone, Copy)]
pub(crate) struct Ipv6 {
    version_class_and_flow: [u8; 4],
    payload_bytes_be: [u8; 2],
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}
const _: () = assert!(Ipv6::BYTES == 40);

// SAFETY: as for `Ipv4`.
unsafe impl Wire for Ipv6 {}

impl Ip for Ipv6 {
    const EMPTY: Self = Self {
        version_class_and_flow: [0; 4],
        payload_bytes_be: [0; 2],
        next_header: 0,
        hop_limit: 0,
        source: [0; 16],
        destination: [0; 16],
    };

    #[inline(always)]
    fn segment_bytes(&self) -> Option<u32> {
        if self.version_class_and_flow[0] >> 4 != 6 || self.next_header != TCP {
            return None;
        }
        Some(u32::from(u16::from_be_bytes(self.payload_bytes_be)))
    }

    #[inline(always)]
    fn turn(&mut self) {
        (self.source, self.destination) = (self.destination, self.source);
        self.version_class_and_flow = [0x60, 0, 0, 0];
    }

    #[inline(always)]
    fn resize(&mut self, segment_bytes: u32) {
        self.payload_bytes_be = (segment_bytes as u16).to_be_bytes();
        self.hop_limit = TIME_TO_LIVE;
    }

    #[inline(always)]
    fn address_sum(&self) -> u64 {
        words(&self.source) + words(&self.destination)
    }

    #[inline(always)]
    fn addresses(&self) -> ([u8; 16], [u8; 16]) {
        (self.source, self.destination)
    }

    #[inline(always)]
    fn is_penalized(&self) -> bool {
        penalty::is_in_force_v6(self.source)
    }

    #[inline(always)]
    fn socket(&self, skb: *mut __sk_buff, tcp: &Tcp) -> *mut bpf_sock {
        let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            saddr: address_words(&self.source),
            daddr: address_words(&self.destination),
            sport: u16::from_ne_bytes(tcp.source_port_be),
            dport: u16::from_ne_bytes(tcp.destination_port_be),
        };
        let mut tuple = bpf_sock_tuple { __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 { ipv6 } };
        look_up(skb, &mut tuple, size_of_val(&ipv6))
    }
}

#[inline(always)]
fn address_words(address: &[u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_ne_bytes)
}

/// Unlike `bpf_sk_lookup_tcp`, this one also finds connections whose handshake is not finished.
#[inline(always)]
fn look_up(skb: *mut __sk_buff, tuple: &mut bpf_sock_tuple, bytes: usize) -> *mut bpf_sock {
    /// `BPF_F_CURRENT_NETNS`.
    const THIS_NAMESPACE: u64 = -1_i64 as u64;
    // SAFETY: the helper reads that many bytes; callers name the size of the family they filled in.
    unsafe { bpf_skc_lookup_tcp(skb.cast(), tuple, bytes as u32, THIS_NAMESPACE, 0) }
}
