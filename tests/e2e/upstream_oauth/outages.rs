//! An issuer that gives no token: the documented answer, a line with its words, and nothing that passes without one.

use std::time::{Duration, Instant};

use edge_tests::edge::{Setup, free_address};
use edge_tests::issuer::{Fault, Issuer, error, good};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::get;
use serde_json::{Value, json};

use super::{FAILURE, Own, Tokens, config, issue, route};
use crate::entities;
use crate::introspection::wait;

#[test]
fn every_fault_is_the_documented_answer_and_passes_over() {
    // U3, U4, I13
    let elsewhere = Issuer::start(&[]);
    let faults = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(404),
        Fault::Status(400),
        Fault::Status(403),
        Fault::InvalidClient,
        Fault::TooMany(1),
        Fault::Html,
        Fault::ContentType("text/plain"),
        Fault::Truncated,
        Fault::Huge(100 << 20),
        Fault::Redirect(format!("{}/token", elsewhere.url())),
        Fault::Slow(Duration::from_secs(3)),
        Fault::Close,
    ];
    let (issuer, tokens, upstream) = (Issuer::start(&[]), Tokens::default(), Upstream::start());
    let row = |row: usize| {
        issue(&issuer, &format!("/i{row}/token"), &tokens, json!({"expires_in": 3600}));
        issuer.fail_at(&format!("/i{row}/token"), faults[row].clone());
        let client = json!({"client": {"timeout": 500}});
        route(&format!("r{row:02}"), config(&format!("{}/i{row}", issuer.url()), json!({}), client))
    };
    let routes: Value = (0..faults.len()).map(row).collect();
    let edge = Setup::new(entities(&upstream.url(), routes)).log("level = \"debug\"").start();
    let ask = |row: usize| edge.ask(get(&format!("/r{row:02}"), &["Authorization: Bearer of-the-caller"]));
    for (row, fault) in faults.iter().enumerate() {
        let began = Instant::now();
        let answer = ask(row);
        assert!(began.elapsed() < Duration::from_secs(2), "{fault:?} took {:?}", began.elapsed());
        assert_eq!((answer.status(), answer.text().as_str()), (502, FAILURE), "{fault:?}");
        assert_eq!(answer.field("content-type"), Some("application/json; charset=utf-8"), "{fault:?}");
        assert_eq!(edge.reason_of(&answer), "upstream_token_failed", "{fault:?}");
    }
    assert!(upstream.requests().is_empty(), "a fault let a request pass");
    assert_eq!(elsewhere.hits("/token"), 0, "a redirect was followed");
    issuer.recover();
    for (row, fault) in faults.iter().enumerate() {
        wait(|| ask(row).status() == 200, &format!("recovery from {fault:?}"));
    }
    let output = edge.output();
    assert!(!tokens.all().iter().any(|token| output.contains(token)) && !output.contains(super::SECRET), "L1");
}

#[test]
fn the_issuers_words_are_logged_and_nobody_elses_secret() {
    // S1.6, L1
    let own = Own::start();
    for (name, reply) in [
        ("invalid_scope", error("invalid_scope", "unknown scope openid")),
        (
            "invalid_request",
            Reply::new(
                "401 Unauthorized",
                "Content-Type: application/json\r\n",
                r#"{"error":"invalid_request","error_description":"Unsupported client authentication method"}"#,
            ),
        ),
    ] {
        let reply = std::sync::Mutex::new(Some(reply));
        let own = if name == "invalid_scope" { &own } else { &Own::start() };
        own.issuer.answer("/token", move |_| reply.lock().unwrap().take().unwrap_or_else(|| error("again", "again")));
        assert_eq!(own.ask().text(), FAILURE, "{name}");
        let line = own.edge.logged(name);
        let described =
            line.contains("unknown scope openid") || line.contains("Unsupported client authentication method");
        assert!(line.contains("ERROR") && line.contains("[upstream-oauth]") && described, "{line}");
    }
    // One that repeats what it was sent is not quoted.
    let echoing = Own::start();
    echoing.issuer.answer("/token", |request| error("invalid_scope", &format!("you sent {}", request.text())));
    assert_eq!(echoing.ask().status(), 502);
    let line = echoing.edge.logged("gives no token");
    assert!(line.contains("not shown"), "{line}");
    echoing.assert_silent(&[]);
}

#[test]
fn an_issuer_that_says_no_is_left_alone_for_a_moment() {
    // U2: nobody's requests become a storm of questions.
    let own = Own::start();
    own.issuer.answer("/token", |_| error("invalid_scope", "no"));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(400) {
        assert_eq!(own.ask().text(), FAILURE);
    }
    assert_eq!(own.calls(), 1);
    own.issue(json!({"expires_in": 60}));
    wait(|| own.ask().status() == 200, "the issuer to be asked again");
}

#[test]
fn the_answer_is_as_configured() {
    let behavior = json!({"behavior": {"idp_error_response_status_code": 503, "idp_error_response_message": "no \"token\"",
        "idp_error_response_content_type": "text/plain", "idp_error_response_body_template": "{{status}}: {{message}}"}});
    let own = Own::with(json!({}), behavior);
    own.issuer.fail_at("/token", Fault::Status(500));
    let answer = own.ask();
    assert_eq!((answer.status(), answer.text().as_str()), (503, "503: no \"token\""));
    assert_eq!(answer.field("content-type"), Some("text/plain"));
}

#[test]
fn waiting_is_bounded_by_the_node() {
    // D1: however long the issuer may take, a request waits as long as the node lets it.
    let own = Own::set_up(json!({}), json!({"client": {"timeout": 10000}}), |setup| {
        setup.section("[timeouts]\nkey_wait = 400")
    });
    own.issuer.fail_at("/token", Fault::Slow(Duration::from_millis(1500)));
    let began = Instant::now();
    assert_eq!(own.ask().text(), FAILURE);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // The call goes on, and its token is there when it comes.
    wait(|| own.ask().status() == 200, "the token");
    assert_eq!(own.calls(), 1);
}

#[test]
fn an_issuer_that_is_down_at_start_is_no_matter_once_it_is_up() {
    let (upstream, address) = (Upstream::start(), free_address());
    let routes = json!([route("orders", config(&format!("http://{address}"), json!({}), json!({})))]);
    let edge = Setup::new(entities(&upstream.url(), routes)).start();
    assert_eq!(edge.ask(get("/orders", &[])).text(), FAILURE);
    let issuer = Issuer::at(address, &[]);
    issuer.answer("/token", |_| good(&json!({"access_token": "t", "token_type": "Bearer", "expires_in": 60})));
    wait(|| edge.ask(get("/orders", &[])).status() == 200, "the issuer to be found");
}
