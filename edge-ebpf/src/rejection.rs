//! The ABI of `kernel_reject`: what the kernel knows of rejected tokens, and how it answers them. Nothing else.
//!
//! Who writes: userspace, apart from [`HANDSHAKES`] and [`REJECT_COUNTERS`], which the kernel does. Integers are in host
//! byte order unless their name says otherwise.

use core::mem::size_of;

/// The program for a listener's ingress: answers first requests whose token is known to be rejected. Any order among
/// other programs is right: it never ends their chain.
pub const REJECT_PROGRAM: &str = "edge_reject";
/// The program for the same interface's egress: notes what a connection starts with. Without it, [`REJECT_PROGRAM`]
/// knows nothing of connections that wait for their first byte (`TCP_DEFER_ACCEPT`) and lets them pass.
pub const HANDSHAKE_PROGRAM: &str = "edge_handshake";

/// Clear-text listeners: a hash map from the TCP port (`u16`) to [`RejectListener`].
pub const REJECT_LISTENERS: &str = "REJECT_LISTENERS";
/// How many of them are armed: an array of one `u64`. With 0 every segment passes, at the cost of this look-up alone.
pub const REJECT_ARMED: &str = "REJECT_ARMED";
/// Rejected tokens: an LRU hash map from [`RejectKey`] to [`RejectEntry`].
pub const REJECTED: &str = "REJECTED";
/// The generation that entries must be of: an array of one `u64`.
pub const REJECT_GENERATION: &str = "REJECT_GENERATION";
/// The hash key: an array of one `[u64; 2]`, the key's sixteen bytes as two little-endian words.
pub const REJECT_KEY: &str = "REJECT_KEY";
/// Answers: an array of [`Reply`].
pub const REPLIES: &str = "REPLIES";
/// Connections whose handshake may still wait for its end: an LRU hash map from [`HandshakeKey`] to [`HandshakeEntry`].
pub const HANDSHAKES: &str = "HANDSHAKES";
/// What became of first requests: a per-CPU array of `u64`, indexed by [`RejectCounter`].
pub const REJECT_COUNTERS: &str = "REJECT_COUNTERS";

/// How many ports are listened on at most.
pub const REJECT_LISTENER_CAPACITY: u32 = 1024;
/// How many rejected tokens are known at most; the least used one makes room.
pub const REJECTED_CAPACITY: u32 = 65_536;
/// How many answers there are.
pub const REPLY_CAPACITY: u32 = 256;
/// How many handshakes are remembered; one that is forgotten lets its first request pass.
pub const HANDSHAKE_CAPACITY: u32 = 16_384;

/// The longest head that is judged, in bytes.
pub const HEAD_BYTES: u32 = 8192;
/// The longest `Host` that is judged, in bytes.
pub const HOST_BYTES: u32 = 255;
/// More fields than this are not judged.
pub const FIELDS: u32 = 64;
/// The longest answer, in bytes.
pub const REPLY_BYTES: u32 = 512;

/// What the kernel does for a listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectListener {
    /// A bit set of [`FIRST`] and [`KEPT`]; 0 lets everything pass.
    pub armed: u32,
    /// The listener's number, by which [`RejectKey`] tells it from others.
    pub listener: u32,
}
const _: () = assert!(size_of::<RejectListener>() == 8);

/// First requests of connections are judged.
pub const FIRST: u32 = 1;
/// Later ones are, too.
pub const KEPT: u32 = 2;

/// A token as a listener received it for a host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectKey {
    /// SipHash-2-4 with 128 bits of output, of the token's bytes.
    pub token_hash: [u64; 2],
    /// The first word of the same hash of the value of `Host`: as sent, port included, but in lower case.
    pub host_hash: u64,
    /// [`RejectListener::listener`].
    pub listener: u32,
    /// Zero.
    pub pad: u32,
}
const _: () = assert!(size_of::<RejectKey>() == 32);

/// Why and how long a token is rejected.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectEntry {
    /// The entry counts only while this is what [`REJECT_GENERATION`] says.
    pub generation: u64,
    /// `CLOCK_MONOTONIC` time from which the entry is ignored.
    pub expires_ns: u64,
    /// The place in [`REPLIES`] of the answer that ends its connection.
    pub reply: u32,
    /// The place of the one that does not.
    pub kept_reply: u32,
}
const _: () = assert!(size_of::<RejectEntry>() == 24);

/// One complete HTTP response. The kernel reads it without a lock: userspace writes it before an entry names it, and
/// changes it only long after the last entry that named it has expired.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How many of the bytes are sent; with 0 or more than there are, requests pass.
    pub length: u32,
    /// Zero.
    pub pad: u32,
    /// The response. Behind its length all bytes are zero: the kernel sums them all up, whatever the length.
    pub bytes: [u8; REPLY_BYTES as usize],
}
const _: () = assert!(size_of::<Reply>() == 520);

/// A connection, IPv4 addresses mapped into IPv6 (RFC 4291, 2.5.5.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeKey {
    /// Network byte order.
    pub client: [u8; 16],
    /// Network byte order.
    pub server: [u8; 16],
    /// Network byte order.
    pub client_port_be: [u8; 2],
    /// Network byte order.
    pub server_port_be: [u8; 2],
}
const _: () = assert!(size_of::<HandshakeKey>() == 36);

/// Where both streams of a connection begin, as the server's SYN-ACK told.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeEntry {
    /// The sequence number of the client's first byte.
    pub client_first: u32,
    /// The sequence number of the server's first byte.
    pub server_first: u32,
}
const _: () = assert!(size_of::<HandshakeEntry>() == 8);

/// What became of requests to an armed listener: the first data segment of a connection, or one on a kept connection.
/// Each CPU counts in its own slot.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectCounter {
    /// Answered, and the connection ended.
    Rejected = 0,
    /// Passed: nothing is known against the token.
    Unknown = 1,
    /// Passed: not exactly one head without a body and with one bearer token, all plain to see.
    NotJudged = 2,
    /// Passed: what is known is of another generation, or has expired.
    Stale = 3,
    /// Passed: rejected, but there is no usable answer.
    NoReply = 4,
    /// Rejected, but the answer could not be made or sent: the segment passes, or is lost and the client repeats it.
    Failed = 5,
    /// Answered, and the connection is kept.
    Kept = 6,
    /// Answered once more on a kept connection, whose client had not seen the answer.
    Repeated = 7,
    /// Passed on a kept connection: userspace does not stand between two requests, or bytes are under way.
    Busy = 8,
}

impl RejectCounter {
    /// All of them, in the order of the map.
    pub const ALL: [Self; 9] = [
        Self::Rejected,
        Self::Unknown,
        Self::NotJudged,
        Self::Stale,
        Self::NoReply,
        Self::Failed,
        Self::Kept,
        Self::Repeated,
        Self::Busy,
    ];

    /// Its place in the map.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::NotJudged => "not_judged",
            Self::Stale => "stale",
            Self::NoReply => "no_reply",
            Self::Failed => "failed",
            Self::Kept => "kept",
            Self::Repeated => "repeated",
            Self::Busy => "busy",
        }
    }
}

/// Slots of [`REJECT_COUNTERS`].
pub const REJECT_COUNTER_SLOTS: u32 = RejectCounter::ALL.len() as u32;
const _: () = {
    let mut index = 0;
    while index < RejectCounter::ALL.len() {
        assert!(RejectCounter::ALL[index].index() == index as u32);
        index += 1;
    }
};

// SAFETY: all of these are `repr(C)`, of integers only, and have no byte that is not a field's.
#[cfg(feature = "user")]
mod pod {
    use super::*;

    unsafe impl aya::Pod for RejectListener {}
    unsafe impl aya::Pod for RejectKey {}
    unsafe impl aya::Pod for RejectEntry {}
    unsafe impl aya::Pod for Reply {}
    unsafe impl aya::Pod for HandshakeKey {}
    unsafe impl aya::Pod for HandshakeEntry {}
}
