//! Single segments of a kept connection through `edge_kept` and `edge_shift`, by `BPF_PROG_TEST_RUN`: which numbers
//! change, and that nothing else does. What is expected is written anew, checksum and all.

use aya::{
    Ebpf, TestRunOptions,
    maps::{Array, HashMap},
    programs::{SchedClassifier, TestRun as _},
};
use edge_ebpf::{
    kept::{DATA, DETOUR, FLOW_COUNT, FLOWS, Flow, KEPT_PROGRAM, SHIFT_PROGRAM},
    rejection::{HANDSHAKE_PROGRAM, HandshakeKey, REJECT_PROGRAM},
};

use crate::{
    namespace::Namespace,
    segment::{ACK, PSH, Segment},
};

const NEXT: u32 = u32::MAX;
const LOST: u32 = 2;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];

/// Requests of 1,000 bytes taken out, answers of 300 put in; numbers pass zero.
const TAKEN: u32 = 1000;
const GIVEN: u32 = 300;
const CLIENT: u32 = u32::MAX - 100;
const SERVER: u32 = u32::MAX - 50;

struct Bench {
    namespace: Namespace,
    ebpf: Ebpf,
    key: HandshakeKey,
}

impl Bench {
    fn new(address: [u8; 16]) -> Self {
        let namespace = Namespace::new();
        let mut ebpf = Ebpf::load(edge_user::kernel::OBJECT).unwrap();
        for name in [REJECT_PROGRAM, HANDSHAKE_PROGRAM, KEPT_PROGRAM, SHIFT_PROGRAM] {
            let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap();
        }
        let mut count: Array<_, u64> = ebpf.map_mut(FLOW_COUNT).unwrap().try_into().unwrap();
        count.set(0, 1, 0).unwrap();
        let key = HandshakeKey {
            client: address,
            server: address,
            client_port_be: 40_000_u16.to_be_bytes(),
            server_port_be: 8000_u16.to_be_bytes(),
        };
        let mut bench = Self { namespace, ebpf, key };
        let shifts = u64::from(TAKEN) | u64::from(GIVEN) << 32;
        bench.put(Flow { shifts, server_next: SERVER, ..Flow::default() });
        bench
    }

    fn flows(&mut self) -> HashMap<&mut aya::maps::MapData, HandshakeKey, Flow> {
        self.ebpf.map_mut(FLOWS).unwrap().try_into().unwrap()
    }

    fn put(&mut self, flow: Flow) {
        let key = self.key;
        self.flows().insert(key, flow, 0).unwrap();
    }

    /// As the client sends it, and as the server's TCP sees it.
    fn coming(&self, flags: u8, options: &[u8], shifted: &[u8], payload: &[u8]) -> [Segment; 2] {
        let segment = Segment {
            source: self.key.client,
            destination: self.key.server,
            ports: [self.key.client_port_be, self.key.server_port_be],
            sequence: CLIENT,
            acknowledgement: if flags & ACK == 0 { 0 } else { SERVER },
            flags,
            options: options.to_vec(),
            payload: payload.to_vec(),
        };
        let there = Segment {
            sequence: CLIENT.wrapping_sub(TAKEN),
            acknowledgement: if flags & ACK == 0 { 0 } else { SERVER.wrapping_sub(GIVEN) },
            options: shifted.to_vec(),
            ..segment.clone()
        };
        [segment, there]
    }

    /// As the server's TCP sends it, and as the client sees it.
    fn going(&self, flags: u8, options: &[u8], shifted: &[u8], payload: &[u8]) -> [Segment; 2] {
        let segment = Segment {
            source: self.key.server,
            destination: self.key.client,
            ports: [self.key.server_port_be, self.key.client_port_be],
            sequence: SERVER,
            acknowledgement: if flags & ACK == 0 { 0 } else { CLIENT },
            flags,
            options: options.to_vec(),
            payload: payload.to_vec(),
        };
        let there = Segment {
            sequence: SERVER.wrapping_add(GIVEN),
            acknowledgement: if flags & ACK == 0 { 0 } else { CLIENT.wrapping_add(TAKEN) },
            options: shifted.to_vec(),
            ..segment.clone()
        };
        [segment, there]
    }

    fn run(&mut self, name: &str, frame: &[u8]) -> (u32, Vec<u8>) {
        let Self { namespace, ebpf, .. } = self;
        let program: &SchedClassifier = ebpf.program(name).unwrap().try_into().unwrap();
        let mut out = vec![0; 8192];
        let result = namespace.run(|| {
            let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..Default::default() };
            program.test_run(options).unwrap()
        });
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }

    /// Nanoseconds a run.
    fn time(&self, name: &str, frame: &[u8]) -> u128 {
        let program: &SchedClassifier = self.ebpf.program(name).unwrap().try_into().unwrap();
        let options = TestRunOptions { data_in: Some(frame), repeat: 1_000_000, ..Default::default() };
        self.namespace.run(|| program.test_run(options).unwrap().duration.as_nanos())
    }

    #[track_caller]
    fn check(&mut self, name: &str, [before, after]: [Segment; 2]) {
        assert_eq!(self.run(name, &before.frame()), (NEXT, after.frame()), "{name}: {:?}", before.options);
    }
}

/// IPv4 mapped, and IPv6.
const ADDRESSES: [[u8; 16]; 2] = [
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1],
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
];

/// A selective acknowledgement of these edges, behind other options.
fn selective(before: &[u8], edges: &[u32]) -> Vec<u8> {
    let mut options = before.to_vec();
    options.extend([5, 2 + 4 * edges.len() as u8]);
    options.extend(edges.iter().flat_map(|edge| edge.to_be_bytes()));
    while !options.len().is_multiple_of(4) {
        options.push(0);
    }
    options
}

#[test]
fn numbers_change_and_nothing_else() {
    for address in ADDRESSES {
        let mut bench = Bench::new(address);
        for flags in [ACK, ACK | PSH, ACK | FIN, ACK | RST, RST] {
            for options in [&[][..], &TIMESTAMPS] {
                for payload in [&b""[..], b"a", b"some bytes of a body"] {
                    let coming = bench.coming(flags, options, options, payload);
                    bench.check(KEPT_PROGRAM, coming);
                    let going = bench.going(flags, options, options, payload);
                    bench.check(SHIFT_PROGRAM, going);
                }
            }
        }
        // Another connection's segments stay as they are.
        let mut other = bench.coming(ACK, &[], &[], b"x")[0].clone();
        other.ports[0] = [1, 1];
        bench.check(KEPT_PROGRAM, [other.clone(), other]);
    }
}

#[test]
fn selective_acknowledgements_follow_wherever_they_stand() {
    for address in ADDRESSES {
        let mut bench = Bench::new(address);
        for before in [&[][..], &[1], &[1, 1], &TIMESTAMPS, &[3, 3, 7], &[2, 4, 5, 0xb4, 1]] {
            for blocks in 1..=3_u32 {
                let edges = |shift: u32| -> Vec<u32> {
                    (0..2 * blocks).map(|edge| SERVER.wrapping_add(edge * 90).wrapping_add(shift)).collect()
                };
                let (said, taken) =
                    (selective(before, &edges(0)), selective(before, &edges(0_u32.wrapping_sub(GIVEN))));
                if said.len() > 40 {
                    continue;
                }
                let coming = bench.coming(ACK, &said, &taken, b"");
                bench.check(KEPT_PROGRAM, coming);
                let given = selective(before, &edges(TAKEN));
                let going = bench.going(ACK, &said, &given, b"");
                bench.check(SHIFT_PROGRAM, going);
            }
        }
        // What is no such option, or none that fits, is left alone: a length that lies, and nothing but the kind.
        for options in [&[5, 200, 1, 2][..], &[1, 1, 1, 5], &[8, 0, 5, 10], &[0, 5, 10, 0]] {
            let coming = bench.coming(ACK, options, options, b"");
            bench.check(KEPT_PROGRAM, coming);
        }
    }
}

#[test]
fn a_padded_frame_is_a_segment_all_the_same() {
    let mut bench = Bench::new(ADDRESSES[0]);
    let [before, after] = bench.coming(ACK, &[], &[], b"").map(|segment| [segment.frame(), vec![0; 6]].concat());
    assert_eq!(bench.run(KEPT_PROGRAM, &before), (NEXT, after));
}

#[test]
fn bytes_that_the_client_has_are_not_sent_again() {
    let mut bench = Bench::new(ADDRESSES[0]);
    let shifts = u64::from(TAKEN) | u64::from(GIVEN) << 32;
    // Four bytes, the last of which the client has, or has not.
    for (server_next, verdict) in [(SERVER.wrapping_add(4), LOST), (SERVER.wrapping_add(3), NEXT), (SERVER, NEXT)] {
        bench.put(Flow { shifts, server_next, answer_bytes: 1, ..Flow::default() });
        let [before, _] = bench.going(ACK, &[], &[], b"body");
        assert_eq!(bench.run(SHIFT_PROGRAM, &before.frame()).0, verdict);
    }
    // Numbers come round, and the last answer is none of what is sent then.
    for (behind, answer_bytes) in [((1 << 30) - 5, 1), (1 << 30, 0)] {
        bench.put(Flow { shifts, server_next: SERVER.wrapping_sub(behind), answer_bytes: 1, ..Flow::default() });
        let going = bench.going(ACK, &[], &[], b"body");
        bench.check(SHIFT_PROGRAM, going);
        let key = bench.key;
        assert_eq!(bench.flows().get(&key, 0).unwrap().answer_bytes, answer_bytes);
    }
}

/// Who has been told that everything arrived repeats nothing: until the client has the answer, only that tells it.
#[test]
fn nothing_but_the_answer_acknowledges_a_request() {
    for address in ADDRESSES {
        let mut bench = Bench::new(address);
        let shifts = u64::from(TAKEN) | u64::from(GIVEN) << 32;
        // The last request taken out was 400 bytes long, and nothing came behind it.
        let request_start = CLIENT.wrapping_add(TAKEN).wrapping_sub(400);
        let waiting = Flow {
            shifts,
            request_start,
            request_end: CLIENT.wrapping_add(TAKEN),
            answer_start: SERVER.wrapping_sub(GIVEN),
            answer_bytes: GIVEN,
            server_next: SERVER.wrapping_sub(GIVEN),
            pending: 1,
            ..Flow::default()
        };
        bench.put(waiting);
        let said = selective(&TIMESTAMPS, &[CLIENT, CLIENT.wrapping_add(9)]);
        let there = selective(&TIMESTAMPS, &[CLIENT.wrapping_add(TAKEN), CLIENT.wrapping_add(TAKEN + 9)]);
        for payload in [&b""[..], b"body"] {
            let [before, after] = bench.going(ACK, &said, &there, payload);
            bench.check(SHIFT_PROGRAM, [before, Segment { acknowledgement: request_start, ..after }]);
        }
        // A byte short of the answer's end is not yet the answer.
        for (acknowledgement, pending) in [(SERVER.wrapping_sub(1), 1), (SERVER, 0)] {
            let [before, after] = bench.coming(ACK, &[], &[], b"more");
            let shifted = acknowledgement.wrapping_sub(GIVEN);
            let segments = [Segment { acknowledgement, ..before }, Segment { acknowledgement: shifted, ..after }];
            bench.check(KEPT_PROGRAM, segments);
            let key = bench.key;
            assert_eq!(bench.flows().get(&key, 0).unwrap().pending, pending);
        }
        let going = bench.going(ACK, &said, &there, b"body");
        bench.check(SHIFT_PROGRAM, going);
    }
}

#[test]
fn a_new_connection_of_the_same_addresses_ends_the_old_one() {
    let mut bench = Bench::new(ADDRESSES[1]);
    let [answer, _] = bench.going(ACK | SYN, &[], &[], b"");
    bench.check(SHIFT_PROGRAM, [answer.clone(), answer]);
    assert_eq!(bench.flows().keys().count(), 0);
    let [segment, _] = bench.coming(ACK, &[], &[], b"x");
    bench.check(KEPT_PROGRAM, [segment.clone(), segment]);
}

/// Interfaces that are stacked: the second one is no reason to change numbers twice, as none are changed.
#[test]
fn a_connection_by_several_interfaces_is_known() {
    let mut bench = Bench::new(ADDRESSES[0]);
    bench.put(Flow { way_in: 77, way_out: 78, ..Flow::default() });
    let [segment, _] = bench.coming(ACK, &[], &[], b"x");
    bench.check(KEPT_PROGRAM, [segment.clone(), segment]);
    let [segment, _] = bench.going(ACK, &[], &[], b"x");
    bench.check(SHIFT_PROGRAM, [segment.clone(), segment]);
    let key = bench.key;
    let flow = bench.flows().get(&key, 0).unwrap();
    assert_eq!((flow.seen_in, flow.seen_out), (DATA | DETOUR, DETOUR));
}

/// Not a test of speed, which depends on the machine: `cargo nextest run --run-ignored only measure_idle_programs`.
#[test]
#[ignore = "prints how long a segment takes where nothing is rejected"]
fn measure_idle_programs() {
    for (family, address) in ["IPv4", "IPv6"].into_iter().zip(ADDRESSES) {
        let mut bench = Bench::new(address);
        let [coming, _] = bench.coming(ACK | PSH, &TIMESTAMPS, &TIMESTAMPS, &[b'x'; 400]);
        let [going, _] = bench.going(ACK | PSH, &TIMESTAMPS, &TIMESTAMPS, &[b'x'; 400]);
        let (key, none) = (bench.key, Flow::default());
        for (case, count) in [("no connection kept", 0), ("another connection kept", 1)] {
            let other = HandshakeKey { client_port_be: [0, 1], ..key };
            let _ = bench.flows().remove(&key);
            bench.flows().insert(other, none, 0).unwrap();
            let mut counts: Array<_, u64> = bench.ebpf.map_mut(FLOW_COUNT).unwrap().try_into().unwrap();
            counts.set(0, count, 0).unwrap();
            for (name, segment) in [
                (REJECT_PROGRAM, &coming),
                (KEPT_PROGRAM, &coming),
                (HANDSHAKE_PROGRAM, &going),
                (SHIFT_PROGRAM, &going),
            ] {
                let frame = segment.frame();
                let mut times: Vec<u128> = (0..5).map(|_| bench.time(name, &frame)).collect();
                times.sort_unstable();
                println!("{family}, {case}, {name}: {} ns (of 5: {times:?})", times[2]);
            }
        }
    }
}
