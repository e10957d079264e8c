//! What an issuer that fails costs: never access, and no request that waits without end.

use std::time::{Duration, Instant};

use edge_tests::edge::{Setup, free_address};
use edge_tests::issuer::{Fault, Issuer};
use edge_tests::mint::now;
use edge_tests::upstream::Upstream;
use edge_tests::wire::Message;
use serde_json::json;

use super::{Opaque, active, asking, name, together, wait};
use crate::{guarded, plus, with_token};

#[test]
fn every_fault_is_503_and_passes_over() {
    // I1, I7, I13: an alarm in the error log, `Retry-After`, and no verdict that outlives the fault.
    let elsewhere = Issuer::start(&[]);
    let faults = [
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(404),
        Fault::Status(400),
        Fault::Status(403),
        Fault::InvalidClient,
        Fault::TooMany(3),
        Fault::Html,
        Fault::ContentType("text/plain"),
        Fault::Truncated,
        Fault::Huge(100 << 20),
        Fault::Redirect(format!("{}/introspect", elsewhere.url())),
        Fault::Slow(Duration::from_secs(3)),
        Fault::Close,
    ];
    let opaque = Opaque::rows(faults.len(), json!({"timeout": 500}));
    let ask = |(row, fault): (usize, &Fault)| {
        let path = format!("/i/{}", name(row));
        opaque.issuer.answer(&path, |_| edge_tests::issuer::good(&active()));
        opaque.issuer.fail_at(&path, fault.clone());
        let began = Instant::now();
        let answer = opaque.ask_row(row, "token");
        assert!(began.elapsed() < Duration::from_secs(2), "{fault:?} took {:?}", began.elapsed());
        answer
    };
    let answers: Vec<Message> = faults.iter().enumerate().map(ask).collect();
    for (fault, answer) in faults.iter().zip(&answers) {
        assert_eq!(answer.status(), 503, "{fault:?}: {}", answer.text());
        let seconds: u32 = answer.field("retry-after").expect("Retry-After").parse().expect("seconds");
        assert!(seconds > 0, "{fault:?}");
        if let Fault::TooMany(wanted) = fault {
            assert_eq!(seconds, *wanted, "what the issuer asked for is kept");
        }
        assert_eq!(opaque.edge.reason_of(answer), "introspection_failed", "{fault:?}");
        assert!(answer.all("www-authenticate").is_empty(), "{fault:?}: the token is not to blame");
        let line = opaque.edge.logged(answer.field("x-kong-request-id").unwrap());
        // L4: what to look at, in the words of the kind of fault.
        let kinds = ["an error status", "refuses the edge", "no answer in time", "connection failed", "is malformed"];
        let named = line.contains("introspection: ") && kinds.iter().any(|kind| line.contains(kind));
        assert!(named, "{fault:?}: {line}");
    }
    assert!(opaque.upstream.requests().is_empty(), "a fault let a request pass");
    assert_eq!(elsewhere.hits("/introspect"), 0);
    let alarms = opaque.edge.errors().lines();
    assert!(alarms.iter().any(|line| line.contains("ERROR") && line.contains("introspect")), "{}", alarms.join("\n"));
    opaque.issuer.recover();
    for (row, fault) in faults.iter().enumerate() {
        wait(|| opaque.ask_row(row, "token").status() == 200, &format!("recovery from {fault:?}"));
    }
}

#[test]
fn an_issuer_that_is_down_at_start_is_503_until_it_is_up() {
    // I7, K7
    let (upstream, address) = (Upstream::start(), free_address());
    let url = format!("http://{address}");
    // The endpoint discovered, and set.
    let set = json!({"introspection_endpoint": format!("{url}/introspect"), "using_pseudo_issuer": true});
    for config in [json!({}), set] {
        let config = plus(asking(&url), config);
        let edge = Setup::new(guarded(&upstream.url(), config)).section("[timeouts]\nkey_wait = 500").start();
        let answer = edge.ask(with_token("token"));
        assert_eq!(answer.status(), 503, "{}", answer.text());
        assert!(answer.field("retry-after").is_some());
        assert_eq!(edge.ask(edge_tests::wire::get("/", &[])).status(), 401, "no token, no question");
        assert!(upstream.requests().is_empty());
        let issuer = Issuer::at(address, &[]);
        issuer.know("token", active());
        wait(|| edge.ask(with_token("token")).status() == 200, "the issuer to be found");
        upstream.take();
        issuer.stop();
    }
}

#[test]
fn whose_answer_it_is_cannot_be_told_while_the_issuer_is_unknown() {
    // K7: the endpoint is set and answers, discovery does not: an `iss` can neither be allowed nor refused.
    let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
    issuer.fail_at("/.well-known/openid-configuration", Fault::Status(500));
    let set = json!({"introspection_endpoint": format!("{}/introspect", issuer.url()), "client_auth": ["none"]});
    let config = plus(asking(&issuer.url()), set);
    let edge = Setup::new(guarded(&upstream.url(), config)).section("[timeouts]\nkey_wait = 1000").start();
    issuer.know("silent", active());
    issuer.know("named", plus(active(), json!({"iss": issuer.url()})));
    issuer.know("foreign", plus(active(), json!({"iss": "https://evil.example"})));
    assert_eq!(edge.ask(with_token("silent")).status(), 200);
    assert_eq!(edge.ask(with_token("named")).status(), 503);
    assert_eq!(edge.ask(with_token("foreign")).status(), 503);
    issuer.recover();
    wait(|| edge.ask(with_token("named")).status() == 200, "the issuer to be known");
    assert_eq!(edge.ask(with_token("foreign")).status(), 401);
}

#[test]
fn waiting_is_bounded_and_disturbs_nobody_else() {
    // I7, D1
    let opaque = Opaque::with(json!({"timeout": 800}));
    opaque.issuer.know("known", active());
    assert_eq!(opaque.ask("known").status(), 200);
    opaque.issuer.fail_at("/introspect", Fault::Slow(Duration::from_secs(8)));
    let began = Instant::now();
    let answers = together(40, |number| match number % 2 {
        0 => (503, opaque.ask(&format!("token-{number}")).status()),
        _ => {
            let began = Instant::now();
            let status = opaque.ask("known").status();
            assert!(began.elapsed() < Duration::from_millis(700), "a known token waited {:?}", began.elapsed());
            (200, status)
        }
    });
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(answers.iter().all(|(expected, status)| expected == status), "{answers:?}");
    // A broken circuit answers at once.
    wait(
        || {
            let began = Instant::now();
            assert_eq!(opaque.ask("another").status(), 503);
            began.elapsed() < Duration::from_millis(200)
        },
        "the circuit to break",
    );
    opaque.issuer.recover();
    opaque.issuer.know("another", active());
    opaque.until("another", 200);
}

#[test]
fn an_answer_that_ends_while_the_issuer_is_down_is_no_longer_good() {
    // I3, I7: never access on what was true once; never 401 on what nobody said.
    let opaque = Opaque::with(json!({"cache_ttl": 1}));
    opaque.issuer.know("token", active());
    assert_eq!(opaque.ask("token").status(), 200);
    opaque.issuer.fail(Fault::Close);
    let began = Instant::now();
    wait(
        || match opaque.ask("token").status() {
            200 => false,
            status => {
                assert_eq!(status, 503);
                true
            }
        },
        "the answer to end",
    );
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    opaque.issuer.recover();
    opaque.until("token", 200);
}

#[test]
fn what_was_good_serves_on_for_as_long_as_it_is_told_to() {
    // `cache_ttl_resurrect`: within `exp`, and only while nobody answers.
    let opaque = Opaque::with(json!({"cache_ttl": 1, "cache_ttl_max": 1, "cache_ttl_resurrect": 60}));
    let exp = now() + 4;
    opaque.issuer.know("long", active());
    opaque.issuer.know("short", plus(active(), json!({"exp": exp})));
    opaque.issuer.know("revoked", active());
    for token in ["long", "short", "revoked"] {
        assert_eq!(opaque.ask(token).status(), 200);
    }
    opaque.issuer.fail_at("/introspect", Fault::Status(503));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!(opaque.ask("long").status(), 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(opaque.ask("new").status(), 503, "what never was good does not begin to be");
    wait(|| opaque.ask("short").status() != 200, "the end of the token");
    assert!((exp..exp + 2).contains(&now()), "ended at {} instead of {exp}", now());
    assert_eq!(opaque.ask("long").status(), 200);
    opaque.issuer.recover();
    opaque.issuer.forget("revoked");
    opaque.until("revoked", 401);
}

#[test]
fn an_outage_makes_nobody_anonymous() {
    // I7: `anonymous` is for whoever has no good token; whether this one is good is not known.
    let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
    let config = plus(asking(&issuer.url()), json!({"anonymous": "nobody"}));
    let route = json!({"name": "all", "paths": ["/"], "plugins": [{"name": "openid-connect", "config": config}]});
    let entities = json!({"_format_version": "3.0", "consumers": [{"username": "nobody"}],
        "services": [{"name": "up", "url": upstream.url(), "routes": [route]}]});
    let edge = Setup::new(entities.to_string()).start();
    assert_eq!(edge.ask(with_token("unknown")).status(), 200);
    let seen = upstream.last();
    assert_eq!((seen.field("x-anonymous-consumer"), seen.field("x-consumer-username")), (Some("true"), Some("nobody")));
    assert_eq!(seen.field("authorization"), None, "a token that is not good goes nowhere");
    issuer.fail_at("/introspect", Fault::Status(500));
    assert_eq!(edge.ask(with_token("another")).status(), 503);
    assert_eq!(upstream.requests().len(), 1);
}
