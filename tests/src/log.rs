//! What a process wrote, line by line, and waiting for a line.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The lines of one stream so far.
#[derive(Clone, Default)]
pub struct Log {
    inner: Arc<(Mutex<Lines>, Condvar)>,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Follows a stream on a thread of its own until it ends.
    pub fn follow(stream: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let writer = log.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).unwrap_or(0) > 0 {
                writer.push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
                line.clear();
            }
            writer.lock().ended = true;
            writer.inner.1.notify_all();
        });
        log
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.inner.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn push(&self, line: String) {
        self.lock().lines.push(line);
        self.inner.1.notify_all();
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// How many lines there are; what comes later starts here.
    pub fn mark(&self) -> usize {
        self.lock().lines.len()
    }

    /// The first line from `from` on that satisfies a condition, waited for; none when the stream ends or time is up.
    pub fn wait(&self, from: usize, limit: Duration, accept: impl Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + limit;
        let mut lines = self.lock();
        let mut next = from;
        loop {
            while let Some(line) = lines.lines.get(next) {
                if accept(line) {
                    return Some(line.clone());
                }
                next += 1;
            }
            let left = end.checked_duration_since(Instant::now()).filter(|_| !lines.ended)?;
            lines = self.inner.1.wait_timeout(lines, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}
