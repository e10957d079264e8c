//! What is done to a set, one thing at a time: made, loaded, fetched, rotated, forgotten, and looked at when its time comes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::record::Record;
use super::set::Set;
use super::{Credentials, Error, Keeping, Origin, fetched, generated, lock};

/// The longest sleep: the clock may be set in the meantime.
const LONGEST: Duration = Duration::from_secs(3600);

/// The set could not be had or changed; the error log says why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the key set could not be had or changed: the error log says why")]
pub struct Failed;

/// Why a set is rotated.
pub(super) enum Cause {
    /// An operator wants it, perhaps with credentials for the download.
    Manual(Option<Credentials>),
    /// Its time has come.
    Periodic,
}

/// What the set's task is asked for.
pub(super) enum Order {
    /// The keys, made or fetched where there are none.
    Obtain,
    /// The keys, as far as they are there or stored.
    Load(oneshot::Sender<Result<Option<Arc<Record>>, Failed>>),
    /// Other keys, where there are some.
    Rotate(Option<Credentials>, oneshot::Sender<Result<Option<Arc<Record>>, Failed>>),
    /// No keys; whether there were any.
    Forget(oneshot::Sender<Result<bool, Failed>>),
    /// That it looks at its times.
    Look,
}

/// The one task of a set; it ends with the set.
pub(super) async fn run(set: Weak<Set>, mut orders: mpsc::Receiver<Order>) {
    loop {
        let Some(wait) = set.upgrade().map(|set| set.wait()) else { return };
        match tokio::time::timeout(wait, orders.recv()).await {
            Ok(None) => return,
            Ok(Some(order)) => {
                let Some(set) = set.upgrade() else { return };
                set.obey(order).await;
            }
            Err(_) => {}
        }
        let Some(set) = set.upgrade() else { return };
        set.look().await;
    }
}

impl Set {
    /// Until its next time: another key signs, or others are due.
    fn wait(&self) -> Duration {
        let Some(record) = self.record() else { return LONGEST };
        let now_ms = self.now_ms();
        let signs_from = record.signs_from(self.shared.policy.publish_ahead).filter(|from| *from > now_ms);
        let next = [signs_from, self.due_ms(&record)].into_iter().flatten().min();
        next.map_or(LONGEST, |at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms).max(1) as u64)).min(LONGEST)
    }

    /// When it is to be rotated by itself, and no sooner than its back-off lets it.
    fn due_ms(&self, record: &Record) -> Option<i64> {
        let period = self.period()?;
        let due_ms = match &self.origin {
            Origin::Named(_) => record.rotates_at(period, self.shared.policy.publish_ahead),
            Origin::Fetched { .. } => record.fetched_again_at(period),
        };
        Some(self.retry_at_ms().map_or(due_ms, |retry_at_ms| due_ms.max(retry_at_ms)))
    }

    /// Does what is due.
    async fn look(&self) {
        self.choose();
        let is_due = |record: &Record| self.due_ms(record).is_some_and(|due_ms| due_ms <= self.now_ms());
        if self.record().is_some_and(|record| is_due(&record)) {
            let done = self.rotate(Cause::Periodic).await;
            self.account(done);
        }
    }

    async fn obey(&self, order: Order) {
        // Who asked may have left: the answer then goes nowhere.
        match order {
            Order::Look => {}
            Order::Obtain => {
                if self.record().is_none() {
                    let done = self.obtain().await;
                    self.account(done);
                }
                self.answer();
            }
            Order::Load(reply) => {
                let _ = reply.send(self.loaded().await);
            }
            Order::Rotate(credentials, reply) => {
                let _ = reply.send(self.rotate_now(credentials).await);
            }
            Order::Forget(reply) => {
                let _ = reply.send(self.forget().await);
            }
        }
    }

    async fn obtain(&self) -> Result<(), Error> {
        match &self.origin {
            Origin::Named(name) => self.obtain_named(name).await,
            Origin::Fetched { .. } => self.fetch(None).await.map(|_| ()),
        }
    }

    async fn obtain_named(&self, name: &str) -> Result<(), Error> {
        if let Keeping::Sealed(vault) = &self.shared.keeping
            && let Some(record) = vault.load(name).await?
        {
            self.publish(Some(Arc::new(record)));
            return Ok(());
        }
        if let Keeping::Nowhere = &self.shared.keeping {
            return Err(Error::NoSecretsKey);
        }
        let made = generated::keys(self.shared.policy.algorithms.clone()).await?;
        let now_ms = self.now_ms();
        let (record, is_ours) = match &self.shared.keeping {
            // Another process may have been quicker: then there is one set all the same.
            Keeping::Sealed(vault) => vault.insert(name, &made, now_ms).await?,
            _ => (Record::first(Uuid::new_v4(), made.into_iter().map(|made| made.key).collect(), now_ms), true),
        };
        if is_ours {
            self.shared.counters.generated.fetch_add(1, Ordering::Relaxed);
            self.tell_generated(name, &record);
        }
        self.publish(Some(Arc::new(record)));
        Ok(())
    }

    /// A set is generated once in its life. Who reads this at another time has lost one.
    fn tell_generated(&self, name: &str, record: &Record) {
        let keys = record.keys.len();
        match &self.shared.keeping {
            Keeping::Sealed(vault) if vault.is_new() => tracing::error!(
                keys,
                "key set {name} generated: the store's file is new. Was there one before, what it signed verifies no longer"
            ),
            Keeping::Sealed(_) => tracing::warn!(keys, "key set {name} generated: the store had none of this name"),
            _ => tracing::info!(keys, "key set {name} generated, in memory: a restart has others"),
        }
    }

    /// Fetches the set; whether its keys are others than before.
    async fn fetch(&self, credentials: Option<&Credentials>) -> Result<bool, Error> {
        let Origin::Fetched { url, options } = &self.origin else { return Ok(false) };
        let unused = |kid: Option<&str>, error: &fetched::Unused| {
            tracing::warn!(key_set = %self.label(), ?kid, %error, "a key of the set does not sign");
        };
        let (http, counters) = (&self.shared.http, &self.shared.counters);
        let fetched = fetched::fetch(http, url, options, credentials, unused).await.inspect_err(|_| {
            counters.fetch_failures.fetch_add(1, Ordering::Relaxed);
        })?;
        counters.fetched.fetch_add(1, Ordering::Relaxed);
        let now_ms = self.now_ms();
        let known = lock(&self.tries).print.replace(fetched.print);
        let (record, is_other) = match self.record() {
            Some(record) if known == Some(fetched.print) => (record.confirmed(now_ms), false),
            Some(record) => (record.rotated(fetched.keys, now_ms), true),
            None => {
                let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, url.as_bytes());
                (Record::first(id, fetched.keys, now_ms), false)
            }
        };
        self.publish(Some(Arc::new(record)));
        Ok(is_other)
    }

    /// The keys that are there, or stored.
    async fn loaded(&self) -> Result<Option<Arc<Record>>, Failed> {
        if let (None, Origin::Named(name), Keeping::Sealed(vault)) = (self.record(), &self.origin, &self.shared.keeping)
        {
            if self.backs_off().is_some() {
                return Err(Failed);
            }
            match vault.load(name).await {
                Ok(None) => {}
                Ok(Some(record)) => {
                    self.publish(Some(Arc::new(record)));
                    self.account(Ok(()));
                }
                Err(error) => {
                    self.account(Err(error));
                    return Err(Failed);
                }
            }
        }
        Ok(self.record())
    }

    async fn rotate_now(&self, credentials: Option<Credentials>) -> Result<Option<Arc<Record>>, Failed> {
        if self.loaded().await?.is_none() {
            return Ok(None);
        }
        let done = self.rotate(Cause::Manual(credentials)).await;
        let is_done = done.is_ok();
        self.account(done);
        if is_done { Ok(self.record()) } else { Err(Failed) }
    }

    async fn rotate(&self, cause: Cause) -> Result<(), Error> {
        let is_other = match (&self.origin, &cause) {
            (Origin::Named(name), _) => self.rotate_named(name, &cause).await?,
            (Origin::Fetched { .. }, Cause::Manual(credentials)) => self.fetch(credentials.as_ref()).await?,
            (Origin::Fetched { .. }, Cause::Periodic) => self.fetch(None).await?,
        };
        if is_other {
            self.shared.counters.rotated(&cause);
            let kids =
                self.record().map(|record| record.keys.iter().map(|key| key.kid().to_owned()).collect::<Vec<_>>());
            let why = if matches!(cause, Cause::Periodic) { "its time had come" } else { "an operator wanted it" };
            let signs_after_secs = self.shared.policy.publish_ahead.as_secs_f64();
            let kids = kids.unwrap_or_default().join(" ");
            tracing::info!(key_set = %self.label(), why, signs_after_secs, kids, "key set rotated");
        }
        Ok(())
    }

    /// Whether this process rotated it.
    async fn rotate_named(&self, name: &str, cause: &Cause) -> Result<bool, Error> {
        let Some(mut known) = self.record() else { return Ok(false) };
        if let Keeping::Sealed(vault) = &self.shared.keeping {
            // The process that takes over, or is taken over from, may have seen to it.
            let stored = Arc::new(vault.load(name).await?.ok_or(Error::Gone)?);
            if !stored.is(&known) {
                self.publish(Some(Arc::clone(&stored)));
                if let Cause::Periodic = cause {
                    return Ok(false);
                }
            }
            known = stored;
        }
        let made = generated::keys(self.shared.policy.algorithms.clone()).await?;
        let now_ms = self.now_ms();
        let (rotated, is_ours) = match &self.shared.keeping {
            Keeping::Sealed(vault) => vault.rotate(name, &known, &made, now_ms).await?,
            _ => (known.rotated(made.into_iter().map(|made| made.key).collect(), now_ms), true),
        };
        self.publish(Some(Arc::new(rotated)));
        Ok(is_ours)
    }

    /// Removes the set, stored and here; whoever uses it makes or fetches another.
    async fn forget(&self) -> Result<bool, Failed> {
        let mut existed = self.record().is_some();
        if let (Origin::Named(name), Keeping::Sealed(vault)) = (&self.origin, &self.shared.keeping) {
            match vault.remove(name).await {
                Ok(removed) => existed |= removed,
                Err(error) => {
                    self.account(Err(error));
                    return Err(Failed);
                }
            }
        }
        self.publish(None);
        *lock(&self.tries) = Default::default();
        if existed {
            tracing::warn!(key_set = %self.label(), "key set deleted: its tokens verify no longer, its next use has other keys");
        }
        Ok(existed)
    }

    /// Remembers how a flight went, and says it where it failed.
    fn account(&self, done: Result<(), Error>) {
        let Err(error) = done else {
            lock(&self.tries).failures = 0;
            return;
        };
        let policy = &self.shared.policy;
        {
            let mut tries = lock(&self.tries);
            tries.failures = tries.failures.saturating_add(1);
            let doubled = policy.retry_first.saturating_mul(1 << (tries.failures - 1).min(16)).min(policy.retry_max);
            tries.retry_at_ms = self.now_ms() + doubled.as_millis() as i64;
        }
        if matches!(self.origin, Origin::Named(_)) {
            self.shared.counters.store_failures.fetch_add(1, Ordering::Relaxed);
        }
        let (key_set, error): (_, &dyn std::error::Error) = (self.label(), &error);
        match self.record() {
            Some(_) => tracing::warn!(%key_set, error, "key set not renewed: the last good keys stay in force"),
            None => tracing::error!(%key_set, error, "key set cannot be had: nothing is signed with it"),
        }
    }
}
