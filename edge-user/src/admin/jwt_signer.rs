//! `/jwt-signer/jwks`: the key sets that tokens are signed with, and those they are verified with, public members alone.

use axum::Json;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{AdminState, message};
use crate::keysets::{Credentials, NotRotated, Published};

/// Bytes of the longest body that is read.
const MAX_BODY_BYTES: usize = 16 << 10;

/// `GET /jwt-signer/jwks`: every set.
pub(super) async fn sets(State(state): State<AdminState>) -> Response {
    match state.key_sets.list().await {
        Ok(sets) => {
            let data: Vec<Value> = sets.iter().map(object).collect();
            ([("x-content-type-options", "nosniff")], Json(json!({"data": data, "next": null}))).into_response()
        }
        Err(_) => unexpected(),
    }
}

/// `GET /jwt-signer/jwks/{name or id}`: a JWK set (RFC 7517, 5), with Kong's `previous` beside `keys`; with `?all=true`
/// those stand in `keys`, too, for who knows that member alone.
pub(super) async fn set(
    State(state): State<AdminState>,
    Path(which): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let all = form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "all" && value == "true");
    match state.key_sets.find(&which).await {
        Ok(Some(set)) if all => jwks(json!({ "keys": set.all() })),
        Ok(Some(set)) => jwks(both(set)),
        Ok(None) => not_found(),
        Err(_) => unexpected(),
    }
}

/// `DELETE /jwt-signer/jwks/{name or id}`: who still uses the set gets another.
pub(super) async fn delete(State(state): State<AdminState>, Path(which): Path<String>) -> Response {
    match state.key_sets.delete(&which).await {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => not_found(),
        Err(_) => unexpected(),
    }
}

/// `POST /jwt-signer/jwks/{name or id}/rotate`: other keys, generated or downloaded; what was current is previous.
pub(super) async fn rotate(State(state): State<AdminState>, Path(which): Path<String>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return message(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large");
    };
    let credentials = match credentials(&head.headers, &body) {
        Ok(credentials) => credentials,
        Err((status, text)) => return message(status, text),
    };
    match state.key_sets.rotate(&which, credentials).await {
        Ok(Some(set)) => jwks(both(set)),
        Ok(None) => not_found(),
        Err(error @ NotRotated::Credentials) => message(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(NotRotated::Failed(_)) => unexpected(),
    }
}

/// The body of `rotate`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    client_username: Option<String>,
    client_password: Option<Zeroizing<String>>,
    client_certificate: Option<Value>,
}

/// For this download alone. No error repeats what was sent.
fn credentials(headers: &HeaderMap, body: &Bytes) -> Result<Option<Credentials>, (StatusCode, &'static str)> {
    if body.is_empty() {
        return Ok(None);
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "a body is taken as application/json alone"));
    }
    let bad = |text| Err((StatusCode::BAD_REQUEST, text));
    let Ok(rotation) = serde_json::from_slice::<Rotation>(body) else {
        return bad("the body is not a JSON object of the strings client_username and client_password");
    };
    if rotation.client_certificate.is_some() {
        return bad("client_certificate is not taken here: the plugin's keyset_client_certificate is sent");
    }
    match (rotation.client_username, rotation.client_password) {
        (None, None) => Ok(None),
        // RFC 7617, 2: a colon would end the name.
        (Some(username), Some(_)) if username.contains(':') => bad("client_username has a colon"),
        (Some(username), Some(password)) => Ok(Some(Credentials { username, password })),
        _ => bad("client_username and client_password go together"),
    }
}

/// As the list has it, times in seconds.
fn object(set: &Published) -> Value {
    json!({
        "id": set.id.to_string(),
        "name": set.name,
        "created_at": set.created_ms.map(|ms| ms / 1000),
        "updated_at": set.updated_ms.map(|ms| ms / 1000),
        "keys": set.keys,
        "previous": set.previous,
    })
}

fn both(set: Published) -> Value {
    json!({"keys": set.keys, "previous": set.previous})
}

fn jwks(body: Value) -> Response {
    let fields = [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (fields, body.to_string()).into_response()
}

fn not_found() -> Response {
    message(StatusCode::NOT_FOUND, "Not found")
}

fn unexpected() -> Response {
    message(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred")
}

#[cfg(test)]
#[path = "jwt_signer_tests.rs"]
mod tests;
