//! One kind of endpoint as a configuration wants it called: which URL, which client, which proof.

use super::client::{Clients, Method};
use super::endpoint::{Endpoint, Endpoints, Purpose, endpoint_id};
use super::failure::{Failure, FailureKind};
use super::request::Request;
use crate::crypto::FieldDigest;
use crate::http_client::Options;
use crate::token::Now;
use crate::token::issuer::Metadata;
use crate::token::keys::KeySource;
use std::sync::{Arc, Mutex, PoisonError};

/// Endpoints that one target holds on to: one for each client by mutual TLS, and more only while discovery changes.
const MAX_HELD: usize = 16;

/// What a target is made of.
pub struct Settings {
    /// What is asked there.
    pub purpose: Purpose,
    /// The configured issuer.
    pub issuer: Box<str>,
    /// The configured URL; without one it is discovered.
    pub url: Option<Box<str>>,
    /// The configured URL for clients by mutual TLS.
    pub mtls_url: Option<Box<str>>,
    /// The configured method of this endpoint, in place of the client's.
    pub method: Option<Method>,
    /// How calls are made.
    pub options: Options,
    /// Who we are.
    pub clients: Arc<Clients>,
    /// What the issuer says of itself.
    pub source: Option<Arc<KeySource>>,
}

/// An endpoint that may have to be discovered before it can be called.
pub struct Target {
    settings: Settings,
    endpoints: Arc<Endpoints>,
    /// Without this an endpoint, and what its breaker knows, would be gone between two calls.
    held: Mutex<Vec<Arc<Endpoint>>>,
}

impl Target {
    /// A target whose endpoints are shared with others of the process.
    pub fn new(settings: Settings, endpoints: &Arc<Endpoints>) -> Self {
        Self { settings, endpoints: Arc::clone(endpoints), held: Mutex::default() }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Adds the proof of a client (by its index) to a request, and finds whom to send it to.
    pub async fn address(&self, client: usize, request: &mut Request) -> Result<Arc<Endpoint>, Failure> {
        let settings = &self.settings;
        let client = settings.clients.client(client);
        let asks = client.is_some_and(|client| client.asks_issuer(settings.method));
        let metadata = self.metadata(asks).await?;
        let supported = metadata.as_ref().map(|metadata| self.supported(metadata)).unwrap_or_default();
        let method = client.map(|client| client.method(settings.method, supported));
        let url = self.url(method.is_some_and(Method::is_mtls), metadata.as_deref()).ok_or(FailureKind::NoEndpoint)?;
        if let (Some(client), Some(method)) = (client, method) {
            // RFC 7523, 3 asks for the authorization server, which has two names: its issuer identifier and its token
            // endpoint's URL. RFC 9126, 2 and the revision of RFC 7523 settle on the first; an endpoint's own URL is what
            // remains where no identifier is known to be the issuer's.
            let issuer = metadata.as_ref().map(|metadata| &*metadata.issuer).filter(|issuer| !issuer.is_empty());
            let proof = client.authenticate(method, issuer.unwrap_or(url), Now::read(), request).await;
            proof.map_err(|error| {
                let plugin = settings.purpose.plugin();
                tracing::error!(%error, "[{plugin}] a client assertion cannot be signed");
                FailureKind::Credentials
            })?;
        }
        let options = match (client, method) {
            (Some(client), Some(method)) => client.options(method, &settings.options),
            _ => settings.options.clone(),
        };
        self.endpoint(url, &options)
    }

    /// What the issuer says of itself, asked only for what is not configured.
    async fn metadata(&self, asks: bool) -> Result<Option<Arc<Metadata>>, Failure> {
        let Some(source) = &self.settings.source else { return Ok(None) };
        if self.settings.url.is_some() && !asks {
            return Ok(source.metadata());
        }
        match source.discovered().await {
            Ok(metadata) => Ok(Some(metadata)),
            // A configured endpoint serves without.
            Err(_) if self.settings.url.is_some() => Ok(None),
            Err(error) => {
                Err(Failure { kind: FailureKind::Undiscovered, retry_after_secs: error.retry_after_secs.max(1) })
            }
        }
    }

    fn supported<'a>(&self, metadata: &'a Metadata) -> &'a [String] {
        let own = match self.settings.purpose {
            Purpose::Introspection => &*metadata.introspection_endpoint_auth_methods_supported,
            _ => &[],
        };
        // RFC 8414, 2 has the token endpoint's methods stand in where an endpoint's own are not listed.
        if own.is_empty() { &metadata.token_endpoint_auth_methods_supported } else { own }
    }

    fn url<'a>(&'a self, mtls: bool, metadata: Option<&'a Metadata>) -> Option<&'a str> {
        let settings = &self.settings;
        let aliases = metadata.map(|metadata| &metadata.mtls_endpoint_aliases);
        let (alias, discovered) = match settings.purpose {
            Purpose::Introspection => (
                aliases.and_then(|aliases| aliases.introspection_endpoint.as_deref()),
                metadata.and_then(|metadata| metadata.introspection_endpoint.as_deref()),
            ),
            Purpose::Token => (
                aliases.and_then(|aliases| aliases.token_endpoint.as_deref()),
                metadata.and_then(|metadata| metadata.token_endpoint.as_deref()),
            ),
            Purpose::UserInfo => (None, metadata.and_then(|metadata| metadata.userinfo_endpoint.as_deref())),
            Purpose::TokenExchange | Purpose::UpstreamToken => (None, None),
        };
        let configured = settings.mtls_url.as_deref().filter(|_| mtls).or(settings.url.as_deref());
        configured.or(alias.filter(|_| mtls)).or(discovered)
    }

    fn endpoint(&self, url: &str, options: &Options) -> Result<Arc<Endpoint>, Failure> {
        let found = self.endpoints.endpoint(self.settings.purpose, &self.settings.issuer, url, options);
        let endpoint = found.map_err(|error| {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "[{}] an endpoint cannot be called", self.settings.purpose.plugin());
            FailureKind::BadEndpoint
        })?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.iter().any(|known| Arc::ptr_eq(known, &endpoint)) {
            if held.len() == MAX_HELD {
                held.remove(0);
            }
            held.push(Arc::clone(&endpoint));
        }
        Ok(endpoint)
    }

    /// A hash over every setting.
    pub fn digest(&self) -> [u8; 32] {
        let settings = &self.settings;
        FieldDigest::default()
            .field(endpoint_id(settings.purpose, &settings.issuer, "", &settings.options))
            .maybe(settings.url.as_deref())
            .maybe(settings.mtls_url.as_deref())
            .field(format!("{:?}", settings.method))
            .field(settings.clients.digest())
            .maybe(settings.source.as_ref().map(|source| source.settings_id()))
            .finish()
    }
}
