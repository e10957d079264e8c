//! Issuers that say no, or nothing, or give out what is no good.

use std::time::{Duration, Instant};

use edge_tests::edge::Setup;
use edge_tests::issuer::{Fault, error, good};
use edge_tests::mint::{self, flip, with};
use edge_tests::wire::get;
use serde_json::json;

use super::{AUDIENCE, CALLER, Flow, basic, client};
use crate::introspection::wait;
use crate::plus;

#[test]
fn a_refusal_is_401_with_the_issuers_words_for_the_operator() {
    // S1.6, L1, L4
    let flow = Flow::start(json!(["client_credentials", "password"]), json!({"password_param_type": ["body"]}));
    let words = format!("no such client, or not by {}", CALLER.1);
    for (code, description) in
        [("invalid_client", "no such client"), ("invalid_grant", "old"), ("invalid_scope", words.as_str())]
    {
        let said = (code.to_owned(), description.to_owned());
        flow.issuer.answer("/token", move |_| error(&said.0, &said.1));
        let calls = flow.calls();
        let answer = flow.ask(&[&basic(CALLER.0, CALLER.1)]);
        assert_eq!((answer.status(), flow.edge.reason_of(&answer).as_str()), (401, "grant_refused"), "{code}");
        assert!(answer.field("retry-after").is_none() && answer.field("www-authenticate").is_some());
        assert!(!answer.text().contains(description), "clients are told nothing of it");
        let line = flow.edge.logged_after(0, &format!("error=\"{code}\""));
        assert!(line.contains("400") && line.contains("error_description="), "{line}");
        assert!(line.contains(description) || description.contains(CALLER.1), "{line}");
        assert_eq!(flow.status(), 401);
        assert_eq!(flow.calls(), calls + 2, "{code}: nothing of it is kept");
    }
    assert!(flow.upstream.requests().is_empty());
    flow.issue(json!({}));
    assert_eq!(flow.status(), 200);
    flow.assert_silent(&[]);

    let kept = Flow::start(json!(["client_credentials"]), json!({"cache_ttl_neg": 60}));
    kept.issuer.answer("/token", |_| error("invalid_client", "no"));
    assert_eq!((kept.status(), kept.status(), kept.calls()), (401, 401, 1));
}

#[test]
fn a_fault_is_503_and_passes_over() {
    // U4, I13
    let config = json!({"timeout": 500, "password_param_type": ["body"]});
    for fault in [
        Fault::Status(500),
        Fault::Status(503),
        Fault::TooMany(3),
        Fault::Html,
        Fault::Truncated,
        Fault::Slow(Duration::from_secs(3)),
        Fault::Close,
    ] {
        let flow = Flow::start(json!(["client_credentials"]), config.clone());
        flow.issuer.fail_at("/token", fault.clone());
        let began = Instant::now();
        let answer = flow.ask(&[&basic(CALLER.0, CALLER.1)]);
        assert!(began.elapsed() < Duration::from_secs(3), "{fault:?} took {:?}", began.elapsed());
        assert_eq!((answer.status(), flow.edge.reason_of(&answer).as_str()), (503, "grant_failed"), "{fault:?}");
        let seconds: u32 = answer.field("retry-after").expect("Retry-After").parse().unwrap();
        assert!(seconds > 0 && answer.field("www-authenticate").is_none(), "{fault:?}");
        assert!(flow.upstream.requests().is_empty(), "{fault:?}");
        flow.issuer.recover();
        wait(|| flow.status() == 200, &format!("recovery from {fault:?}"));
        flow.assert_silent(&[]);
    }
}

#[test]
fn a_limit_on_one_caller_stops_no_other() {
    // An issuer that is tired of one account's wrong passwords says so of that account alone.
    let flow = Flow::start(json!(["client_credentials"]), json!({}));
    flow.issuer.fail_at("/token", Fault::TooMany(60));
    let answer = flow.ask(&[&basic("mallory", CALLER.1)]);
    assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("60")));
    flow.issuer.recover();
    assert_eq!(flow.status(), 200);
}

#[test]
fn whose_credentials_are_refused_decides() {
    // The caller's own are its fault, those of the edge its operator's.
    let flow = Flow::start(json!(["client_credentials", "password"]), json!({"password_param_type": ["body"]}));
    flow.issuer.fail_at("/token", Fault::InvalidClient);
    assert_eq!(flow.status(), 401);
    let answer = flow.edge.ask(super::post("/orders", "username=alice&password=alice-password-1"));
    assert_eq!((answer.status(), flow.edge.reason_of(&answer).as_str()), (503, "grant_failed"));
    assert!(answer.field("retry-after").is_some());
    flow.assert_silent(&["alice-password-1"]);
}

#[test]
fn an_issuers_bad_token_is_refused_unless_that_is_switched_off() {
    // T13, U4
    let make = |config| {
        let flow = Flow::start(json!(["client_credentials"]), config);
        let claims = mint::claims(&flow.issuer.url(), AUDIENCE);
        (flow, claims)
    };
    let (flow, claims) = make(json!({}));
    for (number, token) in [
        flip(&flow.key.token(&claims)),
        flow.key.token(&with(claims.clone(), json!({"iss": "https://evil.example"}))),
        flow.key.token(&with(claims.clone(), json!({"exp": 1}))),
    ]
    .iter()
    .enumerate()
    {
        flow.give(token);
        let id = format!("app-{number}");
        assert_eq!(flow.ask(&[&basic(&id, CALLER.1)]).status(), 401, "{number}");
    }
    assert!(flow.upstream.requests().is_empty());
    flow.issue(json!({}));
    assert_eq!(flow.status(), 200);
    flow.assert_silent(&[]);

    let (flow, claims) = make(json!({"ignore_signature": ["client_credentials"]}));
    flow.edge.logged("ignore_signature");
    flow.give(&flip(&flow.key.token(&claims)));
    assert_eq!(flow.ask(&[&basic("one", CALLER.1)]).status(), 200);
    // Its claims count all the same.
    flow.give(&flip(&flow.key.token(&with(claims.clone(), json!({"exp": 1})))));
    assert_eq!(flow.ask(&[&basic("two", CALLER.1)]).status(), 401);
    let (flow, claims) = make(json!({"ignore_signature": ["password"]}));
    flow.give(&flip(&flow.key.token(&claims)));
    assert_eq!(flow.status(), 401);
}

#[test]
fn opaque_tokens_are_asked_about_where_somebody_can_be() {
    const TOKEN: &str = "opaque-token-0123456789";
    let config = json!({"scopes": ["orders:read"], "scopes_required": ["orders:read"]});
    let flow = Flow::start(json!(["client_credentials"]), config);
    flow.give(TOKEN);
    assert_eq!(flow.status(), 200, "an issuer that does not say gives what was asked for (RFC 6749, 5.1)");
    let flow = Flow::start(json!(["client_credentials"]), json!({"scopes_required": ["orders:read"]}));
    flow.give(TOKEN);
    assert_eq!(flow.status(), 403, "nobody says that it has the scope");
    flow.issuer.answer("/token", |_| {
        good(&json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 300, "scope": "orders:read"}))
    });
    assert_eq!(flow.ask(&[&basic("other", CALLER.1)]).status(), 200);
    assert_eq!(flow.upstream.last().field("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    assert_eq!(flow.issuer.hits("/introspect"), 0);

    for config in [json!({}), json!({"ignore_signature": ["client_credentials"]})] {
        let flow = Flow::start(json!(["client_credentials", "introspection"]), config);
        flow.give(TOKEN);
        assert_eq!((flow.status(), flow.issuer.introspections(TOKEN)), (401, 1));
        let active = json!({"active": true, "sub": "app", "scope": "orders:read"});
        flow.give("another-opaque-token-1");
        flow.issuer.know("another-opaque-token-1", active);
        assert_eq!(flow.ask(&[&basic("other", CALLER.1)]).status(), 200);
        flow.assert_silent(&[]);
    }
}

#[test]
fn nobody_is_anonymous_with_credentials() {
    // What was refused goes nowhere, wherever it stood.
    let flow = Flow::start(json!(["bearer"]), json!({}));
    flow.issuer.answer("/token", |_| error("invalid_grant", "no"));
    let config = json!({
        "anonymous": "nobody", "client_credentials_param_type": ["header", "query", "body"],
        "refresh_token_param_name": "Refresh", "id_token_param_name": "X-Id-Token",
    });
    let methods = json!(["bearer", "refresh_token", "client_credentials"]);
    let config = plus(client(&flow.issuer.url(), methods), config);
    let route = json!({"name": "all", "paths": ["/"], "strip_path": false, "plugins": [{"name": "openid-connect", "config": config}]});
    let entities = json!({"_format_version": "3.0", "consumers": [{"username": "nobody"}],
        "services": [{"name": "up", "url": flow.upstream.url(), "routes": [route]}]});
    let edge = Setup::new(entities.to_string()).start();
    let arguments = format!("client_id={}&client_secret={}", CALLER.0, CALLER.1);
    for (request, target) in [
        (get("/orders", &[&basic(CALLER.0, CALLER.1)]), "/orders"),
        (get(&format!("/orders?{arguments}&keep=1"), &[]), "/orders?keep=1"),
        (super::post("/orders", &arguments), "/orders"),
        (get("/orders", &["Refresh: refused-refresh-token", "X-Id-Token: refused"]), "/orders"),
        (get("/orders?access_token=refused.to.ken", &[]), "/orders"),
    ] {
        assert_eq!(edge.ask(request).status(), 200, "{}", edge.output());
        let seen = flow.upstream.last();
        assert_eq!((seen.target(), seen.field("x-anonymous-consumer")), (target, Some("true")));
        let raw = String::from_utf8_lossy(&seen.raw).into_owned();
        assert!(!raw.contains("refused") && !raw.contains(CALLER.1) && !raw.contains("Basic"), "{raw}");
    }
    flow.issuer.fail_at("/token", Fault::Status(500));
    assert_eq!(
        edge.ask(get("/orders", &[&basic(CALLER.0, CALLER.1)])).status(),
        503,
        "an outage makes nobody anonymous"
    );
}
