//! Generated sets in the node's store: sealed whole under the node's secrets key, with the set's name as the entry's.
//!
//! A row is never replaced by new keys because it cannot be used: whatever is wrong with it is an error.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqlitePool};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Error;
use super::generated::Made;
use super::record::Record;
use crate::crypto::seal::{Purpose, Sealer, SecretsKey};
use crate::crypto::sign::{SigningAlgorithm, SigningKey};
use crate::state::State;

/// The form of what is sealed.
const VERSION: i64 = 1;
/// Sets that are listed; more are found by their names and ids.
const MAX_LISTED: i64 = 1000;

/// The store's table of sets, and what seals it.
pub struct Vault {
    state: State,
    sealer: Sealer,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Content {
    created_ms: i64,
    updated_ms: i64,
    rotated_ms: i64,
    keys: Vec<Private>,
    previous: Vec<Private>,
}

/// A private key: PKCS#8 in base64.
#[derive(Serialize, Deserialize)]
struct Private {
    alg: String,
    pkcs8: Zeroizing<String>,
}

impl From<&Made> for Private {
    fn from(made: &Made) -> Self {
        Self { alg: made.algorithm.name().to_owned(), pkcs8: Zeroizing::new(STANDARD.encode(&*made.pkcs8)) }
    }
}

impl Private {
    fn key(&self) -> Result<Arc<SigningKey>, Error> {
        let algorithm = SigningAlgorithm::from_name(&self.alg).ok_or(Error::Content)?;
        let pkcs8 = Zeroizing::new(STANDARD.decode(&*self.pkcs8).map_err(|_| Error::Content)?);
        Ok(Arc::new(SigningKey::from_pkcs8(algorithm, &pkcs8)?))
    }
}

impl Content {
    fn record(&self, id: Uuid, revision: i64) -> Result<Record, Error> {
        let keys = |keys: &[Private]| keys.iter().map(Private::key).collect::<Result<Vec<_>, _>>();
        Ok(Record {
            id,
            revision,
            created_ms: self.created_ms,
            updated_ms: self.updated_ms,
            rotated_ms: self.rotated_ms,
            keys: keys(&self.keys)?,
            previous: keys(&self.previous)?,
        })
    }
}

/// One row, opened.
struct Opened {
    id: Uuid,
    revision: i64,
    content: Content,
}

impl Vault {
    /// The sets in this store, sealed under this key.
    pub fn new(state: State, key: &SecretsKey) -> Self {
        Self { state, sealer: Sealer::new(key, Purpose::KeySets) }
    }

    /// Whether the store was made at this start: it holds nothing of an earlier one.
    pub(super) fn is_new(&self) -> bool {
        self.state.is_new()
    }

    /// The set of a name, where there is one.
    pub(super) async fn load(&self, name: &str) -> Result<Option<Record>, Error> {
        match self.read(name).await? {
            None => Ok(None),
            Some(opened) => opened.content.record(opened.id, opened.revision).map(Some),
        }
    }

    /// Keeps a new set unless there is one by now; the one that is kept, and whether it is the new one.
    pub(super) async fn insert(&self, name: &str, made: &[Made], now_ms: i64) -> Result<(Record, bool), Error> {
        let (created_ms, updated_ms, rotated_ms) = (now_ms, now_ms, now_ms);
        let keys = made.iter().map(Private::from).collect();
        let sealed = self.seal(name, &Content { created_ms, updated_ms, rotated_ms, keys, previous: Vec::new() })?;
        let insert = "INSERT INTO signing_sets (name, id, version, revision, sealed) VALUES (?, ?, ?, 1, ?) \
                      ON CONFLICT (name) DO NOTHING";
        let done = sqlx::query(insert)
            .bind(name)
            .bind(&Uuid::new_v4().as_bytes()[..])
            .bind(VERSION)
            .bind(sealed)
            .execute(self.pool()?)
            .await?;
        let record = self.load(name).await?.ok_or(Error::Gone)?;
        Ok((record, done.rows_affected() == 1))
    }

    /// Puts new keys before those of the set as it is known: the set that is kept then, and whether it has the new keys.
    /// Where another process was quicker, its keys are the ones.
    pub(super) async fn rotate(
        &self,
        name: &str,
        known: &Record,
        made: &[Made],
        now_ms: i64,
    ) -> Result<(Record, bool), Error> {
        // The private keys are in the row alone.
        let Opened { mut content, .. } = self.read(name).await?.ok_or(Error::Gone)?;
        content.previous = std::mem::replace(&mut content.keys, made.iter().map(Private::from).collect());
        (content.updated_ms, content.rotated_ms) = (now_ms, now_ms);
        let update = "UPDATE signing_sets SET version = ?, revision = revision + 1, sealed = ? \
                      WHERE name = ? AND id = ? AND revision = ?";
        let done = sqlx::query(update)
            .bind(VERSION)
            .bind(self.seal(name, &content)?)
            .bind(name)
            .bind(&known.id.as_bytes()[..])
            .bind(known.revision)
            .execute(self.pool()?)
            .await?;
        let record = self.load(name).await?.ok_or(Error::Gone)?;
        Ok((record, done.rows_affected() == 1))
    }

    /// Removes a set, whether or not it opens; whether there was one.
    pub(super) async fn remove(&self, name: &str) -> Result<bool, Error> {
        let done = sqlx::query("DELETE FROM signing_sets WHERE name = ?").bind(name).execute(self.pool()?).await?;
        Ok(done.rows_affected() > 0)
    }

    /// The name of every set, whether or not it opens.
    pub(super) async fn names(&self) -> Result<Vec<String>, Error> {
        let names = sqlx::query_scalar("SELECT name FROM signing_sets ORDER BY name LIMIT ?").bind(MAX_LISTED);
        Ok(names.fetch_all(self.pool()?).await?)
    }

    /// The name of the set with this name or id, whether or not it opens.
    pub(super) async fn name_of(&self, name: &str, id: Option<Uuid>) -> Result<Option<String>, Error> {
        let id = id.map(|id| id.as_bytes().to_vec());
        let found = sqlx::query_scalar("SELECT name FROM signing_sets WHERE name = ? OR id = ?").bind(name).bind(id);
        Ok(found.fetch_optional(self.pool()?).await?)
    }

    async fn read(&self, name: &str) -> Result<Option<Opened>, Error> {
        let row = sqlx::query("SELECT id, version, revision, sealed FROM signing_sets WHERE name = ?")
            .bind(name)
            .fetch_optional(self.pool()?)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let version = row.try_get(1)?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let opened = self.sealer.open(name.as_bytes(), row.try_get(3)?)?;
        let content = serde_json::from_slice(&opened).map_err(|_| Error::Content)?;
        Ok(Some(Opened { id: id(row.try_get(0)?)?, revision: row.try_get(2)?, content }))
    }

    fn seal(&self, name: &str, content: &Content) -> Result<Vec<u8>, Error> {
        // A buffer that grew would leave its smaller self behind in memory, private keys and all.
        let mut plain = Zeroizing::new(Vec::with_capacity(64 << 10));
        serde_json::to_writer(&mut *plain, content).map_err(|_| Error::Content)?;
        Ok(self.sealer.seal(name.as_bytes(), &plain))
    }

    fn pool(&self) -> Result<&SqlitePool, Error> {
        self.state.pool().ok_or(Error::NoStore)
    }
}

fn id(bytes: &[u8]) -> Result<Uuid, Error> {
    Uuid::from_slice(bytes).map_err(|_| Error::Content)
}
