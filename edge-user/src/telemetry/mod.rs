//! What the edge says about itself in text: the error log, the access log, and one line for each refusal.
//!
//! Every line goes through a `sink`: a bounded queue and one thread that alone writes, so no worker ever waits for a
//! disk or a pipe; lines that find the queue full are counted and dropped. Text that a client had a hand in is escaped
//! where it is written, here and nowhere else. Numbers stand in `metrics`.

use std::path::PathBuf;

mod access_log;
mod encode;
mod error_log;
mod recent;
mod refusal_log;
mod scrub;
mod sink;
#[cfg(test)]
pub(crate) mod testing;

pub use access_log::{AccessLog, AccessWriter, KernelRecord, Record, SessionRecord};
pub use error_log::{ErrorLog, init};
pub use recent::{RecentRefusals, RefusalRing, Refused};
pub use refusal_log::{Refusal, RefusalLog};
pub use scrub::scrub_query;

/// The most bytes of a claim in one line: issuers write ids far shorter.
const CLAIM_BYTES: usize = 128;

/// A claim's text as one line may bear it; escaped where it is written.
fn cut(claim: &str) -> &str {
    &claim[..claim.floor_char_boundary(CLAIM_BYTES)]
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target cannot be written.
    #[error("cannot open the log {path}")]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// `init` was called twice.
    #[error("the error log is already in use")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}
