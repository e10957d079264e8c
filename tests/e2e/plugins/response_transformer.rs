use edge_tests::edge::Setup;
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::get;
use serde_json::json;

use super::{Known, behind, plugin, with_plugins};

#[test]
fn fields_and_members_change_and_the_rest_stays_exact() {
    let body = r#"{"big": 12345678901234567890.10, "old": [1.50], "gone": 0}"#;
    let upstream = Upstream::with(move |request| match request.target() {
        "/gzip" => Reply::new("200 OK", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "\u{1f}\u{8b}"),
        "/text" => Reply::ok(body),
        "/chunked" => Reply::raw(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )),
        _ if request.method() == "HEAD" => {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 58\r\n\r\n")
        }
        _ => Reply::new("200 OK", "Content-Type: application/json\r\nX-Old: 1\r\nServer: up\r\n", body),
    });
    let config = json!({
        "remove": {"headers": ["Server"], "json": ["gone"]},
        "rename": {"headers": ["X-Old:X-New"], "json": ["old:new"]},
        "add": {"json": ["n:1.0"], "json_types": ["number"]},
        "append": {"json": ["new:x"]},
    });
    let edge = with_plugins(&upstream, json!([plugin("response-transformer", config)]));
    let expected = r#"{"big":12345678901234567890.10,"new":[1.50,"x"],"n":1.0}"#;
    let answer = edge.ask(get("/", &[]));
    assert_eq!(answer.text(), expected);
    assert_eq!(answer.field("content-length"), Some(expected.len().to_string().as_str()));
    assert_eq!((answer.field("x-old"), answer.field("x-new"), answer.field("server")), (None, Some("1"), None));
    assert_eq!(edge.ask(get("/chunked", &[])).text(), expected);
    assert_eq!(edge.ask(get("/text", &[])).text(), body);
    assert_eq!(edge.ask(get("/gzip", &[])).text(), "\u{1f}\u{8b}");
    edge.logged("response-transformer: the body is no JSON object");
    // RFC 9110, 8.6: a length that GET would not have is not told.
    let mut client = edge.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = client.response_to("HEAD");
    assert_eq!((answer.status(), answer.field("content-length")), (200, None));
    assert_eq!(client.ask(get("/", &[])).text(), expected);
}

#[test]
fn the_consumers_own_instance_takes_the_routes_place() {
    let of = |value: &str| json!({"add": {"headers": [format!("X-For:{value}")]}});
    let scoped = json!([{"name": "response-transformer", "consumer": "ann", "config": of("ann")}]);
    let on_route = [plugin("response-transformer", of("everyone"))];
    let known = Known::start(json!({"consumer_claim": ["sub"]}), &on_route, scoped);
    assert_eq!(known.ask("ann", json!({})).field("x-for"), Some("ann"));
    assert_eq!(known.ask("bob", json!({})).field("x-for"), Some("everyone"));
    assert_eq!(known.edge.ask(get("/orders", &[])).field("x-for"), Some("everyone"));
}

#[test]
fn groups_come_after_consumers_and_by_name() {
    let of = |value: &str| json!({"add": {"headers": [format!("X-For:{value}")]}});
    let entities = json!({
        "consumer_groups": [
            {"name": "silver", "plugins": [plugin("response-transformer", of("silver"))]},
            {"name": "gold", "plugins": [plugin("response-transformer", of("gold"))]},
        ],
        "consumers": [
            {"username": "ann", "groups": [{"name": "silver"}, {"name": "gold"}],
                "plugins": [plugin("response-transformer", of("ann"))]},
            {"username": "bob", "groups": [{"name": "silver"}, {"name": "gold"}]},
            {"username": "cyd", "groups": [{"name": "silver"}]},
            {"username": "dan"},
        ],
    });
    let anywhere = json!([plugin("response-transformer", of("everyone"))]);
    let known = Known::with(json!({"consumer_claim": ["sub"]}), &[], anywhere, entities);
    for (consumer, expected) in [("ann", "ann"), ("bob", "gold"), ("cyd", "silver"), ("dan", "everyone")] {
        assert_eq!(known.ask(consumer, json!({})).field("x-for"), Some(expected), "{consumer}");
    }
}

#[test]
fn a_body_that_cannot_be_read_whole_is_answered_as_a_failure() {
    let upstream = Upstream::with(|request| {
        let json = "Content-Type: application/json\r\n";
        match request.target() {
            "/large" => Reply::new("200 OK", json, &format!("{{\"a\": \"{}\"}}", "x".repeat(9000))),
            _ => Reply::raw(format!("HTTP/1.1 200 OK\r\n{json}Content-Length: 99\r\n\r\n{{\"a\"")).reset(),
        }
    });
    let plugins = json!([plugin("response-transformer", json!({"remove": {"json": ["a"]}}))]);
    let edge = Setup::new(behind(&upstream, plugins).to_string()).section("[limits]\nbuffer_bytes = 4096\n").start();
    for (target, reason) in [("/large", "response_too_large"), ("/cut", "upstream_reset")] {
        let answer = edge.ask(get(target, &[]));
        assert_eq!(answer.status(), 502, "{target}");
        let line = edge.access(|line| line["path"] == target);
        assert_eq!((line["status"].as_u64(), line["reason"].as_str()), (Some(502), Some(reason)));
    }
}
