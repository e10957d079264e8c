//! Names of targets: records of every type, their lifetimes, and what happens when name servers do not answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_tests::dns::{A, AAAA, Data, DnsServer, Fault, SRV};
use edge_tests::edge::Setup;
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::get;
use edge_user::dns::{Answer, LookupError, Resolver};
use edge_user::settings::{Dns, RecordType};
use serde_json::json;
use tokio::runtime::Runtime;

use super::open;

/// A resolver of the edge beside a name server.
struct Bench {
    server: DnsServer,
    resolver: Arc<Resolver>,
    runtime: Runtime,
}

impl Bench {
    fn start() -> Self {
        Self::with(Duration::from_secs(5), |_| {})
    }

    fn with(limit: Duration, change: impl FnOnce(&mut Dns)) -> Self {
        let server = DnsServer::start();
        let mut settings = Dns { nameservers: vec![server.address()], ..Dns::default() };
        change(&mut settings);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let resolver = Resolver::new(runtime.handle().clone(), &settings, limit).unwrap();
        Self { server, resolver, runtime }
    }

    fn ask(&self, name: &str) -> Result<Arc<Answer>, LookupError> {
        self.runtime.block_on(self.resolver.lookup(name))
    }

    fn words(&self, name: &str) -> Result<String, LookupError> {
        self.ask(name).map(|answer| words(&answer))
    }

    /// Waits until the name is known so.
    fn wait(&self, name: &str, expected: Option<&str>) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let known = self.words(name).ok();
            if known.as_deref() == expected {
                return;
            }
            assert!(Instant::now() < end, "{name}: {known:?}, expected {expected:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// An answer in one line: `address[:port*weight@name]`.
fn words(answer: &Answer) -> String {
    let records = answer.addresses.iter().map(|record| match (&record.name, record.port) {
        (Some(name), Some(port)) => format!("{}:{port}*{}@{name}", record.address, record.weight),
        _ => record.address.to_string(),
    });
    records.collect::<Vec<_>>().join(" ")
}

fn ip(text: &str) -> Data {
    text.parse::<IpAddr>().unwrap().into()
}

#[test]
fn the_first_type_with_an_answer_wins() {
    let bench = Bench::start();
    let zone = &bench.server;
    zone.set("four.test", 60, [ip("10.0.0.2"), ip("10.0.0.1"), ip("10.0.0.2")]);
    zone.set("six.test", 60, [ip("2001:db8::1")]);
    zone.set("both.test", 60, [ip("2001:db8::1"), ip("10.0.0.1")]);
    zone.set("alias.test", 60, [Data::Cname("both.test".into())]);
    zone.set("chain.test", 60, [Data::Cname("alias.test".into())]);
    zone.set("empty.test", 60, []);
    let backup = Data::Srv { priority: 2, weight: 1, port: 9, target: "four.test".into() };
    zone.set("service.test", 60, [Data::srv("both.test", 81, 5), Data::srv("Six.test", 80, 0), backup, ip("10.9.9.9")]);
    zone.set("closed.test", 60, [Data::srv(".", 0, 0)]);
    zone.set("partial.test", 60, [Data::srv("both.test", 81, 5), Data::srv("gone.test", 80, 0)]);
    zone.set("_http._tcp.x.test", 60, [Data::srv("both.test", 81, 5)]);
    for (name, expected) in [
        ("four.test", Ok("10.0.0.1 10.0.0.2")),
        ("FOUR.test.", Ok("10.0.0.1 10.0.0.2")),
        ("six.test", Ok("2001:db8::1")),
        ("both.test", Ok("10.0.0.1")),
        ("alias.test", Ok("10.0.0.1")),
        ("chain.test", Ok("10.0.0.1")),
        ("service.test", Ok("10.0.0.1:81*5@both.test 2001:db8::1:80*0@six.test")),
        ("_http._tcp.x.test", Ok("10.0.0.1:81*5@both.test")),
        ("partial.test", Ok("10.0.0.1:81*5@both.test")),
        ("closed.test", Err(LookupError::NotFound)),
        ("empty.test", Err(LookupError::NotFound)),
        ("none.test", Err(LookupError::NotFound)),
        ("no name", Err(LookupError::NotFound)),
        ("a..b", Err(LookupError::NotFound)),
    ] {
        assert_eq!(bench.words(name), expected.map(str::to_owned), "{name}");
    }
    let before = zone.asked("four.test", A);
    zone.glue(true);
    zone.set("glued.test", 60, [Data::srv("four.test", 80, 1)]);
    let glued = "10.0.0.1:80*1@four.test 10.0.0.2:80*1@four.test";
    assert_eq!(bench.words("glued.test").as_deref(), Ok(glued));
    assert_eq!(zone.asked("four.test", A), before, "the addresses came along");

    let six = Bench::with(Duration::from_secs(5), |dns| dns.order = vec![RecordType::Aaaa, RecordType::A]);
    six.server.set("both.test", 60, [ip("2001:db8::1"), ip("10.0.0.1")]);
    assert_eq!(six.words("both.test").as_deref(), Ok("2001:db8::1"));
    assert_eq!(six.server.asked("both.test", SRV), 0);
}

#[test]
fn servers_that_fail_are_told_from_names_that_do_not_exist() {
    // D5
    let bench = Bench::with(Duration::from_millis(800), |_| {});
    let zone = &bench.server;
    for name in ["failing.test", "silent.test", "long.test", "half.test", "slow.test"] {
        zone.set(name, 60, [ip("10.0.0.1")]);
    }
    for (name, kinds, fault) in [
        ("failing.test", &[SRV, A, AAAA][..], Fault::ServFail),
        ("silent.test", &[SRV, A, AAAA], Fault::Silence),
        ("long.test", &[SRV, A, AAAA], Fault::Truncate),
        ("half.test", &[SRV, AAAA], Fault::ServFail),
        ("slow.test", &[SRV, AAAA], Fault::Silence),
    ] {
        kinds.iter().for_each(|kind| zone.fault(name, *kind, Some(fault)));
    }
    for (name, expected) in [
        ("failing.test", Err(LookupError::Failed)),
        ("silent.test", Err(LookupError::TimedOut)),
        ("long.test", Ok("10.0.0.1")),
        ("half.test", Ok("10.0.0.1")),
        ("slow.test", Ok("10.0.0.1")),
    ] {
        let start = Instant::now();
        assert_eq!(bench.words(name), expected.map(str::to_owned), "{name}");
        assert!(start.elapsed() < Duration::from_millis(1500), "{name}");
    }
}

#[test]
fn an_answer_is_asked_for_again_when_its_ttl_ends() {
    let bench = Bench::start();
    let zone = &bench.server;
    zone.set("a.test", 1, [ip("10.0.0.1"), ip("10.0.0.2")]);
    let first = bench.ask("a.test").unwrap();
    for _ in 0..50 {
        assert!(Arc::ptr_eq(&first, &bench.ask("a.test").unwrap()));
    }
    assert_eq!(zone.asked("a.test", A), 1);
    // The order of records is no change.
    zone.set("a.test", 1, [ip("10.0.0.2"), ip("10.0.0.1")]);
    std::thread::sleep(Duration::from_millis(1050));
    assert!(Arc::ptr_eq(&first, &bench.ask("a.test").unwrap()), "nobody waits for the refresh");
    zone.wait("a.test", A, 2);
    std::thread::sleep(Duration::from_millis(200));
    assert!(Arc::ptr_eq(&first, &bench.ask("a.test").unwrap()));
    assert_eq!(zone.asked("a.test", A), 2);
    zone.set("a.test", 60, [ip("10.0.0.3")]);
    bench.wait("a.test", Some("10.0.0.3"));
    let asked = zone.asked("a.test", A);
    std::thread::sleep(Duration::from_millis(1200));
    bench.ask("a.test").unwrap();
    assert_eq!(zone.asked("a.test", A), asked, "the new TTL counts");
}

#[test]
fn old_answers_serve_while_no_server_answers() {
    // D5
    let bench = Bench::with(Duration::from_millis(400), |dns| {
        dns.valid_ttl = Some(Duration::from_millis(100));
        dns.stale_ttl = Duration::from_millis(1500);
        dns.error_ttl = Duration::from_millis(100);
    });
    bench.server.set("a.test", 3600, [ip("10.0.0.1")]);
    let first = bench.ask("a.test").unwrap();
    bench.server.silent(true);
    let end = Instant::now() + Duration::from_millis(1300);
    while Instant::now() < end {
        let start = Instant::now();
        assert!(Arc::ptr_eq(&first, &bench.ask("a.test").unwrap()));
        assert!(start.elapsed() < Duration::from_millis(100));
        std::thread::sleep(Duration::from_millis(20));
    }
    bench.wait("a.test", None);
    assert_eq!(bench.words("a.test"), Err(LookupError::TimedOut));
    bench.server.silent(false);
    bench.wait("a.test", Some("10.0.0.1"));
    // A server that says that the name is gone is believed at once.
    bench.server.remove("a.test");
    bench.wait("a.test", None);
    assert_eq!(bench.words("a.test"), Err(LookupError::NotFound));
}

#[test]
fn a_hundred_lookups_are_one_flight() {
    let bench = Bench::start();
    bench.server.set("a.test", 60, [ip("10.0.0.1")]);
    bench.runtime.block_on(async {
        let ask = |_| {
            let resolver = bench.resolver.clone();
            tokio::spawn(async move { resolver.lookup("a.test").await.map(|answer| words(&answer)) })
        };
        for task in (0..100).map(ask).collect::<Vec<_>>() {
            assert_eq!(task.await.unwrap().as_deref(), Ok("10.0.0.1"));
        }
    });
    assert_eq!([SRV, A, AAAA].map(|kind| bench.server.asked("a.test", kind)), [1, 1, 1]);
}

#[test]
fn failures_are_remembered_for_their_time() {
    let bench = Bench::with(Duration::from_secs(5), |dns| {
        dns.not_found_ttl = Duration::from_millis(600);
        dns.error_ttl = Duration::from_millis(600);
    });
    let zone = &bench.server;
    [SRV, A, AAAA].iter().for_each(|kind| zone.fault("bad.test", *kind, Some(Fault::ServFail)));
    for (name, expected) in [("none.test", LookupError::NotFound), ("bad.test", LookupError::Failed)] {
        assert_eq!(bench.words(name), Err(expected));
        let asked = zone.asked(name, A);
        for _ in 0..20 {
            assert_eq!(bench.words(name), Err(expected));
        }
        assert_eq!(zone.asked(name, A), asked, "{name}");
        std::thread::sleep(Duration::from_millis(650));
        assert_eq!(bench.words(name), Err(expected));
        assert!(zone.asked(name, A) > asked, "{name}");
    }
}

#[test]
fn hosts_and_localhost_need_no_server() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hosts");
    std::fs::write(&file, "10.1.1.1 one Two.test # three\n2001:db8::1 two.test six\n").unwrap();
    let bench = Bench::with(Duration::from_secs(5), |dns| dns.hosts_file = Some(file));
    bench.server.silent(true);
    for (name, expected) in [
        ("one", "10.1.1.1"),
        ("two.TEST", "10.1.1.1"),
        ("six", "2001:db8::1"),
        ("localhost", "127.0.0.1"),
        ("api.LocalHost.", "127.0.0.1"),
    ] {
        assert_eq!(bench.words(name).as_deref(), Ok(expected), "{name}");
        assert_eq!([SRV, A, AAAA].map(|kind| bench.server.asked(name, kind)), [0, 0, 0], "{name}");
    }
    let gone = Dns { hosts_file: Some(dir.path().join("none")), ..Dns::default() };
    let error = Resolver::new(bench.runtime.handle().clone(), &gone, Duration::from_secs(1)).err().unwrap();
    assert!(error.to_string().contains("none"), "{error}");
}

#[test]
fn the_name_unused_for_longest_goes() {
    let bench = Bench::with(Duration::from_secs(5), |dns| dns.cache_size = 2);
    for name in ["a.test", "b.test", "c.test"] {
        bench.server.set(name, 60, [ip("10.0.0.1")]);
    }
    bench.ask("a.test").unwrap();
    bench.ask("b.test").unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    bench.ask("a.test").unwrap();
    bench.ask("c.test").unwrap();
    for (name, asked) in [("a.test", 1), ("c.test", 1), ("b.test", 2)] {
        bench.ask(name).unwrap();
        assert_eq!(bench.server.asked(name, A), asked, "{name}");
    }
    assert_eq!(bench.runtime.block_on(Resolver::idle().lookup("a.test")), Err(LookupError::NotFound));
}

#[test]
fn requests_follow_the_names_of_their_services() {
    let answer = |name| Upstream::with(move |_| Reply::new("200 OK", "Connection: close\r\n", name).close());
    let [one, two] = ["one", "two"].map(answer);
    let zone = DnsServer::start();
    let at = |upstream: &Upstream| [Data::srv("host.test", upstream.address().port(), 1)];
    zone.set("host.test", 60, [ip("127.0.0.1")]);
    zone.set("api.test", 60, at(&one));
    let times = "valid_ttl = 0.2\nnot_found_ttl = 0.2\nerror_ttl = 0.2\n[timeouts]\nresolve = 400";
    let edge = Setup::new(open("http://api.test")).section(&zone.section(times)).start();
    let ask = || edge.ask(get("/", &[]));
    let wait = |expected: (u16, &str)| {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let answer = ask();
            if answer.status() == expected.0 && answer.text().contains(expected.1) {
                return;
            }
            assert!(Instant::now() < end, "{expected:?}: {} {}", answer.status(), answer.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    assert_eq!(ask().text(), "one");
    zone.set("api.test", 60, at(&two));
    wait((200, "two"));
    zone.silent(true);
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        assert_eq!(ask().text(), "two");
        std::thread::sleep(Duration::from_millis(20));
    }
    zone.silent(false);
    zone.remove("api.test");
    wait((503, "name resolution failed"));
    zone.set("api.test", 60, at(&one));
    wait((200, "one"));
}

#[test]
fn an_srv_records_name_stands_in_host_where_it_is_to() {
    let (upstream, zone) = (Upstream::start(), DnsServer::start());
    let port = upstream.address().port();
    zone.set("host.test", 60, [ip("127.0.0.1")]);
    zone.set("pool.test", 60, [Data::srv("host.test", port, 1)]);
    for (use_srv_name, preserve_host, expected) in [
        (true, false, format!("host.test:{port}")),
        (true, true, "client.test".to_owned()),
        (false, false, "pool".to_owned()),
    ] {
        let route = json!({"name": "all", "paths": ["/"], "preserve_host": preserve_host});
        let entities = json!({
            "_format_version": "3.0",
            "upstreams": [{"name": "pool", "use_srv_name": use_srv_name, "targets": [{"target": "pool.test"}]}],
            "services": [{"name": "up", "host": "pool", "routes": [route]}],
        });
        let edge = Setup::new(entities.to_string()).section(&zone.section("")).start();
        assert_eq!(edge.ask("GET / HTTP/1.1\r\nHost: client.test\r\n\r\n").status(), 200);
        assert_eq!(upstream.last().all("host"), [expected.as_str()]);
    }
}
