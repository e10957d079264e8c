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

    /// Every counter that can be read, by name: one that cannot is left out, since a made-up value would be worse.
    pub(super) fn read(&self) -> Vec<(&'static str, u64)> {
        let sum = |counter: Counter| {
            let values = self.map.get(&counter.index(), 0).ok()?;
            Some((counter.name(), values.iter().sum()))
        };
        Counter::ALL.into_iter().filter_map(sum).collect()
    }
}
