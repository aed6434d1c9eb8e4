//! How boots ended, counted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use plfm_api::control::HostId;
use plfm_release::ReleaseId;

use super::backend::{Arg, Sql};
use super::moment::Micros;
use super::{Store, StoreError};

/// Boots of a release that ended in one way, ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootTotal {
    /// The release.
    pub release: ReleaseId,
    /// How they ended: the name of a [`plfm_api::BootOutcome`].
    pub outcome: String,
    /// How many.
    pub count: u64,
    /// Of those that became ready: the time to ready, summed up, in milliseconds.
    pub ready_ms_total: u64,
}

/// Boots of a release on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBoots {
    /// The host.
    pub host: HostId,
    /// How many, by the outcome's name.
    pub outcomes: BTreeMap<String, u64>,
}

impl Store {
    /// Boots ever, by release and outcome.
    pub async fn boot_totals(&self) -> Result<Vec<BootTotal>, StoreError> {
        let sql = Sql::shared(
            "SELECT release, outcome, count, ready_ms_total FROM boot_totals ORDER BY release, outcome",
        );
        let rows = self.backend.rows(sql, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(BootTotal {
                    release: row.parsed(0)?,
                    outcome: row.text(1)?,
                    count: row.number(2)?,
                    ready_ms_total: row.number(3)?,
                })
            })
            .collect()
    }

    /// Boots of a release by host, of the minutes since a moment that were not pruned.
    pub async fn host_boots(
        &self,
        release: &ReleaseId,
        since: Timestamp,
    ) -> Result<Vec<HostBoots>, StoreError> {
        let sql = Sql::shared(
            "SELECT host, outcome, CAST(SUM(count) AS BIGINT) FROM boot_outcomes
             WHERE minute >= $1 AND release = $2 GROUP BY host, outcome ORDER BY host, outcome",
        );
        let release = release.to_string();
        let args = [Arg::Int(since.micros()), Arg::Text(&release)];
        let mut hosts: Vec<HostBoots> = Vec::new();
        for row in self.backend.rows(sql, &args).await? {
            let host: HostId = row.parsed(0)?;
            let (outcome, count) = (row.text(1)?, row.number(2)?);
            match hosts.last_mut().filter(|last| last.host == host) {
                Some(last) => {
                    last.outcomes.insert(outcome, count);
                }
                None => hosts.push(HostBoots {
                    host,
                    outcomes: BTreeMap::from([(outcome, count)]),
                }),
            }
        }
        Ok(hosts)
    }

    /// Removes what is kept by minute and host from before a moment. Totals stay. How many rows there were.
    pub async fn prune_outcomes(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.backend
            .execute(
                Sql::shared("DELETE FROM boot_outcomes WHERE minute < $1"),
                &[Arg::Int(before.micros())],
            )
            .await
    }
}
