//! What an upstream answers one request with: bytes, pauses between them, and how it ends.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What follows an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Keep,
    Close,
    Reset,
    Hold,
}

/// The answer to one request.
pub struct Reply {
    parts: Vec<(Duration, Vec<u8>)>,
    then: Then,
}

impl Reply {
    /// These bytes, and the connection stays.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { parts: vec![(Duration::ZERO, bytes.into())], then: Then::Keep }
    }

    /// A status with a body of known length.
    pub fn new(status: &str, fields: &str, body: &str) -> Self {
        Self::raw(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// 200 with a body.
    pub fn ok(body: &str) -> Self {
        Self::new("200 OK", "Content-Type: text/plain\r\n", body)
    }

    /// 200 with this part of a body whose length says more, then the connection is closed.
    pub fn cut(part: &str, missing: usize) -> Self {
        Self::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{part}", part.len() + missing)).close()
    }

    /// No byte, and the connection stays open.
    pub fn nothing() -> Self {
        Self { parts: Vec::new(), then: Then::Hold }
    }

    /// Server-sent events with this pause before each, the head at once; chunked, so the end is known.
    pub fn events(events: &[&str], pause: Duration) -> Self {
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let fields = "Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n";
        let mut reply = Self::raw(format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
        for event in events {
            reply = reply.and_after(pause, chunk(&format!("data: {event}\n\n")));
        }
        reply.and_after(Duration::ZERO, "0\r\n\r\n")
    }

    /// The same, its first byte so much later.
    pub fn after(mut self, pause: Duration) -> Self {
        if let Some((wait, _)) = self.parts.first_mut() {
            *wait += pause;
        }
        self
    }

    /// More bytes after a pause.
    pub fn and_after(mut self, pause: Duration, bytes: impl Into<Vec<u8>>) -> Self {
        self.parts.push((pause, bytes.into()));
        self
    }

    /// The same, then the connection is closed.
    pub fn close(mut self) -> Self {
        self.then = Then::Close;
        self
    }

    /// The same, then the connection is reset.
    pub fn reset(mut self) -> Self {
        self.then = Then::Reset;
        self
    }

    /// The same, then neither a byte nor an end.
    pub fn hold(mut self) -> Self {
        self.then = Then::Hold;
        self
    }

    /// What follows the head of what is written first.
    pub(crate) fn body(&self) -> String {
        let text = self.parts.first().map(|(_, bytes)| String::from_utf8_lossy(bytes)).unwrap_or_default();
        text.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())
    }

    /// Writes it; whether the connection serves on.
    pub(crate) fn write(&self, stream: &mut TcpStream) -> io::Result<bool> {
        for (pause, bytes) in &self.parts {
            std::thread::sleep(*pause);
            stream.write_all(bytes)?;
        }
        match self.then {
            Then::Keep => return Ok(true),
            Then::Close => {}
            Then::Reset => socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?,
            // Until the peer has had enough.
            Then::Hold => drop(io::copy(stream, &mut io::sink())),
        }
        Ok(false)
    }
}
