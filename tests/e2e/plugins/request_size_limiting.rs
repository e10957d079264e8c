use edge_tests::edge::Edge;
use edge_tests::upstream::Upstream;
use serde_json::{Value, json};

use super::{plugin, with_plugins};

fn limited(upstream: &Upstream, more: Value) -> Edge {
    let config = crate::plus(json!({"allowed_payload_size": 4, "size_unit": "bytes"}), more);
    with_plugins(upstream, json!([plugin("request-size-limiting", config)]))
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: test\r\n{fields}\r\n{body}")
}

#[test]
fn bodies_over_the_size_are_refused_however_they_are_framed() {
    let upstream = Upstream::start();
    let edge = limited(&upstream, json!({}));
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (request, status) in [
        (post("Content-Length: 4\r\n", "abcd"), 200),
        (post("Content-Length: 5\r\n", "abcde"), 413),
        (post("Content-Length: 5\r\nExpect: 100-continue\r\n", ""), 417),
        (post(chunked, "4\r\nabcd\r\n0\r\n\r\n"), 200),
        (post(chunked, "4\r\nabcd\r\n1\r\ne\r\n0\r\n\r\n"), 413),
    ] {
        let answer = edge.ask(&request);
        assert_eq!(answer.status(), status, "{request}");
        if status != 200 {
            assert_eq!(answer.json()["message"], "Request size limit exceeded");
            assert_eq!(edge.reason_of(&answer), "payload_too_large");
        }
    }
    assert_eq!(upstream.requests().len(), 2, "no body over the size has arrived whole");
}

#[test]
fn a_length_is_required_where_the_settings_say_so() {
    let upstream = Upstream::start();
    let edge = limited(&upstream, json!({"require_content_length": true}));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(), 411),
        (post("Content-Length: 0\r\n", ""), 200),
        (post("Transfer-Encoding: chunked\r\n", "1\r\na\r\n0\r\n\r\n"), 200),
    ] {
        let answer = edge.ask(&request);
        assert_eq!(answer.status(), status, "{request}");
        if status == 411 {
            assert_eq!(answer.json()["message"], "A valid Content-Length header is required");
            assert_eq!(edge.reason_of(&answer), "length_required");
        }
    }
}
