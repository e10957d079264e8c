//! Tokens that a fleet shares in a Redis cluster: by a user with few rights, over TLS, and without one of its masters.

use edge_tests::certs;
use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::Issuer;
use edge_tests::parties::redis_cluster::Cluster;
use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::{Value, json};

use super::{Tokens, bearer, config, issue, route, strict};
use crate::introspection::wait;
use crate::{entities, plus};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// Questions, so that each of three masters has the answers to some.
const QUESTIONS: usize = 30;
/// What the edge needs there, and who does without a login cannot do.
const USERS: &str = "--user default on nopass ~* +@all -set -getrange --user edge on >hush-0123 ~edge:* -@all \
    +getrange +set +del +get +eval +ping +asking +cluster|slots";

/// An issuer and an upstream for many edges.
struct Fleet {
    issuer: Issuer,
    upstream: Upstream,
    tokens: Tokens,
}

impl Fleet {
    fn start() -> Self {
        let (issuer, tokens) = (Issuer::start(&[]), Tokens::default());
        let upstream = strict(&tokens);
        issue(&issuer, "/token", &tokens, json!({"expires_in": 3600}));
        Self { issuer, upstream, tokens }
    }

    /// An edge that asks a question for each route, and shares the answers here.
    fn edge(&self, ports: &[u16], redis: Value, change: impl FnOnce(Setup) -> Setup) -> Edge {
        let nodes: Vec<Value> = ports.iter().map(|port| json!({"ip": "127.0.0.1", "port": port})).collect();
        let cache = json!({"cache": {"strategy": "redis", "redis": plus(json!({"cluster_nodes": nodes}), redis)}});
        let url = self.issuer.url();
        let routes = (0..QUESTIONS).map(|number| {
            let oauth = json!({"scopes": [format!("scope-{number}")]});
            route(&format!("r{number}"), config(&url, oauth, cache.clone()))
        });
        let setup = Setup::new(entities(&self.upstream.url(), routes.collect()));
        change(setup.env("EDGE_SECRETS_KEY", KEY)).start()
    }

    /// The token of each question.
    fn sent(&self, edge: &Edge) -> Vec<String> {
        let ask = |number| {
            let answer = edge.ask(get(&format!("/r{number}"), &[]));
            assert_eq!(answer.status(), 200, "{}\n{}", answer.text(), edge.output());
            bearer(&self.upstream.last())
        };
        (0..QUESTIONS).map(ask).collect()
    }

    fn calls(&self) -> usize {
        self.issuer.hits("/token")
    }
}

#[test]
fn edges_share_tokens_by_a_user_of_few_rights_and_without_a_master() {
    // U2, I5, L1, D9
    let users: Vec<&str> = USERS.split_whitespace().collect();
    let (fleet, mut cluster) = (Fleet::start(), Cluster::start(3, &users));
    let ports = cluster.ports();
    let user = json!({"username": "edge", "password": "hush-0123"});
    let edge = |redis: Value| fleet.edge(&ports, redis, |setup| setup);
    let (one, two) = (edge(user.clone()), edge(user.clone()));
    let tokens = fleet.sent(&one);
    // Nobody waits for the fleet to be told.
    wait(|| cluster.count() == QUESTIONS, "the fleet to be told");
    assert_eq!((fleet.sent(&two), fleet.calls()), (tokens.clone(), QUESTIONS));
    let keys = cluster.keys();
    assert!(keys.iter().all(|keys| !keys.is_empty()), "{keys:?}");
    let stored = cluster.node(0).bytes(&["GET", &keys[0][0]]).unwrap();
    assert!(keys[0][0].starts_with("edge:upstream_tokens:"), "{keys:?}");
    assert!(!stored.windows(12).any(|window| tokens[0].as_bytes().starts_with(window)), "in clear text");
    // Without the login nothing is had.
    let stranger = edge(json!({}));
    assert!(fleet.sent(&stranger).iter().all(|token| !tokens.contains(token)));
    stranger.logged("redis does not serve");
    assert_eq!(fleet.calls(), 2 * QUESTIONS);

    // The first of those configured is gone: its tokens are asked for anew, and those alone.
    cluster.kill(0);
    let late = edge(user);
    let again = fleet.sent(&late);
    let same = again.iter().filter(|token| tokens.contains(token)).count();
    assert_eq!((same, fleet.calls()), (QUESTIONS - keys[0].len(), 2 * QUESTIONS + keys[0].len()));
    let up = format!("edge_redis_up{{server=\"cluster:127.0.0.1:{}/0\"}}", ports[0]);
    wait(|| late.metric(&up) == 0.0, "the loss to be told");
    assert!(late.logged("redis does not serve").contains(&format!("127.0.0.1:{}", ports[0])), "which node");
    // The edges that were there serve on.
    assert_eq!((fleet.sent(&one), fleet.sent(&two)), (tokens.clone(), tokens));
    for edge in [&one, &two, &stranger, &late] {
        let output = edge.output();
        let secrets = fleet.tokens.all().into_iter().chain(["hush-".to_owned(), KEY.to_owned()]);
        assert!(!secrets.into_iter().any(|secret| output.contains(&secret)), "L1");
    }
}

#[test]
fn every_node_is_verified_over_tls() {
    let (fleet, cluster, dir) = (Fleet::start(), Cluster::over_tls(3), tempfile::tempdir().unwrap());
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, certs::root()).unwrap();
    let edge = |redis: Value| {
        let ports = &cluster.ports()[..1];
        let trusting = |setup: Setup| setup.env("SSL_CERT_FILE", roots.to_str().unwrap());
        fleet.edge(ports, plus(json!({"ssl": true}), redis), trusting)
    };
    let tokens = fleet.sent(&edge(json!({})));
    wait(|| cluster.count() == QUESTIONS, "the fleet to be told");
    assert!(cluster.keys().iter().all(|keys| !keys.is_empty()));
    // The nodes by their addresses, or all by one name.
    for redis in [json!({}), json!({"server_name": "edge.test"})] {
        assert_eq!((fleet.sent(&edge(redis)), fleet.calls()), (tokens.clone(), QUESTIONS));
    }
    let wrong = edge(json!({"server_name": "other.test"}));
    assert!(fleet.sent(&wrong).iter().all(|token| !tokens.contains(token)));
    wrong.logged("redis does not serve");
}
