//! Tokens that arrive, and that a check refuses every time.

use std::time::{Duration, SystemTime};

use edge_tests::issuer::Fault;
use edge_tests::mint::{flip, now};
use edge_tests::parties::OidcProvider;
use edge_tests::reply::Reply;

use super::*;
use crate::introspection::wait;
use crate::possession::thumbprint;

pub(super) fn issuer(row: &Row) {
    let scene = Scene::start();
    let url = scene.issuer.url();
    for issuer in [format!("{url}/"), url.replace("http:", "https:"), url.replace("127.0.0.1", "localhost")] {
        let token = scene.token(json!({"iss": issuer}));
        row.is_explained(&scene.edge(json!({})), &token);
        passes(&scene.edge(json!({"issuers_allowed": [url, issuer]})), &token);
    }
}

pub(super) fn audience(row: &Row) {
    let scene = Scene::start();
    let token = scene.token(json!({"aud": "api://other", "azp": AUDIENCE}));
    row.is_explained(&scene.edge(json!({})), &token);
    passes(&scene.edge(json!({"audience_required": [AUDIENCE, "api://other"]})), &token);
    passes(&scene.edge(json!({"audience_claim": ["azp"]})), &token);
}

pub(super) fn expired(row: &Row) {
    let scene = Scene::start();
    let token = scene.token(json!({"exp": now() - 20}));
    row.is_explained(&scene.edge(json!({})), &token);
    passes(&scene.edge(json!({"leeway": 120})), &token);
}

pub(super) fn clock(row: &Row) {
    let scene = Scene::start();
    let url = scene.issuer.url();
    scene.issuer.answer("/.well-known/openid-configuration", move |_| {
        let ahead = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let fields = format!("Content-Type: application/json\r\nDate: {ahead}\r\n");
        let document = json!({"issuer": url, "jwks_uri": format!("{url}/jwks")});
        Reply::new("200 OK", &fields, &document.to_string())
    });
    let token = scene.token(json!({"nbf": now() + 60}));
    let edge = scene.edge(json!({}));
    row.happens(&edge, with_token(&token));
    let said = explain(&edge.path("edge.toml"), &["--route", "all"], &token);
    row.shows(&edge, &format!("{}{}", said.out, doctor(&edge.path("edge.toml"))));
    passes(&scene.edge(json!({"leeway": 120})), &token);
}

pub(super) fn scope(row: &Row) {
    let scene = Scene::start();
    let required = json!({"scopes_required": ["orders:read"]});
    let token = scene.token(json!({"scope": null, "scp": ["orders:read", "orders:write"]}));
    row.is_explained(&scene.edge(required.clone()), &token);
    passes(&scene.edge(plus(required.clone(), json!({"scopes_claim": ["scp"]}))), &token);
    passes(&scene.edge(required), &scene.token(json!({"scope": "orders:read"})));
}

pub(super) fn role(row: &Row) {
    let scene = Scene::start();
    let required = json!({"roles_required": ["clerk"]});
    let token = scene.token(json!({"realm_access": {"roles": ["clerk"]}}));
    row.is_explained(&scene.edge(required.clone()), &token);
    passes(&scene.edge(plus(required, json!({"roles_claim": ["realm_access", "roles"]}))), &token);
}

pub(super) fn algorithm(row: &Row) {
    let scene = Scene::start();
    let token = scene.token(json!({}));
    row.is_explained(&scene.edge(json!({"algorithms_allowed": ["RS256"]})), &token);
    passes(&scene.edge(json!({"algorithms_allowed": ["RS256", "ES256"]})), &token);
}

pub(super) fn signature(row: &Row) {
    let scene = Scene::start();
    let edge = scene.edge(json!({}));
    let token = scene.token(json!({}));
    // Changed on the way, and by another environment's key of the same name.
    row.is_explained(&edge, &flip(&token));
    row.is_explained(&edge, &Key::es256("es-1").token(&mint::claims(&scene.issuer.url(), AUDIENCE)));
    passes(&edge, &token);
}

pub(super) fn other_set(row: &Row) {
    let scene = Scene::start();
    let other = Key::es256("es-2");
    let elsewhere = Issuer::start(&[&other]);
    let token = other.token(&mint::claims(&scene.issuer.url(), AUDIENCE));
    row.is_explained(&scene.edge(json!({})), &token);
    passes(&scene.edge(json!({"extra_jwks_uris": [format!("{}/jwks", elsewhere.url())]})), &token);
}

pub(super) fn keys(row: &Row) {
    let scene = Scene::start();
    scene.issuer.fail(Fault::Status(502));
    let edge = scene.set_up(json!({}), |setup| setup.section("[timeouts]\nkey_wait = 500"));
    let token = scene.token(json!({}));
    let answer = edge.ask(with_token(&token));
    row.is_answer(&edge, &answer);
    assert!(answer.field("retry-after").is_some());
    let said = explain(&edge.path("edge.toml"), &["--route", "all"], &token);
    assert_eq!(said.code, 2, "{}", said.out);
    row.shows(&edge, &format!("{}{}", said.out, doctor(&edge.path("edge.toml"))));
    scene.issuer.recover();
    wait(|| edge.ask(with_token(&token)).status() == 200, "the keys, without a restart");
}

pub(super) fn authority(row: &Row) {
    let (issuer, upstream) = (OidcProvider::start(), Upstream::start());
    let keys = format!("{}/jwks", issuer.secure_url());
    let config = json!({"issuer": issuer.url(), "auth_methods": ["bearer"], "jwks_endpoint": keys});
    let setup = || Setup::new(guarded(&upstream.url(), config.clone())).section("[timeouts]\nkey_wait = 500");
    let token = issuer.token("RS256");
    let edge = setup().start();
    row.happens(&edge, with_token(&token));
    row.shows(&edge, &explain(&edge.path("edge.toml"), &["--route", "all"], &token).out);
    let trusting = setup().env("SSL_CERT_FILE", &issuer.root()).start();
    wait(|| trusting.ask(with_token(&token)).status() == 200, "the keys over trusted TLS");
}

pub(super) fn id_token(row: &Row) {
    let scene = Scene::start();
    let claims = with(mint::claims(&scene.issuer.url(), AUDIENCE), json!({"nonce": "n-1"}));
    let token = scene.key.sign(&with(scene.key.header(), json!({"typ": "JWT"})), &claims);
    row.is_explained(&scene.edge(json!({})), &token);
    passes(&scene.edge(json!({"id_tokens_refused": false})), &token);
    passes(&scene.edge(json!({})), &scene.token(json!({})));
}

const TRUSTED: &str = "[proxy]\ntrusted_ips = [\"127.0.0.1\"]\nreal_ip_header = \"X-Forwarded-For\"";

pub(super) fn addresses(row: &Row) {
    let scene = Scene::start();
    let plugins = json!([{"name": "ip-restriction", "config": {"allow": ["203.0.113.0/24"]}}]);
    let request = get("/orders", &["X-Forwarded-For: 203.0.113.7"]);
    let edge = scene.plugins(plugins.clone(), |setup| setup);
    let line = row.happens(&edge, &request);
    assert_eq!(line["client"], "127.0.0.1", "the neighbour's address");
    row.shows(&edge, "");
    let trusting = scene.plugins(plugins, |setup| setup.section(TRUSTED));
    assert_eq!(trusting.ask(&request).status(), 200);
    assert_eq!(trusting.access(|line| line["status"] == 200)["client"], "203.0.113.7");
}

pub(super) fn scheme(row: &Row) {
    let scene = Scene::start();
    let route = json!({"name": "all", "paths": ["/"], "protocols": ["https"]});
    let setup = || Setup::new(entities(&scene.upstream.url(), json!([route])));
    let request = get("/orders", &["X-Forwarded-Proto: https"]);
    row.happens(&setup().start(), &request);
    assert_eq!(setup().section(TRUSTED).start().ask(&request).status(), 200);
}

pub(super) fn proof(row: &Row) {
    let scene = Scene::start();
    let own = Key::es256("own");
    let token = scene.token(json!({"cnf": {"jkt": thumbprint(&own)}}));
    // The client proves the URL that it asked for; the F5 ended its TLS.
    let request = || {
        let proof = proof_of(&own, &token);
        get("/orders", &[&format!("Authorization: DPoP {token}"), &proof, "X-Forwarded-Proto: https"])
    };
    let config = json!({"proof_of_possession_dpop": "optional"});
    let edge = scene.edge(config.clone());
    row.happens(&edge, request());
    let file = edge.path("proof");
    std::fs::write(&file, proof_of(&own, &token).split_once(": ").unwrap().1).unwrap();
    let arguments = ["--route", "all", "--dpop-file", file.to_str().unwrap(), "--path", "http://test/orders"];
    row.shows(&edge, &explain(&edge.path("edge.toml"), &arguments, &token).out);
    let trusting = scene.set_up(config, |setup| setup.section(TRUSTED));
    assert_eq!(trusting.ask(request()).status(), 200, "{}", trusting.output());
}

fn proof_of(own: &Key, token: &str) -> String {
    format!("DPoP: {}", crate::possession::proof(own, token, json!({"htu": "https://test/orders"})))
}
