//! Embedded authorization servers, in the shapes of Kong Identity: discovery, key set and token endpoint of each, on
//! one address of their own. Routing here; grants in `token_endpoint`, what a server knows in `store`.

mod attempts;
mod secret;
mod store;
mod template;
mod token_endpoint;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio::net::TcpListener;

use crate::http_server::{self, Limits};
use crate::settings;
use store::AuthServer;
pub use template::{About, Subject, Template};
use token_endpoint::TokenEndpoint;

/// Why the servers cannot be built from their settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoints' paths are appended to it (RFC 8414, 3.1).
    #[error("identity server `{server}`: issuer `{issuer}` must not end in `/`")]
    Issuer {
        /// The server's name.
        server: String,
        /// What was given.
        issuer: String,
    },
    /// `0.0.0.0` is nobody's name.
    #[error("identity server `{0}` needs an `issuer`, because the identity address is not one that clients can call")]
    IssuerMissing(String),
    /// Requests are told apart by path.
    #[error("identity server `{server}`: another server's URLs have the path `{path}` too")]
    IssuerPath {
        /// The second server of that path.
        server: String,
        /// The path.
        path: String,
    },
    /// The key file cannot be read.
    #[error("identity server `{server}`: cannot read signing_key {path}")]
    KeyFile {
        /// The server's name.
        server: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The key does not fit, or none could be made.
    #[error("identity server `{server}`: no signing key for {algorithm:?}")]
    Key {
        /// The server's name.
        server: String,
        /// The algorithm wanted.
        algorithm: Algorithm,
        /// What the crypto module said.
        #[source]
        source: crate::crypto::Error,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Endpoint {
    Discovery,
    Keys,
    Token,
}

/// Suffixes of the issuer; clients rely on them.
const ENDPOINTS: [(&str, Endpoint); 3] = [
    ("/.well-known/openid-configuration", Endpoint::Discovery),
    ("/.well-known/jwks", Endpoint::Keys),
    ("/oauth/token", Endpoint::Token),
];
/// Relying parties may keep a key set this long; rotation has to publish a key earlier than that.
const KEYS_MAX_AGE: &str = "public, max-age=300";

/// All authorization servers of the process.
pub struct Identity {
    servers: Vec<Arc<AuthServer>>,
    endpoints: HashMap<String, (Arc<AuthServer>, Endpoint)>,
    tokens: TokenEndpoint,
}

impl Identity {
    /// Builds the servers; `address` is the one that is really bound. Hashes secrets and may generate RSA keys, which
    /// takes up to seconds: not on a runtime's thread.
    pub fn new(settings: &settings::Identity, address: SocketAddr) -> Result<Self, Error> {
        let mut identity = Self { servers: Vec::new(), endpoints: HashMap::new(), tokens: TokenEndpoint::new() };
        for settings in &settings.servers {
            let server = Arc::new(AuthServer::new(settings, address)?);
            for (suffix, endpoint) in ENDPOINTS {
                let path = format!("{}{suffix}", server.path());
                if identity.endpoints.insert(path, (server.clone(), endpoint)).is_some() {
                    return Err(Error::IssuerPath { server: server.name.clone(), path: server.path().into() });
                }
            }
            tracing::info!(target: "edge", name = server.name, description = settings.about.description, "issuer {}", server.issuer);
            identity.servers.push(server);
        }
        Ok(identity)
    }

    /// Name and issuer of each server, as a start-up line or the demo shows them.
    pub fn issuers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.servers.iter().map(|server| (server.name.as_str(), server.issuer.as_str()))
    }
}

/// Serves all servers until `shutdown`.
pub async fn serve(listener: TcpListener, identity: Arc<Identity>, shutdown: impl Future<Output = ()>) {
    http_server::serve(listener, router(identity), Limits::default(), shutdown).await;
}

fn router(identity: Arc<Identity>) -> Router {
    Router::new().fallback(route).layer(DefaultBodyLimit::max(token_endpoint::BODY_BYTES)).with_state(identity)
}

/// Looked up by hand, because an issuer's path may hold what axum takes for a pattern.
async fn route(
    State(identity): State<Arc<Identity>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let Some((server, endpoint)) = identity.endpoints.get(request.uri().path()) else {
        return (StatusCode::NOT_FOUND, Json(json!({"message": "Not found"}))).into_response();
    };
    match (endpoint, request.method()) {
        (Endpoint::Discovery, &(Method::GET | Method::HEAD)) => discovery(server),
        (Endpoint::Keys, &(Method::GET | Method::HEAD)) => keys(server),
        (Endpoint::Token, &Method::POST) => identity.tokens.answer(server.clone(), peer.ip(), request).await,
        (Endpoint::Token, _) => token_endpoint::method_not_allowed(),
        (Endpoint::Discovery | Endpoint::Keys, _) => {
            let body = Json(json!({"message": "Method not allowed"}));
            (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], body).into_response()
        }
    }
}

/// OpenID Connect Discovery 1.0, 3, with what there is: no authorization endpoint, hence no response types.
fn discovery(server: &AuthServer) -> Response {
    let issuer = &server.issuer;
    let mut claims = vec!["iss", "aud", "sub", "client_id", "iat", "exp", "jti", "scope"];
    claims.extend(server.claim_names());
    let document = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/oauth/token"),
        "jwks_uri": format!("{issuer}/.well-known/jwks"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "id_token_signing_alg_values_supported": [server.key.algorithm()],
        "claims_supported": claims,
    });
    ([(header::CACHE_CONTROL, KEYS_MAX_AGE)], Json(document)).into_response()
}

fn keys(server: &AuthServer) -> Response {
    let set = json!({"keys": [server.key.public_jwk()]});
    ([(header::CACHE_CONTROL, KEYS_MAX_AGE)], Json(set)).into_response()
}

#[cfg(test)]
mod tests;
