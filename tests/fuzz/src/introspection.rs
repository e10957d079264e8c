//! An introspection answer: a token is active where a clear JSON answer says so in the one way there is, and nowhere else.

use edge_user::http_client::Answer;
use edge_user::oauth::introspection::{Unsaid, is_active};
use http::{HeaderMap, HeaderValue};

use super::{first_line, json};

/// A status and a content type, and behind the first line end the body.
pub fn answer(data: &[u8]) {
    let (line, body) = first_line(data);
    let line = String::from_utf8_lossy(line);
    let (status, kind) = line.split_once(' ').unwrap_or((&line, ""));
    let mut headers = HeaderMap::new();
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert("content-type", kind);
    }
    let answer = Answer { status: status.parse().unwrap_or(200), headers, body: body.to_vec() };
    let strict = is_active(&answer, Unsaid::Malformed);
    let lax = is_active(&answer, Unsaid::Active);
    assert!(strict.is_err() || strict == lax, "the switch changes what is said");
    let Ok(active) = lax else { return };
    assert_eq!(answer.status, 200);
    let kind = kind.split(';').next().unwrap_or_default();
    assert!(kind.trim().eq_ignore_ascii_case("application/json"), "{kind} is no JSON");
    let Some(said) = json::read(body) else { return };
    let said = said.as_object().expect("an object");
    match said.get("active") {
        Some(value) => assert_eq!((value, strict), (&serde_json::Value::Bool(active), Ok(active))),
        None => assert!(active && strict.is_err(), "nothing is said, and yet counts"),
    }
}
