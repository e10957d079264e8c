//! What of an answer counts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_tests::edge::Setup;
use edge_tests::issuer::Issuer;
use edge_tests::mint::{now, with};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::get;
use serde_json::{Value, json};

use super::{Opaque, active, asking};
use crate::{AUDIENCE, plus, with_token};

#[test]
fn only_active_true_in_json_counts() {
    // I1: anything else is no access; each beside what is.
    const JSON: &str = "Content-Type: application/json\r\n";
    let elsewhere = Issuer::start(&[]);
    elsewhere.answer("/i", |_| edge_tests::issuer::good(&active()));
    let moved = format!("{JSON}Location: {}/i\r\n", elsewhere.url());
    let deep = format!("{{\"active\":true,\"a\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let good = "{\"active\":true}";
    let rows: Vec<(&str, &str, &str, &str, bool)> = vec![
        ("true", "200 OK", JSON, good, true),
        ("a charset", "200 OK", "Content-Type: application/json; charset=utf-8\r\n", good, true),
        ("capitals", "200 OK", "content-type: Application/JSON\r\n", good, true),
        ("white space", "200 OK", JSON, " { \"active\" : true } \r\n", true),
        ("more members", "200 OK", JSON, "{\"x\":{\"active\":false},\"active\":true,\"ext\":[1,null]}", true),
        ("false", "200 OK", JSON, "{\"active\":false}", false),
        ("text", "200 OK", JSON, "{\"active\":\"true\"}", false),
        ("one", "200 OK", JSON, "{\"active\":1}", false),
        ("null", "200 OK", JSON, "{\"active\":null}", false),
        ("a list", "200 OK", JSON, "{\"active\":[true]}", false),
        ("missing", "200 OK", JSON, "{\"sub\":\"alice\",\"exp\":9999999999}", false),
        ("other case", "200 OK", JSON, "{\"Active\":true}", false),
        ("deeper", "200 OK", JSON, "{\"token\":{\"active\":true}}", false),
        ("twice", "200 OK", JSON, "{\"active\":false,\"active\":true}", false),
        ("twice, escaped", "200 OK", JSON, "{\"active\":false,\"\\u0061ctive\":true}", false),
        ("array", "200 OK", JSON, "[{\"active\":true}]", false),
        ("true alone", "200 OK", JSON, "true", false),
        ("nothing", "200 OK", JSON, "", false),
        ("cut", "200 OK", JSON, "{\"active\":true", false),
        ("trailing", "200 OK", JSON, "{\"active\":true} x", false),
        ("two documents", "200 OK", JSON, "{\"active\":true}{\"active\":true}", false),
        ("comment", "200 OK", JSON, "{\"active\":true/**/}", false),
        ("nested without end", "200 OK", JSON, &deep, false),
        ("HTML", "200 OK", "Content-Type: text/html\r\n", good, false),
        ("plain text", "200 OK", "Content-Type: text/plain\r\n", good, false),
        ("no type", "200 OK", "", good, false),
        ("another JSON", "200 OK", "Content-Type: application/jsonp\r\n", good, false),
        ("created", "201 Created", JSON, good, false),
        ("partial", "206 Partial Content", JSON, good, false),
        ("bad request", "400 Bad Request", JSON, good, false),
        ("server error", "500 Internal Server Error", JSON, good, false),
        ("moved", "302 Found", &moved, good, false),
        ("moved for good", "308 Permanent Redirect", &moved, good, false),
    ];
    let opaque = Opaque::rows(rows.len(), json!({}));
    for (row, (_, status, fields, body, _)) in rows.iter().enumerate() {
        let (status, fields, body) = (status.to_string(), fields.to_string(), body.to_string());
        opaque.issuer.answer(&format!("/i/{}", super::name(row)), move |_| Reply::new(&status, &fields, &body));
    }
    let answers: Vec<_> = (0..rows.len()).map(|row| opaque.ask_row(row, "opaque-token-0123456789")).collect();
    for ((name, .., passes), answer) in rows.iter().zip(&answers) {
        match (passes, *name) {
            (true, _) => assert_eq!(answer.status(), 200, "{name}: {}", answer.text()),
            (false, "false") => {
                assert_eq!((answer.status(), opaque.edge.reason_of(answer).as_str()), (401, "token_inactive"));
                assert_eq!(answer.text(), "{\"message\":\"Unauthorized\"}");
                assert!(answer.field("www-authenticate").unwrap().contains("error=\"invalid_token\""));
            }
            (false, _) => assert!(matches!(answer.status(), 401 | 503), "{name}: {}", answer.start),
        }
    }
    let passed = rows.iter().filter(|(.., passes)| *passes).count();
    assert_eq!(opaque.upstream.requests().len(), passed);
    assert_eq!(elsewhere.hits("/i"), 0, "a redirect took the edge's credentials elsewhere");
}

#[test]
fn an_answer_is_judged_as_a_token_is() {
    // I2, T31, T32, T33, T34
    let config = json!({"audience_required": [AUDIENCE], "scopes_required": ["orders:read"],
        "roles_required": ["clerk"], "roles_claim": ["realm_access", "roles"]});
    let opaque = Opaque::with(config);
    let url = opaque.issuer.url();
    let good = plus(active(), json!({"aud": AUDIENCE, "realm_access": {"roles": ["clerk"]}, "exp": now() + 600}));
    let rows: Vec<(&str, Value, u16, &str)> = vec![
        ("good", json!({}), 200, ""),
        ("no exp", json!({"exp": null}), 200, ""),
        ("its issuer", json!({"iss": url}), 200, ""),
        ("audiences", json!({"aud": ["x", AUDIENCE]}), 200, ""),
        ("more scope", json!({"scope": "a orders:read b"}), 200, ""),
        ("fraction", json!({"exp": now() as f64 + 60.5}), 200, ""),
        ("expired", json!({"exp": now() - 30}), 401, "token_expired"),
        ("not yet", json!({"nbf": now() + 3600}), 401, "token_not_yet_valid"),
        ("another issuer", json!({"iss": "https://evil.example"}), 401, "issuer_not_allowed"),
        ("issuer with slash", json!({"iss": format!("{url}/")}), 401, "issuer_not_allowed"),
        ("another audience", json!({"aud": "api://other"}), 403, "audience_not_allowed"),
        ("no audience", json!({"aud": null}), 403, "audience_not_allowed"),
        ("longer scope", json!({"scope": "orders:reader"}), 403, "scope_missing"),
        ("no scope", json!({"scope": null}), 403, "scope_missing"),
        ("another role", json!({"realm_access": {"roles": ["guest"]}}), 403, "role_missing"),
        ("bound", json!({"cnf": {"jkt": "x"}}), 401, "token_bound"),
        ("bound to a certificate", json!({"cnf": {"x5t#S256": "x"}}), 401, "token_bound"),
        ("exp as text", json!({"exp": "9999999999"}), 0, ""),
        ("exp as list", json!({"exp": [now() + 60]}), 0, ""),
        ("issuers", json!({"iss": [url]}), 0, ""),
    ];
    let mut answers = Vec::new();
    for (number, (_, changes, ..)) in rows.iter().enumerate() {
        let token = format!("token-{number}");
        opaque.issuer.know(&token, with(good.clone(), changes.clone()));
        // Twice: the answer is judged on a hit as well.
        answers.push([opaque.ask(&token), opaque.ask(&token)]);
    }
    for ((name, _, status, reason), answers) in rows.iter().zip(&answers) {
        for answer in answers {
            match status {
                0 => assert!(matches!(answer.status(), 401 | 503), "{name}: {}", answer.start),
                200 => assert_eq!(answer.status(), 200, "{name}: {}", answer.text()),
                _ => {
                    assert_eq!((answer.status(), opaque.edge.reason_of(answer).as_str()), (*status, *reason), "{name}")
                }
            }
        }
    }
    let passed = rows.iter().filter(|(.., status, _)| *status == 200).count();
    assert_eq!(opaque.upstream.requests().len(), 2 * passed);
}

#[test]
fn switches_widen_what_counts() {
    let lenient =
        Opaque::with(json!({"leeway": 60, "issuers_allowed": ["https://one.example", "https://two.example"]}));
    for (token, facts, status) in [
        ("late", json!({"exp": now() - 30}), 200),
        ("too-late", json!({"exp": now() - 90}), 401),
        ("two", json!({"iss": "https://two.example"}), 200),
        ("own", json!({"iss": lenient.issuer.url()}), 401),
    ] {
        lenient.issuer.know(token, plus(active(), facts));
        assert_eq!(lenient.ask(token).status(), status, "{token}");
    }
    // Kong's switch: what the answer holds counts without `active`.
    let unchecked = Opaque::with(json!({"introspection_check_active": false}));
    unchecked.issuer.know("silent", json!({"sub": "alice", "exp": now() + 60}));
    unchecked.issuer.know("late", json!({"sub": "alice", "exp": now() - 60}));
    assert_eq!(unchecked.ask("silent").status(), 200);
    assert_eq!(unchecked.ask("late").status(), 401);
}

#[test]
fn claims_of_the_answer_find_the_consumer() {
    let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
    let config = plus(asking(&issuer.url()), json!({"consumer_claims": [["username"]], "consumer_by": ["username"]}));
    let route = json!({"name": "all", "paths": ["/"], "plugins": [{"name": "openid-connect", "config": config}]});
    let entities = json!({"_format_version": "3.0", "consumers": [{"username": "ann"}],
        "services": [{"name": "up", "url": upstream.url(), "routes": [route]}]});
    let edge = Setup::new(entities.to_string()).start();
    issuer.know("anns", plus(active(), json!({"username": "ann"})));
    issuer.know("strangers", plus(active(), json!({"username": "stranger"})));
    assert_eq!(edge.ask(with_token("anns")).status(), 200);
    assert_eq!(upstream.last().field("x-consumer-username"), Some("ann"));
    // The opaque token itself goes on.
    assert_eq!(upstream.last().field("authorization"), Some("Bearer anns"));
    let answer = edge.ask(with_token("strangers"));
    assert_eq!((answer.status(), edge.reason_of(&answer).as_str()), (403, "consumer_unknown"));
}

#[test]
fn the_answer_goes_where_it_is_asked_for() {
    // As base64 of its JSON; a signed one as it came (`signed.rs`).
    let config = json!({"upstream_introspection_header": "X-Introspection",
        "downstream_introspection_header": "X-Told", "upstream_introspection_jwt_header": "X-Introspection-JWT"});
    let opaque = Opaque::with(config);
    opaque.issuer.know("token", active());
    let forged = ["Authorization: Bearer token", "X-Introspection: forged", "X-Introspection-JWT: forged"];
    let answer = opaque.edge.ask(get("/", &forged));
    assert_eq!(answer.status(), 200);
    let seen = opaque.upstream.last();
    let told = |value: &str| serde_json::from_slice::<Value>(&STANDARD.decode(value).unwrap()).unwrap();
    assert_eq!(told(seen.field("x-introspection").unwrap()), active());
    assert_eq!(told(answer.field("x-told").unwrap()), active());
    assert_eq!(seen.field("x-introspection-jwt"), None);
}
