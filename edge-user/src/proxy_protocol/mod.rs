//! The PROXY protocol, versions 1 and 2: what a load balancer tells of a connection before the client's own bytes. Here
//! the receiver; `write` is the sender, towards upstreams. The format is HAProxy's "The PROXY protocol", 2.
//!
//! Only what is well-formed to the last byte is taken, and no byte beyond it is read.

mod v1;
mod v2;
mod write;

use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

pub use self::write::{Sends, Shown, Tls, Told};

/// The shortest header: `PROXY UNKNOWN` and its line end.
const SHORTEST: usize = 15;

/// Which versions a listener takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// None: connections are their peers'.
    #[default]
    Off,
    /// The line of text.
    V1,
    /// The binary one.
    V2,
    /// Either.
    Any,
}

impl Versions {
    /// What `proxy_protocol` of a listener may say.
    pub const WORDS: [(&'static str, Self); 4] =
        [("off", Self::Off), ("v1", Self::V1), ("v2", Self::V2), ("any", Self::Any)];
}

/// Why a connection's first bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The connection ended, or broke.
    #[error("the connection ended before its PROXY header did")]
    Ended,
    /// Something else.
    #[error("no PROXY header of a version that the listener takes")]
    Missing,
    /// The header is one, and not well-formed.
    #[error("a malformed PROXY header: {0}")]
    Malformed(&'static str),
}

/// What a header tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preface {
    /// The client and the address it connected to. Nothing where the sender speaks for itself (`LOCAL`, `UNKNOWN`, another
    /// family): its own addresses count then.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// The version of TLS that the client speaks with the sender, where it does.
    pub tls: Option<&'static str>,
    /// The host name that the client asked for (SNI).
    pub authority: Option<Box<str>>,
}

/// How far the bytes so far go.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// So many more belong to the header.
    Needs(usize),
    /// More do, up to a line feed, and at most so many.
    NeedsLine(usize),
    /// All of it.
    Whole(Preface),
}

/// Reads the header of a connection, and nothing beyond. The caller bounds the time.
pub async fn read(tcp: &mut TcpStream, versions: Versions) -> Result<Preface, Error> {
    let (mut bytes, mut peeked) = (Vec::with_capacity(128), [0; v1::LONGEST]);
    loop {
        let more = match progress(&bytes, versions)? {
            Progress::Whole(preface) => return Ok(preface),
            Progress::Needs(more) => more,
            Progress::NeedsLine(most) => {
                let room = peeked.get_mut(..most).unwrap_or_default();
                let read = tcp.peek(room).await.map_err(|_| Error::Ended)?;
                through_line(room.get(..read).unwrap_or_default())
            }
        };
        if more == 0 {
            return Err(Error::Ended);
        }
        let start = bytes.len();
        bytes.resize(start + more, 0);
        tcp.read_exact(bytes.get_mut(start..).unwrap_or_default()).await.map_err(|_| Error::Ended)?;
    }
}

/// How many bytes there are to the end of the line, or of all.
fn through_line(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1)
}

/// What is to be done after these bytes.
fn progress(bytes: &[u8], versions: Versions) -> Result<Progress, Error> {
    if bytes.len() < SHORTEST {
        return Ok(Progress::Needs(SHORTEST - bytes.len()));
    }
    let takes = |version| versions == version || versions == Versions::Any;
    if takes(Versions::V2) && bytes.starts_with(&v2::SIGNATURE) {
        return v2::progress(bytes);
    }
    if takes(Versions::V1) && bytes.starts_with(v1::START) {
        return v1::progress(bytes);
    }
    Err(Error::Missing)
}

/// Reads a header that stands alone, for the fuzz target: none, or the header and how long it is.
pub fn parse(bytes: &[u8]) -> Option<(Preface, usize)> {
    let mut taken = 0;
    loop {
        let more = match progress(bytes.get(..taken)?, Versions::Any).ok()? {
            Progress::Whole(preface) => return Some((preface, taken)),
            Progress::Needs(more) => more,
            Progress::NeedsLine(most) => {
                let rest = bytes.get(taken..)?;
                through_line(rest.get(..most).unwrap_or(rest))
            }
        };
        if more == 0 {
            return None;
        }
        taken += more;
    }
}

#[cfg(test)]
mod tests;
