//! Tokens that a fleet shares in a Redis cluster: by a user with few rights, over TLS, and without one of its masters.

use edge_tests::certs;
use edge_tests::edge::{Edge, Setup};
use edge_tests::parties::redis_cluster::Cluster;
use serde_json::{Value, json};

use super::fleet::{Fleet, KEY};
use super::{config, route};
use crate::introspection::wait;
use crate::{entities, plus};

/// Questions, so that each of three masters has the answers to some.
const QUESTIONS: usize = 30;
/// What the edge needs there, and who does without a login cannot do.
const USERS: &str = "--user default on nopass ~* +@all -set -getrange --user edge on >hush-0123 ~edge:* -@all \
    +getrange +set +del +get +eval +ping +asking +cluster|slots";

impl Fleet {
    /// An edge that asks a question for each route, and shares the answers here.
    fn clustered(&self, ports: &[u16], redis: Value, change: impl FnOnce(Setup) -> Setup) -> Edge {
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
    fn all_sent(&self, edge: &Edge) -> Vec<String> {
        (0..QUESTIONS).map(|number| self.sent(edge, &format!("/r{number}"))).collect()
    }
}

#[test]
fn edges_share_tokens_by_a_user_of_few_rights_and_without_a_master() {
    // U2, I5, L1, D9
    let users: Vec<&str> = USERS.split_whitespace().collect();
    let (fleet, mut cluster) = (Fleet::start(), Cluster::start(3, &users));
    let ports = cluster.ports();
    let user = json!({"username": "edge", "password": "hush-0123"});
    let edge = |redis: Value| fleet.clustered(&ports, redis, |setup| setup);
    let (one, two) = (edge(user.clone()), edge(user.clone()));
    let tokens = fleet.all_sent(&one);
    // Nobody waits for the fleet to be told.
    wait(|| cluster.count() == QUESTIONS, "the fleet to be told");
    assert_eq!((fleet.all_sent(&two), fleet.calls()), (tokens.clone(), QUESTIONS));
    let keys = cluster.keys();
    assert!(keys.iter().all(|keys| !keys.is_empty()), "{keys:?}");
    let stored = cluster.node(0).bytes(&["GET", &keys[0][0]]).unwrap();
    assert!(keys[0][0].starts_with("edge:upstream_tokens:"), "{keys:?}");
    assert!(!stored.windows(12).any(|window| tokens[0].as_bytes().starts_with(window)), "in clear text");
    // Without the login nothing is had.
    let stranger = edge(json!({}));
    assert!(fleet.all_sent(&stranger).iter().all(|token| !tokens.contains(token)));
    stranger.logged("redis does not serve");
    assert_eq!(fleet.calls(), 2 * QUESTIONS);

    // The first of those configured is gone: its tokens are asked for anew, and those alone.
    cluster.kill(0);
    let late = edge(user);
    let again = fleet.all_sent(&late);
    let same = again.iter().filter(|token| tokens.contains(token)).count();
    assert_eq!((same, fleet.calls()), (QUESTIONS - keys[0].len(), 2 * QUESTIONS + keys[0].len()));
    let up = format!("edge_redis_up{{server=\"cluster:127.0.0.1:{}/0\"}}", ports[0]);
    wait(|| late.metric(&up) == 0.0, "the loss to be told");
    assert!(late.logged("redis does not serve").contains(&format!("127.0.0.1:{}", ports[0])), "which node");
    // The edges that were there serve on.
    assert_eq!((fleet.all_sent(&one), fleet.all_sent(&two)), (tokens.clone(), tokens));
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
        fleet.clustered(ports, plus(json!({"ssl": true}), redis), trusting)
    };
    let tokens = fleet.all_sent(&edge(json!({})));
    wait(|| cluster.count() == QUESTIONS, "the fleet to be told");
    assert!(cluster.keys().iter().all(|keys| !keys.is_empty()));
    // The nodes by their addresses, or all by one name.
    for redis in [json!({}), json!({"server_name": "edge.test"})] {
        assert_eq!((fleet.all_sent(&edge(redis)), fleet.calls()), (tokens.clone(), QUESTIONS));
    }
    let wrong = edge(json!({"server_name": "other.test"}));
    assert!(fleet.all_sent(&wrong).iter().all(|token| !tokens.contains(token)));
    wrong.logged("redis does not serve");
}
