//! The only writer of the maps: desired state in, differences out.

use std::{collections::HashSet, net::IpAddr};

use aya::{
    Ebpf,
    maps::{
        MapData,
        lpm_trie::{Key, LpmTrie},
    },
};
use edge_ebpf::{DENY_CAPACITY, DENY_V4, DENY_V6, DenyEntry, SourceV4Key, SourceV6Key, VERDICT_DROP};

use super::{Error, loader};
use crate::settings::Cidr;

/// How many map entries one publication changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Entries that are new.
    pub added: usize,
    /// Entries that are gone.
    pub removed: usize,
}

/// Holds the deny tries and what stands in them.
pub(super) struct Publisher {
    v4: LpmTrie<MapData, SourceV4Key, DenyEntry>,
    v6: LpmTrie<MapData, SourceV6Key, DenyEntry>,
    published: HashSet<Cidr>,
}

impl Publisher {
    /// Takes over the maps, and knows what an earlier process left in them.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let (v4, v6) = (loader::take_map(ebpf, DENY_V4)?, loader::take_map(ebpf, DENY_V6)?);
        let mut this = Self { v4, v6, published: HashSet::new() };
        this.look();
        Ok(this)
    }

    /// Takes what stands in the maps for published, whoever wrote it.
    pub(super) fn look(&mut self) {
        let network = |address: IpAddr, bits: u32| Cidr::parse(&format!("{address}/{bits}"));
        let v4 = self.v4.keys().flatten().filter_map(|key| network(key.data().into(), key.prefix_len()));
        let v6 = self.v6.keys().flatten().filter_map(|key| network(key.data().into(), key.prefix_len()));
        self.published = v4.chain(v6).collect();
    }

    /// Makes the kernel deny exactly these networks. What cannot fit is refused before anything changes; after another
    /// error the next publication goes on from what really stands in the maps.
    pub(super) fn publish(&mut self, deny: &[Cidr]) -> Result<Changes, Error> {
        let desired: HashSet<Cidr> = deny.iter().copied().collect();
        check_capacity(&desired)?;
        let removed: Vec<Cidr> = self.published.difference(&desired).copied().collect();
        let added: Vec<Cidr> = desired.difference(&self.published).copied().collect();
        // Removals first: a full trie takes nothing new.
        for network in &removed {
            self.remove(network)?;
            self.published.remove(network);
        }
        for network in &added {
            self.insert(network)?;
            self.published.insert(*network);
        }
        Ok(Changes { added: added.len(), removed: removed.len() })
    }

    /// Denied networks of each family.
    pub(super) fn fill(&self) -> (usize, usize) {
        let v4 = self.published.iter().filter(|network| network.address().is_ipv4()).count();
        (v4, self.published.len() - v4)
    }

    fn insert(&mut self, network: &Cidr) -> Result<(), Error> {
        let entry = DenyEntry { verdict: VERDICT_DROP };
        let bits = u32::from(network.prefix_bits());
        match network.address() {
            IpAddr::V4(v4) => self.v4.insert(&Key::new(bits, v4.octets()), entry, 0)?,
            IpAddr::V6(v6) => self.v6.insert(&Key::new(bits, v6.octets()), entry, 0)?,
        }
        Ok(())
    }

    fn remove(&mut self, network: &Cidr) -> Result<(), Error> {
        let bits = u32::from(network.prefix_bits());
        match network.address() {
            IpAddr::V4(v4) => self.v4.remove(&Key::new(bits, v4.octets()))?,
            IpAddr::V6(v6) => self.v6.remove(&Key::new(bits, v6.octets()))?,
        }
        Ok(())
    }
}

fn check_capacity(desired: &HashSet<Cidr>) -> Result<(), Error> {
    let v4 = desired.iter().filter(|network| network.address().is_ipv4()).count();
    let most = v4.max(desired.len() - v4);
    if most > DENY_CAPACITY as usize {
        return Err(Error::DenyCapacity { found: most });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_own_room() {
        let networks = |count: u32, v6: bool| {
            (0..count).map(move |n| {
                let text = if v6 {
                    format!("2001:db8::{:x}:{:x}", n >> 16, n & 0xffff)
                } else {
                    std::net::Ipv4Addr::from(n).to_string()
                };
                Cidr::parse(&text).unwrap()
            })
        };
        let check = |v4: u32, v6: u32, fits: bool| {
            let desired = networks(v4, false).chain(networks(v6, true)).collect();
            assert_eq!(check_capacity(&desired).is_ok(), fits, "{v4} {v6}");
        };
        check(0, 0, true);
        check(DENY_CAPACITY, DENY_CAPACITY, true);
        check(DENY_CAPACITY + 1, 0, false);
        check(0, DENY_CAPACITY + 1, false);
    }
}
