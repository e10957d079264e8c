//! The penalty maps: which sources may not connect, until when, and at which ports.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError},
};
use edge_ebpf::{
    GUARDED_PORTS, PENALTY_V4, PENALTY_V6, PORT_WORDS, PenaltyEntry, SourceV4Key, SourceV6Key, VERDICT_DROP,
    VERDICT_OBSERVE, port_bit, port_word,
};

use super::{Error, loader, monotonic_ns};
use crate::settings::PenaltyMode;

/// Holds the maps. Addresses are the first of their prefix, as the programs cut them.
pub(super) struct Penalties {
    v4: HashMap<MapData, SourceV4Key, PenaltyEntry>,
    v6: HashMap<MapData, SourceV6Key, PenaltyEntry>,
    ports: Array<MapData, u64>,
}

impl Penalties {
    /// Takes over the maps.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            v4: loader::take_map(ebpf, PENALTY_V4)?,
            v6: loader::take_map(ebpf, PENALTY_V6)?,
            ports: loader::take_map(ebpf, GUARDED_PORTS)?,
        })
    }

    /// Makes these the ports at which penalties count, and no others.
    pub(super) fn guard(&mut self, ports: &HashSet<u16>) -> Result<(), Error> {
        let mut words = [0_u64; PORT_WORDS as usize];
        for port in ports {
            words[port_word(*port) as usize] |= port_bit(*port);
        }
        for (index, word) in (0..).zip(words) {
            self.ports.set(index, word, 0)?;
        }
        Ok(())
    }

    /// Drops new connections of this source, or counts them, until then.
    pub(super) fn insert(
        &mut self,
        address: IpAddr,
        until: Instant,
        mode: PenaltyMode,
        note: u32,
    ) -> Result<(), Error> {
        let verdict = match mode {
            PenaltyMode::Off => return Ok(()),
            PenaltyMode::Observe => VERDICT_OBSERVE,
            PenaltyMode::Enforce => VERDICT_DROP,
        };
        let entry = PenaltyEntry { expires_ns: monotonic_ns(until)?, frames: 0, verdict, note };
        match address {
            IpAddr::V4(v4) => self.v4.insert(v4.octets(), entry, 0)?,
            IpAddr::V6(v6) => self.v6.insert(v6.octets(), entry, 0)?,
        }
        Ok(())
    }

    /// Lets this source connect again.
    pub(super) fn remove(&mut self, address: IpAddr) -> Result<(), Error> {
        let removed = match address {
            IpAddr::V4(v4) => self.v4.remove(&v4.octets()),
            IpAddr::V6(v6) => self.v6.remove(&v6.octets()),
        };
        match removed {
            // The kernel forgets entries of its own accord.
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(()),
            Err(MapError::KeyNotFound) => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// Frames dropped for this source's entry, or that would have been.
    pub(super) fn frames(&self, address: IpAddr) -> Option<u64> {
        let entry = match address {
            IpAddr::V4(v4) => self.v4.get(&v4.octets(), 0),
            IpAddr::V6(v6) => self.v6.get(&v6.octets(), 0),
        };
        entry.ok().map(|entry| entry.frames)
    }

    /// What an earlier process left: addresses, when they are free, and its notes. What is over goes.
    pub(super) fn kept(&mut self) -> Result<Vec<(IpAddr, Instant, u32)>, Error> {
        let now = Instant::now();
        let now_ns = monotonic_ns(now)?;
        let v4 = self.v4.iter().flatten().map(|(key, entry)| (IpAddr::from(key), entry));
        let v6 = self.v6.iter().flatten().map(|(key, entry)| (IpAddr::from(key), entry));
        let all: Vec<(IpAddr, PenaltyEntry)> = v4.chain(v6).collect();
        let (kept, over): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, entry)| entry.expires_ns > now_ns);
        for (address, _) in over {
            self.remove(address)?;
        }
        let until = |entry: PenaltyEntry| now + Duration::from_nanos(entry.expires_ns - now_ns);
        Ok(kept.into_iter().map(|(address, entry)| (address, until(entry), entry.note)).collect())
    }

    /// Entries of each family.
    pub(super) fn fill(&self) -> (usize, usize) {
        (self.v4.keys().filter(Result::is_ok).count(), self.v6.keys().filter(Result::is_ok).count())
    }
}
