//! "401 and 400 intermittently": caches, log levels, errors of the token endpoint, one credential among others.

use edge_tests::edge::Setup;
use edge_tests::issuer::{Issuer, error};
use edge_tests::mint::{self, Key, flip, now, with};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::get;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Shell, listening};
use crate::{AUDIENCE, entities, guarded, open, plus, with_token};

#[test]
fn s1_1() {
    // `config: cache_ttl: 0 # Or a very short TTL like 5`: taken, and only what carries no end of its own is affected.
    for ttl in [0, 5] {
        let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
        let config = json!({"issuer": issuer.url(), "auth_methods": ["introspection"], "client_id": ["app"],
            "client_secret": ["secret"], "cache_ttl": ttl});
        let edge = Setup::new(guarded(&upstream.url(), config)).start();
        issuer.know("with-end", json!({"active": true, "exp": now() + 600}));
        issuer.know("without", json!({"active": true}));
        for _ in 0..3 {
            assert_eq!(edge.ask(with_token("with-end")).status(), 200);
            assert_eq!(edge.ask(with_token("without")).status(), 200);
        }
        assert_eq!(issuer.introspections("with-end"), 1, "cache_ttl {ttl} does not switch the cache off");
        assert_eq!(issuer.introspections("without"), if ttl == 0 { 3 } else { 1 }, "cache_ttl {ttl}");
    }
}

#[test]
fn s1_2() {
    // `export KONG_LOG_LEVEL=debug kong reload`, then `consumer_id` in the access log.
    let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
    let issuer = Issuer::start(&[&key]);
    let config = json!({"issuer": issuer.url(), "auth_methods": ["bearer"], "audience_required": [AUDIENCE],
        "consumer_claims": [["sub"]], "consumer_by": ["username"]});
    let id = "33333333-3333-4333-8333-333333333333";
    let route = json!({"name": "all", "paths": ["/"], "plugins": [{"name": "openid-connect", "config": config}]});
    let entities = json!({"_format_version": "3.0", "consumers": [{"id": id, "username": "alice"}],
        "services": [{"name": "up", "url": upstream.url(), "routes": [route]}]});
    let edge = Setup::new(entities.to_string()).env("KONG_LOG_LEVEL", "debug").start();
    let mark = edge.errors().mark();
    edge.signal(Signal::SIGHUP);
    edge.logged_after(mark, "reload");
    let claims = mint::claims(&issuer.url(), AUDIENCE);
    assert_eq!(edge.ask(with_token(&key.token(&claims))).status(), 200);
    let line = edge.access(|line| line["status"] == 200);
    assert_eq!((&line["consumer_id"], &line["consumer"]), (&json!(id), &json!("alice")), "{line}");
    assert!(edge.errors().text().contains("DEBUG"));
    // A refusal names whose credential it was.
    let answer = edge.ask(with_token(&key.token(&with(claims, json!({"sub": "mallory"})))));
    assert_eq!(answer.status(), 403);
    let line = edge.logged(answer.field("x-kong-request-id").unwrap());
    assert!(line.contains("credential=\"mallory\""), "{line}");
}

/// What upstreams see with this field added: of a client without a token, and of one with its own.
fn with_added(field: &str) -> [Vec<String>; 2] {
    let upstream = Upstream::start();
    let plugin = json!({"name": "request-transformer", "config": {"add": {"headers": [field]}}});
    let route = json!({"name": "all", "paths": ["/"]});
    let entities = json!({"_format_version": "3.0",
        "services": [{"name": "up", "url": upstream.url(), "routes": [route], "plugins": [plugin]}]});
    let edge = Setup::new(entities.to_string()).start();
    assert_eq!(edge.ask(get("/", &[])).status(), 200);
    assert_eq!(edge.ask(get("/", &["Authorization: Bearer mine"])).status(), 200);
    let values = |seen: &edge_tests::wire::Message| seen.all("authorization").into_iter().map(str::to_owned).collect();
    let requests = upstream.requests();
    [values(&requests[0]), values(&requests[1])]
}

#[test]
fn s1_3() {
    // What bash makes of the seed's `$(jwt_token)`: nothing, and so the upstream gets no token. The client's stays.
    assert_eq!(with_added("Authorization:Bearer "), [["Bearer"], ["Bearer mine"]]);
}

#[test]
fn s1_4() {
    // The text as it stands in the seed, for who writes it into a file: there is no such variable.
    assert_eq!(with_added("Authorization:Bearer $(jwt_token)"), [["Bearer"], ["Bearer mine"]]);
}

#[test]
fn s1_5() {
    // The exact payload passes through untouched, and so does what the upstream thinks of it.
    let upstream = Upstream::with(|request| match request.field("authorization") {
        Some("Bearer good") => Reply::ok("{\"access_token\":\"x\"}"),
        Some(_) => {
            Reply::new("401 Unauthorized", "WWW-Authenticate: Basic realm=\"up\"\r\n", "{\"error\":\"invalid_client\"}")
        }
        None => Reply::new("400 Bad Request", "X-Own: yes\r\n", "{\"error\":\"invalid_request\"}"),
    });
    let edge = listening(open(&upstream.url())).start();
    let shell = Shell::new(&[("upstream", edge.listener(1))]).setting("insecure").setting("include");
    let text = |authorization: &str| {
        format!(
            "curl -X POST https://upstream/token \\\n{authorization}\
             -H \"Content-Type: application/x-www-form-urlencoded\" \\\n\
             -d \"grant_type=client_credentials&client_id=...&client_secret=...\""
        )
    };
    let bearer = |token: &str| text(&format!("-H \"Authorization: Bearer {token}\" \\\n"));
    for (text, status, body, field) in [
        (bearer("good"), 200, "{\"access_token\":\"x\"}", None),
        (
            bearer("<your_token>"),
            401,
            "{\"error\":\"invalid_client\"}",
            Some(("www-authenticate", "Basic realm=\"up\"")),
        ),
        (text(""), 400, "{\"error\":\"invalid_request\"}", Some(("x-own", "yes"))),
    ] {
        let answer = shell.run(&text, &[]);
        assert_eq!((answer.status(), answer.body()), (status, body), "{text}");
        if let Some((name, value)) = field {
            assert_eq!(answer.field(name), Some(value));
        }
        let seen = upstream.last();
        assert_eq!((seen.method(), seen.target()), ("POST", "/token"));
        assert_eq!(seen.text(), "grant_type=client_credentials&client_id=...&client_secret=...");
        assert_eq!(seen.field("content-type"), Some("application/x-www-form-urlencoded"));
    }
    // As printed on one line bash takes the rest for URLs: an empty POST arrives, and curl ends with 3.
    let before = upstream.requests().len();
    let answer = shell.run(&text("").replace(" \\\n", " \\ "), &[]);
    assert_eq!((answer.code, answer.status(), upstream.requests().len()), (3, 400, before + 1), "{}", answer.out);
    let seen = upstream.last();
    assert_eq!((seen.method(), seen.target(), seen.text().as_str()), ("POST", "/token", ""));
}

#[test]
fn s1_6() {
    // What the token endpoint objects to is logged with both its members; the client sees 401.
    let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
    issuer.answer("/token", |_| error("invalid_request", "Unsupported client authentication method"));
    let config = json!({"issuer": issuer.url(), "auth_methods": ["client_credentials"]});
    let edge = Setup::new(guarded(&upstream.url(), config)).start();
    let answer = edge.ask(get("/orders", &["Authorization: Basic YXBwOnNlY3JldA=="]));
    assert_eq!((answer.status(), answer.text().as_str()), (401, "{\"message\":\"Unauthorized\"}"));
    let line = edge.logged("Unsupported client authentication method");
    assert!(line.contains("invalid_request"), "{line}");
    assert!(upstream.requests().is_empty());
    assert!(!edge.output().contains("YXBwOnNlY3JldA"), "a credential was logged");

    // Where the edge asks for itself the client sees upstream-oauth's answer.
    let oauth =
        json!({"token_endpoint": format!("{}/token", issuer.url()), "client_id": "app", "client_secret": "own-secret"});
    let plugins = json!([{"name": "upstream-oauth", "config": {"oauth": oauth}}]);
    let routes = json!([{"name": "all", "paths": ["/"], "plugins": plugins}]);
    let edge = Setup::new(entities(&upstream.url(), routes)).start();
    let answer = edge.ask(get("/orders", &[]));
    let body = r#"{ "code": "502", "message": "Failed to authenticate request to upstream" }"#;
    assert_eq!((answer.status(), answer.text().as_str()), (502, body));
    let line = edge.logged("Unsupported client authentication method");
    assert!(line.contains("invalid_request") && !edge.output().contains("own-secret"), "{line}");
    assert!(upstream.requests().is_empty());
}

#[test]
fn s1_7() {
    // One credential fails, others do not: nothing of the one's verdict is the other's.
    let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
    let issuer = Issuer::start(&[&key]);
    let config = json!({"issuer": issuer.url(), "client_id": ["app"], "client_secret": ["secret"],
        "consumer_claims": [["sub"]], "consumer_optional": true});
    let route = json!({"name": "all", "paths": ["/"], "strip_path": false,
        "plugins": [{"name": "openid-connect", "config": config}]});
    let entities = json!({"_format_version": "3.0", "consumers": [{"username": "alice"}, {"username": "bob"}],
        "services": [{"name": "up", "url": upstream.url(), "routes": [route]}]});
    let edge = Setup::new(entities.to_string()).start();
    let claims = mint::claims(&issuer.url(), AUDIENCE);
    let bobs = flip(&key.token(&with(claims.clone(), json!({"sub": "bob"}))));
    let good = key.token(&claims);
    issuer.know("opaque-good", json!({"active": true}));
    let expired = key.token(&plus(claims, json!({"exp": now() - 60})));
    let rows: [(&str, u16); 6] =
        [(&good, 200), (&bobs, 401), (&flip(&good), 401), (&expired, 401), ("opaque-good", 200), ("opaque-bad", 401)];
    for _ in 0..5 {
        for (token, status) in rows {
            assert_eq!(edge.ask(with_token(token)).status(), status, "{token}");
            if token == good {
                assert_eq!(upstream.last().field("x-consumer-username"), Some("alice"));
            }
        }
    }
    let line = |token: &str| -> Value {
        let answer = edge.ask(with_token(token));
        let id = answer.field("x-kong-request-id").unwrap().to_owned();
        edge.access(|line| line["request_id"] == id.as_str())
    };
    assert_eq!(line("opaque-bad")["reason"], "token_inactive");
    assert_eq!(line(&expired)["reason"], "token_expired");
}
