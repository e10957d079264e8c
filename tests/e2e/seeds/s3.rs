//! The introspection page: its configuration in front of a certified issuer, which stands for Keycloak.

use std::time::Duration;

use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::{Fault, Issuer, form};
use edge_tests::mint::{self, Key};
use edge_tests::parties::{Httpbin, OidcProvider, curl_status};
use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::{Value, json};

use crate::{AUDIENCE, guarded, plus, with_token};

/// The plugin as the page has it.
fn page(issuer: &str, (id, secret): (&str, &str)) -> Value {
    json!({
        "issuer": issuer, "client_id": [id], "client_secret": [secret], "client_auth": ["client_secret_post"],
        "auth_methods": ["introspection"], "bearer_token_param_type": ["header"],
    })
}

/// The page's plugin, changed, in front of an upstream and behind the harness's issuer.
fn edge(issuer: &Issuer, upstream: &Upstream, changes: Value) -> Edge {
    let config = plus(page(&issuer.url(), ("kong", "kong-secret")), changes);
    Setup::new(guarded(&upstream.url(), config)).start()
}

#[test]
fn s3_1() {
    // Global, as the page posts it to `/plugins/`, with `"tags": []`; by the declarative file for now.
    let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
    let plugin = json!({"name": "openid-connect", "tags": [], "config": page(&issuer.url(), ("kong", "kong-secret"))});
    let entities = json!({"_format_version": "3.0", "plugins": [plugin],
        "services": [{"name": "up", "url": upstream.url(), "routes": [{"name": "all", "paths": ["/"]}]}]});
    let edge = Setup::new(entities.to_string()).start();
    issuer.know("good", json!({"active": true}));
    assert_eq!((edge.ask(with_token("good")).status(), edge.ask(with_token("bad")).status()), (200, 401));
}

#[test]
fn s3_2() {
    let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
    let edge = edge(&issuer, &upstream, json!({}));
    issuer.know("good", json!({"active": true}));
    assert_eq!(edge.ask(with_token("good")).status(), 200);
    assert_eq!(issuer.requests("/.well-known/openid-configuration")[0].method(), "GET");
    let request = issuer.last("/introspect");
    assert_eq!(request.method(), "POST");
    assert_eq!(request.field("content-type"), Some("application/x-www-form-urlencoded"));
    let mut fields = form(&request);
    fields.sort();
    let expected = [
        ("client_id", "kong"),
        ("client_secret", "kong-secret"),
        ("token", "good"),
        ("token_type_hint", "access_token"),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn s3_3() {
    // Client, gateway, issuer, upstream and back, between programs that know nothing of one another.
    let (issuer, httpbin) = (OidcProvider::start(), Httpbin::start());
    let edge = Setup::new(guarded(&httpbin.url(), page(issuer.url(), OidcProvider::POST))).start();
    let token = issuer.token("opaque");
    let url = format!("http://{}/anything", edge.address());
    let (status, body) = curl_status(&["-H", &format!("Authorization: Bearer {token}"), &url]);
    assert_eq!(status, 200, "{body}\n{}", edge.errors().text());
    let seen: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(seen["headers"]["Authorization"], format!("Bearer {token}"));
    assert_eq!(issuer.introspections(&token), 1);
    let (status, body) = curl_status(&["-H", "Authorization: Bearer nobody-issued-this", &url]);
    assert_eq!((status, body.as_str()), (401, "{\"message\":\"Unauthorized\"}"));
    assert_eq!(curl_status(&[&url]).0, 401);
}

#[test]
fn s3_4() {
    let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
    issuer.know("good", json!({"active": true}));
    let form = |body: &str| {
        let kind = "Content-Type: application/x-www-form-urlencoded";
        format!("POST /orders HTTP/1.1\r\nHost: t\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let strict = edge(&issuer, &upstream, json!({}));
    assert_eq!(strict.ask(get("/orders?access_token=good", &[])).status(), 401);
    assert_eq!(strict.ask(form("access_token=good")).status(), 401);
    assert!(upstream.requests().is_empty());
    let wide = edge(&issuer, &upstream, json!({"bearer_token_param_type": ["header", "query", "body"]}));
    assert_eq!(wide.ask(get("/orders?access_token=good", &[])).status(), 200);
    assert_eq!(wide.ask(form("access_token=good&x=1")).status(), 200);
    assert_eq!(upstream.last().method(), "POST");
    assert_eq!(wide.ask(form("access_token=bad")).status(), 401);
    assert_eq!(wide.ask(with_token("good")).status(), 200);
}

#[test]
fn s3_5() {
    let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
    let issuer = Issuer::start(&[&key]);
    let edge = edge(&issuer, &upstream, json!({}));
    let token = key.token(&mint::claims(&issuer.url(), AUDIENCE));
    assert_eq!(edge.ask(with_token(&token)).status(), 401, "its signature is good, the issuer does not know it");
    let known = key.token(&mint::with(mint::claims(&issuer.url(), AUDIENCE), json!({"jti": "known"})));
    issuer.know(&known, json!({"active": true}));
    assert_eq!(edge.ask(with_token(&known)).status(), 200);
    assert_eq!((issuer.introspections(&token), issuer.introspections(&known)), (1, 1));
}

#[test]
fn s3_6() {
    let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
    let ask = |changes: Value, times: usize| {
        let token = format!("token-{}", changes.to_string().len());
        issuer.know(&token, json!({"active": true, "exp": mint::now() + 600}));
        let edge = edge(&issuer, &upstream, changes);
        for _ in 0..times {
            assert_eq!(edge.ask(with_token(&token)).status(), 200);
        }
        issuer.introspections(&token)
    };
    assert_eq!(ask(json!({}), 3), 1);
    assert_eq!(ask(json!({"cache_introspection": false}), 3), 3);
}

#[test]
fn s3_7() {
    let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
    for (fault, status) in
        [(None, 401), (Some(Fault::InvalidClient), 503), (Some(Fault::Slow(Duration::from_secs(4))), 503)]
    {
        let edge = edge(&issuer, &upstream, json!({"timeout": 500}));
        if let Some(fault) = fault {
            issuer.fail_at("/introspect", fault);
        }
        let answer = edge.ask(with_token("unknown"));
        assert_eq!(answer.status(), status);
        assert_eq!(answer.field("retry-after").is_some(), status == 503);
        issuer.recover();
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn s3_8() {
    // The page's plugin with each of the other ways; `introspection/clients.rs` goes further.
    let (issuer, upstream) = (OidcProvider::start(), Upstream::start());
    let id = "44444444-4444-4444-8444-444444444444";
    let certificate = json!({"tls_client_auth_cert_id": id});
    let rows = [
        ("client_secret_post", page(issuer.url(), OidcProvider::POST)),
        ("client_secret_basic", page(issuer.url(), OidcProvider::BASIC)),
        ("client_secret_jwt", page(issuer.url(), OidcProvider::SECRET_JWT)),
        (
            "private_key_jwt",
            plus(page(issuer.url(), (OidcProvider::KEY_JWT, "")), json!({"client_jwk": [issuer.client_jwk("RS256")]})),
        ),
        ("tls_client_auth", plus(page(issuer.url(), (OidcProvider::MTLS, "")), certificate)),
        ("none", page(issuer.url(), (OidcProvider::PUBLIC, ""))),
    ];
    let route = |(method, config): &(&str, Value)| {
        let mut config = plus(config.clone(), json!({"client_auth": [method]}));
        if config["client_secret"] == json!([""]) {
            config.as_object_mut().unwrap().remove("client_secret");
        }
        let plugins = json!([{"name": "openid-connect", "config": config}]);
        json!({"name": method, "paths": [format!("/{method}")], "plugins": plugins})
    };
    let pair = issuer.client_pair();
    let entities = json!({"_format_version": "3.0",
        "certificates": [{"id": id, "cert": pair.certificate, "key": pair.key}],
        "services": [{"name": "up", "url": upstream.url(), "routes": rows.iter().map(route).collect::<Value>()}]});
    let edge = Setup::new(entities.to_string()).env("SSL_CERT_FILE", &issuer.root()).start();
    let token = issuer.token("opaque");
    for (method, _) in &rows {
        let answer = edge.ask(get(&format!("/{method}"), &[&format!("Authorization: Bearer {token}")]));
        assert_eq!(answer.status(), 200, "{method}: {}\n{}", answer.text(), edge.errors().text());
    }
}
