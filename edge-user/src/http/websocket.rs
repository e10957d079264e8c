//! Where WebSocket frames begin and end (RFC 6455, 5.2) in bytes that pass by, so that a Close frame can be put between
//! two of them. Nothing is buffered, and content is not looked at.

/// Close frame of a server, code 1008 (policy violation), as a client sees it when its token has expired.
pub const TOKEN_EXPIRED: &[u8] = b"\x88\x0f\x03\xf0token expired";

const CLOSE: u8 = 8;
const MASKED: u8 = 0x80;

/// The frames of one direction.
#[derive(Clone, Default, Debug)]
pub struct Frames {
    /// Bytes of the frame's head seen so far; 0 between two frames and in a payload.
    head: u8,
    /// Bytes the head has in all, but for the masking key.
    head_bytes: u8,
    masked: bool,
    /// The payload's length as far as it was read.
    length: u64,
    /// Bytes of masking key and payload still to come.
    left: u64,
    closed: bool,
}

impl Frames {
    /// Takes note of bytes that went by.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len() as u64);
                self.left -= taken;
                bytes = &bytes[taken as usize..];
                continue;
            }
            self.head_byte(*first);
            bytes = rest;
        }
    }

    fn head_byte(&mut self, byte: u8) {
        match self.head {
            0 => {
                self.closed |= byte & 0x0f == CLOSE;
                self.head_bytes = 2;
            }
            1 => {
                self.masked = byte & MASKED != 0;
                (self.length, self.head_bytes) = match byte & !MASKED {
                    126 => (0, 4),
                    127 => (0, 10),
                    short => (u64::from(short), 2),
                };
            }
            _ => self.length = self.length << 8 | u64::from(byte),
        }
        self.head += 1;
        if self.head == self.head_bytes {
            self.head = 0;
            self.left = self.length.saturating_add(if self.masked { 4 } else { 0 });
        }
    }

    /// Whether a frame has ended and none has begun.
    pub fn is_between(&self) -> bool {
        self.head == 0 && self.left == 0
    }

    /// How many of the bytes that come next end the frame under way; `None` where more are needed, and after a Close
    /// frame, for nothing may follow it.
    pub fn ends_after(&self, next: &[u8]) -> Option<usize> {
        let mut frames = self.clone();
        let mut taken = 0;
        while !frames.is_between() {
            let step = usize::try_from(frames.left).unwrap_or(usize::MAX).clamp(1, next.len().max(1));
            let end = (taken + step).min(next.len());
            if end == taken {
                return None;
            }
            frames.pass(&next[taken..end]);
            taken = end;
        }
        (!frames.closed).then_some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match payload {
            0..=125 => bytes.push(mask | payload as u8),
            126..=0xffff => {
                bytes.push(mask | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend(vec![0x88; payload + if masked { 4 } else { 0 }]);
        bytes
    }

    #[test]
    fn the_close_frame_says_1008() {
        let mut frames = Frames::default();
        frames.pass(TOKEN_EXPIRED);
        assert!(frames.is_between() && frames.closed);
        assert_eq!(TOKEN_EXPIRED.len(), 2 + usize::from(TOKEN_EXPIRED[1]));
        assert_eq!(u16::from_be_bytes([TOKEN_EXPIRED[2], TOKEN_EXPIRED[3]]), 1008);
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let mut frames = Frames::default();
        frames.pass(&frame(1, 3, false));
        assert_eq!(frames.ends_after(b""), Some(0));
        let close = frame(8, 2, false);
        frames.pass(&close[..3]);
        assert_eq!((frames.ends_after(b""), frames.ends_after(&close[3..])), (None, None));
    }

    #[test]
    fn a_length_beyond_all_bounds_ends_nothing() {
        let mut frames = Frames::default();
        frames.pass(&[0x82, MASKED | 127]);
        frames.pass(&[0xff; 8]);
        frames.pass(&[0; 1000]);
        assert_eq!((frames.is_between(), frames.ends_after(&[0; 1000])), (false, None));
    }

    proptest! {
        /// However the bytes are cut, the ends of frames are found, and so is the way to the next one.
        #[test]
        fn frames_end_where_they_were_written(
            frames in prop::collection::vec(
                (0u8..8, prop::sample::select(vec![0usize, 1, 125, 126, 127, 300, 65_535, 65_536]), any::<bool>()),
                1..6,
            ),
            cuts in prop::collection::vec(1usize..70_000, 1..20),
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for (opcode, payload, masked) in frames {
                bytes.extend(frame(opcode, payload, masked));
                ends.push(bytes.len());
            }
            let (mut state, mut at) = (Frames::default(), 0);
            for cut in cuts.iter().cycle() {
                prop_assert_eq!(state.is_between(), ends.contains(&at));
                let end = *ends.iter().find(|end| **end >= at).unwrap_or(&bytes.len());
                prop_assert_eq!(state.ends_after(&bytes[at..]), Some(end - at));
                if end > at {
                    prop_assert_eq!(state.ends_after(&bytes[at..end - 1]), None);
                }
                if at == bytes.len() {
                    break;
                }
                let next = (at + cut).min(bytes.len());
                state.pass(&bytes[at..next]);
                at = next;
            }
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let (mut whole, mut parts) = (Frames::default(), Frames::default());
            whole.pass(&bytes);
            let cut = cut.min(bytes.len());
            parts.pass(&bytes[..cut]);
            parts.pass(&bytes[cut..]);
            prop_assert_eq!(format!("{whole:?}"), format!("{parts:?}"));
        }
    }
}
