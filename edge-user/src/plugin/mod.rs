//! Plugins: one closed enum, run by descending PRIORITY. One file or folder per plugin, named as in the configuration.

pub mod openid_connect;
pub mod plan;
pub mod prometheus;
pub mod rate_limiting;
mod request;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use crate::config::reader::Reader;
use crate::http::head::Head;
use crate::http_client::HttpClient;
use crate::metrics::Exposition;
use crate::reason::Reason;
use crate::redis;
use crate::state::State;
use crate::token::keys::KeySources;
use crate::token::source::FetchPolicy;
use openid_connect::OpenidConnect;
use openid_connect::refusal::Detail;
use prometheus::Prometheus;
use rate_limiting::{RateLimiting, Rates};
pub use request::{Access, Answer, AnswerBody, Caller, Ended, Notes, Request, RequestBody, Response};
use tokio::runtime::Handle;
use uuid::Uuid;

/// Every plugin this program has, with its PRIORITY.
pub const PLUGINS: &[(&str, u32)] = &[
    (openid_connect::NAME, openid_connect::PRIORITY),
    (rate_limiting::NAME, rate_limiting::PRIORITY),
    (prometheus::NAME, prometheus::PRIORITY),
];

/// What plugins need beside their own configuration; one for the process, kept across reloads.
#[derive(Clone)]
pub struct PluginEnv {
    keys: Arc<KeySources>,
    redis: Arc<redis::Clients>,
    rates: Arc<Rates>,
    /// Held by each instance that wants the health of targets among the metrics.
    health: Arc<()>,
}

impl PluginEnv {
    /// The environment whose issuers' keys come from here and whose other work runs on `control`.
    pub fn new(keys: KeySources, control: impl Into<Option<Handle>>) -> Self {
        let control = control.into();
        Self {
            keys: Arc::new(keys),
            redis: Arc::new(redis::Clients::new(control.clone())),
            rates: Arc::new(Rates::new(control)),
            health: Arc::default(),
        }
    }

    /// Where issuers' keys come from.
    pub fn keys(&self) -> &KeySources {
        &self.keys
    }

    /// The Redis servers in use.
    pub fn redis(&self) -> &redis::Clients {
        &self.redis
    }

    /// The counters of `rate-limiting`.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Whether an instance of `prometheus` has `upstream_health_metrics`.
    pub fn wants_upstream_health(&self) -> bool {
        Arc::strong_count(&self.health) > 1
    }

    /// Writes the numbers of what plugins share.
    pub fn collect(&self, to: &mut Exposition) {
        self.rates.collect(to);
        self.redis.collect(to);
    }

    /// Starts fetching for the configuration in force, so that the first request finds keys.
    pub fn warm(&self) {
        self.keys.warm();
    }
}

/// One that asks no issuer, and allows none to be asked in clear text but on loopback.
impl Default for PluginEnv {
    fn default() -> Self {
        let http = HttpClient::new(&[]).expect("the provider and roots that are built in make a client");
        Self::new(KeySources::new(http, State::in_memory(), None, FetchPolicy::default()), None)
    }
}

/// The answer to a refused request.
pub struct Refusal<'a> {
    /// 400, 401, 403 or 503.
    pub status: u16,
    /// Why, for log and metrics.
    pub reason: Reason,
    /// The value of `WWW-Authenticate` (RFC 6750, 3).
    pub challenge: Option<Vec<u8>>,
    /// The body's `message`.
    pub message: &'a str,
    /// The value of `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// The configured issuer.
    pub issuer: Option<&'a str>,
    /// Whether this counts against the client's address: proven bad, and nothing that time or an issuer could mend.
    pub proven_bad: bool,
    detail: Detail<'a>,
}

impl Refusal<'_> {
    /// What the error log adds, built when it is asked for. Never the token.
    pub fn detail(&self) -> String {
        self.detail.text(self.reason)
    }
}

/// The route and service that an instance is for; neither for one that is for all.
#[derive(Clone, Copy, Default)]
pub struct Place {
    /// The route's id.
    pub route: Option<Uuid>,
    /// The service's id.
    pub service: Option<Uuid>,
}

/// One configured plugin. Clones share one instance.
#[derive(Clone)]
pub enum Plugin {
    /// `openid-connect`
    OpenidConnect(Arc<OpenidConnect>),
    /// `rate-limiting`
    RateLimiting(Arc<RateLimiting>),
    /// `prometheus`
    Prometheus(Arc<Prometheus>),
}

impl Plugin {
    /// Reads one plugin's `config`; `None` and a problem where it is wrong or the name unknown.
    pub fn parse(name: &str, config: Reader<'_>, place: &Place, env: &PluginEnv) -> Option<Plugin> {
        match name {
            openid_connect::NAME => {
                OpenidConnect::parse(config, env).map(|plugin| Self::OpenidConnect(Arc::new(plugin)))
            }
            rate_limiting::NAME => {
                RateLimiting::parse(config, place, env).map(|plugin| Self::RateLimiting(Arc::new(plugin)))
            }
            prometheus::NAME => Prometheus::parse(config, env).map(|plugin| Self::Prometheus(Arc::new(plugin))),
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
            Self::OpenidConnect(_) => openid_connect::NAME,
            Self::RateLimiting(_) => rate_limiting::NAME,
            Self::Prometheus(_) => prometheus::NAME,
        }
    }

    /// Kong's PRIORITY: higher runs first.
    pub fn priority(&self) -> u32 {
        match self {
            Self::OpenidConnect(_) => openid_connect::PRIORITY,
            Self::RateLimiting(_) => rate_limiting::PRIORITY,
            Self::Prometheus(_) => prometheus::PRIORITY,
        }
    }

    /// Lower-case names of the fields by which it speaks to upstreams.
    pub fn owned_names(&self) -> Vec<Box<str>> {
        match self {
            Self::OpenidConnect(plugin) => plugin.owned_names(),
            Self::RateLimiting(_) | Self::Prometheus(_) => Vec::new(),
        }
    }

    /// Whether an instance may be for a consumer or group (`scope` says which): it must run after one is known.
    pub fn may_be_for(&self, scope: &str) -> bool {
        match self {
            Self::OpenidConnect(_) => false,
            Self::RateLimiting(_) => true,
            Self::Prometheus(_) => scope == "consumer",
        }
    }

    /// Whether it looks at responses.
    pub fn answers(&self) -> bool {
        match self {
            Self::OpenidConnect(_) => false,
            Self::RateLimiting(_) | Self::Prometheus(_) => false,
        }
    }

    /// Whether it looks at requests that have ended.
    pub fn logs(&self) -> bool {
        match self {
            Self::OpenidConnect(_) | Self::RateLimiting(_) => false,
            Self::Prometheus(_) => true,
        }
    }

    /// The access phase: before the request is forwarded.
    pub async fn access<'a>(&'a self, request: &mut Request<'_>) -> Access<'a> {
        match self {
            Self::OpenidConnect(plugin) => plugin.access(request).await,
            Self::RateLimiting(plugin) => plugin.access(request).await,
            Self::Prometheus(_) => Access::Continue,
        }
    }

    /// The response phase: before the head of any response is sent, the edge's own included.
    pub fn respond(&self, _response: &mut Response<'_>) {
        match self {
            Self::OpenidConnect(_) => {}
            Self::RateLimiting(_) | Self::Prometheus(_) => {}
        }
    }

    /// Whether it will rewrite the body of this response, which is then read whole.
    pub fn rewrites_body(&self, _response: &Head) -> bool {
        match self {
            Self::OpenidConnect(_) => false,
            Self::RateLimiting(_) | Self::Prometheus(_) => false,
        }
    }

    /// The response's body rewritten, or nothing where it stays as it is.
    pub fn rewrite_body(&self, _body: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::OpenidConnect(_) => None,
            Self::RateLimiting(_) | Self::Prometheus(_) => None,
        }
    }

    /// The log phase: after the request's last byte, whoever answered.
    pub fn log(&self, ended: &Ended<'_>) {
        match self {
            Self::OpenidConnect(_) | Self::RateLimiting(_) => {}
            Self::Prometheus(plugin) => plugin.log(ended),
        }
    }
}
