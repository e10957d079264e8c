//! Tables of headers, and a property.

use proptest::prelude::*;

use super::*;

const V2_IPV4: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\xc3\x50\x01\xbb";

fn of(source: &str, destination: &str) -> Preface {
    Preface { addresses: Some((source.parse().unwrap(), destination.parse().unwrap())), ..Preface::default() }
}

/// A version 2 header with these vectors after IPv4 addresses.
fn v2(vectors: &[u8]) -> Vec<u8> {
    let mut bytes = [V2_IPV4, vectors].concat();
    bytes[15] += vectors.len() as u8;
    bytes
}

#[test]
fn headers_are_taken_whole_and_nothing_beyond() {
    let ipv4 = of("203.0.113.7:50000", "192.0.2.1:443");
    for (bytes, expected) in [
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\n".to_vec(), ipv4.clone()),
        (b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n".to_vec(), of("[2001:db8::7]:0", "[::1]:65535")),
        (b"PROXY UNKNOWN\r\n".to_vec(), Preface::default()),
        (b"PROXY UNKNOWN ff:: whatever 1 2\r\n".to_vec(), Preface::default()),
        (V2_IPV4.to_vec(), ipv4.clone()),
        (
            [b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".as_slice(), &[1; 16], &[2; 16], &[0, 80, 1, 187]].concat(),
            of("[101:101:101:101:101:101:101:101]:80", "[202:202:202:202:202:202:202:202]:443"),
        ),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\x00".to_vec(), Preface::default()),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x00\0\x03abc".to_vec(), Preface::default()),
        ([&V2_IPV4[..12], b"\x20", &V2_IPV4[13..]].concat(), Preface::default()),
        (v2(b"\x04\0\x02no\xee\0\0"), ipv4.clone()),
        (v2(b"\x02\0\x0bapi.example"), Preface { authority: Some("api.example".into()), ..ipv4.clone() }),
        (v2(b"\x20\0\x0f\x01\0\0\0\0\x21\0\x07TLSv1.3"), Preface { tls: Some("TLSv1.3"), ..ipv4.clone() }),
        (v2(b"\x20\0\x05\x01\0\0\0\0"), Preface { tls: Some("TLS"), ..ipv4.clone() }),
        (v2(b"\x20\0\x05\x00\0\0\0\0"), ipv4.clone()),
    ] {
        assert_eq!(parse(&[&bytes[..], b"GET / HTTP/1.1\r\n"].concat()), Some((expected, bytes.len())), "{bytes:?}");
    }
}

#[test]
fn a_checksum_counts() {
    // As another implementation would have computed it: bit by bit over the header with zeros in its place.
    let mut bytes = v2(b"\x03\0\x04\0\0\0\0");
    let sum = bytes.iter().fold(u32::MAX, |mut sum, byte| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
        }
        sum
    });
    bytes.truncate(bytes.len() - 4);
    bytes.extend((!sum).to_be_bytes());
    assert_eq!(parse(&bytes).unwrap().1, bytes.len());
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(progress(&bytes, Versions::Any), Err(Error::Malformed("a checksum that is not the header's")));
}

#[test]
fn whatever_else_is_refused() {
    for bytes in [
        "GET / HTTP/1.1\r\n",
        "proxy TCP4 203.0.113.7 192.0.2.1 50000 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 50000\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 50000 443 \r\n",
        "PROXY TCP4  203.0.113.7 192.0.2.1 50000 443\r\n",
        "PROXY TCP4 ::1 192.0.2.1 50000 443\r\n",
        "PROXY TCP6 203.0.113.7 192.0.2.1 50000 443\r\n",
        "PROXY TCP4 203.0.113.07 192.0.2.1 50000 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 050000 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 +5000 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n",
        "PROXY UDP4 203.0.113.7 192.0.2.1 50000 443\r\n",
    ] {
        assert_eq!(parse(bytes.as_bytes()), None, "{bytes:?}");
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "a".repeat(100));
    assert_eq!(parse(long.as_bytes()), None);
    let changed = |place: usize, byte: u8| {
        let mut bytes = V2_IPV4.to_vec();
        bytes[place] = byte;
        bytes
    };
    for bytes in [
        changed(12, 0x11),   // version 1
        changed(12, 0x22),   // a command of the future
        changed(13, 0x12),   // UDP
        changed(13, 0x21),   // IPv6 in the room of IPv4
        changed(15, 11),     // shorter than the addresses
        changed(14, 0x11),   // more than 4096 bytes
        v2(b"\x04\0\x03no"), // a vector that goes on beyond the header
        v2(b"\x04\0"),       // or begins there
        v2(b"\x02\0\x00"),   // a name that is none
        v2(b"\x02\0\x03a\r\n"),
        v2(b"\x20\0\x04\x01\0\0\0"),             // TLS without its five bytes
        v2(b"\x20\0\x08\x01\0\0\0\0\x21\0\x07"), // or with a vector too long for it
        v2(b"\x03\0\x03\0\0\0"),
    ] {
        assert_eq!(parse(&bytes), None, "{bytes:?}");
    }
    let line = b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\n";
    assert_eq!(progress(V2_IPV4, Versions::V1), Err(Error::Missing));
    assert_eq!(progress(line, Versions::V2), Err(Error::Missing));
}

proptest! {
    /// Nothing that changes one byte of a header makes it longer than it is, and no bytes surprise.
    #[test]
    fn no_bytes_surprise(place in 0..V2_IPV4.len(), byte: u8, tail in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = [V2_IPV4, &tail].concat();
        bytes[place] = byte;
        if let Some((_, length)) = parse(&bytes) {
            prop_assert!(length <= bytes.len());
        }
        let line = [b"PROXY ".as_slice(), &tail, b"\r\n"].concat();
        let _ = parse(&line);
    }
}
