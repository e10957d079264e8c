//! `/openid-connect/jwks`: the public keys that the edge signs its client assertions with, for issuers to fetch;
//! `/openid-connect/issuers`: what it knows of issuers.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{AdminState, message};
use crate::token::keys::{Listed, Which};

/// `GET /openid-connect/jwks`: a JWK set (RFC 7517, 5) without private members.
pub(super) async fn jwks(State(state): State<AdminState>) -> Response {
    match state.client_keys.published().await {
        Ok(set) => ([(header::CONTENT_TYPE, "application/jwk-set+json")], set.to_string()).into_response(),
        Err(error) => {
            tracing::error!(%error, "a client key cannot be made");
            message(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred")
        }
    }
}

/// `DELETE /openid-connect/jwks`: other keys from now on.
pub(super) async fn rotate(State(state): State<AdminState>) -> StatusCode {
    state.client_keys.rotate();
    tracing::info!("client keys rotated");
    StatusCode::NO_CONTENT
}

/// `GET /openid-connect/issuers`: every issuer in use.
pub(super) async fn issuers(State(state): State<AdminState>) -> Response {
    let data: Vec<Value> = state.issuers.list(Which::All).into_iter().map(object).collect();
    answer(json!({"data": data, "next": null}))
}

/// `GET /openid-connect/issuers/{url or id}`
pub(super) async fn issuer(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    match state.issuers.list(which(&name)).into_iter().next() {
        Some(listed) => answer(object(listed)),
        None => message(StatusCode::NOT_FOUND, "Not found"),
    }
}

/// `DELETE /openid-connect/issuers`: what is known is fetched anew.
pub(super) async fn forget_all(State(state): State<AdminState>) -> StatusCode {
    let issuers = state.issuers.forget(Which::All);
    tracing::info!(issuers, "issuers are asked anew");
    StatusCode::NO_CONTENT
}

/// `DELETE /openid-connect/issuers/{url or id}`: the same of one.
pub(super) async fn forget(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    let issuers = state.issuers.forget(which(&name));
    if issuers == 0 {
        return message(StatusCode::NOT_FOUND, "Not found");
    }
    tracing::info!(issuers, "an issuer is asked anew");
    StatusCode::NO_CONTENT.into_response()
}

fn which(name: &str) -> Which<'_> {
    match Uuid::try_parse(name) {
        Ok(id) => Which::Id(id.into_bytes()),
        Err(_) => Which::Url(name),
    }
}

fn object(listed: Listed) -> Value {
    let keys = listed.keys.iter().filter_map(|key| serde_json::from_str(key).ok()).collect::<Vec<Value>>();
    json!({
        "id": Uuid::from_bytes(listed.id).to_string(),
        "issuer": listed.issuer,
        "created_at": listed.fetched_ms.map(|ms| ms / 1000),
        "configuration": listed.metadata.as_deref(),
        "keys": keys,
    })
}

fn answer(body: Value) -> Response {
    ([("x-content-type-options", "nosniff")], Json(body)).into_response()
}
