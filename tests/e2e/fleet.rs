//! What edges share in a real Redis: nothing there is readable, and nothing depends on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_tests::edge::{Edge, READY, Setup, free_address};
use edge_tests::issuer::Issuer;
use edge_tests::parties::redis::Redis;
use edge_tests::upstream::Upstream;
use edge_user::config::problem::Sink;
use edge_user::config::reader::Reader;
use edge_user::config::value::Value;
use edge_user::crypto::seal::SecretsKey;
use edge_user::metrics::Exposition;
use edge_user::oauth::fleet::{Fleet, FleetSettings, Fleets, Kind};
use edge_user::redis::Clients;
use nix::sys::signal::Signal;
use serde_json::{Value as Json, json};
use tokio::runtime::{Handle, Runtime};

use super::introspection::wait;
use super::{guarded, plus, with_token};

pub(super) const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const TOKEN: &[u8] = b"opaque-token-of-ann";
const ANSWER: &[u8] = br#"{"active":true,"sub":"ann"}"#;
pub(super) const LONG: Duration = Duration::from_secs(600);

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The fleet's cache as one node has it, and the node's numbers.
pub(super) fn node(record: &str, control: &Handle) -> (Fleet, Fleets) {
    edge_user::crypto::install();
    let key = SecretsKey::from_text(KEY).unwrap();
    let fleets = Fleets::new(Some(&key), Arc::new(Clients::new(Some(control.clone()))));
    let yaml = format!("{{cluster_cache_strategy: redis, cluster_cache_redis: {record}}}");
    let sink = Sink::new("test");
    let value = Value::from_yaml(&yaml, &sink).unwrap();
    let mut config = Reader::new(&value, "config", &sink).unwrap();
    let settings = FleetSettings::read(&mut config, &fleets);
    config.finish();
    assert_eq!(sink.into_parts().0, []);
    (fleets.fleet(&settings.unwrap()).unwrap(), fleets)
}

fn at(redis: &Redis) -> String {
    format!("{{port: {}, connect_timeout: 300, send_timeout: 300, read_timeout: 300}}", redis.address().port())
}

pub(super) fn count(fleets: &Fleets, operation: &str, result: &str) -> u64 {
    let mut to = Exposition::default();
    fleets.collect(&mut to);
    let sample =
        format!("edge_fleet_cache_total{{kind=\"introspection\",operation=\"{operation}\",result=\"{result}\"}} ");
    let text = to.finish();
    text.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok()).unwrap()
}

async fn value(fleet: &Fleet, parts: &[&[u8]]) -> Option<Vec<u8>> {
    fleet.get(&fleet.name(Kind::Introspection, parts)).await.map(|found| found.value.to_vec())
}

// I5: what stands in the server holds neither token nor answer, and another name does not open it.
#[test]
fn nodes_share_what_the_server_cannot_read() {
    let (redis, runtime) = (Redis::start(), runtime());
    let ((one, _), (two, numbers)) = (node(&at(&redis), runtime.handle()), node(&at(&redis), runtime.handle()));
    runtime.block_on(async {
        let name = one.name(Kind::Introspection, &[b"validator", TOKEN]);
        assert!(one.get(&name).await.is_none());
        one.put(&name, ANSWER, LONG).await;
        let found = two.get(&two.name(Kind::Introspection, &[b"validator", TOKEN])).await.unwrap();
        assert_eq!(&found.value[..], ANSWER);
        assert!(found.left <= LONG && found.left > LONG - Duration::from_secs(30), "{:?}", found.left);
        assert_eq!(value(&two, &[b"another", TOKEN]).await, None);
    });
    let keys = redis.keys();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0].starts_with("edge:introspection:") && keys[0].len() == 19 + 64, "{keys:?}");
    let ttl: i64 = redis.command(&["TTL", &keys[0]]).unwrap().parse().unwrap();
    assert!((570..=600).contains(&ttl), "{ttl}");
    let stored = redis.bytes(&["GET", &keys[0]]).unwrap();
    for part in [TOKEN, ANSWER, b"active", b"ann"] {
        assert!(!stored.windows(part.len()).any(|window| window == part));
    }

    // Moved, cut, replaced: not believed.
    let other = two.name(Kind::Introspection, &[b"validator", b"another token"]);
    runtime.block_on(async {
        one.put(&other, b"placeholder", LONG).await;
        let names = redis.keys();
        let moved = names.iter().find(|name| **name != keys[0]).unwrap();
        redis.command(&["COPY", &keys[0], moved, "REPLACE"]);
        assert_eq!(two.get(&other).await, None);
        redis.command(&["SETRANGE", &keys[0], "40", "xxxxxxxx"]);
        assert_eq!(value(&two, &[b"validator", TOKEN]).await, None);
        redis.command(&["SET", &keys[0], r#"{"active":true}"#]);
        assert_eq!(value(&two, &[b"validator", TOKEN]).await, None);
        redis.command(&["SETRANGE", &keys[0], "9000000", "x"]);
        assert_eq!(value(&two, &[b"validator", TOKEN]).await, None);
    });
    assert_eq!((count(&numbers, "get", "hit"), count(&numbers, "get", "unreadable")), (1, 4));
}

// A server that takes connections and says nothing holds up one question, whatever time-outs are configured.
#[test]
fn a_server_that_hangs_is_soon_left_alone() {
    let (redis, runtime) = (Redis::start(), runtime());
    let patient = format!("{{port: {}, connect_timeout: 10000, read_timeout: 10000}}", redis.address().port());
    let (fleet, _) = node(&patient, runtime.handle());
    let name = fleet.name(Kind::Introspection, &[TOKEN]);
    runtime.block_on(fleet.put(&name, ANSWER, LONG));
    redis.signal(Signal::SIGSTOP);
    // The second is a node that never knew the server otherwise.
    let (late, _) = node(&patient, runtime.handle());
    for fleet in [fleet, late] {
        let name = fleet.name(Kind::Introspection, &[TOKEN]);
        let waits: Vec<Duration> = (0..300)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(10));
                let began = Instant::now();
                assert_eq!(runtime.block_on(fleet.get(&name)), None);
                began.elapsed()
            })
            .collect();
        let long = waits.iter().filter(|wait| **wait > Duration::from_millis(200)).count();
        assert!(long <= 1 && waits.iter().max() < Some(&Duration::from_secs(1)), "{long}: {:?}", waits.iter().max());
    }
    redis.signal(Signal::SIGCONT);
}

// I3: the server does not decide how long an answer is believed.
#[test]
fn an_entry_ends_even_where_the_server_keeps_it() {
    let (redis, runtime) = (Redis::start(), runtime());
    let (fleet, numbers) = node(&at(&redis), runtime.handle());
    runtime.block_on(async {
        let name = fleet.name(Kind::Introspection, &[TOKEN]);
        fleet.put(&name, ANSWER, Duration::from_secs(1)).await;
        redis.command(&["PERSIST", &redis.keys()[0]]);
        assert!(fleet.get(&name).await.is_some());
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(fleet.get(&name).await, None);
        fleet.put(&name, ANSWER, LONG).await;
        fleet.delete(&name).await;
        assert_eq!((fleet.get(&name).await, redis.keys().len()), (None, 0));
        fleet.put(&name, ANSWER, Duration::ZERO).await;
        assert_eq!(redis.keys().len(), 0);
    });
    assert_eq!((count(&numbers, "get", "unreadable"), count(&numbers, "delete", "deleted")), (1, 1));
}

// Lost, silent, back: nobody waits longer than one time-out, and nothing fails.
#[test]
fn a_server_that_is_lost_costs_misses_only() {
    let (redis, runtime) = (Redis::start(), runtime());
    let address = redis.address();
    let (fleet, numbers) = node(&at(&redis), runtime.handle());
    let name = fleet.name(Kind::Introspection, &[TOKEN]);
    runtime.block_on(fleet.put(&name, ANSWER, LONG));
    drop(redis);
    let began = Instant::now();
    runtime.block_on(async {
        for _ in 0..200 {
            assert_eq!(fleet.get(&name).await, None);
            fleet.put(&name, ANSWER, LONG).await;
        }
    });
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(count(&numbers, "get", "failed") == 200 && count(&numbers, "put", "failed") == 200);

    let back = Redis::at(address, &[]);
    let end = Instant::now() + READY;
    while runtime.block_on(async {
        fleet.put(&name, ANSWER, LONG).await;
        fleet.get(&name).await.is_none()
    }) {
        assert!(Instant::now() < end, "it never serves again");
        std::thread::sleep(Duration::from_millis(20));
    }
    back.signal(Signal::SIGSTOP);
    let began = Instant::now();
    runtime.block_on(async {
        for _ in 0..20 {
            assert_eq!(fleet.get(&name).await, None);
        }
    });
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    back.signal(Signal::SIGCONT);
}

#[test]
fn sentinels_lead_to_the_master() {
    let (master, runtime) = (Redis::start(), runtime());
    let port = master.address().port().to_string();
    let replica = Redis::at(free_address(), &["--replicaof", "127.0.0.1", &port]);
    let (sentinel, lagging) = (Redis::sentinel("shop", master.address()), Redis::sentinel("shop", replica.address()));
    let record = |name: &str, nodes: &[u16]| {
        let nodes: Vec<_> = nodes.iter().map(|port| format!("{{port: {port}}}")).collect();
        format!(
            "{{sentinel_master: {name}, sentinel_role: master, connect_timeout: 1000, sentinel_nodes: [{}]}}",
            nodes.join(", ")
        )
    };
    let name = |fleet: &Fleet| fleet.name(Kind::Introspection, &[TOKEN]);
    // A sentinel that is gone is passed over.
    let (fleet, _) = node(&record("shop", &[free_address().port(), sentinel.address().port()]), runtime.handle());
    runtime.block_on(fleet.put(&name(&fleet), ANSWER, LONG));
    assert_eq!(runtime.block_on(value(&fleet, &[TOKEN])).as_deref(), Some(ANSWER));
    assert_eq!(master.keys().len(), 1);
    // A name that none knows, and a server that is no master any more, are servers that are down.
    for (name, port) in [("stranger", sentinel.address().port()), ("shop", lagging.address().port())] {
        let (fleet, numbers) = node(&record(name, &[port]), runtime.handle());
        assert_eq!(runtime.block_on(value(&fleet, &[TOKEN])), None, "{name}");
        assert_eq!(count(&numbers, "get", "failed"), 1, "{name}");
    }
}

/// Two edges with one secrets key and one configuration, and what they share.
struct Pair {
    edges: [Edge; 2],
    issuer: Issuer,
    redis: Option<Redis>,
    _upstream: Upstream,
}

impl Pair {
    fn start() -> Self {
        let (upstream, issuer, redis) = (Upstream::start(), Issuer::start(&[]), Redis::start());
        let entities = guarded(&upstream.url(), shared(&issuer.url(), redis.address()));
        let start = || {
            let secrets = "[secrets]\nkey_file = \"node.key\"\n";
            Setup::new(entities.clone()).section(secrets).file("node.key", KEY).start()
        };
        Self { edges: [start(), start()], issuer, redis: Some(redis), _upstream: upstream }
    }

    fn statuses(&self, token: &str) -> [u16; 2] {
        [0, 1].map(|index| self.edges[index].ask(with_token(token)).status())
    }
}

/// The plugin's configuration of an edge that asks, and shares what it is told.
fn shared(issuer: &str, redis: SocketAddr) -> Json {
    let timeouts = json!({"connect_timeout": 300, "send_timeout": 300, "read_timeout": 300});
    json!({
        "issuer": issuer, "auth_methods": ["introspection"],
        "client_id": ["edge"], "client_secret": ["edge-secret-of-the-tests-0123456789"],
        "cluster_cache_strategy": "redis",
        "cluster_cache_redis": plus(json!({"host": "127.0.0.1", "port": redis.port()}), timeouts),
    })
}

pub(super) fn active() -> Json {
    json!({"active": true, "sub": "alice", "client_id": "app", "scope": "orders:read"})
}

// I3, I5: the second edge asks nobody; the server holds neither token nor answer.
#[test]
fn two_edges_ask_once() {
    let pair = Pair::start();
    let redis = pair.redis.as_ref().unwrap();
    let ask = |index: usize, token: &str| pair.edges[index].ask(with_token(token)).status();
    let tokens = [("opaque-token-one", 200), ("opaque-token-two", 200), ("opaque-token-unknown", 401)];
    // A refusal is shared too, for its short time.
    for (number, (token, status)) in tokens.into_iter().enumerate() {
        if status == 200 {
            pair.issuer.know(token, active());
        }
        assert_eq!(ask(0, token), status);
        // Nobody waits for the fleet to be told.
        wait(|| redis.keys().len() > number, "the fleet to be told");
        assert_eq!(ask(1, token), status);
        assert_eq!(pair.issuer.introspections(token), 1, "{token}");
    }
    let keys = redis.keys();
    assert_eq!(keys.len(), 3, "{keys:?}");
    for key in &keys {
        let stored = redis.bytes(&["GET", key]).unwrap();
        for part in ["opaque-token", "alice", "active", "orders:read"] {
            assert!(!key.contains(part) && !stored.windows(part.len()).any(|window| window == part.as_bytes()));
        }
    }
    let hits =
        |edge: &Edge| edge.metric("edge_fleet_cache_total{kind=\"introspection\",operation=\"get\",result=\"hit\"}");
    assert_eq!(pair.edges.each_ref().map(hits), [0.0, 3.0]);
}

// I3: who keeps answers for a shorter time gets none that is older.
#[test]
fn answers_for_other_times_are_not_shared() {
    let (upstream, issuer, redis) = (Upstream::start(), Issuer::start(&[]), Redis::start());
    let edge = |more: Json| {
        let config = plus(shared(&issuer.url(), redis.address()), more);
        Setup::new(guarded(&upstream.url(), config)).env("EDGE_SECRETS_KEY", KEY).start()
    };
    let (long, short) = (edge(json!({})), edge(json!({"cache_ttl_max": 1})));
    issuer.know("opaque-token", active());
    assert_eq!(long.ask(with_token("opaque-token")).status(), 200);
    wait(|| redis.keys().len() == 1, "the fleet to be told");
    issuer.forget("opaque-token");
    assert_eq!(short.ask(with_token("opaque-token")).status(), 401, "revoked");
    assert_eq!(issuer.introspections("opaque-token"), 2);
}

// A hot token is asked for anew before its answer ends: of the issuer, since the fleet has what ends as soon.
#[test]
fn answers_are_renewed_by_the_issuer() {
    let (upstream, issuer, redis) = (Upstream::start(), Issuer::start(&[]), Redis::start());
    let config = plus(shared(&issuer.url(), redis.address()), json!({"cache_ttl_max": 3}));
    let edge = Setup::new(guarded(&upstream.url(), config)).env("EDGE_SECRETS_KEY", KEY).start();
    issuer.know("opaque-token", active());
    let began = Instant::now();
    let asks = || {
        assert_eq!(edge.ask(with_token("opaque-token")).status(), 200);
        issuer.introspections("opaque-token") == 2
    };
    wait(asks, "the answer to be renewed");
    assert!(began.elapsed() < Duration::from_secs(3), "not before its end: {:?}", began.elapsed());
    let hits = edge.metric("edge_fleet_cache_total{kind=\"introspection\",operation=\"get\",result=\"hit\"}");
    assert_eq!(hits, 0.0);
}

// The loss of the server: each edge asks for itself, a metric says so, and no request fails.
#[test]
fn edges_that_lose_the_server_go_on_alone() {
    let mut pair = Pair::start();
    pair.issuer.know("opaque-token-one", active());
    assert_eq!(pair.statuses("opaque-token-one"), [200, 200]);
    let address = pair.redis.take().unwrap().stop();
    for number in 0..20 {
        let token = format!("opaque-token-{number}-alone");
        pair.issuer.know(&token, active());
        assert_eq!(pair.statuses(&token), [200, 200]);
        assert_eq!(pair.issuer.introspections(&token), 2, "{token}");
    }
    assert_eq!(pair.statuses("opaque-token-one"), [200, 200]);
    for edge in &pair.edges {
        let failed = edge.metric("edge_fleet_cache_total{kind=\"introspection\",operation=\"get\",result=\"failed\"}");
        assert_eq!(failed, 20.0);
        assert_eq!(edge.metric(&format!("edge_redis_up{{server=\"{address}/0\"}}")), 0.0);
        assert!(!edge.output().contains("opaque-token"), "L1");
    }
    let _back = Redis::at(address, &[]);
    let end = Instant::now() + READY;
    for number in 0.. {
        let token = format!("opaque-token-{number}-again");
        pair.issuer.know(&token, active());
        assert_eq!(pair.statuses(&token), [200, 200]);
        if pair.issuer.introspections(&token) == 1 {
            break;
        }
        assert!(Instant::now() < end, "they never share again");
        std::thread::sleep(Duration::from_millis(50));
    }
}

// One that hangs: the first question waits for it, and no request fails.
#[test]
fn edges_go_on_while_the_server_hangs() {
    let pair = Pair::start();
    let redis = pair.redis.as_ref().unwrap();
    pair.issuer.know("opaque-token-one", active());
    assert_eq!(pair.statuses("opaque-token-one"), [200, 200]);
    redis.signal(Signal::SIGSTOP);
    let began = Instant::now();
    for number in 0..20 {
        let token = format!("opaque-token-{number}-alone");
        pair.issuer.know(&token, active());
        assert_eq!(pair.statuses(&token), [200, 200]);
    }
    redis.signal(Signal::SIGCONT);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn sharing_needs_a_secrets_key() {
    let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
    let entities = guarded(&upstream.url(), shared(&issuer.url(), free_address()));
    let error = Setup::new(entities.clone()).try_start().err().expect("a refusal").to_string();
    assert!(error.contains("cluster_cache_strategy: found redis without a secrets key"), "{error}");
    let edge = Setup::new(entities).env("EDGE_SECRETS_KEY", KEY).start();
    assert!(!edge.output().contains(KEY), "L1");
}
