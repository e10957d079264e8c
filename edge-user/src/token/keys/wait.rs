//! What a judgement without its key waits for, and how it goes on.

use std::time::Duration;
use tokio::sync::watch;

/// Whether a judgement is the first of a request, or the one after its wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// May lead to a wait.
    First,
    /// After a fetch that was under way already, and may have asked before the key was there: may lead to another.
    Joined,
    /// Must end in a verdict: the fetch has ended.
    Waited,
    /// The same after a wait that was too long: the fetch may still be on its way.
    GivenUp,
}

/// What a missing key leads to.
pub enum Missing {
    /// A fetch is under way; judge again after it.
    Wait(KeyWait),
    /// The set is as fresh as it may be, and the key is not in it.
    Unknown,
    /// Nobody can say: no keys, or the last fetch failed.
    Unavailable {
        /// For `Retry-After`.
        retry_after_secs: u32,
    },
}

/// The end of a fetch, or of `timeouts.key_wait`.
#[derive(Debug)]
pub struct KeyWait {
    pub(super) done: watch::Receiver<()>,
    pub(super) limit: Duration,
    /// Whether the fetch was under way before.
    pub(super) joined: bool,
}

impl KeyWait {
    /// Waits; then judge again with this attempt.
    pub async fn done(mut self) -> Attempt {
        // Time-out and a source that was dropped alike: the second judgement decides.
        let ended = tokio::time::timeout(self.limit, self.done.changed()).await;
        match ended {
            Ok(_) if self.joined => Attempt::Joined,
            Ok(_) => Attempt::Waited,
            Err(_) => Attempt::GivenUp,
        }
    }
}
