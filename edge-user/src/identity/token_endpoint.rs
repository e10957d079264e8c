//! The token endpoint (RFC 6749, 3.2): reads the form, authenticates the client, one function per grant type.
//!
//! Tokens are JWTs after RFC 9068. Hashing and signing run on blocking threads; failures are slowed (`attempts`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::attempts::{Attempts, Subject};
use super::secret::SecretHash;
use super::store::{AuthServer, Client};
use crate::crypto::{MacKey, random};

/// The longest form; the router holds requests to it.
pub(super) const BODY_BYTES: usize = 16 * 1024;
/// Secrets hashed at a time: guessers may keep one core busy, not all.
const HASHING: usize = 1;
/// How long a request waits for its turn to be hashed.
const HASHING_WAIT: Duration = Duration::from_secs(5);
/// RFC 6749, 5.1; with the client's credentials in the request, errors are kept from caches as well.
const NO_STORE: [(header::HeaderName, &str); 2] = [(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")];

/// Why no token is issued. Names and statuses are those of RFC 6749, 5.2 where it has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the body must be application/x-www-form-urlencoded")]
    MediaType,
    #[error("the body is too large")]
    TooLarge,
    #[error("the body could not be read")]
    Body,
    #[error("a parameter is repeated")]
    Repeated,
    #[error("grant_type is missing")]
    GrantTypeMissing,
    #[error("this grant_type is not offered")]
    GrantTypeUnsupported,
    #[error("a scope is malformed")]
    Scope,
    #[error("the client authenticates in more than one way")]
    TwoCredentials,
    #[error("client authentication failed")]
    Client,
    #[error("too many failed attempts, wait before the next")]
    Slowed { seconds: u64 },
    #[error("too many authentications at once")]
    Busy,
    #[error("an internal error")]
    Internal,
    #[error("only POST is allowed")]
    Method,
}

impl Error {
    fn code(self) -> &'static str {
        match self {
            Self::GrantTypeUnsupported => "unsupported_grant_type",
            Self::Scope => "invalid_scope",
            Self::Client => "invalid_client",
            Self::Slowed { .. } | Self::Busy => "temporarily_unavailable",
            Self::Internal => "server_error",
            _ => "invalid_request",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Client => StatusCode::UNAUTHORIZED,
            Self::Slowed { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    fn header(self) -> Option<(header::HeaderName, String)> {
        match self {
            // RFC 9110, 15.5.2 wants a challenge with every 401.
            Self::Client => Some((header::WWW_AUTHENTICATE, r#"Basic realm="oauth/token", charset="UTF-8""#.into())),
            Self::Slowed { seconds } => Some((header::RETRY_AFTER, seconds.to_string())),
            Self::Busy => Some((header::RETRY_AFTER, "1".into())),
            Self::Method => Some((header::ALLOW, "POST".into())),
            _ => None,
        }
    }
}

impl From<BytesRejection> for Error {
    fn from(rejection: BytesRejection) -> Self {
        match rejection {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => Self::TooLarge,
            _ => Self::Body,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body = Json(json!({"error": self.code(), "error_description": self.to_string()}));
        let mut response = (self.status(), NO_STORE, body).into_response();
        if let Some((name, value)) = self.header()
            && let Ok(value) = value.try_into()
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// What every method but POST gets (RFC 6749, 3.2).
pub(super) fn method_not_allowed() -> Response {
    Error::Method.into_response()
}

/// Claims of an access token (RFC 9068, 2.2).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    client_id: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    #[serde(flatten)]
    configured: Map<String, Value>,
}

/// A successful answer (RFC 6749, 5.1).
#[derive(Serialize)]
struct Granted {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
}

/// The token endpoint of all servers: what they share to authenticate clients.
pub(super) struct TokenEndpoint {
    attempts: Attempts,
    decoy: Arc<SecretHash>,
    proof_key: MacKey,
    hashing: Semaphore,
}

impl TokenEndpoint {
    pub(super) fn new() -> Self {
        Self {
            attempts: Attempts::default(),
            decoy: Arc::new(SecretHash::decoy()),
            proof_key: MacKey::new(&random::<32>()),
            hashing: Semaphore::new(HASHING),
        }
    }

    /// Answers one POST.
    pub(super) async fn answer(&self, server: Arc<AuthServer>, peer: IpAddr, request: Request) -> Response {
        match self.token(&server, peer, request).await {
            Ok(granted) => (NO_STORE, Json(granted)).into_response(),
            Err(error) => {
                tracing::info!(target: "edge", server = server.name, client = %peer, "no token issued: {error}");
                error.into_response()
            }
        }
    }

    async fn token(&self, server: &Arc<AuthServer>, peer: IpAddr, request: Request) -> Result<Granted, Error> {
        let headers = request.headers().clone();
        let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim();
        if !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Error::MediaType);
        }
        let form = parameters(&Bytes::from_request(request, &()).await?)?;
        match form.get("grant_type").map(String::as_str) {
            None => Err(Error::GrantTypeMissing),
            Some("client_credentials") => self.client_credentials(server, peer, &headers, &form).await,
            Some(_) => Err(Error::GrantTypeUnsupported),
        }
    }

    /// RFC 6749, 4.4.
    async fn client_credentials(
        &self,
        server: &Arc<AuthServer>,
        peer: IpAddr,
        headers: &HeaderMap,
        form: &HashMap<String, String>,
    ) -> Result<Granted, Error> {
        let requested = form.get("scope").map(|scope| scope.split(' ').filter(|name| !name.is_empty()).collect());
        let requested: Option<Vec<&str>> = requested;
        if requested.iter().flatten().any(|scope| !is_scope(scope)) {
            return Err(Error::Scope);
        }
        let client = self.authenticate(server, peer, credentials(headers, form)?).await?;
        let scopes = server.grant(client, requested.as_deref());
        issue(server, client, &scopes, requested.is_some()).await
    }

    /// Finds the client whose secret this is. Unknown clients cost the same time as wrong secrets.
    async fn authenticate<'a>(
        &self,
        server: &'a Arc<AuthServer>,
        peer: IpAddr,
        (id, secret): (String, String),
    ) -> Result<&'a Client, Error> {
        let client = server.client(&id);
        if let Some(client) = client.filter(|client| client.secret.is_proven(&secret, &self.proof_key)) {
            return Ok(client);
        }
        // Only clients that exist are counted one by one: a made-up id buys no room in the map.
        let subject = client.map(|client| Subject::Client(server.name.clone(), client.id.clone()));
        let subjects = [Some(Subject::address(peer)), subject.clone()];
        let waits = subjects.iter().flatten().filter_map(|subject| self.attempts.wait(subject, Instant::now()));
        if let Some(wait) = waits.max() {
            return Err(Error::Slowed { seconds: wait.as_secs() + 1 });
        }
        if self.is_right(server, client, secret).await? {
            subject.iter().for_each(|subject| self.attempts.succeeded(subject));
            return client.ok_or(Error::Client);
        }
        for subject in subjects.into_iter().flatten() {
            self.attempts.failed(subject, Instant::now());
        }
        Err(Error::Client)
    }

    async fn is_right(&self, server: &Arc<AuthServer>, client: Option<&Client>, secret: String) -> Result<bool, Error> {
        let Ok(Ok(_turn)) = timeout(HASHING_WAIT, self.hashing.acquire()).await else { return Err(Error::Busy) };
        let (server, id) = (server.clone(), client.map(|client| client.id.clone()));
        let (decoy, key) = (self.decoy.clone(), self.proof_key.clone());
        let verify = move || match id.and_then(|id| server.client(&id)) {
            Some(client) => client.secret.verify(&secret, &key),
            None => decoy.verify(&secret, &key),
        };
        tokio::task::spawn_blocking(verify).await.map_err(|_| Error::Internal)
    }
}

/// Signs a token for the client; RSA takes up to a millisecond, hence a blocking thread.
async fn issue(server: &Arc<AuthServer>, client: &Client, scopes: &[String], asked: bool) -> Result<Granted, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let configured = server.claims(client, scopes, asked, now).map_err(|error| {
        tracing::error!(target: "edge", server = server.name, client_id = client.id, "a claim has no value: {error}");
        Error::Internal
    })?;
    let (server, id, expires_in) = (server.clone(), client.id.clone(), client.access_token_duration);
    let scope = scopes.join(" ");
    let sign = move || {
        let claims = Claims {
            iss: &server.issuer,
            aud: &server.audience,
            sub: &id,
            client_id: &id,
            iat: now,
            exp: now + expires_in,
            jti: URL_SAFE_NO_PAD.encode(random::<16>()),
            scope: &scope,
            configured,
        };
        let access_token = server.key.sign("at+jwt", &claims)?;
        Ok(Granted { access_token, token_type: "Bearer", expires_in, scope })
    };
    tokio::task::spawn_blocking(sign).await.map_err(|_| Error::Internal)?.map_err(|error: crate::crypto::Error| {
        tracing::error!(target: "edge", "cannot sign an access token: {error}");
        Error::Internal
    })
}

/// Parameters by name. One without a value counts as left out, one that repeats is refused (RFC 6749, 3.2).
fn parameters(body: &[u8]) -> Result<HashMap<String, String>, Error> {
    let mut parameters = HashMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        if parameters.insert(name.into_owned(), value.into_owned()).is_some() {
            return Err(Error::Repeated);
        }
    }
    parameters.retain(|_, value| !value.is_empty());
    Ok(parameters)
}

/// Whether this is a scope token (RFC 6749, 3.3).
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// Client id and secret from `Authorization: Basic` or the form, never both (RFC 6749, 2.3 and 2.3.1).
fn credentials(headers: &HeaderMap, form: &HashMap<String, String>) -> Result<(String, String), Error> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (id, secret) = (form.get("client_id"), form.get("client_secret"));
    match (fields.next(), fields.next()) {
        (None, _) => match (id, secret) {
            (Some(id), Some(secret)) => Ok((id.clone(), secret.clone())),
            _ => Err(Error::Client),
        },
        (Some(_), Some(_)) => Err(Error::TwoCredentials),
        (Some(field), None) => {
            let (user, password) = basic(field.as_bytes()).ok_or(Error::Client)?;
            // Some clients repeat their id in the form; another id, or a second secret, is another authentication.
            if secret.is_some() || id.is_some_and(|id| *id != user) {
                return Err(Error::TwoCredentials);
            }
            Ok((user, password))
        }
    }
}

/// RFC 7617, with both parts form-encoded before (RFC 6749, 2.3.1).
fn basic(field: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = std::str::from_utf8(field).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((form_decoded(user)?, form_decoded(password)?))
}

fn form_decoded(text: &str) -> Option<String> {
    // As a value the text may hold what a form separates by.
    let pair = format!("={}", text.replace('&', "%26"));
    form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_once_each() {
        for (body, expected) in [
            ("a=1&b=%20+x", Ok(vec![("a", "1"), ("b", "  x")])),
            ("a=&b=1", Ok(vec![("b", "1")])),
            ("", Ok(vec![])),
            ("a=1&a=1", Err(Error::Repeated)),
            ("a=&%61=1", Err(Error::Repeated)),
        ] {
            let mut pairs = parameters(body.as_bytes()).map(|form| form.into_iter().collect::<Vec<_>>());
            pairs.iter_mut().for_each(|pairs| pairs.sort());
            let expected: Result<Vec<_>, _> =
                expected.map(|pairs| pairs.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect());
            assert_eq!(pairs, expected, "{body}");
        }
    }

    #[test]
    fn basic_credentials_are_decoded_twice() {
        let field = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for (field, expected) in [
            (field("id:secret"), Some(("id", "secret"))),
            (field("id:se:cret"), Some(("id", "se:cret"))),
            (field("a%3Ab:s%2B%26+x&y=z"), Some(("a:b", "s+& x&y=z"))),
            (field("id:"), Some(("id", ""))),
            (field("no colon"), None),
            ("bAsIc aWQ6cw==".into(), Some(("id", "s"))),
            ("Basic".into(), None),
            ("Basic !!".into(), None),
            ("Bearer aWQ6cw==".into(), None),
        ] {
            let seen = basic(field.as_bytes());
            assert_eq!(seen.as_ref().map(|(id, secret)| (id.as_str(), secret.as_str())), expected, "{field}");
        }
    }
}
