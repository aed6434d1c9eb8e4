//! The fleet in numbers. Active is whoever was heard of since a moment; who is drained or revoked is in the log.

use jiff::Timestamp;
use plfm_api::control::{Generation, HostId};
use plfm_release::{Architecture, ReleaseId};

use super::backend::{Arg, Row, Sql, stored};
use super::moment::Micros;
use super::{Store, StoreError};

/// Where a release is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseCount {
    /// The release.
    pub release: ReleaseId,
    /// Active hosts that have it installed and could boot it.
    pub hosts_installed: u64,
    /// Active hosts whose new instances boot it.
    pub hosts_current: u64,
    /// Instances that run on it, on active hosts.
    pub instances: u64,
}

/// The fleet at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FleetCounts {
    /// Hosts that were ever heard of.
    pub hosts: u64,
    /// Those that were heard of lately.
    pub hosts_active: u64,
    /// Active hosts that go by the generation.
    pub hosts_at_generation: u64,
    /// Active hosts whose new instances boot the default.
    pub hosts_at_default: u64,
    /// Active hosts that have the default installed and could boot it.
    pub hosts_with_default: u64,
}

/// Active hosts that are alike in what decides which releases they could run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostVersions {
    /// The agent's version.
    pub agent_version: semver::Version,
    /// The machine and the guest init protocols, ascending. None of hosts that did not tell their status yet.
    pub platform: Option<(Architecture, Vec<u32>)>,
    /// How many.
    pub hosts: u64,
    /// The one with the smallest id.
    pub example: HostId,
}

/// Active hosts without a release.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lacking {
    /// How many.
    pub total: u64,
    /// The first of them by id.
    pub hosts: Vec<HostId>,
}

/// The totals, less what hosts count that were not heard of lately. Those are few, unless the fleet is in trouble.
const RELEASES: Sql = Sql::shared(
    "SELECT t.release,
            t.hosts_installed - COALESCE(l.hosts_installed, 0),
            t.hosts_current - COALESCE(l.hosts_current, 0),
            t.instances - COALESCE(l.instances, 0)
     FROM release_totals t LEFT JOIN
         (SELECT r.release,
                 CAST(SUM(CASE WHEN r.state = 'refused' THEN 0 ELSE 1 END) AS BIGINT) AS hosts_installed,
                 CAST(SUM(CASE WHEN r.state = 'current' THEN 1 ELSE 0 END) AS BIGINT) AS hosts_current,
                 CAST(SUM(r.instances) AS BIGINT) AS instances
          FROM hosts h JOIN host_releases r ON r.host = h.host
          WHERE h.seen_at < $1 GROUP BY r.release) l ON l.release = t.release
     ORDER BY t.release",
);

const FLEET: Sql = Sql::shared(
    "SELECT COUNT(*),
            CAST(COALESCE(SUM(CASE WHEN seen_at >= $1 THEN 1 ELSE 0 END), 0) AS BIGINT),
            CAST(COALESCE(SUM(CASE WHEN seen_at >= $1 AND generation = $2 THEN 1 ELSE 0 END), 0) AS BIGINT)
     FROM hosts",
);

const LACKING: Sql = Sql::shared(
    "SELECT h.host FROM hosts h
     WHERE h.seen_at >= $1 AND NOT EXISTS
         (SELECT 1 FROM host_releases r WHERE r.host = h.host AND r.release = $2 AND r.state <> 'refused')
     ORDER BY h.host LIMIT $3",
);

const VERSIONS: Sql = Sql::shared(
    "SELECT h.agent_version, p.arch, p.protocols, COUNT(*), MIN(h.host)
     FROM hosts h LEFT JOIN host_platforms p ON p.host = h.host
     WHERE h.seen_at >= $1
     GROUP BY h.agent_version, p.arch, p.protocols ORDER BY h.agent_version, p.arch, p.protocols",
);

const OF_VERSIONS: Sql = Sql::shared(
    "SELECT h.host FROM hosts h LEFT JOIN host_platforms p ON p.host = h.host
     WHERE h.seen_at >= $1 AND h.agent_version = $2 AND COALESCE(p.arch, '') = $3 AND COALESCE(p.protocols, '') = $4
     ORDER BY h.host LIMIT $5",
);

impl Store {
    /// Where each release is that an active host has.
    pub async fn release_counts(&self, active_since: Timestamp) -> Result<Vec<ReleaseCount>, StoreError> {
        let rows = self
            .backend
            .rows(RELEASES, &[Arg::Int(active_since.micros())])
            .await?;
        let mut counts = Vec::with_capacity(rows.len());
        for row in &rows {
            let count = ReleaseCount {
                release: row.parsed(0)?,
                hosts_installed: row.number(1)?,
                hosts_current: row.number(2)?,
                instances: row.number(3)?,
            };
            if count.hosts_installed > 0 || count.instances > 0 {
                counts.push(count);
            }
        }
        Ok(counts)
    }

    /// The fleet against what it is told.
    pub async fn fleet_counts(
        &self,
        active_since: Timestamp,
        generation: Generation,
        default: Option<&ReleaseId>,
    ) -> Result<FleetCounts, StoreError> {
        let since = Arg::Int(active_since.micros());
        let rows = self
            .backend
            .rows(FLEET, &[since, Arg::Int(stored(generation.0))])
            .await?;
        let row = first(&rows)?;
        let mut counts = FleetCounts {
            hosts: row.number(0)?,
            hosts_active: row.number(1)?,
            hosts_at_generation: row.number(2)?,
            ..FleetCounts::default()
        };
        if let Some(default) = default {
            let releases = self.release_counts(active_since).await?;
            if let Some(count) = releases.iter().find(|count| count.release == *default) {
                counts.hosts_at_default = count.hosts_current;
                counts.hosts_with_default = count.hosts_installed;
            }
        }
        Ok(counts)
    }

    /// Active hosts that do not have a release, or could not boot it.
    pub async fn hosts_lacking(
        &self,
        release: &ReleaseId,
        active_since: Timestamp,
        limit: usize,
    ) -> Result<Lacking, StoreError> {
        let counts = self
            .fleet_counts(active_since, Generation(0), Some(release))
            .await?;
        let total = counts.hosts_active.saturating_sub(counts.hosts_with_default);
        if total == 0 {
            return Ok(Lacking::default());
        }
        let release = release.to_string();
        let args = [
            Arg::Int(active_since.micros()),
            Arg::Text(&release),
            Arg::Int(stored(limit as u64)),
        ];
        let rows = self.backend.rows(LACKING, &args).await?;
        Ok(Lacking {
            total,
            hosts: rows.iter().map(|row| row.parsed(0)).collect::<Result<_, _>>()?,
        })
    }

    /// Active hosts, grouped by what decides which releases they could run: a few rows, whatever the fleet's size.
    pub async fn hosts_versions(&self, active_since: Timestamp) -> Result<Vec<HostVersions>, StoreError> {
        let rows = self
            .backend
            .rows(VERSIONS, &[Arg::Int(active_since.micros())])
            .await?;
        rows.iter().map(versions_of).collect()
    }

    /// The first hosts of such a group, by id.
    pub async fn hosts_of_versions(
        &self,
        versions: &HostVersions,
        active_since: Timestamp,
        limit: usize,
    ) -> Result<Vec<HostId>, StoreError> {
        let agent_version = versions.agent_version.to_string();
        let (arch, protocols) = match &versions.platform {
            Some((arch, protocols)) => (arch.to_string(), super::log::json(protocols)?),
            None => Default::default(),
        };
        let args = [
            Arg::Int(active_since.micros()),
            Arg::Text(&agent_version),
            Arg::Text(&arch),
            Arg::Text(&protocols),
            Arg::Int(stored(limit as u64)),
        ];
        let rows = self.backend.rows(OF_VERSIONS, &args).await?;
        rows.iter().map(|row| row.parsed(0)).collect()
    }
}

fn versions_of(row: &Row) -> Result<HostVersions, StoreError> {
    Ok(HostVersions {
        agent_version: row.parsed(0)?,
        platform: super::rollout_hosts::platform_of(row)?,
        hosts: row.number(3)?,
        example: row.parsed(4)?,
    })
}

fn first(rows: &[Row]) -> Result<&Row, StoreError> {
    rows.first()
        .ok_or_else(|| StoreError::corrupt("a count has no row"))
}
