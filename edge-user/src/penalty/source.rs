//! Who is judged as one: an address, or a prefix of addresses that one party is given.

use std::fmt;
use std::net::IpAddr;

use crate::settings::{Cidr, Penalty};

/// The first address of a prefix, and its length. IPv4 in IPv6 clothes is IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Source {
    address: IpAddr,
    bits: u8,
}

impl Source {
    /// The source an address belongs to by these rules.
    pub fn of(address: IpAddr, rules: &Penalty) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let mask = v4_mask(rules.ipv4_prefix);
                Self { address: IpAddr::V4((v4.to_bits() & mask).into()), bits: rules.ipv4_prefix }
            }
            IpAddr::V6(v6) => {
                let mask = v6_mask(rules.ipv6_prefix);
                Self { address: IpAddr::V6((v6.to_bits() & mask).into()), bits: rules.ipv6_prefix }
            }
        }
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether it shares an address with this range.
    pub fn overlaps(&self, range: &Cidr) -> bool {
        let same_family = self.address.is_ipv4() == range.address().is_ipv4();
        same_family && (range.contains(self.address) || self.contains(range.address()))
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => own.to_bits() == other.to_bits() & v4_mask(self.bits),
            (IpAddr::V6(own), IpAddr::V6(other)) => own.to_bits() == other.to_bits() & v6_mask(self.bits),
            _ => false,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        match self.bits == whole {
            true => self.address.fmt(f),
            false => write!(f, "{}/{}", self.address, self.bits),
        }
    }
}

/// The leading bits of an IPv4 address.
pub(crate) fn v4_mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

/// The leading bits of an IPv6 address.
pub(crate) fn v6_mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_prefix_are_one_source() {
        let rules = Penalty { ipv4_prefix: 24, ..Penalty::default() };
        let check = |address: &str, expected: &str| {
            assert_eq!(Source::of(address.parse().unwrap(), &rules).to_string(), expected, "{address}");
        };
        check("192.0.2.7", "192.0.2.0/24");
        check("::ffff:192.0.2.200", "192.0.2.0/24");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64");
        let whole = Penalty { ipv6_prefix: 128, ..Penalty::default() };
        assert_eq!(Source::of("192.0.2.7".parse().unwrap(), &whole).to_string(), "192.0.2.7");
        assert_eq!(Source::of("2001:db8::6".parse().unwrap(), &whole).to_string(), "2001:db8::6");
    }

    #[test]
    fn ranges_overlap_where_one_holds_the_other() {
        let rules = Penalty::default();
        let check = |address: &str, range: &str, expected: bool| {
            let (source, range) = (Source::of(address.parse().unwrap(), &rules), Cidr::parse(range).unwrap());
            assert_eq!(source.overlaps(&range), expected, "{address} {range}");
        };
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7", "192.0.0.0/16", true);
        check("192.0.2.7", "192.0.2.8", false);
        check("192.0.2.7", "::/0", false);
        check("2001:db8:1:2::9", "2001:db8:1:2::77", true);
        check("2001:db8:1:2::9", "2001:db8:1:3::77", false);
        check("2001:db8:1:2::9", "2001:db8::/32", true);
        check("2001:db8:1:2::9", "0.0.0.0/0", false);
    }
}
