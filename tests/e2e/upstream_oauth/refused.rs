//! What becomes of a token that the upstream refuses, and of the request it went with.

use std::time::Duration;

use edge_tests::edge::Setup;
use edge_tests::h2upstream::{H2Upstream, Notes, Rules, answer};
use edge_tests::issuer::{Fault, Issuer};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::get;
use serde_json::json;

use super::{Own, Tokens, bearer, config, issue, route, with_body};
use crate::entities;
use crate::introspection::{together, wait};

#[test]
fn a_refused_token_is_replaced_and_the_request_sent_once_more() {
    // U5; one worker, whose connections to the upstream are counted.
    let own = Own::set_up(json!({}), json!({}), |setup| setup.workers(1));
    assert_eq!(own.ask().status(), 200);
    own.tokens.revoke(&own.sent());
    own.upstream.take();
    let mut client = own.edge.connect();
    let answer = client.ask(get("/orders", &["X-Mark: 7"]));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"), "{}", own.edge.output());
    let seen = own.upstream.take();
    let tokens: Vec<String> = seen.iter().map(bearer).collect();
    assert_eq!(tokens, own.tokens.all());
    // The same request but for its token; the connection of the unused answer serves it.
    assert!(seen.iter().all(|request| request.field("x-mark") == Some("7") && request.target() == "/orders"));
    assert_eq!(seen[0].field("x-kong-request-id"), seen[1].field("x-kong-request-id"));
    assert_eq!(own.upstream.connections(), 1);
    assert_eq!(client.ask(get("/orders", &[])).status(), 200, "the client's connection serves on");
    assert_eq!(own.calls(), 2);
    let line = own.edge.access(|line| line["tries"] == 2);
    assert_eq!((&line["status"], line["issuer_ms"].is_number()), (&json!(200), true));
    own.edge.logged("[upstream-oauth] an upstream refuses the token");
    own.assert_silent(&[]);
}

#[test]
fn only_what_may_be_repeated_is() {
    // U5, D7: a POST is never sent twice; the next request has another token in any case.
    let body = "b".repeat(20_000);
    for (name, request, behavior, buffered, tries) in [
        ("get", get("/orders", &[]), json!({}), true, 2),
        ("put", with_body("PUT", "/orders", &body), json!({}), true, 2),
        ("delete", with_body("DELETE", "/orders", ""), json!({}), true, 2),
        ("post", with_body("POST", "/orders", &body), json!({}), true, 1),
        ("empty post", with_body("POST", "/orders", ""), json!({}), true, 1),
        ("patch", with_body("PATCH", "/orders", "x"), json!({}), true, 1),
        // Of a body that streams nothing is left.
        ("unbuffered", with_body("PUT", "/orders", &body), json!({}), false, 1),
        ("switched off", get("/orders", &[]), json!({"retry_on_purge": false}), true, 1),
        ("another status", get("/orders", &[]), json!({"purge_token_on_upstream_status_codes": [403]}), true, 1),
        ("no status", get("/orders", &[]), json!({"purge_token_on_upstream_status_codes": []}), true, 1),
    ] {
        let (issuer, tokens) = (Issuer::start(&[]), Tokens::default());
        let upstream = super::strict(&tokens);
        issue(&issuer, "/token", &tokens, json!({"expires_in": 3600}));
        let plugin = route("orders", config(&issuer.url(), json!({}), json!({"behavior": behavior})));
        let routes = json!([crate::plus(plugin, json!({"request_buffering": buffered}))]);
        let edge = Setup::new(entities(&upstream.url(), routes)).start();
        assert_eq!(edge.ask(get("/orders", &[])).status(), 200);
        tokens.revoke(&bearer(&upstream.last()));
        upstream.take();
        let answer = edge.ask(&request);
        let seen = upstream.take();
        assert_eq!(seen.len(), tries, "{name}");
        let status = if tries == 2 { 200 } else { 401 };
        assert_eq!(answer.status(), status, "{name}: {}", edge.output());
        if tries == 2 {
            assert_eq!((seen[0].method(), &seen[0].body), (seen[1].method(), &seen[1].body), "{name}");
        } else {
            assert_eq!(answer.text(), "who are you?", "{name}: the upstream's own answer");
        }
        let purges = !name.ends_with("status");
        let next = edge.ask(get("/orders", &[])).status();
        assert_eq!((next, issuer.hits("/token")), if purges { (200, 2) } else { (401, 1) }, "{name}");
    }
}

#[test]
fn a_second_refusal_is_the_clients() {
    // U5: one refresh, one more try. The fresh token stays: nothing says that another would do better.
    let (issuer, tokens) = (Issuer::start(&[]), Tokens::default());
    let upstream = Upstream::with(|_| Reply::new("401 Unauthorized", "WWW-Authenticate: Bearer\r\n", "never"));
    issue(&issuer, "/token", &tokens, json!({"expires_in": 3600}));
    let routes = json!([route("orders", config(&issuer.url(), json!({}), json!({})))]);
    let edge = Setup::new(entities(&upstream.url(), routes)).start();
    let answer = edge.ask(get("/orders", &[]));
    assert_eq!((answer.status(), answer.text().as_str()), (401, "never"));
    assert_eq!(answer.field("www-authenticate"), Some("Bearer"), "the upstream's answer is left as it is");
    assert_eq!((upstream.requests().len(), issuer.hits("/token")), (2, 2));
    // However many are refused, calls are bounded: so many at once, then one a second.
    let statuses = together(50, |_| edge.ask(get("/orders", &[])).status());
    assert!(statuses.iter().all(|status| *status == 401));
    assert!(issuer.hits("/token") <= 14, "{} calls", issuer.hits("/token"));
}

#[test]
fn where_no_other_token_is_to_be_had_the_answer_is_the_upstreams() {
    let own = Own::start();
    assert_eq!(own.ask().status(), 200);
    own.tokens.revoke(&own.sent());
    own.issuer.fail_at("/token", Fault::Status(500));
    let answer = own.ask();
    assert_eq!((answer.status(), answer.text().as_str()), (401, "who are you?"));
    assert_eq!(own.upstream.requests().len(), 2);
    // The refused token is gone all the same.
    assert_eq!((own.ask().status(), own.upstream.requests().len()), (502, 2));
    own.issuer.recover();
    wait(|| own.ask().status() == 200, "the issuer to be asked again");
}

#[test]
fn many_refusals_of_one_token_are_one_refresh() {
    // U2, U5
    let own = Own::start();
    assert_eq!(own.ask().status(), 200);
    own.tokens.revoke(&own.sent());
    own.issuer.fail_at("/token", Fault::Slow(Duration::from_millis(300)));
    let statuses = together(40, |_| own.ask().status());
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(own.calls(), 2);
}

#[test]
fn an_unused_answer_costs_no_more_than_its_connection() {
    // What is left of it is read where that is short; where it is not, the connection ends.
    let tokens = Tokens::default();
    let revoked = tokens.clone();
    let upstream = Upstream::with(move |request| match revoked.is_revoked(&bearer(request)) {
        false => Reply::ok("ok"),
        true if request.target().ends_with("chunked") => {
            Reply::raw("HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        }
        true if request.target().ends_with("long") => Reply::new("401 No", "", &"x".repeat(1 << 20)),
        true => Reply::raw("HTTP/1.1 401 No\r\nContent-Length: 9\r\n\r\npart").hold(),
    });
    let issuer = Issuer::start(&[]);
    issue(&issuer, "/token", &tokens, json!({"expires_in": 3600}));
    let routes = json!([route("orders", config(&issuer.url(), json!({}), json!({})))]);
    let edge = Setup::new(entities(&upstream.url(), routes)).workers(1).start();
    for (target, connections) in [("/orders/chunked", 1), ("/orders/long", 2), ("/orders/slow", 3)] {
        assert_eq!(edge.ask(get("/orders", &[])).status(), 200);
        tokens.revoke(&bearer(&upstream.last()));
        let answer = edge.ask(get(target, &[]));
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"), "{target}");
        assert_eq!(upstream.connections(), connections, "{target}");
    }
}

#[test]
fn over_http2_it_is_the_same() {
    // Another stream of the same connection; of the unused answer nothing passes.
    let (issuer, tokens, seen) = (Issuer::start(&[]), Tokens::default(), Notes::default());
    issue(&issuer, "/token", &tokens, json!({"expires_in": 3600}));
    let (revoked, notes) = (tokens.clone(), seen.clone());
    let upstream = H2Upstream::start(Rules::default(), move |_, request, mut respond| {
        let (revoked, notes) = (revoked.clone(), notes.clone());
        async move {
            let value = request.headers()["authorization"].to_str().unwrap().to_owned();
            let refused = revoked.is_revoked(value.strip_prefix("Bearer ").unwrap());
            notes.keep(value);
            if !refused {
                return answer(respond, b"ok", &[]).await;
            }
            let response = http::Response::builder().status(401).body(()).unwrap();
            let mut stream = respond.send_response(response, false).unwrap();
            stream.send_data("who are you?".into(), true).unwrap();
        }
    });
    let plugin = config(&issuer.url(), json!({}), json!({}));
    let entities = json!({"_format_version": "3.0", "services": [{"name": "up",
        "url": format!("grpc://{}", upstream.address()), "routes": [route("orders", plugin)]}]});
    let edge = Setup::new(entities.to_string()).workers(1).start();
    assert_eq!(edge.ask(get("/orders", &[])).text(), "ok", "{}", edge.output());
    tokens.revoke(&tokens.all()[0]);
    let answer = edge.ask(get("/orders", &[]));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    let sent = [0, 0, 1].map(|at: usize| format!("Bearer {}", tokens.all()[at]));
    assert_eq!((seen.all(), upstream.connections()), (sent.to_vec(), 1));
}
