//! HTTP/1.1 as bytes: a strict reader of messages, and a client that sends whatever it is told to.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::ServerName;

/// How long a read may wait before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One message as it stood on the wire.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The request or status line.
    pub start: String,
    /// The fields in order, names as spelled.
    pub fields: Vec<(String, String)>,
    /// The content, without its framing.
    pub body: Vec<u8>,
    /// The fields after a chunked body.
    pub trailers: Vec<(String, String)>,
    /// Every byte of the message.
    pub raw: Vec<u8>,
}

impl Message {
    /// The status code of a response.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or("")
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or("")
    }

    /// Every value of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The one value of a field; a field that came twice fails the test.
    pub fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} came {} times in {:?}", all.len(), self.start);
        all.first().copied()
    }

    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The content as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {:?}", self.text()))
    }

    /// Whether the sender will close the connection after this message.
    pub fn says_close(&self) -> bool {
        self.all("connection").iter().any(|value| value.to_ascii_lowercase().contains("close"))
    }
}

/// What the content of a message ends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    Empty,
    Length(usize),
    Chunked,
    Close,
}

/// A strict reader of messages: what RFC 9112 forbids a sender to write is an error.
pub struct Reader<S> {
    stream: S,
    pending: Vec<u8>,
    taken: Vec<u8>,
}

impl<S: Read> Reader<S> {
    /// Reads from a stream that has a time-out of its own.
    pub fn new(stream: S) -> Self {
        Self { stream, pending: Vec::new(), taken: Vec::new() }
    }

    /// The stream, for writing.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// More bytes, or none at the end of the stream.
    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16384];
        let read = self.stream.read(&mut chunk)?;
        self.pending.extend_from_slice(&chunk[..read]);
        Ok(read)
    }

    fn exact(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.pending.len() < length {
            ensure!(self.fill()? > 0, "closed {} bytes before the content ended", length - self.pending.len());
        }
        let bytes: Vec<u8> = self.pending.drain(..length).collect();
        self.taken.extend_from_slice(&bytes);
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String> {
        let end = loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                break end + 1;
            }
            ensure!(self.fill()? > 0, "closed in the middle of a line: {:?}", String::from_utf8_lossy(&self.pending));
        };
        let bytes = self.exact(end)?;
        let line = bytes.strip_suffix(b"\r\n").with_context(|| format!("a line without CR: {bytes:?}"))?;
        ensure!(!line.iter().any(|byte| matches!(byte, 0 | b'\r')), "NUL or CR in a line: {line:?}");
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    fn fields(&mut self) -> Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').with_context(|| format!("a field without colon: {line:?}"))?;
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            ensure!(!name.is_empty() && name.chars().all(token), "not a field name: {name:?}");
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// One head with nothing of its content, or none where the stream ended before it.
    pub fn head(&mut self) -> Result<Option<Message>> {
        self.taken.clear();
        if self.pending.is_empty() && self.fill()? == 0 {
            return Ok(None);
        }
        let start = self.line()?;
        let fields = self.fields()?;
        Ok(Some(Message { start, fields, raw: self.taken.clone(), ..Message::default() }))
    }

    /// The content that belongs to a head.
    fn content(&mut self, message: &mut Message, framing: Framing) -> Result<()> {
        match framing {
            Framing::Empty => {}
            Framing::Length(length) => message.body = self.exact(length)?,
            Framing::Close => {
                while self.fill()? > 0 {}
                message.body = std::mem::take(&mut self.pending);
                self.taken.extend_from_slice(&message.body);
            }
            Framing::Chunked => loop {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or("");
                ensure!(!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()), "chunk size {line:?}");
                let size = usize::from_str_radix(digits, 16)?;
                if size == 0 {
                    message.trailers = self.fields()?;
                    break;
                }
                message.body.extend(self.exact(size)?);
                ensure!(self.exact(2)? == b"\r\n", "chunk data does not end with CRLF");
            },
        }
        message.raw.clone_from(&self.taken);
        Ok(())
    }

    /// One whole request, or none where the stream ended before it.
    pub fn request(&mut self) -> Result<Option<Message>> {
        let Some(mut message) = self.head()? else { return Ok(None) };
        let parts: Vec<&str> = message.start.split(' ').collect();
        ensure!(parts.len() == 3 && parts[2].starts_with("HTTP/1."), "request line {:?}", message.start);
        self.rest_of_request(&mut message)?;
        Ok(Some(message))
    }

    /// The content of a request whose head was read.
    pub fn rest_of_request(&mut self, message: &mut Message) -> Result<()> {
        let framing = framing(message)?.unwrap_or(Framing::Empty);
        self.content(message, framing)
    }

    /// One whole response to a request of this method; interim responses count as responses.
    pub fn response(&mut self, method: &str) -> Result<Message> {
        let mut message = self.head()?.context("closed without an answer")?;
        ensure!(message.start.starts_with("HTTP/1."), "status line {:?}", message.start);
        let status = message.status();
        let framing = match framing(&message)? {
            _ if method == "HEAD" || status / 100 == 1 || matches!(status, 204 | 304) => Framing::Empty,
            Some(framing) => framing,
            None => Framing::Close,
        };
        self.content(&mut message, framing)?;
        Ok(message)
    }
}

/// The framing a head announces (RFC 9112, 6.3), none where it announces nothing.
fn framing(message: &Message) -> Result<Option<Framing>> {
    let coding = message.all("transfer-encoding");
    let length = message.all("content-length");
    match (coding.as_slice(), length.as_slice()) {
        ([], []) => Ok(None),
        ([coding], []) => {
            ensure!(coding.eq_ignore_ascii_case("chunked"), "transfer-encoding {coding:?}");
            Ok(Some(Framing::Chunked))
        }
        ([], [length]) => {
            ensure!(!length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()), "content-length {length:?}");
            Ok(Some(Framing::Length(length.parse()?)))
        }
        _ => bail!("ambiguous framing: {coding:?} {length:?}"),
    }
}

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A client connection that sends bytes as they are.
pub struct Client {
    reader: Reader<Box<dyn Duplex>>,
    socket: TcpStream,
}

impl Client {
    /// A connection in clear text.
    pub fn connect(address: SocketAddr) -> Self {
        let socket = open(address);
        let stream = Box::new(socket.try_clone().expect("clone a socket"));
        Self { reader: Reader::new(stream), socket }
    }

    /// A connection in clear text from this address of loopback.
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect(&address.into())?;
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let stream = Box::new(socket.try_clone()?);
        Ok(Self { reader: Reader::new(stream), socket })
    }

    /// A TLS connection; the handshake runs with the first bytes.
    pub fn tls(address: SocketAddr, name: &str, config: Arc<rustls::ClientConfig>) -> Result<Self> {
        Self::tls_after(address, "", name, config)
    }

    /// The same after some bytes in clear text.
    pub fn tls_after(
        address: SocketAddr,
        first: impl AsRef<[u8]>,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> Result<Self> {
        let mut socket = open(address);
        socket.write_all(first.as_ref())?;
        let name = ServerName::try_from(name.to_owned())?;
        let mut session = rustls::ClientConnection::new(config, name)?;
        let mut stream = socket.try_clone()?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        let stream = Box::new(rustls::StreamOwned::new(session, stream));
        Ok(Self { reader: Reader::new(stream), socket })
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("send");
    }

    /// Sends bytes to a peer that may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.stream().write_all(bytes.as_ref())?;
        self.reader.stream().flush()
    }

    /// The answer to a request with any method but HEAD.
    pub fn response(&mut self) -> Message {
        self.try_response("GET").expect("a response")
    }

    /// The answer to a request of this method.
    pub fn response_to(&mut self, method: &str) -> Message {
        self.try_response(method).expect("a response")
    }

    /// The answer, or why there is none.
    pub fn try_response(&mut self, method: &str) -> Result<Message> {
        self.reader.response(method)
    }

    /// The head of a response alone, for content the test reads by itself.
    pub fn head(&mut self) -> Message {
        self.reader.head().expect("a response head").expect("a response")
    }

    /// At least one byte, as it comes; empty at the end of the stream.
    pub fn bytes(&mut self) -> io::Result<Vec<u8>> {
        if self.reader.pending.is_empty() {
            self.reader.fill()?;
        }
        Ok(std::mem::take(&mut self.reader.pending))
    }

    /// As many bytes as fit, of those that come next.
    pub fn some(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.reader.pending.is_empty() {
            self.reader.fill()?;
        }
        let read = to.len().min(self.reader.pending.len());
        to[..read].copy_from_slice(&self.reader.pending[..read]);
        self.reader.pending.drain(..read);
        Ok(read)
    }

    /// Everything until the peer closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.reader.pending);
        // A reset after the last byte ends a stream as well.
        while self.reader.fill().unwrap_or(0) > 0 {
            all.append(&mut self.reader.pending);
        }
        all
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request);
        self.response()
    }

    /// Whether the peer closes without another byte.
    pub fn closes(&mut self) -> bool {
        if !self.reader.pending.is_empty() {
            return false;
        }
        match self.reader.fill() {
            Ok(read) => read == 0,
            Err(e) => matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof),
        }
    }

    /// Whether no byte comes within a while: for what must *not* be answered yet.
    pub fn silent_for(&mut self, wait: Duration) -> bool {
        self.patience(wait);
        let read = self.reader.fill();
        self.patience(PATIENCE);
        matches!(read, Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// How long the next reads and writes may wait.
    pub fn patience(&self, wait: Duration) {
        self.socket.set_read_timeout(Some(wait)).expect("set a time-out");
        self.socket.set_write_timeout(Some(wait)).expect("set a time-out");
    }

    /// Ends the sending direction.
    pub fn finish(&self) {
        self.socket.shutdown(Shutdown::Write).expect("shut down");
    }

    /// Closes with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).expect("set linger");
    }

    /// The socket beneath.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

/// Waits until the peer, a process of this machine, has read everything that was sent, or has closed.
pub fn until_read(socket: &TcpStream) {
    let end = Instant::now() + PATIENCE;
    while unread_by_peer(socket) {
        assert!(Instant::now() < end, "the peer reads nothing");
        std::thread::yield_now();
    }
}

/// Whether bytes wait in the peer's socket, as the kernel tells of every IPv4 socket: `local remote state sent:received`.
fn unread_by_peer(socket: &TcpStream) -> bool {
    let text = |address: io::Result<SocketAddr>| match address {
        Ok(SocketAddr::V4(v4)) => Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port())),
        _ => None,
    };
    let (Some(own), Some(peer)) = (text(socket.local_addr()), text(socket.peer_addr())) else { return false };
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table of sockets");
    let place = format!(" {peer} {own} ");
    let line = table.lines().find_map(|line| line.split_once(&place));
    let queue = line.and_then(|(_, rest)| rest.split(' ').nth(1)).and_then(|queues| queues.split_once(':'));
    queue.is_some_and(|(_, received)| received != "00000000")
}

fn open(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap_or_else(|e| panic!("connect {address}: {e}"));
    socket.set_nodelay(true).expect("set nodelay");
    socket.set_read_timeout(Some(PATIENCE)).expect("set a time-out");
    socket.set_write_timeout(Some(PATIENCE)).expect("set a time-out");
    socket
}

/// A GET request with these fields after `Host: test`; each field line without its CRLF.
pub fn get(target: &str, fields: &[&str]) -> Vec<u8> {
    let mut request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n");
    for field in fields {
        request.push_str(field);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Option<(&str, &str)>) {
        let read = Reader::new(bytes).response("GET");
        match expected {
            Some((start, body)) => {
                let message = read.expect("a response");
                assert_eq!((message.start.as_str(), message.text().as_str()), (start, body));
                assert_eq!(message.raw, bytes);
            }
            None => assert!(read.is_err(), "accepted {:?}", String::from_utf8_lossy(bytes)),
        }
    }

    #[test]
    fn the_reader_is_strict() {
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Some(("HTTP/1.1 200 OK", "hi")));
        check(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            Some(("HTTP/1.1 200 OK", "hi")),
        );
        check(b"HTTP/1.1 200 OK\r\n\r\nall of it", Some(("HTTP/1.1 200 OK", "all of it")));
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", None);
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", None);
        check(b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nhi", None);
        check(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n", None);
        check(b"HTTP/1.1 200 OK\r\nName : x\r\n\r\n", None);
    }
}
