//! What survives a restart, in one SQLite file: the last good keys of issuers, and the key sets that the edge made.
//!
//! A file that cannot be opened, read or written costs a warning and the memory of issuers' keys, never a verdict. What
//! `keysets` keeps here is more than memory: there, an error is one.

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, SqlitePool};
use std::path::Path;
use std::time::{Duration, Instant};

/// Schema steps; `user_version` counts how many of them a file has seen.
const STEPS: &[&str] = &[
    "CREATE TABLE key_sets (source BLOB PRIMARY KEY, fetched_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT",
    "CREATE TABLE signing_sets (name TEXT PRIMARY KEY, id BLOB NOT NULL UNIQUE, version INTEGER NOT NULL, \
     revision INTEGER NOT NULL, sealed BLOB NOT NULL) STRICT",
];

/// How long another process may hold the file up.
const BUSY: Duration = Duration::from_secs(5);
/// Between two attempts where SQLite does not wait by itself.
const RETRY: Duration = Duration::from_millis(20);
/// SQLITE_BUSY, the low byte of each of its extended codes.
const SQLITE_BUSY: u32 = 5;

/// Why the file did not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite's own error.
    #[error("the store's file cannot be used")]
    Sqlite(#[from] sqlx::Error),
    /// A later edge wrote this file.
    #[error("the store's schema has version {0}, newer than this program knows")]
    Newer(i64),
}

/// What was known of a source when it was last good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKeys {
    /// When it was fetched, Unix milliseconds.
    pub fetched_ms: i64,
    /// The documents, in `token::keys`'s own form.
    pub body: String,
}

/// The store; cheap to clone.
#[derive(Clone, Debug)]
pub struct State {
    pool: Option<SqlitePool>,
    is_new: bool,
}

/// Opens the file. Of two processes that turn a new one to write-ahead logging at the same moment one is refused at once,
/// whatever its `busy_timeout`.
async fn connect(options: SqliteConnectOptions) -> sqlx::Result<SqlitePool> {
    let began = Instant::now();
    loop {
        let pool = SqlitePoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(10));
        match pool.connect_with(options.clone()).await {
            Err(error) if is_busy(&error) && began.elapsed() < BUSY => tokio::time::sleep(RETRY).await,
            opened => return opened,
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == SQLITE_BUSY)
}

impl State {
    /// A state that forgets.
    pub fn in_memory() -> Self {
        Self { pool: None, is_new: false }
    }

    /// Opens or creates the file; falls back to memory with a warning.
    pub async fn open(path: &Path) -> Self {
        match Self::try_open(path).await {
            Ok((pool, is_new)) => Self { pool: Some(pool), is_new },
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(path = %path.display(), error, "the store cannot be used: issuers' keys stay in memory only, generated key sets cannot be had");
                Self::in_memory()
            }
        }
    }

    /// The pool, and whether the file was made by this.
    async fn try_open(path: &Path) -> Result<(SqlitePool, bool), Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A key that has signed must be there after a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY);
        let pool = connect(options).await?;
        // Taken for writing at once: two processes that start on a new file must not both find it empty.
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
        let version: i64 = sqlx::query("PRAGMA user_version").fetch_one(&mut *transaction).await?.try_get(0)?;
        let seen = usize::try_from(version).ok().filter(|seen| *seen <= STEPS.len()).ok_or(Error::Newer(version))?;
        for step in &STEPS[seen..] {
            sqlx::query(*step).execute(&mut *transaction).await?;
        }
        if seen < STEPS.len() {
            let bump = format!("PRAGMA user_version = {}", STEPS.len());
            sqlx::query(sqlx::AssertSqlSafe(bump)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok((pool, seen == 0))
    }

    /// Whether the file was made at this start, and so holds nothing of an earlier one.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The pool, for the parts that keep more than key sets here.
    pub fn pool(&self) -> Option<&SqlitePool> {
        self.pool.as_ref()
    }

    /// The last good keys of a source.
    pub async fn load_keys(&self, source: &[u8; 32]) -> Option<StoredKeys> {
        let pool = self.pool.as_ref()?;
        let row = sqlx::query("SELECT fetched_ms, body FROM key_sets WHERE source = ?")
            .bind(&source[..])
            .fetch_optional(pool)
            .await;
        let stored = row.and_then(|row| {
            row.map(|row| Ok(StoredKeys { fetched_ms: row.try_get(0)?, body: row.try_get(1)? })).transpose()
        });
        stored.unwrap_or_else(|error| {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "stored key sets cannot be read");
            None
        })
    }

    /// Keeps the last good keys of a source.
    pub async fn save_keys(&self, source: &[u8; 32], keys: &StoredKeys) {
        let Some(pool) = self.pool.as_ref() else { return };
        let saved = sqlx::query("INSERT OR REPLACE INTO key_sets (source, fetched_ms, body) VALUES (?, ?, ?)")
            .bind(&source[..])
            .bind(keys.fetched_ms)
            .bind(&keys.body)
            .execute(pool)
            .await;
        if let Err(error) = saved {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "key sets cannot be stored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(body: &str) -> StoredKeys {
        StoredKeys { fetched_ms: 7, body: body.to_owned() }
    }

    #[tokio::test]
    async fn keys_survive_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("edge.db");
        let state = State::open(&path).await;
        assert_eq!(state.load_keys(&[1; 32]).await, None);
        state.save_keys(&[1; 32], &keys("a")).await;
        state.save_keys(&[1; 32], &keys("b")).await;
        drop(state);
        let state = State::open(&path).await;
        assert_eq!(state.load_keys(&[1; 32]).await, Some(keys("b")));
        assert_eq!(state.load_keys(&[2; 32]).await, None);
    }

    #[tokio::test]
    async fn an_older_file_gets_what_it_lacks_and_is_not_new() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("edge.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let pool = SqlitePoolOptions::new().connect_with(options).await.expect("a file");
        for step in [STEPS[0], "PRAGMA user_version = 1"] {
            sqlx::query(step).execute(&pool).await.expect("a step");
        }
        let older = State { pool: Some(pool), is_new: false };
        older.save_keys(&[1; 32], &keys("a")).await;
        older.pool().expect("a file").close().await;
        let state = State::open(&path).await;
        assert_eq!((state.load_keys(&[1; 32]).await, state.is_new()), (Some(keys("a")), false));
        let sets = sqlx::query("SELECT name FROM signing_sets").fetch_all(state.pool().expect("a file")).await;
        assert!(sets.expect("a table").is_empty());
        assert!(State::open(&folder.path().join("other.db")).await.is_new());
    }

    #[tokio::test]
    async fn a_full_disk_keeps_what_was_there() {
        // D5: SQLite's own limit stands in for the disk's; the error is the same, SQLITE_FULL.
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("edge.db");
        let state = State::open(&path).await;
        state.save_keys(&[1; 32], &keys("a")).await;
        state.pool().expect("a file").close().await;
        let full = SqliteConnectOptions::new().filename(&path).pragma("max_page_count", "8");
        let pool = SqlitePoolOptions::new().connect_with(full).await.expect("a file");
        let state = State { pool: Some(pool), is_new: false };
        state.save_keys(&[1; 32], &keys(&"b".repeat(1 << 20))).await;
        assert_eq!(state.load_keys(&[1; 32]).await, Some(keys("a")));
        state.save_keys(&[1; 32], &keys("c")).await;
        assert_eq!(state.load_keys(&[1; 32]).await, Some(keys("c")), "it serves again");
    }

    #[tokio::test]
    async fn a_bad_file_is_memory_only() {
        // K5: no file, a folder, another format, a later schema: nothing of it fails.
        let folder = tempfile::tempdir().expect("a folder");
        let garbage = folder.path().join("garbage");
        std::fs::write(&garbage, "not a database, and long enough to have no valid header at all".repeat(20))
            .expect("a file");
        let newer = folder.path().join("newer");
        let (pool, _) = State::try_open(&newer).await.expect("a file");
        sqlx::query("PRAGMA user_version = 99").execute(&pool).await.expect("a version");
        pool.close().await;
        for path in [folder.path(), &garbage, &newer, Path::new("/nonexistent/edge.db")] {
            let state = State::open(path).await;
            assert!(state.pool().is_none(), "{}", path.display());
            state.save_keys(&[1; 32], &keys("a")).await;
            assert_eq!(state.load_keys(&[1; 32]).await, None);
        }
    }
}
