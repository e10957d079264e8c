//! Who the client is behind trusted proxies (P3): kong.conf's `real_ip_header` and `real_ip_recursive`, read by the rules of
//! nginx's realip module, whose settings these are.

use std::net::{IpAddr, SocketAddr};

use crate::http::head::{Head, Known, is_field_name};

/// Whose word about the client is taken, and how far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RealIp {
    /// `real_ip_header`
    pub source: Source,
    /// `real_ip_recursive`: trusted addresses in the field are passed over, from its end on. Else the last one counts.
    pub recursive: bool,
}

/// Where a trusted proxy names the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// In a field of this name.
    Field(Box<str>),
    /// In the PROXY header of the connection alone.
    ProxyProtocol,
}

impl Default for Source {
    /// Kong's.
    fn default() -> Self {
        Self::Field(Known::XRealIp.spelling().into())
    }
}

impl Source {
    /// What is wanted of `real_ip_header`.
    pub const EXPECTED: &str =
        "`X-Real-IP`, `X-Forwarded-For`, `proxy_protocol`, or another field that is no part of HTTP";

    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "proxy_protocol" {
            return Some(Self::ProxyProtocol);
        }
        let known = Known::of(text.as_bytes());
        let may = matches!(known, Known::Other | Known::XRealIp | Known::XForwardedFor);
        (may && is_field_name(text.as_bytes())).then(|| Self::Field(text.into()))
    }

    /// The field, where it is one that the edge knows from its settings alone.
    pub fn own_name(&self) -> Option<&str> {
        match self {
            Self::Field(name) => Some(&**name).filter(|name| Known::of(name.as_bytes()) == Known::Other),
            Self::ProxyProtocol => None,
        }
    }
}

impl RealIp {
    /// The client of a request: the connection's, unless that is trusted and names another. The port is 0 where only an
    /// address was named.
    pub fn client(&self, head: &Head, peer: SocketAddr, is_trusted: impl Fn(IpAddr) -> bool) -> SocketAddr {
        let Source::Field(name) = &self.source else { return peer };
        let lines: Vec<&[u8]> = (head.fields())
            .filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| field.value)
            .collect();
        let separates = |byte: &u8| matches!(byte, b',' | b' ' | b'\t');
        let words = lines.iter().rev().flat_map(|line| line.rsplit(separates)).filter(|word| !word.is_empty());
        let mut nearest = peer;
        for word in words {
            if !is_trusted(nearest.ip()) {
                break;
            }
            // Whatever stands before something unreadable was not said by a trusted proxy.
            let Some(named) = named(word) else { break };
            nearest = named;
            if !self.recursive {
                break;
            }
        }
        nearest
    }
}

/// An address, or one with a port, as in URLs. As in nginx, brackets are for IPv6 addresses that have a port.
fn named(word: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(word).ok()?;
    let (address, port) = match text.parse().ok() {
        Some(address) => (address, 0),
        // A zone is of some other host's networks, and no connection comes from port 0.
        None if text.contains('%') => return None,
        None => text.parse().ok().map(|end: SocketAddr| (end.ip(), end.port())).filter(|(_, port)| *port != 0)?,
    };
    Some(SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Owner, Version};

    const TRUSTED: &str = "10.0.0.1:5";

    fn client(source: &str, recursive: bool, peer: &str, lines: &[(&str, &str)]) -> String {
        let mut head = Head::default();
        head.start_request(b"GET", b"/", Version::Http11);
        for (name, value) in lines {
            head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
        }
        let is_trusted = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets()[0] == 10,
            IpAddr::V6(v6) => v6.segments()[0] == 0xfd00,
        };
        let rules = RealIp { source: Source::parse(source).unwrap(), recursive };
        rules.client(&head, peer.parse().unwrap(), is_trusted).to_string()
    }

    // P3
    #[test]
    fn one_field_of_trusted_peers_names_the_client() {
        for (peer, value, last, recursive) in [
            ("192.0.2.1:5", "1.1.1.1", "192.0.2.1:5", "192.0.2.1:5"),
            (TRUSTED, "1.1.1.1", "1.1.1.1:0", "1.1.1.1:0"),
            (TRUSTED, "1.1.1.1:443", "1.1.1.1:443", "1.1.1.1:443"),
            (TRUSTED, "9.9.9.9, 1.1.1.1, 10.0.0.2", "10.0.0.2:0", "1.1.1.1:0"),
            (TRUSTED, "9.9.9.9,1.1.1.1:7,10.0.0.2:8", "10.0.0.2:8", "1.1.1.1:7"),
            (TRUSTED, "9.9.9.9 1.1.1.1\t10.0.0.2 , ,", "10.0.0.2:0", "1.1.1.1:0"),
            (TRUSTED, "10.0.0.4, 10.0.0.3", "10.0.0.3:0", "10.0.0.4:0"),
            (TRUSTED, "9.9.9.9, junk, 10.0.0.2", "10.0.0.2:0", "10.0.0.2:0"),
            (TRUSTED, "9.9.9.9, junk", TRUSTED, TRUSTED),
            (TRUSTED, "", TRUSTED, TRUSTED),
            (TRUSTED, "2001:db8::1", "[2001:db8::1]:0", "[2001:db8::1]:0"),
            (TRUSTED, "[2001:db8::1]:80", "[2001:db8::1]:80", "[2001:db8::1]:80"),
            (TRUSTED, "1.1.1.1, [fd00::1]:80, fd00::2", "[fd00::2]:0", "1.1.1.1:0"),
            (TRUSTED, "::ffff:1.1.1.1", "1.1.1.1:0", "1.1.1.1:0"),
            ("[fd00::9]:5", "1.1.1.1", "1.1.1.1:0", "1.1.1.1:0"),
        ] {
            for (is_recursive, expected) in [(false, last), (true, recursive)] {
                for name in ["X-Real-IP", "X-Forwarded-For", "True-Client-IP"] {
                    let seen = client(name, is_recursive, peer, &[(&name.to_lowercase(), value)]);
                    assert_eq!(seen, expected, "{peer} {name}: {value} {is_recursive}");
                    assert_eq!(client("proxy_protocol", is_recursive, peer, &[(name, value)]), peer);
                }
            }
        }
    }

    // P3
    #[test]
    fn what_is_no_address_names_nobody() {
        for value in [
            "1.1.1",
            "1.1.1.1.1",
            "01.1.1.1",
            "1.1.1.1:",
            "1.1.1.1:0",
            "1.1.1.1:65536",
            "1.1.1.1:x",
            "1.1.1.1/32",
            "2001:db8::1]",
            "[2001:db8::1",
            "[1.1.1.1]",
            "[2001:db8::1]",
            "[2001:db8::1]:0",
            "[::1]80",
            "fe80::1%1",
            "[fe80::1%1]:80",
            "unknown",
            "_hidden",
            "localhost",
            "\"1.1.1.1\"",
            "for=1.1.1.1",
            "\u{661}.1.1.1",
        ] {
            for recursive in [false, true] {
                assert_eq!(client("X-Real-IP", recursive, TRUSTED, &[("X-Real-IP", value)]), TRUSTED, "{value}");
            }
        }
    }

    // P3
    #[test]
    fn lines_are_one_list_and_other_spellings_are_other_fields() {
        let lines = [("X-Real-IP", "9.9.9.9"), ("x-real-ip", "1.1.1.1"), ("X-REAL-IP", "10.0.0.2")];
        assert_eq!(client("X-Real-IP", false, TRUSTED, &lines), "10.0.0.2:0");
        assert_eq!(client("X-Real-IP", true, TRUSTED, &lines), "1.1.1.1:0");
        let others = [("X_Real_IP", "9.9.9.9"), ("X-Forwarded-For", "9.9.9.9"), ("X-Real-IP2", "9.9.9.9")];
        assert_eq!(client("X-Real-IP", true, TRUSTED, &others), TRUSTED);
    }

    #[test]
    fn names_are_judged() {
        for (text, expected) in [
            ("X-Real-IP", Some(None)),
            ("x-forwarded-for", Some(None)),
            ("proxy_protocol", Some(None)),
            ("True-Client-IP", Some(Some("True-Client-IP"))),
            ("Forwarded", None),
            ("Host", None),
            ("Content-Length", None),
            ("Connection", None),
            ("X Real", None),
            ("X-Real-IP:", None),
        ] {
            let source = Source::parse(text);
            assert_eq!(source.as_ref().map(Source::own_name), expected, "{text}");
        }
    }
}
