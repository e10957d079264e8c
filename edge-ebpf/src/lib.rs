//! The ABI between the kernel programs and userspace: map names, capacities, keys and entries. Nothing else.
#![no_std]

pub mod rejection;

use core::mem::size_of;

/// The XDP program's name in the object.
pub const XDP_PROGRAM: &str = "edge_xdp";

/// Sources that are dropped: an LPM trie from [`SourceV4Key`] to [`DenyEntry`].
pub const DENY_V4: &str = "DENY_V4";
/// Sources that are dropped: an LPM trie from [`SourceV6Key`] to [`DenyEntry`].
pub const DENY_V6: &str = "DENY_V6";
/// What became of the frames: a per-CPU array of `u64`, indexed by [`Counter`].
pub const COUNTERS: &str = "COUNTERS";

/// How many prefixes each of the deny tries takes. The kernel allocates on insertion, so unused room costs nothing.
pub const DENY_CAPACITY: u32 = 65_536;

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
}

impl Counter {
    /// All of them, in the order of the map.
    pub const ALL: [Self; 5] = [Self::Passed, Self::DeniedV4, Self::DeniedV6, Self::NotIp, Self::Malformed];

    /// Its place in the map.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::DeniedV4 => "denied_v4",
            Self::DeniedV6 => "denied_v6",
            Self::NotIp => "not_ip",
            Self::Malformed => "malformed",
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
