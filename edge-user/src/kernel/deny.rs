//! Which sources the operator denies: prefixes as settings spell them, and the same question answered in userspace.
//!
//! The kernel only answers earlier. Where no program runs, listeners ask [`DenyList`], so that no one gets in who would not
//! have got in otherwise.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Why a text is no prefix.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The address before the slash is none.
    #[error("`{0}` is neither an IPv4 nor an IPv6 address, nor one with `/` and a prefix length")]
    Address(String),
    /// The length behind the slash is none, or too long for the address.
    #[error("`{length}` is no prefix length from 0 to {longest}")]
    Length {
        /// What stands behind the slash.
        length: String,
        /// The longest for an address of this kind.
        longest: u8,
    },
    /// The address has bits behind the prefix: the author meant another address or another length.
    #[error("`{found}` names an address inside of its network; the network is `{network}`")]
    HostBits {
        /// What was found.
        found: String,
        /// What would be right.
        network: Cidr,
    },
}

/// A network: an address, and how many of its leading bits count (RFC 4632, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// The network's first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits count.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// The network of this length around the address; an IPv4-mapped one (RFC 4291, 2.5.5.2) is the IPv4 network.
    fn around(address: IpAddr, prefix_len: u8) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
                Self { address: Ipv4Addr::from_bits(v4.to_bits() & mask).into(), prefix_len }
            }
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) if prefix_len >= 96 => Self::around(v4.into(), prefix_len - 96),
                _ => {
                    let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
                    Self { address: Ipv6Addr::from_bits(v6.to_bits() & mask).into(), prefix_len }
                }
            },
        }
    }

    /// First and last address, as numbers of its family.
    fn range(&self) -> (u128, u128) {
        let (first, bits) = match self.address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let below = bits - u32::from(self.prefix_len);
        (first, first | 1_u128.checked_shl(below).map_or(u128::MAX, |size| size - 1))
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address_text, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address_text.parse().map_err(|_| CidrError::Address(text.to_owned()))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match length {
            None => longest,
            // `parse` would take a sign.
            Some(length) => length
                .parse()
                .ok()
                .filter(|n| *n <= longest && length.bytes().all(|c| c.is_ascii_digit()))
                .ok_or_else(|| CidrError::Length { length: length.to_owned(), longest })?,
        };
        let network = Self::around(address, prefix_len);
        let written = if network.address.is_ipv4() { address.to_canonical() } else { address };
        if written != network.address {
            return Err(CidrError::HostBits { found: text.to_owned(), network });
        }
        Ok(network)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// Whether a source is denied, asked once a connection: sorted ranges without overlap, so a look-up is a binary search.
#[derive(Clone, Debug, Default)]
pub struct DenyList {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl DenyList {
    /// The list of these networks.
    pub fn new(networks: &[Cidr]) -> Self {
        let (v4, v6): (Vec<Cidr>, Vec<Cidr>) = networks.iter().partition(|network| network.address.is_ipv4());
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
    let mut ranges: Vec<_> = networks.iter().map(Cidr::range).collect();
    ranges.sort_unstable();
    // Networks nest or are disjoint, so one that begins within the last one also ends there.
    ranges.dedup_by(|next, kept| next.0 <= kept.1);
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_written() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let found = text.parse::<Cidr>().map(|cidr| cidr.to_string()).map_err(|error| error.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        };
        check("203.0.113.0/24", Ok("203.0.113.0/24"));
        check("203.0.113.7", Ok("203.0.113.7/32"));
        check("0.0.0.0/0", Ok("0.0.0.0/0"));
        check("2001:db8::/32", Ok("2001:db8::/32"));
        check("2001:db8::1", Ok("2001:db8::1/128"));
        check("::/0", Ok("::/0"));
        check("::ffff:203.0.113.0/120", Ok("203.0.113.0/24"));
        check("::ffff:203.0.113.7", Ok("203.0.113.7/32"));
        let inside =
            |found, network| format!("`{found}` names an address inside of its network; the network is `{network}`");
        check("203.0.113.7/24", Err(&inside("203.0.113.7/24", "203.0.113.0/24")));
        check("2001:db8::1/64", Err(&inside("2001:db8::1/64", "2001:db8::/64")));
        check("::ffff:203.0.113.7/120", Err(&inside("::ffff:203.0.113.7/120", "203.0.113.0/24")));
        check("203.0.113.0/33", Err("`33` is no prefix length from 0 to 32"));
        check("203.0.113.0/+24", Err("`+24` is no prefix length from 0 to 32"));
        check("203.0.113.0/", Err("`` is no prefix length from 0 to 32"));
        check("2001:db8::/129", Err("`129` is no prefix length from 0 to 128"));
        let none = "`example.com` is neither an IPv4 nor an IPv6 address, nor one with `/` and a prefix length";
        check("example.com", Err(none));
    }

    /// X1: without a program the same sources are denied.
    #[test]
    fn userspace_denies_the_same_sources() {
        let networks = ["203.0.113.0/24", "203.0.113.128/25", "198.51.100.7", "2001:db8:1::/48", "10.0.0.0/8"];
        let list = DenyList::new(&networks.map(|network| network.parse().unwrap()));
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
        let everyone = DenyList::new(&["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
        assert!(everyone.contains("255.255.255.255".parse().unwrap()));
        assert!(everyone.contains("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()));
    }
}
