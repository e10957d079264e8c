//! What edges share in a real Redis: nothing there is readable, and nothing depends on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_tests::edge::{READY, free_address};
use edge_tests::parties::redis::Redis;
use edge_user::config::problem::Sink;
use edge_user::config::reader::Reader;
use edge_user::config::value::Value;
use edge_user::crypto::seal::SecretsKey;
use edge_user::metrics::Exposition;
use edge_user::oauth::fleet::{Fleet, FleetSettings, Fleets, Kind};
use edge_user::redis::Clients;
use nix::sys::signal::Signal;
use tokio::runtime::{Handle, Runtime};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const TOKEN: &[u8] = b"opaque-token-of-ann";
const ANSWER: &[u8] = br#"{"active":true,"sub":"ann"}"#;
const LONG: Duration = Duration::from_secs(600);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The fleet's cache as one node has it, and the node's numbers.
fn node(record: &str, control: &Handle) -> (Fleet, Fleets) {
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

fn count(fleets: &Fleets, operation: &str, result: &str) -> u64 {
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
