//! `edge check` and refused starts: every problem at once, with its place and what would be right.

use std::process::Command;

use edge_tests::edge::{Setup, binary, free_address};
use serde_json::json;

use super::open;

/// Status and standard error of `edge check`.
fn check(setup: &Setup) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let config = setup.write(dir.path(), free_address()).unwrap();
    let output = Command::new(binary()).args(["check", "--config"]).arg(config).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn good_files_pass() {
    let (status, said) = check(&Setup::new(open("http://127.0.0.1:9")));
    assert_eq!(status, 0, "{said}");
}

#[test]
fn every_problem_is_named_with_its_place() {
    // A5, A6
    let yaml = "_format_version: \"3.0\"\nservices:\n- name: up\n  url: http://127.0.0.1:9\n  retrys: 3\n  routes:\n  \
                - name: r\n    paths: [orders]\n    plugins:\n    - name: openid-connect\n      config:\n        \
                issuer: http://127.0.0.1:9\n        require_scop: [x]\n        leeway: soon\n    - name: bot-detection\nvaults:\n- name: u\n";
    let (status, said) = check(&Setup::new(yaml).section("[limits]\nhead_bites = 1\nfields = \"many\""));
    assert_eq!(status, 1, "{said}");
    for part in ["retrys", "require_scop", "leeway", "bot-detection", "vaults", "head_bites", "fields", "paths"] {
        assert!(said.contains(part), "{part} is not named in:\n{said}");
    }
    assert!(said.lines().any(|line| line.contains("kong.yaml:5") && line.contains("retrys")), "{said}");
    assert!(said.contains("edge.toml:"), "{said}");
    assert!(said.contains("not supported yet"), "{said}");
    assert!(said.contains("expected"), "{said}");
    let failed = Setup::new(yaml).try_start();
    assert!(failed.is_err(), "the edge starts with bad entities");
}

#[test]
fn closed_defaults_and_unsafe_sources_are_refused() {
    // A7, K1, T2
    let guarded = |config: serde_json::Value| Setup::new(super::guarded("http://127.0.0.1:9", config));
    for (config, said) in [
        (json!({}), "issuer"),
        (json!({"issuer": "http://idp.example.com"}), "https"),
        (json!({"issuer": "https://idp.example.com", "auth_methods": []}), "auth_methods"),
        (json!({"issuer": "https://idp.example.com", "auth_methods": ["magic"]}), "magic"),
    ] {
        let (status, text) = check(&guarded(config.clone()));
        assert_eq!(status, 1, "{config}");
        assert!(text.contains(said), "{config}: {text}");
    }
    let (status, text) = check(&guarded(json!({"issuer": "https://idp.example.com", "auth_methods": ["bearer"]})));
    assert_eq!(status, 0, "{text}");
    let allowed =
        guarded(json!({"issuer": "http://idp.example.com"})).section("[issuers]\nallow_http = [\"idp.example.com\"]");
    let (status, text) = check(&allowed);
    assert_eq!(status, 0, "{text}");
}

#[test]
fn the_version_is_the_packages() {
    let output = Command::new(binary()).arg("version").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
}
