//! The hash by which the kernel knows a token: SipHash-2-4 with 128 bits of output, as `edge-ebpf/src/siphash.rs`
//! computes it. Keyed, so that no client can choose tokens that collide.

#![deny(unsafe_code)]

use edge_ebpf::rejection::RejectKey;

/// What the kernel looks a token up by. `host` is the value of `Host` as received, port included.
pub fn reject_key(key: [u64; 2], listener: u32, host: &[u8], token: &[u8]) -> RejectKey {
    let [host_hash, _] = siphash128(key, &host.to_ascii_lowercase());
    RejectKey { token_hash: siphash128(key, token), host_hash, listener, pad: 0 }
}

/// SipHash-2-4-128, its sixteen bytes as two little-endian words, as the key's are.
fn siphash128(key: [u64; 2], input: &[u8]) -> [u64; 2] {
    let mut state = State([
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ]);
    let (words, rest) = input.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    // What is left, and in the highest byte the length, of which no more fits.
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = input.len() as u8;
    state.absorb(u64::from_le_bytes(last));
    state.0[2] ^= 0xee;
    let first = state.output();
    state.0[1] ^= 0xdd;
    [first, state.output()]
}

struct State([u64; 4]);

impl State {
    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    fn output(&mut self) -> u64 {
        for _ in 0..4 {
            self.round();
        }
        self.0.iter().fold(0, |mixed, word| mixed ^ word)
    }

    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
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
        self.0 = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors' key: the bytes 0 to 15.
    const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

    /// `vectors_sip128` of the reference implementation: of the inputs that are the bytes 0, 1, 2 …, this long.
    const VECTORS: [(u8, u128); 22] = [
        (0, 0xa3817f04ba25a8e66df67214c7550293),
        (1, 0xda87c1d86b99af44347659119b22fc45),
        (2, 0x8177228da4a45dc7fca38bdef60affe4),
        (3, 0x9c70b60c5267a94e5f33b6b02985ed51),
        (4, 0xf88164c12d9c8faf7d0f6e7c7bcd5579),
        (5, 0x1368875980776f8854527a07690e9627),
        (6, 0x14eeca338b208613485ea0308fd7a15e),
        (7, 0xa1f1ebbed8dbc153c0b84aa61ff08239),
        (8, 0x3b62a9ba6258f5610f83e264f31497b4),
        (9, 0x264499060ad9baabc47f8b02bb6d71ed),
        (10, 0x00110dc378146956c95447d3f3d0fbba),
        (11, 0x0151c568386b6677a2b4dc6f81e5dc18),
        (12, 0xd626b266905ef35882634df68532c125),
        (13, 0x9869e247e9c08b10d029934fc4b952f7),
        (14, 0x31fcefac66d7de9c7ec7485fe4494902),
        (15, 0x5493e99933b0a8117e08ec0f97cfc3d9),
        (16, 0x6ee2a4ca67b054bbfd3315bf85230577),
        (31, 0x2939b0183223fafc1723de4f52c43d35),
        (32, 0x7c3956ca5eeafc3e363e9d556546eb68),
        (33, 0x77c6077146f01c32b6b69d5f4ea9ffcf),
        (62, 0x5853542321f567a005d547a4f04759bd),
        (63, 0x5150d1772f50834a503e069a973fbd7c),
    ];

    #[test]
    fn the_hash_is_the_reference_implementation_s() {
        for (length, expected) in VECTORS {
            let input: Vec<u8> = (0..length).collect();
            let [first, second] = siphash128(KEY, &input).map(u64::to_le_bytes);
            let found = u128::from_be_bytes([first, second].concat().try_into().unwrap());
            assert_eq!(found, expected, "{length} bytes");
        }
    }

    #[test]
    fn each_part_makes_another_key_and_the_case_of_a_host_does_not() {
        let key = reject_key(KEY, 1, b"api.example", b"token");
        assert_eq!(reject_key(KEY, 1, b"API.Example", b"token"), key);
        for other in [
            reject_key([1, 2], 1, b"api.example", b"token"),
            reject_key(KEY, 2, b"api.example", b"token"),
            reject_key(KEY, 1, b"api.example:80", b"token"),
            reject_key(KEY, 1, b"api.example", b"Token"),
        ] {
            assert_ne!(other, key);
        }
    }
}
