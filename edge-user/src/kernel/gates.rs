//! The gates of kept connections: words of a map's memory that workers write and the kernel reads, without a call.

// The one place where the edge touches memory by address.
#![allow(unsafe_code, reason = "a map's memory can be had in no other way")]

use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError};
use edge_ebpf::kept::{FLOW_CAPACITY, GATES, gate};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::Error;

const BYTES: NonZeroUsize = NonZeroUsize::new(FLOW_CAPACITY as usize * size_of::<u64>()).unwrap();

/// One word per kept connection, see [`gate`]. All are closed at first.
pub struct Gates {
    words: NonNull<AtomicU64>,
    /// For good.
    closed: AtomicBool,
    /// Whose memory it is.
    _map: MapData,
}

// SAFETY: shared memory that is only touched by atomic operations.
unsafe impl Send for Gates {}
// SAFETY: as above.
unsafe impl Sync for Gates {}

impl Gates {
    /// Maps the memory, while the process may still do so.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let Some(Map::Array(map)) = ebpf.take_map(GATES) else { return Err(Error::Object { name: GATES }) };
        // SAFETY: a new mapping of the whole array, wherever there is room; its pages exist as long as the map does.
        let words = unsafe {
            mmap(None, BYTES, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, map.fd().as_fd(), 0)
        };
        let words = words.map_err(|errno| MapError::IoError(errno.into()))?.cast();
        Ok(Self { words, closed: AtomicBool::new(false), _map: map })
    }

    /// Says that the connection at this place stands between two requests: the kernel may answer the next one.
    pub fn open(&self, place: u32, read_bytes: u64, written_bytes: u64) {
        self.word(place).store(gate(read_bytes, written_bytes), Ordering::SeqCst);
        // Either this sees that all are closed, or whoever closes them sees the word.
        if self.closed.load(Ordering::SeqCst) {
            self.close(place);
        }
    }

    /// Says nothing of it.
    pub fn close(&self, place: u32) {
        self.word(place).store(0, Ordering::SeqCst);
    }

    /// Says nothing of any connection, for good: the kernel answers no more and only changes numbers.
    pub(super) fn close_all(&self) {
        self.closed.store(true, Ordering::SeqCst);
        (0..FLOW_CAPACITY).for_each(|place| self.close(place));
    }

    fn word(&self, place: u32) -> &AtomicU64 {
        assert!(place < FLOW_CAPACITY);
        // SAFETY: within the mapping, which lives as long as this; aligned, since mappings begin with a page.
        unsafe { self.words.add(place as usize).as_ref() }
    }
}

impl Drop for Gates {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped, to which nothing refers any more. It cannot fail for a mapping that exists.
        let _ = unsafe { munmap(self.words.cast(), BYTES.get()) };
    }
}
