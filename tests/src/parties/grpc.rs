//! gRPC's own library as server and client, by `tests/grpc/echo.py`, which says what the methods do.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Ended, place, tied};
use crate::certs;
use crate::edge::free_address;
use crate::log::Log;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/grpc/echo.py");

/// A gRPC server.
pub struct Grpc {
    address: SocketAddr,
    _child: Ended,
    _dir: tempfile::TempDir,
}

impl Grpc {
    /// In clear text.
    pub fn start() -> Self {
        Self::with(false)
    }

    /// Over TLS, with the harness's certificate.
    pub fn tls() -> Self {
        Self::with(true)
    }

    fn with(tls: bool) -> Self {
        let (address, dir) = (free_address(), tempfile::tempdir().expect("a folder"));
        let mut command = tied(place("TESTS_GRPC"));
        command.arg(SCRIPT).arg("serve").arg(address.to_string());
        if tls {
            let pair = certs::server();
            for (name, text) in [("crt", &pair.certificate), ("key", &pair.key)] {
                let path = dir.path().join(name);
                std::fs::write(&path, text).expect("write a file");
                command.arg(path);
            }
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start the gRPC server");
        let log = Log::follow(child.stdout.take().expect("stdout"));
        let child = Ended(child);
        log.wait(0, Duration::from_secs(30), |line| line == "ready").expect("a gRPC server that listens");
        Self { address, _child: child, _dir: dir }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What came of a call.
#[derive(Debug)]
pub struct Called {
    /// The status by name: `OK`, `NOT_FOUND`.
    pub code: String,
    /// `grpc-message`
    pub details: String,
    /// The messages that came.
    pub messages: Vec<String>,
    /// The fields of the head.
    pub initial: Vec<(String, String)>,
    /// The fields of the trailers.
    pub trailing: Vec<(String, String)>,
    /// How long it took.
    pub took: Duration,
}

/// Calls a method of `test.Echo` with these messages and options (`--field name=value`, `--deadline seconds`).
pub fn call(target: SocketAddr, method: &str, arguments: &[&str]) -> Called {
    run(&target.to_string(), method, arguments)
}

/// As `call`, over TLS to `localhost`, trusting this root.
pub fn call_tls(port: u16, root: &Path, method: &str, arguments: &[&str]) -> Called {
    let root = root.display().to_string();
    run(&format!("localhost:{port}"), method, &[&["--root", &root], arguments].concat())
}

fn run(target: &str, method: &str, arguments: &[&str]) -> Called {
    let mut command = Command::new(place("TESTS_GRPC"));
    let output = command.args([SCRIPT, "call", target, method]).args(arguments).output().expect("run the client");
    let text = String::from_utf8_lossy(&output.stdout);
    let seen: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{method} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |key: &str| seen[key].as_array().cloned().unwrap_or_default();
    let fields = |key: &str| list(key).iter().map(|field| (word(&field[0]), word(&field[1]))).collect();
    Called {
        code: word(&seen["code"]),
        details: word(&seen["details"]),
        messages: list("messages").iter().map(word).collect(),
        initial: fields("initial"),
        trailing: fields("trailing"),
        took: Duration::from_millis(seen["ms"].as_u64().unwrap_or(0)),
    }
}
