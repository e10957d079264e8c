//! The error log: `tracing` events, and those of the `log` crate (aya-log, sqlx), as plain lines.

use std::io;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::Error;
use super::encode::plain_line;
use super::sink::Sink;
use crate::metrics::{Exposition, Kind};
use crate::settings::{Level, LogTarget};

/// Lines that may wait for the disk.
const QUEUED_LINES: usize = 1024;
/// A line is cut here: a client's part of it is bounded by the head's limit, an upstream's error text is not.
const LINE_BYTES: usize = 8 * 1024;

/// The error log in use. Dropping it writes what is queued: keep it until the process ends.
#[derive(Clone)]
pub struct ErrorLog {
    sink: Arc<Sink>,
}

/// Opens the error log and makes it the process's only one, for `tracing` and `log`.
pub fn init(target: &LogTarget, level: Level) -> Result<ErrorLog, Error> {
    let sink = Arc::new(Sink::open(target, QUEUED_LINES)?);
    let level = if *target == LogTarget::Off { LevelFilter::OFF } else { filter_of(level) };
    tracing_subscriber::registry().with(filter(level)).with(lines(sink.clone())).try_init()?;
    Ok(ErrorLog { sink })
}

impl ErrorLog {
    /// Opens the file anew (SIGHUP); on failure the old one stays in use. Waits for the writing thread.
    pub fn reopen(&self) -> io::Result<()> {
        self.sink.reopen()
    }

    /// Waits, at most 2 s, until all lines so far are written.
    pub fn flush(&self) {
        self.sink.flush();
    }

    /// Lines lost to a full queue or a failing target.
    pub fn collect(&self, to: &mut Exposition) {
        to.family("edge_error_log_lost_lines_total", Kind::Counter, "Error log lines that could not be written.");
        to.sample(&[], self.sink.lost());
    }
}

fn filter_of(level: Level) -> LevelFilter {
    match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    }
}

/// Ours at the level asked for; other crates at `info` at most, since their debug lines may show header values (L1).
fn filter(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(LevelFilter::INFO)).with_target("edge", level)
}

fn lines<S: tracing::Subscriber + for<'a> LookupSpan<'a>>(sink: Arc<Sink>) -> impl Layer<S> {
    tracing_subscriber::fmt::layer().with_ansi(false).with_writer(LineWriter(sink))
}

/// Takes one formatted event a call and makes one line of it, whatever it holds (L2).
struct LineWriter(Arc<Sink>);

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl io::Write for &LineWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut line = Vec::with_capacity(text.len().min(LINE_BYTES) + 1);
        plain_line(&text[..text.floor_char_boundary(LINE_BYTES)], &mut line);
        line.push(b'\n');
        self.0.send(line, 1);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The lines that `action` logs at `level`, without their times.
    pub(crate) fn logged(level: Level, action: impl FnOnce()) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("error.log");
        let sink = Arc::new(Sink::open(&LogTarget::File(path.clone()), QUEUED_LINES).unwrap());
        let subscriber = tracing_subscriber::registry().with(filter(filter_of(level))).with(lines(sink.clone()));
        tracing::subscriber::with_default(subscriber, action);
        sink.flush();
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.split_once("Z ").unwrap().1.trim().to_owned()).collect()
    }

    /// L2.
    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        let lines =
            logged(Level::Info, || tracing::info!(target: "edge", host = "a\nb", "got {}", "x\r\n\u{1b}[31mforged"));
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].contains('\u{1b}'), "{lines:?}");
        let long = logged(Level::Info, || tracing::info!(target: "edge", "{}", "\u{20ac}".repeat(LINE_BYTES)));
        assert!(long.len() == 1 && long[0].len() <= LINE_BYTES, "{}", long[0].len());
    }

    #[test]
    fn only_our_own_debug_lines_are_written() {
        let lines = logged(Level::Debug, || {
            tracing::debug!(target: "edge_user::token", "ours");
            tracing::debug!(target: "h2::codec", "header values");
            tracing::info!(target: "h2::codec", "theirs");
            tracing::trace!(target: "edge", "too fine");
        });
        assert_eq!(lines, ["DEBUG edge_user::token: ours", "INFO h2::codec: theirs"]);
    }

    /// Kernel programs log through the `log` crate (aya-log).
    #[test]
    fn init_takes_both_kinds_of_events() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("error.log");
        let log = init(&LogTarget::File(path.clone()), Level::Debug).unwrap();
        log::debug!(target: "edge_ebpf", "dropped {}", "192.0.2.1");
        log::debug!(target: "sqlx", "select");
        tracing::info!(target: "edge", "ready");
        log.flush();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("DEBUG edge_ebpf: dropped 192.0.2.1") && text.contains("INFO edge: ready"), "{text}");
        assert!(!text.contains("select"), "{text}");
        assert!(matches!(init(&LogTarget::Off, Level::Info), Err(Error::Installed(_))));
    }
}
