//! The bytes a peer has sent and nobody has consumed yet: one allocation, filled at the end, consumed at the front.

use std::io;
use std::task::{Context, Poll, ready};

use super::io::Io;

/// First allocation: holds a usual request with its token.
const FIRST_BYTES: usize = 4 * 1024;

/// What an empty buffer may keep, and grows to while each read fills it.
pub(crate) const KEEP_BYTES: usize = 16 * 1024;

/// A read buffer that grows up to a bound its owner names at each fill.
#[derive(Default)]
pub struct Buffer {
    /// Always initialised to its whole length, so reading needs no unsafe code and no zeroing.
    data: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read took all there was room for: the peer has more, and a longer buffer saves calls.
    was_filled: bool,
}

impl Buffer {
    /// What stands here and was not consumed.
    pub fn filled(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// Whether nothing stands here.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// What it takes of memory.
    #[cfg(test)]
    pub fn reserved_bytes(&self) -> usize {
        self.data.len()
    }

    /// Drops `n` bytes at the front.
    pub fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.end - self.start);
        self.start += n;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Gives an empty buffer's memory back if a large message made it grow; an idle connection then costs little.
    pub fn shrink(&mut self) {
        if self.is_empty() && self.data.len() > KEEP_BYTES {
            *self = Self::default();
        }
    }

    /// Gives an empty buffer's memory back: nothing is read for a while.
    pub fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Puts bytes in front of what the peer will send: those another reader took off the stream too early.
    pub fn prefill(&mut self, bytes: &[u8]) {
        debug_assert!(self.is_empty());
        self.data.resize(bytes.len().max(FIRST_BYTES), 0);
        self.data[..bytes.len()].copy_from_slice(bytes);
        (self.start, self.end) = (0, bytes.len());
    }

    /// Reads once. `Ok(0)` is the peer's end. The buffer holds at most `bound` bytes; a full one is an error of the
    /// caller, who must have refused the message by then.
    pub fn poll_fill(&mut self, io: &Io, bound: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room(bound);
        let room = &mut self.data[self.end..];
        let length = room.len();
        let n = ready!(io.poll_read(cx, room))?;
        self.end += n;
        self.was_filled = n == length;
        Poll::Ready(Ok(n))
    }

    fn make_room(&mut self, bound: usize) {
        debug_assert!(self.end - self.start < bound);
        if self.data.is_empty() {
            self.data.resize(FIRST_BYTES.min(bound), 0);
        } else if self.is_empty() && std::mem::take(&mut self.was_filled) && self.data.len() < bound.min(KEEP_BYTES) {
            self.data.resize((self.data.len() * 2).min(bound), 0);
        }
        // Half the buffer free is enough; moving bytes is rarer then than reading them.
        if self.data.len() - self.end >= self.data.len() / 2 {
            return;
        }
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.data.len() - self.end < self.data.len() / 2 && self.data.len() < bound {
            self.data.resize((self.data.len() * 2).min(bound), 0);
        }
        debug_assert!(self.end < self.data.len());
    }
}
