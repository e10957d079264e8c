//! Where lines end: a bounded queue and the one thread that writes a target.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use super::Error;
use crate::settings::LogTarget;

/// How long `flush` and `reopen` wait for the writing thread: a stuck disk must not hold up a shutdown.
const PATIENCE: Duration = Duration::from_secs(2);
/// A failing target is reported this often at most.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// The path of a target, as messages name it too.
fn path_of(target: &LogTarget) -> &Path {
    match target {
        LogTarget::Off => Path::new("/dev/null"),
        LogTarget::Stdout => Path::new("stdout"),
        LogTarget::Stderr => Path::new("stderr"),
        LogTarget::File(path) => path,
    }
}

fn open(target: &LogTarget) -> io::Result<File> {
    match target {
        // A descriptor of our own: `io::stdout` would cut batches at every newline.
        LogTarget::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        LogTarget::Stderr => io::stderr().as_fd().try_clone_to_owned().map(File::from),
        LogTarget::Off | LogTarget::File(_) => open_file(path_of(target)),
    }
}

/// Appends; a new file is the owner's to write and the group's to read.
fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

enum Message {
    Lines { bytes: Vec<u8>, count: u64 },
    Reopen(SyncSender<io::Result<()>>),
    Flush(SyncSender<()>),
}

/// The sending side of a target. Dropping it writes what is queued and ends the thread.
pub(super) struct Sink {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Sink {
    /// Opens the target and starts its thread; at most `slots` messages wait.
    pub(super) fn open(target: &LogTarget, slots: usize) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path_of(target).into(), source };
        let file = open(target).map_err(failed)?;
        let (queue, messages) = mpsc::sync_channel(slots);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { target: target.clone(), file, lost: lost.clone(), torn: false, complained: None };
        let thread = std::thread::Builder::new().name("edge-log".into());
        thread.spawn(move || writer.run(&messages)).map_err(failed)?;
        Ok(Self { queue, lost })
    }

    /// Queues whole lines; never waits. Lines that find no room are counted.
    pub(super) fn send(&self, bytes: Vec<u8>, count: u64) {
        if self.queue.try_send(Message::Lines { bytes, count }).is_err() {
            self.lost.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Lines dropped so far, because the queue was full or the target refused them.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits, within bounds, until everything queued before is written.
    pub(super) fn flush(&self) {
        self.ask(Message::Flush);
    }

    /// Opens the file anew, as log rotation wants it; the old one stays in use when that fails.
    pub(super) fn reopen(&self) -> io::Result<()> {
        self.ask(Message::Reopen).unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }

    fn ask<T>(&self, message: impl FnOnce(SyncSender<T>) -> Message) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let (reply, answer) = mpsc::sync_channel(1);
        let mut message = message(reply);
        loop {
            match self.queue.try_send(message) {
                Ok(()) => return answer.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok(),
                Err(TrySendError::Full(back)) if Instant::now() < deadline => message = back,
                Err(_) => return None,
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.flush();
    }
}

struct Writer {
    target: LogTarget,
    file: File,
    lost: Arc<AtomicU64>,
    /// The last write may have left half a line behind.
    torn: bool,
    complained: Option<Instant>,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(message) = messages.recv() {
            match message {
                Message::Lines { bytes, count } => self.write(&bytes, count),
                // Whoever asked may have stopped waiting; then nobody needs the answer.
                Message::Flush(done) => drop(done.send(())),
                Message::Reopen(done) => drop(done.send(self.reopen())),
            }
        }
    }

    fn write(&mut self, bytes: &[u8], count: u64) {
        let repaired = if self.torn { self.file.write_all(b"\n") } else { Ok(()) };
        match repaired.and_then(|()| self.file.write_all(bytes)) {
            Ok(()) => self.torn = false,
            Err(error) => {
                self.torn = true;
                self.lost.fetch_add(count, Ordering::Relaxed);
                self.complain(&error);
            }
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
            self.complained = Some(Instant::now());
            tracing::error!(target: "edge", "cannot write the log {}: {error}; lines are lost", path_of(&self.target).display());
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let LogTarget::File(path) = &self.target {
            self.file = open_file(path)?;
            self.torn = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_a_rotated_file_only_after_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let (path, rotated) = (dir.path().join("a.log"), dir.path().join("a.log.1"));
        let sink = Sink::open(&LogTarget::File(path.clone()), 8).unwrap();
        sink.send(b"one\n".to_vec(), 1);
        sink.flush();
        std::fs::rename(&path, &rotated).unwrap();
        sink.send(b"two\n".to_vec(), 1);
        sink.reopen().unwrap();
        sink.send(b"three\n".to_vec(), 1);
        drop(sink);
        assert_eq!(std::fs::read_to_string(rotated).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "three\n");
    }

    #[test]
    fn a_file_that_cannot_be_reopened_leaves_the_old_one_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let (path, away) = (dir.path().join("d/a.log"), dir.path().join("away"));
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let sink = Sink::open(&LogTarget::File(path), 8).unwrap();
        std::fs::rename(dir.path().join("d"), &away).unwrap();
        assert!(sink.reopen().is_err());
        sink.send(b"still here\n".to_vec(), 1);
        drop(sink);
        assert_eq!(std::fs::read_to_string(away.join("a.log")).unwrap(), "still here\n");
    }

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        // D5
        let sink = Sink::open(&LogTarget::File("/dev/full".into()), 8).unwrap();
        sink.send(b"a\nb\n".to_vec(), 2);
        sink.flush();
        assert_eq!(sink.lost(), 2);
    }

    #[test]
    fn a_stuck_reader_never_blocks_the_sender() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let sink = Sink::open(&LogTarget::File(path), 2).unwrap();
        let start = Instant::now();
        for _ in 0..64 {
            sink.send(vec![b'x'; 65536], 1);
        }
        assert!(start.elapsed() < Duration::from_secs(1), "the sender waited");
        assert!(sink.lost() >= 60, "{}", sink.lost());
    }

    #[test]
    fn an_unwritable_target_is_an_error_that_names_it() {
        let error = Sink::open(&LogTarget::File("/nonexistent/x.log".into()), 1).err().unwrap();
        assert_eq!(error.to_string(), "cannot open the log /nonexistent/x.log");
    }
}
