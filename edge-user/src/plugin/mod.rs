//! Plugins: one closed enum, run by descending PRIORITY. One file or folder per plugin, named as in the configuration.

pub mod acl;
pub mod arguments;
pub mod correlation_id;
pub mod cors;
mod env;
pub(crate) mod fields;
pub mod http_profile;
pub mod ip_restriction;
mod json;
pub mod jwt_signer;
mod naming;
pub mod openid_connect;
pub mod plan;
pub mod prometheus;
pub mod rate_limiting;
mod request;
pub mod request_size_limiting;
pub mod request_termination;
pub mod request_transformer;
pub mod response_transformer;
#[cfg(test)]
pub(crate) mod testing;
pub mod upstream_oauth;

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use crate::config::reader::Reader;
use crate::config::snapshot::{Protocol, Protocols};
use crate::http::head::Head;
use crate::reason::Reason;
use crate::token::keys::KeySource;
use acl::Acl;
use correlation_id::CorrelationId;
use cors::Cors;
pub use env::{Node, PluginEnv};
use http_profile::HttpProfile;
use ip_restriction::IpRestriction;
use jwt_signer::JwtSigner;
use openid_connect::OpenidConnect;
use openid_connect::refusal::Detail;
use prometheus::Prometheus;
use rate_limiting::RateLimiting;
pub use request::{Access, Answer, AnswerBody, Caller, Ended, Notes, Request, RequestBody, Response};
use request_size_limiting::RequestSizeLimiting;
use request_termination::RequestTermination;
use request_transformer::RequestTransformer;
use response_transformer::ResponseTransformer;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use upstream_oauth::UpstreamOauth;

/// Every plugin this program has, with its PRIORITY.
pub const PLUGINS: &[(&str, u32)] = &[
    (acl::NAME, acl::PRIORITY),
    (correlation_id::NAME, correlation_id::PRIORITY),
    (cors::NAME, cors::PRIORITY),
    (http_profile::NAME, http_profile::PRIORITY),
    (ip_restriction::NAME, ip_restriction::PRIORITY),
    (jwt_signer::NAME, jwt_signer::PRIORITY),
    (openid_connect::NAME, openid_connect::PRIORITY),
    (prometheus::NAME, prometheus::PRIORITY),
    (rate_limiting::NAME, rate_limiting::PRIORITY),
    (request_size_limiting::NAME, request_size_limiting::PRIORITY),
    (request_termination::NAME, request_termination::PRIORITY),
    (request_transformer::NAME, request_transformer::PRIORITY),
    (response_transformer::NAME, response_transformer::PRIORITY),
    (upstream_oauth::NAME, upstream_oauth::PRIORITY),
];

/// A token that is proven bad: nothing that time or an issuer could mend.
#[derive(Clone, Copy, Debug)]
pub struct BadToken {
    /// What tells it from others, in this process alone.
    pub fingerprint: u64,
    /// Whether the same token is bad at the next time too, unless keys or configuration change.
    pub lasts: bool,
}

/// The answer to a refused request.
pub struct Refusal<'a> {
    /// The plugin's name.
    pub plugin: &'static str,
    /// 400, 401, 403 or 503.
    pub status: u16,
    /// Why, for log and metrics.
    pub reason: Reason,
    /// The values of `WWW-Authenticate` (RFC 6750, 3), at most one for each scheme.
    pub challenges: [Option<Vec<u8>>; 2],
    /// The body's `message`.
    pub message: &'a str,
    /// The body's `error_description`.
    pub description: Option<&'a str>,
    /// The value of `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// The configured issuer.
    pub issuer: Option<&'a str>,
    /// What counts against the client's address.
    pub bad_token: Option<BadToken>,
    detail: Detail<'a>,
}

impl Refusal<'_> {
    /// The token, as it came. For nothing that is written down.
    pub fn token(&self) -> &[u8] {
        self.detail.token()
    }

    /// What tells the token from others, in this process alone.
    pub fn fingerprint(&self) -> u64 {
        self.detail.fingerprint()
    }

    /// Whether the same token is refused in the same words from now on, unless keys or configuration change: it is bad, or
    /// says that it ended before this time, in milliseconds since 1970.
    pub fn lasts(&self, ended_before_ms: i64) -> bool {
        match self.reason {
            Reason::TokenExpired => self.detail.expiry_ms().is_some_and(|expiry| expiry < ended_before_ms),
            _ => self.bad_token.is_some_and(|token| token.lasts),
        }
    }

    /// What the error log adds, built when it is asked for. Never the token.
    pub fn detail(&self) -> String {
        self.detail.text(self.status, self.reason)
    }
}

/// How another entity is found.
type Find<'a, T> = &'a (dyn Fn(&str) -> Option<T> + 'a);

/// The route and service that an instance is for; neither for one that is for all.
#[derive(Clone, Copy, Default)]
pub struct Place<'a> {
    /// The route's id.
    pub route: Option<Uuid>,
    /// The service's id.
    pub service: Option<Uuid>,
    /// How the certificate of one of the `ca_certificates` is found, by id or name.
    pub authorities: Option<Find<'a, CertificateDer<'static>>>,
    /// How one of the `certificates` is found with its key, by id.
    pub certificates: Option<Find<'a, Arc<CertifiedKey>>>,
}

impl Place<'_> {
    /// The certificate of one of the `ca_certificates`.
    pub fn authority(&self, id: &str) -> Option<CertificateDer<'static>> {
        self.authorities?(id)
    }

    /// One of the `certificates` with its key.
    pub fn certificate(&self, id: &str) -> Option<Arc<CertifiedKey>> {
        self.certificates?(id)
    }
}

/// One configured plugin. Clones share one instance.
#[derive(Clone)]
pub enum Plugin {
    /// `acl`
    Acl(Arc<Acl>),
    /// `correlation-id`
    CorrelationId(Arc<CorrelationId>),
    /// `cors`
    Cors(Arc<Cors>),
    /// `http-profile`
    HttpProfile(Arc<HttpProfile>),
    /// `ip-restriction`
    IpRestriction(Arc<IpRestriction>),
    /// `jwt-signer`
    JwtSigner(Arc<JwtSigner>),
    /// `openid-connect`
    OpenidConnect(Arc<OpenidConnect>),
    /// `request-size-limiting`
    RequestSizeLimiting(Arc<RequestSizeLimiting>),
    /// `request-termination`
    RequestTermination(Arc<RequestTermination>),
    /// `request-transformer`
    RequestTransformer(Arc<RequestTransformer>),
    /// `response-transformer`
    ResponseTransformer(Arc<ResponseTransformer>),
    /// `rate-limiting`
    RateLimiting(Arc<RateLimiting>),
    /// `prometheus`
    Prometheus(Arc<Prometheus>),
    /// `upstream-oauth`
    UpstreamOauth(Arc<UpstreamOauth>),
}

impl Plugin {
    /// Reads one plugin's `config`; `None` and a problem where it is wrong or the name unknown.
    pub fn parse(name: &str, config: Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<Plugin> {
        match name {
            acl::NAME => Acl::parse(config).map(|plugin| Self::Acl(Arc::new(plugin))),
            correlation_id::NAME => CorrelationId::parse(config).map(|plugin| Self::CorrelationId(Arc::new(plugin))),
            cors::NAME => Cors::parse(config).map(|plugin| Self::Cors(Arc::new(plugin))),
            http_profile::NAME => HttpProfile::parse(config, env).map(|plugin| Self::HttpProfile(Arc::new(plugin))),
            ip_restriction::NAME => IpRestriction::parse(config).map(|plugin| Self::IpRestriction(Arc::new(plugin))),
            jwt_signer::NAME => JwtSigner::parse(config, place, env).map(|plugin| Self::JwtSigner(Arc::new(plugin))),
            openid_connect::NAME => {
                OpenidConnect::parse(config, place, env).map(|plugin| Self::OpenidConnect(Arc::new(plugin)))
            }
            request_size_limiting::NAME => {
                RequestSizeLimiting::parse(config).map(|plugin| Self::RequestSizeLimiting(Arc::new(plugin)))
            }
            request_termination::NAME => {
                RequestTermination::parse(config, env).map(|plugin| Self::RequestTermination(Arc::new(plugin)))
            }
            request_transformer::NAME => {
                RequestTransformer::parse(config).map(|plugin| Self::RequestTransformer(Arc::new(plugin)))
            }
            response_transformer::NAME => {
                ResponseTransformer::parse(config).map(|plugin| Self::ResponseTransformer(Arc::new(plugin)))
            }
            rate_limiting::NAME => {
                RateLimiting::parse(config, place, env).map(|plugin| Self::RateLimiting(Arc::new(plugin)))
            }
            prometheus::NAME => Prometheus::parse(config, env).map(|plugin| Self::Prometheus(Arc::new(plugin))),
            upstream_oauth::NAME => {
                UpstreamOauth::parse(config, place, env).map(|plugin| Self::UpstreamOauth(Arc::new(plugin)))
            }
            _ => {
                let expected = format!("a plugin the edge has: plugin '{name}' not enabled");
                config.sink().problem(config.line(), config.path(), format!("plugin '{name}'"), expected);
                None
            }
        }
    }

    /// The name as in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Acl(_) => acl::NAME,
            Self::CorrelationId(_) => correlation_id::NAME,
            Self::Cors(_) => cors::NAME,
            Self::HttpProfile(_) => http_profile::NAME,
            Self::IpRestriction(_) => ip_restriction::NAME,
            Self::JwtSigner(_) => jwt_signer::NAME,
            Self::OpenidConnect(_) => openid_connect::NAME,
            Self::RequestSizeLimiting(_) => request_size_limiting::NAME,
            Self::RequestTermination(_) => request_termination::NAME,
            Self::RequestTransformer(_) => request_transformer::NAME,
            Self::ResponseTransformer(_) => response_transformer::NAME,
            Self::RateLimiting(_) => rate_limiting::NAME,
            Self::Prometheus(_) => prometheus::NAME,
            Self::UpstreamOauth(_) => upstream_oauth::NAME,
        }
    }

    /// Kong's PRIORITY: higher runs first.
    pub fn priority(&self) -> u32 {
        match self {
            Self::Acl(_) => acl::PRIORITY,
            Self::CorrelationId(_) => correlation_id::PRIORITY,
            Self::Cors(_) => cors::PRIORITY,
            Self::HttpProfile(_) => http_profile::PRIORITY,
            Self::IpRestriction(_) => ip_restriction::PRIORITY,
            Self::JwtSigner(_) => jwt_signer::PRIORITY,
            Self::OpenidConnect(_) => openid_connect::PRIORITY,
            Self::RequestSizeLimiting(_) => request_size_limiting::PRIORITY,
            Self::RequestTermination(_) => request_termination::PRIORITY,
            Self::RequestTransformer(_) => request_transformer::PRIORITY,
            Self::ResponseTransformer(_) => response_transformer::PRIORITY,
            Self::RateLimiting(_) => rate_limiting::PRIORITY,
            Self::Prometheus(_) => prometheus::PRIORITY,
            Self::UpstreamOauth(_) => upstream_oauth::PRIORITY,
        }
    }

    /// Lower-case names of the fields by which it speaks to upstreams.
    pub fn owned_names(&self) -> Vec<Box<str>> {
        match self {
            Self::HttpProfile(plugin) => plugin.owned_names(),
            Self::JwtSigner(plugin) => plugin.owned_names(),
            Self::OpenidConnect(plugin) => plugin.owned_names(),
            Self::UpstreamOauth(plugin) => plugin.owned_names(),
            // Those of `acl` are the edge's whatever is configured.
            _ => Vec::new(),
        }
    }

    /// Lower-case names of the fields, besides `Authorization`, in which it looks for credentials. A plugin that does
    /// cannot be for a consumer or group.
    pub fn credential_names(&self) -> Vec<Box<str>> {
        match self {
            Self::JwtSigner(plugin) => plugin.credential_names(),
            Self::OpenidConnect(plugin) => plugin.credential_names(),
            _ => Vec::new(),
        }
    }

    /// The keys that it verifies tokens with, where it waits for an issuer to give them.
    pub fn awaited_keys(&self) -> Vec<&Arc<KeySource>> {
        match self {
            Self::JwtSigner(plugin) => plugin.awaited_keys().collect(),
            Self::OpenidConnect(plugin) => plugin.validator().awaited_keys().into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The lower-case name of the field in which a proxy in front shows it a client's certificate.
    pub fn certificate_name(&self) -> Option<Box<str>> {
        match self {
            Self::OpenidConnect(plugin) => plugin.certificate_name(),
            _ => None,
        }
    }

    /// Whether an instance may be for a consumer or group (`scope` says which): it must run after one is known.
    pub fn may_be_for(&self, scope: &str) -> bool {
        match self {
            Self::Acl(_) | Self::Cors(_) | Self::JwtSigner(_) | Self::OpenidConnect(_) => false,
            Self::CorrelationId(_) | Self::Prometheus(_) | Self::RequestSizeLimiting(_) => scope == "consumer",
            Self::HttpProfile(_)
            | Self::IpRestriction(_)
            | Self::RateLimiting(_)
            | Self::RequestTermination(_)
            | Self::RequestTransformer(_)
            | Self::ResponseTransformer(_)
            | Self::UpstreamOauth(_) => true,
        }
    }

    /// What it is for where its entity does not say.
    pub fn protocols(&self) -> Protocols {
        match self {
            Self::IpRestriction(_) => Protocols::ALL_HTTP.with(Protocol::Tcp).with(Protocol::Tls),
            _ => Protocols::ALL_HTTP,
        }
    }

    /// Whether it runs on connections that are steered without being read.
    pub fn steers(&self) -> bool {
        matches!(self, Self::IpRestriction(_))
    }

    /// The same decision for a connection as for its requests: nothing where this client may pass.
    pub fn steer(&self, client: IpAddr) -> Option<Reason> {
        match self {
            Self::IpRestriction(plugin) if !plugin.admits(client) => Some(Reason::AddressNotAllowed),
            _ => None,
        }
    }

    /// Whether it looks at responses.
    pub fn answers(&self) -> bool {
        matches!(self, Self::CorrelationId(_) | Self::Cors(_) | Self::ResponseTransformer(_))
    }

    /// Whether it has the last word on heads.
    pub fn profile(&self) -> Option<&HttpProfile> {
        match self {
            Self::HttpProfile(plugin) => Some(plugin),
            _ => None,
        }
    }

    /// Whether a response may be another than without it.
    pub fn changes_responses(&self) -> bool {
        self.answers() || self.profile().is_some_and(HttpProfile::changes_responses)
    }

    /// Whether it looks at requests that have ended.
    pub fn logs(&self) -> bool {
        matches!(self, Self::Prometheus(_))
    }

    /// The access phase: before the request is forwarded.
    pub async fn access<'a>(&'a self, request: &mut Request<'_>) -> Access<'a> {
        match self {
            Self::Acl(plugin) => plugin.access(request),
            Self::CorrelationId(plugin) => plugin.access(request),
            Self::Cors(plugin) => plugin.access(request),
            Self::HttpProfile(plugin) => plugin.access(request),
            Self::IpRestriction(plugin) => plugin.access(request),
            Self::JwtSigner(plugin) => plugin.access(request).await,
            Self::OpenidConnect(plugin) => plugin.access(request).await,
            Self::RateLimiting(plugin) => plugin.access(request).await,
            Self::RequestSizeLimiting(plugin) => plugin.access(request),
            Self::RequestTermination(plugin) => plugin.access(request).await,
            Self::RequestTransformer(plugin) => plugin.access(request).await,
            Self::UpstreamOauth(plugin) => plugin.access(request).await,
            Self::ResponseTransformer(_) | Self::Prometheus(_) => Access::Continue,
        }
    }

    /// The response phase: before the head of any response is sent, the edge's own included.
    pub fn respond(&self, response: &mut Response<'_>) {
        match self {
            Self::CorrelationId(plugin) => plugin.respond(response),
            Self::Cors(plugin) => plugin.respond(response),
            Self::ResponseTransformer(plugin) => plugin.respond(response),
            _ => {}
        }
    }

    /// Whether it will rewrite the body of this response, which is then read whole.
    pub fn rewrites_body(&self, response: &Head) -> bool {
        match self {
            Self::ResponseTransformer(plugin) => plugin.rewrites_body(response),
            _ => false,
        }
    }

    /// The response's body rewritten, or nothing where it stays as it is.
    pub fn rewrite_body(&self, body: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::ResponseTransformer(plugin) => plugin.rewrite_body(body),
            _ => None,
        }
    }

    /// The log phase: after the request's last byte, whoever answered.
    pub fn log(&self, ended: &Ended<'_>) {
        if let Self::Prometheus(plugin) = self {
            plugin.log(ended);
        }
    }
}
