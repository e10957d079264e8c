//! `edge explain`: what it says of a token is what the running edge does with it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use edge_tests::certs;
use edge_tests::edge::{Setup, binary};
use edge_tests::issuer::{Fault, Issuer};
use edge_tests::mint::{self, Key, with};
use edge_tests::reply::Reply;
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::oidc::s0_matrix;
use super::possession::{proof, thumbprint};
use super::{AUDIENCE, Guarded, bearer, entities, guarded, plus, with_token};

/// Every check, in the order of the flow.
const CHECKS: [&str; 31] = [
    "credential",
    "grant",
    "shape",
    "header",
    "algorithm",
    "type",
    "payload",
    "time",
    "issuer",
    "key",
    "signature",
    "introspection",
    "proof_of_possession",
    "id_token",
    "profile",
    "domains",
    "session",
    "acr",
    "max_age",
    "claims_forbidden",
    "claims_required",
    "subject",
    "audience",
    "scopes",
    "groups",
    "roles",
    "id_token_beside",
    "user_info",
    "consumer",
    "consumer_groups",
    "anonymous",
];

/// The checks that fail for a reason.
fn checks_of(reason: &str) -> &'static [&'static str] {
    match reason {
        "header_missing" | "header_malformed" | "token_in_query" => &["credential"],
        "token_malformed" => &["shape", "header", "payload"],
        "alg_not_allowed" => &["algorithm"],
        "typ_not_allowed" => &["type"],
        "claim_invalid" => &["payload", "time"],
        "token_expired" | "token_not_yet_valid" => &["time"],
        "issuer_not_allowed" => &["issuer"],
        "kid_unknown" | "keys_unavailable" => &["key"],
        "signature_invalid" => &["signature"],
        "introspection_unavailable" | "introspection_failed" | "token_inactive" => &["introspection"],
        "token_bound" | "token_unbound" | "proof_missing" | "proof_invalid" | "certificate_missing" => {
            &["proof_of_possession"]
        }
        "id_token_used" => &["id_token"],
        "audience_not_allowed" => &["audience"],
        "scope_missing" => &["scopes"],
        "consumer_unknown" => &["consumer"],
        other => panic!("{other} is not in the table"),
    }
}

/// What one run said.
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) out: String,
    err: String,
}

impl Said {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// Runs a command on a configuration, with this on its standard input.
pub(super) fn run(command: &str, config: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(binary())
        .args([command, "--config"])
        .arg(config)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the edge");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("write the token");
    let output = child.wait_with_output().expect("wait");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
}

/// Explains a token, which is nowhere in what is said.
pub(super) fn explain(config: &Path, arguments: &[&str], token: &str) -> Said {
    let (code, out, err) = run("explain", config, &[&["--token-file", "-"], arguments].concat(), token);
    let signature = token.rsplit('.').next().unwrap_or_default();
    for secret in [token, signature].into_iter().filter(|secret| secret.len() > 16) {
        assert!(!out.contains(secret) && !err.contains(secret), "{out}{err}");
    }
    Said { code, out, err }
}

/// The same for the tests' route, in JSON.
fn explained(good: &Guarded, token: &str) -> Value {
    let said = explain(&good.edge.path("edge.toml"), &["--route", "all", "--json"], token);
    let report = said.json();
    let expected = match report["verdict"].as_str().unwrap() {
        "passes" | "passes_as_anonymous" => 0,
        "refused" => 1,
        _ => 2,
    };
    assert_eq!(said.code, expected, "{}", said.out);
    is_in_order(&report);
    report
}

/// All checks are there, in order; none is reached after the one that failed, but for the anonymous consumer.
pub(super) fn is_in_order(report: &Value) {
    let checks = report["checks"].as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(names, CHECKS);
    let outcome = |check: &Value| check["outcome"].as_str().unwrap().to_owned();
    let failed: Vec<&Value> = checks.iter().filter(|check| outcome(check) == "fail").collect();
    match report["failed_check"].as_str() {
        None => assert!(failed.is_empty(), "{report}"),
        Some(name) => {
            assert_eq!(failed.len(), 1, "{report}");
            assert_eq!(failed[0]["check"], name);
        }
    }
    if report["verdict"] == "passes" {
        assert!(checks.iter().all(|check| ["pass", "not_required"].contains(&outcome(check).as_str())), "{report}");
    }
}

fn found<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["check"] == name).unwrap()
}

#[test]
fn explain_and_the_running_edge_agree_on_the_s0_matrix() {
    // S0, T17
    let good = Guarded::start();
    let rows = s0_matrix(&good);
    let answers: Vec<Message> = rows.iter().map(|row| good.edge.ask(with_token(&row.token))).collect();
    for (row, answer) in rows.iter().zip(&answers) {
        let name = row.name;
        let report = explained(&good, &row.token);
        assert_eq!(answer.status(), row.status, "{name}");
        assert_eq!(report["status"], row.status, "{name}: {report}");
        if row.status == 200 {
            assert_eq!((&report["verdict"], &report["reason"]), (&json!("passes"), &Value::Null), "{name}: {report}");
            assert_eq!(report["key"]["kid"], "es-1", "{name}");
            assert_eq!(report["key"]["url"], format!("{}/jwks", good.issuer.url()), "{name}");
            continue;
        }
        let reason = good.edge.reason_of(answer);
        assert_eq!(report["reason"], reason, "{name}: {report}");
        let failed = report["failed_check"].as_str().unwrap();
        assert!(checks_of(&reason).contains(&failed), "{name}: {reason} is not {failed}");
        assert!(report["remedy"].is_object(), "{name}");
    }
}

#[test]
fn the_text_names_the_change_that_would_help() {
    let good = Guarded::with(json!({"leeway": 30}), |setup| setup);
    let config = good.edge.path("edge.toml");
    let token = good.key.token(&with(good.claims(), json!({"aud": "api://other"})));
    let said = explain(&config, &["--route", "all"], &token);
    assert_eq!(said.code, 1);
    for line in [
        "pass  time                 expected exp ahead and nbf past, leeway 30 s",
        "FAIL  audience             expected aud with \"api://orders\"",
        "                           found aud \"api://other\"",
        "verdict  refused (403), reason audience_not_allowed: audience not allowed",
        "remedy   client: ask the issuer for a token for the audience (aud with \"api://orders\")",
        "     or  configuration: add \"api://other\" to `audience_required`",
    ] {
        assert!(said.out.lines().any(|known| known == line), "{line:?} is not in\n{}", said.out);
    }
    assert!(said.out.contains("key      kid \"es-1\", ES256, from http://"), "{}", said.out);
    let route = json!([{"name": "open", "paths": ["/"]}]);
    let plain = Setup::new(entities(&good.upstream.url(), route)).start();
    for (config, route, words) in [
        (&config, "nobody", "there are: all"),
        (&plain.path("edge.toml"), "open", "neither openid-connect nor jwt-signer"),
    ] {
        let said = explain(config, &["--route", route], &token);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{route}");
        assert!(said.err.contains(words), "{}", said.err);
    }
    let (code, _, error) = run("explain", &config, &["--route", "all", "--token-file", "/nowhere"], "");
    assert!(code == 2 && error.contains("cannot be read"), "{error}");
    // A token is no argument.
    let (code, ..) = run("explain", &config, &["--route", "all", "--token", &token], "");
    assert_eq!(code, 2);
}

#[test]
fn without_a_token_the_demands_are_told() {
    let good = Guarded::with(json!({"scopes_required": ["a b", "c"], "max_age": 60}), |setup| setup);
    let (code, out, _) = run("explain", &good.edge.path("edge.toml"), &["--route", "all", "--json"], "");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["reason"], &report["failed_check"]), (1, &json!("header_missing"), &json!("credential")));
    is_in_order(&report);
    for (name, outcome, expected) in [
        ("credential", "fail", json!("one token, in `Authorization: Bearer`")),
        ("scopes", "not_reached", json!("scope with \"a\" and \"b\", or \"c\"")),
        ("max_age", "not_reached", json!("auth_time at most 60 s ago")),
        ("audience", "not_reached", json!("aud with \"api://orders\"")),
        ("roles", "not_required", Value::Null),
        ("consumer", "not_required", Value::Null),
    ] {
        let check = found(&report, name);
        assert_eq!((&check["outcome"], &check["expected"]), (&json!(outcome), &expected), "{name}");
    }
}

#[test]
fn nobody_can_tell_while_the_issuer_is_down() {
    let good = Guarded::with(json!({}), |setup| setup.section("[timeouts]\nkey_wait = 1000"));
    let token = good.token();
    assert_eq!(explained(&good, &token)["verdict"], "passes");
    good.issuer.fail_at("/jwks", Fault::Status(500));
    let report = explained(&good, &token);
    assert_eq!((&report["verdict"], &report["reason"]), (&json!("unknown"), &json!("keys_unavailable")), "{report}");
    assert_eq!(report["failed_check"], "key");
    assert!(report["cause"].as_str().unwrap().contains("status 500"), "{report}");
    assert!(report["remedy"]["operator"].is_string(), "{report}");
}

#[test]
fn the_issuer_s_clock_and_the_token_s_life_are_told() {
    let good = Guarded::start();
    assert_eq!(explained(&good, &good.token())["clock"], Value::Null, "no Date, no skew");
    let url = good.issuer.url();
    good.issuer.answer("/.well-known/openid-configuration", move |_| {
        let ahead = httpdate::fmt_http_date(std::time::SystemTime::now() + std::time::Duration::from_secs(3600));
        let fields = format!("Content-Type: application/json\r\nDate: {ahead}\r\n");
        let document = json!({"issuer": url, "jwks_uri": format!("{url}/jwks")});
        Reply::new("200 OK", &fields, &document.to_string())
    });
    let report = explained(&good, &good.token());
    let skew = report["clock"]["skew_ms"].as_i64().unwrap();
    assert!((3_590_000..=3_600_000).contains(&skew), "{skew}");
    let left = report["expires_in_s"].as_i64().unwrap();
    assert!((3500..=3600).contains(&left), "{left}");
}

#[test]
fn opaque_tokens_are_asked_about() {
    let config = json!({"auth_methods": ["bearer", "introspection"], "client_id": ["app"], "client_secret": ["s"]});
    let good = Guarded::with(config, |setup| setup);
    good.issuer.know("active-token-0123456789", json!({"active": true, "aud": AUDIENCE, "sub": "bob"}));
    good.issuer.know("other-token-0123456789", json!({"active": true, "aud": "api://other"}));
    for (token, reason) in [
        ("active-token-0123456789", Value::Null),
        ("other-token-0123456789", json!("audience_not_allowed")),
        ("revoked-token-0123456789", json!("token_inactive")),
    ] {
        let report = explained(&good, token);
        assert_eq!(report["reason"], reason, "{token}: {report}");
        let answer = good.edge.ask(with_token(token));
        let seen = if answer.status() == 200 { Value::Null } else { json!(good.edge.reason_of(&answer)) };
        assert_eq!(seen, reason, "{token}");
    }
    good.issuer.fail_at("/introspect", Fault::InvalidClient);
    let report = explained(&good, "active-token-0123456789");
    assert_eq!(
        (&report["verdict"], &report["reason"]),
        (&json!("unknown"), &json!("introspection_failed")),
        "{report}"
    );
    assert_eq!(found(&report, "signature")["outcome"], "not_required", "opaque tokens have none");
}

#[test]
fn bound_tokens_are_shown_with_their_proofs() {
    // S3, S5
    let config = json!({"proof_of_possession_dpop": "optional", "proof_of_possession_mtls": "optional"});
    let good = Guarded::with(config, |setup| setup);
    let config = good.edge.path("edge.toml");
    let file = |name: &str, text: &str| {
        let path = good.edge.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (own, pair) = (Key::es256("own"), certs::pair(&["client"]));
    let by_key = good.key.token(&with(good.claims(), json!({"cnf": {"jkt": thumbprint(&own)}})));
    let by_certificate = good.key.token(&with(good.claims(), json!({"cnf": {"x5t#S256": pair.thumbprint()}})));
    let proven = file("proof", &proof(&own, &by_key, json!({})));
    let certificate = file("client.pem", &pair.certificate);
    let others = file("other.pem", &certs::pair(&["client"]).certificate);
    for (token, arguments, reason) in [
        (&by_key, &["--dpop-file", &proven, "--path", "http://test/orders"][..], Value::Null),
        (&by_key, &["--dpop-file", &proven, "--path", "http://test/other"], json!("proof_invalid")),
        (
            &by_key,
            &["--dpop-file", &proven, "--method", "POST", "--path", "http://test/orders"],
            json!("proof_invalid"),
        ),
        (&by_key, &[], json!("token_bound")),
        (&by_certificate, &["--client-cert-file", &certificate], Value::Null),
        (&by_certificate, &["--client-cert-file", &others], json!("certificate_mismatch")),
        (&by_certificate, &[], json!("certificate_missing")),
    ] {
        let report = explain(&config, &[&["--route", "all", "--json"], arguments].concat(), token).json();
        is_in_order(&report);
        assert_eq!(report["reason"], reason, "{arguments:?}: {report}");
        let expected = if reason.is_null() { "pass" } else { "fail" };
        assert_eq!(found(&report, "proof_of_possession")["outcome"], expected, "{arguments:?}");
    }
}

#[test]
fn the_token_is_shown_where_the_route_looks() {
    for places in [
        json!({"bearer_token_header_name": "X-Token"}),
        json!({"bearer_token_param_type": ["query"]}),
        json!({"bearer_token_param_type": ["body"]}),
        json!({"bearer_token_param_type": ["cookie"], "bearer_token_cookie_name": "t"}),
        json!({"bearer_token_param_type": ["header"]}),
    ] {
        let good = Guarded::with(places.clone(), |setup| setup);
        assert_eq!(explained(&good, &good.token())["verdict"], "passes", "{places}");
    }
}

#[test]
fn consumers_are_named_and_the_anonymous_one_lets_pass() {
    let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
    let issuer = Issuer::start(&[&key]);
    let config = |more: Value| plus(bearer(&issuer.url()), plus(json!({"consumer_claim": ["sub"]}), more));
    let with_consumers = |config: Value| {
        let mut entities: Value = serde_json::from_str(&guarded(&upstream.url(), config)).unwrap();
        entities["consumers"] = json!([{"username": "alice"}, {"username": "guest"}]);
        Setup::new(entities.to_string()).start()
    };
    let (strict, lenient) = (with_consumers(config(json!({}))), with_consumers(config(json!({"anonymous": "guest"}))));
    let claims = mint::claims(&issuer.url(), AUDIENCE);
    let (alice, nobody) = (key.token(&claims), key.token(&with(claims, json!({"sub": "nobody"}))));
    for (edge, token, code, reason, caller) in [
        (&strict, &alice, 0, Value::Null, json!("consumer \"alice\", credential \"alice\"")),
        (&strict, &nobody, 1, json!("consumer_unknown"), json!("credential \"nobody\"")),
        (&lenient, &nobody, 0, json!("consumer_unknown"), json!("consumer \"guest\"")),
    ] {
        let said = explain(&edge.path("edge.toml"), &["--route", "all", "--json"], token);
        let report = said.json();
        is_in_order(&report);
        assert_eq!((said.code, &report["reason"], &report["caller"]), (code, &reason, &caller), "{report}");
        let answer = edge.ask(get("/orders", &[&format!("Authorization: Bearer {token}")]));
        assert_eq!(answer.status() == 200, code == 0);
    }
}
