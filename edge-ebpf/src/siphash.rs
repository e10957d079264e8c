//! SipHash-2-4 with 128 bits of output (Aumasson and Bernstein), eight bytes a word.
//!
//! Userspace computes the same in `kernel/token_hash.rs`.

/// The hash's state. Kept in a map between calls: see `scan`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SipHash {
    v: [u64; 4],
}

impl SipHash {
    #[inline(always)]
    pub(crate) const fn new(key: [u64; 2]) -> Self {
        Self {
            v: [
                key[0] ^ 0x736f_6d65_7073_6575,
                // The difference that 128 bits of output make.
                key[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
                key[0] ^ 0x6c79_6765_6e65_7261,
                key[1] ^ 0x7465_6462_7974_6573,
            ],
        }
    }

    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.v = [a, b, c, d];
    }

    #[inline(always)]
    pub(crate) fn word(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.round();
        self.v[0] ^= word;
    }

    /// The hash, after a last word that holds what remained and, in its highest byte, the length.
    #[inline(always)]
    pub(crate) fn finish(mut self, rest: u64, length: u64) -> [u64; 2] {
        self.word(rest | length << 56);
        self.v[2] ^= 0xee;
        let first = self.output();
        self.v[1] ^= 0xdd;
        [first, self.output()]
    }

    #[inline(always)]
    fn output(&mut self) -> u64 {
        self.round();
        self.round();
        self.round();
        self.round();
        self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3]
    }
}
