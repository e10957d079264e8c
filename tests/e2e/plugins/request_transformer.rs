use edge_tests::edge::Setup;
use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::json;

use super::{Known, behind, plugin, with_plugins};

#[test]
fn what_goes_upstream_changes_and_the_rest_stays_exact() {
    let upstream = Upstream::start();
    let config = json!({
        "remove": {"headers": ["X-Gone"], "querystring": ["gone"], "body": ["gone"]},
        "rename": {"headers": ["X-Old:X-New"], "body": ["old:new"]},
        "replace": {"headers": ["User-Agent:edge"], "querystring": ["v:2"]},
        "add": {"headers": ["X-User:$(query_params.user or 'nobody')"], "body": ["added:$(headers.x_old)"]},
        "append": {"querystring": ["tag:b c"]},
    });
    let edge = with_plugins(&upstream, json!([plugin("request-transformer", config)]));
    let body = r#"{"gone": 1, "big": 12345678901234567890.10, "old": [1.50]}"#;
    let fields = ["X-Gone: 1", "x-old: a", "User-Agent: curl", "Content-Type: application/json"];
    let head = String::from_utf8(get("/p/q?gone=1&v=%31&tag=a&user=ann%20b", &fields)).unwrap().replace("GET", "POST");
    let head = head.trim_end_matches("\r\n").to_owned();
    let length = body.len();
    let chunked = format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
    for request in [format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}"), chunked] {
        assert_eq!(edge.ask(request).status(), 200);
        let seen = upstream.last();
        assert_eq!(seen.target(), "/p/q?v=2&tag=a&user=ann%20b&tag=b%20c");
        let new = r#"{"big":12345678901234567890.10,"new":[1.50],"added":"a"}"#;
        assert_eq!(seen.text(), new);
        assert_eq!(seen.field("content-length"), Some(new.len().to_string().as_str()));
        assert_eq!(seen.field("transfer-encoding"), None);
        assert_eq!((seen.field("x-gone"), seen.field("x-old"), seen.field("x-new")), (None, None, Some("a")));
        assert_eq!((seen.field("user-agent"), seen.field("x-user")), (Some("edge"), Some("ann b")));
    }
    // Without a body there is nothing to remove or rename, and something to add.
    assert_eq!(edge.ask(get("/?user=eve", &["Content-Type: application/json", "X-Old: z"])).status(), 200);
    assert_eq!(upstream.last().text(), r#"{"added":"z"}"#);
    assert_eq!(upstream.faults(), Vec::<String>::new());
}

#[test]
fn path_method_and_host_change() {
    let upstream = Upstream::start();
    let config = json!({"http_method": "PUT", "replace": {
        "uri": "/v2/$(uri_captures.id)/$(uri_captures[2] or 'none')",
        "headers": ["Host:up.example:8443"],
    }});
    let route = json!({"name": "r", "paths": ["~/users/(?<id>[^/]+)(?:/(\\w+))?$"], "plugins": [plugin("request-transformer", config)]});
    let entities = json!({"_format_version": "3.0",
        "services": [{"name": "up", "url": format!("{}/base", upstream.url()), "routes": [route]}]});
    let edge = Setup::new(entities.to_string()).start();
    let mut client = edge.connect();
    for (target, expected) in [
        ("/users/7/orders?x=1", "/v2/7/orders?x=1"),
        ("/users/a%20b", "/v2/a%20b/none"),
        ("/users/a%3Fb/c", "/v2/a%3Fb/c"),
    ] {
        assert_eq!(client.ask(get(target, &[])).status(), 200);
        let seen = upstream.last();
        assert_eq!((seen.method(), seen.target(), seen.field("host")), ("PUT", expected, Some("up.example:8443")));
    }
    // The log has what the client asked for.
    let line = edge.access(|line| line["path"] == "/users/a%20b" || line["target"] == "/users/a%20b");
    assert_eq!(line["method"], "GET", "{line}");
    // HEAD stays HEAD, or its answer would have a body that nobody reads.
    client.send("HEAD /users/9 HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status(), 200);
    assert_eq!((upstream.last().method(), upstream.last().target()), ("HEAD", "/v2/9/none"));
    assert_eq!(client.ask(get("/users/10", &[])).status(), 200);
}

/// H6, P4: no value that a client chooses ends a field or climbs out of a path.
#[test]
fn values_of_clients_stay_values() {
    let upstream = Upstream::start();
    let config = json!({"replace": {"uri": "/safe/$(query_params.p or 'x')/end"}, "add": {"headers": ["X-V:$(query_params.v)"]}});
    let edge = with_plugins(&upstream, json!([plugin("request-transformer", config)]));
    for (target, status) in [
        ("/?v=a%0d%0aX-Evil:%201", 400),
        ("/?v=a%00", 400),
        ("/?p=..", 400),
        ("/?p=%2e%2e/%2e%2e/admin", 400),
        ("/?p=%252e%252e", 400),
        ("/?p=a%3fb%23c%0d%0a", 200),
        ("/?v=fine", 200),
    ] {
        assert_eq!(edge.ask(get(target, &[])).status(), status, "{target}");
    }
    let seen: Vec<String> = upstream.requests().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(seen, ["/safe/a%3Fb%23c%0D%0A/end?p=a%3fb%23c%0d%0a", "/safe/x/end?v=fine"]);
    assert!(upstream.requests().iter().all(|seen| seen.field("x-evil").is_none()));
}

#[test]
fn a_body_that_cannot_be_held_is_refused() {
    let upstream = Upstream::start();
    let entities = behind(&upstream, json!([plugin("request-transformer", json!({"remove": {"body": ["secret"]}}))]));
    let edge = Setup::new(entities.to_string()).section("[limits]\nbuffer_bytes = 4096").start();
    let request = |kind: &str| {
        let body = format!("secret=1&{}", "x".repeat(8000));
        format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    assert_eq!(edge.ask(request("application/x-www-form-urlencoded")).status(), 413);
    // What is not looked at streams, whatever its size.
    assert_eq!(edge.ask(request("text/plain")).status(), 200);
    assert_eq!(upstream.requests().len(), 1);
}

/// X3: `add` finds the client's token and changes nothing, `replace` goes before what openid-connect wrote. X5: the
/// instance of the consumer that a token stands for takes the route's place.
#[test]
fn it_runs_behind_openid_connect() {
    let of = |operation: &str, value: &str| json!({operation: {"headers": [format!("Authorization:Bearer {value}")]}});
    let on_route = [plugin("request-transformer", of("add", "added"))];
    let scoped = json!([{"name": "request-transformer", "consumer": "ann",
        "config": of("replace", "$(consumer.username)-$(headers.x_consumer_username)")}]);
    let known = Known::start(json!({"consumer_claim": ["sub"]}), &on_route, scoped);
    assert_eq!(known.ask("bob", json!({})).status(), 200);
    let passed = known.upstream.last();
    assert!(passed.field("authorization").unwrap().starts_with("Bearer ey"), "{passed:?}");
    assert_eq!(known.ask("ann", json!({})).status(), 200);
    assert_eq!(known.upstream.last().all("authorization"), ["Bearer ann-ann"]);
}
