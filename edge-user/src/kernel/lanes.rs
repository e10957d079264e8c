//! Lanes: which of a listener's sockets a source's connections go to.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Instant;

use aya::{
    Ebpf,
    maps::{HashMap, MapData, PerCpuArray, ReusePortSockArray},
    programs::SkReuseport,
};
use edge_ebpf::{
    LANE_COUNTERS, LANE_GOOD, LANE_OFFENDING, LANE_PROGRAM, LANE_SOCKETS, LANE_SOCKETS_CAPACITY, LANE_UNKNOWN, LANE_V4,
    LANE_V6, LANES, LaneCounter, LaneEntry, ListenerKey, STEERED, SourceV4Key, SourceV6Key, SteeredEntry, slot,
};

use super::{Error, counters::sums, loader, monotonic_ns};

/// By what is known of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// It sent a verified token lately.
    Good,
    /// Nothing is known.
    Unknown,
    /// It sent proven bad tokens lately, more than good ones.
    Offending,
}

impl Lane {
    /// All of them, in the order of their sockets.
    pub const ALL: [Self; LANES as usize] = [Self::Good, Self::Unknown, Self::Offending];

    /// How many connections a worker takes from it in one round.
    pub const fn share(self) -> usize {
        match self {
            Self::Good => 8,
            Self::Unknown => 3,
            Self::Offending => 1,
        }
    }

    const fn number(self) -> u32 {
        match self {
            Self::Good => LANE_GOOD,
            Self::Unknown => LANE_UNKNOWN,
            Self::Offending => LANE_OFFENDING,
        }
    }
}

/// Holds the maps.
pub(super) struct Lanes {
    v4: HashMap<MapData, SourceV4Key, LaneEntry>,
    v6: HashMap<MapData, SourceV6Key, LaneEntry>,
    steered: HashMap<MapData, ListenerKey, SteeredEntry>,
    sockets: ReusePortSockArray<MapData>,
    counters: PerCpuArray<MapData, u64>,
    used: u32,
}

impl Lanes {
    /// Takes over the maps.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            v4: loader::take_map(ebpf, LANE_V4)?,
            v6: loader::take_map(ebpf, LANE_V6)?,
            steered: loader::take_map(ebpf, STEERED)?,
            sockets: loader::take_map(ebpf, LANE_SOCKETS)?,
            counters: loader::take_map(ebpf, LANE_COUNTERS)?,
            used: 0,
        })
    }

    /// Has the program choose among the sockets of one listener: as many of each lane, one for each worker, lane by
    /// lane.
    pub(super) fn steer(&mut self, ebpf: &Ebpf, sockets: &[TcpListener]) -> Result<(), Error> {
        let count = u32::try_from(sockets.len()).unwrap_or(u32::MAX);
        let (base, workers) = (self.used, count / LANES);
        if count > LANE_SOCKETS_CAPACITY - base {
            return Err(Error::LaneCapacity { found: u64::from(base) + u64::from(count) });
        }
        let Some(first) = sockets.first() else { return Ok(()) };
        for (index, socket) in (0..workers * LANES).zip(sockets) {
            self.sockets.set(slot(base, 0, workers, index), socket, 0)?;
        }
        let key = listener_key(first.local_addr().map_err(Error::Socket)?);
        self.steered.insert(key, SteeredEntry { base, workers }, 0)?;
        self.used += workers * LANES;
        let program = ebpf.program(LANE_PROGRAM).ok_or(Error::Object { name: LANE_PROGRAM })?;
        let program: &SkReuseport = program.try_into().map_err(|_| Error::Object { name: LANE_PROGRAM })?;
        program.attach(first).map_err(|source| Error::Lanes { source })
    }

    /// Gives all sockets free, for another generation's map: a socket stands in one of them at a time.
    pub(super) fn release(&mut self) {
        for index in 0..self.used {
            // An empty slot leaves the choice to the kernel's hash.
            let _ = self.sockets.clear_index(&index);
        }
        self.used = 0;
    }

    /// Puts a source into a lane until then. `address`: the first of its prefix.
    pub(super) fn insert(&mut self, address: IpAddr, lane: Lane, until: Instant) -> Result<(), Error> {
        let entry = LaneEntry { expires_ns: monotonic_ns(until)?, lane: lane.number(), pad: 0 };
        match address {
            IpAddr::V4(v4) => self.v4.insert(v4.octets(), entry, 0)?,
            IpAddr::V6(v6) => self.v6.insert(v6.octets(), entry, 0)?,
        }
        Ok(())
    }

    /// Where connections went, by name.
    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        sums(&self.counters, LaneCounter::ALL.map(|counter| (counter.index(), counter.name())))
    }

    /// Entries of each family.
    pub(super) fn fill(&self) -> (usize, usize) {
        (self.v4.keys().filter(Result::is_ok).count(), self.v6.keys().filter(Result::is_ok).count())
    }
}

/// Takes another generation's program off the group of this socket, where there is one.
pub fn unsteer(socket: &TcpListener) {
    // Without one the kernel says so, and nothing is to be done.
    let _ = SkReuseport::detach(socket);
}

fn listener_key(address: SocketAddr) -> ListenerKey {
    let octets = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let (words, _) = octets.as_chunks();
    let word = |index: usize| words.get(index).map_or(0, |word| u32::from_ne_bytes(*word));
    ListenerKey { address: [word(0), word(1), word(2), word(3)], port: u32::from(address.port()) }
}
