//! Boots in the order in which they were reported, for whoever judges a rollout.
//!
//! Invariant: whoever reads on from a cursor gets every report once, whichever replica took it and whenever its transaction
//! ended. SQLite has one writer, so numbers are in the order of the commits. PostgreSQL's are not: a report may be seen after
//! others with greater numbers. There a cursor stays at the smallest transaction that was running when it read, and remembers
//! what it has read from there on.

use std::collections::BTreeSet;

use jiff::Timestamp;
use plfm_api::BootOutcome;
use plfm_api::control::HostId;
use plfm_release::ReleaseId;

use super::backend::{Arg, Row, Sql, stored};
use super::moment::{Micros, moment};
use super::{Store, StoreError};

/// Reports that are read at once.
const PAGE: usize = 10_000;

/// Boots of one release on one host that began in one minute and ended in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootReport {
    /// The host.
    pub host: HostId,
    /// The release.
    pub release: ReleaseId,
    /// The minute's beginning.
    pub minute: Timestamp,
    /// How they ended.
    pub outcome: BootOutcome,
    /// The time that it took them to become ready, as [`plfm_api::control::ready_bucket`] has it, if it was told.
    pub bucket: Option<u8>,
    /// How many.
    pub count: u32,
}

/// How far the reports were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportCursor {
    /// Where the next reading begins, of the one under way.
    floor: Option<i64>,
    /// What was read from there on, and may come again.
    read: BTreeSet<(i64, i64)>,
    /// Where the next page begins.
    after: (i64, i64),
}

/// The smallest transaction of which there may be more to come. Asked before the rows are: what is below it is over, so
/// they have all of it.
const FLOOR: Sql = Sql::of(
    "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'boot_reports'), 0) + 1",
    "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
);

const READ: Sql = Sql::of(
    "SELECT number, number, minute, release, host, outcome, bucket, count FROM boot_reports
     WHERE number > $2 AND number >= $1 ORDER BY number LIMIT $3",
    "SELECT tx, number, minute, release, host, outcome, bucket, count FROM boot_reports
     WHERE (tx, number) > ($1, $2) ORDER BY tx, number LIMIT $3",
);

/// Of the first rows, those of old boots. A row at a time would be slow, all at once would hold the database too long.
const PRUNE: Sql = Sql::of(
    "DELETE FROM boot_reports WHERE number IN (SELECT number FROM
         (SELECT number, minute FROM boot_reports ORDER BY number LIMIT $2) WHERE minute < $1)",
    "DELETE FROM boot_reports WHERE (tx, number) IN (SELECT tx, number FROM
         (SELECT tx, number, minute FROM boot_reports ORDER BY tx, number LIMIT $2) AS first WHERE minute < $1)",
);

impl Store {
    /// The next reports after a cursor, some thousands at most, and whether there are more right now.
    pub async fn read_reports(
        &self,
        cursor: &mut ReportCursor,
    ) -> Result<(Vec<BootReport>, bool), StoreError> {
        let floor = match cursor.floor {
            Some(floor) => floor,
            None => *cursor.floor.insert(self.floor().await?),
        };
        let (tx, number) = cursor.after;
        let args = [Arg::Int(tx), Arg::Int(number), Arg::Int(stored(PAGE as u64))];
        let rows = self.backend.rows(READ, &args).await?;
        // All are read before the cursor moves: of a page that cannot be read nothing is taken.
        let read = rows
            .iter()
            .map(|row| Ok(((row.int(0)?, row.int(1)?), report_of(row)?)));
        let read: Vec<_> = read.collect::<Result<_, StoreError>>()?;
        let mut reports = Vec::with_capacity(read.len());
        for (place, report) in read {
            cursor.after = place;
            // What is below the floor is final; what is above may come again.
            if cursor.read.contains(&place) {
                continue;
            }
            if place.0 >= floor {
                cursor.read.insert(place);
            }
            reports.extend(report);
        }
        let more = rows.len() == PAGE;
        if !more {
            cursor.read = cursor.read.split_off(&(floor, i64::MIN));
            cursor.after = (floor, 0);
            cursor.floor = None;
        }
        Ok((reports, more))
    }

    async fn floor(&self) -> Result<i64, StoreError> {
        let rows = self.backend.rows(FLOOR, &[]).await?;
        let row = rows
            .first()
            .ok_or_else(|| StoreError::corrupt("the database tells no snapshot"))?;
        row.int(0)
    }

    /// Removes reports of boots from before a moment, as far as they are the first ones: reports come roughly in the order of
    /// their minutes. How many there were.
    pub async fn prune_reports(&self, before: Timestamp) -> Result<u64, StoreError> {
        let args = [Arg::Int(before.micros()), Arg::Int(stored(PAGE as u64))];
        let mut removed = 0;
        loop {
            match self.backend.execute(PRUNE, &args).await? {
                0 => return Ok(removed),
                some => removed += some,
            }
        }
    }
}

/// A row. None of an outcome that a newer control plane wrote.
fn report_of(row: &Row) -> Result<Option<BootReport>, StoreError> {
    let Ok(outcome) = serde_json::from_value(row.text(5)?.into()) else {
        return Ok(None);
    };
    Ok(Some(BootReport {
        minute: moment(row.int(2)?)?,
        release: row.parsed(3)?,
        host: row.parsed(4)?,
        outcome,
        bucket: u8::try_from(row.int(6)?).ok(),
        count: u32::try_from(row.number(7)?).unwrap_or(u32::MAX),
    }))
}
