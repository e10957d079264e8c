//! Key sets for tokens that the edge signs: generated ones by name, kept in the node's store or in memory, and those of a
//! JWKS with private members behind a URL. Which tokens are signed is the plugins' affair; who is shown the public keys,
//! the Admin API's.
//!
//! One task per set, on the control runtime, makes, fetches, stores and rotates; workers read what it left for them.

mod counters;
pub mod fetched;
mod flights;
mod generated;
mod published;
mod record;
mod set;
mod stored;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use zeroize::Zeroizing;

pub use self::published::{Failed, NotRotated, Published};
pub use self::set::{KeySet, Unavailable};
pub use self::stored::Vault;

use self::counters::Counters;
use self::set::Set;
use crate::crypto::seal::{SecretsKey, Unopened};
use crate::crypto::{self, sign::SigningAlgorithm};
use crate::http_client::{self, HttpClient};
use crate::metrics::Exposition;
use crate::settings::PrivateKeys;
use crate::state::State;
use crate::token::Now;
use crate::token::jwks::MAX_KEYS;
use crate::token::keys::KeySource;

/// Why a set could not be had or changed. Texts carry no key material.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened at the start.
    #[error("the node's store could not be opened at the start")]
    NoStore,
    /// SQLite's own error.
    #[error("the node's store cannot be read or written")]
    Sqlite(#[from] sqlx::Error),
    /// Another secrets key than the one it was sealed under, or a changed row.
    #[error("the stored private keys do not open under the node's secrets key")]
    Unopened(#[from] Unopened),
    /// A later edge wrote it.
    #[error("the stored set has version {0}, which this program does not know")]
    Version(i64),
    /// What was sealed is no set.
    #[error("the stored set is malformed")]
    Content,
    /// Somebody else removed it.
    #[error("the stored set is gone")]
    Gone,
    /// Nothing to seal under.
    #[error("{NO_SECRETS_KEY}")]
    NoSecretsKey,
    /// Keys could not be made or read.
    #[error(transparent)]
    Key(#[from] crypto::Error),
    /// The URL gave no set.
    #[error("the set could not be fetched")]
    Fetch(#[from] http_client::Error),
    /// Not a JSON object with an array `keys`.
    #[error("what was fetched is not a JWK set")]
    NotASet,
    /// More than is read.
    #[error("the set has {0} keys, more than {MAX_KEYS}")]
    TooMany(usize),
    /// No key signs.
    #[error("no key of the set can sign: each needs `alg`, and its private members")]
    Empty,
}

/// Why no named set can be had without a secrets key, and what to do about it.
const NO_SECRETS_KEY: &str = "a generated key set's private keys are sealed in the store under the node's secrets key, and \
                              there is none: set `[secrets] key_file` or EDGE_SECRETS_KEY, or, to have other keys after each \
                              restart, `[key_sets] private_keys = \"memory\"`";

/// Where the private keys of generated sets are.
pub enum Keeping {
    /// In this process, as the settings say: others after a restart.
    Memory,
    /// In the store, sealed.
    Sealed(Vault),
    /// Nowhere: they were to be sealed, and the node has no secrets key.
    Nowhere,
}

impl Keeping {
    /// For a program that only looks: it finds out whether sets may be had, and reads and writes none.
    pub fn apart(self) -> Self {
        match self {
            Self::Sealed(_) => Self::Memory,
            other => other,
        }
    }

    /// As the settings say.
    pub fn new(private_keys: PrivateKeys, key: Option<&SecretsKey>, state: State) -> Self {
        match (private_keys, key) {
            (PrivateKeys::Memory, _) => Self::Memory,
            (PrivateKeys::Sealed, Some(key)) => Self::Sealed(Vault::new(state, key)),
            (PrivateKeys::Sealed, None) => Self::Nowhere,
        }
    }
}

/// When keys sign, and how long is waited for them.
#[derive(Clone)]
pub struct Policy {
    /// How long keys are published before they sign: `key_sets.publish_ahead`.
    pub publish_ahead: Duration,
    /// The longest wait of a request for a set: `timeouts.key_wait`.
    pub wait: Duration,
    /// After the first failure; doubles with each further one.
    pub retry_first: Duration,
    /// The longest time between tries.
    pub retry_max: Duration,
    /// What a generated set has keys for.
    pub algorithms: Arc<[SigningAlgorithm]>,
    /// The clock, in Unix milliseconds.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl Default for Policy {
    fn default() -> Self {
        // A secret that never leaves the process could be verified by nobody (R1).
        let algorithms = SigningAlgorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric());
        Self {
            publish_ahead: Duration::from_secs(60),
            wait: Duration::from_secs(5),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(30),
            algorithms: algorithms.collect(),
            clock: Arc::new(|| Now::read().unix_ms),
        }
    }
}

/// Whence the keys of a set come.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Generated here, and known by this name.
    Named(Box<str>),
    /// Fetched, private members and all.
    Fetched {
        /// The set's URL, by which it is known.
        url: Box<str>,
        /// How it is asked.
        options: http_client::Options,
    },
}

/// What a plugin says of the set that it signs with.
#[derive(Clone, Debug)]
pub struct SetSettings {
    /// Where its keys come from.
    pub origin: Origin,
    /// How often a named set gets new keys, or a URL is asked again; where several say it of one set, the shortest counts.
    pub rotate_period: Option<Duration>,
}

/// The user and password of one download.
pub struct Credentials {
    /// The user's name; no colon is in it.
    pub username: String,
    /// The password.
    pub password: Zeroizing<String>,
}

struct Shared {
    http: HttpClient,
    keeping: Keeping,
    /// Where everything runs; nothing in a program that only checks a configuration.
    control: Option<Handle>,
    policy: Policy,
    counters: Counters,
}

/// Every set of the process, kept across reloads.
pub struct KeySets {
    shared: Arc<Shared>,
    named: Mutex<HashMap<Box<str>, Arc<Set>>>,
    /// Those in use.
    fetched: Mutex<Vec<Weak<Set>>>,
    /// Sources of keys that verify, with the URLs they are listed under.
    verifying: Mutex<Vec<(Box<str>, Weak<KeySource>)>>,
}

impl KeySets {
    /// No sets yet. Their work will run on `control`; without it none is ever made.
    pub fn new(http: HttpClient, keeping: Keeping, control: impl Into<Option<Handle>>, policy: Policy) -> Self {
        let shared = Shared { http, keeping, control: control.into(), policy, counters: Counters::default() };
        Self {
            shared: Arc::new(shared),
            named: Mutex::default(),
            fetched: Mutex::default(),
            verifying: Mutex::default(),
        }
    }

    /// The set of these settings; it makes and fetches nothing before it is asked for a key.
    pub fn set(self: &Arc<Self>, settings: SetSettings) -> Arc<KeySet> {
        let set = match settings.origin {
            Origin::Named(name) => self.named_set(&name),
            Origin::Fetched { url, options } => self.fetched_set(url, options),
        };
        KeySet::new(set, settings.rotate_period)
    }

    /// Lists the keys that tokens are verified with under their URL, as long as the source is in use.
    pub fn verifying(&self, url: &str, source: &Arc<KeySource>) {
        let mut sources = lock(&self.verifying);
        sources.retain(|(_, known)| known.strong_count() > 0);
        if !sources.iter().any(|(known, other)| **known == *url && std::ptr::eq(other.as_ptr(), Arc::as_ptr(source))) {
            sources.push((url.into(), Arc::downgrade(source)));
        }
    }

    /// Why no named set can be had, for the configuration's problems.
    pub fn may_generate(&self) -> Result<(), &'static str> {
        match self.shared.keeping {
            Keeping::Memory | Keeping::Sealed(_) => Ok(()),
            Keeping::Nowhere => Err(NO_SECRETS_KEY),
        }
    }

    /// Begins making or fetching every set that the configuration in force uses, so that the first request finds keys.
    pub fn warm(&self) {
        let Some(control) = &self.shared.control else { return };
        let named: Vec<_> = lock(&self.named).values().filter(|set| set.is_used()).cloned().collect();
        for set in named.into_iter().chain(self.fetched_sets()) {
            // Whoever asks for a key hears why there is none.
            control.spawn(async move { set.obtained().await.is_ok() });
        }
    }

    /// Writes the sets' numbers.
    pub fn collect(&self, to: &mut Exposition) {
        let named: Vec<_> = lock(&self.named).values().cloned().collect();
        self.shared.counters.collect(&named, &self.fetched_sets(), self.sources().len(), to);
    }

    fn named_set(&self, name: &str) -> Arc<Set> {
        let mut named = lock(&self.named);
        if let Some(set) = named.get(name) {
            return Arc::clone(set);
        }
        let set = Arc::new(Set::new(Origin::Named(name.into()), &self.shared));
        named.insert(name.into(), Arc::clone(&set));
        set
    }

    fn fetched_set(&self, url: Box<str>, options: http_client::Options) -> Arc<Set> {
        let mut fetched = lock(&self.fetched);
        fetched.retain(|set| set.strong_count() > 0);
        if let Some(set) = fetched.iter().filter_map(Weak::upgrade).find(|set| set.is_of(&url, &options)) {
            return set;
        }
        let set = Arc::new(Set::new(Origin::Fetched { url, options }, &self.shared));
        fetched.push(Arc::downgrade(&set));
        set
    }

    fn fetched_sets(&self) -> Vec<Arc<Set>> {
        lock(&self.fetched).iter().filter_map(Weak::upgrade).collect()
    }

    /// The sources in use, one for each URL.
    fn sources(&self) -> Vec<(Box<str>, Arc<KeySource>)> {
        let mut sources: Vec<(Box<str>, Arc<KeySource>)> = Vec::new();
        for (url, source) in lock(&self.verifying).iter() {
            if let Some(source) = source.upgrade()
                && !sources.iter().any(|(known, _)| known == url)
            {
                sources.push((url.clone(), source));
            }
        }
        sources
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section leaves what it guards whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
