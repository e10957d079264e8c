//! What edges share in a cluster of real Redis servers: keys land on all of them, slots move, masters die.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edge_tests::edge::{Edge, Setup, free_address};
use edge_tests::issuer::Issuer;
use edge_tests::parties::redis_cluster::Cluster;
use edge_tests::upstream::Upstream;
use edge_user::oauth::fleet::{EntryName, Fleet, Fleets, Kind};
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

use super::fleet::{KEY, LONG, active, count, node, runtime};
use super::introspection::wait;
use super::{guarded, plus, with_token};

/// Enough for each of three nodes to have some.
const ENTRIES: u8 = 30;

fn record(ports: &[u16]) -> String {
    let nodes: Vec<_> = ports.iter().map(|port| format!("{{port: {port}}}")).collect();
    format!("{{cluster_nodes: [{}], connect_timeout: 2000, read_timeout: 2000}}", nodes.join(", "))
}

fn name(fleet: &Fleet, number: u8) -> EntryName {
    fleet.name(Kind::Introspection, &[&[number]])
}

/// Which of the entries are there.
async fn found(fleet: &Fleet) -> Vec<u8> {
    let mut there = Vec::new();
    for number in 0..ENTRIES {
        if fleet.get(&name(fleet, number)).await.is_some_and(|found| *found.value == [number]) {
            there.push(number);
        }
    }
    there
}

fn all() -> Vec<u8> {
    (0..ENTRIES).collect()
}

/// A node of the fleet that has put every entry.
fn filled(cluster: &Cluster, runtime: &Runtime) -> (Fleet, Fleets) {
    let (fleet, numbers) = node(&record(&cluster.ports()), runtime.handle());
    runtime.block_on(async {
        for number in 0..ENTRIES {
            fleet.put(&name(&fleet, number), &[number], LONG).await;
        }
    });
    assert_eq!(count(&numbers, "put", "stored"), u64::from(ENTRIES));
    assert!(cluster.keys().iter().all(|keys| !keys.is_empty()), "{:?}", cluster.keys());
    (fleet, numbers)
}

#[test]
fn a_slot_that_moves_loses_nothing() {
    let (cluster, runtime) = (Cluster::start(3, &[]), runtime());
    let (one, stored) = filled(&cluster, &runtime);
    // One that knows one node alone, and asks all the while.
    let (two, numbers) = node(&record(&cluster.ports()[..1]), runtime.handle());
    let ended = Arc::new(AtomicBool::new(false));
    let asking = runtime.spawn({
        let (two, ended) = (two.clone(), ended.clone());
        async move {
            let mut rounds = 0;
            while !ended.load(Ordering::Relaxed) {
                assert_eq!(found(&two).await, all());
                rounds += 1;
            }
            rounds
        }
    });
    let check = || {
        // A node that comes now, and what it puts in the place of what is there.
        let (new, _) = node(&record(&cluster.ports()), runtime.handle());
        assert_eq!(runtime.block_on(found(&new)), all());
        runtime.block_on(async {
            for number in 0..ENTRIES {
                new.put(&name(&new, number), &[number], LONG).await;
            }
            assert_eq!(found(&one).await, all());
        });
        assert_eq!(cluster.count(), usize::from(ENTRIES));
    };
    let key = cluster.keys()[0][0].clone();
    let must = |index: usize, words: &[&str]| {
        assert_eq!(cluster.node(index).command(words).as_deref(), Some("OK"), "{words:?}");
    };
    let slot = cluster.node(0).command(&["CLUSTER", "KEYSLOT", &key]).unwrap();
    let (from, to) = (cluster.id(0), cluster.id(1));
    must(1, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from]);
    must(0, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to]);
    check();
    must(0, &["MIGRATE", "127.0.0.1", &cluster.ports()[1].to_string(), &key, "0", "5000"]);
    assert!(cluster.keys()[1].contains(&key));
    // ASK
    check();
    must(1, &["CLUSTER", "SETSLOT", &slot, "NODE", &to]);
    must(0, &["CLUSTER", "SETSLOT", &slot, "NODE", &to]);
    // MOVED
    check();
    ended.store(true, Ordering::Relaxed);
    assert!(runtime.block_on(asking).unwrap() > 0);
    assert_eq!([count(&numbers, "get", "failed"), count(&stored, "put", "failed")], [0, 0]);
    // A script finds its key as well.
    runtime.block_on(async {
        for number in 0..ENTRIES {
            one.delete_value(&name(&one, number), &[number]).await;
        }
    });
    assert_eq!((cluster.count(), count(&stored, "delete", "deleted")), (0, u64::from(ENTRIES)));
}

#[test]
fn redirections_that_are_not_wanted_are_not_followed() {
    let (cluster, runtime) = (Cluster::start(2, &[]), runtime());
    let (one, _) = filled(&cluster, &runtime);
    let once = record(&cluster.ports()).replace("{cluster_nodes", "{cluster_max_redirections: 0, cluster_nodes");
    let (two, numbers) = node(&once, runtime.handle());
    assert_eq!(runtime.block_on(found(&two)), all());
    let key = cluster.keys()[0][0].clone();
    let slot = cluster.node(0).command(&["CLUSTER", "KEYSLOT", &key]).unwrap();
    let (from, to) = (cluster.id(0), cluster.id(1));
    cluster.node(1).command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from]);
    cluster.node(0).command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to]);
    cluster.node(0).command(&["MIGRATE", "127.0.0.1", &cluster.ports()[1].to_string(), &key, "0", "5000"]);
    assert_eq!(runtime.block_on(found(&two)).len(), usize::from(ENTRIES) - 1);
    assert_eq!((count(&numbers, "get", "failed"), runtime.block_on(found(&one))), (1, all()));
    cluster.node(1).command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to]);
    cluster.node(0).command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to]);
    // The first that is sent elsewhere has the table read, and fails itself.
    wait(|| runtime.block_on(found(&two)) == all(), "the other table");
}

#[test]
fn a_master_that_dies_takes_its_own_keys_along_until_its_replica_stands_in() {
    let (mut cluster, runtime) = (Cluster::start(3, &[]), runtime());
    let (fleet, numbers) = filled(&cluster, &runtime);
    cluster.replicate(0);
    let lost = cluster.keys()[0].len();
    wait(|| cluster.node(3).command(&["DBSIZE"]) == Some(lost.to_string()), "the replica to have all");
    cluster.kill(0);
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(runtime.block_on(found(&fleet)).len(), usize::from(ENTRIES) - lost);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(count(&numbers, "get", "failed"), 20 * lost as u64);
    assert_eq!(cluster.node(2).command(&["CLUSTER", "FAILOVER", "TAKEOVER"]).as_deref(), Some("OK"));
    wait(|| runtime.block_on(found(&fleet)) == all(), "the replica to be found");
    // Who comes now passes over the node that is gone.
    let ports = [&[free_address().port()], &cluster.ports()[..1]].concat();
    let (new, _) = node(&record(&ports), runtime.handle());
    assert_eq!(runtime.block_on(found(&new)), all());
}

// I3, I5: the second edge asks nobody, whichever node has the answer.
#[test]
fn two_edges_introspect_once() {
    let (cluster, upstream, issuer) = (Cluster::start(3, &[]), Upstream::start(), Issuer::start(&[]));
    let nodes: Vec<Json> = cluster.ports().iter().map(|port| json!({"ip": "127.0.0.1", "port": port})).collect();
    let config = json!({
        "issuer": issuer.url(), "auth_methods": ["introspection"],
        "client_id": ["edge"], "client_secret": ["edge-secret-of-the-tests-0123456789"],
        "cluster_cache_strategy": "redis",
        "cluster_cache_redis": plus(json!({"cluster_nodes": nodes}), json!({"cluster_max_redirections": 3})),
    });
    let entities = guarded(&upstream.url(), config);
    let start = || Setup::new(entities.clone()).env("EDGE_SECRETS_KEY", KEY).start();
    let edges = [start(), start()];
    let tokens: Vec<String> = (0..ENTRIES).map(|number| format!("opaque-token-{number}-x")).collect();
    let ask = |edge: &Edge, token: &str| assert_eq!(edge.ask(with_token(token)).status(), 200, "{}", edge.output());
    for token in &tokens {
        issuer.know(token, active());
        ask(&edges[0], token);
    }
    // Nobody waits for the fleet to be told.
    wait(|| cluster.count() == tokens.len(), "the fleet to be told");
    assert!(cluster.keys().iter().all(|keys| !keys.is_empty()), "{:?}", cluster.keys());
    for token in &tokens {
        ask(&edges[1], token);
        assert_eq!(issuer.introspections(token), 1, "{token}");
    }
    let label = format!("cluster:127.0.0.1:{}/0", cluster.ports()[0]);
    for edge in &edges {
        assert_eq!(edge.metric(&format!("edge_redis_up{{server=\"{label}\"}}")), 1.0);
        assert!(!edge.output().contains("opaque-token"), "L1");
    }
}
