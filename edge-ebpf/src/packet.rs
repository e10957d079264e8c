//! Bounds-checked header reads, and addresses of both families in one form.

use core::{
    arch::asm,
    array,
    mem::{MaybeUninit, size_of},
};

use aya_ebpf::{helpers::generated::bpf_xdp_load_bytes, programs::XdpContext};
use edge_ebpf::{SourceV4Key, SourceV6Key};

/// Types for which any bytes are a value, so that they may be read from a frame.
///
/// # Safety
/// Any bit pattern is valid, and alignment is 1 or of no account.
pub(crate) unsafe trait Wire: Copy {}

// SAFETY: bytes.
unsafe impl<const N: usize> Wire for [u8; N] {}
// SAFETY: integers, which are read by their address on the stack alone.
unsafe impl<const N: usize> Wire for [u32; N] {}

/// Reads a header at an offset from the frame's start; nothing where the frame ends before.
#[inline(always)]
pub(crate) fn read<T: Wire>(ctx: &XdpContext, offset: usize) -> Option<T> {
    let start = ctx.data() + offset;
    if start + size_of::<T>() <= ctx.data_end() {
        // SAFETY: within the frame, as the verifier has just seen; `Wire` has no alignment.
        return Some(unsafe { *(start as *const T) });
    }
    read_beyond(ctx, offset)
}

/// Reads the words of a header at an offset from the frame's start, as they lie there; nothing where the frame ends before.
#[inline(always)]
pub(crate) fn read_words<const WORDS: usize>(ctx: &XdpContext, offset: usize) -> Option<[u32; WORDS]> {
    let start = ctx.data() + offset;
    if start + size_of::<[u32; WORDS]>() <= ctx.data_end() {
        // SAFETY: within the frame, as the verifier has just seen.
        return Some(array::from_fn(|index| unsafe { word(start + index * size_of::<u32>()) }));
    }
    read_beyond(ctx, offset)
}

/// The word at this address. In assembly: the compiler knows no unaligned load, and would load four single bytes.
///
/// # Safety
/// Within the frame.
#[inline(always)]
unsafe fn word(address: usize) -> u32 {
    let word: u64;
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "{word} = *(u32 *)({address} + 0)",
            address = in(reg) address,
            word = lateout(reg) word,
            options(pure, readonly, nostack),
        );
    }
    word as u32
}

/// The same, where a driver left the headers outside of the part of the frame that is mapped: some put all of a large
/// frame into fragments, and such frames may not slip by.
#[inline(always)]
fn read_beyond<T: Wire>(ctx: &XdpContext, offset: usize) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes that many bytes, or fails and writes zeroes.
    let code = unsafe { bpf_xdp_load_bytes(ctx.ctx, offset as u32, value.as_mut_ptr().cast(), size_of::<T>() as u32) };
    // SAFETY: it succeeded, so the bytes are there; `Wire` takes any.
    if code == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// An IPv4 address as IPv6 writes it (RFC 4291, 2.5.5.2).
#[inline(always)]
pub(crate) fn mapped(address: SourceV4Key) -> SourceV6Key {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
