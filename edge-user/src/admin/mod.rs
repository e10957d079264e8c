//! Admin API: routing, and who may ask. Answers in Kong's shapes; what Kong says of Lua or nginx and is not true here
//! is left out. On the control runtime, never on a worker.

mod guard;
mod jwt_signer;
mod openid_connect;
mod status;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

use crate::http_server::{self, Limits};
use crate::keysets::KeySets;
use crate::metrics::Registry;
use crate::oauth::GeneratedKeys;
use crate::token::keys::KeySources;

pub use status::{Configuration, Node, PluginInfo};

/// What the Admin API answers from.
#[derive(Clone)]
pub struct AdminState {
    /// This process.
    pub node: Arc<Node>,
    /// All numbers.
    pub registry: Arc<Registry>,
    /// The configuration in force, asked at every request.
    pub configuration: Arc<dyn Fn() -> Configuration + Send + Sync>,
    /// The keys that the edge signs client assertions with.
    pub client_keys: Arc<GeneratedKeys>,
    /// The issuers in use.
    pub issuers: Arc<KeySources>,
    /// The key sets that tokens are signed with.
    pub key_sets: Arc<KeySets>,
    /// Where it listens: one of the names a client may call it by.
    pub address: SocketAddr,
}

/// Serves the Admin API until `shutdown`.
pub async fn serve(listener: TcpListener, state: AdminState, shutdown: impl Future<Output = ()>) {
    http_server::serve(listener, router(state), Limits::default(), shutdown).await;
}

fn router(state: AdminState) -> Router {
    let address = state.address;
    let reads: [(&str, MethodRouter<AdminState>); 4] = [
        ("/", get(status::root)),
        ("/status", get(status::status)),
        ("/status/ready", get(status::ready)),
        ("/metrics", get(status::metrics)),
    ];
    let mut router = Router::new();
    for (path, read) in reads {
        let read = readable(read);
        router = router.route(path, read.clone());
        if path != "/" {
            router = router.route(&format!("{path}/"), read);
        }
    }
    for path in ["/openid-connect/jwks", "/openid-connect/jwks/"] {
        router = router.route(path, deletable(get(openid_connect::jwks).delete(openid_connect::rotate)));
    }
    for path in ["/openid-connect/issuers", "/openid-connect/issuers/"] {
        router = router.route(path, deletable(get(openid_connect::issuers).delete(openid_connect::forget_all)));
    }
    let issuer = get(openid_connect::issuer).delete(openid_connect::forget);
    router = router.route("/openid-connect/issuers/{*issuer}", deletable(issuer));
    for slash in ["", "/"] {
        let set = deletable(get(jwt_signer::set).delete(jwt_signer::delete));
        let rotate = post(jwt_signer::rotate);
        router = router
            .route(&format!("/jwt-signer/jwks{slash}"), readable(get(jwt_signer::sets)))
            .route(&format!("/jwt-signer/jwks/{{set}}{slash}"), set)
            .route(&format!("/jwt-signer/jwks/{{set}}/rotate{slash}"), allowing(rotate, "OPTIONS, POST"));
    }
    router
        .fallback(async || message(StatusCode::NOT_FOUND, "Not found"))
        .method_not_allowed_fallback(async || message(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"))
        .layer(middleware::from_fn(move |request: Request, next: middleware::Next| async move {
            match guard::check(&request, address) {
                Ok(()) => next.run(request).await,
                Err(error) => message(StatusCode::FORBIDDEN, &error.to_string()),
            }
        }))
        .with_state(state)
}

fn readable(methods: MethodRouter<AdminState>) -> MethodRouter<AdminState> {
    allowing(methods, "GET, HEAD, OPTIONS")
}

fn deletable(methods: MethodRouter<AdminState>) -> MethodRouter<AdminState> {
    allowing(methods, "DELETE, GET, HEAD, OPTIONS")
}

fn allowing(methods: MethodRouter<AdminState>, names: &'static str) -> MethodRouter<AdminState> {
    methods.options(move || async move { (StatusCode::NO_CONTENT, [("allow", names)]) })
}

/// An error body of Kong's.
fn message(status: StatusCode, text: &str) -> Response {
    (status, [("x-content-type-options", "nosniff")], Json(json!({ "message": text }))).into_response()
}
