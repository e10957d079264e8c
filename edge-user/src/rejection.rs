//! Bad tokens on their way into the kernel, where a listener has `kernel_reject`.
//!
//! A worker that refuses the same bad token again tells one task, which tells the kernel, until a minute is over. What
//! makes tokens good that were bad (a reload, other keys) first raises the generation, so that the kernel forgets all
//! of them before any worker accepts one, and raises it again afterwards: a verdict that was under way meanwhile carries
//! the older one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::kernel::{Judged, Kernel, RejectedToken};

/// Tokens that may wait for the task; more are left to userspace.
const QUEUED: usize = 4096;
/// How long the kernel refuses a token before userspace looks at it again.
const FOR: Duration = Duration::from_secs(60);
/// How often it is looked whether there is still something to refuse.
const SWEEP: Duration = Duration::from_secs(1);
/// Bad tokens a worker remembers, by their fingerprints: those that do not come again are not worth telling.
const REMEMBERED: usize = 1024;

/// One bad token as it came.
pub struct Rejected {
    /// The listener's number.
    pub listener: u32,
    /// The listener's port.
    pub port: u16,
    /// The value of `Host`.
    pub host: Box<[u8]>,
    /// The token.
    pub token: Box<[u8]>,
    /// The generation that was in force before it was looked at.
    pub generation: u64,
    /// The answer it gets, where it ends the connection.
    pub reply: Vec<u8>,
    /// The same where it does not, and the listener has such connections.
    pub kept_reply: Option<Vec<u8>>,
}

/// What workers tell and everybody who changes verdicts raises.
pub struct Rejections {
    kernel: Arc<Kernel>,
    generation: AtomicU64,
    to: mpsc::Sender<Rejected>,
}

/// Where workers' tokens arrive.
pub struct Incoming(mpsc::Receiver<Rejected>);

impl Rejections {
    /// Nothing is rejected yet.
    pub fn new(kernel: Arc<Kernel>) -> (Arc<Self>, Incoming) {
        let (to, incoming) = mpsc::channel(QUEUED);
        let this = Arc::new(Self { kernel, generation: AtomicU64::new(0), to });
        this.invalidate();
        (this, Incoming(incoming))
    }

    /// The generation in force. To be asked before anything that a verdict depends on.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Has the kernel forget every token, before this returns. To be called before and after verdicts change.
    pub fn invalidate(&self) {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        if let Err(error) = self.kernel.set_reject_generation(generation) {
            // Whatever cannot be forgotten must not be refused either.
            tracing::error!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "the kernel does not forget rejected tokens: its programs of kernel_reject are taken off"
            );
            self.kernel.detach_rejections();
        }
    }

    /// Tells of one token, or leaves it where too many wait.
    pub fn tell(&self, rejected: Rejected) {
        let _ = self.to.try_send(rejected);
    }
}

/// Whether a bad token came before, on one worker; a token that shares another's place pushes it out.
pub struct Remembered(RefCell<Box<[u64]>>);

impl Default for Remembered {
    fn default() -> Self {
        Self(RefCell::new(vec![0; REMEMBERED].into()))
    }
}

impl Remembered {
    /// Whether the last one in its place was the same.
    pub fn comes_again(&self, fingerprint: u64) -> bool {
        let place = fingerprint as usize % REMEMBERED;
        std::mem::replace(&mut self.0.borrow_mut()[place], fingerprint) == fingerprint
    }
}

/// Writes what workers tell, until the process ends. A port is armed while some of its tokens are known.
pub async fn run(rejections: Arc<Rejections>, incoming: Incoming) {
    let Incoming(mut incoming) = incoming;
    let kernel = &rejections.kernel;
    let mut armed: HashMap<(u16, u32), Instant> = HashMap::new();
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            rejected = incoming.recv() => {
                let Some(rejected) = rejected else { return };
                let until = Instant::now() + FOR;
                let token = RejectedToken {
                    listener: rejected.listener,
                    host: &rejected.host,
                    token: &rejected.token,
                    generation: rejected.generation,
                    until,
                    reply: &rejected.reply,
                    kept_reply: rejected.kept_reply.as_deref(),
                };
                let judged = if rejected.kept_reply.is_some() { Judged::Kept } else { Judged::First };
                let place = (rejected.port, rejected.listener);
                let written = kernel.reject(&token).and_then(|()| match armed.insert(place, until) {
                    None => kernel.arm(rejected.port, rejected.listener, judged),
                    Some(_) => Ok(()),
                });
                report(written);
            }
            _ = sweep.tick() => {
                let now = Instant::now();
                let over: Vec<_> = armed.iter().filter(|(_, until)| **until <= now).map(|(place, _)| *place).collect();
                for place in over {
                    armed.remove(&place);
                    report(kernel.arm(place.0, place.1, Judged::No));
                }
            }
        }
    }
}

fn report(written: Result<(), crate::kernel::Error>) {
    if let Err(error) = written {
        // Userspace refuses what the kernel does not.
        tracing::debug!(
            error = format!("{:#}", anyhow::Error::from(error)),
            "the kernel did not take a rejected token"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_come_again_are_told_apart_from_those_that_do_not() {
        let remembered = Remembered::default();
        assert!(!remembered.comes_again(7) && remembered.comes_again(7) && remembered.comes_again(7));
        assert!(!remembered.comes_again(7 + REMEMBERED as u64));
        assert!(!remembered.comes_again(7), "its place was taken");
    }

    #[test]
    fn every_change_of_verdicts_has_a_generation_of_its_own() {
        let (rejections, _incoming) = Rejections::new(Arc::new(Kernel::disabled()));
        let before = rejections.generation();
        rejections.invalidate();
        assert_eq!(rejections.generation(), before + 1);
    }
}
