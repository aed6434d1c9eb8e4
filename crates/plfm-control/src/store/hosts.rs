//! Hosts, as they were heard of.

use jiff::Timestamp;
use plfm_api::control::{Generation, HostId, HostStatus};
use plfm_release::ReleaseId;

use super::backend::{Arg, Row, Sql, stored};
use super::log::json;
use super::moment::{Micros, moment};
use super::{Store, StoreError};

/// A host that was heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRow {
    /// Its id.
    pub host: HostId,
    /// When it was last heard of.
    pub seen_at: Timestamp,
    /// The agent's version.
    pub agent_version: semver::Version,
    /// The generation that it goes by.
    pub generation: Generation,
    /// When its status came.
    pub status_at: Option<Timestamp>,
    /// How it is, as it said last.
    pub status: Option<HostStatus>,
}

/// Which hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFilter {
    /// Heard of at that moment or later.
    pub seen_since: Option<Timestamp>,
    /// Not heard of since that moment.
    pub silent_since: Option<Timestamp>,
    /// With the release installed, or with instances that run on it.
    pub release: Option<ReleaseId>,
}

const PAGE: Sql = Sql::shared(
    "SELECT h.host, h.seen_at, h.agent_version, h.generation, h.status_at, s.document
     FROM hosts h LEFT JOIN host_status s ON s.host = h.host
     WHERE h.host > $1 AND h.seen_at >= $2 AND h.seen_at < $3
       AND ($4 = '' OR EXISTS (SELECT 1 FROM host_releases r WHERE r.host = h.host AND r.release = $4))
     ORDER BY h.host LIMIT $5",
);

const SOME: Sql = Sql::of(
    "SELECT h.host, h.seen_at, h.agent_version, h.generation, h.status_at, s.document
     FROM hosts h LEFT JOIN host_status s ON s.host = h.host
     WHERE h.host IN (SELECT value FROM json_each($1)) ORDER BY h.host",
    "SELECT h.host, h.seen_at, h.agent_version, h.generation, h.status_at, s.document
     FROM hosts h LEFT JOIN host_status s ON s.host = h.host
     WHERE h.host IN (SELECT value FROM json_array_elements_text($1::json) AS x (value)) ORDER BY h.host",
);

/// Who was never heard of is active nowhere.
const SILENCE: Sql = Sql::shared("UPDATE hosts SET seen_at = 0 WHERE host = $1");

impl Store {
    /// Counts a host as one that was not heard of since for ever: it belongs to the fleet no more.
    pub async fn silence(&self, host: &HostId) -> Result<(), StoreError> {
        let mut change = self.backend.begin().await?;
        change.execute(SILENCE, &[Arg::Text(host.as_str())]).await?;
        change.commit().await
    }

    /// Hosts in the order of their ids, after one of them.
    pub async fn host_rows(
        &self,
        after: Option<&HostId>,
        limit: usize,
        filter: &HostFilter,
    ) -> Result<Vec<HostRow>, StoreError> {
        let release = filter
            .release
            .as_ref()
            .map(ReleaseId::to_string)
            .unwrap_or_default();
        let args = [
            Arg::Text(after.map_or("", HostId::as_str)),
            Arg::Int(filter.seen_since.map_or(i64::MIN, |at| at.micros())),
            Arg::Int(filter.silent_since.map_or(i64::MAX, |at| at.micros())),
            Arg::Text(&release),
            Arg::Int(stored(limit as u64)),
        ];
        self.backend
            .rows(PAGE, &args)
            .await?
            .iter()
            .map(host_of)
            .collect()
    }

    /// Those of the hosts that were heard of, in the order of their ids.
    pub async fn host_rows_of(&self, hosts: &[HostId]) -> Result<Vec<HostRow>, StoreError> {
        let hosts = json(&hosts)?;
        self.backend
            .rows(SOME, &[Arg::Text(&hosts)])
            .await?
            .iter()
            .map(host_of)
            .collect()
    }

    /// A host, if it was heard of.
    pub async fn host_row(&self, host: &HostId) -> Result<Option<HostRow>, StoreError> {
        let rows = self.host_rows_of(std::slice::from_ref(host)).await?;
        Ok(rows.into_iter().next())
    }

    /// When each host was last heard of, of those heard of since a moment.
    pub async fn seen(&self, since: Option<Timestamp>) -> Result<Vec<(HostId, Timestamp)>, StoreError> {
        let since = Arg::Int(since.map_or(i64::MIN, |at| at.micros()));
        let sql = Sql::shared("SELECT host, seen_at FROM hosts WHERE seen_at >= $1");
        let rows = self.backend.rows(sql, &[since]).await?;
        rows.iter()
            .map(|row| Ok((row.parsed(0)?, moment(row.int(1)?)?)))
            .collect()
    }
}

fn host_of(row: &Row) -> Result<HostRow, StoreError> {
    let host: HostId = row.parsed(0)?;
    let status = row
        .text_if_any(5)?
        .map(|document| serde_json::from_str(&document))
        .transpose()
        .map_err(|error| StoreError::corrupt(format!("the status of {host}: {error}")))?;
    Ok(HostRow {
        seen_at: moment(row.int(1)?)?,
        agent_version: row.parsed(2)?,
        generation: Generation(row.number(3)?),
        status_at: row.int_if_any(4)?.map(moment).transpose()?,
        status,
        host,
    })
}
