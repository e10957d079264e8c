use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::get;
use serde_json::json;

use super::{Known, plugin, with_plugins};

fn cors() -> serde_json::Value {
    plugin(
        "cors",
        json!({"origins": ["https://good.example", "https://b.example"], "max_age": 60, "credentials": true}),
    )
}

#[test]
fn a_preflight_is_answered_before_authentication() {
    let known = Known::start(json!({}), &[cors()], json!([]));
    for (origin, allowed) in [("https://good.example", true), ("https://evil.example", false)] {
        let answer = known.edge.ask(format!(
            "OPTIONS /orders HTTP/1.1\r\nHost: test\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n\
             Access-Control-Request-Headers: authorization\r\n\r\n"
        ));
        assert_eq!((answer.status(), answer.field("content-length"), answer.text().as_str()), (200, Some("0"), ""));
        assert_eq!(answer.field("access-control-allow-origin"), allowed.then_some(origin));
        assert_eq!(answer.field("access-control-allow-headers"), Some("authorization"));
        assert_eq!(answer.field("access-control-max-age"), Some("60"));
        assert_eq!(answer.field("access-control-allow-credentials"), Some("true"));
        assert_eq!(answer.field("vary"), Some("Origin"));
        assert_eq!(known.edge.reason_of(&answer), "cors_preflight");
    }
    assert!(known.upstream.requests().is_empty());
}

#[test]
fn a_401_still_bears_cors_fields_and_passes_the_transformer() {
    let transformer = plugin(
        "response-transformer",
        json!({
            "add": {"headers": ["X-Edge:1"], "json": ["help:ask us"]},
            "remove": {"headers": ["Access-Control-Allow-Credentials"]},
        }),
    );
    let known = Known::start(json!({}), &[cors(), transformer], json!([]));
    let answer = known.edge.ask(get("/orders", &["Origin: https://good.example"]));
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.text(), "{\"message\":\"Unauthorized\",\"help\":\"ask us\"}");
    assert_eq!(answer.field("access-control-allow-origin"), Some("https://good.example"));
    assert_eq!(answer.field("access-control-allow-credentials"), None);
    assert_eq!(answer.field("x-edge"), Some("1"));
    assert!(answer.field("www-authenticate").is_some());
}

#[test]
fn what_an_upstream_says_of_origins_is_replaced() {
    let fields = "Access-Control-Allow-Origin: https://evil.example\r\nVary: Accept\r\n";
    let upstream = Upstream::with(move |_| Reply::new("200 OK", fields, "ok"));
    let edge = with_plugins(&upstream, json!([cors()]));
    let answer = edge.ask(get("/", &["Origin: https://evil.example"]));
    assert_eq!(answer.field("access-control-allow-origin"), None);
    assert_eq!(answer.all("vary"), ["Accept", "Origin"]);
    let answer = edge.ask(get("/", &["Origin: https://b.example"]));
    assert_eq!(answer.field("access-control-allow-origin"), Some("https://b.example"));
}
