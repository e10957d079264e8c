//! The ABI between the kernel programs and userspace: map names, capacities, keys and entries. Nothing else.
#![no_std]

pub mod kept;
pub mod rejection;
mod steering;

use core::mem::size_of;

pub use steering::*;

/// Counts the layouts of the maps that may outlive a process: raised whenever one of them changes.
pub const ABI: u32 = 1;

/// The XDP program's name in the object.
pub const XDP_PROGRAM: &str = "edge_xdp";

/// Sources that are dropped: an LPM trie from [`SourceV4Key`] to [`DenyEntry`].
pub const DENY_V4: &str = "DENY_V4";
/// Sources that are dropped: an LPM trie from [`SourceV6Key`] to [`DenyEntry`].
pub const DENY_V6: &str = "DENY_V6";
/// Sources whose new connections are dropped for a while: an LRU hash from [`SourceV4Key`] to [`PenaltyEntry`].
pub const PENALTY_V4: &str = "PENALTY_V4";
/// Sources whose new connections are dropped for a while: an LRU hash from [`SourceV6Key`] to [`PenaltyEntry`].
pub const PENALTY_V6: &str = "PENALTY_V6";
/// The ports of the edge's own listeners, of which alone connections are dropped for a penalty: an array of `u64`, one
/// bit a port ([`port_word`], [`port_bit`]). Userspace writes, the kernel reads.
pub const GUARDED_PORTS: &str = "GUARDED_PORTS";
/// What became of the frames: a per-CPU array of `u64`, indexed by [`Counter`].
pub const COUNTERS: &str = "COUNTERS";
/// Some of the dropped frames, for the operator: a ring buffer of [`Sample`].
pub const SAMPLES: &str = "SAMPLES";

/// The constant with the bits of an IPv4 address that tell sources apart, network byte order; set before loading.
pub const PENALTY_V4_MASK: &str = "PENALTY_V4_MASK";
/// The constant with the bits of an IPv6 address that tell sources apart, network byte order; set before loading.
pub const PENALTY_V6_MASK: &str = "PENALTY_V6_MASK";

/// How many prefixes each of the deny tries takes. The kernel allocates on insertion, so unused room costs nothing.
pub const DENY_CAPACITY: u32 = 65_536;

/// How many sources each of the penalty maps takes; beyond, the kernel forgets the one that it saw longest ago.
pub const PENALTY_CAPACITY: u32 = 65_536;

/// Words of [`GUARDED_PORTS`].
pub const PORT_WORDS: u32 = 65_536 / u64::BITS;

/// Bytes of [`SAMPLES`]: a power of two, and pages.
pub const SAMPLES_BYTES: u32 = 64 * 1024;

/// Of the frames of one kind that are dropped on one CPU, one in this many is sampled, and the first: a flood of frames
/// must not become one of samples.
pub const SAMPLE_EVERY: u64 = 1024;

/// The word of [`GUARDED_PORTS`] that a port stands in.
#[inline(always)]
pub const fn port_word(port: u16) -> u32 {
    port as u32 / u64::BITS
}

/// The bit of that word.
#[inline(always)]
pub const fn port_bit(port: u16) -> u64 {
    1 << (port as u32 % u64::BITS)
}

/// An IPv4 address or prefix, network byte order. The trie's prefix length stands before it.
pub type SourceV4Key = [u8; 4];
const _: () = assert!(size_of::<SourceV4Key>() == 4);

/// An IPv6 address or prefix, network byte order. The trie's prefix length stands before it.
pub type SourceV6Key = [u8; 16];
const _: () = assert!(size_of::<SourceV6Key>() == 16);

/// What happens to the frames of a source. Userspace writes entries whole; the kernel only reads.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenyEntry {
    /// [`VERDICT_DROP`]; anything else passes. An integer, so that any bit pattern is valid.
    pub verdict: u32,
}
const _: () = assert!(size_of::<DenyEntry>() == 4);

/// The frame is dropped.
pub const VERDICT_DROP: u32 = 1;

// SAFETY: `repr(C)`, integers only, and no byte that is not a field's.
#[cfg(feature = "user")]
unsafe impl aya::Pod for DenyEntry {}

/// The frame is counted as if it were dropped, and passes.
pub const VERDICT_OBSERVE: u32 = 2;

/// What happens to new connections of a source that sent proven bad tokens. Userspace writes entries whole; the kernel
/// adds to `frames` alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PenaltyEntry {
    /// `CLOCK_MONOTONIC` time after which the entry counts no more, in nanoseconds.
    pub expires_ns: u64,
    /// Frames dropped for it, or that would have been; about, where many CPUs count.
    pub frames: u64,
    /// [`VERDICT_DROP`] or [`VERDICT_OBSERVE`]; anything else passes.
    pub verdict: u32,
    /// Userspace's own note of why, which the kernel does not read.
    pub note: u32,
}
const _: () = assert!(size_of::<PenaltyEntry>() == 24);

// SAFETY: `repr(C)`, integers only, and no byte that is not a field's.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PenaltyEntry {}

/// One frame that was dropped, or would have been. Written by the kernel, read by userspace.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The frame's source, network byte order; IPv4 mapped into IPv6 (RFC 4291, 2.5.5.2).
    pub source: [u8; 16],
    /// What became of it: a [`Counter`].
    pub counter: u32,
}
const _: () = assert!(size_of::<Sample>() == 20);

impl Sample {
    /// The sample in these bytes of the ring buffer; nothing where there are not as many.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (source, rest) = bytes.split_first_chunk()?;
        Some(Self { source: *source, counter: u32::from_ne_bytes(*rest.first_chunk()?) })
    }
}

/// What became of a frame. Each frame counts once, written by the kernel alone, each CPU in its own slot.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// IP, and its source is not denied.
    Passed = 0,
    /// IPv4, and its source is denied.
    DeniedV4 = 1,
    /// IPv6, and its source is denied.
    DeniedV6 = 2,
    /// Neither IPv4 nor IPv6, or below more VLAN tags than are read; passes.
    NotIp = 3,
    /// Too short for its headers, or an IP header of another version than announced; passes, the stack drops it.
    Malformed = 4,
    /// TCP, the start of a connection to a guarded port, and its source has a penalty.
    Penalized = 5,
    /// The same, where penalties are observed alone; passes.
    WouldPenalize = 6,
}

impl Counter {
    /// All of them, in the order of the map.
    pub const ALL: [Self; 7] = [
        Self::Passed,
        Self::DeniedV4,
        Self::DeniedV6,
        Self::NotIp,
        Self::Malformed,
        Self::Penalized,
        Self::WouldPenalize,
    ];

    /// Its place in the map.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// The one at this place of the map.
    pub fn of(index: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|counter| counter.index() == index)
    }

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::DeniedV4 => "denied_v4",
            Self::DeniedV6 => "denied_v6",
            Self::NotIp => "not_ip",
            Self::Malformed => "malformed",
            Self::Penalized => "penalized",
            Self::WouldPenalize => "would_penalize",
        }
    }
}

/// Slots of [`COUNTERS`].
pub const COUNTER_SLOTS: u32 = Counter::ALL.len() as u32;
const _: () = {
    let mut index = 0;
    while index < Counter::ALL.len() {
        assert!(Counter::ALL[index].index() == index as u32);
        index += 1;
    }
};
