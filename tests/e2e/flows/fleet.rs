//! Fetched tokens shared by a fleet.

use edge_tests::edge::{Edge, Setup};
use edge_tests::parties::redis::Redis;
use serde_json::json;

use super::{CALLER, Flow, basic, client};
use crate::introspection::wait;
use crate::{guarded, plus};
use edge_tests::wire::get;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

#[test]
fn two_edges_ask_for_one_token() {
    // I5, R6
    let (flow, redis) = (Flow::start(json!(["client_credentials"]), json!({})), Redis::start());
    let server =
        json!({"host": "127.0.0.1", "port": redis.address().port(), "connect_timeout": 300, "read_timeout": 300});
    let edge_with = |items, more| {
        let shared =
            json!({"cluster_cache_strategy": "redis", "cluster_cache_redis": server, "cluster_cache_items": items});
        let config = plus(client(&flow.issuer.url(), json!(["client_credentials"])), plus(shared, more));
        Setup::new(guarded(&flow.upstream.url(), config)).env("EDGE_SECRETS_KEY", KEY).start()
    };
    let edge = |items| edge_with(items, json!({}));
    let ask = |edge: &Edge, id: &str, secret: &str| {
        assert_eq!(edge.ask(get("/orders", &[&basic(id, secret)])).status(), 200, "{}", edge.output());
        assert_eq!(flow.upstream_subject(), id);
    };
    let edges = [edge(json!(["introspection", "tokens"])), edge(json!(["introspection", "tokens"]))];
    ask(&edges[0], CALLER.0, CALLER.1);
    // Nobody waits for the fleet to be told.
    wait(|| redis.keys().len() == 1, "the fleet to be told");
    for edge in edges.iter().rev().chain(&edges) {
        ask(edge, CALLER.0, CALLER.1);
    }
    assert_eq!(flow.calls(), 1);
    let keys = redis.keys();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let (stored, issued) = (redis.bytes(&["GET", &keys[0]]).unwrap(), flow.issued());
    for part in [&issued[..20], CALLER.1, "access_token"] {
        assert!(!stored.windows(part.len()).any(|window| window == part.as_bytes()) && !keys[0].contains(part));
    }
    // Another secret is another question, on the other edge as well.
    ask(&edges[1], CALLER.0, "another-secret-0123");
    assert_eq!(flow.calls(), 2);
    // Tokens are shared where that is said alone.
    ask(&edge(json!(["introspection"])), CALLER.0, CALLER.1);
    assert_eq!(flow.calls(), 3);
    // Who keeps them for other times gets none that is older than those allow.
    ask(&edge_with(json!(["tokens"]), json!({"cache_ttl_max": 60})), CALLER.0, CALLER.1);
    assert_eq!(flow.calls(), 4);
    for edge in &edges {
        let output = edge.output();
        assert!(![CALLER.1, &issued, KEY].iter().any(|secret| output.contains(*secret)), "L1");
    }
}
