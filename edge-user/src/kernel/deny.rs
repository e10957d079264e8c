//! Which sources the operator denies, asked in userspace.
//!
//! The kernel only answers earlier. Where no program runs, listeners ask [`DenyList`], so that no one gets in who
//! would not have got in otherwise.

use std::net::IpAddr;

use crate::settings::Cidr;

/// Whether a source is denied, asked once a connection: sorted ranges without overlap, so a look-up is a binary search.
#[derive(Clone, Debug, Default)]
pub struct DenyList {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl DenyList {
    /// The list of these networks.
    pub fn new(networks: &[Cidr]) -> Self {
        let (v4, v6): (Vec<Cidr>, Vec<Cidr>) = networks.iter().partition(|network| network.address().is_ipv4());
        Self { v4: merge(&v4), v6: merge(&v6) }
    }

    /// Whether the source lies in one of the networks; an IPv4-mapped address is its IPv4 address.
    pub fn contains(&self, source: IpAddr) -> bool {
        let (ranges, number) = match source.to_canonical() {
            IpAddr::V4(v4) => (&self.v4, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (&self.v6, v6.to_bits()),
        };
        let after = ranges.partition_point(|(first, _)| *first <= number);
        after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| number <= *last)
    }
}

fn merge(networks: &[Cidr]) -> Vec<(u128, u128)> {
    let mut ranges: Vec<_> = networks.iter().map(range).collect();
    ranges.sort_unstable();
    // Networks nest or are disjoint, so one that begins within the last one also ends there.
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

    /// X1: without a program the same sources are denied.
    #[test]
    fn userspace_denies_the_same_sources() {
        let networks = ["203.0.113.0/24", "203.0.113.128/25", "198.51.100.7", "2001:db8:1::/48", "10.0.0.0/8"];
        let list = DenyList::new(&networks.map(|network| Cidr::parse(network).unwrap()));
        let check = |source: &str, expected: bool| {
            assert_eq!(list.contains(source.parse().unwrap()), expected, "{source}");
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

        assert!(!DenyList::default().contains("203.0.113.1".parse().unwrap()));
        let everyone = DenyList::new(&["0.0.0.0/0", "::/0"].map(|network| Cidr::parse(network).unwrap()));
        assert!(everyone.contains("255.255.255.255".parse().unwrap()));
        assert!(everyone.contains("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()));
    }
}
