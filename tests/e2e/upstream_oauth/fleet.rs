//! Tokens that a fleet shares in Redis: one call for all its edges, sealed there, and no matter when Redis is gone.

use std::time::{Duration, Instant};

use edge_tests::certs;
use edge_tests::edge::{Edge, Setup, free_address};
use edge_tests::issuer::Issuer;
use edge_tests::parties::redis::Redis;
use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::{Value, json};

use super::{Tokens, bearer, config, issue, route, strict, with_body};
use crate::introspection::wait;
use crate::{entities, plus};

pub(super) const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER_KEY: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// An issuer and an upstream for many edges.
pub(super) struct Fleet {
    pub(super) issuer: Issuer,
    pub(super) upstream: Upstream,
    pub(super) tokens: Tokens,
}

impl Fleet {
    pub(super) fn start() -> Self {
        let (issuer, tokens) = (Issuer::start(&[]), Tokens::default());
        let upstream = strict(&tokens);
        issue(&issuer, "/token", &tokens, json!({"expires_in": 3600}));
        Self { issuer, upstream, tokens }
    }

    /// An edge whose tokens are in this Redis.
    fn edge(&self, redis: Value, key: &str) -> Edge {
        let redis = plus(json!({"host": "127.0.0.1", "connect_timeout": 1000, "read_timeout": 1000}), redis);
        let cache = json!({"cache": {"strategy": "redis", "redis": redis}});
        let routes = json!([route("orders", config(&self.issuer.url(), json!({}), cache))]);
        Setup::new(entities(&self.upstream.url(), routes)).env("EDGE_SECRETS_KEY", key).start()
    }

    /// The token that a request of this edge carries.
    fn token(&self, edge: &Edge) -> String {
        self.sent(edge, "/orders")
    }

    /// The token that the upstream gets with this target.
    pub(super) fn sent(&self, edge: &Edge, target: &str) -> String {
        let answer = edge.ask(get(target, &[]));
        assert_eq!(answer.status(), 200, "{}\n{}", answer.text(), edge.output());
        bearer(&self.upstream.last())
    }

    pub(super) fn calls(&self) -> usize {
        self.issuer.hits("/token")
    }
}

#[test]
fn two_edges_ask_for_one_token() {
    // U2, I5, L1
    let (fleet, redis) = (Fleet::start(), Redis::start());
    let server = json!({"port": redis.address().port()});
    let edges = [fleet.edge(server.clone(), KEY), fleet.edge(server.clone(), KEY)];
    let first = fleet.token(&edges[0]);
    // Nobody waits for the fleet to be told.
    wait(|| redis.keys().len() == 1, "the fleet to be told");
    assert_eq!((fleet.token(&edges[1]), fleet.token(&edges[0]), fleet.calls()), (first.clone(), first.clone(), 1));
    let keys = redis.keys();
    let stored = redis.bytes(&["GET", &keys[0]]).unwrap();
    assert!(keys[0].starts_with("edge:upstream_tokens:"), "{keys:?}");
    assert!(!stored.windows(12).any(|window| first.as_bytes().starts_with(window)), "in clear text");
    let ttl_ms: i64 = redis.command(&["PTTL", &keys[0]]).unwrap().parse().unwrap();
    assert!((3_580_000..=3_595_000).contains(&ttl_ms), "{ttl_ms}");
    // Who has another key shares nothing.
    let stranger = fleet.edge(server, OTHER_KEY);
    assert!(fleet.token(&stranger) != first && fleet.calls() == 2);
    for edge in edges.iter().chain([&stranger]) {
        let output = edge.output();
        assert!(!fleet.tokens.all().iter().any(|token| output.contains(token)) && !output.contains(KEY), "L1");
    }
}

#[test]
fn what_an_upstream_refuses_is_gone_for_all_and_a_fresh_one_stays() {
    // U5
    let (fleet, redis) = (Fleet::start(), Redis::start());
    let server = json!({"port": redis.address().port()});
    let edges = [fleet.edge(server.clone(), KEY), fleet.edge(server.clone(), KEY)];
    let first = fleet.token(&edges[0]);
    wait(|| redis.keys().len() == 1, "the fleet to be told");
    let sealed = || redis.bytes(&["GET", &redis.keys().pop()?]);
    let before = sealed();
    assert_eq!(fleet.token(&edges[1]), first);
    fleet.tokens.revoke(&first);
    // One asks the issuer; the other, which still has the old token, finds the new one in the fleet.
    let second = fleet.token(&edges[0]);
    wait(|| sealed().is_some_and(|sealed| Some(sealed) != before), "the fleet to be told");
    assert_eq!((fleet.token(&edges[1]), fleet.calls()), (second.clone(), 2));
    wait(|| edges[1].metric("edge_kept_answers_total{store=\"upstream_tokens\",result=\"asked\"}") == 2.0, "its look");
    assert_eq!((fleet.token(&fleet.edge(server, KEY)), fleet.calls()), (second.clone(), 2), "a fresh one stays");
    // Where the request is not sent again, the token is gone all the same.
    fleet.tokens.revoke(&second);
    assert_eq!(edges[0].ask(with_body("POST", "/orders", "x")).status(), 401);
    wait(|| redis.keys().is_empty(), "the token to be forgotten");
}

#[test]
fn an_edge_without_redis_has_a_memory_of_its_own() {
    // D9: down at start, back later.
    let (fleet, address) = (Fleet::start(), free_address());
    let server = json!({"port": address.port(), "connect_timeout": 300});
    let edge = fleet.edge(server.clone(), KEY);
    let began = Instant::now();
    let first = fleet.token(&edge);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((fleet.token(&edge), fleet.calls()), (first, 1));
    edge.logged("redis does not serve");
    let redis = Redis::at(address, &[]);
    wait(|| edge.metric(&format!("edge_redis_up{{server=\"{address}/0\"}}")) == 1.0, "redis to be found");
    fleet.tokens.revoke(&fleet.tokens.all()[0]);
    let second = fleet.token(&edge);
    wait(|| redis.keys().len() == 1, "the fleet to be told");
    assert_eq!((fleet.token(&fleet.edge(server, KEY)), fleet.calls()), (second, 2));
}

#[test]
fn a_user_of_redis_and_a_sentinel_lead_there() {
    let (fleet, address) = (Fleet::start(), free_address());
    let user = ["--user", "default", "off", "--user", "edge", "on", ">hush-0123", "~edge:upstream_tokens:*", "+@all"];
    let _redis = Redis::at(address, &user);
    let good = json!({"port": address.port(), "username": "edge", "password": "hush-0123"});
    let first = fleet.token(&fleet.edge(good.clone(), KEY));
    wait(|| fleet.token(&fleet.edge(good.clone(), KEY)) == first, "the fleet to be told");
    let calls = fleet.calls();
    let wrong = fleet.edge(plus(good, json!({"password": "hush-4567"})), KEY);
    assert!(fleet.token(&wrong) != first && fleet.calls() == calls + 1);
    wrong.logged("redis does not serve");
    assert!(!wrong.output().contains("hush-"), "L1");

    let master = Redis::start();
    let sentinel = Redis::sentinel("tokens", master.address());
    let record = json!({"sentinel_master": "tokens", "sentinel_role": "master",
        "sentinel_nodes": [{"host": "127.0.0.1", "port": sentinel.address().port()}]});
    let first = fleet.token(&fleet.edge(record.clone(), KEY));
    wait(|| master.keys().len() == 1, "the fleet to be told");
    assert_eq!(fleet.token(&fleet.edge(record, KEY)), first);
}

#[test]
fn redis_over_tls() {
    let (fleet, dir, address) = (Fleet::start(), tempfile::tempdir().unwrap(), free_address());
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pair = certs::server();
    let (certificate, key) = (file("tls.crt", &pair.certificate), file("tls.key", &pair.key));
    let port = address.port().to_string();
    let options = [
        "--port",
        "0",
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
    ];
    let _redis = Redis::at(address, &options);
    let trusting = json!({"port": address.port(), "ssl": true, "ssl_verify": false, "server_name": "edge.test"});
    let first = fleet.token(&fleet.edge(trusting.clone(), KEY));
    wait(|| fleet.token(&fleet.edge(trusting.clone(), KEY)) == first, "the fleet to be told");
    let calls = fleet.calls();
    // Nobody vouches for it: the token is not asked for there, nor put.
    let verifying = fleet.edge(json!({"port": address.port(), "ssl": true}), KEY);
    assert!(fleet.token(&verifying) != first && fleet.calls() == calls + 1);
    verifying.logged("redis does not serve");
}
