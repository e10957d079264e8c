//! What plugins share: one environment for the process, kept across reloads.

use std::sync::Arc;

use tokio::runtime::Handle;
use uuid::Uuid;

use super::jwt_signer::Signatures;
use super::rate_limiting::Rates;
use super::upstream_oauth;
use crate::crypto::seal::{Purpose, Sealer, SecretsKey};
use crate::http_client::HttpClient;
use crate::keysets::{self, Keeping, KeySets};
use crate::metrics::Exposition;
use crate::oauth;
use crate::oauth::fleet::Fleets;
use crate::oauth::kept::{self, Kept};
use crate::oauth::tokens::{GrantError, Tokens};
use crate::oauth::userinfo::UserInfo;
use crate::redis;
use crate::state::State;
use crate::token::dpop::Ledger;
use crate::token::keys::KeySources;
use crate::token::source::FetchPolicy;

/// Memory for tokens that the edge fetched, and as much for user info, in bytes.
const KEPT_BYTES: usize = 16 << 20;
/// Memory for the edge's own tokens towards upstreams: one for each question of the configuration.
const UPSTREAM_BYTES: usize = 4 << 20;

/// What plugins need beside their own configuration; one for the process, kept across reloads.
#[derive(Clone)]
pub struct PluginEnv {
    keys: Arc<KeySources>,
    node: Arc<Node>,
    redis: Arc<redis::Clients>,
    fleets: Arc<Fleets>,
    tokens: Arc<Kept<Tokens, GrantError>>,
    users: Arc<Kept<UserInfo, GrantError>>,
    upstream_tokens: Arc<upstream_oauth::Store>,
    control: Option<Handle>,
    endpoints: Arc<oauth::Endpoints>,
    client_keys: Arc<oauth::GeneratedKeys>,
    rates: Arc<Rates>,
    proofs: Arc<Ledger>,
    key_sets: Arc<KeySets>,
    signatures: Arc<Signatures>,
    cookies: Option<Arc<Sealer>>,
    /// Held by each instance that wants the health of targets among the metrics.
    pub(super) health: Arc<()>,
}

/// Which node this is.
pub struct Node {
    /// Made anew at each start.
    pub id: Uuid,
    /// The machine's name.
    pub hostname: Box<str>,
}

impl Node {
    fn new() -> Self {
        let hostname = nix::unistd::gethostname().map(|name| name.to_string_lossy().into());
        Self { id: Uuid::new_v4(), hostname: hostname.unwrap_or_else(|_| "localhost".into()) }
    }
}

impl PluginEnv {
    /// The environment whose issuers' keys come from here and whose other work runs on `control`.
    pub fn new(keys: KeySources, control: impl Into<Option<Handle>>) -> Self {
        let control = control.into();
        let redis = Arc::new(redis::Clients::new(control.clone()));
        Self {
            control: control.clone(),
            endpoints: Arc::new(oauth::Endpoints::new(keys.http().clone())),
            client_keys: Arc::default(),
            signatures: Arc::default(),
            cookies: None,
            key_sets: Arc::new(KeySets::new(
                keys.http().clone(),
                Keeping::Memory,
                control.clone(),
                keysets::Policy::default(),
            )),
            keys: Arc::new(keys),
            node: Arc::new(Node::new()),
            fleets: Arc::new(Fleets::new(None, redis.clone())),
            tokens: Arc::new(Kept::new("tokens", KEPT_BYTES, control.clone())),
            users: Arc::new(Kept::new("user_info", KEPT_BYTES, control.clone())),
            upstream_tokens: Arc::new(Kept::new("upstream_tokens", UPSTREAM_BYTES, control.clone())),
            redis,
            rates: Arc::new(Rates::new(control)),
            proofs: Arc::default(),
            health: Arc::default(),
        }
    }

    /// The same with the node's secrets key, under which a fleet shares what it knows and cookies are sealed.
    pub fn with_secrets(self, key: Option<&SecretsKey>) -> Self {
        let cookies = key.map(|key| Arc::new(Sealer::new(key, Purpose::Cookies)));
        Self { fleets: Arc::new(Fleets::new(key, self.redis.clone())), cookies, ..self }
    }

    /// The same with other key sets than those in memory.
    pub fn with_key_sets(self, key_sets: KeySets) -> Self {
        Self { key_sets: Arc::new(key_sets), ..self }
    }

    /// The key sets that tokens are signed with.
    pub fn key_sets(&self) -> &Arc<KeySets> {
        &self.key_sets
    }

    /// The threads that sign tokens for upstreams.
    pub fn signatures(&self) -> &Arc<Signatures> {
        &self.signatures
    }

    /// What seals cookies; nothing without the node's secrets key.
    pub fn cookies(&self) -> Option<&Arc<Sealer>> {
        self.cookies.as_ref()
    }

    /// Where issuers' keys come from.
    pub fn keys(&self) -> &Arc<KeySources> {
        &self.keys
    }

    /// Where everything slow runs; nothing in a program that only checks a configuration.
    pub fn control(&self) -> Option<&Handle> {
        self.control.as_ref()
    }

    /// Which node this is.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The Redis servers in use.
    pub fn redis(&self) -> &redis::Clients {
        &self.redis
    }

    /// Tokens that the edge fetched.
    pub fn tokens(&self) -> &Arc<Kept<Tokens, GrantError>> {
        &self.tokens
    }

    /// User info that the edge fetched.
    pub fn users(&self) -> &Arc<Kept<UserInfo, GrantError>> {
        &self.users
    }

    /// The edge's own tokens towards upstreams.
    pub fn upstream_tokens(&self) -> &Arc<upstream_oauth::Store> {
        &self.upstream_tokens
    }

    /// The caches that fleets share.
    pub fn fleets(&self) -> &Fleets {
        &self.fleets
    }

    /// The issuers' endpoints in use.
    pub fn endpoints(&self) -> &Arc<oauth::Endpoints> {
        &self.endpoints
    }

    /// The keys that the edge signs client assertions with where none are configured.
    pub fn client_keys(&self) -> &Arc<oauth::GeneratedKeys> {
        &self.client_keys
    }

    /// The counters of `rate-limiting`.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The DPoP proofs that were used, and the key of their nonces.
    pub fn proofs(&self) -> &Arc<Ledger> {
        &self.proofs
    }

    /// Whether an instance of `prometheus` has `upstream_health_metrics`.
    pub fn wants_upstream_health(&self) -> bool {
        Arc::strong_count(&self.health) > 1
    }

    /// Writes the numbers of what plugins share.
    pub fn collect(&self, to: &mut Exposition) {
        self.rates.collect(to);
        self.redis.collect(to);
        self.fleets.collect(to);
        kept::collect(&[&*self.tokens, &*self.users, &*self.upstream_tokens], to);
        self.endpoints.collect(to);
    }

    /// Starts fetching for the configuration in force, so that the first request finds keys.
    pub fn warm(&self) {
        self.keys.warm();
        self.key_sets.warm();
    }
}

/// One that asks no issuer, and allows none to be asked in clear text but on loopback.
impl Default for PluginEnv {
    fn default() -> Self {
        let http = HttpClient::new(&[]).expect("the provider and roots that are built in make a client");
        Self::new(KeySources::new(http, State::in_memory(), None, FetchPolicy::default()), None)
    }
}
