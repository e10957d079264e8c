//! A name server that answers as it was told, over UDP and TCP, and counts what it was asked (RFC 1035).

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::wire::PATIENCE;

/// What one record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name.
    Cname(String),
    /// A service (RFC 2782).
    Srv {
        /// Lowest first.
        priority: u16,
        /// Share within a priority.
        weight: u16,
        /// Where it listens.
        port: u16,
        /// The name that has its addresses.
        target: String,
    },
}

impl Data {
    /// A service of priority 1.
    pub fn srv(target: &str, port: u16, weight: u16) -> Self {
        Self::Srv { priority: 1, weight, port, target: target.into() }
    }

    fn kind(&self) -> u16 {
        match self {
            Self::A(_) => A,
            Self::Cname(_) => CNAME,
            Self::Aaaa(_) => AAAA,
            Self::Srv { .. } => SRV,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::A(address) => address.octets().into(),
            Self::Aaaa(address) => address.octets().into(),
            Self::Cname(name) => labels(name),
            Self::Srv { priority, weight, port, target } => {
                let numbers = [priority, weight, port].into_iter().flat_map(|number| number.to_be_bytes());
                numbers.chain(labels(target)).collect()
            }
        }
    }
}

impl From<IpAddr> for Data {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::A(address),
            IpAddr::V6(address) => Self::Aaaa(address),
        }
    }
}

/// The type of A records.
pub const A: u16 = 1;
/// The type of CNAME records.
pub const CNAME: u16 = 5;
/// The type of AAAA records.
pub const AAAA: u16 = 28;
/// The type of SRV records.
pub const SRV: u16 = 33;

/// How the server treats a name in place of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// RCODE 2.
    ServFail,
    /// No answer at all.
    Silence,
    /// Over UDP an empty answer with TC, over TCP the whole.
    Truncate,
}

#[derive(Default)]
struct Zone {
    records: HashMap<String, (u32, Vec<Data>)>,
    faults: HashMap<(String, u16), Fault>,
    glue: bool,
    silent: bool,
    asked: Vec<(String, u16)>,
}

/// The server; its threads end with the test's process.
pub struct DnsServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl DnsServer {
    /// Listens; every name is unknown.
    pub fn start() -> Self {
        // The same port for both protocols; it may be taken for one of them.
        let (udp, tcp) = (0..20)
            .find_map(|_| {
                let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
                let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .expect("a port free for UDP and TCP");
        let address = udp.local_addr().expect("an address");
        let zone = Arc::new(Mutex::new(Zone::default()));
        let (of_udp, of_tcp) = (zone.clone(), zone.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = lock(&of_udp).answer(&buffer[..length], true) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                let zone = of_tcp.clone();
                std::thread::spawn(move || serve(stream, &zone));
            }
        });
        Self { address, zone }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The lines of `[dns]` that name this server alone, and more of it.
    pub fn section(&self, more: &str) -> String {
        format!("[dns]\nnameservers = [\"{}\"]\n{more}\n", self.address)
    }

    /// All records of a name, in this order.
    pub fn set(&self, name: &str, ttl: u32, records: impl IntoIterator<Item = Data>) {
        lock(&self.zone).records.insert(name.into(), (ttl, records.into_iter().collect()));
    }

    /// A name that no longer exists.
    pub fn remove(&self, name: &str) {
        lock(&self.zone).records.remove(name);
    }

    /// Treats questions for a name and type so; `None` ends it.
    pub fn fault(&self, name: &str, kind: u16, fault: Option<Fault>) {
        let mut zone = lock(&self.zone);
        match fault {
            Some(fault) => zone.faults.insert((name.into(), kind), fault),
            None => zone.faults.remove(&(name.into(), kind)),
        };
    }

    /// Whether SRV answers carry the addresses of their targets along. Not at first.
    pub fn glue(&self, glue: bool) {
        lock(&self.zone).glue = glue;
    }

    /// Whether nobody gets an answer any more.
    pub fn silent(&self, silent: bool) {
        lock(&self.zone).silent = silent;
    }

    /// How often a name was asked for with this type.
    pub fn asked(&self, name: &str, kind: u16) -> usize {
        lock(&self.zone).asked.iter().filter(|(asked, of)| asked == name && *of == kind).count()
    }

    /// Waits until a name was asked for so often with this type.
    pub fn wait(&self, name: &str, kind: u16, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.asked(name, kind) < count {
            assert!(Instant::now() < end, "{name} was asked for {} times", self.asked(name, kind));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn lock(zone: &Mutex<Zone>) -> MutexGuard<'_, Zone> {
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, zone: &Mutex<Zone>) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        let Some(answer) = lock(zone).answer(&question, false) else { continue };
        let length = u16::try_from(answer.len()).expect("a short answer");
        if stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).is_err() {
            return;
        }
    }
}

const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;

impl Zone {
    fn answer(&mut self, question: &[u8], over_udp: bool) -> Option<Vec<u8>> {
        let (name, end) = name_at(question, 12)?;
        let kind = u16::from_be_bytes(question.get(end..end + 2)?.try_into().ok()?);
        self.asked.push((name.clone(), kind));
        let fault = self.faults.get(&(name.clone(), kind)).copied();
        if self.silent || fault == Some(Fault::Silence) {
            return None;
        }
        let (mut code, mut answers, mut additionals) = (NO_ERROR, Vec::new(), Vec::new());
        let truncated = over_udp && fault == Some(Fault::Truncate);
        match self.records.get(&name) {
            _ if fault == Some(Fault::ServFail) => code = SERVER_FAILURE,
            _ if truncated => {}
            None => code = NAME_ERROR,
            Some((ttl, records)) => {
                for data in records.iter().filter(|data| data.kind() == kind || data.kind() == CNAME) {
                    answers.push(record(&name, *ttl, data));
                    match data {
                        Data::Cname(target) => answers.extend(self.of(target, |data| data.kind() == kind)),
                        Data::Srv { target, .. } if self.glue => additionals.extend(self.of(target, |_| true)),
                        _ => {}
                    }
                }
            }
        }
        let flags = [0x84 | question[2] & 1 | u8::from(truncated) << 1, 0x80 | code];
        let count = |of: &[Vec<u8>]| u16::try_from(of.len()).expect("few records").to_be_bytes();
        let counts = [[0, 1], count(&answers), [0, 0], count(&additionals)].concat();
        let asked = &question[12..end + 4];
        Some([&question[..2], &flags, &counts, asked, &answers.concat(), &additionals.concat()].concat())
    }

    fn of(&self, name: &str, wanted: impl Fn(&Data) -> bool) -> Vec<Vec<u8>> {
        let Some((ttl, records)) = self.records.get(name) else { return Vec::new() };
        records.iter().filter(|data| wanted(data)).map(|data| record(name, *ttl, data)).collect()
    }
}

/// The name at an offset, in lower case, and the offset behind it. Questions have no compression.
fn name_at(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name: Vec<String> = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name.join("."), at));
        }
        name.push(String::from_utf8_lossy(message.get(at..at + length)?).to_lowercase());
        at += length;
    }
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).expect("a short label"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn record(name: &str, ttl: u32, data: &Data) -> Vec<u8> {
    let bytes = data.bytes();
    let length = u16::try_from(bytes.len()).expect("short data").to_be_bytes();
    [&labels(name)[..], &data.kind().to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length, &bytes].concat()
}
