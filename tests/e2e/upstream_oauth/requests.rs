//! What the issuer is asked, and what of its answer counts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_tests::edge::Setup;
use edge_tests::issuer::{Issuer, argument, form};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::get;
use serde_json::json;

use super::{Own, Tokens, config, issue, route};
use crate::entities;

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn defaults_are_those_of_the_reference() {
    let own = Own::start();
    let answer = own.ask();
    assert_eq!(answer.status(), 200, "{}", own.edge.output());
    assert_eq!(own.sent(), own.tokens.all()[0]);
    let request = own.issuer.last("/token");
    assert_eq!((request.method(), request.target()), ("POST", "/token"));
    assert_eq!(request.field("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.field("authorization"), None);
    let expected = [
        ("grant_type", "client_credentials"),
        ("client_id", "edge"),
        ("client_secret", super::SECRET),
        ("scope", "openid"),
    ];
    assert_eq!(form(&request), pairs(&expected));
    assert_eq!((own.ask().status(), own.calls()), (200, 1));
    // What the issuer took is not the edge's own time.
    let line = own.edge.access(|line| line["issuer_ms"].is_number());
    assert_eq!(line["status"], 200);
    own.assert_silent(&[]);
}

#[test]
fn everything_that_is_configured_is_asked() {
    let oauth = json!({"grant_type": "password", "username": "robot", "password": "robot-password-0123",
        "scopes": ["orders.read", "orders.write"], "audience": ["https://a.test", "https://b.test"],
        "token_headers": {"X-Tenant": "tenant-7", "x-api-key": "key-of-the-tests"},
        "token_post_args": {"resource": "https://r.test/?a=b&c", "custom": "ü"}});
    let own = Own::with(oauth, json!({"client": {"auth_method": "client_secret_basic"}}));
    assert_eq!(own.ask().status(), 200, "{}", own.edge.output());
    let request = own.issuer.last("/token");
    let expected = [
        ("grant_type", "password"),
        ("username", "robot"),
        ("password", "robot-password-0123"),
        ("custom", "ü"),
        ("resource", "https://r.test/?a=b&c"),
        ("scope", "orders.read orders.write"),
        ("audience", "https://a.test https://b.test"),
    ];
    assert_eq!(form(&request), pairs(&expected));
    let basic = format!("Basic {}", STANDARD.encode(format!("edge:{}", super::SECRET)));
    assert_eq!(request.field("authorization"), Some(basic.as_str()));
    assert_eq!((request.field("x-tenant"), request.field("x-api-key")), (Some("tenant-7"), Some("key-of-the-tests")));
    own.assert_silent(&["robot-password-0123", "key-of-the-tests", &basic]);
}

#[test]
fn nothing_of_the_caller_reaches_the_issuer() {
    // U6: neither host, path, query nor header decides whom the edge asks, or what for.
    let own = Own::start();
    let request = "GET http://evil.example/orders?token_endpoint=http://evil.example&scope=admin HTTP/1.1\r\n\
         Host: evil.example\r\nX-Forwarded-Host: evil.example\r\nAuthorization: Bearer of-the-caller\r\n\r\n";
    assert_eq!(own.edge.ask(request).status(), 200, "{}", own.edge.output());
    let asked = own.issuer.last("/token");
    assert!(
        !String::from_utf8_lossy(&asked.raw).contains("evil") && argument(&asked, "scope").as_deref() == Some("openid")
    );
    assert!(!String::from_utf8_lossy(&asked.raw).contains("of-the-caller"));
}

#[test]
fn a_forward_proxy_is_asked_in_place_of_the_issuer() {
    let (upstream, tokens) = (Upstream::start(), Tokens::default());
    // A proxy is asked with whole URLs; this one answers itself.
    let given = tokens.clone();
    let proxy = Upstream::with(move |_| {
        let body = json!({"access_token": given.issue(), "token_type": "Bearer", "expires_in": 60}).to_string();
        Reply::new("200 OK", "Content-Type: application/json\r\n", &body)
    });
    let direct = Issuer::start(&[]);
    issue(&direct, "/token", &tokens, json!({}));
    let client =
        json!({"client": {"http_proxy": proxy.url(), "http_proxy_authorization": "Basic cHJveHk6c2VjcmV0LTAx"}});
    let bypassing = json!({"client": {"http_proxy": proxy.url(), "no_proxy": "127.0.0.1"}});
    let routes = json!([
        route("proxied", config("http://idp.invalid", json!({}), client)),
        route("direct", config(&direct.url(), json!({}), bypassing)),
    ]);
    let edge =
        Setup::new(entities(&upstream.url(), routes)).section("[issuers]\nallow_http = [\"idp.invalid\"]").start();
    assert_eq!(edge.ask(get("/proxied", &[])).status(), 200, "{}", edge.output());
    let asked = proxy.last();
    assert_eq!(asked.target(), "http://idp.invalid/token");
    assert_eq!(asked.field("proxy-authorization"), Some("Basic cHJveHk6c2VjcmV0LTAx"));
    assert_eq!((edge.ask(get("/direct", &[])).status(), direct.hits("/token")), (200, 1));
    assert_eq!(proxy.requests().len(), 1);
    assert!(!edge.output().contains("cHJveHk6c2VjcmV0LTAx"), "L1");
}

#[test]
fn connections_and_versions_are_as_configured() {
    let own = Own::with(
        json!({}),
        json!({"client": {"keep_alive": false, "http_version": 1.0}, "cache": {"default_ttl": 0}}),
    );
    own.issue(json!({}));
    for _ in 0..2 {
        assert_eq!(own.ask().status(), 200, "{}", own.edge.output());
    }
    let request = own.issuer.last("/token");
    assert!(request.start.ends_with("HTTP/1.0"), "{}", request.start);
    assert_eq!((own.calls(), own.issuer.connections()), (2, 2));
}

#[test]
fn secrets_may_be_references() {
    // U1
    let reference =
        json!({"client_secret": "{vault://env/upstream-secret}", "token_headers": {"X-Key": "{vault://file/key}"}});
    let own = Own::set_up(reference, json!({}), |setup| {
        setup.env("UPSTREAM_SECRET", "secret-of-the-environment").file("key", "key-of-a-file\n")
    });
    assert_eq!(own.ask().status(), 200, "{}", own.edge.output());
    let request = own.issuer.last("/token");
    assert_eq!(argument(&request, "client_secret").as_deref(), Some("secret-of-the-environment"));
    assert_eq!(request.field("x-key"), Some("key-of-a-file"));
    own.assert_silent(&["secret-of-the-environment", "key-of-a-file"]);
}
