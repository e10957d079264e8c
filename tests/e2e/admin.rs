//! The Admin API of this release: node, status, metrics.

use edge_tests::edge::Setup;
use edge_tests::issuer::Fault;
use edge_tests::mint::{Key, with};
use edge_tests::wire::{Client, get};
use serde_json::{Value, json};

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
fn key_sets_are_none_before_one_is_used_and_pages_change_nothing() {
    // A3, S2.6
    let good = Guarded::start();
    let answer = good.edge.admin_get("/jwt-signer/jwks");
    assert_eq!((answer.status(), answer.json()), (200, json!({"data": [], "next": null})));
    let write = |line: &str, fields: &str| {
        let mut client = Client::connect(good.edge.admin());
        client.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n"));
        client.response().status()
    };
    assert_eq!(good.edge.admin_get("/jwt-signer/jwks/kong").status(), 404);
    for line in ["POST /jwt-signer/jwks/kong/rotate", "DELETE /jwt-signer/jwks/kong", "DELETE /openid-connect/issuers"]
    {
        assert_eq!(write(line, "Origin: https://evil.test\r\n"), 403, "{line}");
        assert_eq!(write(line, ""), if line.ends_with("issuers") { 204 } else { 404 }, "{line}");
    }
    assert!(good.edge.admin_get("/metrics").text().contains("\nedge_key_sets{origin=\"generated\"} 0\n"));
}

#[test]
fn metrics_count_by_reason_and_never_by_a_clients_word() {
    // L4, L5
    let good = Guarded::start();
    let token = good.token();
    assert_eq!(good.edge.ask(with_token(&token)).status(), 200);
    assert_eq!(good.edge.ask(with_token(&edge_tests::mint::flip(&token))).status(), 401);
    assert_eq!(good.edge.ask(get("/secret-path-of-a-client", &["User-Agent: odd-agent"])).status(), 401);
    let strange = with(good.claims(), json!({"azp": "odd-party", "client_id": "odd-client", "aud": "odd-audience"}));
    for token in [Key::es256("odd-kid").token(&strange), good.key.token(&strange)] {
        assert_ne!(good.edge.ask(with_token(&token)).status(), 200);
    }
    let odd = good.edge.ask("ODDMETHOD / HTTP/1.1\r\nHost: odd-host.example\r\nConnection: close\r\n\r\n");
    assert_eq!(odd.status(), 401);
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
    for word in ["odd-", "ODDMETHOD", "secret-path", "es-1", "alice", token.as_str()] {
        assert!(!text.contains(word), "{word} is a label");
    }
}

#[test]
fn the_edge_is_not_ready_without_keys() {
    // K7
    let ready = |good: &Guarded| good.edge.admin_get("/status/ready");
    let cold = Guarded::with(json!({}), |setup| setup.section("[timeouts]\nkey_wait = 300"));
    assert_eq!(cold.edge.ask(with_token(&cold.token())).status(), 200);
    assert_eq!((ready(&cold).status(), ready(&cold).text().as_str()), (200, "{\"message\":\"ready\"}"));
    let silent = Guarded::with(json!({"issuer": "http://127.0.0.1:1"}), |setup| setup);
    let answer = ready(&silent);
    assert_eq!(answer.status(), 503);
    assert!(answer.text().contains("no issuer has given its keys"), "{}", answer.text());
    // Who verifies nothing by keys waits for none.
    let config = json!({"issuer": "http://127.0.0.1:1", "auth_methods": ["introspection"], "client_id": ["app"],
        "client_secret": ["secret"], "introspection_endpoint": format!("{}/introspect", cold.issuer.url())});
    let asking = Setup::new(crate::guarded(&cold.upstream.url(), config)).start();
    assert_eq!(asking.admin_get("/status/ready").status(), 200);
    let open = Setup::new(crate::open("http://127.0.0.1:1")).start();
    assert_eq!(open.admin_get("/status/ready").status(), 200, "nothing to verify");
}

#[test]
fn issuers_are_listed_and_asked_anew() {
    let good = Guarded::start();
    assert_eq!(good.edge.ask(with_token(&good.token())).status(), 200);
    let listed = good.edge.admin_get("/openid-connect/issuers").json();
    assert_eq!((listed["data"].as_array().map(Vec::len), &listed["next"]), (Some(1), &Value::Null), "{listed}");
    let one = &listed["data"][0];
    let url = good.issuer.url();
    assert_eq!((&one["issuer"], &one["configuration"]["issuer"]), (&json!(url), &json!(url)));
    assert!(one["configuration"]["jwks_uri"].is_string() && one["created_at"].is_i64(), "{one}");
    assert_eq!((one["keys"].as_array().map(Vec::len), &one["keys"][0]["kid"]), (Some(1), &json!("es-1")));
    assert!(one["keys"][0].get("d").is_none(), "{one}");
    let id = one["id"].as_str().expect("an id");
    for name in [id, &url, &format!("{url}/"), &url.replace('/', "%2F")] {
        assert_eq!(good.edge.admin_get(&format!("/openid-connect/issuers/{name}")).json(), *one, "{name}");
    }
    let delete = |path: &str| {
        let mut client = Client::connect(good.edge.admin());
        client.send(format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        client.response().status()
    };
    // Keys that the issuer no longer has are refused at once, and not after the next refresh.
    let next = Key::es256("es-2");
    good.issuer.rotate(&[&next]);
    assert_eq!(good.edge.ask(with_token(&good.token())).status(), 200);
    assert_eq!(delete(&format!("/openid-connect/issuers/{id}")), 204);
    let end = std::time::Instant::now() + edge_tests::edge::READY;
    while good.edge.ask(with_token(&good.token())).status() != 401 {
        assert!(std::time::Instant::now() < end, "the old key is still in force");
    }
    assert_eq!(good.edge.ask(with_token(&next.token(&good.claims()))).status(), 200);
    // An issuer that is down keeps its last good keys.
    good.issuer.fail(Fault::Status(500));
    assert_eq!(delete("/openid-connect/issuers"), 204);
    good.edge.logged("could not get jwks");
    assert_eq!(good.edge.ask(with_token(&next.token(&good.claims()))).status(), 200);
    for path in ["/openid-connect/issuers/https://stranger.example", "/openid-connect/issuers/x"] {
        assert_eq!((good.edge.admin_get(path).status(), delete(path)), (404, 404), "{path}");
    }
}
