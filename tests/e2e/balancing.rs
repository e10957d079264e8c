//! Upstream entities over sockets: whose turn it is, who comes back to whom, and who is left out while it is ill.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edge_tests::edge::{Edge, Setup};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::get;
use serde_json::{Value, json};

use super::plus;

/// Targets that say their number.
fn targets(count: usize) -> Vec<Upstream> {
    (0..count).map(|number| Upstream::with(move |_| Reply::ok(&number.to_string()))).collect()
}

/// An edge whose one route, with these criteria, leads to an upstream entity with these fields and target weights.
fn balanced(targets: &[Upstream], weights: &[u32], route: Value, upstream: Value) -> Edge {
    let targets: Vec<_> = (targets.iter().zip(weights))
        .map(|(target, weight)| json!({"target": target.address().to_string(), "weight": weight}))
        .collect();
    let entities = json!({
        "_format_version": "3.0",
        "upstreams": [plus(json!({"name": "pool", "targets": targets}), upstream)],
        "services": [{"name": "up", "host": "pool", "retries": 0, "routes": [plus(json!({"name": "all"}), route)]}],
        "plugins": [{"name": "prometheus", "config": {"upstream_health_metrics": true}}],
    });
    Setup::new(entities.to_string()).start()
}

fn all() -> Value {
    json!({"paths": ["/"]})
}

#[test]
fn turns_go_by_weight() {
    for algorithm in ["round-robin", "least-connections"] {
        let targets = targets(4);
        let edge = balanced(&targets, &[10, 20, 30, 0], all(), json!({"algorithm": algorithm}));
        for _ in 0..60 {
            assert_eq!(edge.ask(get("/x", &[])).status(), 200);
        }
        let counts: Vec<_> = targets.iter().map(|target| target.count("GET", "/x")).collect();
        match algorithm {
            "round-robin" => assert_eq!(counts, [10, 20, 30, 0]),
            // One request after the other: nothing is ever under way, so that only the left-out one is certain.
            _ => assert_eq!((counts.iter().sum::<usize>(), counts[3]), (60, 0)),
        }
    }
}

#[test]
fn who_hashes_alike_comes_back() {
    let targets = targets(3);
    let weights = [100; 3];
    let by_field = balanced(&targets, &weights, all(), json!({"hash_on": "header", "hash_on_header": "X-User"}));
    let by_path = balanced(
        &targets,
        &weights,
        json!({"paths": ["~/users/(?<id>[^/]+)"]}),
        json!({"hash_on": "uri_capture", "hash_on_uri_capture": "id"}),
    );
    let mut met: HashMap<&str, Vec<String>> = HashMap::new();
    for round in 0..2 {
        for user in 0..30 {
            let field = by_field.ask(get("/", &[&format!("X-User: u{user}")])).text();
            let path = by_path.ask(get(&format!("/users/u{user}/{round}"), &[])).text();
            met.entry("field").or_default().push(field);
            met.entry("path").or_default().push(path);
        }
    }
    for (by, met) in &met {
        assert_eq!(met[..30], met[30..], "{by}");
        assert!(["0", "1", "2"].iter().all(|target| met.iter().any(|seen| seen == target)), "{by}: {met:?}");
    }

    let by_cookie = json!({"hash_on": "cookie", "hash_on_cookie": "stick", "hash_on_cookie_path": "/shop"});
    let edge = balanced(&targets, &weights, all(), by_cookie);
    let first = edge.ask(get("/", &[]));
    let cookie = first.field("set-cookie").expect("a cookie").to_owned();
    assert!(cookie.starts_with("stick=") && cookie.contains("Path=/shop"), "{cookie}");
    let pair = cookie.split(';').next().expect("a pair");
    for _ in 0..10 {
        let again = edge.ask(get("/", &[&format!("Cookie: a=b; {pair}")]));
        assert_eq!((again.text(), again.field("set-cookie")), (first.text(), None));
    }
}

#[test]
fn ill_targets_are_left_out_until_they_are_well() {
    let well = Arc::new(AtomicBool::new(true));
    let seen = well.clone();
    let ill = Upstream::with(move |_| match seen.load(Ordering::Relaxed) {
        true => Reply::ok("0"),
        false => Reply::new("500 Internal Server Error", "", "ill"),
    });
    let targets = [ill, Upstream::with(|_| Reply::ok("1"))];
    let checks = json!({"healthchecks": {
        "active": {"http_path": "/probe", "healthy": {"interval": 0.1, "successes": 2},
            "unhealthy": {"interval": 0.1, "http_failures": 1}},
        "passive": {"unhealthy": {"http_failures": 2, "tcp_failures": 1}},
    }});
    let edge = balanced(&targets, &[100, 100], all(), checks);
    let ask = || edge.ask(get("/x", &[]));
    let state = |target: &Upstream, state: &str| {
        let address = target.address();
        edge.metric(&format!(
            "kong_upstream_target_health{{upstream=\"pool\",target=\"{address}\",address=\"{address}\",state=\"{state}\",subsystem=\"http\"}}"
        ))
    };
    let until = |what: &str, done: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    assert_eq!((ask().status(), ask().status()), (200, 200));
    assert_eq!((state(&targets[0], "healthy"), state(&targets[0], "unhealthy")), (1.0, 0.0));

    well.store(false, Ordering::Relaxed);
    until("it is found ill", &|| state(&targets[0], "unhealthy") == 1.0);
    for _ in 0..20 {
        assert_eq!(ask().text(), "1");
    }
    edge.logged("unhealthy");
    well.store(true, Ordering::Relaxed);
    until("it is found well", &|| state(&targets[0], "healthy") == 1.0);
    let answers: Vec<_> = (0..4).map(|_| ask().text()).collect();
    assert!(answers.iter().any(|answer| answer == "0"), "{answers:?}");

    // With all of them gone the edge says so at once, and why.
    let [first, second] = targets;
    first.stop();
    second.stop();
    until("all are found gone", &|| ask().status() == 503);
    let answer = ask();
    assert!(answer.text().contains("The upstream server is currently unavailable"), "{}", answer.text());
    assert_eq!(edge.reason_of(&answer), "upstream_unhealthy");
}
