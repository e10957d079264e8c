//! Address ranges. An IPv4 address that came in IPv6 clothes is the IPv4 address.

use std::cmp::Reverse;
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

/// Many ranges as one set: sorted and without overlap, so a look-up is a binary search.
#[derive(Clone, Debug, Default)]
pub struct CidrSet {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl CidrSet {
    /// The set of these ranges.
    pub fn new(networks: &[Cidr]) -> Self {
        let (v4, v6): (Vec<Cidr>, Vec<Cidr>) = networks.iter().partition(|network| network.address().is_ipv4());
        Self { v4: merge(&v4), v6: merge(&v6) }
    }

    /// Whether the address lies in one of the ranges; an IPv4-mapped address is its IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ranges, number) = match address.to_canonical() {
            IpAddr::V4(v4) => (&self.v4, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (&self.v6, v6.to_bits()),
        };
        let after = ranges.partition_point(|(first, _)| *first <= number);
        after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| number <= *last)
    }
}

fn merge(networks: &[Cidr]) -> Vec<(u128, u128)> {
    let mut ranges: Vec<_> = networks.iter().map(range).collect();
    // Of two that begin together the wider first. They nest or are disjoint, so one that begins within another also
    // ends there.
    ranges.sort_unstable_by_key(|(first, last)| (*first, Reverse(*last)));
    ranges.dedup_by(|next, kept| next.0 <= kept.1);
    ranges
}

/// First and last address, as numbers of the family.
fn range(network: &Cidr) -> (u128, u128) {
    let (first, bits) = match network.address() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let size = 1_u128.checked_shl(bits - u32::from(network.prefix_bits()));
    (first, first | size.map_or(u128::MAX, |size| size - 1))
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

    // X1
    #[test]
    fn a_set_holds_what_its_ranges_hold() {
        let networks = ["203.0.113.0/24", "203.0.113.128/25", "198.51.100.7", "2001:db8:1::/48", "10.0.0.0/8"];
        let set = |networks: &[&str]| {
            CidrSet::new(&networks.iter().map(|network| Cidr::parse(network).unwrap()).collect::<Vec<_>>())
        };
        let list = set(&networks);
        let check = |address: &str, expected: bool| {
            assert_eq!(list.contains(address.parse().unwrap()), expected, "{address}");
        };
        check("203.0.112.255", false);
        check("203.0.113.0", true);
        check("203.0.113.255", true);
        check("203.0.114.0", false);
        check("198.51.100.6", false);
        check("198.51.100.7", true);
        check("198.51.100.8", false);
        check("::ffff:198.51.100.7", true);
        check("::198.51.100.7", false);
        check("2001:db8:0:ffff::", false);
        check("2001:db8:1::", true);
        check("2001:db8:1:ffff:ffff:ffff:ffff:ffff", true);
        check("2001:db8:2::", false);
        check("10.255.255.255", true);
        check("11.0.0.0", false);

        assert!(!CidrSet::default().contains("203.0.113.1".parse().unwrap()));
        for networks in [["10.0.0.0/16", "10.0.0.0/8"], ["10.0.0.0/8", "10.0.0.0/16"]] {
            assert!(set(&networks).contains("10.200.0.1".parse().unwrap()), "the wider of two that begin together");
        }
        let everyone = set(&["0.0.0.0/0", "::/0"]);
        assert!(everyone.contains("255.255.255.255".parse().unwrap()));
        assert!(everyone.contains("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()));
    }
}
