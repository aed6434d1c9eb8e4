//! Backups restore to the same events, and to what was counted.

use std::process::Stdio;

use plfm_control::store::{Store, StoreError};

use super::fixture::{Database, at, booted, event, ready};
use crate::support::postgres::Postgres;

async fn fill(store: &Store) {
    for number in 0..20 {
        let events = [event("fleet", "a"), event(&format!("host/{number}"), "b")];
        store.append(number * 2, &events, None).await.unwrap();
    }
    store.take_beats(&[booted(1, 1, 3)], 0, at(0)).await.unwrap();
}

/// The copy has what the original had, and both go on from there.
async fn compare(original: &Store, copy: &Store) {
    assert_eq!(
        copy.events(0, 1000, None).await.unwrap(),
        original.events(0, 1000, None).await.unwrap()
    );
    assert_eq!(ready(copy).await, (3, 300));
    let appended = copy.append(40, &[event("fleet", "after")], None).await.unwrap();
    assert_eq!((appended[0].position, appended[0].sequence), (41, 21));
    let again = copy.take_beats(&[booted(1, 1, 3)], 0, at(0)).await.unwrap();
    assert!(!again[0].applied);
    assert_eq!(original.head().await.unwrap(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_sqlite_database_has_the_same_events() {
    let database = Database::sqlite();
    let store = database.open().await;
    fill(&store).await;
    let path = database.directory().join("copy.db");
    store.backup(&path).await.unwrap();
    let copy = Store::open(&format!("sqlite:{}", path.display())).await.unwrap();
    compare(&store, &copy).await;
    // Never over something that is there.
    let error = store.backup(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::File { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_made_while_events_are_appended_is_consistent() {
    let database = Database::sqlite();
    let store = database.open().await;
    fill(&store).await;
    let appending = {
        let store = store.clone();
        tokio::spawn(async move {
            for head in 40..240 {
                store.append(head, &[event("fleet", "a")], None).await.unwrap();
            }
        })
    };
    for number in 0..3 {
        let path = database.directory().join(format!("copy{number}.db"));
        store.backup(&path).await.unwrap();
        let copy = Store::open(&format!("sqlite:{}", path.display())).await.unwrap();
        let events = copy.events(0, 1000, None).await.unwrap();
        assert_eq!(events.len() as u64, copy.head().await.unwrap());
        assert!(events.len() >= 40);
    }
    appending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(postgres_installed), ignore = "needs PostgreSQL 15")]
async fn a_dump_of_a_postgres_database_restores_to_the_same_events() {
    let server = Postgres::shared();
    let url = server.database().await;
    let store = Store::open(&url).await.unwrap();
    fill(&store).await;
    assert!(matches!(
        store.backup("x".as_ref()).await,
        Err(StoreError::BackupElsewhere)
    ));
    let restored = server.database().await;
    let mut dump = Postgres::program("pg_dump")
        .arg(&url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = Postgres::program("psql")
        .args([
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--single-transaction",
            &restored,
        ])
        .stdin(dump.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(dump.wait().unwrap().success());
    compare(&store, &Store::open(&restored).await.unwrap()).await;
}
