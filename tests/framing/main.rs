//! Framing and HTTP/2 by the byte, over sockets (security properties 9, 10, 11 and 17): a corpus of raw requests through
//! the edge and two other proxies, raw responses of upstreams, and HTTP/2 by the frame.
#![allow(clippy::unwrap_used, reason = "a failed test is the message")]

mod corpus;
mod http2;
mod responses;
mod statements;

use serde_json::{Value, json};

/// Entities with one service behind these routes.
fn entities(url: &str, routes: Value) -> String {
    json!({"_format_version": "3.0", "services": [{"name": "up", "url": url, "routes": routes}]}).to_string()
}
