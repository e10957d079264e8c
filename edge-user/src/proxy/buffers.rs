//! What a worker holds of bodies for clients that are slow, all of them together.

use std::cell::Cell;
use std::rc::Rc;

use crate::http::buffer::KEEP_BYTES;

/// Bytes that are taken at once.
const STEP: usize = 64 << 10;
/// Bytes of each body that have room of their own: as many as come at once, or a body that nothing waits of would wait for
/// room.
const AT_HAND: usize = KEEP_BYTES;

/// A worker's share of `limits.buffered_bytes`.
pub struct Buffers {
    left: Rc<Cell<usize>>,
}

/// What one body has of it, until this is dropped.
pub(crate) struct Part {
    left: Rc<Cell<usize>>,
    bytes: usize,
}

impl Buffers {
    /// So many bytes, of which nobody has any.
    pub fn new(bytes: usize) -> Self {
        Self { left: Rc::new(Cell::new(bytes)) }
    }

    /// Nothing yet, for a body.
    pub(crate) fn part(&self) -> Part {
        Part { left: self.left.clone(), bytes: 0 }
    }
}

impl Part {
    /// Whether one more byte beside so many has room, here or in what is left.
    pub(crate) fn has_room(&mut self, bytes: usize) -> bool {
        while bytes >= AT_HAND.max(self.bytes) {
            let taken = STEP.min(self.left.get());
            if taken == 0 {
                return false;
            }
            self.left.set(self.left.get() - taken);
            self.bytes += taken;
        }
        true
    }

    /// Gives all of it back.
    pub(crate) fn clear(&mut self) {
        self.left.set(self.left.get() + std::mem::take(&mut self.bytes));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_what_there_is_and_give_it_back() {
        let buffers = Buffers::new(3 * STEP);
        let (mut one, mut two) = (buffers.part(), buffers.part());
        assert!(one.has_room(AT_HAND) && one.has_room(STEP) && one.has_room(2 * STEP - 1));
        assert!(two.has_room(STEP - 1) && !two.has_room(STEP));
        // What it has stays its own.
        assert!(two.has_room(AT_HAND) && !one.has_room(2 * STEP));
        drop(one);
        assert!(two.has_room(2 * STEP) && !buffers.part().has_room(AT_HAND) && buffers.part().has_room(AT_HAND - 1));
        two.clear();
        assert_eq!(buffers.left.get(), 3 * STEP);
        drop(two);
        assert_eq!(buffers.left.get(), 3 * STEP);
    }

    #[test]
    fn what_is_less_than_a_step_is_used_as_well() {
        let buffers = Buffers::new(AT_HAND + 1);
        let (mut one, mut two) = (buffers.part(), buffers.part());
        assert!(one.has_room(AT_HAND) && !one.has_room(AT_HAND + 1) && !two.has_room(AT_HAND));
        let none = Buffers::new(0);
        assert!(none.part().has_room(AT_HAND - 1) && !none.part().has_room(AT_HAND));
    }
}
