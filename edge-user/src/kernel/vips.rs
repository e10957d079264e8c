//! Virtual addresses: which listener connections to an address of a prefix reach.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::net::{IpAddr, TcpListener};

use aya::{
    Ebpf,
    maps::{
        Array, MapData, PerCpuArray, SockMap,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{SkLookup, sk_lookup::SkLookupLink},
};
use edge_ebpf::{
    PORT_WORDS, SourceV4Key, SourceV6Key, VIP_COUNTERS, VIP_LISTENERS, VIP_LISTENERS_PER_PREFIX, VIP_PORTS,
    VIP_PROGRAM, VIP_SOCKETS, VIPS_V4, VIPS_V6, VipCounter, VipEntry, port_bit, vip_port_word,
};

use super::{Changes, Error, counters::sums, loader};
use crate::settings::{Cidr, PortRange};

/// The virtual addresses of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vips {
    /// The listener's number.
    pub listener: u32,
    /// Its prefixes.
    pub prefixes: Vec<Cidr>,
    /// Its ports.
    pub ports: Vec<PortRange>,
}

/// Holds the maps and the program's link.
pub(super) struct VirtualAddresses {
    v4: LpmTrie<MapData, SourceV4Key, VipEntry>,
    v6: LpmTrie<MapData, SourceV6Key, VipEntry>,
    ports: Array<MapData, u64>,
    sockets: SockMap<MapData>,
    counters: PerCpuArray<MapData, u64>,
    published: BTreeMap<(IpAddr, u8), VipEntry>,
    link: Option<SkLookupLink>,
}

impl VirtualAddresses {
    /// Takes over the maps, which are empty.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            v4: loader::take_map(ebpf, VIPS_V4)?,
            v6: loader::take_map(ebpf, VIPS_V6)?,
            ports: loader::take_map(ebpf, VIP_PORTS)?,
            sockets: loader::take_map(ebpf, VIP_SOCKETS)?,
            counters: loader::take_map(ebpf, VIP_COUNTERS)?,
            published: BTreeMap::new(),
            link: None,
        })
    }

    /// The socket through which a listener is found. It may stand in no lane: the kernel keeps one such place a socket.
    pub(super) fn set_socket(&mut self, listener: u32, socket: &TcpListener) -> Result<(), Error> {
        Ok(self.sockets.set(listener, socket, 0)?)
    }

    /// Lets the program look connections up, in this network namespace.
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf) -> Result<(), Error> {
        let namespace = File::open("/proc/thread-self/ns/net").map_err(Error::Socket)?;
        let program = ebpf.program_mut(VIP_PROGRAM).ok_or(Error::Object { name: VIP_PROGRAM })?;
        let program: &mut SkLookup = program.try_into().map_err(|_| Error::Object { name: VIP_PROGRAM })?;
        let attached = program.attach(namespace).and_then(|id| program.take_link(id));
        self.link = Some(attached.map_err(|source| Error::Vips { source })?);
        Ok(())
    }

    /// Takes the program off.
    pub(super) fn detach(&mut self) {
        self.link = None;
    }

    /// Makes these the virtual addresses, and no others; connections go on.
    pub(super) fn publish(&mut self, vips: &[Vips]) -> Result<Changes, Error> {
        let desired = entries(vips)?;
        for one in vips {
            self.publish_ports(one)?;
        }
        let mut changes = Changes::default();
        let gone: Vec<_> = self.published.keys().filter(|key| !desired.contains_key(key)).copied().collect();
        for key in gone {
            self.remove(key)?;
            self.published.remove(&key);
            changes.removed += 1;
        }
        for (key, entry) in desired {
            if self.published.get(&key) != Some(&entry) {
                self.insert(key, entry)?;
                self.published.insert(key, entry);
                changes.added += 1;
            }
        }
        Ok(changes)
    }

    fn publish_ports(&mut self, vips: &Vips) -> Result<(), Error> {
        let mut words = [0_u64; PORT_WORDS as usize];
        for port in vips.ports.iter().flat_map(PortRange::iter) {
            words[edge_ebpf::port_word(port) as usize] |= port_bit(port);
        }
        for (index, word) in (vip_port_word(vips.listener, 0)..).zip(words) {
            self.ports.set(index, word, 0)?;
        }
        Ok(())
    }

    fn insert(&mut self, (address, bits): (IpAddr, u8), entry: VipEntry) -> Result<(), Error> {
        match address {
            IpAddr::V4(v4) => self.v4.insert(&Key::new(u32::from(bits), v4.octets()), entry, 0)?,
            IpAddr::V6(v6) => self.v6.insert(&Key::new(u32::from(bits), v6.octets()), entry, 0)?,
        }
        Ok(())
    }

    fn remove(&mut self, (address, bits): (IpAddr, u8)) -> Result<(), Error> {
        match address {
            IpAddr::V4(v4) => self.v4.remove(&Key::new(u32::from(bits), v4.octets()))?,
            IpAddr::V6(v6) => self.v6.remove(&Key::new(u32::from(bits), v6.octets()))?,
        }
        Ok(())
    }

    /// What became of look-ups, by name.
    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        sums(&self.counters, VipCounter::ALL.map(|counter| (counter.index(), counter.name())))
    }

    /// Prefixes of each family.
    pub(super) fn fill(&self) -> (usize, usize) {
        let v4 = self.published.keys().filter(|(address, _)| address.is_ipv4()).count();
        (v4, self.published.len() - v4)
    }
}

/// The trie finds the longest prefix alone, so each names the listeners of those around it as well, its own first.
fn entries(vips: &[Vips]) -> Result<BTreeMap<(IpAddr, u8), VipEntry>, Error> {
    if let Some(vips) = vips.iter().find(|vips| vips.listener >= VIP_LISTENERS) {
        return Err(Error::VipListeners { found: vips.listener + 1 });
    }
    let all: HashSet<Cidr> = vips.iter().flat_map(|vips| vips.prefixes.iter().copied()).collect();
    let mut entries = BTreeMap::new();
    for prefix in all {
        // The narrowest first, so that a listener of the prefix itself goes before one of a wider one.
        let mut around: Vec<(u8, u32)> = vips
            .iter()
            .flat_map(|vips| vips.prefixes.iter().map(move |other| (other, vips.listener)))
            .filter(|(other, _)| other.prefix_bits() <= prefix.prefix_bits() && other.contains(prefix.address()))
            .map(|(other, listener)| (u8::MAX - other.prefix_bits(), listener))
            .collect();
        around.sort_unstable();
        let mut entry = VipEntry { count: 0, listeners: [0; VIP_LISTENERS_PER_PREFIX] };
        for (_, listener) in around {
            let known = &entry.listeners[..entry.count as usize];
            if known.contains(&(listener as u16)) {
                continue;
            }
            let Some(place) = entry.listeners.get_mut(entry.count as usize) else {
                return Err(Error::VipsOfPrefix { prefix: prefix.to_string() });
            };
            *place = listener as u16;
            entry.count += 1;
        }
        entries.insert((prefix.address(), prefix.prefix_bits()), entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vips(listener: u32, prefixes: &[&str]) -> Vips {
        let prefixes = prefixes.iter().map(|text| Cidr::parse(text).unwrap()).collect();
        Vips { listener, prefixes, ports: Vec::new() }
    }

    #[test]
    fn a_prefix_within_another_knows_the_listeners_of_both() {
        let all = [vips(0, &["203.0.113.0/24"]), vips(1, &["203.0.113.7", "2001:db8::/32"]), vips(2, &["0.0.0.0/0"])];
        let entries = entries(&all).unwrap();
        let listeners = |address: &str, bits: u8| {
            let entry = entries[&(address.parse().unwrap(), bits)];
            entry.listeners[..entry.count as usize].to_vec()
        };
        assert_eq!(listeners("203.0.113.0", 24), [0, 2]);
        assert_eq!(listeners("203.0.113.7", 32), [1, 0, 2]);
        assert_eq!(listeners("0.0.0.0", 0), [2]);
        assert_eq!(listeners("2001:db8::", 32), [1]);
        assert_eq!(entries.len(), 4);
    }

    #[test]
    fn what_the_maps_cannot_hold_is_refused() {
        let many: Vec<Vips> = (0..9).map(|listener| vips(listener, &["203.0.113.0/24"])).collect();
        assert!(matches!(entries(&many), Err(Error::VipsOfPrefix { prefix }) if prefix == "203.0.113.0/24"));
        assert!(entries(&many[..8]).is_ok());
        assert!(matches!(entries(&[vips(VIP_LISTENERS, &[])]), Err(Error::VipListeners { .. })));
    }
}
