//! openid-connect over sockets: which credential is read, what each refusal looks like, what the operator sees.

use edge_tests::edge::Setup;
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key, RSA_A, RSA_B, flip, unsigned, with};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{AUDIENCE, Guarded, bearer, entities, guarded, plus, with_token};

/// The challenge without its realm: `None` where no error is named.
fn challenge(answer: &Message) -> Option<String> {
    let value = answer.field("www-authenticate").expect("a challenge").to_owned();
    assert!(value.starts_with("Bearer realm=\""), "{value}");
    value.split_once("error=\"").map(|(_, rest)| rest.split('"').next().unwrap().to_owned())
}

/// One token, and what comes of it.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) token: String,
    pub(super) status: u16,
    /// The code; empty where any will do.
    pub(super) reason: &'static str,
    /// What the error log says.
    words: &'static str,
}

/// One thing wrong at a time, beside the good token.
pub(super) fn s0_matrix(good: &Guarded) -> Vec<Row> {
    let (key, claims) = (&good.key, good.claims());
    let other = Key::es256("es-1");
    let now = mint::now();
    let changed = |changes: Value| key.token(&with(claims.clone(), changes));
    // An ID token is not typed as an access token is (RFC 9068, 2.1).
    let untyped = |changes: Value| key.sign(&with(key.header(), json!({"typ": "JWT"})), &with(claims.clone(), changes));
    let headed = |changes: Value| key.sign(&with(key.header(), changes), &claims);
    let rows: Vec<(&str, String, u16, &str, &str)> = vec![
        ("good", good.token(), 200, "", ""),
        ("expired", changed(json!({"exp": now - 3600})), 401, "token_expired", "token expired"),
        ("not yet", changed(json!({"nbf": now + 3600})), 401, "token_not_yet_valid", "invalid nbf claim"),
        ("audience", changed(json!({"aud": "api://other"})), 403, "audience_not_allowed", "audience not allowed"),
        ("no audience", changed(json!({"aud": null})), 403, "audience_not_allowed", "audience not allowed"),
        ("issuer", changed(json!({"iss": "https://evil.example"})), 401, "issuer_not_allowed", "issuer not allowed"),
        (
            "issuer with slash",
            changed(json!({"iss": format!("{}/", good.issuer.url())})),
            401,
            "issuer_not_allowed",
            "issuer not allowed",
        ),
        ("flipped", flip(&good.token()), 401, "signature_invalid", "signature verification failed"),
        ("another's key", other.token(&claims), 401, "signature_invalid", "signature verification failed"),
        ("unknown kid", headed(json!({"kid": "nobody"})), 401, "kid_unknown", "jwks"),
        ("none", unsigned(&json!({"alg": "none"}), &claims, ""), 401, "", "bearer"),
        ("None", unsigned(&json!({"alg": "NoNe", "kid": "es-1"}), &claims, "AA"), 401, "alg_not_allowed", "algorithm"),
        ("other alg", headed(json!({"alg": "RS256"})), 401, "alg_not_allowed", "algorithm"),
        ("lower alg", headed(json!({"alg": "es256"})), 401, "alg_not_allowed", "algorithm"),
        ("id token", untyped(json!({"nonce": "n", "aud": ["app", AUDIENCE]})), 401, "id_token_used", "ID token"),
        ("at_hash", untyped(json!({"at_hash": "x"})), 401, "id_token_used", "ID token"),
        ("no exp", changed(json!({"exp": null})), 401, "claim_invalid", "jwt"),
        ("exp as text", changed(json!({"exp": "9999999999"})), 401, "claim_invalid", "jwt"),
        ("bound", changed(json!({"cnf": {"jkt": "x"}})), 401, "token_bound", "bound"),
        ("opaque", "opaque-token-0123456789".into(), 401, "introspection_unavailable", "introspection"),
        ("two parts", good.token().rsplit_once('.').unwrap().0.into(), 401, "", "bearer"),
        ("typ JWT", untyped(json!({})), 200, "", ""),
        ("array audience", changed(json!({"aud": ["x", AUDIENCE]})), 200, "", ""),
    ];
    let row = |(name, token, status, reason, words)| Row { name, token, status, reason, words };
    rows.into_iter().map(row).collect()
}

#[test]
fn the_s0_matrix() {
    // S0, T1, T31, T32, T33, T37, L4
    let good = Guarded::start();
    let rows = s0_matrix(&good);
    let answers: Vec<Message> = rows.iter().map(|row| good.edge.ask(with_token(&row.token))).collect();
    let passed = rows.iter().filter(|row| row.status == 200).count();
    assert_eq!(good.upstream.requests().len(), passed, "only good tokens reach the upstream");
    for (Row { name, status, reason, words, .. }, answer) in rows.iter().zip(&answers) {
        assert_eq!(answer.status(), *status, "{name}: {}", answer.text());
        match status {
            200 => continue,
            403 => {
                assert_eq!(answer.text(), "{\"message\":\"Forbidden\"}", "{name}");
                assert_eq!(challenge(answer).as_deref(), Some("insufficient_scope"), "{name}");
            }
            _ => {
                assert_eq!(answer.text(), "{\"message\":\"Unauthorized\"}", "{name}");
                assert_eq!(challenge(answer).as_deref(), Some("invalid_token"), "{name}");
            }
        }
        assert_eq!(answer.field("content-type"), Some("application/json; charset=utf-8"), "{name}");
        // T17: the answer does not say which check failed.
        assert!(!String::from_utf8_lossy(&answer.raw).contains("_not_allowed"), "{name}");
        let seen = good.edge.reason_of(answer);
        assert!(reason.is_empty() || seen == *reason, "{name}: {seen}");
        let id = answer.field("x-kong-request-id").unwrap();
        let line = good.edge.logged(id);
        let grep = ["oidc", "jwt", "introspect", "jwks", "bearer", "signature", "aud", "iss"];
        assert!(grep.iter().any(|word| line.to_lowercase().contains(word)), "{name}: {line}");
        assert!(line.to_lowercase().contains(&words.to_lowercase()), "{name}: {line}");
        assert!(line.contains("route=all") || line.contains("route=\"all\""), "{name}: {line}");
        assert!(line.contains(&format!("issuer=\"{}\"", good.issuer.url())), "{name}: {line}");
    }
}

#[test]
fn credentials_that_are_none() {
    // T37, T40, T41, T42, S0.3, S0.11
    let good = Guarded::start();
    let token = good.token();
    let line = |value: &str| get("/orders", &[&format!("Authorization: {value}")]);
    for (name, request) in [
        ("nothing", get("/orders", &[])),
        ("basic", line("Basic YTpi")),
        ("cookie", get("/orders", &[&format!("Cookie: access_token={token}")])),
        ("proxy", get("/orders", &[&format!("Proxy-Authorization: Bearer {token}")])),
        ("x-", get("/orders", &[&format!("X-Authorization: Bearer {token}")])),
    ] {
        let answer = good.edge.ask(request);
        assert_eq!((answer.status(), answer.text().as_str()), (401, "{\"message\":\"Unauthorized\"}"), "{name}");
        assert_eq!(challenge(&answer), None, "{name}: no credential, no error code (RFC 6750, 3.1)");
        assert_eq!(good.edge.reason_of(&answer), "header_missing", "{name}");
    }
    for (name, request) in [
        ("bare", line(&token)),
        ("no token", line("Bearer")),
        ("empty token", line("Bearer ")),
        ("twice bearer", line(&format!("Bearer Bearer {token}"))),
        ("text behind", line(&format!("Bearer {token} x"))),
        ("quotes", line(&format!("\"Bearer {token}\""))),
        ("quoted token", line(&format!("Bearer \"{token}\""))),
        ("comma", line(&format!("Bearer {token}, Bearer {token}"))),
        ("8 bit", line(&format!("Bearer {token}\u{e4}"))),
        (
            "two fields",
            get("/orders", &[&format!("Authorization: Bearer {token}"), &format!("Authorization: Bearer {token}")]),
        ),
        ("two schemes", get("/orders", &["Authorization: Basic YTpi", &format!("authorization: Bearer {token}")])),
    ] {
        let answer = good.edge.ask(request);
        // RFC 6750, 3.1: what is there twice is a bad request, what is no credential none.
        let expected = if name.starts_with("two ") { 400 } else { 401 };
        assert_eq!(answer.status(), expected, "{name}: {}", answer.start);
    }
    // T43: a trailer is none of the places, wherever it says to be.
    let trailer = format!(
        "POST /orders HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\nConnection: close\r\n\r\n\
         1\r\na\r\n0\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let answer = good.edge.ask(trailer);
    assert_eq!((answer.status(), good.edge.reason_of(&answer).as_str()), (401, "header_missing"));
    assert!(good.upstream.requests().is_empty());
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(good.edge.ask(line(&format!("{scheme} {token}"))).status(), 200, "{scheme}");
    }
    assert_eq!(good.upstream.requests().len(), 3);
}

#[test]
fn a_token_travels_in_one_place() {
    // T38, T39
    let good = Guarded::start();
    let token = good.token();
    let answer = good.edge.ask(get(&format!("/orders?access_token={token}"), &[]));
    assert_eq!(answer.status(), 401, "a token in the query alone is not read");
    let answer =
        good.edge.ask(get(&format!("/orders?access_token={token}"), &[&format!("Authorization: Bearer {token}")]));
    assert_eq!(answer.status(), 400);
    assert_eq!(challenge(&answer).as_deref(), Some("invalid_request"));
    assert!(good.upstream.requests().is_empty());
    assert_eq!(good.edge.ask(get("/orders?token=1", &[&format!("Authorization: Bearer {token}")])).status(), 200);
}

#[test]
fn rights_are_or_of_and() {
    // T34
    let config = json!({
        "scopes_required": ["orders:read orders:write", "admin"], "roles_required": ["clerk"],
        "groups_required": ["eu", "us"], "roles_claim": ["realm_access", "roles"], "groups_claim": ["groups"],
    });
    let good = Guarded::with(config, |setup| setup);
    let full = with(good.claims(), json!({"realm_access": {"roles": ["clerk", "x"]}, "groups": ["us"]}));
    for (changes, status, reason) in [
        (json!({}), 200, ""),
        (json!({"scope": "admin"}), 200, ""),
        (json!({"scope": ["orders:write", "orders:read"]}), 200, ""),
        (json!({"scope": "orders:read"}), 403, "scope_missing"),
        (json!({"scope": "orders:read:all orders:write"}), 403, "scope_missing"),
        (json!({"scope": "xadmin"}), 403, "scope_missing"),
        (json!({"scope": "Admin"}), 403, "scope_missing"),
        (json!({"scope": 1}), 403, "scope_missing"),
        (json!({"scope": {"admin": true}}), 403, "scope_missing"),
        (json!({"scope": null}), 403, "scope_missing"),
        (json!({"realm_access": {"roles": ["guest"]}}), 403, "role_missing"),
        (json!({"realm_access": null}), 403, "role_missing"),
        (json!({"groups": "asia"}), 403, "group_missing"),
        (json!({"groups": "eu"}), 200, ""),
    ] {
        let token = good.key.token(&with(full.clone(), changes.clone()));
        let answer = good.edge.ask(with_token(&token));
        assert_eq!(answer.status(), status, "{changes}");
        if status != 200 {
            assert_eq!(good.edge.reason_of(&answer), reason, "{changes}");
        }
    }
}

#[test]
fn every_algorithm_verifies_by_its_own_key() {
    // T2, T4, T5, T6, T8
    let (rs, ps) = (Key::rsa(RSA_A, "rs", "RS256"), Key::rsa(RSA_B, "ps", "PS256"));
    let (es, ed) = (Key::es256("es"), Key::eddsa("ed"));
    let secret = Key::hs256(b"0123456789abcdef0123456789abcdef", "hs");
    let upstream = Upstream::start();
    let issuer = Issuer::start(&[&rs, &ps, &es, &ed, &secret]);
    let edge = Setup::new(guarded(&upstream.url(), bearer(&issuer.url()))).start();
    let claims = mint::claims(&issuer.url(), AUDIENCE);
    for key in [&rs, &ps, &es, &ed] {
        assert_eq!(edge.ask(with_token(&key.token(&claims))).status(), 200, "{}", key.kid());
    }
    // The same RSA key under the other padding is another algorithm.
    let (rs_as_ps, ps_as_rs) = (Key::rsa(RSA_A, "rs", "PS256"), Key::rsa(RSA_B, "ps", "RS256"));
    // Public bytes as the secret of an HMAC.
    let public = rs.jwk()["n"].as_str().unwrap().to_owned();
    let confused = Key::hs256(public.as_bytes(), "rs");
    let raw = Key::hs256(&mint::decode(&public), "rs");
    for (name, token) in [
        ("PS256 by an RS256 key", rs_as_ps.token(&claims)),
        ("RS256 by a PS256 key", ps_as_rs.token(&claims)),
        ("HS256 by a key of the set", secret.token(&claims)),
        ("HS256 by the public text", confused.token(&claims)),
        ("HS256 by the modulus", raw.token(&claims)),
        ("kid of another type", es.sign(&with(es.header(), json!({"kid": "ed"})), &claims)),
        ("RS384 by an RS256 key", Key::rsa(RSA_A, "rs", "RS384").token(&claims)),
    ] {
        assert_eq!(edge.ask(with_token(&token)).status(), 401, "{name}");
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn hmac_works_only_where_it_is_enabled() {
    let upstream = Upstream::start();
    let issuer = Issuer::start(&[]);
    let secret = "a-shared-secret-of-enough-length-1234";
    let config = plus(
        bearer(&issuer.url()),
        json!({"enable_hs_signatures": true, "client_id": ["app"], "client_secret": [secret]}),
    );
    let edge = Setup::new(guarded(&upstream.url(), config)).start();
    let claims = mint::claims(&issuer.url(), AUDIENCE);
    let header = json!({"alg": "HS256", "typ": "at+jwt"});
    let key = Key::hs256(secret.as_bytes(), "");
    let token = key.sign(&header, &claims);
    // An issuer without keys counts as one that fails, until its name is known.
    let end = std::time::Instant::now() + edge_tests::edge::READY;
    while edge.ask(with_token(&token)).status() == 503 && std::time::Instant::now() < end {}
    assert_eq!(edge.ask(with_token(&token)).status(), 200);
    let wrong = Key::hs256(b"another-secret-of-enough-length-12345", "");
    assert_eq!(edge.ask(with_token(&wrong.sign(&header, &claims))).status(), 401);
}

#[test]
fn hostile_headers_and_claims_never_pass() {
    // T3, T14, T15, T18, T19, T20, T22, T23, T24, T26, T27, T28, T29, T30
    let good = Guarded::start();
    let (key, claims) = (&good.key, good.claims());
    let headed = |changes: Value| key.sign(&with(key.header(), changes), &claims);
    let mut tokens: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, token: String| tokens.push((name.to_owned(), token));
    for (name, value) in [
        ("number", json!(1)),
        ("array", json!(["ES256"])),
        ("empty", json!("")),
        ("space", json!("ES256 ")),
        ("absent", Value::Null),
    ] {
        add(&format!("alg {name}"), headed(json!({"alg": value})));
    }
    for kid in ["../../etc/passwd", "es-1\0", "' OR 1=1 --", "ES-1", "es-1 ", "$(id)", "%65s-1"] {
        add(&format!("kid {kid:?}"), headed(json!({"kid": kid})));
    }
    add("kid number", headed(json!({"kid": 1})));
    add("kid array", headed(json!({"kid": ["es-1"]})));
    add("kid long", headed(json!({"kid": "k".repeat(4000)})));
    for crit in [json!([]), json!(["exp"]), json!("b64"), json!(["alg"]), json!([1]), json!(["unknown", "unknown"])] {
        add(&format!("crit {crit}"), headed(json!({"crit": crit, "exp": 1, "unknown": 1})));
    }
    add("b64", headed(json!({"b64": false, "crit": ["b64"]})));
    let attacker = Key::es256("evil");
    add("jwk", attacker.sign(&with(attacker.header(), json!({"jwk": attacker.jwk()})), &claims));
    let outside = Issuer::start(&[&attacker]);
    for name in ["jku", "x5u"] {
        let header = with(attacker.header(), json!({name: format!("{}/jwks", outside.url())}));
        add(name, attacker.sign(&header, &claims));
    }
    let (token, now) = (good.token(), mint::now());
    let parts: Vec<&str> = token.split('.').collect();
    add("five parts", format!("{token}.{}.{}", parts[0], parts[1]));
    add("four parts", format!("{token}."));
    add("empty header", format!(".{}.{}", parts[1], parts[2]));
    add("empty payload", format!("{}..{}", parts[0], parts[2]));
    add("empty signature", format!("{}.{}.", parts[0], parts[1]));
    add("padding", format!("{}.{}.{}==", parts[0], parts[1], parts[2]));
    add("percent", format!("{}.{}.{}%3D", parts[0], parts[1], parts[2]));
    add("plus", format!("{}+.{}.{}", parts[0], parts[1], parts[2]));
    let payloads: [(&str, &[u8]); 8] = [
        ("array", b"[1]"),
        ("text", b"\"x\""),
        ("nothing", b""),
        ("trailing", b"{\"exp\":9999999999} x"),
        ("comment", b"{\"exp\":9999999999/**/}"),
        ("bad utf-8", b"{\"sub\":\"\xff\"}"),
        ("NaN", b"{\"exp\":NaN}"),
        ("single quotes", b"{'exp':1}"),
    ];
    for (name, payload) in payloads {
        add(&format!("payload {name}"), key.sign_bytes(key.header().to_string().as_bytes(), payload));
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    add("deep", key.sign_bytes(key.header().to_string().as_bytes(), deep.as_bytes()));
    for exp in [json!(true), json!([now + 60]), json!({"a": 1}), json!(0), json!(-1), json!(-9e99)] {
        add(&format!("exp {exp}"), key.token(&with(claims.clone(), json!({"exp": exp}))));
    }
    for typ in ["logout+jwt", "dpop+jwt", "token-introspection+jwt"] {
        add(typ, headed(json!({"typ": typ})));
    }
    for (name, token) in &tokens {
        let answer = good.edge.ask(with_token(token));
        assert!(matches!(answer.status(), 400 | 401), "{name}: {}", answer.start);
        assert_eq!(good.upstream.requests().len(), 0, "{name}");
    }
    assert_eq!(outside.key_fetches(), 0, "a token made the edge fetch");
    for (name, token) in [
        ("good", good.token()),
        ("application/at+jwt", headed(json!({"typ": "application/at+jwt"}))),
        ("AT+JWT", headed(json!({"typ": "AT+JWT"}))),
        ("far exp", key.token(&with(claims.clone(), json!({"exp": 9_999_999_999_u64})))),
        ("fraction", key.token(&with(claims.clone(), json!({"exp": now as f64 + 60.5, "nbf": now as f64 - 1.5})))),
    ] {
        assert_eq!(good.edge.ask(with_token(&token)).status(), 200, "{name}");
    }
}

#[test]
fn the_clock_is_asked_for_every_request() {
    // T31: a verdict that was cached while the token was valid ends with it.
    let good = Guarded::start();
    let token = good.key.token(&with(good.claims(), json!({"exp": mint::now() + 2})));
    assert_eq!(good.edge.ask(with_token(&token)).status(), 200);
    let mut answer = good.edge.ask(with_token(&token));
    while answer.status() == 200 {
        assert!(mint::now() < mint::open(&token).1["exp"].as_i64().unwrap() + 5, "an expired token still passes");
        std::thread::sleep(std::time::Duration::from_millis(50));
        answer = good.edge.ask(with_token(&token));
    }
    assert_eq!((answer.status(), good.edge.reason_of(&answer).as_str()), (401, "token_expired"));

    let lenient = Guarded::with(json!({"leeway": 60}), |setup| setup);
    let late = |ago: i64| lenient.key.token(&with(lenient.claims(), json!({"exp": mint::now() - ago})));
    assert_eq!(lenient.edge.ask(with_token(&late(30))).status(), 200);
    assert_eq!(lenient.edge.ask(with_token(&late(90))).status(), 401);
}

#[test]
fn a_verdict_of_one_route_opens_no_other() {
    // Design 3: facts are shared, rules are judged per request; T32: a key of issuer A is none of issuer B.
    let upstream = Upstream::start();
    let key = Key::es256("same");
    let (a, b) = (Issuer::start(&[&key]), Issuer::start(&[&Key::es256("same")]));
    let route = |name: &str, config: Value| json!({"name": name, "paths": [format!("/{name}")], "plugins": [{"name": "openid-connect", "config": config}]});
    let text = entities(
        &upstream.url(),
        json!([
            route("a", bearer(&a.url())),
            route("b", bearer(&b.url())),
            route("strict", plus(bearer(&a.url()), json!({"scopes_required": ["admin"]}))),
            route("other", plus(bearer(&a.url()), json!({"audience_required": ["api://other"]}))),
        ]),
    );
    let edge = Setup::new(text).start();
    let token = key.token(&mint::claims(&a.url(), AUDIENCE));
    let ask = |path: &str| edge.ask(get(path, &[&format!("Authorization: Bearer {token}")])).status();
    for _ in 0..3 {
        assert_eq!((ask("/a"), ask("/b"), ask("/strict"), ask("/other")), (200, 401, 403, 403));
    }
    let forged = key.token(&mint::claims(&b.url(), AUDIENCE));
    assert_eq!(edge.ask(get("/b", &[&format!("Authorization: Bearer {forged}")])).status(), 401);
}

#[test]
fn consumers_are_found_by_claim() {
    let upstream = Upstream::start();
    let key = Key::es256("k");
    let issuer = Issuer::start(&[&key]);
    let config =
        plus(bearer(&issuer.url()), json!({"consumer_claims": [["sub"]], "consumer_by": ["username", "custom_id"]}));
    let text = json!({"_format_version": "3.0",
        "consumers": [{"username": "alice", "custom_id": "a-1"}],
        "services": [{"name": "up", "url": upstream.url(), "routes": [{"name": "all", "paths": ["/"],
            "plugins": [{"name": "openid-connect", "config": config}]}]}],
    });
    let edge = Setup::new(text.to_string()).start();
    let claims = mint::claims(&issuer.url(), AUDIENCE);
    assert_eq!(edge.ask(with_token(&key.token(&claims))).status(), 200);
    let request = upstream.last();
    assert_eq!(request.field("x-consumer-username"), Some("alice"));
    assert_eq!(request.field("x-consumer-custom-id"), Some("a-1"));
    assert!(request.field("x-consumer-id").is_some());
    let line = edge.access(|line| line["status"] == 200);
    assert_eq!(line["consumer"], "alice");

    let stranger = key.token(&with(claims.clone(), json!({"sub": "bob"})));
    let answer = edge.ask(with_token(&stranger));
    assert_eq!((answer.status(), edge.reason_of(&answer).as_str()), (403, "consumer_unknown"));
    // T35: a claim cannot end a header.
    let forged = key.token(&with(claims, json!({"sub": "alice\r\nX-Admin: 1"})));
    assert_eq!(edge.ask(with_token(&forged)).status(), 403);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn preflight_passes_only_where_it_may() {
    let strict = Guarded::start();
    let options = "OPTIONS /orders HTTP/1.1\r\nHost: t\r\nOrigin: http://a\r\n\r\n";
    assert_eq!(strict.edge.ask(options).status(), 401);
    let open = Guarded::with(json!({"run_on_preflight": false}), |setup| setup);
    assert_eq!(open.edge.ask(options).status(), 200);
    assert_eq!(open.edge.ask(get("/orders", &[])).status(), 401);
}

#[test]
fn the_spellings_of_the_seed_are_taken() {
    // S0.12
    let upstream = Upstream::start();
    let key = Key::es256("k");
    let issuer = Issuer::start(&[&key]);
    let url = issuer.url();
    let yaml = format!(
        "_format_version: \"3.0\"\nservices:\n- name: up\n  url: {}\n  routes:\n  - name: orders\n    paths: [/orders]\n\
         \x20   plugins:\n    - name: openid-connect\n      config:\n        issuer: \"{url}\"\n\
         \x20       discovery: \"{url}/.well-known/openid-configuration\"\n        client_id: \"kong\"\n\
         \x20       client_secret: \"secret\"\n        verify_signature: true\n        verify_claims: true\n\
         \x20       allowed_audiences:\n          - \"{AUDIENCE}\"\n        scopes_required:\n          - \"orders:read\"\n\
         \x20       clock_skew_leeway: 60\n        bearer_only: true\n",
        upstream.url()
    );
    let edge = Setup::new(yaml).start();
    let claims = mint::claims(&url, AUDIENCE);
    let ask = |changes: Value| edge.ask(with_token(&key.token(&with(claims.clone(), changes)))).status();
    assert_eq!(ask(json!({})), 200);
    assert_eq!(ask(json!({"exp": mint::now() - 30})), 200);
    assert_eq!(ask(json!({"exp": mint::now() - 90})), 401);
    assert_eq!(ask(json!({"aud": "api://other"})), 403);
    assert_eq!(ask(json!({"scope": "x"})), 403);
}

#[test]
fn messages_are_the_configured_ones() {
    let config = json!({"unauthorized_error_message": "Who are you?", "forbidden_error_message": "Not you", "expose_error_code": false});
    let good = Guarded::with(config, |setup| setup);
    let answer = good.edge.ask(with_token(&flip(&good.token())));
    assert_eq!((answer.status(), answer.json()), (401, json!({"message": "Who are you?"})));
    assert_eq!(challenge(&answer), None);
    let other = good.key.token(&with(good.claims(), json!({"aud": "x"})));
    assert_eq!(good.edge.ask(with_token(&other)).json(), json!({"message": "Not you"}));
}

#[test]
fn large_tokens_pass_up_to_their_limit() {
    // T36
    let good = Guarded::start();
    let sized = |bytes: usize| good.key.token(&with(good.claims(), json!({"pad": "p".repeat(bytes)})));
    assert_eq!(good.edge.ask(with_token(&sized(8000))).status(), 200);
    let answer = good.edge.ask(with_token(&sized(20_000)));
    assert!(matches!(answer.status(), 401 | 431), "{}", answer.start);
    assert_eq!(good.upstream.requests().len(), 1);
}

#[test]
fn a_refusal_without_cache_is_the_same() {
    // `cache_bytes = 0` changes speed alone.
    let good = Guarded::with(json!({}), |setup| setup.section("[verdicts]\ncache_bytes = 0"));
    let token = good.token();
    for _ in 0..3 {
        assert_eq!(good.edge.ask(with_token(&token)).status(), 200);
        assert_eq!(good.edge.ask(with_token(&flip(&token))).status(), 401);
    }
}
