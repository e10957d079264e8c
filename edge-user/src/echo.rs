//! An upstream that answers with what it received, as httpbin's `/anything` does: for the demo and for trying things.
//!
//! Any method and path. Multipart bodies are shown as they came, in `data`.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::http_server::{self, Limits};

/// The largest body echoed; more is 413.
const BODY_BYTES: usize = 10 * 1024 * 1024;
/// Longer than a proxy's pool keeps idle connections, so that the proxy is the one to close them.
const IDLE: Duration = Duration::from_secs(3600);

/// Answers every request until `shutdown`.
pub async fn serve(listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let limits = Limits { connections: 16 * 1024, head: IDLE, lifetime: 24 * IDLE, ..Limits::default() };
    http_server::serve(listener, router(), limits, shutdown).await;
}

fn router() -> Router {
    Router::new().fallback(anything).layer(DefaultBodyLimit::max(BODY_BYTES))
}

async fn anything(
    method: Method,
    uri: Uri,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let form = text("content-type").is_some_and(|media| media.starts_with("application/x-www-form-urlencoded"));
    let scheme = text("x-forwarded-proto").unwrap_or_else(|| "http".into());
    let host = text("host").unwrap_or_default();
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let answer = json!({
        "args": pairs(uri.query().unwrap_or_default().as_bytes()),
        "data": if form { String::new() } else { data(&body) },
        "files": {},
        "form": if form { pairs(&body) } else { Value::Object(Map::new()) },
        "headers": fields(&headers),
        "json": serde_json::from_slice::<Value>(&body).ok(),
        "method": method.as_str(),
        "origin": text("x-forwarded-for").unwrap_or_else(|| peer.ip().to_string()),
        "url": format!("{scheme}://{host}{target}"),
    });
    let body = format!("{answer:#}\n");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Names as httpbin spells them (`X-Request-Id`), repeated fields joined (RFC 9110, 5.3).
fn fields(headers: &HeaderMap) -> Value {
    let mut fields = Map::new();
    for name in headers.keys() {
        let values: Vec<_> = headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        fields.insert(title_case(name.as_str()), values.join(",").into());
    }
    Value::Object(fields)
}

fn title_case(name: &str) -> String {
    let mut start = true;
    let spelled = name.chars().map(|character| {
        let letter = if start { character.to_ascii_uppercase() } else { character };
        start = character == '-';
        letter
    });
    spelled.collect()
}

/// Parameters by name; repeated ones become an array.
fn pairs(encoded: &[u8]) -> Value {
    let mut pairs = Map::new();
    for (name, value) in form_urlencoded::parse(encoded) {
        let value = Value::from(value);
        match pairs.get_mut(&*name) {
            None => drop(pairs.insert(name.into_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(pairs)
}

fn data(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) => text.into(),
        Err(_) => format!("data:application/octet-stream;base64,{}", STANDARD.encode(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_server::tests::Running;

    async fn echoed(line: &str, headers: &str, body: &str) -> Value {
        let server = Running::start(router(), Limits::default()).await;
        let (status, _, answer) = server.request(line, headers, body).await;
        assert_eq!(status, 200);
        serde_json::from_str(&answer).unwrap()
    }

    #[tokio::test]
    async fn a_request_comes_back() {
        let answer = echoed(
            "POST /any/path?a=1&b=2&b=3&c=%20",
            "Host: up.example\r\nx-one-id: 1\r\nX-One-ID: 2\r\nX-Forwarded-Proto: https\r\n",
            "{\"k\":[1]}",
        )
        .await;
        assert_eq!(
            answer,
            json!({
                "args": {"a": "1", "b": ["2", "3"], "c": " "},
                "data": "{\"k\":[1]}",
                "files": {},
                "form": {},
                "headers": {
                    "Connection": "close", "Content-Length": "9", "Host": "up.example",
                    "X-Forwarded-Proto": "https", "X-One-Id": "1,2",
                },
                "json": {"k": [1]},
                "method": "POST",
                "origin": "127.0.0.1",
                "url": "https://up.example/any/path?a=1&b=2&b=3&c=%20",
            })
        );
    }

    #[tokio::test]
    async fn forms_and_odd_bodies_have_their_places() {
        let answer = echoed("PATCH /", "Content-Type: application/x-www-form-urlencoded\r\n", "x=1&y=a+b").await;
        assert_eq!((&answer["form"], &answer["data"]), (&json!({"x": "1", "y": "a b"}), &json!("")));
        let answer = echoed("DELETE /", "X-Forwarded-For: 192.0.2.1\r\n", "plain").await;
        assert_eq!((&answer["data"], &answer["json"]), (&json!("plain"), &Value::Null));
        assert_eq!(answer["origin"], "192.0.2.1");
        assert_eq!(data(b"\xff"), "data:application/octet-stream;base64,/w==");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_413() {
        let server =
            Running::start(Router::new().fallback(anything).layer(DefaultBodyLimit::max(3)), Limits::default());
        let server = server.await;
        assert_eq!(server.request("PUT /", "", "abc").await.0, 200);
        assert_eq!(server.request("PUT /", "", "abcd").await.0, 413);
    }
}
