//! Samples of what the programs dropped, out of their ring buffer.

use std::net::{IpAddr, Ipv6Addr};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use edge_ebpf::{Counter, SAMPLES};

use super::{Error, loader};

/// One frame that was dropped, or would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its source.
    pub source: IpAddr,
    /// What became of it, as the counters name it.
    pub verdict: &'static str,
}

/// Reads the samples. Where nobody does the buffer fills up, and counters go on.
#[must_use = "samples are lost unless somebody takes them"]
pub struct SampleReader {
    buffer: RingBuf<MapData>,
}

impl SampleReader {
    /// Takes over the ring buffer.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self { buffer: loader::take_map(ebpf, SAMPLES)? })
    }
}

/// Those that are there by now; later there may be more.
impl Iterator for SampleReader {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        loop {
            let item = self.buffer.next()?;
            let sample = edge_ebpf::Sample::read(&item);
            let found = sample.and_then(|sample| Some((sample, Counter::of(sample.counter)?)));
            if let Some((sample, counter)) = found {
                return Some(Sample {
                    source: IpAddr::V6(Ipv6Addr::from(sample.source)).to_canonical(),
                    verdict: counter.name(),
                });
            }
        }
    }
}
