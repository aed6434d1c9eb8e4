//! Opening a database.

use std::os::unix::fs::PermissionsExt as _;

use plfm_control::store::{Store, StoreError};

use super::fixture::{Database, booted, event};
use super::on_both;

on_both!(
    replicas_that_start_at_once_all_open_it,
    a_database_of_a_newer_version_is_refused_in_words,
    a_database_with_another_version_one_is_refused,
);

async fn replicas_that_start_at_once_all_open_it(database: Database) {
    let openings: Vec<_> = (0..6)
        .map(|_| {
            let url = database.url.clone();
            tokio::spawn(async move { Store::open(&url).await })
        })
        .collect();
    for opening in openings {
        opening.await.unwrap().unwrap().head().await.unwrap();
    }
}

async fn a_database_of_a_newer_version_is_refused_in_words(database: Database) {
    database.open().await.close().await;
    database
        .sql("INSERT INTO schema_versions (version, sha256) VALUES (3, 'x'), (4, 'y')")
        .await
        .unwrap();
    let error = Store::open(&database.url).await.err().unwrap();
    assert!(matches!(error, StoreError::NewerSchema { found: 4, known: 2 }));
    assert_eq!(
        error.to_string(),
        "the database has version 4, and this control plane knows versions up to 2: run the newer one"
    );
}

async fn a_database_with_another_version_one_is_refused(database: Database) {
    database.open().await.close().await;
    database
        .sql("UPDATE schema_versions SET sha256 = 'x'")
        .await
        .unwrap();
    let error = Store::open(&database.url).await.err().unwrap();
    assert!(matches!(error, StoreError::OtherSchema { version: 1 }));
}

#[tokio::test]
async fn a_sqlite_database_is_for_its_owner_only() {
    let database = Database::sqlite();
    let store = database.open().await;
    store.append(0, &[event("fleet", "a")], None).await.unwrap();
    store
        .take_beats(&[booted(1, 1, 1)], 0, super::fixture::at(0))
        .await
        .unwrap();
    store.backup(&database.directory().join("copy.db")).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(database.directory()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{entry:?}"
        );
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        ["control.db", "control.db-shm", "control.db-wal", "copy.db"]
    );
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_and_not_repeated() {
    for url in [
        "",
        "control.db",
        "sqlite:",
        "mysql://root:secret@localhost/x",
        "postgres://a:secret@[/x",
    ] {
        let error = Store::open(url).await.err().unwrap();
        assert_eq!(error.code(), "database_address", "{url}");
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    let error = Store::open("sqlite:/nonexistent/control.db").await.err().unwrap();
    assert_eq!(error.code(), "database_file");
}
