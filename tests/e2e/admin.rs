//! The Admin API of this release: node, status, metrics.

use edge_tests::wire::{Client, get};

use super::{Guarded, with_token};

#[test]
fn the_node_describes_itself() {
    let good = Guarded::start();
    let answer = good.edge.admin_get("/");
    assert_eq!((answer.status(), answer.json()["version"].is_string()), (200, true), "{}", answer.text());
    let answer = good.edge.admin_get("/status");
    assert_eq!(answer.status(), 200);
    assert!(answer.json().is_object());
    let answer = good.edge.admin_get("/nothing");
    assert_eq!((answer.status(), answer.json()["message"].as_str()), (404, Some("Not found")));
    let mut client = Client::connect(good.edge.admin());
    client.send("DELETE /status HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.response().status(), 405);
}

#[test]
fn pages_of_a_browser_cannot_drive_it() {
    // A3
    let good = Guarded::start();
    let mut client = Client::connect(good.edge.admin());
    client.send("GET /status HTTP/1.1\r\nHost: rebound.evil.test\r\nOrigin: http://rebound.evil.test\r\n\r\n");
    let answer = client.response();
    assert!(matches!(answer.status(), 400 | 403 | 421), "{}", answer.start);
    assert_eq!(answer.field("access-control-allow-origin"), None);
}

#[test]
fn metrics_count_by_reason_and_never_by_a_clients_word() {
    // L4, L5
    let good = Guarded::start();
    let token = good.token();
    assert_eq!(good.edge.ask(with_token(&token)).status(), 200);
    assert_eq!(good.edge.ask(with_token(&edge_tests::mint::flip(&token))).status(), 401);
    assert_eq!(good.edge.ask(get("/secret-path-of-a-client", &["User-Agent: odd-agent"])).status(), 401);
    let end = std::time::Instant::now() + edge_tests::edge::READY;
    let text = loop {
        let answer = good.edge.admin_get("/metrics");
        assert_eq!(answer.status(), 200);
        let text = answer.text();
        if text.contains("signature_invalid") && text.contains("header_missing") {
            break text;
        }
        assert!(std::time::Instant::now() < end, "no reasons in {text}");
    };
    assert!(text.lines().any(|line| line.starts_with("# TYPE ")), "{text}");
    for word in ["odd-agent", "secret-path", "es-1", "alice", token.as_str()] {
        assert!(!text.contains(word), "{word} is a label");
    }
}
