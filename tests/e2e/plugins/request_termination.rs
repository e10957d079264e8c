use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::json;

use super::{Known, plugin, with_plugins};

#[test]
fn answers_are_compact_raw_or_empty() {
    let upstream = Upstream::start();
    for (config, status, kind, body) in [
        (json!({}), 503, Some("application/json; charset=utf-8"), "{\"message\":\"Service unavailable\"}"),
        (json!({"status_code": 403}), 403, None, ""),
        (json!({"status_code": 200, "body": "<p>", "content_type": "text/html"}), 200, Some("text/html"), "<p>"),
        (json!({"status_code": 200, "body": "raw"}), 200, None, "raw"),
    ] {
        let edge = with_plugins(&upstream, json!([plugin("request-termination", config.clone())]));
        let answer = edge.ask(get("/", &["Accept: text/html"]));
        assert_eq!((answer.status(), answer.field("content-type"), answer.text().as_str()), (status, kind, body));
        assert_eq!(answer.field("content-length"), Some(body.len().to_string().as_str()), "{config}");
        assert_eq!(edge.reason_of(&answer), "request_terminated");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn an_echo_reads_the_body_and_leaves_the_connection_usable() {
    let upstream = Upstream::start();
    let config = json!({"echo": true, "status_code": 200, "trigger": "X-Echo"});
    let edge = with_plugins(&upstream, json!([plugin("request-termination", config)]));
    let mut client = edge.connect();
    for (framing, body) in
        [("Content-Length: 7", "{\"a\":1}"), ("Transfer-Encoding: chunked", "3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n")]
    {
        let echo = client.ask(format!(
            "POST /p?q=1 HTTP/1.1\r\nHost: test:81\r\nX-Echo: 1\r\nContent-Type: application/json\r\n{framing}\r\n\r\n{body}"
        ));
        let (echo, request) = (echo.json(), echo.json()["request"].clone());
        assert_eq!(request["raw_body"], "{\"a\":1}");
        assert_eq!(request["body"], json!({"a": 1}));
        assert_eq!((&request["host"], &request["path"]), (&json!("test"), &json!("/p")));
        assert_eq!(request["query"], json!({"q": "1"}));
        assert_eq!(echo["matched_route"]["name"], "all");
        assert_eq!(echo["matched_service"]["name"], "up");
        assert_eq!(echo["kong"]["worker_pid"], edge.pid());
    }
    let node = edge.admin_get("/").json();
    assert_eq!(client.ask(get("/?X-Echo", &[])).json()["kong"]["node_id"], node["node_id"]);
    assert_eq!(client.ask(get("/", &[])).text(), "ok");
}

#[test]
fn only_the_consumer_it_is_for_is_turned_away() {
    let config = json!({"status_code": 403, "message": "Not you"});
    let scoped = json!([{"name": "request-termination", "consumer": "ann", "config": config}]);
    let known = Known::start(json!({"consumer_claim": ["sub"]}), &[], scoped);
    assert_eq!(known.ask("ann", json!({})).text(), "{\"message\":\"Not you\"}");
    assert_eq!(known.ask("bob", json!({})).status(), 200);
    assert_eq!(known.edge.ask(get("/orders", &[])).status(), 401, "who is nobody yet is refused first");
    assert_eq!(known.upstream.requests().len(), 1);
}
