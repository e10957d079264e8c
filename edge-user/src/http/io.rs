//! One byte stream to a peer: TCP, or TLS over it. Both directions through `&self`, so that one task can read and
//! write in the same poll without splitting the stream.

use std::cell::{Cell, RefCell};
use std::future::Future as _;
use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio_rustls::{client, server};

/// What a peer may bring before the worker looks after its other tasks and sockets. A fast peer always has more: without
/// this, a few downloads are all that a worker does, for milliseconds.
const TURN_BYTES: usize = 128 << 10;

/// What carries the bytes.
pub enum Stream {
    /// Clear text.
    Tcp(TcpStream),
    /// A client's TLS connection.
    TlsServer(Box<server::TlsStream<TcpStream>>),
    /// The edge's TLS connection to an upstream.
    TlsClient(Box<client::TlsStream<TcpStream>>),
}

/// A stream that one task drives. The borrow lasts for one poll and never crosses an await.
pub struct Io {
    stream: RefCell<Stream>,
    /// Bytes read since the peer last had none.
    turn_bytes: Cell<usize>,
}

macro_rules! with_stream {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut *$self.stream.borrow_mut() {
            Stream::Tcp(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
            Stream::TlsServer(inner) => {
                let $stream = Pin::new(&mut **inner);
                $call
            }
            Stream::TlsClient(inner) => {
                let $stream = Pin::new(&mut **inner);
                $call
            }
        }
    };
}

impl Io {
    /// Wraps a connected stream.
    pub fn new(stream: Stream) -> Self {
        Self { stream: RefCell::new(stream), turn_bytes: Cell::new(0) }
    }

    /// The stream, where it is clear text.
    pub fn with_tcp<T>(&self, ask: impl FnOnce(&TcpStream) -> T) -> Option<T> {
        match &*self.stream.borrow() {
            Stream::Tcp(tcp) => Some(ask(tcp)),
            Stream::TlsServer(_) | Stream::TlsClient(_) => None,
        }
    }

    /// Reads into `buf`; 0 bytes is the peer's end. Pending as well once the peer's turn is over: the task is woken after
    /// all others that can go on, and after the sockets have been asked.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(self.poll_read_turn(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn poll_read_turn(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.turn_bytes.get() >= TURN_BYTES {
            self.turn_bytes.set(0);
            return pin!(yield_now()).poll(cx).map(Ok);
        }
        let before = buf.filled().len();
        let polled = with_stream!(self, stream => stream.poll_read(cx, buf));
        let turn_bytes = if polled.is_ready() { self.turn_bytes.get() + buf.filled().len() - before } else { 0 };
        self.turn_bytes.set(turn_bytes);
        polled
    }

    /// Writes some of `bytes`.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        with_stream!(self, stream => stream.poll_write(cx, bytes))
    }

    /// Writes all of `bytes` from `*done` on, then flushes what TLS still holds.
    pub fn poll_write_all(&self, cx: &mut Context<'_>, bytes: &[u8], done: &mut usize) -> Poll<io::Result<()>> {
        while *done < bytes.len() {
            let written = ready!(self.poll_write(cx, &bytes[*done..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *done += written;
        }
        self.poll_flush(cx)
    }

    /// Flushes records TLS still holds; nothing to do for TCP.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.stream.borrow_mut() {
            Stream::Tcp(_) => Poll::Ready(Ok(())),
            Stream::TlsServer(inner) => Pin::new(&mut **inner).poll_flush(cx),
            Stream::TlsClient(inner) => Pin::new(&mut **inner).poll_flush(cx),
        }
    }

    /// Says close_notify where there is TLS, as far as it can be sent at once.
    pub fn close_notify(&self, cx: &mut Context<'_>) {
        if !matches!(&*self.stream.borrow(), Stream::Tcp(_)) {
            let _ = self.poll_shutdown(cx);
        }
    }

    /// Ends our direction: close_notify where there is TLS, then FIN.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, stream => stream.poll_shutdown(cx))
    }

    /// Whether bytes of the peer's are there, even if they came so lately that the runtime has not been told.
    pub fn has_unread(&self) -> bool {
        let tcp = match &*self.stream.borrow() {
            Stream::Tcp(tcp) => tcp.as_raw_fd(),
            Stream::TlsServer(tls) => tls.get_ref().0.as_raw_fd(),
            Stream::TlsClient(tls) => tls.get_ref().0.as_raw_fd(),
        };
        recv(tcp, &mut [0; 1], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).is_ok_and(|bytes| bytes > 0)
    }

    /// Whether an idle connection can still be used: the peer has neither closed it nor sent anything unasked.
    /// Costs no system call while the kernel has reported nothing; TLS 1.3 session tickets are taken in silence.
    pub fn is_quiet(&self) -> bool {
        let (mut cx, mut byte) = (Context::from_waker(Waker::noop()), [0; 1]);
        with_stream!(self, stream => stream.poll_read(&mut cx, &mut ReadBuf::new(&mut byte))).is_pending()
    }
}

/// For `h2`, which owns its stream.
impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_read_turn(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Io::poll_write(&self, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Io::poll_flush(&self, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Io::poll_shutdown(&self, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_stream!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::http::buffer::{Buffer, KEEP_BYTES};

    /// A stream to a peer that sends so many bytes, and then nothing.
    async fn of_peer(bytes: usize) -> (Io, tokio::task::JoinHandle<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (here, there) = tokio::join!(connecting, listener.accept());
        let mut there = there.unwrap().0;
        let sending = tokio::spawn(async move {
            there.write_all(&vec![b'x'; bytes]).await.unwrap();
            there
        });
        (Io::new(Stream::Tcp(here.unwrap())), sending)
    }

    /// What is read without a pause, once so many bytes are here.
    async fn in_one_go(io: &Io, here: usize) -> usize {
        let mut all = vec![0; here];
        while io.with_tcp(|tcp| recv(tcp.as_raw_fd(), &mut all, MsgFlags::MSG_PEEK)).unwrap() != Ok(here) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let mut chunk = [0; 16 << 10];
        let mut bytes = 0;
        poll_fn(|cx| {
            while let Poll::Ready(read) = io.poll_read(cx, &mut chunk) {
                bytes += read.unwrap();
            }
            Poll::Ready(())
        })
        .await;
        bytes
    }

    #[tokio::test]
    async fn a_peer_has_its_turn_and_then_the_others_have_theirs() {
        // Less than a socket holds.
        const ALL: usize = 40 << 10;
        const CHUNK: usize = 16 << 10;
        let (io, sending) = of_peer(ALL).await;
        io.turn_bytes.set(TURN_BYTES - CHUNK);
        assert_eq!(in_one_go(&io, ALL).await, CHUNK);
        assert_eq!(in_one_go(&io, ALL - CHUNK).await, ALL - CHUNK);
        assert_eq!(io.turn_bytes.get(), 0);
        drop(sending);
    }

    #[tokio::test]
    async fn whoever_ended_its_turn_is_woken_for_the_rest() {
        const ALL: usize = 8 * TURN_BYTES;
        let (io, sending) = of_peer(ALL).await;
        let (mut chunk, mut bytes) = ([0; 16 << 10], 0);
        while bytes < ALL {
            bytes += poll_fn(|cx| io.poll_read(cx, &mut chunk)).await.unwrap();
        }
        assert!(io.is_quiet());
        drop(sending);
    }

    #[tokio::test]
    async fn a_turn_that_is_over_does_not_make_a_connection_quiet() {
        let (io, sending) = of_peer(1).await;
        while !io.has_unread() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        poll_fn(|cx| io.with_tcp(|tcp| tcp.poll_read_ready(cx)).unwrap()).await.unwrap();
        io.turn_bytes.set(TURN_BYTES);
        assert!(!io.is_quiet());
        drop(sending);
    }

    #[tokio::test]
    async fn a_buffer_grows_with_what_comes_and_rests_once_told() {
        const BOUND: usize = 64 << 10;
        let (io, sending) = of_peer(8 * BOUND).await;
        let (mut buffer, mut bytes, mut longest) = (Buffer::default(), 0, 0);
        while bytes < 8 * BOUND {
            let read = poll_fn(|cx| buffer.poll_fill(&io, BOUND, cx)).await.unwrap();
            longest = longest.max(buffer.reserved_bytes());
            buffer.consume(read);
            bytes += read;
        }
        assert_eq!(longest, KEEP_BYTES);
        buffer.rest();
        assert_eq!(buffer.reserved_bytes(), 0);
        // Not while something stands in it.
        sending.await.unwrap().write_all(b"x").await.unwrap();
        assert_eq!(poll_fn(|cx| buffer.poll_fill(&io, BOUND, cx)).await.unwrap(), 1);
        buffer.rest();
        assert_eq!(buffer.filled(), b"x");
    }
}
