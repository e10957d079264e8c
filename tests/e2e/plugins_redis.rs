//! `rate-limiting` over sockets: in memory, and in a Redis that edges share, lose and find again.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use edge_tests::certs;
use edge_tests::edge::{Edge, READY, Setup, free_address};
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key, with};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{AUDIENCE, bearer, open, plus, with_token};

/// Debian's redis-server, without a file of its own.
struct Redis {
    address: SocketAddr,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Redis {
    fn start(more: &[&str]) -> Self {
        Self::start_at(free_address(), more)
    }

    fn start_at(address: SocketAddr, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, address, more)
    }

    fn start_in(dir: tempfile::TempDir, address: SocketAddr, more: &[&str]) -> Self {
        let port = address.port().to_string();
        let port = if more.contains(&"--tls-port") { ["--port", "0"] } else { ["--port", &port] };
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "redis-server"])
            .args(port)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(dir.path())
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + READY;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "no redis at {address}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { address, child, _dir: dir }
    }

    /// One command in the inline form; the lines of a flat answer.
    fn ask(&self, command: &str) -> Vec<String> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(READY)).unwrap();
        write!(stream, "{command}\r\nQUIT\r\n").unwrap();
        let mut text = String::new();
        BufReader::new(stream).read_to_string(&mut text).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with(['$', '*']));
        let mut lines: Vec<_> = lines.map(|line| line.trim_start_matches(':').to_owned()).collect();
        assert_eq!(lines.pop().as_deref(), Some("+OK"), "{text}");
        lines
    }

    fn config(&self) -> Value {
        json!({"policy": "redis", "limit_by": "ip", "redis": {"host": "127.0.0.1", "port": self.address.port(), "timeout": 1000}})
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An edge with one open route and this plugin for all.
fn limited(upstream: &Upstream, config: Value) -> Edge {
    Setup::new(entities(upstream, config)).start()
}

fn entities(upstream: &Upstream, config: Value) -> String {
    let plugins = json!({"plugins": [{"name": "rate-limiting", "config": config}]});
    plus(serde_json::from_str(&open(&upstream.url())).unwrap(), plugins).to_string()
}

fn ask(edge: &Edge) -> Message {
    edge.ask(get("/orders", &[]))
}

/// Asks until an answer is as wanted.
fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let end = Instant::now() + READY;
    while !wanted() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const GLOBAL: &str = "ratelimit:00000000-0000-0000-0000-000000000000:00000000-0000-0000-0000-000000000000:127.0.0.1:";

#[test]
fn a_local_limit_is_exact_over_workers_and_reloads() {
    // D8
    let upstream = Upstream::start();
    let config = json!({"year": 15, "month": 15, "limit_by": "ip"});
    // The longer period may not have less; equal is fine.
    let edge = limited(&upstream, config.clone());
    let passed: usize = std::thread::scope(|scope| {
        let run = || (0..10).filter(|_| ask(&edge).status() == 200).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((passed, upstream.requests().len()), (15, 15));
    let refused = ask(&edge);
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.json()["message"], "API rate limit exceeded");
    assert_eq!(refused.field("x-ratelimit-limit-year"), Some("15"));
    assert_eq!(refused.field("x-ratelimit-remaining-month"), Some("0"));
    assert_eq!(refused.field("ratelimit-remaining"), Some("0"));
    assert_eq!(refused.field("retry-after"), refused.field("ratelimit-reset"));
    assert_eq!(edge.reason_of(&refused), "rate_limited");
    edge.reload(&entities(&upstream, plus(config, json!({"year": 16, "month": 16}))), "configuration");
    until("the new limit", || ask(&edge).field("x-ratelimit-limit-year") == Some("16"));
    assert_eq!(ask(&edge).status(), 429, "one more than before passed, no more");
    assert_eq!(upstream.requests().len(), 16);
}

#[test]
fn two_edges_share_a_limit() {
    // D8
    let (upstream, redis) = (Upstream::start(), Redis::start(&[]));
    let config = plus(redis.config(), json!({"year": 5, "day": 5}));
    let edges = [limited(&upstream, config.clone()), limited(&upstream, config)];
    let answers: Vec<Message> = (0..8).map(|index| ask(&edges[index % 2])).collect();
    let statuses: Vec<u16> = answers.iter().map(Message::status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
    let left: Vec<_> = answers.iter().map(|answer| answer.field("x-ratelimit-remaining-year").unwrap()).collect();
    assert_eq!(left, ["4", "3", "2", "1", "0", "0", "0", "0"]);
    let mut keys = redis.ask("KEYS *");
    keys.sort_by_key(|key| key.ends_with("year"));
    assert_eq!(keys.len(), 2, "{keys:?}");
    for (key, period, secs) in [(&keys[0], "day", 86_400), (&keys[1], "year", 31_536_000)] {
        let (start, name) = key.strip_prefix(GLOBAL).unwrap().split_once(':').unwrap();
        assert_eq!((start.parse::<u64>().unwrap() % 86_400_000, name), (0, period));
        // Refused requests count too, as in Kong.
        assert_eq!(redis.ask(&format!("GET {key}")), ["8"]);
        let ttl: i64 = redis.ask(&format!("TTL {key}"))[0].parse().unwrap();
        assert!((secs - 60..=secs).contains(&ttl), "{key}: {ttl}");
    }
}

#[test]
fn a_redis_that_goes_and_comes_back() {
    // D5, D8
    let upstream = Upstream::start();
    let redis = Redis::start(&[]);
    let address = redis.address;
    let tolerant = limited(&upstream, plus(redis.config(), json!({"year": 100})));
    let strict = limited(&upstream, plus(redis.config(), json!({"year": 100, "fault_tolerant": false})));
    for edge in [&tolerant, &strict] {
        assert!(ask(edge).field("ratelimit-limit").is_some());
    }
    drop(redis);
    until("the loss is known", || ask(&tolerant).field("ratelimit-limit").is_none());
    tolerant.logged("redis does not serve");
    until("the metric", || tolerant.metric(&format!("edge_redis_up{{server=\"{address}/0\"}}")) == 0.0);
    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(ask(&tolerant).status(), 200);
    }
    assert!(began.elapsed() < Duration::from_secs(2), "nobody waits for a server that is down");
    assert_eq!(tolerant.output().matches("redis does not serve").count(), 1, "one warning for many requests");
    until("a refusal", || ask(&strict).status() == 500);
    let refused = ask(&strict);
    assert_eq!(refused.json()["message"], "An unexpected error occurred");
    assert_eq!(strict.reason_of(&refused), "rate_limit_unavailable");

    let _redis = Redis::start_at(address, &[]);
    for edge in [&tolerant, &strict] {
        until("it serves again", || ask(edge).field("ratelimit-limit").is_some());
        edge.logged("redis serves again");
        assert_eq!(edge.metric(&format!("edge_redis_up{{server=\"{address}/0\"}}")), 1.0);
    }
}

#[test]
fn a_redis_that_holds_its_tongue_costs_one_time_out() {
    let (upstream, redis) = (Upstream::start(), Redis::start(&[]));
    let mut config = plus(redis.config(), json!({"year": 100}));
    config["redis"]["timeout"] = json!(200);
    let edge = limited(&upstream, config);
    assert!(ask(&edge).field("ratelimit-limit").is_some());
    let pid = nix::unistd::Pid::from_raw(redis.child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let began = Instant::now();
    for _ in 0..20 {
        let answer = ask(&edge);
        assert_eq!((answer.status(), answer.field("ratelimit-limit")), (200, None));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    until("it serves again", || ask(&edge).field("ratelimit-limit").is_some());
}

#[test]
fn logins_and_databases() {
    let (upstream, redis) = (Upstream::start(), Redis::start(&["--requirepass", "hush-hush"]));
    let with = |fields: Value| {
        let mut config = plus(redis.config(), json!({"year": 100}));
        config["redis"] = plus(config["redis"].clone(), fields);
        limited(&upstream, config)
    };
    let right = with(json!({"password": "hush-hush", "database": 3}));
    assert_eq!(ask(&right).field("x-ratelimit-remaining-year"), Some("99"));
    let named = with(json!({"username": "default", "password": "hush-hush", "database": 3}));
    assert_eq!(ask(&named).field("x-ratelimit-remaining-year"), Some("98"));
    for fields in [json!({"password": "wrong-hush"}), json!({})] {
        let wrong = with(fields);
        let answer = ask(&wrong);
        assert_eq!((answer.status(), answer.field("ratelimit-limit")), (200, None));
        wrong.logged("redis does not serve");
        assert!(!wrong.output().contains("hush"), "{}", wrong.output());
    }
}

#[test]
fn redis_over_tls() {
    let (upstream, dir, pair) = (Upstream::start(), tempfile::tempdir().unwrap(), certs::server());
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (certificate, key) = (file("tls.crt", &pair.certificate), file("tls.key", &pair.key));
    let address = free_address();
    let port = address.port().to_string();
    let more =
        ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let redis = Redis::start_in(dir, address, &more);
    let with = |fields: Value| {
        let mut config = plus(redis.config(), json!({"year": 100}));
        config["redis"] = plus(config["redis"].clone(), fields);
        limited(&upstream, config)
    };
    let trusting = with(json!({"ssl": true, "ssl_verify": false, "server_name": "edge.test"}));
    assert!(ask(&trusting).field("ratelimit-limit").is_some());
    for fields in [json!({"ssl": true}), json!({})] {
        let refused = with(fields);
        assert_eq!(ask(&refused).field("ratelimit-limit"), None);
        refused.logged("redis does not serve");
    }
}

#[test]
fn counts_that_are_sent_now_and_then_meet() {
    let (upstream, redis) = (Upstream::start(), Redis::start(&[]));
    let config = plus(redis.config(), json!({"year": 10, "sync_rate": 0.05}));
    let (one, two) = (limited(&upstream, config.clone()), limited(&upstream, config));
    let total = || redis.ask("KEYS *").first().map_or(0, |key| redis.ask(&format!("GET {key}"))[0].parse().unwrap());
    for _ in 0..3 {
        assert_eq!(ask(&one).status(), 200);
    }
    until("three", || total() == 3);
    assert_eq!(ask(&two).field("x-ratelimit-remaining-year"), Some("9"), "it has not heard of the others yet");
    until("four", || total() == 4);
    assert_eq!(ask(&one).status(), 200);
    until("five", || total() == 5);
    // What Redis answered is known a moment after Redis knows it.
    until("they meet", || {
        let left: u32 = ask(&one).field("x-ratelimit-remaining-year").unwrap().parse().unwrap();
        left < 5
    });
    let statuses: Vec<u16> = (0..12).map(|_| ask(&one).status()).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    until("all sent", || total() == 10);
    let key = &redis.ask("KEYS *")[0];
    let ttl: i64 = redis.ask(&format!("TTL {key}"))[0].parse().unwrap();
    assert!((1..=31_536_000).contains(&ttl), "{ttl}");
}

#[test]
fn callers_are_told_apart_after_openid_connect() {
    let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
    let issuer = Issuer::start(&[&key]);
    let oidc = plus(
        bearer(&issuer.url()),
        json!({"consumer_claim": ["sub"], "consumer_by": ["username"], "consumer_optional": true}),
    );
    let limit = |year: u32, by: &str| json!({"year": year, "limit_by": by});
    let entities = json!({
        "_format_version": "3.0",
        "services": [{"name": "up", "url": upstream.url(), "routes": [{"name": "all", "paths": ["/"], "strip_path": false}]}],
        "consumers": [{"username": "ann"}, {"username": "bob"}],
        "plugins": [
            {"name": "openid-connect", "config": oidc},
            {"name": "rate-limiting", "config": limit(3, "credential")},
            {"name": "rate-limiting", "consumer": "ann", "config": limit(2, "consumer")},
        ],
    });
    let edge = Setup::new(entities.to_string()).start();
    let claims = mint::claims(&issuer.url(), AUDIENCE);
    let ask = |sub: &str| edge.ask(with_token(&key.token(&with(claims.clone(), json!({"sub": sub})))));
    for (sub, limit, statuses) in
        [("ann", "2", vec![200, 200, 429]), ("bob", "3", vec![200, 200, 200, 429]), ("client-7", "3", vec![200])]
    {
        for status in statuses {
            let answer = ask(sub);
            assert_eq!((answer.status(), answer.field("x-ratelimit-limit-year")), (status, Some(limit)), "{sub}");
        }
    }
}
