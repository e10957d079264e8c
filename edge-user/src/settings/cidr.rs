//! Address ranges. An IPv4 address that came in IPv6 clothes is the IPv4 address.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`; a lone address is a range of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cidr(IpNet);

impl Cidr {
    /// Reads a range. Host bits are cut off; an IPv4-mapped IPv6 range becomes the IPv4 one.
    pub fn parse(text: &str) -> Option<Self> {
        let net = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
        };
        if let IpNet::V6(v6) = net
            && let (Some(v4), Some(bits)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
        {
            return Ipv4Net::new(v4, bits).ok().map(|net| Self(IpNet::V4(net.trunc())));
        }
        Some(Self(net.trunc()))
    }

    /// Whether the address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// How many leading bits are fixed.
    pub fn prefix_bits(&self) -> u8 {
        self.0.prefix_len()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_addresses_and_no_others() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
            ("10.1.2.3/8", "10.9.9.9", "9.255.255.255"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9"),
            ("2001:db8::/32", "2001:db8::1", "2001:db9::1"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("::/0", "::1", "8.8.8.8"),
        ] {
            let cidr = Cidr::parse(range).unwrap();
            assert!(cidr.contains(inside.parse().unwrap()), "{range} {inside}");
            assert!(!cidr.contains(outside.parse().unwrap()), "{range} {outside}");
        }
        assert_eq!(Cidr::parse("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        let cidr = Cidr::parse("2001:db8::/32").unwrap();
        assert_eq!((cidr.address(), cidr.prefix_bits()), ("2001:db8::".parse().unwrap(), 32));
    }

    #[test]
    fn other_texts_are_no_ranges() {
        for text in ["", "10.0.0.0/33", "10.0.0", "10.0.0.0/", "::/129", "host", "10.0.0.0/-1", "10.0.0.0/8 "] {
            assert!(Cidr::parse(text).is_none(), "{text:?}");
        }
    }
}
