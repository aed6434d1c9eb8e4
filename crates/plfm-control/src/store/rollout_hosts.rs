//! The active hosts as a rollout needs them: counted by what they can run.

use jiff::Timestamp;
use plfm_api::control::{Generation, HostId};
use plfm_release::{Architecture, ReleaseId};

use super::backend::{Arg, Row, Sql, stored};
use super::log::json;
use super::moment::Micros;
use super::{Store, StoreError};

/// Hosts that are alike in what decides which releases they could run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostGroup {
    /// The agent's version.
    pub agent_version: semver::Version,
    /// The machine and the guest init protocols. None of hosts that did not tell their status yet.
    pub platform: Option<(Architecture, Vec<u32>)>,
    /// How many.
    pub hosts: u32,
    /// Of these, those that were heard of lately.
    pub heard: u32,
    /// Of these, those that go by the generation.
    pub at_generation: u32,
    /// Of these, those that have the release and could boot it.
    pub with_release: u32,
}

const GROUPS: Sql = Sql::of(
    "SELECT h.agent_version, p.arch, p.protocols, COUNT(*), SUM(h.seen_at >= $2), SUM(h.generation = $3),
            SUM(r.host IS NOT NULL)
     FROM hosts h LEFT JOIN host_platforms p ON p.host = h.host
          LEFT JOIN host_releases r ON r.host = h.host AND r.release = $4 AND r.state <> 'refused'
     WHERE h.seen_at >= $1 AND h.host NOT IN (SELECT value FROM json_each($5))
     GROUP BY h.agent_version, p.arch, p.protocols",
    "SELECT h.agent_version, p.arch, p.protocols, COUNT(*), COUNT(*) FILTER (WHERE h.seen_at >= $2),
            COUNT(*) FILTER (WHERE h.generation = $3), COUNT(r.host)
     FROM hosts h LEFT JOIN host_platforms p ON p.host = h.host
          LEFT JOIN host_releases r ON r.host = h.host AND r.release = $4 AND r.state <> 'refused'
     WHERE h.seen_at >= $1 AND h.host NOT IN (SELECT value FROM json_array_elements_text($5::json) AS x (value))
     GROUP BY h.agent_version, p.arch, p.protocols",
);

const MEMBERS: Sql = Sql::of(
    "SELECT h.agent_version, p.arch, p.protocols, h.host
     FROM hosts h LEFT JOIN host_platforms p ON p.host = h.host
     WHERE h.seen_at >= $1 AND h.host NOT IN (SELECT value FROM json_each($2))",
    "SELECT h.agent_version, p.arch, p.protocols, h.host
     FROM hosts h LEFT JOIN host_platforms p ON p.host = h.host
     WHERE h.seen_at >= $1 AND h.host NOT IN (SELECT value FROM json_array_elements_text($2::json) AS x (value))",
);

impl Store {
    /// The hosts that were heard of since a moment, but for some, by what they can run.
    pub async fn host_groups(
        &self,
        active_since: Timestamp,
        heard_since: Timestamp,
        generation: Generation,
        release: &ReleaseId,
        but: &[&HostId],
    ) -> Result<Vec<HostGroup>, StoreError> {
        let (release, but) = (release.to_string(), json(but)?);
        let args = [
            Arg::Int(active_since.micros()),
            Arg::Int(heard_since.micros()),
            Arg::Int(stored(generation.0)),
            Arg::Text(&release),
            Arg::Text(&but),
        ];
        let rows = self.backend.rows(GROUPS, &args).await?;
        rows.iter().map(group_of).collect()
    }

    /// Each of the hosts that were heard of since a moment, but for some, with a group that it belongs to.
    pub async fn host_members(
        &self,
        active_since: Timestamp,
        but: &[&HostId],
        can_run: impl Fn(&semver::Version, Option<&(Architecture, Vec<u32>)>) -> bool + Send,
    ) -> Result<Vec<HostId>, StoreError> {
        let but = json(but)?;
        let args = [Arg::Int(active_since.micros()), Arg::Text(&but)];
        let mut members = Vec::new();
        for row in &self.backend.rows(MEMBERS, &args).await? {
            if can_run(&row.parsed(0)?, platform_of(row)?.as_ref()) {
                members.push(row.parsed(3)?);
            }
        }
        Ok(members)
    }
}

fn group_of(row: &Row) -> Result<HostGroup, StoreError> {
    let count = |index| {
        row.number(index)
            .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
    };
    Ok(HostGroup {
        agent_version: row.parsed(0)?,
        platform: platform_of(row)?,
        hosts: count(3)?,
        heard: count(4)?,
        at_generation: count(5)?,
        with_release: count(6)?,
    })
}

/// Of a row whose second and third column have it.
pub(super) fn platform_of(row: &Row) -> Result<Option<(Architecture, Vec<u32>)>, StoreError> {
    let (Some(arch), Some(protocols)) = (row.text_if_any(1)?, row.text_if_any(2)?) else {
        return Ok(None);
    };
    let unreadable = |_| StoreError::corrupt(format!("platform {arch:?} {protocols:?}"));
    let machine = serde_json::from_value(arch.clone().into()).map_err(unreadable)?;
    let protocols = serde_json::from_str(&protocols).map_err(unreadable)?;
    Ok(Some((machine, protocols)))
}
