//! How long fetched tokens are kept, and for whom.

use std::time::{Duration, Instant};

use edge_tests::edge::Setup;
use edge_tests::issuer::{Fault, Issuer, good};
use edge_tests::mint::{self, with};
use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::{Value, json};

use super::{AUDIENCE, CALLER, Flow, basic, client};
use crate::introspection::{together, wait};
use crate::{entities, plus};

#[test]
fn one_call_serves_all_who_wait_and_come_later() {
    // U2
    let flow = Flow::start(json!(["client_credentials"]), json!({}));
    flow.issuer.fail_at("/token", Fault::Slow(Duration::from_millis(300)));
    let statuses = together(32, |_| flow.status());
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!((flow.status(), flow.calls()), (200, 1));
    assert_eq!(flow.edge.metric("edge_kept_answers_total{store=\"tokens\",result=\"asked\"}"), 1.0);
}

#[test]
fn each_caller_gets_its_own() {
    // S1.7, R6
    let flow = Flow::start(json!(["client_credentials"]), json!({}));
    for _ in 0..2 {
        for (id, secret) in [("app", "one-long-secret"), ("app2", "one-long-secret"), ("app", "another-secret")] {
            assert_eq!(flow.ask(&[&basic(id, secret)]).status(), 200);
            assert_eq!(flow.upstream_subject(), id);
        }
    }
    assert_eq!(flow.calls(), 3);
}

#[test]
fn nothing_is_kept_where_that_is_switched_off() {
    let flow = Flow::start(json!(["client_credentials"]), json!({"cache_tokens": false}));
    for calls in 1..4 {
        assert_eq!((flow.status(), flow.calls()), (200, calls));
    }
}

#[test]
fn tokens_that_are_refused_are_asked_for_anew_after_some_seconds() {
    // An issuer that changed its keys is back before its old tokens end.
    let flow = Flow::start(json!(["client_credentials"]), json!({}));
    let claims = mint::claims(&flow.issuer.url(), AUDIENCE);
    flow.give(&mint::flip(&flow.key.token(&claims)));
    assert_eq!((flow.status(), flow.status(), flow.calls()), (401, 401, 1), "not by each request");
    flow.issue(json!({}));
    wait(|| flow.status() == 200, "a new token");
    assert_eq!(flow.calls(), 2);
}

#[test]
fn routes_keep_by_their_own_settings() {
    // A route gets nothing that is older than its settings allow, though another asked the same.
    let (upstream, key) = (Upstream::start(), mint::Key::es256("es-1"));
    let issuer = Issuer::start(&[&key]);
    let route = |(name, more): (&str, Value)| {
        let config = plus(client(&issuer.url(), json!(["client_credentials"])), more);
        json!({"name": name, "paths": [format!("/{name}")], "plugins": [{"name": "openid-connect", "config": config}]})
    };
    let routes: Value = [
        ("a", json!({})),
        ("same", json!({})),
        ("off", json!({"cache_tokens": false})),
        ("salted", json!({"cache_tokens_salt": "x"})),
        // A token of other scopes is another token, whatever is said of the key.
        ("read", json!({"scopes": ["read"], "token_cache_key_include_scope": false})),
        ("write", json!({"scopes": ["write"], "token_cache_key_include_scope": false})),
        ("write2", json!({"scopes": ["write"], "token_cache_key_include_scope": true})),
    ]
    .map(route)
    .into();
    let token = key.token(&mint::claims(&issuer.url(), AUDIENCE));
    issuer.answer("/token", move |_| good(&json!({"access_token": token, "token_type": "Bearer"})));
    let edge = Setup::new(entities(&upstream.url(), routes)).start();
    let all = [("a", 1), ("same", 1), ("off", 2), ("off", 3), ("salted", 4), ("a", 4)];
    for (name, calls) in all.into_iter().chain([("read", 5), ("write", 6), ("write2", 6), ("read", 6)]) {
        assert_eq!(edge.ask(get(&format!("/{name}"), &[&basic(CALLER.0, CALLER.1)])).status(), 200, "{name}");
        assert_eq!(issuer.hits("/token"), calls, "{name}");
    }
}

#[test]
fn tokens_are_kept_no_longer_than_they_live() {
    let token = |flow: &Flow, exp: i64| {
        flow.key.token(&with(mint::claims(&flow.issuer.url(), AUDIENCE), json!({"exp": mint::now() + exp})))
    };
    let give = |flow: &Flow, exp: i64, members: Value| {
        let token = token(flow, exp);
        flow.issuer.answer("/token", move |_| {
            good(&plus(json!({"access_token": token, "token_type": "Bearer"}), members.clone()))
        });
    };
    for (config, exp, members) in [
        (json!({}), 3600, json!({"expires_in": 1})),
        (json!({"cache_ttl_max": 1}), 3600, json!({"expires_in": 300})),
        // The issuer's clock, or its arithmetic, is another: the token's own end counts.
        (json!({}), 2, json!({"expires_in": 300})),
        (json!({}), 2, json!({})),
    ] {
        let flow = Flow::start(json!(["client_credentials"]), config.clone());
        give(&flow, exp, members.clone());
        assert_eq!((flow.status(), flow.calls()), (200, 1), "{config} {members}");
        give(&flow, 3600, members.clone());
        let began = Instant::now();
        wait(
            || {
                assert_eq!(flow.status(), 200, "{config} {members}: no request suffers by the end of a token");
                flow.calls() > 1
            },
            "the end of the token",
        );
        assert!(began.elapsed() < Duration::from_secs(4), "{config} {members}");
    }
    // What does not say when it ends is kept for `cache_ttl`; what is over at once, not at all (3.15.0.1).
    let flow = Flow::start(json!(["client_credentials"]), json!({"cache_ttl": 60}));
    flow.give("opaque-token-0123456789");
    assert_eq!((flow.status(), flow.status(), flow.calls()), (200, 200, 1));
    let flow = Flow::start(json!(["client_credentials"]), json!({}));
    give(&flow, 3600, json!({"expires_in": 0}));
    assert_eq!((flow.status(), flow.status(), flow.calls()), (200, 200, 2));
}
