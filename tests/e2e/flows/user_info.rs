//! What the issuer says of the user, and tokens that are good because it says something.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_tests::edge::Setup;
use edge_tests::issuer::Fault;
use edge_tests::mint::{self, with};
use edge_tests::upstream::Reply;
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{AUDIENCE, Flow, client};
use crate::plus;

fn alice() -> Value {
    json!({"sub": "alice", "email": "alice@b.example", "name": "Alice \u{e4}"})
}

fn token(flow: &Flow) -> String {
    flow.key.token(&with(
        mint::claims(&flow.issuer.url(), AUDIENCE),
        json!({"jti": format!("{:?}", std::time::Instant::now())}),
    ))
}

fn ask(flow: &Flow, token: &str) -> Message {
    flow.ask(&[&format!("Authorization: Bearer {token}"), "X-User: forged", "X-Email: forged"])
}

#[test]
fn the_upstream_is_told_who_the_user_is() {
    // P1
    let config = json!({"upstream_user_info_header": "X-User", "downstream_user_info_header": "X-Me",
        "search_user_info": true, "upstream_headers": [{"header": "X-Email", "path": ["email"]}]});
    let flow = Flow::start(json!(["bearer"]), config);
    let good = token(&flow);
    flow.issuer.know(&good, alice());
    for _ in 0..2 {
        let answer = ask(&flow, &good);
        assert_eq!(answer.status(), 200, "{}", flow.edge.output());
        let seen = flow.upstream.last();
        let said: Value = serde_json::from_slice(&STANDARD.decode(seen.field("x-user").unwrap()).unwrap()).unwrap();
        assert_eq!((said, answer.field("x-me")), (alice(), seen.field("x-user")));
        assert_eq!(seen.field("x-email"), Some("alice@b.example"));
    }
    assert_eq!(flow.issuer.hits("/userinfo"), 1);
    let asked = flow.issuer.last("/userinfo");
    assert_eq!((asked.method(), asked.field("authorization")), ("GET", Some(format!("Bearer {good}").as_str())));

    // Another user's answer, none, and none in time.
    let (other, unknown) = (token(&flow), token(&flow));
    flow.issuer.know(&other, json!({"sub": "bob"}));
    for bad in [&other, &unknown] {
        let answer = ask(&flow, bad);
        assert_eq!((answer.status(), flow.edge.reason_of(&answer).as_str()), (401, "user_info_refused"));
    }
    flow.issuer.know(&unknown, alice());
    assert_eq!(ask(&flow, &unknown).status(), 200, "a refusal is not kept");
    flow.issuer.fail_at("/userinfo", Fault::Status(500));
    let late = token(&flow);
    let answer = ask(&flow, &late);
    assert_eq!((answer.status(), flow.edge.reason_of(&answer).as_str()), (503, "user_info_failed"));
    assert!(answer.field("retry-after").is_some());
    assert_eq!(ask(&flow, &good).status(), 200, "what is known is known");
    flow.assert_silent(&[&good, &other, &unknown, &late, "alice@b.example"]);
}

#[test]
fn nothing_is_kept_where_that_is_switched_off() {
    let flow = Flow::start(json!(["bearer"]), json!({"upstream_user_info_header": "X-User", "cache_user_info": false}));
    let good = token(&flow);
    flow.issuer.know(&good, alice());
    assert_eq!((ask(&flow, &good).status(), ask(&flow, &good).status(), flow.issuer.hits("/userinfo")), (200, 200, 2));
}

#[test]
fn signed_answers_are_verified_and_told() {
    // T25
    let config = json!({"userinfo_accept": "application/jwt", "upstream_user_info_jwt_header": "X-User-Jwt",
        "upstream_user_info_header": "X-User"});
    let flow = Flow::start(json!(["bearer"]), config);
    let header = with(flow.key.header(), json!({"typ": "JWT"}));
    let jwt = flow.key.sign(&header, &plus(alice(), json!({"iss": flow.issuer.url(), "aud": "edge"})));
    let answer = |jwt: &str| Reply::new("200 OK", "Content-Type: application/jwt\r\n", jwt);
    let said = jwt.clone();
    flow.issuer.answer("/userinfo", move |_| answer(&said));
    assert_eq!(ask(&flow, &token(&flow)).status(), 200, "{}", flow.edge.output());
    let seen = flow.upstream.last();
    assert_eq!(seen.field("x-user-jwt"), Some(jwt.as_str()));
    assert!(seen.field("x-user").is_some_and(|user| user != "forged"));
    let said = mint::flip(&jwt);
    flow.issuer.answer("/userinfo", move |_| answer(&said));
    assert_eq!(ask(&flow, &token(&flow)).status(), 503);
    flow.assert_silent(&[&jwt]);
}

#[test]
fn consumers_are_found_by_it() {
    let flow = Flow::start(json!(["bearer"]), json!({}));
    let config = json!({"consumer_claims": [["email"]], "search_user_info": true});
    let config = plus(client(&flow.issuer.url(), json!(["bearer"])), config);
    let route = json!({"name": "all", "paths": ["/"], "plugins": [{"name": "openid-connect", "config": config}]});
    let entities = json!({"_format_version": "3.0", "consumers": [{"username": "alice@b.example"}],
        "services": [{"name": "up", "url": flow.upstream.url(), "routes": [route]}]});
    let edge = Setup::new(entities.to_string()).start();
    let (known, unknown) = (token(&flow), token(&flow));
    flow.issuer.know(&known, alice());
    flow.issuer.know(&unknown, plus(alice(), json!({"email": "other@b.example"})));
    assert_eq!(edge.ask(crate::with_token(&known)).status(), 200);
    assert_eq!(flow.upstream.last().field("x-consumer-username"), Some("alice@b.example"));
    assert_eq!(edge.ask(crate::with_token(&unknown)).status(), 403);
}

#[test]
fn opaque_tokens_are_good_if_they_have_a_user() {
    let config = json!({"upstream_headers": [{"header": "X-Email", "path": ["email"]}],
        "upstream_user_info_header": "X-User", "upstream_introspection_header": "X-Said",
        "userinfo_query_args_client": ["lang"], "userinfo_headers_client": ["X-Tenant"]});
    let flow = Flow::start(json!(["userinfo"]), config);
    flow.issuer.know("opaque-token-0123", alice());
    for _ in 0..2 {
        assert_eq!(ask(&flow, "opaque-token-0123").status(), 200, "{}", flow.edge.output());
        let seen = flow.upstream.last();
        assert_eq!(seen.field("x-email"), Some("alice@b.example"));
        assert_eq!(seen.field("authorization"), Some("Bearer opaque-token-0123"));
    }
    assert_eq!(flow.issuer.hits("/userinfo"), 1, "what judged the token is told as well");
    let seen = flow.upstream.last();
    let said: Value = serde_json::from_slice(&STANDARD.decode(seen.field("x-user").unwrap()).unwrap()).unwrap();
    assert_eq!((said, seen.field("x-said")), (alice(), None), "nobody introspected it");
    let fields = ["Authorization: Bearer opaque-token-0123", "X-Tenant: t1", "X-Other: o"];
    assert_eq!(flow.edge.ask(get("/orders?lang=de&other=1", &fields)).status(), 200);
    let asked = flow.issuer.last("/userinfo");
    assert_eq!(
        (asked.target(), asked.field("x-tenant"), asked.field("x-other")),
        ("/userinfo?lang=de", Some("t1"), None)
    );
    assert_eq!(ask(&flow, "opaque-token-4567").status(), 401);
    // Somebody on the way refuses everything: no verdict on a token (I7).
    flow.issuer.answer("/userinfo", |_| Reply::new("403 Forbidden", "Content-Type: text/html\r\n", "<html>"));
    assert_eq!(ask(&flow, "opaque-token-cdef").status(), 503);
    flow.issuer.answer("/userinfo", |_| {
        Reply::new("403 Forbidden", "WWW-Authenticate: Bearer error=\"insufficient_scope\"\r\n", "")
    });
    assert_eq!(ask(&flow, "opaque-token-cdef").status(), 401);
    flow.issuer.fail_at("/userinfo", Fault::Status(502));
    let answer = ask(&flow, "opaque-token-89ab");
    assert_eq!(answer.status(), 503);
    assert!(answer.field("retry-after").is_some());
    flow.assert_silent(&["opaque-token-0123", "opaque-token-4567", "opaque-token-89ab"]);
}
