//! The snapshot in force: many readers, one publisher.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::config::snapshot::Snapshot;

/// Holds the snapshot in force.
pub struct Store {
    current: ArcSwap<Snapshot>,
}

impl Store {
    /// A store with its first snapshot, and the one handle that may replace it.
    pub fn new(first: Snapshot) -> (Arc<Self>, Publisher) {
        let store = Arc::new(Self { current: ArcSwap::from_pointee(first) });
        (Arc::clone(&store), Publisher { store })
    }

    /// The snapshot in force, for a short look; waits for nobody.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The snapshot in force, to be held across waits: a whole request sees this one.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

/// The right to replace the snapshot. There is one, so that replacements have an order.
pub struct Publisher {
    store: Arc<Store>,
}

impl Publisher {
    /// The generation that the next snapshot should carry.
    pub fn next_generation(&self) -> u64 {
        self.store.load().generation + 1
    }

    /// Puts a snapshot into force: requests from now on see it, those under way keep theirs.
    pub fn publish(&mut self, snapshot: Snapshot) {
        self.store.current.store(Arc::new(snapshot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_keeps_its_snapshot() {
        let (store, mut publisher) = Store::new(Snapshot::empty(1));
        let held = store.load_full();
        assert_eq!(publisher.next_generation(), 2);
        publisher.publish(Snapshot::empty(2));
        assert_eq!((held.generation, store.load().generation), (1, 2));
    }
}
