//! Single segments through `edge_reject`, by `BPF_PROG_TEST_RUN` on an established connection that has carried nothing
//! yet: which heads it judges, and what it makes of a segment.

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use aya::{
    TestRunOptions,
    programs::{SchedClassifier, TestRun as _},
};
use edge_ebpf::rejection::{HandshakeEntry, HandshakeKey, REJECT_PROGRAM, RejectCounter, RejectEntry};

use crate::{
    namespace::Namespace,
    reject::{ANSWER, GENERATION, HOST, Programs, TOKEN, entry, head},
    segment::{ACK, ETHERNET_BYTES, PSH, Segment, Wire},
};

/// `TC_ACT_UNSPEC`: other programs go on.
const NEXT: u32 = u32::MAX;

/// A client and a server on one host's `lo`, connected, and nothing said.
pub(crate) struct Connection {
    namespace: Namespace,
    pub(crate) programs: Programs,
    key: HandshakeKey,
    start: HandshakeEntry,
    _ends: (TcpStream, TcpStream),
}

impl Connection {
    /// To this address; [`TOKEN`] for [`HOST`] is rejected.
    pub(crate) fn new(address: &str) -> Self {
        let namespace = Namespace::new();
        let mut programs = Programs::load();
        programs.attach_newest(&namespace, "lo");
        programs.reject(HOST, TOKEN);
        let listener = namespace.run(|| TcpListener::bind((address, 0)).unwrap());
        let server = listener.local_addr().unwrap();
        programs.arm(server.port(), true);
        let client = namespace.run(|| TcpStream::connect(server).unwrap());
        let accepted = listener.accept().unwrap().0;
        let [(key, start)] = programs.handshakes()[..] else { panic!("one handshake") };
        assert_eq!(key.server_port_be, server.port().to_be_bytes());
        Self { namespace, programs, key, start, _ends: (client, accepted) }
    }

    /// The segment in which the client would send this first.
    pub(crate) fn segment(&self, payload: &[u8]) -> Segment {
        Segment {
            source: self.key.client,
            destination: self.key.server,
            ports: [self.key.client_port_be, self.key.server_port_be],
            sequence: self.start.client_first,
            acknowledgement: self.start.server_first,
            flags: ACK | PSH,
            options: Vec::new(),
            payload: payload.to_vec(),
        }
    }

    /// Runs the program on the frame within the namespace, and gives its verdict, its time, and what became of the frame.
    pub(crate) fn run(&mut self, frame: &[u8], repeat: u32) -> (u32, Duration, Vec<u8>) {
        let Self { namespace, programs, .. } = self;
        let program: &SchedClassifier = programs.program(REJECT_PROGRAM);
        let mut out = vec![0; 8192];
        let result = namespace.run(|| {
            let options =
                TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), repeat, ..Default::default() };
            program.test_run(options).unwrap()
        });
        out.truncate(result.data_size_out as usize);
        (result.return_value, result.duration, out)
    }

    /// The frame is counted as expected, or not at all, and others go on with it.
    #[track_caller]
    fn check(&mut self, name: &str, segment: &Segment, expected: Option<RejectCounter>) {
        let mut counters = self.programs.counters();
        if let Some(counter) = expected {
            counters[counter.index() as usize] += 1;
        }
        let frame = segment.frame();
        let (verdict, _, out) = self.run(&frame, 1);
        assert_eq!(verdict, NEXT, "{name}");
        assert_eq!(self.programs.counters(), counters, "{name}: expected {expected:?}");
        if expected == Some(RejectCounter::Rejected) {
            assert_eq!(out, segment.reset().frame(), "{name}: not the client's reset");
        } else {
            assert_eq!(out, frame, "{name}: a frame that passes was changed");
        }
    }

    #[track_caller]
    fn check_head(&mut self, head: &str, expected: RejectCounter) {
        let segment = self.segment(head.as_bytes());
        self.check(&format!("{head:?}"), &segment, Some(expected));
    }
}

const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
const ADDRESSES: [&str; 2] = ["127.0.0.1", "::1"];

#[test]
fn a_head_is_judged_only_if_it_is_plain() {
    use RejectCounter::{NotJudged, Rejected, Unknown};
    let mut connection = Connection::new("127.0.0.1");
    let plain = head(TOKEN);
    let with = |from: &str, to: &str| {
        assert!(plain.contains(from), "{from}");
        plain.replace(from, to)
    };
    let field = |field: &str| with("Accept: */*\r\n", field);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let many = |count: usize| field(&"X: y\r\n".repeat(count - 2));
    let table = [
        (plain.clone(), Rejected),
        // Method and target.
        (with("GET", "POST"), Rejected),
        (with("GET", "PUT"), Rejected),
        (with("GET", "PATCH"), Rejected),
        (with("GET", "DELETE"), Rejected),
        (with("GET", "HEAD"), NotJudged),
        (with("GET", "OPTIONS"), NotJudged),
        (with("GET", "get"), NotJudged),
        (with("GET", "GETS"), NotJudged),
        (with("/orders?open=1", "/"), Rejected),
        (with("/orders?open=1", "/%7Eme/a:b@c;d,e+f*(g)!$&'=[]_~-./?x"), Rejected),
        (with("/orders?open=1", "http://api.example/orders"), NotJudged),
        (with("/orders?open=1", "*"), NotJudged),
        (with("/orders?open=1", "/a b"), NotJudged),
        (with("/orders?open=1", "/a#b"), NotJudged),
        (with("/orders?open=1", "/a\"b"), NotJudged),
        (with("/orders?open=1", "/a\u{e9}b"), NotJudged),
        (with("GET /", "GET  /"), NotJudged),
        (with(" HTTP", "  HTTP"), NotJudged),
        (with("HTTP/1.1", "HTTP/1.0"), NotJudged),
        (with("HTTP/1.1", "HTTP/1.10"), NotJudged),
        (with("HTTP/1.1", "http/1.1"), NotJudged),
        (with("HTTP/1.1", "HTTP/2.0"), NotJudged),
        // The whole, no less, no more.
        (plain[..plain.len() - 1].to_owned(), NotJudged),
        (plain[..plain.len() - 2].to_owned(), NotJudged),
        (plain.clone() + "\n", NotJudged),
        (plain.clone() + "{}", NotJudged),
        (plain.repeat(2), NotJudged),
        (String::from("\r\n") + &plain, NotJudged),
        // Lines.
        (with("HTTP/1.1\r\n", "HTTP/1.1\n"), NotJudged),
        (with("*/*\r\n", "*/*\n"), NotJudged),
        (with("*/*\r\n", "*/*\r"), NotJudged),
        (with("*/*", "*\r*"), NotJudged),
        (with("*/*", "*\0*"), NotJudged),
        (with("*/*", "*\t*"), NotJudged),
        (with("*/*", "*\u{7f}*"), NotJudged),
        (with("*/*", "*\u{e9}*"), NotJudged),
        (with("*/*", "~ !"), Rejected),
        (field("Accept: */*\r\n text/html\r\n"), NotJudged),
        (field("Accept: */*\r\n\ttext/html\r\n"), NotJudged),
        // Fields.
        (field("X-Y_9: z\r\n"), Rejected),
        (field("X:\r\n"), Rejected),
        (field("X:y\r\n"), Rejected),
        (field("X : y\r\n"), NotJudged),
        (field(" X: y\r\n"), NotJudged),
        (field(": y\r\n"), NotJudged),
        (field("X\r\n"), NotJudged),
        (field("X(: y\r\n"), NotJudged),
        (field("\u{e9}: y\r\n"), NotJudged),
        (many(64), Rejected),
        (many(65), NotJudged),
        // What makes a head more than a head.
        (field("Content-Length: 0\r\n"), NotJudged),
        (field("content-length: 5\r\n"), NotJudged),
        (field("Content-Lengths: 0\r\n"), Rejected),
        (field("Content-Type: a/b\r\n"), Rejected),
        (field("Transfer-Encoding: chunked\r\n"), NotJudged),
        (field("TRANSFER-ENCODING: chunked\r\n"), NotJudged),
        (field("Expect: 100-continue\r\n"), NotJudged),
        (field("Expects: 100-continue\r\n"), Rejected),
        (field("Upgrade: h2c\r\n"), NotJudged),
        (field("Connection: keep-alive\r\n"), Rejected),
        (field("CONNECTION: Keep-Alive\r\n"), Rejected),
        (field("Connection: close\r\n"), Rejected),
        (field("Connection: Close\r\n"), Rejected),
        (field("Connection: closed\r\n"), NotJudged),
        (field("Connection: close, te\r\n"), NotJudged),
        (field("Connection:close\r\n"), NotJudged),
        (field("Connection: close \r\n"), NotJudged),
        (field("Connection: upgrade\r\n"), NotJudged),
        (field("Connections: upgrade\r\n"), Rejected),
        // Host.
        (with(HOST, "API.Example"), Rejected),
        (with("Host", "hOST"), Rejected),
        (with(HOST, "api.example:80"), Unknown),
        (with(HOST, "api.exampl"), Unknown),
        (with(HOST, "api.example."), Unknown),
        (with(HOST, &"a".repeat(255)), Unknown),
        (with(HOST, &"a".repeat(256)), NotJudged),
        (with("Host: api.example\r\n", ""), NotJudged),
        (with("Host: api.example\r\n", "Host: \r\n"), NotJudged),
        (with("Host: api.example\r\n", "Host:\r\n"), NotJudged),
        (with("Host: ", "Host:"), NotJudged),
        (with("Host: ", "Host:  "), NotJudged),
        (with(HOST, "api.example "), NotJudged),
        (field("Host: api.example\r\n"), NotJudged),
        (field("host: other\r\n"), NotJudged),
        (field("Hosts: other\r\n"), Rejected),
        // The token.
        (with("Bearer", "bearer"), Rejected),
        (with("Bearer", "BEARER"), Rejected),
        (with("Authorization", "AUTHORIZATION"), Rejected),
        (with("Bearer", "Basic"), NotJudged),
        (with("Bearer", "Bearers"), NotJudged),
        (with("Bearer ", "Bearer  "), NotJudged),
        (with("Bearer ", "Bearer\t"), NotJudged),
        (with(": Bearer", ":Bearer"), NotJudged),
        (with(": Bearer", ":  Bearer"), NotJudged),
        (with(TOKEN, ""), NotJudged),
        (with(TOKEN, "="), NotJudged),
        (with(TOKEN, "rejected.token-1"), Unknown),
        (with(TOKEN, "rejected.token-0="), Unknown),
        (with(TOKEN, "rejected.token-00"), Unknown),
        (with(TOKEN, "rejected.token-"), Unknown),
        (with(TOKEN, "AZaz09-._~+/=="), Unknown),
        (with(TOKEN, "rejected.t=ken-0"), NotJudged),
        (with(TOKEN, "1234567=8"), NotJudged),
        (with(TOKEN, "rejected.token-0 "), NotJudged),
        (with(TOKEN, "rejected.token-0, x"), NotJudged),
        (with(TOKEN, "rejected,token-0"), NotJudged),
        (with(TOKEN, "rejected:token-0"), NotJudged),
        (with(TOKEN, "rejected@token-0"), NotJudged),
        (with(TOKEN, "rejected[token-0"), NotJudged),
        (with(TOKEN, "rejected`token-0"), NotJudged),
        (with(&bearer, ""), NotJudged),
        (field(&bearer), NotJudged),
        (field("authorization: Basic eA==\r\n"), NotJudged),
        (field("Proxy-Authorization: Basic eA==\r\n"), Rejected),
        (field("Cookie: a=b; c=\"d\"\r\n"), Rejected),
    ];
    for (head, expected) in table {
        connection.check_head(&head, expected);
    }
}

#[test]
fn an_entry_counts_while_it_is_current_and_has_an_answer() {
    use RejectCounter::{NoReply, Rejected, Stale};
    let mut connection = Connection::new("127.0.0.1");
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    let now_ns = Duration::from(now).as_nanos() as u64;
    connection.programs.answer(8, 0);
    connection.programs.answer(9, 513);
    for (entry, expected) in [
        (entry(), Rejected),
        (RejectEntry { generation: GENERATION + 1, ..entry() }, Stale),
        (RejectEntry { generation: GENERATION - 1, ..entry() }, Stale),
        (RejectEntry { expires_ns: now_ns, ..entry() }, Stale),
        (RejectEntry { expires_ns: now_ns + 600_000_000_000, ..entry() }, Rejected),
        (RejectEntry { reply: 7, ..entry() }, NoReply),
        (RejectEntry { reply: 8, ..entry() }, NoReply),
        (RejectEntry { reply: 9, ..entry() }, NoReply),
        (RejectEntry { reply: 256, ..entry() }, NoReply),
    ] {
        connection.programs.reject_with(HOST, TOKEN, entry);
        connection.check_head(&head(TOKEN), expected);
    }
}

#[test]
fn a_segment_is_answered_only_if_it_is_plain() {
    use RejectCounter::{Failed, Rejected};
    for address in ADDRESSES {
        let mut connection = Connection::new(address);
        let plain = connection.segment(head(TOKEN).as_bytes());
        let with = |change: fn(&mut Segment)| {
            let mut segment = plain.clone();
            change(&mut segment);
            segment
        };
        let table: [(&str, Segment, Option<RejectCounter>); 17] = [
            ("plain", plain.clone(), Some(Rejected)),
            ("timestamps", with(|segment| segment.options = TIMESTAMPS.to_vec()), Some(Rejected)),
            ("one option", with(|segment| segment.options = vec![1; 4]), Some(Failed)),
            ("as long as timestamps", with(|segment| segment.options = vec![1; 12]), Some(Failed)),
            ("all options", with(|segment| segment.options = vec![1; 40]), Some(Failed)),
            ("not pushed", with(|segment| segment.flags = ACK), Some(Rejected)),
            ("marked congestion", with(|segment| segment.flags |= 0xc0), Some(Rejected)),
            ("no acknowledgement", with(|segment| segment.flags = PSH), None),
            ("end", with(|segment| segment.flags |= 0x01), None),
            ("start", with(|segment| segment.flags |= 0x02), None),
            ("reset", with(|segment| segment.flags |= 0x04), None),
            ("urgent", with(|segment| segment.flags |= 0x20), None),
            ("a later byte", with(|segment| segment.sequence = segment.sequence.wrapping_add(1)), None),
            ("an earlier byte", with(|segment| segment.sequence = segment.sequence.wrapping_sub(1)), None),
            (
                "an acknowledgement too far",
                with(|segment| segment.acknowledgement = segment.acknowledgement.wrapping_add(1)),
                None,
            ),
            ("another client", with(|segment| segment.ports[0] = [0, 1]), None),
            ("nothing", with(|segment| segment.payload.clear()), None),
        ];
        for (name, segment, expected) in table {
            connection.check(&format!("{address}, {name}"), &segment, expected);
        }

        let frame = plain.frame();
        let ip = ETHERNET_BYTES;
        let changes: &[(&str, usize, u8)] = if plain.is_v4() {
            &[
                ("more fragments", ip + 6, 0x20),
                ("a later fragment", ip + 7, 1),
                ("UDP", ip + 9, 17),
                ("options", ip, 0x46),
            ]
        } else {
            &[("an extension header", ip + 6, 0), ("a fragment header", ip + 6, 44), ("version 4", ip, 0x40)]
        };
        let counters = connection.programs.counters();
        for (name, offset, byte) in changes {
            let mut frame = frame.clone();
            frame[*offset] = *byte;
            assert_eq!(connection.run(&frame, 1).0, NEXT);
            assert_eq!(connection.programs.counters(), counters, "{address}, {name}");
        }
        let padded = [&frame[..], &[0]].concat();
        let cut = &frame[..frame.len() - 1];
        let mut foreign = frame.clone();
        foreign[0] = 2; // another host's hardware address
        let tagged = [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat();
        for frame in [&padded[..], cut, &foreign, &tagged] {
            assert_eq!(connection.run(frame, 1).0, NEXT);
            assert_eq!(connection.programs.counters(), counters, "{address}");
        }
    }
}

/// The copy that leaves is the answer, byte for byte: turned round, numbered on, with whole checksums.
#[test]
fn the_client_gets_the_answer_and_the_end() {
    for address in ADDRESSES {
        let mut connection = Connection::new(address);
        let mut wire = Wire::open(&connection.namespace);
        for options in [&[][..], &TIMESTAMPS] {
            let mut segment = connection.segment(head(TOKEN).as_bytes());
            segment.options = options.to_vec();
            connection.check(address, &segment, Some(RejectCounter::Rejected));
            let mut expected = segment.answer(ANSWER).frame();
            expected[..12].rotate_left(6); // the hardware addresses are turned round, too
            // `lo` shows each frame twice, as it leaves and as it arrives.
            let found = wire.find(|frame| frame.ends_with(ANSWER) && frame.len() == expected.len());
            assert_eq!(found, expected);
        }
    }
}

/// Not a bound on time, which other work on the machine would break, but on what the verifier has to follow.
#[test]
fn the_verifier_is_done_soon() {
    let mut programs = Programs::load();
    for name in [REJECT_PROGRAM, edge_ebpf::rejection::HANDSHAKE_PROGRAM] {
        let verified = programs.program(name).info().unwrap().verified_instruction_count().unwrap();
        println!("{name}: {verified} instructions verified");
        assert!(verified < 300_000, "{name}: {verified}");
    }
}
