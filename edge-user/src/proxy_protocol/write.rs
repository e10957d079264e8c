//! The header that the edge itself begins connections to upstreams with.

use std::net::{IpAddr, SocketAddr};

use super::{v1, v2};

/// Names longer than this are nobody's.
const LONGEST_NAME: usize = 255;

/// Which version is sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sends {
    /// The line of text.
    V1,
    /// The binary one, with what it can tell beside addresses, and a checksum.
    V2,
}

impl Sends {
    /// What `proxy_protocol` towards upstreams may say.
    pub const WORDS: [(&str, Self); 2] = [("v1", Self::V1), ("v2", Self::V2)];

    /// The header of a connection for this client, or for the edge itself.
    pub fn header(self, told: Option<&Told<'_>>) -> Vec<u8> {
        match (self, told) {
            (Self::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
            (Self::V1, Some(told)) => {
                let (client, destination) = told.ends();
                let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
                let (from, to) = (client.port(), destination.port());
                let line = format!("PROXY {family} {} {} {from} {to}\r\n", client.ip(), destination.ip());
                debug_assert!(line.len() <= v1::LONGEST);
                line.into_bytes()
            }
            (Self::V2, told) => v2_header(told),
        }
    }
}

/// Whose connection it is, and how it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told<'a> {
    /// The client. Port 0 where a proxy in front named none.
    pub client: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
    /// The host name it asked for (SNI).
    pub authority: Option<&'a str>,
    /// Its TLS, where it speaks it.
    pub tls: Option<Tls>,
    /// What the connection is found by in the logs.
    pub unique_id: &'a str,
}

/// A client's TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// Its version.
    pub version: &'static str,
    /// The certificate it showed.
    pub certificate: Option<Shown>,
}

/// A client's certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// The name in its subject.
    pub common_name: Option<String>,
    /// Whether it was shown in this connection's own handshake, and not in that of the session it resumed.
    pub in_handshake: bool,
    /// Whether it leads to an authority of the listener's.
    pub is_verified: bool,
}

impl Told<'_> {
    /// Both addresses in one family: a header has no room for two.
    fn ends(&self) -> (SocketAddr, SocketAddr) {
        let mapped = |end: SocketAddr| match end.ip() {
            IpAddr::V4(address) => SocketAddr::new(address.to_ipv6_mapped().into(), end.port()),
            IpAddr::V6(_) => end,
        };
        match self.client.is_ipv4() == self.destination.is_ipv4() {
            true => (self.client, self.destination),
            false => (mapped(self.client), mapped(self.destination)),
        }
    }
}

fn v2_header(told: Option<&Told<'_>>) -> Vec<u8> {
    let mut bytes = v2::SIGNATURE.to_vec();
    match told {
        None => bytes.extend_from_slice(&[v2::LOCAL, v2::UNSPECIFIED, 0, 0]),
        Some(told) => {
            let (client, destination) = told.ends();
            let family = if client.is_ipv4() { v2::TCP_OVER_IPV4 } else { v2::TCP_OVER_IPV6 };
            bytes.extend_from_slice(&[v2::PROXY, family, 0, 0]);
            for end in [client, destination] {
                match end.ip() {
                    IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
                    IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
                }
            }
            bytes.extend_from_slice(&client.port().to_be_bytes());
            bytes.extend_from_slice(&destination.port().to_be_bytes());
            if let Some(name) = told.authority.filter(|name| name.len() <= LONGEST_NAME) {
                vector(&mut bytes, v2::TYPE_AUTHORITY, name.as_bytes());
            }
            vector(&mut bytes, v2::TYPE_UNIQUE_ID, told.unique_id.as_bytes());
            if let Some(tls) = &told.tls {
                vector(&mut bytes, v2::TYPE_SSL, &ssl(tls));
            }
        }
    }
    let place = bytes.len() + 3;
    vector(&mut bytes, v2::TYPE_CRC32C, &[0; 4]);
    // At most the addresses, two names, an id and the small things.
    let length = (bytes.len() - v2::FIXED) as u16;
    bytes[v2::FIXED - 2..v2::FIXED].copy_from_slice(&length.to_be_bytes());
    let sum = v2::crc32c(&bytes, place);
    bytes[place..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn ssl(tls: &Tls) -> Vec<u8> {
    let (mut client, mut unverified) = (v2::CLIENT_SSL, 1u32);
    if let Some(shown) = &tls.certificate {
        client |= v2::CLIENT_CERT_SESS;
        if shown.in_handshake {
            client |= v2::CLIENT_CERT_CONN;
        }
        unverified = u32::from(!shown.is_verified);
    }
    let mut value = vec![client];
    value.extend_from_slice(&unverified.to_be_bytes());
    // Who told of TLS in front may not have told which.
    if tls.version.starts_with("TLSv") {
        vector(&mut value, v2::SUBTYPE_SSL_VERSION, tls.version.as_bytes());
    }
    let name = tls.certificate.as_ref().and_then(|shown| shown.common_name.as_deref());
    // A part of a name is another name, and one with controls is a trap for whoever logs it.
    if let Some(name) = name.filter(|name| name.len() <= LONGEST_NAME && !name.chars().any(char::is_control)) {
        vector(&mut value, v2::SUBTYPE_SSL_CN, name.as_bytes());
    }
    value
}

/// Values are far shorter than their length can tell.
fn vector(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    bytes.push(kind);
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Preface, parse};
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn told<'a>(client: &str, destination: &str) -> Told<'a> {
        let (client, destination) = (client.parse().unwrap(), destination.parse().unwrap());
        Told { client, destination, authority: None, tls: None, unique_id: ID }
    }

    #[test]
    fn lines_are_as_the_specification_has_them() {
        for (client, destination, expected) in [
            ("203.0.113.7:50000", "192.0.2.1:443", "PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\n"),
            ("[2001:db8::7]:0", "[::1]:65535", "PROXY TCP6 2001:db8::7 ::1 0 65535\r\n"),
            ("[2001:db8::7]:1", "192.0.2.1:443", "PROXY TCP6 2001:db8::7 ::ffff:192.0.2.1 1 443\r\n"),
        ] {
            assert_eq!(Sends::V1.header(Some(&told(client, destination))), expected.as_bytes());
        }
        assert_eq!(Sends::V1.header(None), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn vectors_tell_of_the_session() {
        let check = |told: &Told<'_>, expected: &[u8]| {
            let bytes = Sends::V2.header(Some(told));
            let id = [b"\x05\0\x20", ID.as_bytes()].concat();
            let vectors = &bytes[28..bytes.len() - 7];
            let text = String::from_utf8_lossy(vectors).into_owned();
            let at = vectors.windows(id.len()).position(|part| part == id).expect("an id");
            assert_eq!([&vectors[..at], &vectors[at + id.len()..]].concat(), expected, "{text}");
            assert_eq!(&bytes[bytes.len() - 7..bytes.len() - 4], b"\x03\0\x04");
        };
        let plain = told("203.0.113.7:50000", "192.0.2.1:443");
        check(&plain, b"");
        check(&Told { authority: Some("api.test"), ..plain.clone() }, b"\x02\0\x08api.test");
        let long = "a".repeat(256);
        check(&Told { authority: Some(&long), ..plain.clone() }, b"");
        let tls = |certificate| Told { tls: Some(Tls { version: "TLSv1.3", certificate }), ..plain.clone() };
        check(&tls(None), b"\x20\0\x0f\x01\0\0\0\x01\x21\0\x07TLSv1.3");
        let shown = |name: &str, in_handshake, is_verified| {
            tls(Some(Shown { common_name: Some(name.into()), in_handshake, is_verified }))
        };
        check(&shown("bob", true, true), b"\x20\0\x15\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x03bob");
        check(&shown("bob", false, false), b"\x20\0\x15\x05\0\0\0\x01\x21\0\x07TLSv1.3\x22\0\x03bob");
        check(&shown("b\nb", true, true), b"\x20\0\x0f\x07\0\0\0\0\x21\0\x07TLSv1.3");
        check(&shown(&long, true, true), b"\x20\0\x0f\x07\0\0\0\0\x21\0\x07TLSv1.3");
        let local = Sends::V2.header(None);
        assert_eq!(local.len(), 23);
        assert_eq!(&local[..19], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x07\x03\0\x04");
    }

    fn end() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(|(address, port)| SocketAddr::new(address, port))
    }

    proptest! {
        /// Our own reader finds in it what was told, and its end.
        #[test]
        fn what_is_written_is_read_back(
            client in end(),
            destination in end(),
            authority in prop::option::of("[a-z0-9.-]{1,40}"),
            tls in prop::option::of(prop::sample::select(vec!["TLSv1.2", "TLSv1.3", "TLS"])),
            name in prop::option::of(".{0,300}"),
            flags: (bool, bool),
        ) {
            let certificate = name.map(|name| Shown {
                common_name: Some(name),
                in_handshake: flags.0,
                is_verified: flags.1,
            });
            let told = Told {
                client,
                destination,
                authority: authority.as_deref(),
                tls: tls.map(|version| Tls { version, certificate }),
                unique_id: ID,
            };
            let addresses = Some(told.ends());
            for (sends, expected) in [
                (Sends::V1, Preface { addresses, ..Preface::default() }),
                (Sends::V2, Preface { addresses, tls, authority: authority.as_deref().map(Into::into) }),
            ] {
                let header = sends.header(Some(&told));
                let length = header.len();
                prop_assert_eq!(parse(&[&header[..], b"GET /"].concat()), Some((expected, length)));
                let local = sends.header(None);
                prop_assert_eq!(parse(&local), Some((Preface::default(), local.len())));
            }
        }
    }
}
