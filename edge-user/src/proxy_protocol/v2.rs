//! Version 2: binary, with room for more than addresses.

use std::net::{IpAddr, SocketAddr};

use super::{Error, Preface, Progress};

pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, the length of the rest.
pub(super) const FIXED: usize = 16;
/// What follows may be this long. Senders stay far below: the addresses, a name, a certificate's subject.
const LONGEST: usize = 4096;

pub(super) const LOCAL: u8 = 0x20;
pub(super) const PROXY: u8 = 0x21;
pub(super) const TCP_OVER_IPV4: u8 = 0x11;
pub(super) const TCP_OVER_IPV6: u8 = 0x21;
pub(super) const UNSPECIFIED: u8 = 0x00;
const UNIX_STREAM: u8 = 0x31;

pub(super) const TYPE_AUTHORITY: u8 = 0x02;
pub(super) const TYPE_CRC32C: u8 = 0x03;
pub(super) const TYPE_UNIQUE_ID: u8 = 0x05;
pub(super) const TYPE_SSL: u8 = 0x20;
pub(super) const SUBTYPE_SSL_VERSION: u8 = 0x21;
pub(super) const SUBTYPE_SSL_CN: u8 = 0x22;
/// Of `PP2_TYPE_SSL`'s bits: the client came over TLS.
pub(super) const CLIENT_SSL: u8 = 0x01;
/// It showed a certificate in this connection's handshake.
pub(super) const CLIENT_CERT_CONN: u8 = 0x02;
/// It showed one in this session, perhaps over an earlier connection.
pub(super) const CLIENT_CERT_SESS: u8 = 0x04;

pub(super) fn progress(bytes: &[u8]) -> Result<Progress, Error> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(Progress::Needs(FIXED - bytes.len()));
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Err(Error::Malformed("more than 4096 bytes"));
    }
    if rest.len() < length {
        return Ok(Progress::Needs(length - rest.len()));
    }
    let (addresses, vectors) = match family {
        TCP_OVER_IPV4 => ends::<4>(rest)?,
        TCP_OVER_IPV6 => ends::<16>(rest)?,
        // What follows of these is not described, or describes no address of ours.
        UNSPECIFIED | UNIX_STREAM => return told(command, Preface::default()),
        _ => return Err(Error::Malformed("a family or transport other than TCP over IPv4 and IPv6")),
    };
    let mut preface = Preface { addresses: Some(addresses), ..Preface::default() };
    read_vectors(bytes, vectors, &mut preface)?;
    told(command, preface)
}

/// Nothing is told of a connection that the sender made for itself.
fn told(command: u8, preface: Preface) -> Result<Progress, Error> {
    match command {
        PROXY => Ok(Progress::Whole(preface)),
        LOCAL => Ok(Progress::Whole(Preface::default())),
        _ => Err(Error::Malformed("a version other than 2, or a command other than LOCAL and PROXY")),
    }
}

/// Source and destination, and what follows.
fn ends<const N: usize>(rest: &[u8]) -> Result<((SocketAddr, SocketAddr), &[u8]), Error>
where
    IpAddr: From<[u8; N]>,
{
    let split = |bytes| <[u8]>::split_first_chunk::<N>(bytes);
    let read = || {
        let (source, rest) = split(rest)?;
        let (destination, rest) = split(rest)?;
        let ([a, b, c, d], rest) = rest.split_first_chunk::<4>()?;
        let end = |address: [u8; N], port| SocketAddr::new(IpAddr::from(address), u16::from_be_bytes(port));
        Some(((end(*source, [*a, *b]), end(*destination, [*c, *d])), rest))
    };
    read().ok_or(Error::Malformed("fewer bytes than the addresses take"))
}

fn read_vectors(whole: &[u8], vectors: &[u8], preface: &mut Preface) -> Result<(), Error> {
    let mut rest = vectors;
    while !rest.is_empty() {
        let (kind, value, next) = vector(rest)?;
        match kind {
            TYPE_AUTHORITY => {
                let name = std::str::from_utf8(value).ok().filter(|name| is_host_name(name));
                preface.authority = Some(name.ok_or(Error::Malformed("an authority that is no host name"))?.into());
            }
            TYPE_CRC32C => {
                let told = value
                    .try_into()
                    .map(u32::from_be_bytes)
                    .map_err(|_| Error::Malformed("a checksum that is none"))?;
                let place = whole.len() - rest.len() + 3;
                if told != crc32c(whole, place) {
                    return Err(Error::Malformed("a checksum that is not the header's"));
                }
            }
            TYPE_SSL => preface.tls = ssl(value)?,
            // The others say nothing that is acted upon.
            _ => {}
        }
        rest = next;
    }
    Ok(())
}

/// Type, value, and what follows.
fn vector(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), Error> {
    let read = || {
        let ([kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        Some((*kind, value, rest))
    };
    read().ok_or(Error::Malformed("a vector that is longer than the header"))
}

/// The version that the client speaks; nothing where it speaks none.
fn ssl(value: &[u8]) -> Result<Option<&'static str>, Error> {
    // Whether its certificate was verified (four bytes) is for who verifies certificates.
    let ([client, ..], mut rest) =
        value.split_first_chunk::<5>().ok_or(Error::Malformed("a TLS vector that is too short"))?;
    let mut version = "TLS";
    while !rest.is_empty() {
        let (kind, value, next) = vector(rest)?;
        if kind == SUBTYPE_SSL_VERSION {
            version = match value {
                b"TLSv1.2" => "TLSv1.2",
                b"TLSv1.3" => "TLSv1.3",
                _ => "TLS",
            };
        }
        rest = next;
    }
    Ok((client & CLIENT_SSL != 0).then_some(version))
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// RFC 3720, B.4; the four bytes at `place`, where the sum itself stands, count as zeros.
pub(super) fn crc32c(bytes: &[u8], place: usize) -> u32 {
    let sum = bytes.iter().enumerate().fold(u32::MAX, |sum, (index, byte)| {
        let byte = if (place..place + 4).contains(&index) { 0 } else { *byte };
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4, with the place of the sum behind the bytes.
        assert_eq!(crc32c(&[0; 32], 32), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32], 32), 0x62a8_ab43);
        assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|index| index as u8), 32), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789", 9), 0xe306_9283);
    }
}
