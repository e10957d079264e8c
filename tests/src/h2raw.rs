//! HTTP/2 by the frame: what the `h2` crate would never send, and the same crate for what it would.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;

use crate::wire::PATIENCE;

/// The client's preface (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frame types (RFC 9113, 6).
pub mod kind {
    #![allow(missing_docs, reason = "the names of the RFC")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}
/// The last frame of this direction of a stream.
pub const END_STREAM: u8 = 1;
/// The last frame of a field section; on SETTINGS and PING the same bit means ACK.
pub const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream, 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as literals without indexing and without Huffman (RFC 7541, 6.2.2).
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(&mut bytes, 7, text.len());
            bytes.extend(*text);
        }
    }
    bytes
}

/// An integer with a prefix of this many bits and no flags (RFC 7541, 5.1).
fn integer(bytes: &mut Vec<u8>, prefix: u32, value: usize) {
    let limit = (1 << prefix) - 1;
    if value < limit {
        return bytes.push(value as u8);
    }
    bytes.push(limit as u8);
    let mut rest = value - limit;
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
}

/// How the peer took a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response of this status.
    Response(u16),
    /// The stream was reset with this code.
    Reset(u32),
    /// The connection was ended with this code.
    GoAway(u32),
    /// The connection was closed without a word.
    Closed,
}

impl Outcome {
    /// Whether the request was not served: an error of stream or connection, or a 4xx.
    pub fn refused(&self) -> bool {
        !matches!(self, Self::Response(status) if *status < 400)
    }
}

/// A connection on which frames are written by hand.
pub struct Raw {
    socket: TcpStream,
    arrived: Vec<u8>,
    /// Streams the peer reset.
    reset: HashSet<u32>,
    last_word: Option<Outcome>,
}

impl Raw {
    /// Connects, sends preface and empty SETTINGS, and acknowledges the peer's.
    pub fn connect(address: SocketAddr) -> Self {
        let mut raw = Self::silent(address);
        raw.send(PREFACE);
        raw.send(frame(kind::SETTINGS, 0, 0, &[]));
        raw
    }

    /// Connects and says nothing.
    pub fn silent(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("connect");
        socket.set_nodelay(true).expect("set nodelay");
        socket.set_read_timeout(Some(PATIENCE)).expect("set a time-out");
        socket.set_write_timeout(Some(PATIENCE)).expect("set a time-out");
        Self { socket, arrived: Vec::new(), reset: HashSet::new(), last_word: None }
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("send");
    }

    /// Sends bytes to a peer that may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.socket.write_all(bytes.as_ref())
    }

    /// Sends a whole request without content.
    pub fn request(&mut self, stream: u32, fields: &[(&[u8], &[u8])]) {
        self.send(frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block(fields)));
    }

    /// The next frame; SETTINGS and PING are acknowledged on the way.
    pub fn frame(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.arrived_frame() {
                return Ok(frame);
            }
            ensure!(self.fill().context("closed")? > 0, "closed");
        }
    }

    fn fill(&mut self) -> std::io::Result<usize> {
        let mut piece = [0; 16_384];
        let read = self.socket.read(&mut piece)?;
        self.arrived.extend_from_slice(&piece[..read]);
        Ok(read)
    }

    /// A frame of what has arrived.
    fn arrived_frame(&mut self) -> Option<Frame> {
        let head: [u8; 9] = *self.arrived.first_chunk()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = self.arrived.get(9..9 + length)?.to_vec();
        self.arrived.drain(..9 + length);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        match frame.kind {
            kind::SETTINGS | kind::PING if frame.flags & 1 == 0 => {
                let payload = if frame.kind == kind::PING { frame.payload.as_slice() } else { &[] };
                let _ = self.try_send(self::frame(frame.kind, 1, 0, payload));
            }
            kind::RST_STREAM => drop(self.reset.insert(frame.stream)),
            kind::GOAWAY => self.last_word = Some(Outcome::GoAway(code(&frame.payload[4..]))),
            _ => {}
        }
        Some(frame)
    }

    /// Takes what has arrived without waiting; whether the peer has ended the connection by it.
    pub fn has_ended(&mut self) -> bool {
        self.socket.set_nonblocking(true).expect("set non-blocking");
        let end = loop {
            match self.fill() {
                Ok(0) => break true,
                Ok(_) => while self.arrived_frame().is_some() {},
                Err(e) => break e.kind() != std::io::ErrorKind::WouldBlock,
            }
        };
        self.socket.set_nonblocking(false).expect("set blocking");
        end || self.last_word.is_some()
    }

    /// As `has_ended`, of a stream.
    pub fn has_reset(&mut self, stream: u32) -> bool {
        self.has_ended() || self.reset.contains(&stream)
    }

    /// The code by which the peer ended the connection, where it said one.
    pub fn last_word(&mut self) -> Option<Outcome> {
        self.has_ended();
        self.last_word.clone()
    }

    /// What becomes of a stream.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            let Ok(frame) = self.frame() else { return Outcome::Closed };
            match frame.kind {
                kind::GOAWAY => return Outcome::GoAway(code(&frame.payload[4..])),
                kind::RST_STREAM if frame.stream == stream => return Outcome::Reset(code(&frame.payload)),
                kind::HEADERS if frame.stream == stream => {
                    return Outcome::Response(status(&frame.payload).expect("a status first"));
                }
                _ => {}
            }
        }
    }

    /// How a stream ends whose response has begun.
    pub fn rest(&mut self, stream: u32) -> Outcome {
        loop {
            let Ok(frame) = self.frame() else { return Outcome::Closed };
            match frame.kind {
                kind::GOAWAY => return Outcome::GoAway(code(&frame.payload[4..])),
                kind::RST_STREAM if frame.stream == stream => return Outcome::Reset(code(&frame.payload)),
                kind::DATA | kind::HEADERS if frame.stream == stream && frame.flags & END_STREAM != 0 => {
                    return Outcome::Response(200);
                }
                _ => {}
            }
        }
    }

    /// Whether the peer ends the connection, whatever it still sends.
    pub fn ends(&mut self) -> bool {
        loop {
            match self.frame() {
                Ok(frame) if frame.kind == kind::GOAWAY => return true,
                Ok(_) => {}
                Err(e) => {
                    let waited = e.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                    return !matches!(waited, Some(std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
                }
            }
        }
    }
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]])
}

/// The status of the first field section of a connection (RFC 7541, A and B for what it may be written as).
fn status(block: &[u8]) -> Result<u16> {
    let block = match block {
        // A change of the table's size comes before the first field.
        [size, rest @ ..] if size & 0xe0 == 0x20 => rest,
        block => block,
    };
    match block {
        [0x88, ..] => Ok(200),
        [0x89, ..] => Ok(204),
        [0x8a, ..] => Ok(206),
        [0x8b, ..] => Ok(304),
        [0x8c, ..] => Ok(400),
        [0x8d, ..] => Ok(404),
        [0x8e, ..] => Ok(500),
        [0x48 | 0x08, 0x03, text @ ..] => Ok(std::str::from_utf8(&text[..3])?.parse()?),
        [0x48 | 0x08, length, text @ ..] if length & 0x80 != 0 => digits(&text[..usize::from(length & 0x7f)]),
        other => bail!("no status in {other:02x?}"),
    }
}

/// Digits in Huffman code: 0 to 2 have five bits, 3 to 9 six.
fn digits(bytes: &[u8]) -> Result<u16> {
    let bits: Vec<u16> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1))).collect();
    let number = |range: &[u16]| range.iter().fold(0, |sum, bit| sum * 2 + bit);
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        let five = number(bits.get(at..at + 5).context("too short")?);
        if five <= 2 {
            (value, at) = (value * 10 + five, at + 5);
        } else {
            let six = number(bits.get(at..at + 6).context("too short")?);
            (value, at) = (value * 10 + six - 0b011001 + 3, at + 6);
        }
    }
    Ok(value)
}

/// A whole response by the `h2` crate.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The fields.
    pub fields: http::HeaderMap,
    /// The content.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Option<http::HeaderMap>,
}

impl Response {
    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Runs a future on a runtime of its own.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(tokio::task::LocalSet::new().run_until(future))
}

/// A connection in clear text by prior knowledge.
pub async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(address).await.expect("connect");
    socket.set_nodelay(true).expect("set nodelay");
    speak(socket).await
}

/// A connection over TLS that chose `h2`.
pub async fn connect_tls(address: SocketAddr, name: &str) -> SendRequest<Bytes> {
    connect_tls_as(crate::certs::client(&["h2", "http/1.1"]), address, name).await
}

/// The same by this client.
pub async fn connect_tls_as(client: Arc<rustls::ClientConfig>, address: SocketAddr, name: &str) -> SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(address).await.expect("connect");
    let connector = tokio_rustls::TlsConnector::from(client);
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a name");
    let stream = connector.connect(name, socket).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    speak(stream).await
}

async fn speak<T>(stream: T) -> SendRequest<Bytes>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = h2::client::handshake(stream).await.expect("preface and settings");
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    sender
}

/// Sends one request with this content and reads the whole response.
pub async fn ask(sender: &SendRequest<Bytes>, request: http::Request<()>, body: &[u8]) -> Result<Response> {
    let mut sender = sender.clone().ready().await?;
    let (response, mut stream) = sender.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body), true)?;
    }
    read(response).await
}

/// Reads a whole response.
pub async fn read(response: h2::client::ResponseFuture) -> Result<Response> {
    let (head, mut content) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = content.data().await {
        let chunk = chunk?;
        content.flow_control().release_capacity(chunk.len())?;
        body.extend(chunk);
    }
    let trailers = content.trailers().await?;
    Ok(Response { status: head.status.as_u16(), fields: head.headers, body, trailers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_every_spelling() {
        for (block, expected) in [
            (&[0x88][..], 200),
            (&[0x20, 0x8c], 400),
            (b"\x48\x03401", 401),
            // 4, 0, 1 are 011010 00000 00001: two bytes, no padding.
            (&[0x48, 0x82, 0b0110_1000, 0b0000_0001], 401),
            // 5, 0, 3 are 011011 00000 011001: padded with ones (RFC 7541, 5.2).
            (&[0x48, 0x83, 0b0110_1100, 0b0000_1100, 0b1111_1111], 503),
        ] {
            assert_eq!(status(block).expect("a status"), expected, "{block:02x?}");
        }
        assert!(status(&[0x83]).is_err());
    }
}
