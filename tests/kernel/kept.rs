//! `kernel_reject = "kept"`: requests that the kernel answers on kept connections, between others that it does not, over
//! cables good and bad. Whoever asks gets its own answer and no other, byte for byte.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use aya::util::KernelVersion;
use edge_ebpf::rejection::RejectCounter;
use edge_tests::{
    edge::READY,
    mint::flip,
    upstream::Reply,
    wire::{Client, Message},
};
use serde_json::json;

use crate::{
    namespace::Hosts,
    reject_fuzz::Random,
    rejection::{Guarded, PORT, is_of_userspace},
};

/// Links to tcx, which alone take programs off with the process, came with Linux 6.6.
fn has_tcx() -> bool {
    KernelVersion::current().unwrap() >= KernelVersion::new(6, 6, 0)
}

fn guard(hosts: Hosts) -> Guarded {
    guard_with(hosts, "")
}

/// Answers with what it was asked, or a lot.
fn guard_with(hosts: Hosts, settings: &str) -> Guarded {
    let answer = |message: &Message| match message.target() {
        "/large" => Reply::ok(&"x".repeat(LARGE)),
        target => Reply::ok(&format!("{target} {}", message.text().len())),
    };
    Guarded::between(hosts, "kept", "required", json!({}), settings, answer)
}

/// More than sockets hold, in bytes.
const LARGE: usize = 16 << 20;

/// Both families in turn.
fn connect(guarded: &Guarded, index: usize) -> Client {
    let [source, server] = [["10.9.0.2", "10.9.0.1"], ["fd00:9::2", "fd00:9::1"]][index % 2];
    let (source, server): (IpAddr, IpAddr) = (source.parse().unwrap(), server.parse().unwrap());
    let end = Instant::now() + READY;
    loop {
        let connected = guarded.hosts.client.run(|| Client::connect_from(source, SocketAddr::new(server, PORT)));
        match connected {
            Ok(client) => {
                client.patience(Duration::from_secs(60));
                return client;
            }
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

fn head(line: &str, token: &str, fields: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n{fields}\r\n").into_bytes()
}

/// A connection on which the kernel answers from now on.
fn kept(guarded: &Guarded, index: usize, good: &str, bad: &str) -> Client {
    let end = Instant::now() + Duration::from_secs(3);
    loop {
        let mut client = connect(guarded, index);
        assert_eq!(client.ask(head("GET /first", good, "")).status(), 200);
        // Told, looked at, opened: the kernel learns of all that beside the requests.
        for _ in 0..50 {
            let answer = client.ask(head("GET /", bad, ""));
            assert_eq!((answer.status(), answer.says_close()), (401, false));
            if !is_of_userspace(&answer) {
                return client;
            }
            thread::sleep(Duration::from_millis(1));
        }
        // Bytes that came out of order before the kernel looked leave a connection to userspace.
        assert!(Instant::now() < end, "the kernel does not answer: {}", counts(guarded));
    }
}

/// What the kernel made of requests.
fn counts(guarded: &Guarded) -> String {
    let counts = RejectCounter::ALL.map(|counter| format!("{} {}", counter.name(), guarded.metric(counter.name())));
    counts.join(", ")
}

#[test]
fn bad_tokens_on_a_kept_connection_are_answered_by_the_kernel_in_the_same_words() {
    let guarded = guard(Hosts::new());
    let (good, other) = (guarded.good(), guarded.good());
    let bad = flip(&good);
    let mut client = connect(&guarded, 0);
    assert_eq!(client.ask(head("GET /first", &good, "")).status(), 200);
    let ours = client.ask(head("GET /", &bad, ""));
    if !has_tcx() {
        // Userspace does all of the work, and says so.
        guarded.edge.logged("bad tokens on kept connections are left to userspace");
        assert!((0..20).all(|_| is_of_userspace(&client.ask(head("GET /", &bad, "")))));
        return;
    }
    for index in 0..2 {
        let mut client = kept(&guarded, index, &good, &bad);
        let kernels = client.ask(head("GET /orders", &bad, ""));
        assert!(is_of_userspace(&ours) && !is_of_userspace(&kernels));
        for name in ["www-authenticate", "content-type", "server", "content-length", "proxy-status", "connection"] {
            assert_eq!(ours.all(name), kernels.all(name), "{name}");
        }
        assert_eq!((ours.text(), ours.start.as_str()), (kernels.text(), kernels.start.as_str()));
        // Whatever else comes on the connection is userspace's, before and behind.
        assert_eq!(client.ask(head("GET /mine", &other, "")).text(), "/mine 0");
        assert!(!is_of_userspace(&client.ask(head("DELETE /orders", &bad, ""))));
        assert!(is_of_userspace(&client.ask(head("GET /", &flip(&other), ""))));
        assert_eq!(
            client.ask([head("POST /mine", &good, "Content-Length: 2\r\n"), b"ab".to_vec()].concat()).text(),
            "/mine 2"
        );
        assert_eq!(client.ask(head("GET /again", &good, "")).text(), "/again 0");
        assert!(!is_of_userspace(&client.ask(head("GET /orders", &bad, ""))));
        let last = client.ask(head("GET /last", &bad, "Connection: close\r\n"));
        assert!(is_of_userspace(&last) && last.says_close() && client.closes());
    }
    assert!(guarded.metric("kept") >= 6.0);
    // Forgotten soon after their end.
    drop(client);
    let (faults, count) = guarded.hosts.server.run(|| {
        let count = || guarded.edge.metric("edge_kernel_kept_connections");
        let end = Instant::now() + READY;
        while count() != 0.0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
        (guarded.upstream.faults(), count())
    });
    assert_eq!((faults, count), (Vec::<String>::new(), 0.0));
}

/// One request of a script, and what it must get.
struct Step {
    bytes: Vec<u8>,
    /// The body of a 200; a 401 where there is none.
    expected: Option<String>,
}

/// Requests of all kinds. Bodies look like requests with a bad token, whose answer must not come.
fn step(random: &mut Random, number: usize, good: &str, bad: &str) -> Step {
    let target = format!("/{number}-{}", random.below(1000));
    let body = head(&format!("GET /body{target}"), bad, "");
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunked = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    match random.below(10) {
        0..5 => Step { bytes: head(&format!("GET {target}"), bad, ""), expected: None },
        // More than one segment carries, which devices may have joined to one.
        5 => {
            let padding = format!("X-Padding: {}\r\n", "p".repeat(random.below(6000)));
            Step { bytes: head(&format!("DELETE {target}"), bad, &padding), expected: None }
        }
        6 => Step { bytes: head(&format!("GET {target}"), good, "Accept: */*\r\n"), expected: None }
            .expecting(&target, 0),
        7 => Step { bytes: [head(&format!("POST {target}"), good, &length), body.clone()].concat(), expected: None }
            .expecting(&target, body.len()),
        8 => Step {
            bytes: [head(&format!("PUT {target}"), good, "Transfer-Encoding: chunked\r\n"), chunked].concat(),
            expected: None,
        }
        .expecting(&target, body.len()),
        _ => Step { bytes: head(&format!("GET {target}"), good, ""), expected: None }.expecting(&target, 0),
    }
}

impl Step {
    fn expecting(self, target: &str, length: usize) -> Self {
        Self { expected: Some(format!("{target} {length}")), ..self }
    }
}

/// Sends some requests, together or cut somewhere, and checks the answers; how many of them were the kernel's.
fn exchange(client: &mut Client, random: &mut Random, steps: &[Step]) -> usize {
    let bytes: Vec<u8> = steps.iter().flat_map(|step| step.bytes.clone()).collect();
    let cut = match random.below(3) {
        0 => random.below(bytes.len()),
        _ => bytes.len(),
    };
    client.send(&bytes[..cut]);
    if cut < bytes.len() {
        thread::sleep(Duration::from_millis(random.below(4) as u64));
        client.send(&bytes[cut..]);
    }
    let mut of_kernel = 0;
    for step in steps {
        let answer = client.response();
        match &step.expected {
            Some(text) => assert_eq!((answer.status(), &answer.text()), (200, text)),
            None => assert_eq!((answer.status(), answer.says_close()), (401, false), "{:?}", answer.text()),
        }
        of_kernel += usize::from(!is_of_userspace(&answer) && step.expected.is_none());
    }
    of_kernel
}

/// Runs scripts on as many threads, and gives how many answers were the kernel's.
fn scripts(guarded: &Guarded, seeds: std::ops::Range<u64>, threads: u64, groups: usize) -> usize {
    let (good, of_kernel) = (guarded.good(), AtomicUsize::new(0));
    let bad = flip(&good);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (seeds, good, bad, of_kernel) = (seeds.clone(), &good, &bad, &of_kernel);
            scope.spawn(move || {
                for seed in seeds.filter(|seed| seed % threads == thread) {
                    let mut random = Random::new(seed + 1);
                    let mut client = kept(guarded, seed as usize, good, bad);
                    for group in 0..groups {
                        let size = [1, 1, 1, 2, 3][random.below(5)];
                        let steps: Vec<Step> =
                            (0..size).map(|number| step(&mut random, 10 * group + number, good, bad)).collect();
                        of_kernel.fetch_add(exchange(&mut client, &mut random, &steps), Ordering::Relaxed);
                    }
                    early_post(&mut client, bad);
                }
            });
        }
    });
    of_kernel.into_inner()
}

/// A request that is refused before its body is there, which looks like another one: that is no request.
fn early_post(client: &mut Client, bad: &str) {
    let body = head("GET /body", bad, "");
    client.send(head("POST /early", bad, &format!("Content-Length: {}\r\n", 2 * body.len())));
    let answer = client.response();
    assert!(answer.status() == 401 && answer.says_close() && is_of_userspace(&answer));
    let _ = client.try_send(&body);
    let _ = client.try_send(&body);
    assert!(client.closes(), "something came behind the last answer");
}

#[test]
fn three_hundred_interleavings_of_requests_get_their_own_answers() {
    if !has_tcx() {
        return;
    }
    let guarded = guard(Hosts::new());
    let of_kernel = scripts(&guarded, 0..300, 4, 6);
    assert!(of_kernel > 200, "the kernel answered {of_kernel}");
    assert_eq!(guarded.upstream.faults(), Vec::<String>::new());
    assert!(guarded.upstream.requests().iter().all(|seen| !seen.target().starts_with("/body")));
}

/// With segments lost, repeated and out of order, in both directions.
fn in_weather(lost: u32, other: u32, sysctls: &[(&str, &str)]) {
    if !has_tcx() {
        return;
    }
    let (hosts, cable) = Hosts::over_cable();
    hosts.client.run(|| {
        for (name, value) in sysctls {
            fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
        }
    });
    let guarded = guard(hosts);
    let (good, of_kernel) = (guarded.good(), AtomicUsize::new(0));
    let bad = flip(&good);
    let mut clients: Vec<Client> = (0..24).map(|index| kept(&guarded, index, &good, &bad)).collect();
    cable.weather.lost.store(lost, Ordering::Relaxed);
    cable.weather.repeated.store(other, Ordering::Relaxed);
    cable.weather.late.store(other, Ordering::Relaxed);
    thread::scope(|scope| {
        for (index, client) in clients.iter_mut().enumerate() {
            let (good, bad, of_kernel) = (&good, &bad, &of_kernel);
            scope.spawn(move || {
                let mut random = Random::new(1000 + index as u64);
                for group in 0..20 {
                    let size = [1, 1, 1, 2, 3][random.below(5)];
                    let steps: Vec<Step> =
                        (0..size).map(|number| step(&mut random, 10 * group + number, good, bad)).collect();
                    of_kernel.fetch_add(exchange(client, &mut random, &steps), Ordering::Relaxed);
                }
            });
        }
    });
    let (of_kernel, struck) = (of_kernel.into_inner(), cable.weather.struck.load(Ordering::Relaxed));
    assert!(of_kernel > 50, "the kernel answered {of_kernel}");
    assert!(struck > 0 || lost + other == 0);
    assert_eq!(guarded.upstream.faults(), Vec::<String>::new());
    assert!(guarded.upstream.requests().iter().all(|seen| !seen.target().starts_with("/body")));
}

#[test]
fn over_a_good_cable() {
    in_weather(0, 0, &[]);
}

#[test]
fn with_three_of_a_hundred_segments_lost() {
    in_weather(30, 10, &[]);
}

#[test]
fn with_ten_of_a_hundred_segments_lost() {
    in_weather(100, 50, &[]);
}

#[test]
fn without_timestamps() {
    in_weather(50, 20, &[("tcp_timestamps", "0")]);
}

#[test]
fn without_selective_acknowledgements() {
    in_weather(50, 20, &[("tcp_sack", "0")]);
}

/// Numbers are changed until the last byte is there, however slowly its client reads.
#[test]
fn the_end_of_a_kept_connection_loses_nothing() {
    if !has_tcx() {
        return;
    }
    let guarded = guard(Hosts::new());
    let good = guarded.good();
    for index in 0..2 {
        let mut client = kept(&guarded, index, &good, &flip(&good));
        client.send(head("GET /large", &good, "Connection: close\r\n"));
        client.finish();
        thread::sleep(Duration::from_millis(1500));
        let answer = client.response();
        assert!(answer.text().len() == LARGE && answer.says_close() && client.closes());
    }
}

/// Over an upgrade a connection keeps its numbers, while no more is answered on it than userspace does, which ends it.
#[test]
fn kept_connections_end_with_their_generation() {
    if !has_tcx() {
        return;
    }
    let guarded = guard(Hosts::new());
    let good = guarded.good();
    let bad = flip(&good);
    let [mut one, mut other] = [0, 1].map(|index| kept(&guarded, index, &good, &bad));
    let next = guarded.edge.upgrade().unwrap();
    // Workers learn of the drain in a moment of their own.
    let end = Instant::now() + READY;
    let last = |client: &mut Client, token: &str| loop {
        let answer = client.ask(head("GET /mine", token, ""));
        assert!(is_of_userspace(&answer) && Instant::now() < end);
        if answer.says_close() {
            assert!(client.closes());
            return answer;
        }
    };
    assert_eq!(last(&mut one, &bad).status(), 401);
    assert_eq!(last(&mut other, &good).text(), "/mine 0");
    // The next one answers on connections of its own.
    let guarded = Guarded { edge: next, ..guarded };
    let mut client = kept(&guarded, 0, &good, &bad);
    assert_eq!(client.ask(head("GET /mine", &good, "")).text(), "/mine 0");
}

/// A source with a penalty loses its connections: the kernel leaves that to userspace.
#[test]
fn a_penalty_ends_a_kept_connection() {
    if !has_tcx() {
        return;
    }
    let penalty = "[kernel.penalty]\nmode = \"enforce\"\ndistinct_tokens = 8\n";
    let guarded = guard_with(Hosts::new(), penalty);
    let good = guarded.good();
    let mut client = kept(&guarded, 0, &good, &flip(&good));
    let mut offender = connect(&guarded, 0);
    let ends = |client: &mut Client, token: &str| {
        let answer = client.ask(head("GET /", token, ""));
        assert_eq!(answer.status(), 401);
        answer.says_close().then(|| is_of_userspace(&answer))
    };
    let end = Instant::now() + READY;
    // As many different ones as it takes.
    while ends(&mut offender, &flip(&guarded.good())).is_none() {
        assert!(Instant::now() < end, "there is no penalty");
    }
    // The kernel learns of it a moment later.
    let ended = loop {
        if let Some(by_userspace) = ends(&mut client, &flip(&good)) {
            break by_userspace;
        }
        assert!(Instant::now() < end, "the connection goes on");
    };
    assert!(ended && client.closes());
}

/// What ends the edge ends its connections: none goes on with other numbers than its client's.
#[test]
fn a_killed_edge_leaves_no_connection_with_wrong_numbers() {
    if !has_tcx() {
        return;
    }
    let guarded = guard(Hosts::new());
    let good = guarded.good();
    let mut client = kept(&guarded, 0, &good, &flip(&good));
    guarded.edge.signal(nix::sys::signal::Signal::SIGKILL);
    client.patience(READY);
    let _ = client.try_send(head("GET /after", &good, ""));
    assert!(client.closes());
}

/// What a connection becomes after 101 has its numbers changed to the last byte, too.
#[test]
fn a_tunnel_on_a_kept_connection_loses_nothing() {
    if !has_tcx() {
        return;
    }
    let answer = |message: &Message| match message.target() {
        "/tunnel" => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            Reply::raw([head.as_bytes(), &vec![b'x'; LARGE]].concat()).close()
        }
        _ => Reply::ok("ok"),
    };
    let guarded = Guarded::between(Hosts::new(), "kept", "required", json!({}), "", answer);
    let good = guarded.good();
    let mut client = kept(&guarded, 0, &good, &flip(&good));
    client.send(head("GET /tunnel", &good, "Connection: Upgrade\r\nUpgrade: websocket\r\n"));
    assert_eq!(client.head().status(), 101);
    thread::sleep(Duration::from_millis(500));
    let came = client.rest();
    assert!(came.len() == LARGE && came.iter().all(|byte| *byte == b'x'), "{} bytes", came.len());
}
