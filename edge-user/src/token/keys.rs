//! Key sources: where an issuer's keys come from, when they are fetched again, and what holds while they cannot be.
//!
//! All I/O runs on the control runtime. Workers read an immutable `KeySet`, ask for a refetch, and at most wait for its
//! end. One fetch at a time per source; requests cause fetches only within a token bucket and a back-off.

mod fetch;
mod listing;
mod origin;
mod wait;

pub use self::listing::{Listed, Which};
pub use self::origin::{Document, Survey};
pub use self::wait::{Attempt, KeyWait, Missing};

use super::Now;
use super::issuer::{Metadata, Unavailable};
use super::jwks::{self, Key, KeySet};
use super::source::{Discovery, FetchPolicy, SourceSettings};
use crate::crypto;
use crate::http_client::{self, HttpClient};
use crate::state::State;
use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// A discovery document serves this long for refetches of the keys alone.
const DISCOVERY_AGE_MS: i64 = 3_600_000;
/// `kid`s remembered as unknown; more are simply asked for again within the bucket.
const MAX_UNKNOWN: usize = 256;

/// Why keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The discovery document could not be fetched.
    #[error("loading configuration for {url} using discovery failed")]
    Discovery {
        /// The document's URL.
        url: String,
        /// Why.
        #[source]
        source: http_client::Error,
    },
    /// The document is not what RFC 8414, 2 says.
    #[error("the discovery document at {url} is malformed")]
    Document {
        /// The document's URL.
        url: String,
    },
    /// RFC 8414, 3.3: the document's issuer is another.
    #[error("the discovery document at {url} is of issuer {found:?}, not of the configured one")]
    Issuer {
        /// The document's URL.
        url: String,
        /// What it says.
        found: String,
    },
    /// A key set could not be fetched.
    #[error("could not get jwks from {url}")]
    Fetch {
        /// The set's URL.
        url: String,
        /// Why.
        #[source]
        source: http_client::Error,
    },
    /// What was fetched is no usable key set.
    #[error("could not get jwks from {url}")]
    Set {
        /// The set's URL.
        url: String,
        /// Why.
        #[source]
        source: jwks::Error,
    },
}

/// What was fetched last, as it came: also what is stored.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Documents {
    discovered: Option<Discovered>,
    sets: Vec<StoredSet>,
}

impl Documents {
    /// Where the discovered issuer has its keys, if those are the ones to use.
    fn jwks_uri(&self, discovery: &Discovery) -> Option<&str> {
        self.discovered.as_ref()?.metadata.jwks_uri.as_deref().filter(|_| discovery.keys)
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Discovered {
    metadata: Metadata,
    fetched_ms: i64,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredSet {
    url: String,
    fetched_ms: i64,
    body: String,
}

struct Inner {
    flight: bool,
    /// Somebody wants everything fetched anew, by a flight that has yet to begin.
    forgotten: bool,
    /// The token bucket for unknown `kid`s.
    tokens: f64,
    refilled_ms: i64,
    failures: u32,
    retry_at_ms: i64,
    unknown: HashMap<u64, i64>,
    documents: Documents,
}

impl Inner {
    /// Until the next try, in whole seconds for `Retry-After`.
    fn retry_after_secs(&self, now_ms: i64) -> u32 {
        ((self.retry_at_ms - now_ms + 999) / 1000).clamp(1, 3600) as u32
    }
}

struct Shared {
    http: HttpClient,
    state: State,
    /// Where fetches run; nothing in a program that only checks a configuration.
    control: Option<Handle>,
    policy: FetchPolicy,
    /// Whom changed verdicts concern.
    changes: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Shared {
    fn verdicts_change(&self) {
        if let Some(hook) = self.changes.get() {
            hook();
        }
    }
}

/// One source of keys, shared by every validator with the same settings and kept across reloads.
pub struct KeySource {
    id: [u8; 32],
    settings: SourceSettings,
    shared: Arc<Shared>,
    set: ArcSwap<KeySet>,
    metadata: ArcSwapOption<Metadata>,
    epoch: AtomicU64,
    inner: Mutex<Inner>,
    done: watch::Sender<()>,
    started: AtomicBool,
    fetches: AtomicU64,
}

/// A source's condition for status pages and metrics.
#[derive(Clone, Debug, Serialize)]
pub struct SourceReport {
    /// The discovered issuer, or the first URL.
    pub name: String,
    /// Keys in force.
    pub keys: usize,
    /// Fetches since start.
    pub fetches: u64,
    /// Failed fetches since the last good one.
    pub failures: u32,
}

impl KeySource {
    /// Grows when the keys change; compared by cached verdicts.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The hash over its settings.
    pub fn settings_id(&self) -> [u8; 32] {
        self.id
    }

    /// The keys in force.
    pub fn keys(&self) -> arc_swap::Guard<Arc<KeySet>> {
        self.set.load()
    }

    /// What the issuer last said of itself; nothing before its first answer, and where it is not asked.
    pub fn metadata(&self) -> Option<Arc<Metadata>> {
        self.metadata.load_full()
    }

    /// The same, asking the issuer where nothing is known yet: one flight, the back-off of failed ones kept. Of an
    /// issuer that is never asked, nothing is known.
    pub async fn discovered(self: &Arc<Self>) -> Result<Arc<Metadata>, Unavailable> {
        if self.settings.discovery.is_none() {
            return Ok(Arc::default());
        }
        self.start();
        let mut done = self.done.subscribe();
        if let Some(metadata) = self.metadata() {
            return Ok(metadata);
        }
        {
            let mut inner = self.inner();
            let now_ms = Now::read().unix_ms;
            if !inner.flight && inner.failures > 0 && now_ms < inner.retry_at_ms {
                return Err(Unavailable { retry_after_secs: inner.retry_after_secs(now_ms) });
            }
            if !inner.flight {
                self.take_off(&mut inner);
            }
        }
        let _ = tokio::time::timeout(self.shared.policy.key_wait, done.changed()).await;
        let now_ms = Now::read().unix_ms;
        self.metadata().ok_or_else(|| Unavailable { retry_after_secs: self.inner().retry_after_secs(now_ms) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // No invariant spans a panic: every critical section only stores plain values.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins restoring, fetching and refreshing, once.
    pub fn start(self: &Arc<Self>) {
        let Some(control) = &self.shared.control else { return };
        if !self.started.swap(true, Ordering::AcqRel) {
            self.inner().flight = true;
            let weak = Arc::downgrade(self);
            control.spawn(async move {
                if let Some(source) = weak.upgrade() {
                    source.restore().await;
                    source.fly().await;
                }
                Self::refresh_forever(weak).await;
            });
        }
    }

    /// A token named a key that is not in force: refetch, wait for the running fetch, or say that it is unknown.
    pub fn missing(self: &Arc<Self>, kid: Option<&str>, now: Now, attempt: Attempt) -> Missing {
        self.start();
        let now_ms = now.unix_ms;
        let lifetime_ms = self.settings.rediscovery_lifetime.as_millis() as i64;
        let print = kid_print(kid);
        let empty = self.set.load().keys.is_empty();
        let mut inner = self.inner();
        let unavailable = |inner: &Inner| Missing::Unavailable { retry_after_secs: inner.retry_after_secs(now_ms) };
        let failing = inner.failures > 0;
        let joined = attempt == Attempt::First && inner.flight;
        match attempt {
            // Nobody has answered yet: that is no word on any key.
            Attempt::GivenUp if inner.flight => return unavailable(&inner),
            Attempt::Waited | Attempt::GivenUp if empty => return unavailable(&inner),
            Attempt::Waited | Attempt::GivenUp => {
                if inner.unknown.len() >= MAX_UNKNOWN {
                    inner.unknown.retain(|_, until| *until > now_ms);
                }
                if inner.unknown.len() < MAX_UNKNOWN {
                    inner.unknown.insert(print, now_ms + lifetime_ms);
                }
                return if failing { unavailable(&inner) } else { Missing::Unknown };
            }
            _ if inner.flight => {}
            _ if failing && now_ms < inner.retry_at_ms => return unavailable(&inner),
            // An issuer that answered and named no keys is not asked by each request.
            _ if empty && (failing || inner.documents.discovered.is_none()) => self.take_off(&mut inner),
            _ => {
                let nobody_knows = failing || empty;
                if inner.unknown.get(&print).is_some_and(|until| *until > now_ms) {
                    return if nobody_knows { unavailable(&inner) } else { Missing::Unknown };
                }
                let refill = (now_ms - inner.refilled_ms).max(0) as f64 / lifetime_ms.max(1) as f64;
                inner.tokens = (inner.tokens + refill).min(f64::from(self.shared.policy.burst));
                inner.refilled_ms = now_ms;
                if inner.tokens < 1.0 {
                    return if nobody_knows { unavailable(&inner) } else { Missing::Unknown };
                }
                inner.tokens -= 1.0;
                self.take_off(&mut inner);
            }
        }
        Missing::Wait(KeyWait { done: self.done.subscribe(), limit: self.shared.policy.key_wait, joined })
    }

    /// Marks the one flight and sends it off. `done` fires only after `flight` is false again.
    fn take_off(self: &Arc<Self>, inner: &mut Inner) {
        let Some(control) = &self.shared.control else { return };
        inner.flight = true;
        let source = Arc::clone(self);
        control.spawn(async move { source.fly().await });
    }

    /// Fetches again after a pause; a flight that a request caused starts the pause anew.
    async fn refresh_forever(weak: Weak<Self>) {
        loop {
            let Some((pause, mut done)) = weak.upgrade().map(|source| (source.pause(), source.done.subscribe())) else {
                return;
            };
            match tokio::time::timeout(pause, done.changed()).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => return,
                Err(_) => {}
            }
            let Some(source) = weak.upgrade() else { return };
            let free = !std::mem::replace(&mut source.inner().flight, true);
            if free {
                source.fly().await;
            }
        }
    }

    /// Until the next background fetch: a tenth of jitter keeps a fleet from asking in step.
    fn pause(&self) -> Duration {
        let policy = &self.shared.policy;
        let wait = match self.inner().failures {
            0 => self.settings.refresh.map_or(policy.refresh, |own| own.min(policy.refresh)),
            failures => back_off(policy, failures),
        };
        let [random] = crypto::random::<1>();
        wait.mul_f64(1.0 - f64::from(random) / 2560.0)
    }

    /// One flight: fetch, publish, account, release the waiters.
    async fn fly(self: Arc<Self>) {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let documents = self.inner().take_due();
        let (documents, failed) = self.fetch(documents).await;
        let changed = self.publish(&documents);
        let now_ms = Now::read().unix_ms;
        let failures = {
            let mut inner = self.inner();
            inner.documents = documents.clone();
            inner.flight = false;
            if changed {
                inner.unknown.clear();
            }
            inner.failures = if failed.is_some() { inner.failures.saturating_add(1) } else { 0 };
            let pause = back_off(&self.shared.policy, inner.failures);
            inner.retry_at_ms = if failed.is_some() { now_ms + pause.as_millis() as i64 } else { 0 };
            inner.failures
        };
        self.done.send_replace(());
        self.take_off_again();
        match failed {
            Some(error) => {
                let keys = self.set.load().keys.len();
                let error: &dyn std::error::Error = &error;
                tracing::warn!(failures, keys_in_force = keys, error, "[openid-connect] could not get jwks");
            }
            None => self.store(&documents).await,
        }
    }

    /// Puts the documents into force, those that are too old left out. Returns whether anything changed.
    fn publish(&self, documents: &Documents) -> bool {
        let oldest = Now::read().unix_ms - self.shared.policy.stale_max.as_millis() as i64;
        let mut keys: Vec<Arc<Key>> = Vec::new();
        let discovered = self.settings.discovery.as_ref().and_then(|discovery| documents.jwks_uri(discovery));
        for url in discovered.into_iter().chain(self.settings.jwks_uris.iter().map(String::as_str)) {
            let set = documents.sets.iter().find(|set| set.url == url && set.fetched_ms > oldest);
            let parsed = set.and_then(|set| jwks::parse(set.body.as_bytes(), self.settings.kinds, |_, _| {}).ok());
            keys.extend(parsed.into_iter().flatten().map(Arc::new));
        }
        let metadata = documents.discovered.as_ref().map(|discovered| &discovered.metadata);
        if self.metadata.load().as_deref() != metadata {
            self.metadata.store(metadata.cloned().map(Arc::new));
        }
        let issuer = metadata.map(|metadata| Box::from(metadata.issuer.as_str()));
        let old = self.set.load();
        let same =
            old.issuer == issuer && old.keys.iter().map(|key| key.identity()).eq(keys.iter().map(|key| key.identity()));
        if same {
            return false;
        }
        let epoch = old.epoch + 1;
        self.shared.verdicts_change();
        self.set.store(Arc::new(KeySet { keys, issuer, epoch }));
        // After the set: whoever sees the new epoch finds the new set.
        self.epoch.store(epoch, Ordering::Release);
        self.shared.verdicts_change();
        true
    }

    /// The source's condition.
    pub fn report(&self) -> SourceReport {
        let set = self.set.load();
        let discovery = self.settings.discovery.as_ref().and_then(|discovery| discovery.urls.first());
        let name = set.issuer.as_deref().or(discovery.or(self.settings.jwks_uris.first()).map(String::as_str));
        SourceReport {
            name: name.unwrap_or_default().to_owned(),
            keys: set.keys.len(),
            fetches: self.fetches.load(Ordering::Relaxed),
            failures: self.inner().failures,
        }
    }
}

fn back_off(policy: &FetchPolicy, failures: u32) -> Duration {
    policy.retry_first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(policy.retry_max)
}

/// A short keyed hash: a client's `kid`s must not be able to collide with another's.
fn kid_print(kid: Option<&str>) -> u64 {
    static KEY: std::sync::OnceLock<std::hash::RandomState> = std::sync::OnceLock::new();
    use std::hash::BuildHasher;
    KEY.get_or_init(Default::default).hash_one(kid)
}

/// Every source of the process, found again after a reload.
pub struct KeySources {
    shared: Arc<Shared>,
    sources: DashMap<[u8; 32], Weak<KeySource>>,
}

impl KeySources {
    /// No sources yet. Fetches will run on `control`; without it none is ever made.
    pub fn new(http: HttpClient, state: State, control: impl Into<Option<Handle>>, policy: FetchPolicy) -> Self {
        let control = control.into();
        let changes = OnceLock::new();
        Self { shared: Arc::new(Shared { http, state, control, policy, changes }), sources: DashMap::new() }
    }

    /// Has this called, once for all, before and after other keys come into force.
    pub fn on_change(&self, hook: impl Fn() + Send + Sync + 'static) {
        let _ = self.shared.changes.set(Box::new(hook));
    }

    /// The source of these settings; it asks nobody before `warm` or the first missing key.
    pub fn source(&self, settings: SourceSettings) -> Arc<KeySource> {
        let id = settings.id();
        let mut place = self.sources.entry(id).or_default();
        if let Some(source) = place.upgrade() {
            return source;
        }
        let inner = Inner {
            flight: false,
            forgotten: false,
            tokens: f64::from(self.shared.policy.burst),
            refilled_ms: Now::read().unix_ms,
            failures: 0,
            retry_at_ms: 0,
            unknown: HashMap::new(),
            documents: Documents::default(),
        };
        let source = Arc::new(KeySource {
            id,
            settings,
            shared: Arc::clone(&self.shared),
            set: ArcSwap::from_pointee(KeySet::default()),
            metadata: ArcSwapOption::empty(),
            epoch: AtomicU64::new(0),
            inner: Mutex::new(inner),
            done: watch::Sender::new(()),
            started: AtomicBool::new(false),
            fetches: AtomicU64::new(0),
        });
        *place = Arc::downgrade(&source);
        source
    }

    /// The outbound client, for checks of configured URLs.
    pub fn http(&self) -> &HttpClient {
        &self.shared.http
    }

    /// Starts every source in use, so that the first request finds keys; forgets those no longer in use.
    pub fn warm(&self) {
        self.sources.retain(|_, source| {
            source.upgrade().is_some_and(|source| {
                source.start();
                true
            })
        });
    }

    /// The condition of every source in use.
    pub fn report(&self) -> Vec<SourceReport> {
        self.sources.iter().filter_map(|source| source.upgrade()).map(|source| source.report()).collect()
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
