//! How long a token is kept, who shares it, and that one call serves all who wait.

use std::time::{Duration, Instant};

use edge_tests::edge::Setup;
use edge_tests::issuer::{Fault, Issuer, good};
use edge_tests::mint::{self, Key};
use edge_tests::wire::{Client, get};
use serde_json::{Value, json};

use super::{Own, Tokens, bearer, config, issue, route, strict};
use crate::entities;
use crate::introspection::{together, wait};

#[test]
fn a_thousand_cold_requests_are_one_call() {
    // U2
    let own = Own::start();
    issue(&own.issuer, "/token", &own.tokens, json!({"expires_in": 3600}));
    own.issuer.fail_at("/token", Fault::Slow(Duration::from_millis(1500)));
    let statuses = together(20, |_| {
        // Fifty connections a thread: all requests are under way before the first answer.
        let mut clients: Vec<Client> = (0..50).map(|_| own.edge.connect()).collect();
        clients.iter_mut().for_each(|client| client.send(get("/orders", &[])));
        clients.iter_mut().map(|client| client.response().status()).collect::<Vec<_>>()
    });
    let statuses: Vec<u16> = statuses.into_iter().flatten().collect();
    assert_eq!((statuses.len(), statuses.iter().filter(|status| **status == 200).count()), (1000, 1000));
    assert_eq!((own.calls(), own.tokens.all().len()), (1, 1));
    assert!(own.upstream.requests().iter().all(|request| bearer(request) == own.tokens.all()[0]));
    assert!(own.edge.metric("edge_kept_answers_total{store=\"upstream_tokens\",result=\"joined\"}") > 900.0);
}

#[test]
fn a_token_is_kept_for_its_time() {
    // U4: rows of what the issuer says, what is configured, and how many calls two requests at once, and then one after a
    // while, are.
    let key = Key::es256("es-1");
    let jwt = |exp: i64| key.token(&json!({"sub": "edge", "exp": exp}));
    let rows = [
        ("plain", json!({"expires_in": 3600}), json!({}), 1, 1),
        ("string", json!({"expires_in": "3600"}), json!({}), 1, 1),
        ("margin", json!({"expires_in": 3602}), json!({"eagerly_expire": 3600}), 1, 2),
        ("short", json!({"expires_in": 3}), json!({}), 1, 2),
        ("absurd", json!({"expires_in": 1e12}), json!({}), 1, 1),
        ("unsaid", json!({}), json!({}), 1, 1),
        ("unsaid-short", json!({}), json!({"default_ttl": 7}), 1, 2),
        ("unsaid-never", json!({}), json!({"default_ttl": 0}), 2, 3),
        // What is over when it comes is for those alone who waited for it.
        ("over", json!({"expires_in": 0}), json!({}), 2, 3),
        ("negative", json!({"expires_in": -3600}), json!({}), 2, 3),
        ("by-its-word", json!({"expires_in": 3600, "access_token": jwt(mint::now() - 60)}), json!({}), 2, 3),
        ("by-its-word-fine", json!({"access_token": jwt(mint::now() + 600)}), json!({"default_ttl": 0}), 2, 3),
        ("by-its-word-long", json!({"access_token": jwt(mint::now() + 86_400)}), json!({"default_ttl": 7}), 1, 2),
    ];
    let (issuer, tokens) = (Issuer::start(&[]), Tokens::default());
    let upstream = strict(&tokens);
    let row = |(name, members, cache, _, _): &(&str, Value, Value, usize, usize)| {
        issue(&issuer, &format!("/{name}/token"), &tokens, members.clone());
        route(name, config(&format!("{}/{name}", issuer.url()), json!({}), json!({"cache": cache})))
    };
    let edge = Setup::new(entities(&upstream.url(), rows.iter().map(row).collect())).start();
    let calls = |name: &str| {
        assert_eq!(edge.ask(get(&format!("/{name}"), &[])).status(), 200, "{name}");
        issuer.hits(&format!("/{name}/token"))
    };
    for (name, _, _, soon, _) in &rows {
        calls(name);
        assert_eq!(calls(name), *soon, "{name}");
    }
    std::thread::sleep(Duration::from_millis(2300));
    for (name, _, _, _, later) in &rows {
        assert_eq!(calls(name), *later, "{name}");
    }
}

#[test]
fn a_token_is_renewed_before_it_ends_and_nobody_waits() {
    // U2
    let own = Own::with(json!({}), json!({"cache": {"eagerly_expire": 0}}));
    own.issue(json!({"expires_in": 20}));
    assert_eq!(own.ask().status(), 200);
    let first = own.sent();
    // From its last tenth on a call is made; it takes its time, and requests go on with what stands.
    own.issuer.fail_at("/token", Fault::Slow(Duration::from_millis(700)));
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    while own.sent() == first {
        let asked = Instant::now();
        assert_eq!(own.ask().status(), 200);
        slowest = slowest.max(asked.elapsed());
        assert!(began.elapsed() < Duration::from_secs(25), "it was never renewed");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() > Duration::from_secs(17), "renewed after {:?}", began.elapsed());
    assert!(slowest < Duration::from_millis(600), "a request waited {slowest:?}");
    assert_eq!(own.calls(), 2);
}

#[test]
fn a_failed_renewal_changes_nothing_and_is_not_repeated_at_once() {
    // U2: the token stands to its end, and the issuer is asked after pauses.
    let own = Own::with(json!({}), json!({"cache": {"eagerly_expire": 0}}));
    own.issue(json!({"expires_in": 30}));
    assert_eq!(own.ask().status(), 200);
    let pass = || {
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(own.ask().status(), 200);
    };
    own.issuer.answer("/token", |_| edge_tests::issuer::error("temporarily_unavailable", "come again"));
    while own.calls() < 2 {
        pass();
    }
    // The pause after a first failure is between half a second and a whole one.
    let failed = Instant::now();
    while failed.elapsed() < Duration::from_millis(300) {
        pass();
    }
    assert_eq!(own.calls(), 2);
    own.issue(json!({"expires_in": 3600}));
    let first = own.tokens.all()[0].clone();
    while own.sent() == first {
        pass();
    }
    assert_eq!(own.calls(), 3);
    own.edge.logged("error_description=\"come again\"");
}

#[test]
fn equal_questions_share_a_token_and_others_do_not() {
    // U3: across instances, routes and ways of asking, for equal `oauth` records alone.
    let (issuer, tokens) = (Issuer::start(&[]), Tokens::default());
    let upstream = strict(&tokens);
    issue(&issuer, "/token", &tokens, json!({"expires_in": 3600}));
    issue(&issuer, "/other/token", &tokens, json!({"expires_in": 3600}));
    let base = |oauth: Value| config(&issuer.url(), oauth, json!({}));
    let other = format!("{}/other", issuer.url());
    let routes = json!([
        route("first", base(json!({}))),
        route(
            "second",
            config(
                &issuer.url(),
                json!({}),
                json!({"client": {"auth_method": "client_secret_basic"},
            "behavior": {"idp_error_response_status_code": 500}})
            )
        ),
        route("scope", base(json!({"scopes": ["a"]}))),
        route("audience", base(json!({"audience": ["a"]}))),
        route("header", base(json!({"token_headers": {"X-A": "a"}}))),
        route("argument", base(json!({"token_post_args": {"a": "a"}}))),
        route("secret", base(json!({"client_secret": "another-secret-0123456789"}))),
        route("endpoint", config(&other, json!({}), json!({}))),
    ]);
    let edge = Setup::new(entities(&upstream.url(), routes.clone())).start();
    let token = |name: &str| {
        assert_eq!(edge.ask(get(&format!("/{name}"), &[])).status(), 200, "{name}");
        bearer(&upstream.last())
    };
    let first = token("first");
    assert_eq!(token("second"), first);
    let mut seen = vec![first.clone()];
    for name in ["scope", "audience", "header", "argument", "secret", "endpoint"] {
        seen.push(token(name));
    }
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), tokens.all().len()), (7, 7));
    // A reload that changes nothing of the question keeps it.
    edge.reload(&entities(&upstream.url(), json!([routes[1].clone()])), "configuration");
    wait(|| edge.ask(get("/first", &[])).status() == 404, "the new configuration");
    assert_eq!((token("second"), tokens.all().len()), (first, 7));
}

#[test]
fn what_an_issuer_says_for_nobody_is_not_kept_for_anybody() {
    // U4: an answer with the wrong type is none, and the next good one is taken.
    let own = Own::start();
    own.issuer
        .answer("/token", |_| good(&json!({"access_token": "bound-token", "token_type": "DPoP", "expires_in": 60})));
    assert_eq!(own.ask().status(), 502);
    assert!(own.upstream.requests().is_empty());
    own.issue(json!({"expires_in": 60}));
    wait(|| own.ask().status() == 200, "a good answer");
    assert_eq!(own.sent(), own.tokens.all()[0]);
}
