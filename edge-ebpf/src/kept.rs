//! The ABI of `kernel_reject = "kept"`: connections on which the kernel answers requests in userspace's place and then
//! hides that from the server's TCP. Nothing else.
//!
//! Sequence numbers are "the client's" as they are on the wire, and "the server's" as the local stack has them. They
//! differ by what the kernel took out of the one stream and put into the other.

use core::mem::size_of;

/// The program for a listener's ingress. Behind [`crate::rejection::REJECT_PROGRAM`]'s verdict any order is right.
pub const KEPT_PROGRAM: &str = "edge_kept";
/// The program for the same interface's egress: without it nothing is answered, for nothing would hide it.
pub const SHIFT_PROGRAM: &str = "edge_shift";

/// Kept connections: a hash map from [`crate::rejection::HandshakeKey`] to [`Flow`]. Userspace makes an entry and removes
/// it; the kernel writes all that is in it, and removes one whose addresses begin a new connection.
pub const FLOWS: &str = "FLOWS";
/// How many of them there are: an array of one `u64`, written by userspace. With 0 every segment passes.
pub const FLOW_COUNT: &str = "FLOW_COUNT";
/// Where each connection stands: an array of [`gate`]s that userspace has in its memory.
pub const GATES: &str = "GATES";

/// How many connections are kept at most; with more, userspace answers.
pub const FLOW_CAPACITY: u32 = 16_384;

/// One kept connection. All zero but for `gate` when it is made.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Not 0 while a CPU holds the entry.
    pub lock: u64,
    /// Bytes of requests taken out in the lower half, bytes of answers put in in the upper: read and written as one.
    pub shifts: u64,
    /// Its place in [`GATES`].
    pub gate: u32,
    /// The interface that segments come in by, 0 before the first one.
    pub way_in: u32,
    /// The interface that they go out by, 0 before the first one.
    pub way_out: u32,
    /// What was seen on the way in: a bit set of [`DATA`] and [`DETOUR`].
    pub seen_in: u32,
    /// What was seen on the way out: 0 or [`DETOUR`].
    pub seen_out: u32,
    /// The client's number behind all bytes that it sent, since [`DATA`].
    pub client_next: u32,
    /// The last request taken out: the client's numbers of its first byte,
    pub request_start: u32,
    /// and of what follows.
    pub request_end: u32,
    /// The client's number of the first byte of the last answer.
    pub answer_start: u32,
    /// That answer's length; 0 before the first one, and where it is long ago.
    pub answer_bytes: u32,
    /// Its place in [`crate::rejection::REPLIES`].
    pub reply: u32,
    /// The server's number of what follows that answer: all before it the client has acknowledged.
    pub server_next: u32,
    /// Not 0 until the client has acknowledged that answer. Until then nothing but the answer acknowledges the request,
    /// so that a client who lacks the one repeats the other.
    pub pending: u32,
    /// The window that the server's TCP said last, as it stands in the header.
    pub window_be: [u8; 2],
    /// Zero.
    pub pad: [u8; 2],
}
const _: () = assert!(size_of::<Flow>() == 72);

/// A segment with data came in since the entry was made.
pub const DATA: u32 = 1;
/// A segment took another interface than the first one. Where interfaces are stacked, each segment passes both, and its
/// numbers must not be changed twice: nothing is answered on such a connection.
pub const DETOUR: u32 = 2;

/// What userspace says of a connection on which it stands between two requests: the bytes that it read and wrote so
/// far, both modulo 2^32. 0 says nothing, and so does what is no longer true.
#[inline(always)]
pub const fn gate(read_bytes: u64, written_bytes: u64) -> u64 {
    read_bytes & 0xffff_ffff | written_bytes << 32
}

// SAFETY: `repr(C)`, integers only, and no byte that is not a field's.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Flow {}
