//! A small HTTP/1.1 load generator: one thread, readiness by epoll, clear text or TLS.
//!
//! At rate 0 each connection sends its next request when the answer is in (closed loop). At rate n request k is due at
//! k/n seconds and its latency counts from then, whatever became of the ones before it (no coordinated omission).

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use socket2::{Domain, Socket, Type};

/// What to send where.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The proxy
    address: SocketAddr,
    /// Seconds to run
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Connections
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Requests a second; 0: as many as answers come
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// A new connection for each request
    #[arg(long)]
    close: bool,
    /// A file with one bearer token a line
    #[arg(long)]
    tokens: Option<PathBuf>,
    /// Speak TLS and trust this certificate
    #[arg(long)]
    tls: Option<PathBuf>,
    /// Exchange keys by X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem) alone; with the feature `aws-lc`
    #[arg(long)]
    post_quantum: bool,
    /// Ask for `/route-0/…` to so many in turn, and want `X-Route` to say which one answered
    #[arg(long, default_value_t = 0)]
    routes: usize,
    /// The address to come from; connections are then opened without waiting, for their SYNs may be dropped
    #[arg(long)]
    source: Option<Ipv4Addr>,
    /// What to ask for
    #[arg(long, default_value = "/api/v1/orders")]
    path: String,
    /// Stop after so many answers
    #[arg(long)]
    requests: Option<u64>,
}

/// The timer's place among the connections.
const TIMER: u64 = u64::MAX;

/// One connection, and the request on it.
struct Connection {
    socket: Option<TcpStream>,
    session: Option<Box<rustls::ClientConnection>>,
    outgoing: Vec<u8>,
    answer: Vec<u8>,
    /// Which of the requests is under way.
    request: usize,
    due: Instant,
    busy: bool,
}

/// What came back.
#[derive(Default)]
struct Tally {
    latencies: Vec<u32>,
    unlike_2xx: u64,
    errors: u64,
    /// Answers of another route than the one asked.
    wrong_route: u64,
    /// When a request failed last.
    last_failure: Option<Instant>,
    late: u64,
}

struct Load<'a> {
    args: &'a Args,
    tls: Option<Arc<rustls::ClientConfig>>,
    requests: Vec<Vec<u8>>,
    next: usize,
    epoll: Epoll,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    tally: Tally,
}

/// Runs and prints one line of JSON.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut load = Load::new(args)?;
    let start = Instant::now();
    load.drive(start)?;
    let took = start.elapsed();
    let Tally { mut latencies, unlike_2xx, errors, wrong_route, last_failure, late } = load.tally;
    latencies.sort_unstable();
    let quantile = |q: f64| {
        let index = ((latencies.len() as f64 * q) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0.0, |&tenths| f64::from(tenths) / 10.0)
    };
    let line = json!({
        "requests": latencies.len(), "duration_us": took.as_micros() as u64, "unlike_2xx": unlike_2xx, "errors": errors,
        "wrong_route": wrong_route, "last_failure_us": last_failure.map(|at| (at - start).as_micros() as u64), "late": late, "p50": quantile(0.5), "p99": quantile(0.99), "p999": quantile(0.999),
    });
    edge_tests::parties::say(&line.to_string());
    Ok(())
}

impl<'a> Load<'a> {
    fn new(args: &'a Args) -> Result<Self> {
        let tls = args.tls.as_deref().map(|root| client(root, args.post_quantum)).transpose()?;
        let tokens = match &args.tokens {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?,
            None => String::new(),
        };
        let close = if args.close { "Connection: close\r\n" } else { "" };
        let request = |token: &str, path: &str| {
            let authorization =
                if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
            format!(
                "GET {path} HTTP/1.1\r\nHost: bench.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n{close}{authorization}\r\n"
            )
            .into_bytes()
        };
        let mut requests: Vec<Vec<u8>> = tokens.lines().map(|token| request(token, &args.path)).collect();
        requests.extend((0..args.routes).map(|route| request("", &format!("/route-{route}/orders"))));
        if requests.is_empty() {
            requests.push(request("", &args.path));
        }
        let now = Instant::now();
        let blank = || Connection {
            socket: None,
            session: None,
            outgoing: Vec::new(),
            answer: Vec::with_capacity(4096),
            request: 0,
            due: now,
            busy: false,
        };
        Ok(Self {
            args,
            tls,
            requests,
            next: 0,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            connections: (0..args.connections).map(|_| blank()).collect(),
            idle: (0..args.connections).collect(),
            tally: Tally { latencies: Vec::with_capacity(1 << 20), ..Tally::default() },
        })
    }

    fn drive(&mut self, start: Instant) -> Result<()> {
        let end = start + Duration::from_secs_f64(self.args.seconds);
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        self.epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let gap = if self.args.rate > 0 { 1e9 / f64::from(self.args.rate) } else { 0.0 };
        let mut due_count = 0_u64;
        let mut events = vec![EpollEvent::empty(); 256];
        loop {
            let now = Instant::now();
            let enough = self.args.requests.is_some_and(|most| self.tally.latencies.len() as u64 >= most);
            if now >= end || enough {
                return Ok(());
            }
            let mut wake = end;
            if self.args.rate > 0 {
                loop {
                    let due = start + Duration::from_nanos((due_count as f64 * gap) as u64);
                    if due > Instant::now() {
                        wake = wake.min(due);
                        break;
                    }
                    let Some(index) = self.idle.pop_front() else { break };
                    self.tally.late += u64::from(due.elapsed() > Duration::from_millis(1));
                    due_count += 1;
                    self.send(index, due);
                }
            } else {
                for _ in 0..self.idle.len() {
                    if let Some(index) = self.idle.pop_front() {
                        self.send(index, Instant::now());
                    }
                }
            }
            let wait = wake.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
            timer.set(Expiration::OneShot(wait.into()), TimerSetTimeFlags::empty())?;
            let count = self.epoll.wait(&mut events, EpollTimeout::NONE)?;
            for event in &events[..count] {
                if event.data() == TIMER {
                    let _ = timer.wait();
                } else {
                    self.ready(event.data() as usize);
                }
            }
        }
    }

    /// Opens the connection where it is not open; each has a source address of its own, so that ports last.
    fn open(&self, index: usize) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(source) = self.args.source {
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
            socket.set_nonblocking(true)?;
        } else if self.args.close {
            let source = Ipv4Addr::from(0x7f00_0101 + index as u32);
            // Without a port yet: the kernel chooses one for the pair of addresses.
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&self.args.address.into()) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
            connected => connected?,
        }
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let socket = TcpStream::from(socket);
        let mut interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        interest.set(EpollFlags::EPOLLOUT, self.args.source.is_some());
        self.epoll.add(socket.as_fd(), EpollEvent::new(interest, index as u64))?;
        Ok(socket)
    }

    fn send(&mut self, index: usize, due: Instant) {
        let opened = if self.connections[index].socket.is_none() { self.open(index).map(Some) } else { Ok(None) };
        let request = self.next;
        self.next = (self.next + 1) % self.requests.len();
        let connection = &mut self.connections[index];
        connection.due = due;
        connection.request = request;
        connection.busy = true;
        connection.answer.clear();
        connection.outgoing.clear();
        connection.outgoing.extend_from_slice(&self.requests[request]);
        match opened {
            Ok(Some(socket)) => {
                connection.socket = Some(socket);
                connection.session = self.tls.as_ref().map(|config| Box::new(session(config)));
            }
            Ok(None) => {}
            Err(_) => return self.fail(index),
        }
        if self.connections[index].write().is_err() {
            self.fail(index);
        }
    }

    fn fail(&mut self, index: usize) {
        self.tally.errors += 1;
        self.tally.last_failure = Some(Instant::now());
        self.connections[index].close();
        self.idle.push_back(index);
    }

    fn ready(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.socket.is_none() {
            return;
        }
        let open = connection.read().and_then(|open| connection.write().map(|()| open)).unwrap_or(false);
        if !connection.busy {
            if !open {
                connection.close();
            }
            return;
        }
        match whole(&connection.answer) {
            Some(status) => {
                let tenths = connection.due.elapsed().as_nanos() / 100;
                self.tally.latencies.push(u32::try_from(tenths).unwrap_or(u32::MAX));
                if status / 100 != 2 {
                    self.tally.unlike_2xx += 1;
                    self.tally.last_failure = Some(Instant::now());
                } else if self.args.routes > 0 {
                    let wanted = format!("X-Route: {}\r\n", connection.request);
                    let found = connection.answer.windows(wanted.len()).any(|window| window == wanted.as_bytes());
                    self.tally.wrong_route += u64::from(!found);
                }
                connection.busy = false;
                // As a client that sent `Connection: close` does: the peer's end is not waited for.
                if self.args.close || !open {
                    connection.close();
                }
                self.idle.push_back(index);
            }
            None if open => {}
            None => self.fail(index),
        }
    }
}

impl Connection {
    fn close(&mut self) {
        self.socket = None;
        self.session = None;
        self.busy = false;
    }

    /// Sends what is to be sent, as far as the socket takes it.
    fn write(&mut self) -> io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        match &mut self.session {
            None => {
                if !self.outgoing.is_empty() {
                    // A request fits the socket's buffer.
                    match socket.write_all(&self.outgoing) {
                        Ok(()) => self.outgoing.clear(),
                        // Not connected yet.
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                        Err(e) => return Err(e),
                    }
                }
            }
            Some(session) => {
                if !session.is_handshaking() && !self.outgoing.is_empty() {
                    session.writer().write_all(&self.outgoing)?;
                    self.outgoing.clear();
                }
                while session.wants_write() {
                    match session.write_tls(socket) {
                        Ok(_) => {}
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                        Err(e) => return Err(e),
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads what there is; whether the peer may still send.
    fn read(&mut self) -> io::Result<bool> {
        let Some(socket) = &mut self.socket else { return Ok(false) };
        let mut chunk = [0; 16384];
        loop {
            let read = match &mut self.session {
                None => socket.read(&mut chunk),
                Some(session) => session.read_tls(socket),
            };
            let count = match read {
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            };
            match &mut self.session {
                None => self.answer.extend_from_slice(&chunk[..count]),
                Some(session) => {
                    let state = session.process_new_packets().map_err(io::Error::other)?;
                    let plain = state.plaintext_bytes_to_read();
                    if plain > 0 {
                        let at = self.answer.len();
                        self.answer.resize(at + plain, 0);
                        session.reader().read_exact(&mut self.answer[at..])?;
                    }
                }
            }
            if count == 0 {
                return Ok(false);
            }
        }
    }
}

/// The status of an answer that is complete.
fn whole(bytes: &[u8]) -> Option<u16> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    for line in head.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            let length: usize = value.trim().parse().ok()?;
            return (bytes.len() >= end + length).then_some(status);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return bytes.ends_with(b"0\r\n\r\n").then_some(status);
        }
    }
    Some(status)
}

fn client(certificate: &Path, post_quantum: bool) -> Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let provider = rustls::crypto::ring::default_provider();
    let kx_groups = if post_quantum { post_quantum_groups()? } else { provider.kx_groups };
    let provider = Arc::new(CryptoProvider { kx_groups, ..provider });
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Each handshake is a full one.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

#[cfg(feature = "aws-lc")]
fn post_quantum_groups() -> Result<Vec<&'static dyn SupportedKxGroup>> {
    Ok(vec![rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768])
}

#[cfg(not(feature = "aws-lc"))]
fn post_quantum_groups() -> Result<Vec<&'static dyn SupportedKxGroup>> {
    anyhow::bail!("--post-quantum is there with the feature aws-lc alone")
}

fn session(config: &Arc<rustls::ClientConfig>) -> rustls::ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    rustls::ClientConnection::new(config.clone(), name).expect("a client")
}
