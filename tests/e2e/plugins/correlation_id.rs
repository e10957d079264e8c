use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::json;

use super::{plugin, with_plugins};

#[test]
fn one_id_goes_upstream_back_and_into_the_log() {
    let upstream = Upstream::start();
    let edge = with_plugins(&upstream, json!([plugin("correlation-id", json!({"echo_downstream": true}))]));
    let check = |request: &[u8], expected: Option<&str>| {
        let answer = edge.ask(request);
        let id = answer.field("kong-request-id").expect("an echo").to_owned();
        assert!(expected.is_none_or(|expected| id == expected), "{id}");
        assert_eq!(upstream.last().field("kong-request-id"), Some(id.as_str()));
        let request_id = answer.field("x-kong-request-id").expect("an id").to_owned();
        assert_eq!(edge.access(|line| line["request_id"] == request_id.as_str())["correlation_id"], id.as_str());
    };
    check(&get("/", &["Kong-Request-ID: mine"]), Some("mine"));
    check(&get("/", &["kong-request-id: "]), None);
    check(&get("/", &[]), None);
}

#[test]
fn the_counter_is_each_workers_and_begins_with_one() {
    let upstream = Upstream::start();
    let entities = super::behind(&upstream, json!([plugin("correlation-id", json!({}))])).to_string();
    let edge = edge_tests::edge::Setup::new(entities).workers(1).start();
    let mut workers = Vec::new();
    for count in 1..=3 {
        assert_eq!(edge.ask(get("/", &[])).field("kong-request-id"), None);
        let id = upstream.last().field("kong-request-id").expect("an id").to_owned();
        let (worker, counted) = id.split_once('#').expect("uuid#counter");
        assert_eq!(counted, count.to_string());
        workers.push(worker.to_owned());
    }
    workers.dedup();
    assert_eq!(workers.len(), 1);
}

#[test]
fn a_tracker_tells_connection_and_request() {
    let upstream = Upstream::start();
    let edge = with_plugins(&upstream, json!([plugin("correlation-id", json!({"generator": "tracker"}))]));
    let mut client = edge.connect();
    let mut trackers = Vec::new();
    for _ in 0..2 {
        assert_eq!(client.ask(get("/", &[])).status(), 200);
        trackers.push(upstream.last().field("kong-request-id").expect("an id").to_owned());
    }
    let parts: Vec<Vec<&str>> = trackers.iter().map(|tracker| tracker.split('-').collect()).collect();
    let start = ["127.0.0.1", &edge.address().port().to_string(), &edge.pid().to_string()].map(str::to_owned);
    for (index, parts) in parts.iter().enumerate() {
        assert_eq!((parts.len(), &parts[..3]), (6, &start.each_ref().map(String::as_str)[..]), "{parts:?}");
        assert_eq!((parts[3], parts[4]), (parts[3], (index + 1).to_string().as_str()));
        assert_eq!(parts[5].split_once('.').map(|(_, millis)| millis.len()), Some(3), "{parts:?}");
    }
    assert_eq!(parts[0][3], parts[1][3], "one connection, one serial");
}
