//! Signatures off the workers: a few threads of lower priority, fed by a bounded queue. An RSA signature takes as long as
//! thirty requests, so no worker makes one, and however many new tokens come, the workers keep the processors.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use serde_json::json;

use crate::crypto::sign::SigningKey;
use crate::token::resigned::Making;

/// Tokens that wait for a signature: what a thread signs by RSA in about a second.
const MAX_WAITING: usize = 2048;
/// What the threads stand back by (setpriority(2)).
const NICENESS: i32 = 10;

/// One token to sign.
pub(super) struct Job {
    /// What with.
    pub(super) key: Arc<SigningKey>,
    /// Its claims.
    pub(super) payload: Vec<u8>,
    /// Who waits for it.
    pub(super) making: Making,
}

/// The threads and their queue; one for the process. They are started by the first token, and anew where none is left.
#[derive(Default)]
pub struct Signatures(ArcSwapOption<SyncSender<Job>>);

impl Signatures {
    /// Has a token signed. Where too many wait already, or none can be, whoever waits for it is released without.
    pub(super) fn sign(&self, job: Job) {
        let queue = self.0.load_full().unwrap_or_else(|| {
            let started = Arc::new(start());
            // Another worker's may be there by now: the threads of this one end then with their queue.
            let before = self.0.compare_and_swap(&None::<Arc<_>>, Some(Arc::clone(&started)));
            Option::clone(&before).unwrap_or(started)
        });
        match queue.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => tracing::warn!("[jwt-signer] too many tokens wait for a signature"),
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!("[jwt-signer] no thread signs tokens");
                self.0.store(None);
            }
        }
    }
}

fn start() -> SyncSender<Job> {
    let (sender, receiver) = sync_channel(MAX_WAITING);
    let receiver = Arc::new(Mutex::new(receiver));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..cores.div_ceil(2) {
        let receiver = Arc::clone(&receiver);
        let spawned = std::thread::Builder::new().name("edge-sign".to_owned()).spawn(move || run(&receiver));
        if let Err(error) = spawned {
            tracing::error!(%error, "[jwt-signer] a thread cannot be started");
        }
    }
    sender
}

fn run(receiver: &Mutex<Receiver<Job>>) {
    // Of this thread alone, on Linux. A process that may not is served all the same.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    loop {
        // One waits with the lock, the others for it.
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { key, payload, making }) = next else { return };
        let header = json!({"alg": key.algorithm(), "typ": "JWT", "kid": key.kid()}).to_string();
        match key.sign_parts(header.as_bytes(), &payload) {
            Ok(token) => making.done(token.into_bytes().into()),
            Err(error) => tracing::error!(%error, kid = key.kid(), "[jwt-signer] a token cannot be signed"),
        }
    }
}
