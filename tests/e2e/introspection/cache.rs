//! How long an answer counts, for whom, and how often the issuer is asked for it.

use std::time::{Duration, Instant};

use edge_tests::edge::Setup;
use edge_tests::issuer::{Fault, Issuer};
use edge_tests::mint::{encode, now};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, get};
use serde_json::json;

use super::{Opaque, active, asking, together, wait};
use crate::{entities, guarded, plus, with_token};

#[test]
fn a_positive_answer_stands_until_its_end_and_no_longer() {
    // I3: `exp` ends it, whatever the time to live says.
    let opaque = Opaque::with(json!({"cache_ttl": 600, "cache_ttl_min": 600}));
    let exp = now() + 3;
    opaque.issuer.know("short", plus(active(), json!({"exp": exp})));
    for _ in 0..5 {
        assert_eq!(opaque.ask("short").status(), 200);
    }
    assert_eq!(opaque.issuer.introspections("short"), 1);
    wait(|| opaque.ask("short").status() == 401, "the end of the token");
    assert!((exp..exp + 2).contains(&now()), "ended at {} instead of {exp}", now());
    assert_eq!(opaque.ask("short").status(), 401);
}

#[test]
fn a_revoked_token_is_refused_within_the_time_to_live() {
    // I3: `cache_ttl` where the answer has no end, `cache_ttl_max` where it has.
    for (config, facts) in [
        (json!({"cache_ttl": 1}), active()),
        (json!({"cache_ttl_max": 1}), plus(active(), json!({"exp": now() + 600}))),
        (json!({"cache_ttl_max": 1, "cache_ttl_min": 600}), plus(active(), json!({"exp": now() + 600}))),
    ] {
        let opaque = Opaque::with(config.clone());
        opaque.issuer.know("revoked", facts);
        assert_eq!(opaque.ask("revoked").status(), 200);
        opaque.issuer.forget("revoked");
        let began = Instant::now();
        wait(|| opaque.ask("revoked").status() == 401, "the revocation to be seen");
        assert!(began.elapsed() < Duration::from_millis(1900), "{config}: {:?}", began.elapsed());
    }
}

#[test]
fn an_answer_stands_for_the_least_time_to_live() {
    // What would not be kept is kept for `cache_ttl_min`.
    for (config, asked) in [(json!({"cache_ttl": 0}), 3), (json!({"cache_ttl": 0, "cache_ttl_min": 600}), 1)] {
        let opaque = Opaque::with(config.clone());
        opaque.issuer.know("token", active());
        for _ in 0..3 {
            assert_eq!(opaque.ask("token").status(), 200);
        }
        assert_eq!(opaque.issuer.introspections("token"), asked, "{config}");
    }
}

#[test]
fn every_request_asks_where_nothing_is_cached() {
    // S3.6
    let opaque = Opaque::with(json!({"cache_introspection": false}));
    opaque.issuer.know("token", active());
    for _ in 0..5 {
        assert_eq!(opaque.ask("token").status(), 200);
    }
    assert_eq!(opaque.issuer.introspections("token"), 5);
    opaque.issuer.forget("token");
    assert_eq!(opaque.ask("token").status(), 401);
}

#[test]
fn a_negative_answer_is_soon_asked_for_again() {
    // I4: a token that becomes valid is not shut out.
    let opaque = Opaque::with(json!({"cache_ttl_neg": 1}));
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(opaque.ask("early").status(), 401);
    }
    let asked = opaque.issuer.introspections("early");
    // One that is seen a second time is remembered.
    assert!(asked <= 3 + began.elapsed().as_secs() as usize, "asked {asked} times in {:?}", began.elapsed());
    opaque.issuer.know("early", active());
    let began = Instant::now();
    wait(|| opaque.ask("early").status() == 200, "the token to become valid");
    assert!(began.elapsed() < Duration::from_millis(1900), "{:?}", began.elapsed());
}

/// Resident memory of a process in KiB (proc(5), `VmRSS`).
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn random_tokens_fill_no_memory() {
    // I4, D3
    let opaque = Opaque::set_up(json!({}), |setup| setup.section("[verdicts]\ncache_bytes = 1048576"));
    let flood = |round: usize| {
        together(4, |worker| {
            let mut client = Client::connect(opaque.edge.address());
            for number in 0..250 {
                let token = format!("{}-{round}-{worker}-{number}", encode(&[number as u8; 600]));
                let answer = client.ask(with_token(&token));
                assert_eq!(answer.status(), 401);
                if answer.says_close() {
                    client = Client::connect(opaque.edge.address());
                }
            }
        })
    };
    flood(0);
    let before = resident_kib(opaque.edge.pid());
    (1..3).for_each(|round| drop(flood(round)));
    let grown = resident_kib(opaque.edge.pid()).saturating_sub(before);
    assert!(grown < 16 << 10, "2000 random tokens took {grown} KiB");
    assert!(opaque.issuer.hits("/introspect") <= 3000);
    opaque.issuer.know("good", active());
    assert_eq!(opaque.ask("good").status(), 200);
    assert_eq!(opaque.ask("good").status(), 200);
    assert_eq!(opaque.issuer.introspections("good"), 1);
}

#[test]
fn concurrent_requests_with_one_token_ask_once() {
    // I6: 64 here; the figures of the closing note are 10,000.
    let opaque = Opaque::start();
    opaque.issuer.know("new", active());
    opaque.issuer.fail_at("/introspect", Fault::Slow(Duration::from_millis(300)));
    let statuses = together(64, |_| opaque.ask("new").status());
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(opaque.issuer.introspections("new"), 1);
    let statuses = together(64, |_| opaque.ask("unknown").status());
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(opaque.issuer.introspections("unknown"), 1);
}

#[test]
fn one_answer_opens_no_other_route() {
    // I5: neither another issuer's, nor another client's, nor one of other arguments; a prefix is another token.
    let upstream = Upstream::start();
    let (a, b) = (Issuer::start(&[]), Issuer::start(&[]));
    let route = |name: &str, config: serde_json::Value| {
        let plugins = json!([{"name": "openid-connect", "config": config}]);
        json!({"name": name, "paths": [format!("/{name}")], "plugins": plugins})
    };
    let first = asking(&a.url());
    let routes = json!([
        route("a", first.clone()),
        route("same", first.clone()),
        route("b", asking(&b.url())),
        route("client", plus(first.clone(), json!({"client_id": ["another"]}))),
        route("strict", plus(first.clone(), json!({"scopes_required": ["admin"]}))),
        route(
            "args",
            plus(first, json!({"introspection_post_args_names": ["tenant"], "introspection_post_args_values": ["1"]}))
        ),
    ]);
    let edge = Setup::new(entities(&upstream.url(), routes)).start();
    let ask = |path: &str, token: &str| edge.ask(get(path, &[&format!("Authorization: Bearer {token}")])).status();
    a.know("token-of-a", active());
    b.know("token-of-b", active());
    for _ in 0..2 {
        assert_eq!(
            (ask("/a", "token-of-a"), ask("/same", "token-of-a"), ask("/strict", "token-of-a")),
            (200, 200, 403)
        );
    }
    assert_eq!(a.introspections("token-of-a"), 1, "facts are shared where everything is the same");
    assert_eq!((ask("/b", "token-of-a"), ask("/a", "token-of-b"), ask("/b", "token-of-b")), (401, 401, 200));
    assert_eq!((ask("/client", "token-of-a"), ask("/args", "token-of-a")), (200, 200));
    assert_eq!(a.introspections("token-of-a"), 3, "another client and other arguments ask for themselves");
    for other in ["token-of-", "token-of-aa", "Token-of-a", "token-of-a="] {
        assert_eq!(ask("/a", other), 401, "{other}");
    }
}

#[test]
fn what_the_client_adds_to_the_question_keeps_answers_apart() {
    // I5: no answer crosses tenants.
    let config = json!({"introspection_post_args_client_headers": ["x-tenant"]});
    let opaque = Opaque::with(config);
    opaque.issuer.answer("/introspect", |request| {
        let first = edge_tests::issuer::argument(request, "x-tenant").as_deref() == Some("1");
        edge_tests::issuer::good(&json!({"active": first}))
    });
    let ask = |tenant: &str| {
        let fields = ["Authorization: Bearer token", &format!("X-Tenant: {tenant}")];
        opaque.edge.ask(get("/", &fields)).status()
    };
    assert_eq!((ask("1"), ask("2"), ask("1"), ask("2")), (200, 401, 200, 401));
    assert_eq!(opaque.edge.ask(with_token("token")).status(), 401);
}

#[test]
fn a_hot_token_is_renewed_before_it_ends() {
    // No request waits for the issuer once the token is known; the access log would say so (`issuer_ms`).
    let opaque = Opaque::with(json!({"cache_ttl": 5}));
    opaque.issuer.know("hot", active());
    assert_eq!(opaque.ask("hot").status(), 200);
    opaque.edge.access(|line| !line["issuer_ms"].is_null());
    opaque.issuer.fail_at("/introspect", Fault::Slow(Duration::from_millis(100)));
    let (end, mark) = (Instant::now() + Duration::from_secs(6), opaque.edge.accesses().mark());
    let mut client = Client::connect(opaque.edge.address());
    let mut sent = 0;
    while Instant::now() < end {
        assert_eq!(client.ask(with_token("hot")).status(), 200);
        sent += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(opaque.issuer.introspections("hot"), 2);
    wait(|| opaque.edge.accesses().mark() >= mark + sent, "all lines of the access log");
    let lines = opaque.edge.accesses().lines();
    let waited = lines[mark..].iter().find(|line| line.contains("issuer_ms"));
    assert!(waited.is_none(), "a request waited: {waited:?}");
}

#[test]
fn connections_to_the_issuer_are_kept() {
    let opaque = Opaque::start();
    for number in 0..20 {
        let token = format!("token-{number}");
        opaque.issuer.know(&token, active());
        assert_eq!(opaque.ask(&token).status(), 200);
    }
    assert!(opaque.issuer.connections() <= 4, "{} connections for 20 questions", opaque.issuer.connections());
}

#[test]
fn a_reload_keeps_answers_unless_the_question_changes() {
    // I5: facts are kept by everything that could change them, and by nothing else.
    let opaque = Opaque::start();
    opaque.issuer.know("token", active());
    assert_eq!(opaque.ask("token").status(), 200);
    let reload = |config: serde_json::Value| {
        let config = plus(asking(&opaque.issuer.url()), config);
        opaque.edge.reload(&guarded(&opaque.upstream.url(), config), "reload");
    };
    reload(json!({"scopes_required": ["orders:read"], "leeway": 5}));
    assert_eq!(opaque.ask("token").status(), 200);
    reload(json!({"scopes_required": ["admin"]}));
    assert_eq!(opaque.ask("token").status(), 403);
    assert_eq!(opaque.issuer.introspections("token"), 1);
    reload(json!({"introspection_hint": "opaque"}));
    assert_eq!(opaque.ask("token").status(), 200);
    assert_eq!(opaque.issuer.introspections("token"), 2);
}
