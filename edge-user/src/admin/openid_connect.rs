//! `/openid-connect/jwks`: the public keys that the edge signs its client assertions with, for issuers to fetch.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{AdminState, message};

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
