//! Single frames through the XDP program, by `BPF_PROG_TEST_RUN`: the action and every counter.

use aya::{
    Ebpf, EbpfLoader, TestRunOptions,
    maps::{LpmTrie, PerCpuArray, lpm_trie::Key},
    programs::{TestRun as _, Xdp},
};
use edge_ebpf::{COUNTERS, Counter, DENY_V4, DENY_V6, DenyEntry, SourceV4Key, SourceV6Key, VERDICT_DROP, XDP_PROGRAM};

use crate::frame::{Frame, QINQ, V4, VLAN, arp, v4, v6, v6_with};

/// `enum xdp_action`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// Denied: 203.0.113.0/24, 198.51.100.7, 2001:db8:bad::/48.
struct Program {
    ebpf: Ebpf,
}

impl Program {
    fn load() -> Self {
        crate::require_root();
        let mut ebpf = Ebpf::load(edge_user::kernel::OBJECT).unwrap();
        let xdp: &mut Xdp = ebpf.program_mut(XDP_PROGRAM).unwrap().try_into().unwrap();
        xdp.load().unwrap();
        let entry = DenyEntry { verdict: VERDICT_DROP };
        let mut trie: LpmTrie<_, SourceV4Key, DenyEntry> = ebpf.map_mut(DENY_V4).unwrap().try_into().unwrap();
        trie.insert(&Key::new(24, [203, 0, 113, 0]), entry, 0).unwrap();
        trie.insert(&Key::new(32, [198, 51, 100, 7]), entry, 0).unwrap();
        // An entry that another release wrote and that means nothing to this one.
        trie.insert(&Key::new(32, [198, 51, 100, 99]), DenyEntry { verdict: 77 }, 0).unwrap();
        let mut trie: LpmTrie<_, SourceV6Key, DenyEntry> = ebpf.map_mut(DENY_V6).unwrap().try_into().unwrap();
        let prefix: std::net::Ipv6Addr = "2001:db8:bad::".parse().unwrap();
        trie.insert(&Key::new(48, prefix.octets()), entry, 0).unwrap();
        Self { ebpf }
    }

    fn counters(&self) -> Vec<u64> {
        let map: PerCpuArray<_, u64> = self.ebpf.map(COUNTERS).unwrap().try_into().unwrap();
        let sum = |counter: Counter| map.get(&counter.index(), 0).unwrap().iter().sum();
        Counter::ALL.map(sum).to_vec()
    }

    fn run(&self, options: TestRunOptions<'_>) -> u32 {
        let xdp: &Xdp = self.ebpf.program(XDP_PROGRAM).unwrap().try_into().unwrap();
        xdp.test_run(options).unwrap().return_value
    }

    /// The frame has this outcome, and nothing else is counted.
    fn check(&self, name: &str, frame: &Frame, expected: Counter) {
        self.check_run(name, TestRunOptions { data_in: Some(&frame.0), ..Default::default() }, expected);
    }

    fn check_run(&self, name: &str, options: TestRunOptions<'_>, expected: Counter) {
        let denied = matches!(expected, Counter::DeniedV4 | Counter::DeniedV6);
        let mut counters = self.counters();
        counters[expected.index() as usize] += 1;
        let action = self.run(options);
        assert_eq!(action, if denied { XDP_DROP } else { XDP_PASS }, "{name}: action");
        assert_eq!(self.counters(), counters, "{name}: counters, expected {expected:?}");
    }

    /// The frame is dropped for its denied source, and the same frame from next door passes.
    fn check_pair(&self, name: &str, frame: impl Fn(&str) -> Frame, sources: Sources) {
        let (denied, allowed, counter) = match sources {
            Sources::V4 => ("203.0.113.200", "203.0.112.200", Counter::DeniedV4),
            Sources::V6 => ("2001:db8:bad::1", "2001:db8:bae::1", Counter::DeniedV6),
        };
        self.check(name, &frame(denied), counter);
        self.check(&format!("{name}, allowed"), &frame(allowed), Counter::Passed);
    }
}

#[derive(Clone, Copy)]
enum Sources {
    V4,
    V6,
}

#[test]
fn the_source_decides() {
    let program = Program::load();
    let check = |source: &str, expected| program.check(source, &v4(source), expected);
    check("203.0.112.255", Counter::Passed);
    check("203.0.113.0", Counter::DeniedV4);
    check("203.0.113.255", Counter::DeniedV4);
    check("203.0.114.0", Counter::Passed);
    check("198.51.100.6", Counter::Passed);
    check("198.51.100.7", Counter::DeniedV4);
    check("198.51.100.8", Counter::Passed);
    check("198.51.100.99", Counter::Passed); // an unknown verdict
    let check = |source: &str, expected| program.check(source, &v6(source), expected);
    check("2001:db8:bac:ffff:ffff:ffff:ffff:ffff", Counter::Passed);
    check("2001:db8:bad::", Counter::DeniedV6);
    check("2001:db8:bad:ffff:ffff:ffff:ffff:ffff", Counter::DeniedV6);
    check("2001:db8:bae::", Counter::Passed);
    check("::ffff:203.0.113.1", Counter::Passed); // no such address is on the wire (RFC 4038, 4.2)

    let destination = V4 { destination: "203.0.113.1".parse().unwrap(), ..V4::from("192.0.2.9") };
    program.check("a denied destination", &destination.frame(), Counter::Passed);
    program.check("ARP", &arp("203.0.113.1"), Counter::NotIp);
    program.check("LLDP", &Frame::new(0x88cc, &[0; 46]), Counter::NotIp);
    program.check("a length in place of a type", &Frame::new(46, &[0; 46]), Counter::NotIp);
}

/// X3: neither the protocol, nor options, nor fragments, nor extension headers bypass the block.
#[test]
fn what_follows_the_source_does_not_matter() {
    let program = Program::load();
    for protocol in [1, 6, 17, 47, 50, 132, 255] {
        let frame = |source: &str| V4 { protocol, ..V4::from(source) }.frame();
        program.check_pair(&format!("protocol {protocol}"), frame, Sources::V4);
    }
    for options in (0..=40).step_by(4) {
        let frame = |source: &str| V4 { options, ..V4::from(source) }.frame();
        program.check_pair(&format!("{options} bytes of options"), frame, Sources::V4);
        let frame = |source: &str| V4 { options, ..V4::from(source) }.frame().truncated(14 + 20);
        program.check_pair(&format!("{options} bytes of options, cut off"), frame, Sources::V4);
    }
    for (name, more_fragments, fragment_offset) in
        [("first", true, 0), ("middle", true, 185), ("last", false, 370), ("farthest", true, 0x1fff)]
    {
        let frame = |source: &str| V4 { more_fragments, fragment_offset, ..V4::from(source) }.frame();
        program.check_pair(&format!("{name} fragment"), frame, Sources::V4);
    }
    // Hop-by-hop, routing, fragment, destination options, authentication, mobility, no next header.
    for extensions in [&[0_u8][..], &[43], &[44], &[60], &[51], &[135], &[59], &[0, 60, 43, 44, 60], &[0; 9]] {
        let frame = |source: &str| v6_with(source, extensions);
        program.check_pair(&format!("extension headers {extensions:?}"), frame, Sources::V6);
    }
}

/// X3: VLAN tags do not bypass the block.
#[test]
fn the_source_is_found_below_tags() {
    let program = Program::load();
    for (name, tags) in [
        ("802.1Q", &[VLAN][..]),
        ("802.1ad alone", &[QINQ]),
        ("802.1ad and 802.1Q", &[VLAN, QINQ]),
        ("802.1Q twice", &[VLAN, VLAN]),
        ("802.1ad twice", &[QINQ, QINQ]),
    ] {
        for id in [0, 7, 4095 | 0xe000] {
            let tag = |frame: Frame| tags.iter().fold(frame, |frame, ethertype| frame.tagged(*ethertype, id));
            program.check_pair(&format!("IPv4 in {name}"), |source| tag(v4(source)), Sources::V4);
            program.check_pair(&format!("IPv6 in {name}"), |source| tag(v6(source)), Sources::V6);
            program.check(&format!("ARP in {name}"), &tag(arp("203.0.113.1")), Counter::NotIp);
        }
    }
    let three = v4("203.0.113.1").tagged(VLAN, 1).tagged(VLAN, 2).tagged(QINQ, 3);
    program.check("three tags", &three, Counter::NotIp);
}

/// X3: a frame that ends early is never read beyond its end, and passes: the stack drops it.
#[test]
fn short_frames_pass_until_the_source_is_there() {
    let program = Program::load();
    for tags in 0..=2 {
        let tag = |frame: Frame| (0..tags).fold(frame, |frame, id| frame.tagged(VLAN, id));
        let frames = [
            (tag(v4("203.0.113.1")), 20, Counter::DeniedV4),
            (tag(v4("203.0.112.1")), 20, Counter::Passed),
            (tag(v6("2001:db8:bad::1")), 40, Counter::DeniedV6),
            (tag(v6("2001:db8:bae::1")), 40, Counter::Passed),
        ];
        for (frame, header, whole) in frames {
            let needed = 14 + usize::from(tags) * 4 + header;
            // The kernel itself refuses to run a program on less than an Ethernet header.
            for length in 14..=frame.0.len() {
                let expected = if length < needed { Counter::Malformed } else { whole };
                program.check(&format!("{tags} tags, {length} bytes"), &frame.clone().truncated(length), expected);
            }
        }
    }
}

#[test]
fn odd_headers_are_left_to_the_stack() {
    let program = Program::load();
    for version in [0, 3, 5, 6, 15] {
        let frame = v4("203.0.113.1").with(0, version << 4 | 5);
        program.check(&format!("version {version} as IPv4"), &frame, Counter::Malformed);
    }
    for version in [0, 4, 5, 7, 15] {
        let frame = v6("2001:db8:bad::1").with(0, version << 4);
        program.check(&format!("version {version} as IPv6"), &frame, Counter::Malformed);
    }
    // The source stands where it stands, however long the header claims to be.
    for words in 0..=15 {
        program.check_pair(&format!("{words} words"), |source| v4(source).with(0, 0x40 | words), Sources::V4);
    }
}

/// X3: where a driver leaves headers out of the mapped part of a frame, they are found nevertheless.
#[test]
fn large_and_scattered_frames_are_judged() {
    let program = Program::load();
    for length in [1514, 3000, 9014, 60_000] {
        program.check_pair(&format!("{length} bytes"), |source| v4(source).padded(length), Sources::V4);
        program.check_pair(&format!("{length} bytes"), |source| v6(source).padded(length), Sources::V6);
    }
    if !scatters() {
        return; // Linux before 6.18 cannot be told where the mapped part of a test frame ends
    }
    for mapped in 14..=70_u32 {
        let check = |frame: &Frame, expected| {
            // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
            let context: Vec<u8> = [0, mapped, 0, 0, 0, 0].iter().flat_map(|field| field.to_ne_bytes()).collect();
            let options = TestRunOptions { data_in: Some(&frame.0), ctx_in: Some(&context), ..Default::default() };
            program.check_run(&format!("{mapped} bytes mapped"), options, expected);
        };
        check(&v4("203.0.113.1").padded(9014), Counter::DeniedV4);
        check(&v4("203.0.112.1").padded(9014), Counter::Passed);
        check(&v6("2001:db8:bad::1").tagged(VLAN, 1).tagged(QINQ, 2).padded(9014), Counter::DeniedV6);
        check(&v6("2001:db8:bae::1").tagged(VLAN, 1).tagged(QINQ, 2).padded(9014), Counter::Passed);
    }
}

fn scatters() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next(), parts.next()) >= (Some(6), Some(18))
}

/// Without debug logging its code is not even in the program, so it costs nothing.
#[test]
fn logging_costs_nothing_when_off() {
    crate::require_root();
    let size = |level: u8| {
        let mut loader = EbpfLoader::new();
        let mut ebpf = loader.override_global("AYA_LOG_LEVEL", &level, true).load(edge_user::kernel::OBJECT).unwrap();
        let xdp: &mut Xdp = ebpf.program_mut(XDP_PROGRAM).unwrap().try_into().unwrap();
        xdp.load().unwrap();
        xdp.info().unwrap().size_translated().unwrap()
    };
    let (off, debug) = (size(0), size(4));
    assert!(off + 200 < debug, "{off} bytes without logging, {debug} with");
}
