//! Counters out: what each CPU counted, summed.

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use edge_ebpf::{COUNTERS, Counter};

use super::{Error, loader};

/// The kernel's frame counters.
pub(super) struct Counters {
    map: PerCpuArray<MapData, u64>,
}

impl Counters {
    /// Takes over the map.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self { map: loader::take_map(ebpf, COUNTERS)? })
    }

    /// Every counter that can be read, by name.
    pub(super) fn read(&self) -> Vec<(&'static str, u64)> {
        sums(&self.map, Counter::ALL.map(|counter| (counter.index(), counter.name())))
    }
}

/// The sums of these places of a map, by name: one that cannot be read is left out, since a made-up value would be worse.
pub(super) fn sums<const N: usize>(
    map: &PerCpuArray<MapData, u64>,
    places: [(u32, &'static str); N],
) -> Vec<(&'static str, u64)> {
    let sum = |(index, name): (u32, &'static str)| Some((name, map.get(&index, 0).ok()?.iter().sum()));
    places.into_iter().filter_map(sum).collect()
}
