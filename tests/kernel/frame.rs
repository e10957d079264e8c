//! Frames, built from the inside out: `tcp_v4(source).tagged(VLAN, 7)`.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const VLAN: u16 = 0x8100;
pub(crate) const QINQ: u16 = 0x88a8;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const TCP: u8 = 6;

/// Destination and source hardware address.
const ADDRESSES: usize = 12;

#[derive(Clone)]
pub(crate) struct Frame(pub(crate) Vec<u8>);

impl Frame {
    pub(crate) fn new(ethertype: u16, payload: &[u8]) -> Self {
        let mut bytes = vec![2; ADDRESSES];
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(payload);
        Self(bytes)
    }

    /// The frame within one more VLAN tag.
    pub(crate) fn tagged(mut self, ethertype: u16, id: u16) -> Self {
        let tag = [ethertype.to_be_bytes(), id.to_be_bytes()].concat();
        self.0.splice(ADDRESSES..ADDRESSES, tag);
        self
    }

    pub(crate) fn truncated(mut self, length: usize) -> Self {
        self.0.truncate(length);
        self
    }

    /// The frame with so many bytes in all.
    pub(crate) fn padded(mut self, length: usize) -> Self {
        self.0.resize(length, 0);
        self
    }

    /// The frame with another byte at this place behind the Ethernet header.
    pub(crate) fn with(mut self, offset: usize, byte: u8) -> Self {
        self.0[ADDRESSES + 2 + offset] = byte;
        self
    }
}

pub(crate) struct V4 {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) protocol: u8,
    /// In bytes, a multiple of four.
    pub(crate) options: usize,
    pub(crate) more_fragments: bool,
    /// In units of eight bytes.
    pub(crate) fragment_offset: u16,
}

impl V4 {
    pub(crate) fn from(source: &str) -> Self {
        Self {
            source: source.parse().unwrap(),
            destination: Ipv4Addr::new(192, 0, 2, 1),
            protocol: TCP,
            options: 0,
            more_fragments: false,
            fragment_offset: 0,
        }
    }

    pub(crate) fn frame(&self) -> Frame {
        self.with_payload(&[0x5a; 24])
    }

    /// A TCP header with these flags and this destination port.
    pub(crate) fn tcp(&self, flags: u8, port: u16) -> Frame {
        self.with_payload(&tcp_header(flags, port))
    }

    fn with_payload(&self, payload: &[u8]) -> Frame {
        let words = 5 + self.options / 4;
        let total = (words * 4 + payload.len()) as u16;
        let fragment = self.fragment_offset | if self.more_fragments { 0x2000 } else { 0 };
        let mut bytes = vec![0x40 | words as u8, 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 1]); // identification
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, self.protocol, 0, 0]); // time to live, protocol, checksum
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(vec![1; self.options]); // no operation
        bytes.extend(payload);
        Frame::new(IPV4, &bytes)
    }
}

fn tcp_header(flags: u8, port: u16) -> [u8; 20] {
    let mut header = [0; 20];
    header[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    header[2..4].copy_from_slice(&port.to_be_bytes());
    header[12] = 5 << 4; // data offset, in words
    header[13] = flags;
    header
}

pub(crate) fn v4(source: &str) -> Frame {
    V4::from(source).frame()
}

/// An IPv6 frame with these extension headers, by number, before TCP.
pub(crate) fn v6_with(source: &str, extensions: &[u8]) -> Frame {
    v6_frame(source, extensions, &[0x5a; 24])
}

/// The same with a TCP header that has these flags and this destination port.
pub(crate) fn v6_tcp(source: &str, extensions: &[u8], flags: u8, port: u16) -> Frame {
    v6_frame(source, extensions, &tcp_header(flags, port))
}

fn v6_frame(source: &str, extensions: &[u8], content: &[u8]) -> Frame {
    let source: Ipv6Addr = source.parse().unwrap();
    let numbers: Vec<u8> = extensions.iter().copied().chain([TCP]).collect();
    let mut payload = Vec::new();
    for next in &numbers[1..] {
        payload.extend([*next, 0, 0, 0, 0, 0, 0, 0]); // eight bytes, the shortest one
    }
    payload.extend(content);
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([numbers[0], 64]);
    bytes.extend(source.octets());
    bytes.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    bytes.extend(payload);
    Frame::new(IPV6, &bytes)
}

pub(crate) fn v6(source: &str) -> Frame {
    v6_with(source, &[])
}

/// Who has 192.0.2.1? Tell this address.
pub(crate) fn arp(sender: &str) -> Frame {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, 1];
    bytes.extend([2; 6]);
    bytes.extend(sender.parse::<Ipv4Addr>().unwrap().octets());
    bytes.extend([0; 6]);
    bytes.extend([192, 0, 2, 1]);
    Frame::new(ARP, &bytes)
}
