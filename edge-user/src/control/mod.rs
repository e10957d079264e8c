//! What an operator asks the running edge: over a Unix socket of its own, which only its owner and root may use.
//!
//! One request and one answer a connection, each a line of JSON. A take-over goes on from there: see `handover`.

mod handover;
mod operator;
mod report;
mod server;

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::penalty;

pub use self::handover::{Handed, Listening, Purpose, TakeOver};
pub use self::operator::Operator;
pub use self::report::{Attached, Counted, Dropped, MapFill, Program, Refusal, Status, Verdict, Why};
pub use self::server::{ControlSocket, serve};

/// The longest line either side takes, in bytes.
const LINE_BYTES: u64 = 1 << 20;
/// The longest answer, in bytes.
const ANSWER_BYTES: u64 = 16 << 20;
/// How long either side waits for the other.
const WAIT: Duration = Duration::from_secs(10);

/// Why the running edge cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("no edge runs with the control socket {}", path.display())]
    NotRunning {
        /// Where it would be.
        path: PathBuf,
    },
    /// Somebody listens, and we may not ask.
    #[error("only root and the owner of the edge may use its control socket {}", path.display())]
    NotAllowed {
        /// Where it is.
        path: PathBuf,
    },
    /// The connection broke.
    #[error("talking to the edge over {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// How.
        #[source]
        source: io::Error,
    },
    /// An answer that is none; as of another version.
    #[error("the edge's answer is not understood: is it of another version?")]
    Answer(#[from] serde_json::Error),
    /// The edge says no.
    #[error("{0}")]
    Refused(String),
}

/// What may be asked.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// What the kernel programs are and do.
    KernelStatus,
    /// Let the source of this address connect again.
    Forgive {
        /// Any address of the source.
        address: IpAddr,
    },
    /// Why an address, or the request with this id, was or would be refused.
    Why {
        /// The address or the id.
        subject: String,
    },
    /// Which sources have a penalty, for the next generation.
    Sentences,
    /// Hand over the listening sockets.
    TakeOver,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Reply {
    /// To `kernel_status`.
    KernelStatus(Status),
    /// To `forgive`.
    Forgiven {
        /// The source the address belongs to.
        source: String,
        /// Whether there was anything to forgive.
        was_known: bool,
    },
    /// To `why`.
    Why(Why),
    /// To `sentences`.
    Sentences {
        /// Those in force.
        sentences: Vec<penalty::Handed>,
    },
    /// To `take_over`: so many descriptors follow.
    HandOver(Handed),
    /// It cannot be done.
    Refused {
        /// Why not.
        message: String,
    },
}

impl Reply {
    /// As one JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelStatus(status) => status.fmt(f),
            Self::Why(why) => why.fmt(f),
            Self::Forgiven { source, was_known: true } => writeln!(f, "{source} may connect again"),
            Self::Forgiven { source, was_known: false } => writeln!(f, "nothing was held against {source}"),
            Self::Sentences { sentences } => writeln!(f, "{} penalties", sentences.len()),
            Self::HandOver(handed) => writeln!(f, "{} sockets", handed.sockets.len()),
            Self::Refused { message } => writeln!(f, "{message}"),
        }
    }
}

/// Asks the edge whose control socket this is.
pub fn ask(path: &Path, request: &Request) -> Result<Reply, Error> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let mut stream = connect(path)?;
    write_line(&mut stream, request).map_err(failed)?;
    let mut line = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut line).map_err(failed)?;
    match serde_json::from_slice(&line)? {
        Reply::Refused { message } => Err(Error::Refused(message)),
        reply => Ok(reply),
    }
}

fn connect(path: &Path) -> Result<UnixStream, Error> {
    let path = || path.to_owned();
    let stream = UnixStream::connect(path()).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NotRunning { path: path() },
        io::ErrorKind::PermissionDenied => Error::NotAllowed { path: path() },
        _ => Error::Io { path: path(), source },
    })?;
    bound(&stream).map_err(|source| Error::Io { path: path(), source })?;
    Ok(stream)
}

/// Every wait has an end.
fn bound(stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))
}

fn write_line(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Reads a line, and no byte beyond what a buffer of its own would take: descriptors may follow.
fn read_line(stream: &UnixStream) -> io::Result<String> {
    let mut line = String::new();
    // One byte at a time is slow and exact; lines are short.
    let read = BufReader::with_capacity(1, stream).take(LINE_BYTES).read_line(&mut line)?;
    match line.ends_with('\n') {
        true => Ok(line),
        false if read == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "the line does not end")),
    }
}
