//! What operators see of key sets, and what they may do to one: every set by name or id, and never a private member.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::flights::Order;
use super::record::Record;
use super::set::Set;
use super::{Credentials, Error, Keeping, KeySets, lock};
use crate::token::keys::KeySource;

pub use super::flights::Failed;

/// A set as it is published: public members alone (R1).
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The same as long as the set is not deleted.
    pub id: Uuid,
    /// Its name, or its URL.
    pub name: Box<str>,
    /// When it was made or first fetched, Unix milliseconds; nothing of keys that verify and were not fetched yet.
    pub created_ms: Option<i64>,
    /// When it was last made, fetched or rotated.
    pub updated_ms: Option<i64>,
    /// The current keys, each a JWK.
    pub keys: Vec<Value>,
    /// Those that were current before the last rotation.
    pub previous: Vec<Value>,
}

impl Published {
    /// Every key that a token may be signed with, once.
    pub fn all(&self) -> Vec<Value> {
        let mut all = self.keys.clone();
        all.extend(self.previous.iter().filter(|key| !self.keys.contains(key)).cloned());
        all
    }

    fn of(name: &str, record: &Record) -> Self {
        let (keys, previous) = record.published();
        Self {
            id: record.id,
            name: name.into(),
            created_ms: Some(record.created_ms),
            updated_ms: Some(record.updated_ms),
            keys,
            previous,
        }
    }

    fn verifying(url: &str, source: &KeySource) -> Self {
        let listed = source.listed();
        Self {
            id: Uuid::from_bytes(listed.id),
            name: url.into(),
            created_ms: listed.fetched_ms,
            updated_ms: listed.fetched_ms,
            keys: listed.keys.iter().filter_map(|key| serde_json::from_str(key).ok()).collect(),
            previous: Vec::new(),
        }
    }
}

/// Why a set was not rotated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotRotated {
    /// It could not be fetched, made or kept.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// Credentials for a set that is not downloaded, or whose downloads take the configured ones.
    #[error("this set takes no credentials")]
    Credentials,
}

/// A set of either kind.
enum Found {
    Signing(Arc<Set>),
    Verifying(Box<str>, Arc<KeySource>),
}

impl KeySets {
    /// Every set that is there, in the order of their names. One that cannot be read is left out, and the log says so.
    pub async fn list(&self) -> Result<Vec<Published>, Failed> {
        if let Keeping::Sealed(vault) = &self.shared.keeping {
            for name in vault.names().await.map_err(unreadable)? {
                self.named_set(&name);
            }
        }
        let mut sets: Vec<_> = lock(&self.named).values().cloned().collect();
        sets.extend(self.fetched_sets());
        let mut listed = Vec::new();
        for set in sets {
            if let Ok(Some(record)) = record(&set).await {
                listed.push(Published::of(set.name(), &record));
            }
        }
        listed.extend(self.sources().iter().map(|(url, source)| Published::verifying(url, source)));
        listed.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(listed)
    }

    /// The set of a name or id.
    pub async fn find(&self, which: &str) -> Result<Option<Published>, Failed> {
        Ok(match self.found(which).await? {
            Some(Found::Signing(set)) => record(&set).await?.map(|record| Published::of(set.name(), &record)),
            Some(Found::Verifying(url, source)) => Some(Published::verifying(&url, &source)),
            None => None,
        })
    }

    /// Makes or fetches other keys for the set of a name or id: the set as it then is.
    pub async fn rotate(&self, which: &str, credentials: Option<Credentials>) -> Result<Option<Published>, NotRotated> {
        match self.found(which).await? {
            Some(Found::Signing(set)) => {
                if credentials.is_some() && !set.is_fetched() {
                    return Err(NotRotated::Credentials);
                }
                let rotated = order(&set, |reply| Order::Rotate(credentials, reply)).await??;
                Ok(rotated.map(|record| Published::of(set.name(), &record)))
            }
            Some(Found::Verifying(..)) if credentials.is_some() => Err(NotRotated::Credentials),
            Some(Found::Verifying(url, source)) => match source.fetch_anew().await {
                true => Ok(Some(Published::verifying(&url, &source))),
                false => Err(Failed.into()),
            },
            None => Ok(None),
        }
    }

    /// Deletes the set of a name or id, whether or not it can be read; whether there was one. Keys that verify are fetched
    /// anew instead.
    pub async fn delete(&self, which: &str) -> Result<bool, Failed> {
        match self.found(which).await? {
            Some(Found::Signing(set)) => order(&set, Order::Forget).await?,
            Some(Found::Verifying(_, source)) => {
                source.forget();
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn found(&self, which: &str) -> Result<Option<Found>, Failed> {
        let id = Uuid::try_parse(which).ok();
        let mut sets: Vec<_> = lock(&self.named).values().cloned().collect();
        sets.extend(self.fetched_sets());
        let is_it = |set: &Arc<Set>| set.record().is_some_and(|record| set.name() == which || Some(record.id) == id);
        if let Some(set) = sets.into_iter().find(is_it) {
            return Ok(Some(Found::Signing(set)));
        }
        // After what is at hand: who verifies is answered whatever became of the store.
        if let Keeping::Sealed(vault) = &self.shared.keeping
            && let Some(name) = vault.name_of(which, id).await.map_err(unreadable)?
        {
            return Ok(Some(Found::Signing(self.named_set(&name))));
        }
        let mut sources = self.sources().into_iter();
        let source =
            sources.find(|(url, source)| **url == *which || id.is_some_and(|id| source.listed().id == *id.as_bytes()));
        Ok(source.map(|(url, source)| Found::Verifying(url, source)))
    }
}

fn unreadable(error: Error) -> Failed {
    let error: &dyn std::error::Error = &error;
    tracing::error!(error, "the stored key sets cannot be read");
    Failed
}

/// The keys of a set, loaded where they are stored; never made.
async fn record(set: &Arc<Set>) -> Result<Option<Arc<Record>>, Failed> {
    match set.record() {
        Some(record) => Ok(Some(record)),
        None => order(set, Order::Load).await?,
    }
}

/// What the set's task answers to an order. Without one, as while a configuration is checked, nothing is there.
async fn order<T>(set: &Arc<Set>, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Failed> {
    let (reply, answer) = oneshot::channel();
    set.orders().ok_or(Failed)?.send(order(reply)).await.map_err(|_| Failed)?;
    answer.await.map_err(|_| Failed)
}
