//! TCP segments as frames, written and caught.

use std::{
    io::Read as _,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;

pub(crate) const ETHERNET_BYTES: usize = 14;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const PSH: u8 = 0x08;

/// A TCP segment.
#[derive(Clone)]
pub(crate) struct Segment {
    /// IPv4 addresses mapped into IPv6, as in the programs' maps.
    pub(crate) source: [u8; 16],
    pub(crate) destination: [u8; 16],
    pub(crate) ports: [[u8; 2]; 2],
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// The one's complement sum of RFC 1071, computed anew.
pub(crate) fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let bytes = parts.concat();
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!sum as u16).to_be_bytes()
}

impl Segment {
    /// The segment in an Ethernet frame for `lo`, whose hardware address is zero.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut tcp = self.ports.concat();
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgement.to_be_bytes());
        tcp.extend([((5 + self.options.len() / 4) << 4) as u8, self.flags, 1, 0, 0, 0, 0, 0]);
        tcp.extend(&self.options);
        tcp.extend(&self.payload);
        let pseudo = [0, 6, (tcp.len() >> 8) as u8, tcp.len() as u8];
        let sum = checksum(&[&self.source_bytes(), &self.destination_bytes(), &pseudo, &tcp]);
        tcp[16..18].copy_from_slice(&sum);

        let mut frame = vec![0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2];
        if self.is_v4() {
            let mut ip = vec![0x45, 0];
            ip.extend((20 + tcp.len() as u16).to_be_bytes());
            ip.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
            ip.extend([self.source_bytes(), self.destination_bytes()].concat());
            let sum = checksum(&[&ip]);
            ip[10..12].copy_from_slice(&sum);
            frame.extend([0x08, 0x00]);
            frame.extend(ip);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((tcp.len() as u16).to_be_bytes());
            frame.extend([6, 64]);
            frame.extend([self.source, self.destination].concat());
        }
        frame.extend(tcp);
        frame
    }

    pub(crate) fn is_v4(&self) -> bool {
        self.source.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
    }

    fn source_bytes(&self) -> Vec<u8> {
        self.source[if self.is_v4() { 12 } else { 0 }..].to_vec()
    }

    fn destination_bytes(&self) -> Vec<u8> {
        self.destination[if self.is_v4() { 12 } else { 0 }..].to_vec()
    }

    /// What the local stack gets in its place.
    pub(crate) fn reset(&self) -> Self {
        Self { flags: ACK | 0x04, payload: Vec::new(), ..self.clone() }
    }

    /// What the client gets.
    pub(crate) fn answer(&self, payload: &[u8]) -> Self {
        let mut options = self.options.clone();
        if options.len() == 12 {
            options[4..].rotate_left(4);
        }
        Self {
            source: self.destination,
            destination: self.source,
            ports: [self.ports[1], self.ports[0]],
            sequence: self.acknowledgement,
            acknowledgement: self.sequence.wrapping_add(self.payload.len() as u32),
            flags: ACK | PSH | 0x01,
            options,
            payload: payload.to_vec(),
        }
    }
}

/// Sees every frame of a namespace, those that leave and those that arrive.
pub(crate) struct Wire(Socket);

impl Wire {
    pub(crate) fn open(namespace: &Namespace) -> Self {
        /// Every protocol.
        const ETH_P_ALL: u16 = 3;
        let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let socket = namespace.run(|| Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        Self(socket)
    }

    /// The next such frame.
    pub(crate) fn find(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut bytes = vec![0; 65536];
        while Instant::now() < deadline {
            if let Ok(length) = self.0.read(&mut bytes)
                && wanted(&bytes[..length])
            {
                bytes.truncate(length);
                return bytes;
            }
        }
        panic!("no such frame");
    }
}
