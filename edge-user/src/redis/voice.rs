//! What the log is told of one client's servers: seldom, and never what was sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Error;

/// Between two warnings about one client's servers.
const WARN: Duration = Duration::from_secs(10);

/// A client's name, and when it complained last.
pub(super) struct Voice {
    label: String,
    born: Instant,
    /// When the last warning was written, in ms since `born`; 0 for never.
    warned_ms: AtomicU64,
}

impl Voice {
    pub(super) fn new(label: String) -> Self {
        Self { label, born: Instant::now(), warned_ms: AtomicU64::new(0) }
    }

    /// The server and database, or the cluster.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Says that the server, or this node of a cluster, does not serve.
    pub(super) fn warn(&self, node: Option<&str>, error: &Error) {
        let now = self.born.elapsed().as_millis() as u64 + 1;
        let last = self.warned_ms.load(Ordering::Relaxed);
        let due = last == 0 || now - last.min(now) >= WARN.as_millis() as u64;
        let exchange = || self.warned_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due && exchange() {
            let error: &dyn std::error::Error = error;
            tracing::warn!(server = self.label, node, error, "redis does not serve");
        }
    }

    /// Says that it serves again.
    pub(super) fn again(&self, node: Option<&str>) {
        tracing::info!(server = self.label, node, "redis serves again");
    }
}
