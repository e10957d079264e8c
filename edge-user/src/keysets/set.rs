//! One set: what workers read of it without waiting, and how others wait for its keys.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, watch};

use super::flights::{self, Order};
use super::record::{Record, Signing};
use super::{Origin, Shared, lock};
use crate::crypto::sign::{SigningAlgorithm, SigningKey};
use crate::http_client::Options;

/// Operators' orders that wait for one set; more wait for their place.
const ORDERS: usize = 16;

/// Why there is no key to sign with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unavailable {
    /// An HMAC algorithm of a generated set.
    #[error("a generated key set has no {} key, whose secret nobody else could know: name the URL of a key set", .0.name())]
    Symmetric(SigningAlgorithm),
    /// The set is there, and has no such key.
    #[error("the key set has no {} key", .0.name())]
    NoKey(SigningAlgorithm),
    /// The last try failed; the error log says why.
    #[error("the key set could not be had; it is tried again in {retry_after_secs} s")]
    Failed {
        /// Until then nothing is tried.
        retry_after_secs: u32,
    },
    /// It took longer than a request waits.
    #[error("the key set is not there yet")]
    Late,
    /// A program that only checks a configuration.
    #[error("nothing is signed while a configuration is checked")]
    NotRunning,
}

/// A set, as one plugin uses it.
pub struct KeySet {
    pub(super) set: Arc<Set>,
    period: Option<Duration>,
}

impl KeySet {
    pub(super) fn new(set: Arc<Set>, period: Option<Duration>) -> Arc<Self> {
        let period = period.filter(|period| !period.is_zero());
        let user = Arc::new(Self { set, period });
        user.set.used_by(&user);
        user
    }

    /// The key that signs with an algorithm now, where the set is there. Never waits.
    pub fn signing_key(&self, algorithm: SigningAlgorithm) -> Option<Arc<SigningKey>> {
        self.set.signing.load().as_ref()?.key(algorithm).cloned()
    }

    /// The same, making or fetching the set where it is not there yet. One flight for all who ask, on the control runtime,
    /// and a wait that ends; any runtime may wait.
    pub async fn ready(self: &Arc<Self>, algorithm: SigningAlgorithm) -> Result<Arc<SigningKey>, Unavailable> {
        if let Some(key) = self.signing_key(algorithm) {
            return Ok(key);
        }
        if algorithm.is_symmetric() && matches!(self.set.origin, Origin::Named(_)) {
            return Err(Unavailable::Symmetric(algorithm));
        }
        self.set.obtained().await?;
        self.signing_key(algorithm).ok_or(Unavailable::NoKey(algorithm))
    }

    /// Changes whenever another key may sign: what was signed before is then to be signed anew.
    pub fn generation(&self) -> u64 {
        self.set.generation.load(Ordering::Acquire)
    }
}

/// Names the set only.
impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySet").field("set", &self.set.label()).finish_non_exhaustive()
    }
}

/// One set, whoever uses it.
pub(super) struct Set {
    pub(super) origin: Origin,
    pub(super) shared: Arc<Shared>,
    record: ArcSwapOption<Record>,
    signing: ArcSwapOption<Signing>,
    generation: AtomicU64,
    users: Mutex<Vec<Weak<KeySet>>>,
    pub(super) tries: Mutex<Tries>,
    /// Whether a flight was asked for that has yet to end.
    asked: AtomicBool,
    done: watch::Sender<()>,
    orders: OnceLock<mpsc::Sender<Order>>,
}

/// A number that no set of this process had before: what was signed under one set's is never taken for another's.
fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// How the last flights went.
#[derive(Default)]
pub(super) struct Tries {
    pub(super) failures: u32,
    pub(super) retry_at_ms: i64,
    /// What tells the fetched keys from others.
    pub(super) print: Option<[u8; 32]>,
}

impl Set {
    pub(super) fn new(origin: Origin, shared: &Arc<Shared>) -> Self {
        Self {
            origin,
            shared: Arc::clone(shared),
            record: ArcSwapOption::empty(),
            signing: ArcSwapOption::empty(),
            generation: AtomicU64::new(next_generation()),
            users: Mutex::default(),
            tries: Mutex::default(),
            asked: AtomicBool::new(false),
            done: watch::Sender::new(()),
            orders: OnceLock::new(),
        }
    }

    /// What the set is known by.
    pub(super) fn name(&self) -> &str {
        match &self.origin {
            Origin::Named(name) => name,
            Origin::Fetched { url, .. } => url,
        }
    }

    /// The same for the log: of a URL the host alone, for the rest may be anything.
    pub(super) fn label(&self) -> String {
        match &self.origin {
            Origin::Named(name) => name.to_string(),
            Origin::Fetched { url, .. } => {
                let host = self.shared.http.check(url).ok().and_then(|url| url.host_str().map(str::to_owned));
                format!("of {}", host.as_deref().unwrap_or("an unusable URL"))
            }
        }
    }

    /// Whether its keys come from a URL.
    pub(super) fn is_fetched(&self) -> bool {
        matches!(self.origin, Origin::Fetched { .. })
    }

    /// Whether these are its URL and options.
    pub(super) fn is_of(&self, url: &str, options: &Options) -> bool {
        matches!(&self.origin, Origin::Fetched { url: known, options: other } if **known == *url && other == options)
    }

    /// The keys that are there.
    pub(super) fn record(&self) -> Option<Arc<Record>> {
        self.record.load_full()
    }

    pub(super) fn now_ms(&self) -> i64 {
        (self.shared.policy.clock)()
    }

    /// The shortest period that a user of now wants.
    pub(super) fn period(&self) -> Option<Duration> {
        lock(&self.users).iter().filter_map(Weak::upgrade).filter_map(|user| user.period).min()
    }

    /// Whether anybody uses it.
    pub(super) fn is_used(&self) -> bool {
        lock(&self.users).iter().any(|user| user.strong_count() > 0)
    }

    fn used_by(&self, user: &Arc<KeySet>) {
        let mut users = lock(&self.users);
        users.retain(|user| user.strong_count() > 0);
        users.push(Arc::downgrade(user));
        drop(users);
        if let Some(orders) = self.orders.get() {
            // A full queue makes the task look anyway.
            let _ = orders.try_send(Order::Look);
        }
    }

    /// Where orders go, to the one task of this set; nowhere in a program that only checks a configuration.
    pub(super) fn orders(self: &Arc<Self>) -> Option<&mpsc::Sender<Order>> {
        let control = self.shared.control.as_ref()?;
        Some(self.orders.get_or_init(|| {
            let (orders, queue) = mpsc::channel(ORDERS);
            control.spawn(flights::run(Arc::downgrade(self), queue));
            orders
        }))
    }

    /// Waits until the set is there.
    pub(super) async fn obtained(self: &Arc<Self>) -> Result<(), Unavailable> {
        let mut done = self.done.subscribe();
        if self.record().is_some() {
            return Ok(());
        }
        let orders = self.orders().ok_or(Unavailable::NotRunning)?;
        if let Some(failed) = self.backs_off() {
            return Err(failed);
        }
        if !self.asked.swap(true, Ordering::AcqRel) && orders.try_send(Order::Obtain).is_err() {
            self.asked.store(false, Ordering::Release);
        }
        let in_time = tokio::time::timeout(self.shared.policy.wait, done.changed()).await;
        match (self.record(), in_time) {
            (Some(_), _) => Ok(()),
            (None, Ok(_)) => Err(self.backs_off().unwrap_or(Unavailable::Late)),
            (None, Err(_)) => Err(Unavailable::Late),
        }
    }

    /// Releases those who wait for the set, whatever became of it.
    pub(super) fn answer(&self) {
        // In this order: who sees the flag cleared may ask again, and who does not is woken by what follows.
        self.asked.store(false, Ordering::Release);
        self.done.send_replace(());
    }

    /// Whether the last try failed lately.
    pub(super) fn backs_off(&self) -> Option<Unavailable> {
        let left_ms = self.retry_at_ms()? - self.now_ms();
        (left_ms > 0).then(|| Unavailable::Failed { retry_after_secs: ((left_ms + 999) / 1000).clamp(1, 3600) as u32 })
    }

    /// When the next try may be, where the last one failed. A time beyond the longest pause is of a clock that was wrong.
    pub(super) fn retry_at_ms(&self) -> Option<i64> {
        let latest_ms = self.now_ms() + self.shared.policy.retry_max.as_millis() as i64;
        let tries = lock(&self.tries);
        (tries.failures > 0 && tries.retry_at_ms <= latest_ms).then_some(tries.retry_at_ms)
    }

    /// Puts these keys, or none, into force.
    pub(super) fn publish(&self, record: Option<Arc<Record>>) {
        self.record.store(record);
        self.choose();
    }

    /// Has the keys sign whose time it is.
    pub(super) fn choose(&self) {
        let ahead = self.shared.policy.publish_ahead;
        let signing = self.record().map(|record| record.signing(ahead, self.now_ms()));
        let same = match (&signing, &*self.signing.load()) {
            (Some(new), Some(old)) => new.is(old),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.signing.store(signing.map(Arc::new));
            // After the keys: whoever sees the new generation finds them.
            self.generation.store(next_generation(), Ordering::Release);
        }
    }
}
