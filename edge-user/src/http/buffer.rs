//! The bytes a peer has sent and nobody has consumed yet: one allocation, filled at the end, consumed at the front.

use std::io;
use std::task::{Context, Poll, ready};

use super::io::Io;

/// First allocation: holds a usual request with its token.
const FIRST_BYTES: usize = 4 * 1024;

/// What an idle connection may keep.
const KEEP_BYTES: usize = 16 * 1024;

/// A read buffer that grows up to a bound its owner names at each fill.
#[derive(Default)]
pub struct Buffer {
    /// Always initialised to its whole length, so reading needs no unsafe code and no zeroing.
    data: Vec<u8>,
    start: usize,
    end: usize,
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
        let n = ready!(io.poll_read(cx, &mut self.data[self.end..]))?;
        self.end += n;
        Poll::Ready(Ok(n))
    }

    fn make_room(&mut self, bound: usize) {
        debug_assert!(self.end - self.start < bound);
        if self.data.is_empty() {
            self.data.resize(FIRST_BYTES.min(bound), 0);
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
