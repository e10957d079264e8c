//! Bounds that the verifier sees.

use core::arch::asm;

/// The number, or the nearest bound. In assembly: the compiler drops or moves a comparison whose outcome it knows, and
/// the verifier then finds the number unbounded where a helper takes it for a length.
#[inline(always)]
pub(crate) fn between<const LEAST: u32, const MOST: u32>(number: u32) -> u32 {
    let mut bounded = u64::from(number);
    // SAFETY: arithmetic on one register.
    unsafe {
        asm!(
            "if {bounded} < {beyond} goto +1",
            "{bounded} = {most}",
            "if {bounded} > {below} goto +1",
            "{bounded} = {least}",
            beyond = const MOST + 1,
            most = const MOST,
            below = const LEAST - 1,
            least = const LEAST,
            bounded = inout(reg) bounded,
            options(pure, nomem, nostack),
        );
    }
    bounded as u32
}
