//! One byte stream to a peer: TCP, or TLS over it. Both directions through `&self`, so that one task can read and
//! write in the same poll without splitting the stream.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

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
        Self { stream: RefCell::new(stream) }
    }

    /// The stream, where it is clear text.
    pub fn with_tcp<T>(&self, ask: impl FnOnce(&TcpStream) -> T) -> Option<T> {
        match &*self.stream.borrow() {
            Stream::Tcp(tcp) => Some(ask(tcp)),
            Stream::TlsServer(_) | Stream::TlsClient(_) => None,
        }
    }

    /// Reads into `buf`; 0 bytes is the peer's end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(with_stream!(self, stream => stream.poll_read(cx, &mut buf)))?;
        Poll::Ready(Ok(buf.filled().len()))
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
        self.poll_read(&mut Context::from_waker(Waker::noop()), &mut [0; 1]).is_pending()
    }
}

/// For `h2`, which owns its stream.
impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, stream => stream.poll_read(cx, buf))
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
