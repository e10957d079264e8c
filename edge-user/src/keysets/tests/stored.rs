use sqlx::Row;

use super::*;

/// A file for one test.
fn file() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("edge.db");
    (folder, path)
}

async fn row(state: &State) -> Vec<u8> {
    let row =
        sqlx::query("SELECT sealed FROM signing_sets WHERE name = 'kong'").fetch_one(state.pool().expect("a file"));
    row.await.expect("a row").try_get(0).expect("bytes")
}

#[tokio::test]
async fn a_set_survives_a_restart_and_goes_on_where_it_was() {
    // R5: a restart between publishing and signing changes nothing of it.
    let ((_folder, path), clock) = (file(), Clock::new());
    let sets = in_file(&path, 'a', &clock).await;
    let first = kid(&named(&sets, "kong").ready(ES256).await.expect("a key"));
    let before = sets.rotate("kong", None).await.expect("an answer").expect("a set");
    drop(sets);
    let sets = in_file(&path, 'a', &clock).await;
    // Who verifies asks before anyone signs.
    assert_eq!(sets.find("kong").await, Ok(Some(before.clone())));
    assert_eq!(sets.find(&before.id.to_string()).await, Ok(Some(before.clone())));
    assert_eq!(sets.list().await, Ok(vec![before.clone()]));
    let set = named(&sets, "kong");
    assert_eq!(kid(&set.ready(ES256).await.expect("a key")), first);
    let public = before.previous.iter().find(|key| key["kid"] == *first).expect("the key");
    let token = set.signing_key(ES256).expect("a key").sign("JWT", &serde_json::json!({"exp": 4_102_444_800u64}));
    let jwk = serde_json::from_value(public.clone()).expect("a JWK");
    let decoding = jsonwebtoken::DecodingKey::from_jwk(&jwk).expect("a key");
    crypto::install();
    let validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    jsonwebtoken::decode::<serde_json::Value>(token.expect("a token"), &decoding, &validation).expect("it verifies");
    clock.advance(MINUTE_MS);
    looked(&set).await;
    assert_eq!(signs(&set), kids(&before.keys)[0]);
    assert_eq!(number(&sets, "edge_key_sets_generated_total"), "0");
}

#[tokio::test]
async fn what_was_stored_once_is_read_by_later_versions() {
    // A row of version 1: its private key is that of RFC 8410, 10.3. Another form needs another version.
    let ((_folder, path), clock) = (file(), Clock::new());
    let content = br#"{"created_ms":1,"updated_ms":2,"rotated_ms":3,"previous":[],"keys":[{"alg":"EdDSA",
        "pkcs8":"MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC"}]}"#;
    let sealed = crypto::seal::Sealer::new(&secrets_key('a'), crypto::seal::Purpose::KeySets).seal(b"kong", content);
    let state = State::open(&path).await;
    let insert = "INSERT INTO signing_sets (name, id, version, revision, sealed) VALUES ('kong', ?, 1, 1, ?)";
    let row = sqlx::query(insert).bind(&[7; 16][..]).bind(sealed);
    row.execute(state.pool().expect("a file")).await.expect("a row");
    let sets = in_file(&path, 'a', &clock).await;
    let set = sets.find("07070707-0707-0707-0707-070707070707").await.expect("an answer").expect("a set");
    assert_eq!((&*set.name, set.created_ms, set.updated_ms), ("kong", Some(1), Some(2)));
    assert_eq!(set.keys[0]["x"], "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE");
    assert_eq!(kid(&named(&sets, "kong").ready(EDDSA).await.expect("a key")), kids(&set.keys)[0]);
}

#[tokio::test]
async fn what_became_due_while_the_edge_was_down_is_done_at_its_next_use() {
    let ((_folder, path), clock) = (file(), Clock::new());
    let hourly = SetSettings { origin: Origin::Named("kong".into()), rotate_period: Some(HOUR) };
    let first = kid(&in_file(&path, 'a', &clock).await.set(hourly.clone()).ready(ES256).await.expect("a key"));
    clock.advance(HOUR.as_millis() as i64);
    let sets = in_file(&path, 'a', &clock).await;
    let set = sets.set(hourly);
    assert_eq!(kid(&set.ready(ES256).await.expect("a key")), first);
    looked(&set).await;
    let rotated = sets.find("kong").await.expect("an answer").expect("a set");
    assert_eq!((kids(&rotated.previous)[0].clone(), signs(&set)), (first.clone(), first));
}

#[tokio::test]
async fn what_cannot_be_used_is_never_replaced() {
    // A8: another secrets key, altered bytes, another row's, a later version, no content: an error, and the row stays.
    let ((_folder, path), clock) = (file(), Clock::new());
    let sets = in_file(&path, 'a', &clock).await;
    let first = kid(&named(&sets, "kong").ready(ES256).await.expect("a key"));
    named(&sets, "other").ready(ES256).await.expect("a key");
    drop(sets);
    let state = State::open(&path).await;
    let good = row(&state).await;
    let empty = crypto::seal::Sealer::new(&secrets_key('a'), crypto::seal::Purpose::KeySets).seal(b"kong", b"{}");
    for (digit, change, cause) in [
        ('b', "SELECT ?", "do not open under the node's secrets key"),
        ('a', "UPDATE signing_sets SET sealed = x'0102' WHERE name = 'kong'", "do not open under"),
        (
            'a',
            "UPDATE signing_sets SET sealed = (SELECT sealed FROM signing_sets WHERE name = 'other') WHERE name = 'kong'",
            "do not open under",
        ),
        ('a', "UPDATE signing_sets SET version = 7 WHERE name = 'kong'", "version 7, which this program does not know"),
        ('a', "UPDATE signing_sets SET sealed = ? WHERE name = 'kong'", "the stored set is malformed"),
        ('a', "DROP TABLE signing_sets", "the node's store cannot be read"),
    ] {
        let pool = state.pool().expect("a file");
        sqlx::query(change).bind(&empty).execute(pool).await.expect("a change");
        let captured = Captured::start();
        let sets = in_file(&path, digit, &clock).await;
        let set = named(&sets, "kong");
        for _ in 0..20 {
            assert_eq!(set.ready(ES256).await.err(), Some(Unavailable::Failed { retry_after_secs: 1 }), "{cause}");
        }
        assert!(sets.find("kong").await.is_err() && sets.rotate("kong", None).await.is_err());
        let log = captured.text();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("key set cannot be had")).collect();
        assert!(lines.len() == 1 && lines[0].contains("ERROR") && lines[0].contains(cause), "{log}");
        clock.advance(1000);
        assert_eq!(set.ready(ES256).await.err(), Some(Unavailable::Failed { retry_after_secs: 2 }), "{cause}");
        assert_eq!(number(&sets, "edge_key_sets_generated_total"), "0");
        drop(captured);
        if change.starts_with("DROP") {
            continue;
        }
        let mend = "UPDATE signing_sets SET version = 1, sealed = ? WHERE name = 'kong'";
        sqlx::query(mend).bind(&good).execute(pool).await.expect("a change");
        let sets = in_file(&path, 'a', &clock).await;
        assert_eq!(kid(&named(&sets, "kong").ready(ES256).await.expect("a key")), first, "{cause}");
    }
}

#[tokio::test]
async fn a_set_that_does_not_open_can_be_deleted_by_name() {
    let ((_folder, path), clock) = (file(), Clock::new());
    let sets = in_file(&path, 'a', &clock).await;
    let first = kid(&named(&sets, "kong").ready(ES256).await.expect("a key"));
    let sets = in_file(&path, 'b', &clock).await;
    let set = named(&sets, "kong");
    assert!(set.ready(ES256).await.is_err());
    assert_eq!(sets.list().await, Ok(Vec::new()), "it is there, and cannot be shown");
    assert_eq!(sets.delete("kong").await, Ok(true));
    assert_ne!(kid(&set.ready(ES256).await.expect("no back-off is left")), first);
}

#[tokio::test]
async fn a_store_that_does_not_open_makes_no_keys() {
    // A8: a folder, another format, a later schema; the file stays as it is.
    let (folder, path) = file();
    let garbage = folder.path().join("garbage");
    std::fs::write(&garbage, "no database, and long enough to have no valid header".repeat(30)).expect("a file");
    let pool = State::open(&path).await.pool().expect("a file").clone();
    sqlx::query("PRAGMA user_version = 99").execute(&pool).await.expect("a version");
    pool.close().await;
    for unusable in [folder.path(), &garbage, &path] {
        let before = std::fs::read(unusable).ok();
        let sets = in_file(unusable, 'a', &Clock::new()).await;
        let failed = Some(Unavailable::Failed { retry_after_secs: 1 });
        assert_eq!(named(&sets, "kong").ready(ES256).await.err(), failed, "{}", unusable.display());
        assert!(sets.list().await.is_err() && sets.find("kong").await.is_err() && sets.delete("kong").await.is_err());
        assert_eq!(number(&sets, "edge_key_set_store_failures_total"), "1");
        assert_eq!(std::fs::read(unusable).ok(), before);
    }
}

#[tokio::test]
async fn a_store_that_is_lost_while_the_edge_runs_costs_no_key() {
    let ((_folder, path), clock) = (file(), Clock::new());
    let state = State::open(&path).await;
    let keeping = Keeping::Sealed(Vault::new(state.clone(), &secrets_key('a')));
    let sets = Arc::new(KeySets::new(http(), keeping, Handle::current(), clock.policy()));
    let set = named(&sets, "kong");
    let first = kid(&set.ready(ES256).await.expect("a key"));
    let before = sets.find("kong").await.expect("an answer").expect("a set");
    state.pool().expect("a file").close().await;
    assert_eq!(sets.rotate("kong", None).await, Err(NotRotated::Failed(Failed)), "not kept, so not in force");
    assert_eq!(sets.delete("kong").await, Err(Failed));
    assert_eq!((sets.find("kong").await, signs(&set)), (Ok(Some(before)), first));
    assert!(sets.list().await.is_err() && sets.find("other").await.is_err());
}

#[tokio::test]
async fn the_first_set_of_a_new_file_is_told_loudly() {
    let ((_folder, path), clock) = (file(), Clock::new());
    let captured = Captured::start();
    let sets = in_file(&path, 'a', &clock).await;
    let first = kid(&named(&sets, "kong").ready(ES256).await.expect("a key"));
    let sets = in_file(&path, 'a', &clock).await;
    named(&sets, "kong").ready(ES256).await.expect("a key");
    named(&sets, "other").ready(ES256).await.expect("a key");
    let log = captured.text();
    let told: Vec<_> = log.lines().filter(|line| line.contains("generated")).collect();
    assert_eq!(told.len(), 2, "{log}");
    assert!(told[0].contains("ERROR") && told[0].contains("key set kong generated: the store's file is new"), "{log}");
    assert!(told[1].contains("WARN") && told[1].contains("key set other generated"), "{log}");
    // The file was lost.
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
    }
    let sets = in_file(&path, 'a', &clock).await;
    assert_ne!(kid(&named(&sets, "kong").ready(ES256).await.expect("a key")), first);
    let log = captured.text();
    assert_eq!(log.lines().filter(|line| line.contains("ERROR") && line.contains("file is new")).count(), 2, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_on_one_file_have_one_set() {
    let ((_folder, path), clock) = (file(), Clock::new());
    let (one, other) = tokio::join!(in_file(&path, 'a', &clock), in_file(&path, 'a', &clock));
    let hourly = SetSettings { origin: Origin::Named("kong".into()), rotate_period: Some(HOUR) };
    let (first, second) = (one.set(hourly.clone()), other.set(hourly));
    let (a, b) = tokio::join!(first.ready(ES256), second.ready(ES256));
    assert_eq!(kid(&a.expect("a key")), kid(&b.expect("a key")));
    assert_eq!(one.find("kong").await, other.find("kong").await);
    // Both are due, and only one rotates.
    clock.advance(HOUR.as_millis() as i64);
    looked(&first).await;
    looked(&second).await;
    assert_eq!(one.find("kong").await, other.find("kong").await);
    let rotations = |sets| number(sets, "edge_key_set_rotations_total{cause=\"periodic\"}").parse::<u32>();
    assert_eq!(rotations(&one).expect("a number") + rotations(&other).expect("a number"), 1);
    // At the same time, too, there is one outcome in the file.
    clock.advance(HOUR.as_millis() as i64);
    tokio::join!(looked(&first), looked(&second));
    assert_eq!(one.find("kong").await, other.find("kong").await);
    assert_eq!(in_file(&path, 'a', &clock).await.find("kong").await, one.find("kong").await);
}
