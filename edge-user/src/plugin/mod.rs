//! Plugins: one closed enum, run by descending PRIORITY. One file or folder per plugin, named as in the configuration.

pub mod openid_connect;

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::reader::Reader;
use crate::config::snapshot::{Consumer, Consumers};
use crate::http::head::Head;
use crate::http_client::HttpClient;
use crate::reason::Reason;
use crate::state::State;
use crate::token::cache::LocalCache;
use crate::token::keys::{FetchPolicy, KeySources};
use crate::token::{Attempt, KeyWait, Now};
use openid_connect::OpenidConnect;
use openid_connect::refusal::Detail;

/// Every plugin this program has, with its PRIORITY.
pub const PLUGINS: &[(&str, u32)] = &[(openid_connect::NAME, openid_connect::PRIORITY)];

/// What plugins need beside their own configuration; one for the process, kept across reloads.
#[derive(Clone)]
pub struct PluginEnv {
    keys: Arc<KeySources>,
}

impl PluginEnv {
    /// The environment whose issuers' keys come from here.
    pub fn new(keys: KeySources) -> Self {
        Self { keys: Arc::new(keys) }
    }

    /// Where issuers' keys come from.
    pub fn keys(&self) -> &KeySources {
        &self.keys
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
        Self::new(KeySources::new(http, State::in_memory(), None, FetchPolicy::default()))
    }
}

/// One request as plugins see it before it is forwarded.
pub struct Credentialed<'a> {
    /// The request's head, which a plugin may change.
    pub head: &'a mut Head,
    /// The query, without its question mark.
    pub query: Option<&'a [u8]>,
    /// The host that routing saw, without a port: the realm of challenges.
    pub host: &'a [u8],
    /// When the request came.
    pub now: Now,
    /// The worker's verdicts.
    pub cache: &'a LocalCache,
    /// Whom tokens may stand for.
    pub consumers: &'a Consumers,
    /// The client by the rules of `trusted_ips`.
    pub client: IpAddr,
    /// Whether the request has waited for keys already.
    pub attempt: Attempt,
}

/// Whom a request stands for, as later phases and the log need it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The consumer that the token was mapped to.
    pub consumer: Option<Arc<Consumer>>,
    /// When the token stops being good, leeway included: a stream that outlives its request ends then (P8).
    pub expires_unix_ms: Option<i64>,
}

/// A plugin's answer to a request.
pub enum Access<'a> {
    /// Go on.
    Continue(Identity),
    /// Answer the client.
    Refuse(Refusal<'a>),
    /// Wait for keys, then ask the same plugin again with `Attempt::Waited`.
    Wait(KeyWait),
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

/// One configured plugin. Clones share one instance.
#[derive(Clone)]
pub enum Plugin {
    /// `openid-connect`
    OpenidConnect(Arc<OpenidConnect>),
}

impl Plugin {
    /// Reads one plugin's `config`; `None` and a problem where it is wrong or the name unknown.
    pub fn parse(name: &str, config: Reader<'_>, env: &PluginEnv) -> Option<Plugin> {
        match name {
            openid_connect::NAME => {
                OpenidConnect::parse(config, env).map(|plugin| Self::OpenidConnect(Arc::new(plugin)))
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
            Self::OpenidConnect(_) => openid_connect::NAME,
        }
    }

    /// Kong's PRIORITY: higher runs first.
    pub fn priority(&self) -> u32 {
        match self {
            Self::OpenidConnect(_) => openid_connect::PRIORITY,
        }
    }

    /// Lower-case names of the fields by which it speaks to upstreams.
    pub fn owned_names(&self) -> Vec<Box<str>> {
        match self {
            Self::OpenidConnect(plugin) => plugin.owned_names(),
        }
    }

    /// The access phase. Never waits itself.
    pub fn access<'a>(&'a self, request: Credentialed<'_>) -> Access<'a> {
        match self {
            Self::OpenidConnect(plugin) => plugin.access(request),
        }
    }
}
