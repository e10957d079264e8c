//! What passes once and is refused another time: caches, rotations, several nodes, restarts, reloads, one caller among others.

use edge_tests::edge::free_address;
use edge_tests::issuer::Fault;

use super::*;
use crate::introspection::wait;

/// openid-connect that asks about opaque tokens.
fn asking() -> Value {
    json!({"auth_methods": ["bearer", "introspection"], "client_id": ["edge"], "client_secret": ["secret"]})
}

pub(super) fn revoked(row: &Row) {
    let scene = Scene::start();
    let token = "reference-token-0123456789";
    let log_out = |config: Value| {
        let config = plus(asking(), config);
        let edge = scene.edge(config);
        scene.issuer.know(token, json!({"active": true, "aud": AUDIENCE, "exp": mint::now() + 600}));
        passes(&edge, token);
        scene.issuer.forget(token);
        edge
    };
    // The answer is kept until `exp`, with `cache_ttl: 0` as well; `edge explain` asks anew.
    for config in [json!({}), json!({"cache_ttl": 0})] {
        let edge = log_out(config);
        passes(&edge, token);
        let said = explain(&edge.path("edge.toml"), &["--route", "all"], token);
        assert!(said.code == 1 && said.out.contains("reason token_inactive"), "{}", said.out);
    }
    row.is_explained(&log_out(json!({"cache_introspection": false})), token);
    let edge = log_out(json!({"cache_ttl_max": 1}));
    wait(|| edge.ask(with_token(token)).status() == 401, "the answer's end");
}

pub(super) fn revoked_jwt(row: &Row) {
    let scene = Scene::start();
    let token = scene.token(json!({}));
    let edge = scene.edge(json!({}));
    row.happens(&edge, with_token(&token));
    row.shows(&edge, &explain(&edge.path("edge.toml"), &["--route", "all"], &token).out);
    let asking = scene.edge(plus(asking(), json!({"introspect_jwt_tokens": true})));
    let answer = asking.ask(with_token(&token));
    assert_eq!((answer.status(), asking.reason_of(&answer).as_str()), (401, "token_inactive"));
    let other = scene.token(json!({"jti": "not-revoked"}));
    scene.issuer.know(&other, json!({"active": true, "aud": AUDIENCE}));
    passes(&asking, &other);
}

pub(super) fn rotated(row: &Row) {
    let scene = Scene::start();
    let edge = scene.edge(json!({"rediscovery_lifetime": 1}));
    passes(&edge, &scene.token(json!({})));
    // The issuer signs before it publishes.
    let next = Key::es256("es-2");
    let token = next.token(&mint::claims(&scene.issuer.url(), AUDIENCE));
    for _ in 0..5 {
        row.is_explained(&edge, &token);
    }
    scene.issuer.rotate(&[&scene.key, &next]);
    wait(|| edge.ask(with_token(&token)).status() == 200, "the new key");
    passes(&edge, &scene.token(json!({"jti": "of the old key"})));
}

pub(super) fn nodes(row: &Row) {
    let scene = Scene::start();
    let key = Key::es256("node-2");
    let second = Issuer::start(&[&key]);
    let (first, token) = (scene.token(json!({})), key.token(&mint::claims(&second.url(), AUDIENCE)));
    let edge = scene.edge(json!({}));
    for _ in 0..3 {
        passes(&edge, &first);
        row.is_explained(&edge, &token);
    }
    let both = json!({"issuers_allowed": [scene.issuer.url(), second.url()],
        "extra_jwks_uris": [format!("{}/jwks", second.url())]});
    let edge = scene.edge(both);
    passes(&edge, &first);
    passes(&edge, &token);
}

pub(super) fn restarted(row: &Row) {
    let (upstream, key, address) = (Upstream::start(), Key::es256("es-1"), free_address());
    let url = format!("http://{address}");
    let store = tempfile::tempdir().unwrap();
    let path = store.path().join("edge.db");
    let section = format!("[store]\npath = \"{}\"\n[timeouts]\nkey_wait = 500", path.display());
    let setup = || Setup::new(guarded(&upstream.url(), bearer(&url)));
    let token = key.token(&mint::claims(&url, AUDIENCE));
    // Nothing of its keys is known yet: it recovers by itself.
    let edge = setup().section(&section).start();
    row.happens(&edge, with_token(&token));
    row.shows(&edge, "");
    let issuer = Issuer::at(address, &[&key]);
    wait(|| edge.ask(with_token(&token)).status() == 200, "the issuer to be found");
    let stored = || {
        let file = |name| std::fs::read(store.path().join(name)).unwrap_or_default();
        [file("edge.db"), file("edge.db-wal")].concat().windows(9).any(|window| window == b"\"jwks_uri")
    };
    wait(stored, "the keys to be stored");
    edge.stop();
    // Another file, as on a disk that does not stay, and the same one.
    issuer.fail(Fault::Close);
    row.happens(&setup().section("[timeouts]\nkey_wait = 500").start(), with_token(&token));
    let edge = setup().section(&section).start();
    wait(|| edge.ask(with_token(&token)).status() == 200, "the stored keys");
}

pub(super) fn not_reloaded(row: &Row) {
    let scene = Scene::start();
    let edge = scene.edge(json!({"audience_required": ["api://old"]}));
    let token = scene.token(json!({}));
    row.happens(&edge, with_token(&token));
    let mistaken = scene.entities(json!({})).replace("audience_required", "audience_requird");
    edge.reload(&mistaken, "audience_requird");
    row.happens(&edge, with_token(&token));
    row.shows(&edge, "");
    let check = edge.command(&["check"]);
    let said = [check.stdout, check.stderr].concat();
    assert!(!check.status.success() && String::from_utf8_lossy(&said).contains("audience_requird"));
    std::fs::write(edge.path("kong.yaml"), scene.entities(json!({}))).unwrap();
    assert!(edge.command(&["check"]).status.success());
    edge.reload(&scene.entities(json!({})), "configuration loaded");
    wait(|| edge.ask(with_token(&token)).status() == 200, "the corrected file");
}

pub(super) fn one_consumer(row: &Row) {
    let scene = Scene::start();
    let edge = |by: Value| {
        let config = json!({"consumer_claim": ["sub"], "consumer_by": by});
        let mut entities: Value = serde_json::from_str(&scene.entities(config)).unwrap();
        entities["consumers"] = json!([{"username": "alice"}, {"username": "orders batch", "custom_id": "batch-7"}]);
        Setup::new(entities.to_string()).start()
    };
    let (alice, batch) = (scene.token(json!({"sub": "alice"})), scene.token(json!({"sub": "batch-7"})));
    let by_name = edge(json!(["username"]));
    for _ in 0..3 {
        passes(&by_name, &alice);
        row.is_explained(&by_name, &batch);
    }
    assert_eq!(by_name.access(|line| line["status"] == 403)["credential"], "batch-7");
    let by_both = edge(json!(["username", "custom_id"]));
    passes(&by_both, &alice);
    passes(&by_both, &batch);
}
