//! What the edge's own calls, the service and the plugins beside openid-connect do to a good token now and then.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge_tests::issuer::{Fault, argument, error, good};
use edge_tests::parties::jose;
use edge_tests::upstream::Reply;

use super::*;
use crate::jwt_signer::IN_MEMORY;

/// 401 as the issuer gives it to clients whose credentials it does not take.
fn invalid_client() -> Reply {
    let fields = "Content-Type: application/json\r\nWWW-Authenticate: Basic realm=\"issuer\"\r\n";
    Reply::new("401 Unauthorized", fields, r#"{"error":"invalid_client","error_description":"no such client"}"#)
}

/// A service that takes these values of `Authorization` and answers all else with 401.
fn choosy(takes: impl Fn(&str) -> bool + Send + Sync + 'static) -> Upstream {
    Upstream::with(move |request| match request.field("authorization").is_some_and(&takes) {
        true => Reply::ok("ok"),
        false => Reply::new("401 Unauthorized", "WWW-Authenticate: Bearer realm=\"orders\"\r\n", "who are you?"),
    })
}

/// The service's own 401, as it came, with the service's address in the access log.
#[track_caller]
fn is_of_the_service(row: &Row, edge: &Edge, upstream: &Upstream, token: &str) {
    let answer = edge.ask(with_token(token));
    assert_eq!(answer.text(), "who are you?");
    assert_eq!(answer.field("www-authenticate"), Some("Bearer realm=\"orders\""));
    assert_eq!(row.is_answer(edge, &answer)["upstream"], upstream.address().to_string());
}

pub(super) fn one_client(row: &Row) {
    let scene = Scene::start();
    // "good:secret" and "bad:typo", as Basic has them.
    let (good_one, bad_one) = ("Authorization: Basic Z29vZDpzZWNyZXQ=", "Authorization: Basic YmFkOnR5cG8=");
    let token = scene.token(json!({}));
    scene.issuer.answer("/token", move |request| match request.field("authorization") {
        Some("Basic Z29vZDpzZWNyZXQ=") => {
            good(&json!({"access_token": token, "token_type": "Bearer", "expires_in": 300}))
        }
        _ => invalid_client(),
    });
    let edge = scene.edge(json!({"auth_methods": ["client_credentials"]}));
    for _ in 0..3 {
        let answer = edge.ask(get("/orders", &[good_one]));
        assert_eq!(answer.status(), 200, "{}", edge.output());
        row.happens(&edge, get("/orders", &[bad_one]));
    }
    row.shows(&edge, "");
}

pub(super) fn own_client(row: &Row) {
    let scene = Scene::start();
    // The issuer takes the secret in the form alone.
    scene.issuer.answer("/introspect", |request| match argument(request, "client_secret") {
        Some(_) => {
            good(&json!({"active": argument(request, "token").as_deref() == Some("reference"), "aud": AUDIENCE}))
        }
        None => invalid_client(),
    });
    let asking =
        json!({"auth_methods": ["bearer", "introspection"], "client_id": ["edge"], "client_secret": ["secret"]});
    let edge = scene.edge(asking.clone());
    passes(&edge, &scene.token(json!({})));
    row.happens(&edge, with_token("reference"));
    row.shows(&edge, &doctor(&edge.path("edge.toml")));
    let posting = scene.edge(plus(asking, json!({"client_auth": ["client_secret_post"]})));
    passes(&posting, "reference");
    assert!(squeezed(&doctor(&posting.path("edge.toml"))).contains("ok introspection"));
}

pub(super) fn slow(row: &Row) {
    let scene = Scene::start();
    scene.issuer.know("reference", json!({"active": true, "aud": AUDIENCE}));
    scene.issuer.fail_at("/introspect", Fault::Slow(Duration::from_millis(900)));
    let asking = |timeout: u64| json!({"auth_methods": ["introspection"], "client_id": ["edge"], "client_secret": ["secret"], "timeout": timeout});
    let answers = |config: Value, key_wait: u64| {
        let edge = scene.set_up(config, |setup| setup.section(&format!("[timeouts]\nkey_wait = {key_wait}")));
        let answer = edge.ask(with_token("reference"));
        (edge, answer)
    };
    for (timeout, key_wait) in [(300, 5000), (5000, 300)] {
        let (edge, answer) = answers(asking(timeout), key_wait);
        row.is_answer(&edge, &answer);
        assert!(answer.field("retry-after").is_some());
        row.shows(&edge, "");
        let says_whose_limit = edge.errors().text().contains("timeouts.key_wait");
        assert_eq!(says_whose_limit, key_wait < timeout, "{}", edge.errors().text());
    }
    let (edge, answer) = answers(asking(5000), 5000);
    assert_eq!(answer.status(), 200, "{}", edge.output());
}

/// upstream-oauth with these members of its record `client`.
fn own_token(issuer: &Issuer, client: Value) -> Value {
    let oauth =
        json!({"token_endpoint": format!("{}/token", issuer.url()), "client_id": "edge", "client_secret": "secret"});
    json!([{"name": "upstream-oauth", "config": {"oauth": oauth, "client": client}}])
}

pub(super) fn no_token(row: &Row) {
    let scene = Scene::start();
    scene.issuer.answer("/token", |request| match request.field("authorization") {
        Some(_) => good(&json!({"access_token": "own-token", "token_type": "Bearer", "expires_in": 300})),
        None => error("invalid_request", "Unsupported client authentication method"),
    });
    let edge = scene.plugins(own_token(&scene.issuer, json!({})), |setup| setup);
    let answer = edge.ask(get("/orders", &[]));
    assert!(answer.text().contains("Failed to authenticate request to upstream"), "{}", answer.text());
    row.is_answer(&edge, &answer);
    row.shows(&edge, "");
    assert!(scene.upstream.requests().is_empty());
    let basic = json!({"auth_method": "client_secret_basic"});
    let edge = scene.plugins(own_token(&scene.issuer, basic), |setup| setup);
    assert_eq!(edge.ask(get("/orders", &[])).status(), 200, "{}", edge.output());
    assert_eq!(scene.upstream.last().field("authorization"), Some("Bearer own-token"));
}

pub(super) fn refused_post(row: &Row) {
    let (revoked, issued) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let is_revoked = revoked.clone();
    let scene = Scene::before(choosy(move |value| value != "Bearer own-0" || !is_revoked.load(Ordering::SeqCst)));
    scene.issuer.answer("/token", move |_| {
        let token = format!("own-{}", issued.fetch_add(1, Ordering::SeqCst));
        good(&json!({"access_token": token, "token_type": "Bearer", "expires_in": 300}))
    });
    let post = "POST /orders HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}";
    let start = || scene.plugins(own_token(&scene.issuer, json!({})), |setup| setup.log("level = \"debug\""));
    let edge = start();
    assert_eq!(edge.ask(post).status(), 200);
    revoked.store(true, Ordering::SeqCst);
    let line = row.happens(&edge, post);
    assert_eq!(line["upstream"], scene.upstream.address().to_string());
    row.shows(&edge, "");
    assert_eq!((edge.ask(post).status(), scene.upstream.requests().len()), (200, 3), "a POST is never sent twice");
}

pub(super) fn own_401(row: &Row) {
    let scene = Scene::before(choosy(|value| value.starts_with("Bearer ")));
    let token = scene.token(json!({}));
    let edge = scene.edge(json!({"upstream_access_token_header": "Authorization"}));
    is_of_the_service(row, &edge, &scene.upstream, &token);
    row.shows(&edge, &explain(&edge.path("edge.toml"), &["--route", "all"], &token).out);
    passes(&scene.edge(json!({"upstream_access_token_header": "authorization:bearer"})), &token);
}

pub(super) fn added(row: &Row) {
    let scene = Scene::before(choosy(|value| value == "Bearer of-the-service"));
    let token = scene.token(json!({}));
    let guard = json!({"name": "openid-connect", "config": bearer(&scene.issuer.url())});
    let transformer = |way: &str| json!({"name": "request-transformer", "config": {way: {"headers": ["Authorization:Bearer of-the-service"]}}});
    let edge = scene.plugins(json!([guard, transformer("add")]), |setup| setup);
    is_of_the_service(row, &edge, &scene.upstream, &token);
    row.shows(&edge, "");
    passes(&scene.plugins(json!([guard, transformer("replace")]), |setup| setup), &token);
    scene.issuer.answer("/token", |_| {
        good(&json!({"access_token": "of-the-service", "token_type": "Bearer", "expires_in": 300}))
    });
    let own = own_token(&scene.issuer, json!({}));
    passes(&scene.plugins(json!([guard, own[0]]), |setup| setup), &token);
}

/// An edge whose jwt-signer has this configuration.
fn signer(scene: &Scene, config: Value, change: impl FnOnce(Setup) -> Setup) -> Edge {
    scene.plugins(json!([{"name": "jwt-signer", "config": config}]), change)
}

/// The configuration that takes the scene's tokens.
fn signing(scene: &Scene) -> Value {
    json!({"access_token_jwks_uri": format!("{}/jwks", scene.issuer.url()), "channel_token_optional": true})
}

pub(super) fn no_channel(row: &Row) {
    let scene = Scene::start();
    let config = json!({"access_token_jwks_uri": format!("{}/jwks", scene.issuer.url())});
    let edge = signer(&scene, config.clone(), |setup| setup.section(IN_MEMORY));
    let token = scene.token(json!({}));
    row.happens(&edge, with_token(&token));
    row.shows(&edge, "");
    let optional = plus(config, json!({"channel_token_optional": true}));
    passes(&signer(&scene, optional, |setup| setup.section(IN_MEMORY)), &token);
}

pub(super) fn no_key(row: &Row) {
    let scene = Scene::start();
    let private = Issuer::start(&[]);
    private.fail(Fault::Status(500));
    let config = |set: &str| plus(signing(&scene), json!({"access_token_keyset": set}));
    let edge = signer(&scene, config(&format!("{}/private", private.url())), |setup| setup.section(IN_MEMORY));
    let token = scene.token(json!({}));
    row.happens(&edge, with_token(&token));
    row.shows(&edge, "");
    passes(&signer(&scene, config("orders"), |setup| setup.section(IN_MEMORY)), &token);
}

pub(super) fn no_set(row: &Row) {
    let scene = Scene::start();
    let token = scene.token(json!({}));
    let edge = signer(&scene, json!({"channel_token_optional": true}), |setup| setup.section(IN_MEMORY));
    row.happens(&edge, with_token(&token));
    let said = explain(&edge.path("edge.toml"), &["--route", "all"], &token);
    row.shows(&edge, &said.out);
    assert!(said.out.contains("`access_token_jwks_uri`"), "{}", said.out);
    passes(&signer(&scene, signing(&scene), |setup| setup.section(IN_MEMORY)), &token);
}

pub(super) fn other_keys(row: &Row) {
    // The service knows the set that the edge published before.
    let known = Arc::new(Mutex::new(Value::Null));
    let trusted = known.clone();
    let scene = Scene::before(choosy(move |value| {
        let set = trusted.lock().unwrap().clone();
        set.is_null() || jose::verify(&set, value.trim_start_matches("Bearer ")).is_ok()
    }));
    let token = scene.token(json!({}));
    let fetched = |edge: &Edge| {
        passes(edge, &token);
        *known.lock().unwrap() = edge.admin_get("/jwt-signer/jwks/kong").json();
        passes(edge, &token);
    };
    let start = |sections: &str| {
        signer(&scene, signing(&scene), |setup| {
            setup.section(sections).file("node.key", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
        })
    };
    let edge = start(IN_MEMORY);
    fetched(&edge);
    edge.stop();
    let edge = start(IN_MEMORY);
    is_of_the_service(row, &edge, &scene.upstream, &token);
    row.shows(&edge, "");
    let store = tempfile::tempdir().unwrap();
    let sealed = format!(
        "[store]\npath = \"{}\"\n[secrets]\nkey_file = \"node.key\"\n[key_sets]\nprivate_keys = \"sealed\"\npublish_ahead = 0",
        store.path().join("edge.db").display()
    );
    *known.lock().unwrap() = Value::Null;
    let edge = start(&sealed);
    fetched(&edge);
    edge.stop();
    passes(&start(&sealed), &token);
}

pub(super) fn framing(row: &Row) {
    let scene = Scene::start();
    let edge = scene.edge(json!({}));
    let field = format!("Authorization: Bearer {}", scene.token(json!({})));
    for odd in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Content-Length: 2\r\nContent-Length: 3",
        "X-Folded: a\r\n b",
    ] {
        row.happens(&edge, format!("POST /orders HTTP/1.1\r\nHost: test\r\n{field}\r\n{odd}\r\n\r\n{{}}"));
    }
    let plain = format!("POST /orders HTTP/1.1\r\nHost: test\r\n{field}\r\nContent-Length: 2\r\n\r\n{{}}");
    assert_eq!(edge.ask(plain).status(), 200);
}
