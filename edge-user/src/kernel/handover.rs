//! From one generation to the next, and the end of the last.

use std::os::fd::BorrowedFd;

use tracing::info;

use super::{Kernel, loader, pins::Held};

impl Kernel {
    /// The maps with denied and penalized sources and the programs on interfaces, for the generation that follows.
    pub fn handed(&self) -> Option<BorrowedFd<'_>> {
        self.active.as_ref()?.pins.as_ref()?.handed()
    }

    /// Gives interfaces and sockets free for another generation's programs: userspace does the work from here on.
    /// `shared`: the other one puts its programs in the place of those that `handed` gave, so these stay until then.
    /// Virtual addresses lead here until `leave`, for nothing else does their work.
    pub fn detach(&self, shared: bool) {
        let Some(active) = &self.active else { return };
        // A program whose pin the other one finds is replaced where it is.
        let is_found = active.pins.as_ref().is_some_and(|pins| shared || pins.handed().is_none());
        let mut links = active.links();
        let (kept, ended): (Vec<Held>, Vec<Held>) = links.drain(..).partition(|held| is_found && held.is_pinned());
        *links = kept;
        ended.into_iter().for_each(Held::end);
        drop(links);
        active.lanes().release();
        active.rejections().detach();
        // Connections on which it answered go on with other numbers, so the programs that change these stay.
        active.kept().gates.close_all();
        info!(shared, "the kernel programs are given up for another generation's");
    }

    /// Puts the programs back on interfaces where a generation that does not serve has put its own.
    pub fn restore(&self) {
        let Some(active) = &self.active else { return };
        let mut ebpf = active.ebpf();
        let Ok(program) = loader::xdp(&mut ebpf) else { return };
        let mut links = active.links();
        *links = links.drain(..).filter_map(|held| held.restore(program)).collect();
    }

    /// Takes off interfaces what would outlive the process: it ends, and no other takes over.
    pub fn end(&self) {
        let Some(active) = &self.active else { return };
        let links = std::mem::take(&mut *active.links());
        links.into_iter().for_each(Held::end);
    }

    /// Whether the programs on interfaces were taken off for another generation.
    pub fn is_detached(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.links().len() < active.attachments.len())
    }

    /// Another generation serves: virtual addresses and the programs on interfaces are its own from here on.
    pub fn leave(&self) {
        if let Some(active) = &self.active {
            active.vips().detach();
            active.links().clear();
        }
    }
}
