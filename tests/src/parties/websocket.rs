//! The library `websockets` as server and client, by `tests/websocket/echo.py`, which says what messages do.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Ended, place, tied};
use crate::edge::free_address;
use crate::log::Log;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/websocket/echo.py");

/// A WebSocket server.
pub struct WebSocket {
    address: SocketAddr,
    _child: Ended,
}

impl WebSocket {
    /// Starts it; it speaks the subprotocol `echo.test` with whom offers it.
    pub fn start() -> Self {
        let address = free_address();
        let mut command = tied(place("TESTS_WEBSOCKET"));
        command.args([SCRIPT, "serve", &address.port().to_string()]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start the WebSocket server");
        let log = Log::follow(child.stdout.take().expect("stdout"));
        let child = Ended(child);
        log.wait(0, Duration::from_secs(30), |line| line == "ready").expect("a WebSocket server that listens");
        Self { address, _child: child }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL for services, which speak HTTP until the upgrade.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// What came of a connection.
#[derive(Debug)]
pub struct Talked {
    /// The status of the handshake: 101, or why not.
    pub status: u16,
    /// What each message was answered with.
    pub replies: Vec<String>,
    /// The code of the server's closing frame, 1006 for an end without one; none where the client closed.
    pub code: Option<u16>,
    /// The words of the closing frame.
    pub reason: String,
    /// The subprotocol that was chosen.
    pub subprotocol: Option<String>,
    /// From the first byte to the end.
    pub took: Duration,
}

/// Sends these messages one after another, with options (`--field name=value`, `--subprotocol name`, `--linger seconds`
/// to wait for the server's end).
pub fn talk(url: &str, arguments: &[&str]) -> Talked {
    let mut command = Command::new(place("TESTS_WEBSOCKET"));
    let output = command.args([SCRIPT, "call", url]).args(arguments).output().expect("run the client");
    let text = String::from_utf8_lossy(&output.stdout);
    let seen: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{url} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let number = |key: &str| seen[key].as_u64().and_then(|number| u16::try_from(number).ok());
    Talked {
        status: number("status").unwrap_or(0),
        replies: seen["replies"].as_array().into_iter().flatten().filter_map(word).collect(),
        code: number("code"),
        reason: word(&seen["reason"]).unwrap_or_default(),
        subprotocol: word(&seen["subprotocol"]),
        took: Duration::from_millis(seen["ms"].as_u64().unwrap_or(0)),
    }
}
