//! The contract, and what only a file on a disk can do wrong.

use std::os::unix::fs::PermissionsExt;

use sqlx::Connection;
use tempfile::TempDir;

use super::*;
use crate::store::{FirstToken, contract};

async fn store() -> (TempDir, SqliteStore) {
    let dir = TempDir::new().unwrap();
    let store = SqliteStore::open(&dir.path().join("relay.db"))
        .await
        .unwrap();
    (dir, store)
}

contract::suite!(store);

fn hash(index: u32) -> SecretHash {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&index.to_be_bytes());
    SecretHash::from_bytes(bytes)
}

#[tokio::test]
async fn only_its_owner_may_read_the_file() {
    let (dir, _store) = store().await;

    let mode = std::fs::metadata(dir.path().join("relay.db"))
        .unwrap()
        .permissions()
        .mode();

    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn what_was_written_is_there_after_a_reopening() {
    let (dir, first) = store().await;
    first.boot(Timestamp::UNIX_EPOCH).await.unwrap();
    first.close().await;

    let second = SqliteStore::open(&dir.path().join("relay.db"))
        .await
        .unwrap();

    assert_eq!(second.boot(Timestamp::UNIX_EPOCH).await.unwrap(), 2);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_called_damaged() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("relay.db");
    std::fs::write(
        &path,
        "not a database at all, but long enough to have a header".repeat(40),
    )
    .unwrap();

    let opened = SqliteStore::open(&path).await;

    assert!(
        matches!(opened, Err(StoreError::Corrupt { .. })),
        "{opened:?}"
    );
}

#[tokio::test]
async fn a_path_that_is_a_directory_is_called_forbidden() {
    let dir = TempDir::new().unwrap();

    let opened = SqliteStore::open(dir.path()).await;

    assert!(
        matches!(opened, Err(StoreError::Forbidden { .. })),
        "{opened:?}"
    );
}

#[tokio::test]
async fn a_lock_of_another_process_is_called_by_its_name() {
    let (dir, first) = store().await;
    first.close().await;
    let path = dir.path().join("relay.db");
    let patient = SqliteStore::open_with_patience(&path, Duration::from_millis(1))
        .await
        .unwrap();
    let mut other = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&path))
        .await
        .unwrap();
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();

    let refused = patient.boot(Timestamp::UNIX_EPOCH).await;

    assert!(
        matches!(refused, Err(StoreError::Busy { .. })),
        "{refused:?}"
    );
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(patient.boot(Timestamp::UNIX_EPOCH).await.unwrap(), 1);
}

#[tokio::test]
async fn a_full_disk_is_called_by_its_name_and_leaves_nothing_half_written() {
    let (_dir, store) = store().await;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(&store.writer)
        .await
        .unwrap();
    let cap = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::query(cap).execute(&store.writer).await.unwrap();
    let environment = |index: u32| NewEnvironment {
        id: EnvironmentId::from_bytes(u128::from(index).to_be_bytes()),
        customer: CustomerId::default(),
        name: format!("site-{index}"),
        tags: [("note".to_owned(), "x".repeat(255))].into(),
        created_at: Timestamp::UNIX_EPOCH,
        token: FirstToken {
            hash: hash(index),
            expires_at: Timestamp::UNIX_EPOCH,
        },
    };

    let mut written = 0;
    let refused = loop {
        match store.create_environment(environment(written), 1_000).await {
            Ok(()) => written += 1,
            Err(refused) => break refused,
        }
        assert!(written < 1_000, "the cap on pages has no effect");
    };

    assert!(
        matches!(
            &refused,
            CreateEnvironmentError::Store(StoreError::Full { .. })
        ),
        "{refused:?}"
    );
    let all = store.environments(&CustomerId::default()).await.unwrap();
    assert_eq!(all.len(), usize::try_from(written).unwrap());
    assert!(all.iter().all(|environment| environment.tags.len() == 1));
}

#[tokio::test]
async fn regression_a_store_writes_again_once_the_disk_has_room() {
    let (dir, store) = store().await;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(&store.writer)
        .await
        .unwrap();
    let cap = |pages: i64| sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::query(cap(pages))
        .execute(&store.writer)
        .await
        .unwrap();
    let environment = |index: u32| NewEnvironment {
        id: EnvironmentId::from_bytes(u128::from(index).to_be_bytes()),
        customer: CustomerId::default(),
        name: format!("site-{index}-{}", "x".repeat(200)),
        tags: std::collections::BTreeMap::new(),
        created_at: Timestamp::UNIX_EPOCH,
        token: FirstToken {
            hash: hash(index),
            expires_at: Timestamp::UNIX_EPOCH,
        },
    };
    let mut index = 0;
    while store
        .create_environment(environment(index), 1_000)
        .await
        .is_ok()
    {
        index += 1;
    }

    // The failed write's connection is gone, and the cap with it: there is room.
    let written = store.create_environment(environment(index), 1_000).await;

    written.unwrap();
    drop(dir);
}

#[tokio::test]
async fn a_write_whose_user_went_away_is_taken_back() {
    let (_dir, store) = store().await;
    let mut write = store.begin().await.unwrap();
    boot(&mut write.connection, Timestamp::UNIX_EPOCH)
        .await
        .unwrap();

    drop(write);

    assert_eq!(store.boot(Timestamp::UNIX_EPOCH).await.unwrap(), 1);
}

#[tokio::test]
async fn a_store_of_a_later_release_is_refused() {
    let (dir, store) = store().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', 1, x'00', 0)",
    )
    .execute(&store.writer)
    .await
    .unwrap();
    store.close().await;

    let opened = SqliteStore::open(&dir.path().join("relay.db")).await;

    assert!(
        matches!(opened, Err(StoreError::TooNew { .. })),
        "{opened:?}"
    );
}
