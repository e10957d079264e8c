//! The penalty box in the kernel: single frames by `BPF_PROG_TEST_RUN`, then a client and a server.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use aya::{
    Ebpf, EbpfLoader, TestRunOptions,
    maps::{Array, HashMap, PerCpuArray},
    programs::{TestRun as _, Xdp},
};
use edge_ebpf::{
    COUNTERS, Counter, GUARDED_PORTS, PENALTY_V4, PENALTY_V4_MASK, PENALTY_V6, PENALTY_V6_MASK, PenaltyEntry,
    SourceV4Key, SourceV6Key, VERDICT_DROP, VERDICT_OBSERVE, XDP_PROGRAM, port_bit, port_word,
};
use edge_user::kernel::{self, Kernel};
use edge_user::settings::{KernelMode, Penalty, PenaltyMode};

use crate::attach::{count, settings};
use crate::frame::{Frame, V4, VLAN, v6_tcp, v6_with};
use crate::namespace::{Hosts, INTERFACE};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;
/// The only guarded port.
const PORT: u16 = 8443;

/// 203.0.113.7 and 2001:db8:bad::/64 have a penalty; 203.0.113.8 would have; that of 203.0.113.9 is over.
struct Program {
    ebpf: Ebpf,
}

impl Program {
    fn load() -> Self {
        crate::require_root();
        let v6_mask: SourceV6Key = (u128::MAX << 64).to_be_bytes();
        let v4_mask: SourceV4Key = u32::MAX.to_be_bytes();
        let mut ebpf = EbpfLoader::new()
            .override_global(PENALTY_V4_MASK, &v4_mask, true)
            .override_global(PENALTY_V6_MASK, &v6_mask, true)
            .load(kernel::OBJECT)
            .unwrap();
        let xdp: &mut Xdp = ebpf.program_mut(XDP_PROGRAM).unwrap().try_into().unwrap();
        xdp.load().unwrap();
        let entry = |verdict, expires_ns| PenaltyEntry { expires_ns, frames: 0, verdict, note: 0 };
        let mut v4: HashMap<_, SourceV4Key, PenaltyEntry> = ebpf.map_mut(PENALTY_V4).unwrap().try_into().unwrap();
        v4.insert([203, 0, 113, 7], entry(VERDICT_DROP, u64::MAX), 0).unwrap();
        v4.insert([203, 0, 113, 8], entry(VERDICT_OBSERVE, u64::MAX), 0).unwrap();
        v4.insert([203, 0, 113, 9], entry(VERDICT_DROP, 1), 0).unwrap();
        v4.insert([203, 0, 113, 10], entry(77, u64::MAX), 0).unwrap();
        let mut v6: HashMap<_, SourceV6Key, PenaltyEntry> = ebpf.map_mut(PENALTY_V6).unwrap().try_into().unwrap();
        let source: std::net::Ipv6Addr = "2001:db8:bad::".parse().unwrap();
        v6.insert(source.octets(), entry(VERDICT_DROP, u64::MAX), 0).unwrap();
        let mut ports: Array<_, u64> = ebpf.map_mut(GUARDED_PORTS).unwrap().try_into().unwrap();
        ports.set(port_word(PORT), port_bit(PORT), 0).unwrap();
        Self { ebpf }
    }

    fn counters(&self) -> Vec<u64> {
        let map: PerCpuArray<_, u64> = self.ebpf.map(COUNTERS).unwrap().try_into().unwrap();
        Counter::ALL.map(|counter| map.get(&counter.index(), 0).unwrap().iter().sum()).to_vec()
    }

    fn run(&self, options: TestRunOptions<'_>) -> aya::TestRunResult {
        let xdp: &Xdp = self.ebpf.program(XDP_PROGRAM).unwrap().try_into().unwrap();
        xdp.test_run(options).unwrap()
    }

    #[track_caller]
    fn check(&self, name: &str, frame: &Frame, expected: Counter) {
        let mut counters = self.counters();
        counters[expected.index() as usize] += 1;
        let ran = self.run(TestRunOptions { data_in: Some(&frame.0), ..Default::default() });
        let action = if expected == Counter::Penalized { XDP_DROP } else { XDP_PASS };
        assert_eq!(ran.return_value, action, "{name}: action");
        assert_eq!(self.counters(), counters, "{name}: counters, expected {expected:?}");
    }
}

fn tcp(source: &str, flags: u8, port: u16) -> Frame {
    V4::from(source).tcp(flags, port)
}

/// Only what starts a connection to the edge is dropped, and only while the penalty lasts.
#[test]
fn new_connections_of_the_source_are_dropped_and_nothing_else() {
    let program = Program::load();
    program.check("a SYN", &tcp("203.0.113.7", SYN, PORT), Counter::Penalized);
    program.check("a SYN with ECN's flags", &tcp("203.0.113.7", SYN | 0xc0, PORT), Counter::Penalized);
    program.check("a SYN in a VLAN", &tcp("203.0.113.7", SYN, PORT).tagged(VLAN, 7), Counter::Penalized);
    program.check("a SYN of next door", &tcp("203.0.113.6", SYN, PORT), Counter::Passed);
    program.check("to another port", &tcp("203.0.113.7", SYN, PORT + 1), Counter::Passed);
    program.check("to another port", &tcp("203.0.113.7", SYN, 22), Counter::Passed);
    for (name, flags) in [("an answer", SYN_ACK), ("data", ACK), ("a reset", RST), ("nothing", 0)] {
        program.check(name, &tcp("203.0.113.7", flags, PORT), Counter::Passed);
    }
    program.check("observed", &tcp("203.0.113.8", SYN, PORT), Counter::WouldPenalize);
    program.check("over", &tcp("203.0.113.9", SYN, PORT), Counter::Passed);
    program.check("an unknown verdict", &tcp("203.0.113.10", SYN, PORT), Counter::Passed);
    program.check("UDP", &V4 { protocol: 17, ..V4::from("203.0.113.7") }.tcp(SYN, PORT), Counter::Passed);

    let v6 = |last: &str, flags, port| v6_tcp(&format!("2001:db8:{last}"), &[], flags, port);
    program.check("a SYN", &v6("bad::1", SYN, PORT), Counter::Penalized);
    program.check("of the same prefix", &v6("bad::ffff:ffff:ffff:ffff", SYN, PORT), Counter::Penalized);
    program.check("of the next prefix", &v6("bad:1::1", SYN, PORT), Counter::Passed);
    program.check("data", &v6("bad::1", ACK, PORT), Counter::Passed);
    program.check("to another port", &v6("bad::1", SYN, 22), Counter::Passed);
}

/// X3: what hides its flags is taken for a start, of a source that may not start anything.
#[test]
fn hiding_the_flags_does_not_help() {
    let program = Program::load();
    for options in (0..=40).step_by(4) {
        let frame = |source: &str, flags| V4 { options, ..V4::from(source) }.tcp(flags, PORT);
        program.check(&format!("{options} bytes of options"), &frame("203.0.113.7", SYN), Counter::Penalized);
        program.check(&format!("{options} bytes of options, data"), &frame("203.0.113.7", ACK), Counter::Passed);
        program.check(&format!("{options} bytes of options, free"), &frame("203.0.113.6", SYN), Counter::Passed);
    }
    for (name, more_fragments, fragment_offset) in [("first", true, 0), ("middle", true, 1), ("last", false, 3)] {
        let frame = |source: &str| V4 { more_fragments, fragment_offset, ..V4::from(source) }.tcp(ACK, PORT);
        program.check(&format!("{name} fragment"), &frame("203.0.113.7"), Counter::Penalized);
        program.check(&format!("{name} fragment, free"), &frame("203.0.113.6"), Counter::Passed);
    }
    for extensions in [&[0_u8][..], &[43], &[44], &[60], &[0, 60, 43, 44]] {
        let name = format!("extension headers {extensions:?}");
        program.check(&name, &v6_tcp("2001:db8:bad::1", extensions, SYN, PORT), Counter::Penalized);
        program.check(&name, &v6_tcp("2001:db8:bae::1", extensions, SYN, PORT), Counter::Passed);
    }
    // A frame that ends before its flags, or whose header claims to be short.
    for length in 34..50 {
        let frame = tcp("203.0.113.7", ACK, PORT).truncated(length);
        program.check(&format!("{length} bytes"), &frame, Counter::Penalized);
    }
    program.check("50 bytes", &tcp("203.0.113.7", ACK, PORT).truncated(50), Counter::Passed);
    program.check("no TCP behind", &v6_with("2001:db8:bad::1", &[59]), Counter::Passed);
}

/// Not a test of speed, which depends on the machine: `cargo nextest run --run-ignored only measure_xdp`.
#[test]
#[ignore = "prints how long a frame takes"]
fn measure_xdp() {
    let program = Program::load();
    for (name, frame) in [
        ("IPv4, passes", tcp("192.0.2.1", ACK, PORT)),
        ("IPv6, passes", v6_tcp("2001:db8:1::1", &[], ACK, PORT)),
        ("IPv4, penalized and open", tcp("203.0.113.7", ACK, PORT)),
        ("IPv4, dropped", tcp("203.0.113.7", SYN, PORT)),
        ("IPv6, dropped", v6_tcp("2001:db8:bad::1", &[], SYN, PORT)),
    ] {
        let mut times: Vec<u128> = (0..5)
            .map(|_| {
                let options = TestRunOptions { data_in: Some(&frame.0), repeat: 1_000_000, ..Default::default() };
                program.run(options).duration.as_nanos()
            })
            .collect();
        times.sort_unstable();
        println!("{name}: {} ns (of 5: {times:?})", times[2]);
    }
}

fn start(hosts: &Hosts, mode: PenaltyMode, port: u16) -> Kernel {
    let mut settings = settings(KernelMode::Required, INTERFACE, &[]);
    settings.penalty = Penalty { mode, ..Penalty::default() };
    let kernel = hosts.server.run(|| kernel::start(&settings).unwrap());
    kernel.guard(&HashSet::from([port])).unwrap();
    kernel
}

/// X2: a penalty ends by itself, or with the operator's word; open connections go on.
#[test]
fn a_penalized_client_cannot_connect_for_a_while() {
    let hosts = Hosts::new();
    let (port, other) = (hosts.serve(), hosts.serve());
    let mut kernel = start(&hosts, PenaltyMode::Enforce, port);
    let mut samples = kernel.take_samples().unwrap();
    let reaches = |source: &str, server: &str, port| hosts.connect(source, server, port).is_ok();
    assert!(reaches("10.9.0.3", "10.9.0.1", port) && reaches("fd00:9::3", "fd00:9::1", port));

    let long = Instant::now() + Duration::from_secs(600);
    kernel.penalize("10.9.0.3".parse().unwrap(), long, PenaltyMode::Enforce, 1).unwrap();
    kernel.penalize("fd00:9::".parse().unwrap(), long, PenaltyMode::Enforce, 1).unwrap();
    assert!(!reaches("10.9.0.3", "10.9.0.1", port) && !reaches("fd00:9::3", "fd00:9::1", port));
    assert!(reaches("10.9.0.2", "10.9.0.1", port), "the neighbour is dropped");
    assert!(reaches("10.9.0.3", "10.9.0.1", other), "a port that is not the edge's is closed");
    assert!(kernel.penalty_frames("10.9.0.3".parse().unwrap()).unwrap() >= 1);
    assert_eq!(kernel.penalty_frames("10.9.0.2".parse().unwrap()), None);
    assert!(count(&kernel, "penalized") >= 2);
    let sources: HashSet<String> =
        samples.by_ref().map(|sample| format!("{} {}", sample.source, sample.verdict)).collect();
    assert!(sources.contains("10.9.0.3 penalized"), "{sources:?}");

    kernel.release("10.9.0.3".parse().unwrap()).unwrap();
    kernel.release("10.9.0.3".parse().unwrap()).unwrap();
    assert!(reaches("10.9.0.3", "10.9.0.1", port));
    let soon = Instant::now() + Duration::from_millis(400);
    kernel.penalize("10.9.0.3".parse().unwrap(), soon, PenaltyMode::Enforce, 1).unwrap();
    // The client repeats its SYN after a second: until then this one fails, and the next one passes.
    assert!(!reaches("10.9.0.3", "10.9.0.1", port));
    assert!(reaches("10.9.0.3", "10.9.0.1", port));
    kernel.penalize("10.9.0.3".parse().unwrap(), long, PenaltyMode::Observe, 1).unwrap();
    assert!(reaches("10.9.0.3", "10.9.0.1", port));
    assert!(count(&kernel, "would_penalize") >= 1);
}

/// X2: the map is bounded, and the oldest goes.
#[test]
fn a_full_map_forgets_and_goes_on() {
    let hosts = Hosts::new();
    let kernel = start(&hosts, PenaltyMode::Enforce, 1);
    let long = Instant::now() + Duration::from_secs(600);
    for n in 0..edge_ebpf::PENALTY_CAPACITY + 1000 {
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + n).into();
        kernel.penalize(address, long, PenaltyMode::Enforce, 1).unwrap();
    }
    let maps = kernel.maps();
    let (_, entries, capacity) = maps.iter().find(|(name, ..)| *name == PENALTY_V4).unwrap();
    assert!(entries <= capacity && *entries > capacity / 2, "{entries} of {capacity}");
    let last = std::net::Ipv4Addr::from(0x0b00_0000 + edge_ebpf::PENALTY_CAPACITY + 999).into();
    assert_eq!(kernel.penalty_frames(last), Some(0));
}

/// Where nothing is to be dropped no packet pays for a program.
#[test]
fn without_penalties_and_denied_sources_nothing_is_attached() {
    let hosts = Hosts::new();
    let kernel = start(&hosts, PenaltyMode::Off, 1);
    assert!(kernel.is_active() && kernel.attachments().is_empty());
    assert_eq!(hosts.server.program(INTERFACE), None);
}

#[test]
fn the_kernel_tells_of_its_programs() {
    let hosts = Hosts::new();
    let kernel = start(&hosts, PenaltyMode::Observe, 1);
    let programs = kernel.programs();
    let xdp = programs.iter().find(|program| program.name == XDP_PROGRAM).unwrap();
    assert!(xdp.verified_instructions.unwrap() > 100, "{programs:?}");
}
