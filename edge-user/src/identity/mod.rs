//! Embedded authorization servers, in the shapes of Kong Identity: discovery, key set and token endpoint of each, on
//! one address of their own. Routing here; grants in `token_endpoint`, what a server knows in `store`.

mod attempts;
mod secret;
mod store;
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
use store::AuthServer;
use token_endpoint::TokenEndpoint;

/// One `[[identity.servers]]`.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Unique; its lower-case form is the path of the default issuer.
    pub name: String,
    /// `aud` of the tokens.
    pub audience: String,
    /// RS, PS, ES256, ES384 or EdDSA.
    pub signing_algorithm: Algorithm,
    /// `iss` of the tokens and start of every URL; `http://<address>/<name>` unless given.
    pub issuer: Option<String>,
    /// PEM of the private key; one that lives as long as the process is generated otherwise.
    pub signing_key: Option<PathBuf>,
    /// What can be granted.
    pub scopes: Vec<ScopeSettings>,
    /// Who can ask.
    pub clients: Vec<ClientSettings>,
}

/// A scope of a server.
#[derive(Clone, Debug)]
pub struct ScopeSettings {
    /// As requested and granted.
    pub name: String,
    /// Granted to clients that may have it and ask for no scope at all.
    pub default: bool,
}

/// A client of a server.
#[derive(Clone)]
pub struct ClientSettings {
    /// The `client_id`.
    pub id: String,
    /// The `client_secret`; kept as a hash only.
    pub secret: String,
    /// Scopes it may have.
    pub scopes: Vec<String>,
    /// Lifetime of its tokens in seconds, 60 to 2592000 (Kong's bounds).
    pub access_token_duration: u64,
}

/// Leaves the secret out.
impl std::fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientSettings").field("id", &self.id).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

/// Why the servers cannot be built from their settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Names stand for servers.
    #[error("identity server name `{0}` is empty or taken")]
    Name(String),
    /// Becomes `aud`.
    #[error("identity server `{0}` has an empty audience")]
    Audience(String),
    /// RFC 8414, 2: a URL without query and fragment.
    #[error(
        "identity server `{server}`: issuer `{issuer}` must be an http or https URL without query, fragment or `/` at its end"
    )]
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
    /// RFC 6749, 3.3.
    #[error("identity server `{server}`: scope `{scope}` is not a scope name, or stands twice")]
    Scope {
        /// The server's name.
        server: String,
        /// The scope as given.
        scope: String,
    },
    /// Empty, longer than 255 bytes, with control characters, or taken.
    #[error("identity server `{server}`: client id `{client}` is empty, too long, has control characters, or is taken")]
    Client {
        /// The server's name.
        server: String,
        /// The id as given.
        client: String,
    },
    /// An empty secret is none.
    #[error("identity server `{server}`: client `{client}` has an empty secret")]
    Secret {
        /// The server's name.
        server: String,
        /// The client's id.
        client: String,
    },
    /// A client can only have scopes the server has.
    #[error("identity server `{server}`: client `{client}` names the unknown scope `{scope}`")]
    UnknownScope {
        /// The server's name.
        server: String,
        /// The client's id.
        client: String,
        /// The scope as given.
        scope: String,
    },
    /// Out of Kong's bounds.
    #[error("identity server `{server}`: client `{client}`: access_token_duration must be 60 to 2592000 seconds")]
    Duration {
        /// The server's name.
        server: String,
        /// The client's id.
        client: String,
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
    pub fn new(address: SocketAddr, servers: &[ServerSettings]) -> Result<Self, Error> {
        let mut identity = Self { servers: Vec::new(), endpoints: HashMap::new(), tokens: TokenEndpoint::new() };
        for settings in servers {
            if identity.servers.iter().any(|other| other.name == settings.name) {
                return Err(Error::Name(settings.name.clone()));
            }
            let server = Arc::new(AuthServer::new(address, settings)?);
            for (suffix, endpoint) in ENDPOINTS {
                let path = format!("{}{suffix}", server.path());
                if identity.endpoints.insert(path, (server.clone(), endpoint)).is_some() {
                    return Err(Error::IssuerPath { server: server.name.clone(), path: server.path().into() });
                }
            }
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
    let document = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/oauth/token"),
        "jwks_uri": format!("{issuer}/.well-known/jwks"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "id_token_signing_alg_values_supported": [server.key.algorithm()],
        "claims_supported": ["iss", "aud", "sub", "client_id", "iat", "exp", "jti", "scope"],
    });
    ([(header::CACHE_CONTROL, KEYS_MAX_AGE)], Json(document)).into_response()
}

fn keys(server: &AuthServer) -> Response {
    let set = json!({"keys": [server.key.public_jwk()]});
    ([(header::CACHE_CONTROL, KEYS_MAX_AGE)], Json(set)).into_response()
}

#[cfg(test)]
mod tests;
