//! What the kernel programs log, passed on to the process's own log.

use std::time::Duration;

use aya::Ebpf;
use aya_log::EbpfLogger;

/// The programs' module path, under which their lines are filtered: `edge_ebpf=debug`.
const TARGET: &str = "edge_ebpf";

/// Reads the programs' log lines. There is one only where they are wanted: else the programs hold no logging code.
#[must_use = "lines are lost unless `run` runs"]
pub struct LogReader {
    logger: EbpfLogger<&'static dyn log::Log>,
}

impl LogReader {
    /// Whether the programs' lines would be logged.
    pub(super) fn wanted() -> bool {
        tracing::enabled!(target: TARGET, tracing::Level::DEBUG)
    }

    /// Takes over the ring buffer.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, aya_log::Error> {
        Ok(Self { logger: EbpfLogger::init(ebpf)? })
    }

    /// Passes lines on, forever. Runs on the control runtime: a flood of lines is no worker's business.
    pub async fn run(mut self) {
        // Waking up ten times a second costs nothing beside logging every dropped frame.
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            self.logger.flush();
        }
    }
}
