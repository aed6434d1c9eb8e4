//! Versions of the database. They only go up, in one transaction, under a lock that replicas which start together share.

use sha2::{Digest as _, Sha256};

use super::StoreError;
use super::backend::{Arg, Backend, Change, Sql};

macro_rules! version {
    ($name:literal) => {
        Sql::of(
            include_str!(concat!("../../migrations/sqlite/", $name, ".sql")),
            include_str!(concat!("../../migrations/postgres/", $name, ".sql")),
        )
    };
}

/// What leads from each version to the next, from the empty database on.
const VERSIONS: [Sql; 2] = [
    version!("0001_events_and_observations"),
    version!("0002_rollouts"),
];

/// Any number, as long as all control planes have the same: "plfmctl".
const LOCK: i64 = 0x70_6c66_6d63_746c;

/// Brings the database to the newest version.
pub(super) async fn migrate(backend: &Backend) -> Result<(), StoreError> {
    let mut change = backend.begin().await?;
    if matches!(change, Change::Postgres(_)) {
        change
            .rows(
                Sql::shared("SELECT 1 FROM pg_advisory_xact_lock($1)"),
                &[Arg::Int(LOCK)],
            )
            .await?;
    }
    change
        .execute(
            Sql::shared(
                "CREATE TABLE IF NOT EXISTS schema_versions
                 (version BIGINT NOT NULL PRIMARY KEY, sha256 TEXT NOT NULL)",
            ),
            &[],
        )
        .await?;
    let there = check(&mut change).await?;
    for (version, script) in (1..).zip(VERSIONS).skip(there) {
        change.run_script(script).await?;
        let digest = digest(change.text(script));
        change
            .execute(
                Sql::shared("INSERT INTO schema_versions (version, sha256) VALUES ($1, $2)"),
                &[Arg::Int(version), Arg::Text(&digest)],
            )
            .await?;
    }
    change.commit().await
}

/// How many of the versions are there. They are the known ones, in order.
async fn check(change: &mut Change) -> Result<usize, StoreError> {
    let rows = change
        .rows(
            Sql::shared("SELECT version, sha256 FROM schema_versions ORDER BY version"),
            &[],
        )
        .await?;
    for (index, row) in rows.iter().enumerate() {
        let version = row.int(0)?;
        let Some(script) = VERSIONS.get(index) else {
            let found = rows.last().map_or(Ok(version), |last| last.int(0))?;
            return Err(StoreError::NewerSchema {
                found,
                known: VERSIONS.len() as i64,
            });
        };
        if version != index as i64 + 1 || row.text(1)? != digest(change.text(*script)) {
            return Err(StoreError::OtherSchema { version });
        }
    }
    Ok(rows.len())
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}
