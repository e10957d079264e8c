//! More than the edge, or an upstream, may take: who waits, who goes, and what they are told (security properties, 17).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use edge_tests::edge::{Edge, Setup, free_address};
use edge_tests::h2raw::{Outcome, Raw};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, get};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{open, plus};

const GET: [(&[u8], &[u8]); 4] =
    [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.test"), (b":path", b"/")];
/// REFUSED_STREAM (RFC 9113, 7).
const REFUSED_STREAM: u32 = 7;

/// An upstream that answers once it is let.
struct Gate {
    upstream: Upstream,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<bool>,
    opened: Condvar,
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let inner = shared.clone();
        let upstream = Upstream::with(move |_| {
            let inside = inner.inside.fetch_add(1, Ordering::SeqCst) + 1;
            inner.most.fetch_max(inside, Ordering::SeqCst);
            let open = inner.open.lock().unwrap();
            drop(inner.opened.wait_while(open, |open| !*open).unwrap());
            inner.inside.fetch_sub(1, Ordering::SeqCst);
            Reply::ok("ok")
        });
        Self { upstream, shared }
    }

    /// Waits until so many requests are at the upstream.
    fn holds(&self, count: usize) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.shared.inside.load(Ordering::SeqCst) != count {
            assert!(Instant::now() < end, "{} inside, not {count}", self.shared.inside.load(Ordering::SeqCst));
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn open(&self) {
        *self.shared.open.lock().unwrap() = true;
        self.shared.opened.notify_all();
    }
}

fn served(client: &mut Client) {
    assert_eq!(client.ask(get("/", &[])).status(), 200);
}

/// Connections that the edge closed, of these.
fn closed(clients: &mut [Client]) -> usize {
    clients.iter_mut().map(|client| usize::from(!client.silent_for(Duration::from_millis(50)))).sum()
}

#[test]
fn idle_connections_give_way_and_busy_ones_do_not() {
    // D2, D3
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).workers(1).section("[limits]\nconnections = 8").start();
    // One in the middle of a request, one that has never said a word.
    let mut busy = edge.connect();
    busy.send("GET /busy HTTP/1.1\r\n");
    let mut silent = edge.connect();
    let mut idle: Vec<Client> = (0..6).map(|_| edge.connect()).collect();
    idle.iter_mut().for_each(served);
    // Nobody has waited for long: the newcomer waits, and then one goes for it and one for the next, not all.
    let began = Instant::now();
    let mut newcomer = edge.connect();
    served(&mut newcomer);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let gone = closed(&mut idle) + usize::from(!silent.silent_for(Duration::from_millis(50)));
    assert!((1..=2).contains(&gone), "{gone} are gone");
    edge.logged("idle ones end");
    busy.send("Host: a.test\r\n\r\n");
    assert_eq!(busy.response().status(), 200);
    // What answers for the edge's health is not among them.
    assert_eq!(edge.admin_get("/status").status(), 200);
}

#[test]
fn a_request_that_comes_before_its_connection_gives_way_is_answered() {
    // D2
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).workers(1).section("[limits]\nconnections = 1").start();
    let mut first = edge.connect();
    served(&mut first);
    // It has not waited for long when there is another, and has when its request comes.
    let mut newcomer = edge.connect();
    thread::sleep(Duration::from_millis(200));
    edge.signal(Signal::SIGSTOP);
    thread::sleep(Duration::from_millis(1300));
    first.send(get("/", &[]));
    edge.signal(Signal::SIGCONT);
    assert_eq!(first.response().status(), 200);
    served(&mut newcomer);
    assert!(first.closes());
}

#[test]
fn an_idle_http2_connection_gives_way_too() {
    // D3
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).workers(1).section("[limits]\nconnections = 1").start();
    let mut first = Raw::connect(edge.address());
    first.request(1, &GET);
    assert_eq!(first.outcome(1), Outcome::Response(200));
    served(&mut edge.connect());
    assert!(first.ends());
}

#[test]
fn a_source_has_so_many_connections_and_others_have_theirs() {
    // D3
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).workers(2).section("[limits]\nconnections_per_source = 2").start();
    let from = |address: &str| Client::connect_from(address.parse().unwrap(), edge.address()).unwrap();
    let mut taken = [from("127.0.0.1"), from("127.0.0.1")];
    taken.iter_mut().for_each(served);
    let mut third = from("127.0.0.1");
    let port = third.socket().local_addr().unwrap().port();
    let _ = third.try_send(get("/", &[]));
    assert!(third.rest().is_empty());
    let line = edge.access(|line| line["client_port"] == port);
    assert_eq!((&line["reason"], &line["status"]), (&json!("source_connections"), &json!(0)), "{line}");
    served(&mut from("127.0.0.2"));
    // One goes, another one comes.
    taken[0].send(get("/", &["Connection: close"]));
    assert_eq!(taken[0].response().status(), 200);
    assert!(taken[0].closes());
    drop(taken);
    let end = Instant::now() + Duration::from_secs(10);
    let is_served = |mut client: Client| {
        client.try_send(get("/", &[])).is_ok() && client.try_response("GET").is_ok_and(|answer| answer.status() == 200)
    };
    while !is_served(from("127.0.0.1")) {
        assert!(Instant::now() < end, "none is taken after others have gone");
    }
}

#[test]
fn whose_connections_they_are_is_what_trusted_peers_say() {
    // D3
    let upstream = Upstream::start();
    let sections = "[limits]\nconnections_per_source = 1\n[proxy]\ntrusted_ips = [\"127.0.0.0/8\"]\n";
    let edge = Setup::new(open(&upstream.url()))
        .listener("address = \"127.0.0.1:0\"\nproxy_protocol = \"v1\"")
        .listener("address = \"127.0.0.1:0\"")
        .section(sections)
        .start();
    let named = |index: usize, line: &str| {
        let mut client = Client::connect(edge.listener(index));
        let _ = client.try_send([line.as_bytes(), &get("/", &[])].concat());
        client
    };
    let line = |last: u8| format!("PROXY TCP4 203.0.113.{last} 192.0.2.1 50000 443\r\n");
    let mut first = named(0, &line(7));
    assert_eq!(first.response().status(), 200);
    assert!(named(0, &line(7)).rest().is_empty(), "a second one of the same client");
    assert_eq!(named(0, &line(8)).response().status(), 200);
    // The peer itself brings those of many.
    let mut own = [named(1, ""), named(1, ""), named(0, "PROXY UNKNOWN\r\n")];
    assert!(own.iter_mut().all(|client| client.response().status() == 200));
}

#[test]
fn a_connection_brings_so_many_requests() {
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).section("[limits]\nrequests_per_connection = 3").start();
    let mut client = edge.connect();
    for last in [false, false, true] {
        assert_eq!(client.ask(get("/", &[])).says_close(), last);
    }
    assert!(client.closes());
    let mut raw = Raw::connect(edge.address());
    for (stream, last_word) in [(1, None), (3, None), (5, Some(Outcome::GoAway(0)))] {
        raw.request(stream, &GET);
        let mut outcome = raw.rest(stream);
        // Streams under way come to their end.
        if outcome == Outcome::GoAway(0) {
            outcome = raw.rest(stream);
        }
        assert_eq!((outcome, raw.last_word()), (Outcome::Response(200), last_word), "{stream}");
    }
}

#[test]
fn an_http2_connection_has_so_many_requests_open() {
    // H25
    let gate = Gate::start();
    let edge = Setup::new(open(&gate.upstream.url())).section("[limits]\nstreams = 3").start();
    let mut raw = Raw::connect(edge.address());
    for stream in [1, 3, 5, 7] {
        raw.request(stream, &GET);
    }
    assert_eq!(raw.outcome(7), Outcome::Reset(REFUSED_STREAM));
    gate.holds(3);
    gate.open();
    assert_eq!(gate.shared.most.load(Ordering::SeqCst), 3);
}

/// An edge whose one target takes so many at a time.
fn narrow(gate: &Gate, limits: &str) -> Edge {
    Setup::new(open(&gate.upstream.url())).workers(2).section(limits).start()
}

#[test]
fn requests_beyond_what_a_target_takes_wait_and_the_rest_is_told_to_come_again() {
    // D3
    let gate = Gate::start();
    let edge = narrow(&gate, "[limits]\nupstream_requests = 2\nupstream_queue = 3");
    let ask = || asking(&edge);
    let mut inside = [ask(), ask()];
    gate.holds(2);
    // Of eight more three wait.
    let mut more: Vec<Client> = (0..8).map(|_| ask()).collect();
    let refused = |client: &mut Client| !client.silent_for(Duration::from_secs(1));
    let told: HashSet<usize> = (0..more.len()).filter(|index| refused(&mut more[*index])).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert_eq!(edge.metric("edge_upstream_waiting"), 3.0);
    for index in told {
        let answer = more[index].response();
        let retry_after = answer.field("retry-after").map(str::to_owned);
        assert_eq!((answer.status(), retry_after.as_deref()), (503, Some("1")), "{}", answer.text());
        assert_eq!(edge.reason_of(&answer), "upstream_busy");
        // The connection serves on.
        more[index].send(get("/", &[]));
        assert_eq!(more[index].response().status(), 503);
    }
    assert_eq!(edge.admin_get("/status").status(), 200);
    gate.open();
    for client in &mut inside {
        assert_eq!(client.response().status(), 200);
    }
    let answer =
        |client: &mut Client| (!client.silent_for(Duration::from_millis(500))).then(|| client.response().status());
    assert_eq!(more.iter_mut().filter_map(answer).collect::<Vec<_>>(), [200; 3]);
    assert_eq!((gate.shared.most.load(Ordering::SeqCst), edge.metric("edge_upstream_waiting")), (2, 0.0));
}

#[test]
fn the_wait_for_a_target_has_an_end_and_a_client_that_leaves_gives_its_place_up() {
    // D1
    let gate = Gate::start();
    let limits = "[limits]\nupstream_requests = 1\nupstream_queue = 1\n[timeouts]\nupstream_queue = 600";
    let edge = narrow(&gate, limits);
    let mut first = edge.connect();
    first.send(get("/", &[]));
    gate.holds(1);
    let began = Instant::now();
    let answer = edge.ask(get("/", &[]));
    assert_eq!((answer.status(), edge.reason_of(&answer).as_str()), (503, "upstream_busy"));
    let took = began.elapsed();
    assert!(Duration::from_millis(600) <= took && took < Duration::from_secs(3), "{took:?}");
    // The place is free again for whoever waits in time.
    let mut next = edge.connect();
    next.send(get("/", &[]));
    thread::sleep(Duration::from_millis(100));
    gate.open();
    assert_eq!((first.response().status(), next.response().status()), (200, 200));
    assert_eq!(edge.metric("edge_upstream_waiting"), 0.0);
}

#[test]
fn a_request_that_is_sent_again_does_not_wait_for_itself() {
    // D7
    let asked = AtomicUsize::new(0);
    let upstream = Upstream::with(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::raw("").close(),
        _ => Reply::ok("again"),
    });
    let edge = Setup::new(open(&upstream.url())).section("[limits]\nupstream_requests = 1\nupstream_queue = 1").start();
    let began = Instant::now();
    assert_eq!(edge.ask(get("/", &[])).text(), "again");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn what_is_held_for_slow_clients_has_a_bound_for_all() {
    // D2, D3
    let upstream = Upstream::with(|request| Reply::ok(&request.body.len().to_string()));
    let limits = "[limits]\nbuffered_bytes = 131072\n";
    let edge = Setup::new(open(&upstream.url())).workers(1).section(limits).start();
    let (length, part) = (200_000, "x".repeat(100_000));
    let slow = || {
        let mut client = edge.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n{part}"));
        client
    };
    let at_upstream = |count: usize| {
        thread::sleep(Duration::from_millis(200));
        assert_eq!(upstream.connections(), count);
    };
    // One is held, and there is no room for a second, which passes as it comes.
    let mut held = slow();
    at_upstream(0);
    let mut passing = slow();
    at_upstream(1);
    // Both come through; then there is room again.
    for client in [&mut held, &mut passing] {
        client.send(&part);
        assert_eq!(client.response().text(), length.to_string());
    }
    let before = upstream.connections();
    let _held = slow();
    at_upstream(before);
}

/// Bytes that the kernel holds of what one end of a connection has sent (proc(5), `net/tcp`).
fn queued(from: SocketAddr, to: SocketAddr) -> u64 {
    let [from, to] = [from, to].map(|end| format!(":{:04X}", end.port()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words[1].ends_with(&from) && words[2].ends_with(&to)).expect("the connection");
    u64::from_str_radix(line[4].split(':').next().unwrap(), 16).unwrap()
}

#[test]
fn the_kernel_holds_little_for_a_reader_that_does_not_read() {
    // D2, D3
    const LARGE: usize = 8 << 20;
    let upstream = Upstream::with(|_| Reply::ok(&"x".repeat(LARGE)));
    let limits = format!("[limits]\nbuffer_bytes = {LARGE}");
    let edge = Setup::new(open(&upstream.url())).section(&limits).start();
    let mut client = edge.connect();
    client.send(get("/", &[]));
    let end = client.socket().local_addr().unwrap();
    // Until nothing moves any more.
    let (mut last, mut held) = (0, queued(edge.address(), end));
    while held == 0 || held != last {
        thread::sleep(Duration::from_millis(300));
        (last, held) = (held, queued(edge.address(), end));
    }
    assert!(held < 256 << 10, "{held} bytes");
    assert_eq!(client.response().body.len(), LARGE);
}

#[test]
fn a_full_target_leaves_its_turns_to_the_others() {
    let other = Upstream::with(|_| Reply::ok("other"));
    for more in [json!({}), json!({"algorithm": "least-connections"})] {
        let gate = Gate::start();
        let entities = pool(&[gate.upstream.address(), other.address()], more);
        let edge = Setup::new(entities).section("[limits]\nupstream_requests = 1").start();
        let mut held: Vec<Client> = (0..2).map(|_| asking(&edge)).collect();
        gate.holds(1);
        for _ in 0..20 {
            assert_eq!(edge.ask(get("/", &[])).text(), "other");
        }
        let waiting = held.iter_mut().filter_map(|client| client.silent_for(Duration::from_millis(50)).then_some(()));
        assert_eq!(waiting.count(), 1);
        gate.open();
    }
}

/// A service with these targets.
fn pool(targets: &[SocketAddr], more: Value) -> String {
    let targets: Vec<_> = targets.iter().map(|address| json!({"target": address.to_string()})).collect();
    json!({
        "_format_version": "3.0",
        "upstreams": [plus(json!({"name": "pool", "targets": targets}), more)],
        "services": [{"name": "up", "host": "pool", "retries": 0, "routes": [{"name": "all", "paths": ["/"]}]}],
    })
    .to_string()
}

/// A client whose request is on its way.
fn asking(edge: &Edge) -> Client {
    let mut client = edge.connect();
    client.send(get("/", &[]));
    client
}

#[test]
fn a_target_that_comes_while_requests_wait_takes_more() {
    // D3, E4
    let (gate, other) = (Gate::start(), Upstream::with(|_| Reply::ok("other")));
    let limits = "[limits]\nupstream_requests = 1";
    let edge = Setup::new(pool(&[gate.upstream.address()], json!({}))).workers(1).section(limits).start();
    let mut inside = asking(&edge);
    gate.holds(1);
    let mut waits = asking(&edge);
    while edge.metric("edge_upstream_waiting") < 1.0 {
        thread::sleep(Duration::from_millis(20));
    }
    // Who waits does so by the configuration that it came under, and holds up nobody of the next one.
    let mark = edge.errors().mark();
    let both = pool(&[gate.upstream.address(), other.address()], json!({}));
    std::fs::write(edge.path("kong.yaml"), both).unwrap();
    edge.signal(Signal::SIGHUP);
    edge.logged_after(mark, "configuration loaded");
    for _ in 0..3 {
        assert_eq!(edge.ask(get("/", &[])).text(), "other");
    }
    assert!(waits.silent_for(Duration::from_millis(100)));
    gate.open();
    assert_eq!((inside.response().text(), waits.response().text()), ("ok".to_owned(), "ok".to_owned()));
}

#[test]
fn a_target_that_recovers_takes_those_who_wait() {
    // D3
    let (gate, address) = (Gate::start(), free_address());
    let often = |more: Value| plus(json!({"interval": 0.1}), more);
    let active = json!({
        "type": "tcp",
        "healthy": often(json!({"successes": 1})),
        "unhealthy": often(json!({"tcp_failures": 1})),
    });
    let entities = pool(&[gate.upstream.address(), address], json!({"healthchecks": {"active": active}}));
    let edge = Setup::new(entities).workers(2).section("[limits]\nupstream_requests = 1").start();
    edge.logged("target is unhealthy");
    let mut inside = asking(&edge);
    gate.holds(1);
    let mut waiting: Vec<Client> = (0..4).map(|_| asking(&edge)).collect();
    while edge.metric("edge_upstream_waiting") < 4.0 {
        thread::sleep(Duration::from_millis(20));
    }
    let _recovered = Upstream::at(address, |_| Reply::ok("recovered"));
    for client in &mut waiting {
        assert_eq!(client.response().text(), "recovered");
    }
    gate.open();
    assert_eq!(inside.response().text(), "ok");
}

#[test]
fn a_slow_reader_keeps_no_place_at_a_target_that_is_done() {
    // D2, D3
    const LARGE: usize = 900_000;
    let upstream = Upstream::with(|request| Reply::ok(&"x".repeat(if request.target() == "/" { 2 } else { LARGE })));
    let limits = "[limits]\nupstream_requests = 1\nupstream_queue = 1";
    let edge = Setup::new(open(&upstream.url())).workers(1).section(limits).start();
    let mut slow = edge.connect();
    slow.send(get("/large", &[]));
    upstream.wait(1);
    for _ in 0..3 {
        assert_eq!(edge.ask(get("/", &[])).text(), "xx");
    }
    // Nor a connection.
    assert_eq!(upstream.connections(), 1);
    assert_eq!(slow.response().body.len(), LARGE);
}
