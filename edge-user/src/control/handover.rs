//! One generation of the process takes over from another: the listening sockets go from the old to the new (SCM_RIGHTS,
//! unix(7)), so both accept from the same queues and no connection is lost. The old drains once the new says that it
//! serves; where the new fails before that, the old has lost nothing.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::{Error, Reply, Request, connect, read_line, write_line};

/// Descriptors in one message; the kernel takes 253 (SCM_MAX_FD).
const PER_MESSAGE: usize = 64;
/// Sockets in all that are taken from another generation.
const MOST: usize = 65_536;

/// What the new generation says after it has the sockets; the old one answers with the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// It wants to attach its kernel programs.
    Detach,
    /// The same, and it puts those on interfaces in the place of the ones it was given.
    Replace,
    /// It serves.
    Serves,
}

/// What the descriptors are that follow, in their order.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// The process that hands over.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// What each socket is for; as many entries as sockets.
    pub sockets: Vec<Purpose>,
    /// Whether one more descriptor follows: the file system with maps and links of the kernel programs.
    #[serde(default)]
    pub kernel: bool,
}

/// What a listening socket is for, by what the settings say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// One of `[[listeners]]`: its `address`, and which of those with this address it is (port 0 may stand often).
    Listener(SocketAddr, usize),
    /// The socket that virtual addresses of that one lead to.
    Entrance(SocketAddr, usize),
    /// `[admin]`
    Admin(SocketAddr),
    /// `[identity]`
    Identity(SocketAddr),
    /// `[echo]`
    Echo(SocketAddr),
}

/// Listening sockets, each with what it is for.
#[derive(Default)]
pub struct Listening(pub Vec<(Purpose, TcpListener)>);

impl Listening {
    /// Takes out those for this purpose.
    pub fn take(&mut self, purpose: Purpose) -> Vec<TcpListener> {
        self.0.extract_if(.., |(found, _)| *found == purpose).map(|(_, socket)| socket).collect()
    }

    /// Adds these once more.
    pub fn keep(&mut self, purpose: Purpose, sockets: &[TcpListener]) -> io::Result<()> {
        for socket in sockets {
            self.0.push((purpose, socket.try_clone()?));
        }
        Ok(())
    }

    /// The same sockets once more.
    pub fn duplicate(&self) -> io::Result<Self> {
        self.0.iter().map(|(purpose, socket)| Ok((*purpose, socket.try_clone()?))).collect::<io::Result<_>>().map(Self)
    }
}

/// The new generation's end.
pub struct TakeOver {
    stream: UnixStream,
    /// The old generation's process.
    pub pid: u32,
    /// Maps and links of its kernel programs, until somebody takes them.
    pub kernel: Option<OwnedFd>,
}

impl TakeOver {
    /// Asks for the sockets.
    pub fn begin(path: &Path) -> Result<(Self, Listening), Error> {
        let failed = |source| Error::Io { path: path.to_owned(), source };
        let mut stream = connect(path)?;
        write_line(&mut stream, &Request::TakeOver).map_err(failed)?;
        let handed = match serde_json::from_str(&read_line(&stream).map_err(failed)?)? {
            Reply::HandOver(handed) => handed,
            Reply::Refused { message } => return Err(Error::Refused(message)),
            other => return Err(Error::Refused(format!("the edge answers {other:?} to a take-over"))),
        };
        let mut descriptors =
            receive(&stream, handed.sockets.len() + usize::from(handed.kernel)).map_err(failed)?.into_iter();
        let sockets = handed
            .sockets
            .into_iter()
            .zip(&mut descriptors)
            .map(|(purpose, socket)| (purpose, socket.into()))
            .collect();
        Ok((Self { stream, pid: handed.pid, kernel: descriptors.next() }, Listening(sockets)))
    }

    /// Has the old generation give up its kernel programs; those on interfaces stay where this one `replaces` them.
    pub fn detach(&mut self, replaces: bool) -> io::Result<()> {
        self.say(if replaces { Word::Replace } else { Word::Detach })
    }

    /// Says that this generation serves; the old one drains from here on.
    pub fn complete(mut self) -> io::Result<()> {
        self.say(Word::Serves)
    }

    fn say(&mut self, word: Word) -> io::Result<()> {
        write_line(&mut self.stream, &word)?;
        read_line(&self.stream).map(drop)
    }
}

/// The old generation's end: gives the sockets and what `kernel` holds, and does what the new one asks, each time within
/// `wait`. Whether the new one serves in the end.
pub(super) fn hand_over(
    stream: &mut UnixStream,
    listening: &Listening,
    kernel: Option<BorrowedFd<'_>>,
    version: &str,
    wait: Duration,
    mut obey: impl FnMut(Word),
) -> io::Result<bool> {
    let sockets = listening.0.iter().map(|(purpose, _)| *purpose).collect();
    let handed = Handed { pid: std::process::id(), version: version.to_owned(), sockets, kernel: kernel.is_some() };
    write_line(stream, &Reply::HandOver(handed))?;
    let descriptors: Vec<BorrowedFd<'_>> = listening.0.iter().map(|(_, socket)| socket.as_fd()).chain(kernel).collect();
    send(stream, &descriptors)?;
    stream.set_read_timeout(Some(wait))?;
    loop {
        let line = match read_line(stream) {
            Ok(line) => line,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        };
        let word: Word = serde_json::from_str(&line)?;
        obey(word);
        write_line(stream, &word)?;
        if word == Word::Serves {
            return Ok(true);
        }
    }
}

fn send(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for some in descriptors.chunks(PER_MESSAGE) {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(some)) {
            return Err(io::Error::other("the descriptors do not fit a message"));
        }
        sendmsg(stream, &[IoSlice::new(b"F")], &mut ancillary, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    if count > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{count} sockets are handed over")));
    }
    let mut descriptors = Vec::new();
    while descriptors.len() < count {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let read = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        if read.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
    }
    Ok(descriptors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_come_over_in_their_order_however_many() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listeners: Vec<TcpListener> = (0..150).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let sender = std::thread::spawn({
            let listeners: Vec<TcpListener> = listeners.iter().map(|one| one.try_clone().unwrap()).collect();
            move || send(&ours, &listeners.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap()
        });
        let received = receive(&theirs, 150).unwrap();
        sender.join().unwrap();
        let address = |listener: &TcpListener| listener.local_addr().unwrap();
        let received: Vec<TcpListener> = received.into_iter().map(TcpListener::from).collect();
        assert!(received.iter().map(address).eq(listeners.iter().map(address)));
    }

    #[test]
    fn an_end_before_the_last_socket_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        send(&ours, &[listener.as_fd()]).unwrap();
        drop(ours);
        assert_eq!(receive(&theirs, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(receive(&theirs, MOST + 1).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
