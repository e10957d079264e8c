//! One kept connection's state, and its numbers: what a segment says is changed from the client's view to the server's
//! on the way in, and back on the way out, selective acknowledgements (RFC 2018) included.

use core::arch::asm;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_l4_csum_replace, bpf_skb_store_bytes},
};
use edge_ebpf::kept::Flow;

use crate::segment::{ACK, BARE_TCP_BYTES, Ip, Segment, load};

/// What was taken out of and put into the streams of a connection so far.
#[derive(Clone, Copy)]
pub(crate) struct Shifts {
    pub(crate) taken: u32,
    pub(crate) given: u32,
}

impl Shifts {
    /// Read at once: another CPU may change them.
    #[inline(always)]
    pub(crate) fn read(flow: *const Flow) -> Self {
        // SAFETY: a map's value; volatile, so that it stays one load.
        let both = unsafe { (&raw const (*flow).shifts).read_volatile() };
        Self { taken: both as u32, given: (both >> 32) as u32 }
    }

    #[inline(always)]
    pub(crate) fn write(self, flow: *mut Flow) {
        let both = u64::from(self.taken) | u64::from(self.given) << 32;
        // SAFETY: as above.
        unsafe { (&raw mut (*flow).shifts).write_volatile(both) }
    }

    #[inline(always)]
    pub(crate) fn is_none(self) -> bool {
        self.taken == 0 && self.given == 0
    }
}

/// Holds a connection's entry. Whoever does not get it lets the segment be lost: segments of one connection that arrive
/// on two CPUs in the same moment are rare, and TCP repeats them.
pub(crate) struct Held(*mut Flow);

impl Held {
    #[inline(always)]
    pub(crate) fn try_new(flow: *mut Flow) -> Option<Self> {
        // SAFETY: a map's value.
        (unsafe { exchange(&raw mut (*flow).lock, 1) } == 0).then_some(Self(flow))
    }

    #[inline(always)]
    pub(crate) fn release(self) {
        // SAFETY: as above.
        unsafe { exchange(&raw mut (*self.0).lock, 0) };
    }
}

/// Exchanges a word, with all writes before it seen before it. In assembly: the compiler has no such thing for this target.
///
/// # Safety
/// An aligned word of a map's value.
#[inline(always)]
unsafe fn exchange(word: *mut u64, value: u64) -> u64 {
    let mut value = value;
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "{value} = xchg_64({word} + 0, {value})",
            word = in(reg) word,
            value = inout(reg) value,
            options(nostack),
        );
    }
    value
}

/// Whether one number precedes another (RFC 9293, 3.4).
#[inline(always)]
pub(crate) const fn precedes(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

/// Adds to the numbers of a segment: of its own bytes, and of those that it acknowledges, up to one (`acknowledged`) or
/// selectively (`others`).
#[inline(always)]
pub(crate) fn renumber<I: Ip>(
    skb: *mut __sk_buff,
    segment: &Segment<I>,
    own: u32,
    acknowledged: u32,
    others: u32,
) -> Option<()> {
    const SEQUENCE: usize = 4;
    const ACKNOWLEDGEMENT: usize = 8;
    let tcp = &segment.tcp;
    let at = Segment::<I>::TCP_OFFSET;
    change::<I>(skb, at + SEQUENCE, tcp.sequence(), tcp.sequence().wrapping_add(own))?;
    if tcp.flags & ACK == 0 {
        return Some(());
    }
    let acknowledgement = tcp.acknowledgement();
    change::<I>(skb, at + ACKNOWLEDGEMENT, acknowledgement, acknowledgement.wrapping_add(acknowledged))?;
    if tcp.bytes() > BARE_TCP_BYTES as u32 {
        selective::<I>(skb, tcp.bytes(), others)?;
    }
    Some(())
}

/// Adds to the edges of the blocks of a selective acknowledgement, where there is one among the options.
#[inline(never)]
fn selective<I: Ip>(skb: *mut __sk_buff, tcp_bytes: u32, others: u32) -> Option<()> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const BLOCKS: u8 = 5;
    /// More options than systems write before that one.
    const OPTIONS: u32 = 12;
    /// Two edges of each of four blocks are all that fits.
    const EDGES: usize = 8;
    let end = Segment::<I>::TCP_OFFSET + tcp_bytes as usize;
    let mut at = Segment::<I>::TCP_OFFSET + BARE_TCP_BYTES;
    for _ in 0..OPTIONS {
        if at + 2 > end {
            return Some(());
        }
        let mut option = [0_u8; 2];
        load(skb, at, &mut option, 2)?;
        let length = usize::from(option[1]);
        match option[0] {
            END => return Some(()),
            NO_OPERATION => at += 1,
            BLOCKS => {
                for edge in 0..EDGES {
                    if 2 + 4 * (edge + 1) > length || at + 2 + 4 * (edge + 1) > end {
                        return Some(());
                    }
                    let mut number = [0_u8; 4];
                    load(skb, at + 2 + 4 * edge, &mut number, 4)?;
                    let number = u32::from_be_bytes(number);
                    change::<I>(skb, at + 2 + 4 * edge, number, number.wrapping_add(others))?;
                }
                return Some(());
            }
            _ if length < 2 => return Some(()),
            _ => at += length,
        }
    }
    Some(())
}

/// Changes one number of the TCP header, and its checksum unless that is still to be made.
#[inline(always)]
fn change<I: Ip>(skb: *mut __sk_buff, at: usize, from: u32, to: u32) -> Option<()> {
    const CHECKSUM: usize = 16;
    if from == to {
        return Some(());
    }
    let (old, new) = (u32::from_ne_bytes(from.to_be_bytes()), u32::from_ne_bytes(to.to_be_bytes()));
    // The sum is of pairs of bytes; where the number does not begin with a pair, its bytes change places in theirs.
    let paired = |number: u32| match at % 2 == Segment::<I>::TCP_OFFSET % 2 {
        true => number,
        false => (number & 0x00ff_00ff) << 8 | number >> 8 & 0x00ff_00ff,
    };
    let checksum = (Segment::<I>::TCP_OFFSET + CHECKSUM) as u32;
    // SAFETY: a valid context, and four bytes of the stack.
    unsafe {
        if bpf_l4_csum_replace(skb, checksum, paired(old).into(), paired(new).into(), 4) != 0 {
            return None;
        }
        (bpf_skb_store_bytes(skb, at as u32, (&raw const new).cast(), 4, 0) == 0).then_some(())
    }
}
