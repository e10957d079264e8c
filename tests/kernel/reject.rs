//! `kernel_reject` between real sockets: what the client reads, and what the server's process sees.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray},
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        tc::{self, NlOptions, TcAttachOptions},
    },
    util::KernelVersion,
};
use edge_ebpf::rejection::{
    HANDSHAKE_PROGRAM, HANDSHAKES, HEAD_BYTES, HandshakeEntry, HandshakeKey, REJECT_ARMED, REJECT_COUNTERS,
    REJECT_GENERATION, REJECT_KEY, REJECT_LISTENERS, REJECT_PROGRAM, REJECTED, REPLIES, REPLY_BYTES, RejectCounter,
    RejectEntry, RejectListener, Reply,
};
use edge_user::kernel::reject_key;
use nix::{libc, setsockopt_impl, sys::socket::setsockopt};

use crate::{
    namespace::{Hosts, INTERFACE, Namespace, PEER},
    reject_fuzz::Random,
    segment::{ETHERNET_BYTES, Wire, checksum},
};

const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
pub(crate) const GENERATION: u64 = 7;
pub(crate) const LISTENER: u32 = 3;
pub(crate) const HOST: &str = "api.example";
pub(crate) const TOKEN: &str = "rejected.token-0";
const REPLY: u32 = 5;
pub(crate) const ANSWER: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer error=\"invalid_token\"\r\n\
    Content-Length: 3\r\nConnection: close\r\n\r\nno\n";
/// What the server answers to whatever it reads.
const SERVED: &[u8] = b"served";

/// The loaded programs, and a publisher's side of their maps.
pub(crate) struct Programs {
    ebpf: Ebpf,
}

#[derive(Clone, Copy, Debug)]
enum Hook {
    Tcx,
    Clsact,
}

impl Hook {
    /// Links came with Linux 6.6.
    fn newest() -> Self {
        if KernelVersion::current().unwrap() >= KernelVersion::new(6, 6, 0) { Self::Tcx } else { Self::Clsact }
    }
}

impl Programs {
    /// With one answer, at the generation, and nothing armed.
    pub(crate) fn load() -> Self {
        crate::require_root();
        let mut programs = Self { ebpf: Ebpf::load(edge_user::kernel::OBJECT).unwrap() };
        for name in [REJECT_PROGRAM, HANDSHAKE_PROGRAM] {
            programs.program(name).load().unwrap();
        }
        let mut key: Array<_, [u64; 2]> = programs.ebpf.map_mut(REJECT_KEY).unwrap().try_into().unwrap();
        key.set(0, KEY, 0).unwrap();
        programs.raise(GENERATION);
        programs.answer(REPLY, ANSWER.len());
        programs
    }

    pub(crate) fn program(&mut self, name: &str) -> &mut SchedClassifier {
        self.ebpf.program_mut(name).unwrap().try_into().unwrap()
    }

    fn attach(&mut self, namespace: &Namespace, interface: &str, hook: Hook) {
        namespace.run(|| {
            if matches!(hook, Hook::Clsact) {
                tc::qdisc_add_clsact(interface).unwrap();
            }
            for (name, direction) in
                [(REJECT_PROGRAM, TcAttachType::Ingress), (HANDSHAKE_PROGRAM, TcAttachType::Egress)]
            {
                let options = match hook {
                    Hook::Tcx => TcAttachOptions::TcxOrder(LinkOrder::default()),
                    Hook::Clsact => TcAttachOptions::Netlink(NlOptions::default()),
                };
                self.program(name).attach_with_options(interface, direction, options).unwrap();
            }
        });
    }

    /// Attaches by the newest way that this kernel has.
    pub(crate) fn attach_newest(&mut self, namespace: &Namespace, interface: &str) {
        self.attach(namespace, interface, Hook::newest());
    }

    pub(crate) fn arm(&mut self, port: u16, armed: bool) {
        let map = self.ebpf.map_mut(REJECT_LISTENERS).unwrap();
        let mut listeners: HashMap<_, u16, RejectListener> = map.try_into().unwrap();
        listeners.insert(port, RejectListener { armed: u32::from(armed), listener: LISTENER }, 0).unwrap();
        let mut count: Array<_, u64> = self.ebpf.map_mut(REJECT_ARMED).unwrap().try_into().unwrap();
        count.set(0, u64::from(armed), 0).unwrap();
    }

    pub(crate) fn raise(&mut self, generation: u64) {
        let mut map: Array<_, u64> = self.ebpf.map_mut(REJECT_GENERATION).unwrap().try_into().unwrap();
        map.set(0, generation, 0).unwrap();
    }

    /// Writes an answer, of which this many bytes are to be sent.
    pub(crate) fn answer(&mut self, place: u32, length: usize) {
        let mut bytes = [0; REPLY_BYTES as usize];
        bytes[..ANSWER.len()].copy_from_slice(ANSWER);
        let mut replies: Array<_, Reply> = self.ebpf.map_mut(REPLIES).unwrap().try_into().unwrap();
        replies.set(place, Reply { length: length as u32, pad: 0, bytes }, 0).unwrap();
    }

    pub(crate) fn reject(&mut self, host: &str, token: &str) {
        self.reject_with(host, token, entry());
    }

    pub(crate) fn reject_with(&mut self, host: &str, token: &str, entry: RejectEntry) {
        let key = reject_key(KEY, LISTENER, host.as_bytes(), token.as_bytes());
        let mut rejected: HashMap<_, edge_ebpf::rejection::RejectKey, RejectEntry> =
            self.ebpf.map_mut(REJECTED).unwrap().try_into().unwrap();
        rejected.insert(key, entry, 0).unwrap();
    }

    /// What was noted of handshakes.
    pub(crate) fn handshakes(&self) -> Vec<(HandshakeKey, HandshakeEntry)> {
        let map: HashMap<&MapData, HandshakeKey, HandshakeEntry> =
            self.ebpf.map(HANDSHAKES).unwrap().try_into().unwrap();
        map.iter().map(Result::unwrap).collect()
    }

    pub(crate) fn counters(&self) -> Vec<u64> {
        let map: PerCpuArray<_, u64> = self.ebpf.map(REJECT_COUNTERS).unwrap().try_into().unwrap();
        RejectCounter::ALL.map(|counter| map.get(&counter.index(), 0).unwrap().iter().sum()).to_vec()
    }

    pub(crate) fn count(&self, counter: RejectCounter) -> u64 {
        self.counters()[counter.index() as usize]
    }
}

/// What rejects a token now and for long.
pub(crate) fn entry() -> RejectEntry {
    RejectEntry { generation: GENERATION, expires_ns: u64::MAX, reply: REPLY, kept_reply: REPLY }
}

pub(crate) fn head(token: &str) -> String {
    format!("GET /orders?open=1 HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\nAuthorization: Bearer {token}\r\n\r\n")
}

#[derive(Clone)]
struct DeferAccept;
setsockopt_impl!(
    DeferAccept,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    i32,
    nix::sys::socket::sockopt::SetStruct<'_, i32>
);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Accept {
    /// As soon as the handshake is done.
    AtOnce,
    /// With the first bytes: `TCP_DEFER_ACCEPT`.
    Deferred,
}

/// A server that answers each read, and tells what it read.
struct Server {
    port: u16,
    accepted: Arc<AtomicUsize>,
    read: mpsc::Receiver<Vec<u8>>,
}

impl Server {
    fn start(namespace: &Namespace, accept: Accept) -> Self {
        let listener = namespace.run(|| TcpListener::bind("[::]:0").unwrap());
        if accept == Accept::Deferred {
            setsockopt(&listener, DeferAccept, &5).unwrap();
        }
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (tell, read) = mpsc::channel();
        let count = accepted.clone();
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let tell = tell.clone();
                thread::spawn(move || {
                    let mut bytes = vec![0; 65536];
                    while let Ok(length @ 1..) = connection.read(&mut bytes) {
                        let _ = tell.send(bytes[..length].to_vec());
                        if connection.write_all(SERVED).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { port, accepted, read }
    }

    /// All that was read since the last call.
    fn seen(&self) -> Vec<u8> {
        self.read.try_iter().flatten().collect()
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Served,
    Rejected,
}

/// A connection from the client's namespace.
struct Client(TcpStream);

impl Client {
    fn connect(hosts: &Hosts, server: &str, port: u16) -> Self {
        let server = SocketAddr::new(server.parse::<IpAddr>().unwrap(), port);
        let stream = hosts.client.run(|| TcpStream::connect_timeout(&server, Duration::from_secs(5)).unwrap());
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self(stream)
    }

    /// Sends the bytes and reads what comes back: exactly what the server says, or exactly the answer and then the end.
    fn ask(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<Outcome> {
        self.0.write_all(bytes.as_ref())?;
        let mut start = [0; SERVED.len()];
        self.0.read_exact(&mut start)?;
        if start == SERVED {
            return Ok(Outcome::Served);
        }
        let mut answer = start.to_vec();
        self.0.read_to_end(&mut answer)?;
        assert_eq!(String::from_utf8_lossy(&answer), String::from_utf8_lossy(ANSWER));
        Ok(Outcome::Rejected)
    }
}

fn ask(hosts: &Hosts, server: &str, port: u16, bytes: impl AsRef<[u8]>) -> Outcome {
    Client::connect(hosts, server, port).ask(bytes).unwrap()
}

const SERVERS: [&str; 2] = ["10.9.0.1", "fd00:9::1"];

/// Both families, all token lengths: the client reads the answer and the end, the server's process reads nothing.
#[track_caller]
fn check_rejection(hook: Hook, accept: Accept, timestamps: &str) {
    let hosts = Hosts::new();
    hosts.client.run(|| fs::write("/proc/sys/net/ipv4/tcp_timestamps", timestamps).unwrap());
    let mut programs = Programs::load();
    programs.attach(&hosts.server, INTERFACE, hook);
    let server = Server::start(&hosts.server, accept);
    programs.arm(server.port, true);
    let mut rejected = 0;
    for address in SERVERS {
        for length in [16, 100, 1000, 1300, 1400, 2000, 4000] {
            let token = format!("{length:A<length$}");
            programs.reject(HOST, &token);
            let name = format!("{hook:?}, {accept:?}, timestamps {timestamps}, {address}, {length} bytes");
            assert_eq!(ask(&hosts, address, server.port, head(&token)), Outcome::Rejected, "{name}");
            rejected += 1;
            assert_eq!(programs.count(RejectCounter::Rejected), rejected, "{name}");
            assert!(server.seen().is_empty(), "{name}");
            if accept == Accept::Deferred {
                assert_eq!(server.accepted.load(Ordering::SeqCst), 0, "{name}: accepted");
            }
        }
    }
    // Its neighbour, which nothing is known of, goes through whole.
    let known = head("another.token-00");
    assert_eq!(ask(&hosts, SERVERS[0], server.port, &known), Outcome::Served);
    assert_eq!(server.seen(), known.as_bytes());
}

#[test]
fn a_first_request_is_answered_by_link() {
    check_rejection(Hook::newest(), Accept::AtOnce, "1");
    check_rejection(Hook::newest(), Accept::Deferred, "1");
}

#[test]
fn a_first_request_is_answered_by_filter() {
    check_rejection(Hook::Clsact, Accept::AtOnce, "1");
    check_rejection(Hook::Clsact, Accept::Deferred, "1");
}

#[test]
fn a_first_request_without_timestamps_is_answered() {
    check_rejection(Hook::newest(), Accept::AtOnce, "0");
    check_rejection(Hook::newest(), Accept::Deferred, "0");
    check_rejection(Hook::Clsact, Accept::Deferred, "0");
}

/// A server with the programs, armed, that knows of [`TOKEN`].
fn start(accept: Accept) -> (Hosts, Programs, Server) {
    let hosts = Hosts::new();
    let mut programs = Programs::load();
    programs.attach_newest(&hosts.server, INTERFACE);
    let server = Server::start(&hosts.server, accept);
    programs.arm(server.port, true);
    programs.reject(HOST, TOKEN);
    (hosts, programs, server)
}

#[test]
fn only_the_first_segment_of_a_connection_is_judged() {
    for accept in [Accept::AtOnce, Accept::Deferred] {
        let (hosts, programs, server) = start(accept);
        let rejected = head(TOKEN);
        let (before, behind) = rejected.split_at(40);
        for address in SERVERS {
            let check = |segments: &[&str]| {
                let mut client = Client::connect(&hosts, address, server.port);
                for segment in segments {
                    assert_eq!(client.ask(segment).unwrap(), Outcome::Served, "{accept:?}, {segments:?}");
                }
                assert_eq!(server.seen(), segments.concat().as_bytes());
            };
            check(&[before, behind]);
            check(&[&head("another.token-00"), &rejected]);
            check(&["GET", " / HTTP/1.1\r\nHost: x\r\n\r\n", &rejected]);
            check(&[&rejected.repeat(2)]);
            assert_eq!(ask(&hosts, address, server.port, &rejected), Outcome::Rejected);
        }
        assert_eq!(programs.count(RejectCounter::Rejected), 2);
    }
}

#[test]
fn what_stands_against_a_token_is_asked_each_time() {
    let (hosts, mut programs, server) = start(Accept::Deferred);
    let ask = || ask(&hosts, SERVERS[0], server.port, head(TOKEN));
    assert_eq!(ask(), Outcome::Rejected);
    programs.arm(server.port, false);
    assert_eq!(ask(), Outcome::Served);
    programs.arm(server.port, true);
    assert_eq!(ask(), Outcome::Rejected);
    programs.raise(GENERATION + 1);
    assert_eq!(ask(), Outcome::Served);
    programs.raise(GENERATION);
    assert_eq!(ask(), Outcome::Rejected);
    assert_eq!(programs.counters(), [3, 0, 0, 1, 0, 0, 0, 0, 0]);
}

/// A connection whose SYN-ACK nobody noted can only be judged once it is established.
#[test]
fn without_its_handshake_a_deferred_connection_passes() {
    let (hosts, mut programs, server) = start(Accept::Deferred);
    programs.arm(server.port, false);
    let mut client = Client::connect(&hosts, SERVERS[0], server.port);
    programs.arm(server.port, true);
    assert_eq!(client.ask(head(TOKEN)).unwrap(), Outcome::Served);
    assert_eq!(programs.counters(), [0; 9]);
    assert_eq!(ask(&hosts, SERVERS[0], server.port, head(TOKEN)), Outcome::Rejected);
}

#[test]
fn the_longest_head_is_judged_and_a_longer_one_passes() {
    let (hosts, programs, server) = start(Accept::Deferred);
    // Else the client would make two segments of it.
    hosts.server.ip(&["link", "set", INTERFACE, "mtu", "9000"]);
    hosts.client.ip(&["link", "set", PEER, "mtu", "9000"]);
    for (address, timestamps) in [(SERVERS[0], "1"), (SERVERS[1], "0")] {
        hosts.client.run(|| fs::write("/proc/sys/net/ipv4/tcp_timestamps", timestamps).unwrap());
        for (length, expected) in [(HEAD_BYTES as usize, Outcome::Rejected), (HEAD_BYTES as usize + 1, Outcome::Served)]
        {
            let plain = head(TOKEN);
            let filler = "x".repeat(length - plain.len() - "X: \r\n".len());
            let long = plain.replace("Accept:", &format!("X: {filler}\r\nAccept:"));
            assert_eq!(long.len(), length);
            assert_eq!(ask(&hosts, address, server.port, long), expected, "{address}, {length} bytes");
        }
    }
    assert_eq!(programs.count(RejectCounter::Rejected), 2);
}

/// What a segment's checksum field holds.
#[derive(Debug, PartialEq)]
enum Checksum {
    Whole,
    /// The pseudo header's sum alone: a device would add the rest.
    Pseudo,
    Wrong,
}

impl Checksum {
    fn of(frame: &[u8]) -> Self {
        let (addresses, tcp) =
            if frame[12] == 8 { (26..34, ETHERNET_BYTES + 20) } else { (22..54, ETHERNET_BYTES + 40) };
        let segment = &frame[tcp..];
        let pseudo = [&frame[addresses], &[0, 6], &(segment.len() as u16).to_be_bytes()].concat();
        if checksum(&[&pseudo, segment]) == [0, 0] {
            Self::Whole
        } else if segment[16..18] == checksum(&[&pseudo]).map(|byte| !byte) {
            Self::Pseudo
        } else {
            Self::Wrong
        }
    }
}

/// Between hosts of one machine nobody computes a checksum (`CHECKSUM_PARTIAL`); after segments were merged it is like
/// that, too. The answer's is left to a device as well, or is whole where the kernel no longer leaves it to one.
#[test]
fn the_answer_s_checksum_is_right_whoever_completes_it() {
    let (hosts, _programs, server) = start(Accept::Deferred);
    let mut wire = Wire::open(&hosts.client);
    let sent = head(TOKEN);
    for address in SERVERS {
        assert_eq!(ask(&hosts, address, server.port, &sent), Outcome::Rejected);
        let request = wire.find(|frame| frame.ends_with(sent.as_bytes()));
        assert_eq!(Checksum::of(&request), Checksum::Pseudo, "{address}: this shows nothing");
        let answer = wire.find(|frame| frame.ends_with(ANSWER));
        assert_ne!(Checksum::of(&answer), Checksum::Wrong, "{address}");
    }
}

/// Many at once, on all CPUs; nothing is lost and nothing left behind.
#[test]
fn a_storm_of_rejected_connections_leaves_no_connection() {
    const CLIENTS: usize = 8;
    const EACH: usize = 250;
    let (hosts, programs, server) = start(Accept::Deferred);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (hosts, port) = (&hosts, server.port);
            scope.spawn(move || {
                for _ in 0..EACH {
                    assert_eq!(ask(hosts, SERVERS[client % 2], port, head(TOKEN)), Outcome::Rejected);
                }
            });
        }
    });
    assert_eq!(programs.counters(), [(CLIENTS * EACH) as u64, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(server.accepted.load(Ordering::SeqCst), 0);
    let left = hosts.server.run(|| fs::read_to_string("/proc/net/sockstat").unwrap());
    assert!(left.contains("TCP: inuse 0") || left.contains("TCP: inuse 1"), "{left}");
}

/// Publishes random tokens by the userspace hash and expects the kernel to find them.
#[test]
fn both_sides_compute_one_hash() {
    let (hosts, mut programs, server) = start(Accept::Deferred);
    let mut random = Random::new(0x5eed);
    for round in 0..200 {
        let length = if round < 70 { round + 1 } else { 1 + random.below(4096) };
        let token = random.token(length);
        let host = random.host();
        let plain = head(&token).replace(HOST, &host);
        assert_eq!(ask(&hosts, SERVERS[round % 2], server.port, &plain), Outcome::Served, "{host} {token}");
        programs.reject(&host, &token);
        assert_eq!(ask(&hosts, SERVERS[round % 2], server.port, &plain), Outcome::Rejected, "{host} {token}");
    }
}
