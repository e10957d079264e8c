//! The ABI of what chooses sockets: lanes (sk_reuseport) and virtual addresses (sk_lookup).

use core::mem::size_of;

/// The name of the program that chooses among the sockets of a listener.
pub const LANE_PROGRAM: &str = "edge_lane";
/// The name of the program that finds the listener of a virtual address.
pub const VIP_PROGRAM: &str = "edge_vip";

/// Which lane a source's connections take: an LRU hash from [`SourceV4Key`](crate::SourceV4Key) to [`LaneEntry`].
pub const LANE_V4: &str = "LANE_V4";
/// The same from [`SourceV6Key`](crate::SourceV6Key).
pub const LANE_V6: &str = "LANE_V6";
/// The listeners with lanes: a hash from [`ListenerKey`] to [`SteeredEntry`].
pub const STEERED: &str = "STEERED";
/// Every listening socket with a lane, at its [`slot`].
pub const LANE_SOCKETS: &str = "LANE_SOCKETS";
/// Where connections went: a per-CPU array of `u64`, indexed by [`LaneCounter`].
pub const LANE_COUNTERS: &str = "LANE_COUNTERS";
/// Virtual addresses: an LPM trie from [`SourceV4Key`](crate::SourceV4Key), here a destination, to [`VipEntry`].
pub const VIPS_V4: &str = "VIPS_V4";
/// The same from [`SourceV6Key`](crate::SourceV6Key).
pub const VIPS_V6: &str = "VIPS_V6";
/// The ports of each listener with virtual addresses: an array of `u64`, one bit a port ([`vip_port_word`]).
pub const VIP_PORTS: &str = "VIP_PORTS";
/// A socket of each listener with virtual addresses, by its number.
pub const VIP_SOCKETS: &str = "VIP_SOCKETS";
/// What became of look-ups: a per-CPU array of `u64`, indexed by [`VipCounter`].
pub const VIP_COUNTERS: &str = "VIP_COUNTERS";

/// How many sources the lane maps take; beyond, the kernel forgets the one that it saw longest ago.
pub const LANE_CAPACITY: u32 = 65_536;
/// How many listeners may have lanes.
pub const STEERED_CAPACITY: u32 = 256;
/// How many sockets may: 256 workers with all lanes on five listeners, say.
pub const LANE_SOCKETS_CAPACITY: u32 = 4096;
/// How many prefixes of virtual addresses there may be.
pub const VIP_CAPACITY: u32 = 65_536;
/// How many listeners may have virtual addresses.
pub const VIP_LISTENERS: u32 = 64;
/// How many of them may share one prefix, told apart by port.
pub const VIP_LISTENERS_PER_PREFIX: usize = 8;

/// Sources that sent a verified token lately.
pub const LANE_GOOD: u32 = 0;
/// Sources of which nothing is known.
pub const LANE_UNKNOWN: u32 = 1;
/// Sources that sent proven bad tokens lately, more than good ones.
pub const LANE_OFFENDING: u32 = 2;
/// Lanes of a listener.
pub const LANES: u32 = 3;

/// Where the socket of a lane and a worker stands: those of one listener follow its first one, lane by lane.
#[inline(always)]
pub const fn slot(base: u32, lane: u32, workers: u32, worker: u32) -> u32 {
    base + lane * workers + worker
}

/// The word of [`VIP_PORTS`] that a listener's port stands in.
#[inline(always)]
pub const fn vip_port_word(listener: u32, port: u16) -> u32 {
    listener * crate::PORT_WORDS + crate::port_word(port)
}

/// The lane of a source. Userspace writes entries whole; the kernel only reads.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneEntry {
    /// `CLOCK_MONOTONIC` time after which the entry counts no more, in nanoseconds.
    pub expires_ns: u64,
    /// One of the lanes; anything else is [`LANE_UNKNOWN`].
    pub lane: u32,
    /// Named, so that no byte is uninitialised.
    pub pad: u32,
}
const _: () = assert!(size_of::<LaneEntry>() == 16);

/// Where a group of sockets listens.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerKey {
    /// The address, network byte order; IPv4 mapped into IPv6 (RFC 4291, 2.5.5.2).
    pub address: [u32; 4],
    /// The port, host byte order.
    pub port: u32,
}
const _: () = assert!(size_of::<ListenerKey>() == 20);

/// The sockets of a listener. Userspace writes entries whole; the kernel only reads.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteeredEntry {
    /// The slot of its first socket.
    pub base: u32,
    /// Its sockets in each lane; zero steers nothing.
    pub workers: u32,
}
const _: () = assert!(size_of::<SteeredEntry>() == 8);

/// The listeners of a prefix of virtual addresses. Userspace writes entries whole; the kernel only reads.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VipEntry {
    /// How many of the numbers count.
    pub count: u32,
    /// Their numbers.
    pub listeners: [u16; VIP_LISTENERS_PER_PREFIX],
}
const _: () = assert!(size_of::<VipEntry>() == 20);

// SAFETY: `repr(C)`, integers only, and no byte that is not a field's.
#[cfg(feature = "user")]
unsafe impl aya::Pod for LaneEntry {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for ListenerKey {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for SteeredEntry {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for VipEntry {}

/// Where a connection went.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneCounter {
    /// To the lane of good sources.
    Good = 0,
    /// To the lane of unknown ones.
    Unknown = 1,
    /// To the lane of offending ones.
    Offending = 2,
    /// Where the kernel's hash chose: the slot was empty, or the listener is not steered.
    FellBack = 3,
}

impl LaneCounter {
    /// All of them, in the order of the map.
    pub const ALL: [Self; 4] = [Self::Good, Self::Unknown, Self::Offending, Self::FellBack];

    /// The counter of a lane.
    #[inline(always)]
    pub const fn of_lane(lane: u32) -> Self {
        match lane {
            LANE_GOOD => Self::Good,
            LANE_OFFENDING => Self::Offending,
            _ => Self::Unknown,
        }
    }

    /// Its place in the map.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unknown => "unknown",
            Self::Offending => "offending",
            Self::FellBack => "fell_back",
        }
    }
}

/// What became of a connection to a virtual address.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VipCounter {
    /// A listener has it.
    Assigned = 0,
    /// Its listener's socket is gone: the kernel's own look-up goes on.
    NoSocket = 1,
}

impl VipCounter {
    /// All of them, in the order of the map.
    pub const ALL: [Self; 2] = [Self::Assigned, Self::NoSocket];

    /// Its place in the map.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::NoSocket => "no_socket",
        }
    }
}
