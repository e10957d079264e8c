//! `edge doctor`: faults around a configuration, found without serving it.

use std::process::Command;
use std::time::{Duration, SystemTime};

use edge_tests::certs;
use edge_tests::edge::{Setup, binary, free_address};
use edge_tests::issuer::{Fault, Issuer};
use edge_tests::mint::Key;
use edge_tests::parties::OidcProvider;
use edge_tests::reply::Reply;
use edge_tests::upstream::Upstream;
use serde_json::{Value, json};

use super::explain::run;
use super::{bearer, guarded, plus};

/// An issuer, and a configuration that is never served.
struct Patient {
    issuer: Issuer,
    upstream: Upstream,
    dir: tempfile::TempDir,
}

impl Patient {
    fn new() -> Self {
        let issuer = Issuer::start(&[&Key::es256("es-1")]);
        Self { issuer, upstream: Upstream::start(), dir: tempfile::tempdir().unwrap() }
    }

    /// Exit code and report.
    fn examine(&self, config: Value, change: impl FnOnce(Setup) -> Setup) -> (i32, Value) {
        let client = json!({"auth_methods": ["bearer", "introspection"], "client_id": ["app"],
            "client_secret": ["a-secret-0123456789"]});
        let config = plus(bearer(&self.issuer.url()), plus(client, config));
        let setup = change(Setup::new(guarded(&self.upstream.url(), config)));
        let path = setup.write(self.dir.path(), free_address()).unwrap();
        let (code, out, err) = run("doctor", &path, &["--json"], "");
        assert!(!out.contains("a-secret") && !err.contains("a-secret"), "{out}{err}");
        (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
    }
}

/// The worst level of a check, and its words.
fn level(report: &Value, check: &str) -> (String, String) {
    let rank = |level: &str| ["ok", "warning", "failed"].iter().position(|known| *known == level).unwrap();
    let of = report["checks"].as_array().unwrap().iter().filter(|finding| finding["check"] == check);
    let worst = of.max_by_key(|finding| rank(finding["level"].as_str().unwrap()));
    let worst = worst.unwrap_or_else(|| panic!("no {check} in {report}"));
    (worst["level"].as_str().unwrap().to_owned(), format!("{} {}", worst["found"], worst["remedy"]))
}

#[test]
fn a_sound_configuration_is_sound() {
    let patient = Patient::new();
    let (code, report) = patient.examine(json!({}), |setup| setup.tls());
    assert_eq!(code, 0, "{report}");
    for check in
        ["configuration", "discovery", "jwks", "introspection", "token_endpoint", "dns", "certificate", "store"]
    {
        assert_eq!(level(&report, check).0, "ok", "{check}: {report}");
    }
    for check in ["kernel", "admin"] {
        assert_eq!(level(&report, check).0, "ok", "{check}: {report}");
    }
    // It asked, served nothing, and left nothing.
    assert_eq!((patient.issuer.hits("/introspect"), patient.issuer.hits("/token")), (1, 1));
    assert_eq!(patient.issuer.last("/token").method(), "GET");
    assert!(patient.upstream.requests().is_empty());
    let mut files: Vec<_> =
        std::fs::read_dir(patient.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["edge.toml", "kong.yaml", "tls.crt", "tls.key"]);
}

#[test]
fn faults_of_the_issuer_are_named() {
    for (path, fault, check, words) in [
        ("/.well-known/openid-configuration", Fault::Status(503), "discovery", "status 503"),
        ("/.well-known/openid-configuration", Fault::OtherIssuer, "discovery", "evil.example"),
        ("/.well-known/openid-configuration", Fault::Html, "discovery", "malformed"),
        ("/jwks", Fault::Status(404), "jwks", "status 404"),
        ("/jwks", Fault::NoKeys, "jwks", "no usable key"),
        ("/introspect", Fault::InvalidClient, "introspection", "client_secret"),
        ("/introspect", Fault::Status(500), "introspection", "500"),
    ] {
        let patient = Patient::new();
        patient.issuer.fail_at(path, fault.clone());
        let (code, report) = patient.examine(json!({}), |setup| setup.section("[timeouts]\nkey_wait = 500"));
        let (level, text) = level(&report, check);
        assert_eq!((code, level.as_str()), (1, "failed"), "{fault:?}: {report}");
        assert!(text.contains(words), "{fault:?}: {text}");
    }
    let patient = Patient::new();
    patient.issuer.answer("/introspect", |_| edge_tests::issuer::good(&json!({"active": true})));
    let (code, report) = patient.examine(json!({}), |setup| setup);
    assert_eq!((code, level(&report, "introspection").0.as_str()), (1, "failed"), "{report}");
}

#[test]
fn the_issuers_certificate_is_looked_at() {
    let issuer = OidcProvider::start();
    let patient = Patient::new();
    let setup = Setup::new(guarded(&patient.upstream.url(), bearer(issuer.secure_url())));
    let path = setup.write(patient.dir.path(), free_address()).unwrap();
    let (code, out, _) = run("doctor", &path, &["--json"], "");
    let report: Value = serde_json::from_str(&out).unwrap();
    let (of_tls, words) = level(&report, "issuer_tls");
    assert_eq!((code, of_tls.as_str()), (1, "warning"), "{report}");
    assert!(words.contains("certificate") && level(&report, "discovery").0 == "failed", "{report}");
    let trusting = Command::new(binary())
        .args(["doctor", "--json", "--config"])
        .arg(&path)
        .env("SSL_CERT_FILE", issuer.root())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&trusting.stdout).unwrap();
    let (of_tls, words) = level(&report, "issuer_tls");
    assert!(of_tls == "ok" && words.contains("days"), "{report}");
    // That far it came: the party calls itself by its other URL.
    assert!(level(&report, "discovery").1.contains("not of the configured one"), "{report}");
}

#[test]
fn keys_that_are_not_used_are_named_with_the_reason() {
    let patient = Patient::new();
    let mut document = edge_tests::mint::jwks(&[&Key::es256("es-1")]);
    let small = json!({"kty": "RSA", "kid": "small", "alg": "RS256",
        "n": edge_tests::mint::encode(&[0xc1; 128]), "e": "AQAB"});
    document["keys"].as_array_mut().unwrap().push(small);
    patient.issuer.publish(document);
    let (_, report) = patient.examine(json!({}), |setup| setup);
    let (of_jwks, words) = level(&report, "jwks");
    assert_eq!(of_jwks, "warning", "{report}");
    assert!(words.contains("small") && words.contains("1024"), "{words}");
}

#[test]
fn what_works_today_and_may_not_tomorrow_is_a_warning() {
    let patient = Patient::new();
    let url = patient.issuer.url();
    patient.issuer.answer("/.well-known/openid-configuration", move |_| {
        let behind = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(60));
        let fields = format!("Content-Type: application/json\r\nDate: {behind}\r\n");
        let document = json!({
            "issuer": url, "jwks_uri": format!("{url}/jwks"), "introspection_endpoint": format!("{url}/introspect"),
            "scopes_supported": ["orders:read"], "id_token_signing_alg_values_supported": ["HS256"],
        });
        Reply::new("200 OK", &fields, &document.to_string())
    });
    let config = json!({"scopes_required": ["orders:read orders:write"], "leeway": 30});
    let (code, report) = patient.examine(config, |setup| setup.section("[limits]\nconnections = 10000000"));
    assert_eq!(code, 0, "{report}");
    let clock = level(&report, "clock");
    assert!(clock.0 == "warning" && clock.1.contains("behind") && clock.1.contains("leeway 30 s"), "{clock:?}");
    assert_eq!(level(&report, "descriptors").0, "warning", "{report}");
    let found = report["checks"].as_array().unwrap().iter().filter(|finding| finding["check"] == "discovery");
    let texts: Vec<&str> = found.map(|finding| finding["found"].as_str().unwrap()).collect();
    assert!(texts.iter().any(|text| text.contains("orders:write")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("HS256")), "{texts:?}");
}

#[test]
fn a_broken_surrounding_fails() {
    let patient = Patient::new();
    let expired = certs::expired("edge.test");
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\ncertificate = \"old.crt\"\nkey = \"old.key\"";
    let (code, report) = patient.examine(json!({}), |setup| {
        setup.section(listener).file("old.crt", expired.certificate.clone()).file("old.key", expired.key.clone())
    });
    let certificate = level(&report, "certificate");
    assert!(code == 1 && certificate.0 == "failed" && certificate.1.contains("expired"), "{certificate:?}");
    let config = bearer(&patient.issuer.url());
    let mut entities: Value = serde_json::from_str(&guarded("http://nowhere.invalid", config)).unwrap();
    let redis = json!({"host": "127.0.0.1", "port": free_address().port()});
    let limits = json!({"minute": 5, "policy": "redis", "redis": redis});
    entities["plugins"] = json!([{"name": "rate-limiting", "config": limits}]);
    let path = Setup::new(entities.to_string())
        .section(
            "[dns]\nnameservers = [\"127.0.0.1:1\"]\n[timeouts]\nresolve = 1000\n[store]\npath = \"/nowhere/edge.db\"",
        )
        .write(patient.dir.path(), free_address())
        .unwrap();
    let (code, out, err) = run("doctor", &path, &["--json"], "");
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    assert_eq!((code, level(&report, "redis").0.as_str()), (1, "failed"), "{report}");
    assert_eq!(
        (level(&report, "dns").0.as_str(), level(&report, "store").0.as_str()),
        ("failed", "warning"),
        "{report}"
    );
    // A configuration that is none is not examined.
    let path = Setup::new("nonsense").write(patient.dir.path(), free_address()).unwrap();
    let (code, out, _) = run("doctor", &path, &[], "");
    assert_eq!((code, out.as_str()), (2, ""));
}

#[test]
fn the_parties_of_a_signer_are_asked_too() {
    let (issuer, dir) = (Issuer::start(&[&Key::es256("es-1")]), tempfile::tempdir().unwrap());
    let config = json!({"access_token_jwks_uri": format!("{}/jwks", issuer.url()), "channel_token_optional": true,
        "access_token_introspection_endpoint": format!("{}/introspect", issuer.url())});
    let setup =
        Setup::new(super::jwt_signer::signed("http://127.0.0.1:9", config)).section(super::jwt_signer::IN_MEMORY);
    let path = setup.write(dir.path(), free_address()).unwrap();
    let examine = || {
        let (code, out, err) = run("doctor", &path, &["--json"], "");
        (code, serde_json::from_str::<Value>(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
    };
    let (_, report) = examine();
    for check in ["jwks", "introspection", "dns"] {
        assert_eq!(level(&report, check).0, "ok", "{check}: {report}");
    }
    issuer.fail(Fault::Status(500));
    let (code, report) = examine();
    assert_ne!(code, 0);
    for check in ["jwks", "introspection"] {
        assert_eq!(level(&report, check).0, "failed", "{check}: {report}");
    }
}
