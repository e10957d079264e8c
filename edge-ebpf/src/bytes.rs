//! Eight bytes in one word, the first one lowest: which of them are what, all at once.

pub(crate) const ONES: u64 = 0x0101_0101_0101_0101;
pub(crate) const HIGH: u64 = 0x80 * ONES;
/// The difference between upper and lower case.
pub(crate) const CASE: u64 = 0x20 * ONES;

/// In these, each byte of the result has its highest bit set where the condition holds, and no other bit. Bytes must be
/// ASCII.
#[inline(always)]
const fn at_least(word: u64, byte: u8) -> u64 {
    ((word | HIGH) - ONES * byte as u64) & HIGH
}

#[inline(always)]
pub(crate) const fn equal(word: u64, byte: u8) -> u64 {
    !((word ^ (ONES * byte as u64)) + (HIGH - ONES)) & HIGH
}

#[inline(always)]
const fn between(word: u64, first: u8, last: u8) -> u64 {
    at_least(word, first) & !at_least(word, last + 1)
}

#[inline(always)]
const fn alphanumeric(word: u64) -> u64 {
    between(word | CASE, b'a', b'z') | between(word, b'0', b'9')
}

/// Bytes that are not printable ASCII: line ends, tabs, controls, and whatever is beyond.
#[inline(always)]
pub(crate) const fn unprintable(word: u64) -> u64 {
    (word | !at_least(word, b' ') | ((word & !HIGH) + ONES)) & HIGH
}

/// Bytes that end a field name: all but letters, digits, `-` and `_`. More may stand there (RFC 9110, 5.6.2), but do not.
#[inline(always)]
pub(crate) const fn not_name(word: u64) -> u64 {
    let ascii = word & !HIGH;
    let name = alphanumeric(ascii) | equal(ascii, b'-') | equal(ascii, b'_');
    (word | !name) & HIGH
}

/// Bytes that end a target: all that a path and query may not hold (RFC 3986, 3.3 and 3.4).
#[inline(always)]
pub(crate) const fn not_target(word: u64) -> u64 {
    let ascii = word & !HIGH;
    // `!`, `$` to `;`, `=`, `?` to `Z`, `[`, `]`, `_`, `a` to `z`, `~`.
    let most = equal(ascii, b'!') | between(ascii, b'$', b';') | between(ascii, b'?', b'[');
    let rest = equal(ascii, b'=') | equal(ascii, b']') | equal(ascii, b'_') | equal(ascii, b'~');
    (word | !(most | rest | between(ascii, b'a', b'z'))) & HIGH
}

/// Bytes of a token before its padding (RFC 9110, 11.2).
#[inline(always)]
pub(crate) const fn token68(ascii: u64) -> u64 {
    // `-`, `.` and `/` stand in a row, and the digits follow.
    let most = between(ascii | CASE, b'a', b'z') | between(ascii, b'-', b'9');
    most | equal(ascii, b'_') | equal(ascii, b'~') | equal(ascii, b'+')
}

/// The place of the first byte that is set, 0 to 7.
#[inline(always)]
pub(crate) const fn first(mask: u64) -> u64 {
    let lowest = (mask & mask.wrapping_neg()) >> 7;
    // The multiplication moves the place into the highest byte; BPF has no instruction that counts zeroes.
    lowest.wrapping_mul(0x0001_0203_0405_0607) >> 56
}

/// Up to eight bytes as a word.
const fn text(bytes: &[u8]) -> u64 {
    let mut word = 0;
    let mut index = bytes.len();
    while index > 0 {
        index -= 1;
        word = word << 8 | bytes[index] as u64;
    }
    word
}

/// The bits that this many bytes take.
const fn mask(bytes: usize) -> u64 {
    if bytes == 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 }
}

/// Whether a word begins with this text, byte for byte.
#[inline(always)]
pub(crate) const fn begins(word: u64, expected: &[u8]) -> bool {
    word & mask(expected.len()) == text(expected)
}

/// The bit that upper and lower case differ in, where this text has a letter.
const fn letters(expected: &[u8]) -> u64 {
    let word = text(expected);
    (between(word | CASE, b'a', b'z') >> 2) & mask(expected.len())
}

/// Whether a word begins with this text, given in lower case, in any case.
#[inline(always)]
pub(crate) const fn begins_in_any_case(word: u64, expected: &[u8]) -> bool {
    (word | letters(expected)) & mask(expected.len()) == text(expected)
}

/// Printable ASCII in lower case.
#[inline(always)]
pub(crate) const fn lower(word: u64) -> u64 {
    word | between(word, b'A', b'Z') >> 2
}
