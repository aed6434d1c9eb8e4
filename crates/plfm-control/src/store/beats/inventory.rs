//! What hosts have installed and run, replaced as a whole when a host says so.
//!
//! `release_totals` is the sum of `host_releases`, kept by the differences that each replacement makes.

use std::collections::BTreeMap;

use plfm_api::ReleaseState;
use plfm_api::control::HostStatus;
use plfm_release::ReleaseId;
use serde::Serialize;

use super::Judged;
use crate::store::StoreError;
use crate::store::backend::{Arg, Change, Sql};
use crate::store::log::json;

#[derive(Serialize)]
struct StatusRow<'a> {
    host: &'a str,
    // JSON as text within JSON: as such, no database interprets it.
    document: String,
    arch: String,
    protocols: String,
}

#[derive(Serialize)]
struct ReleaseRow<'a> {
    host: &'a str,
    release: String,
    state: &'static str,
    instances: u32,
}

const DOCUMENTS: Sql = Sql::of(
    "INSERT INTO host_status (host, document) SELECT value ->> 'host', value ->> 'document'
     FROM json_each($1) WHERE true
     ON CONFLICT (host) DO UPDATE SET document = excluded.document",
    "INSERT INTO host_status (host, document) SELECT host, document
     FROM json_to_recordset($1::json) AS x (host text, document text)
     ON CONFLICT (host) DO UPDATE SET document = excluded.document",
);

const PLATFORMS: Sql = Sql::of(
    "INSERT INTO host_platforms (host, arch, protocols)
     SELECT value ->> 'host', value ->> 'arch', value ->> 'protocols' FROM json_each($1) WHERE true
     ON CONFLICT (host) DO UPDATE SET arch = excluded.arch, protocols = excluded.protocols
     WHERE (arch, protocols) <> (excluded.arch, excluded.protocols)",
    "INSERT INTO host_platforms (host, arch, protocols)
     SELECT host, arch, protocols FROM json_to_recordset($1::json) AS x (host text, arch text, protocols text)
     ON CONFLICT (host) DO UPDATE SET arch = excluded.arch, protocols = excluded.protocols
     WHERE (host_platforms.arch, host_platforms.protocols) <> (excluded.arch, excluded.protocols)",
);

const FORGET_RELEASES: Sql = Sql::of(
    "DELETE FROM host_releases WHERE host IN (SELECT value FROM json_each($1))
     RETURNING release, state, instances",
    "DELETE FROM host_releases WHERE host IN (SELECT value FROM json_array_elements_text($1::json) AS x (value))
     RETURNING release, state, instances",
);

const RELEASES: Sql = Sql::of(
    "INSERT INTO host_releases (host, release, state, instances)
     SELECT value ->> 'host', value ->> 'release', value ->> 'state', value ->> 'instances' FROM json_each($1)",
    "INSERT INTO host_releases (host, release, state, instances)
     SELECT host, release, state, instances
     FROM json_to_recordset($1::json) AS x (host text, release text, state text, instances bigint)",
);

/// The rows that all replicas write: few, and in one order.
const ADD_TOTALS: Sql = Sql::of(
    "INSERT INTO release_totals (release, hosts_installed, hosts_current, instances)
     SELECT value ->> 'release', value ->> 'hosts_installed', value ->> 'hosts_current', value ->> 'instances'
     FROM json_each($1) WHERE true
     ON CONFLICT (release) DO UPDATE SET
         hosts_installed = hosts_installed + excluded.hosts_installed,
         hosts_current = hosts_current + excluded.hosts_current,
         instances = instances + excluded.instances",
    "INSERT INTO release_totals AS t (release, hosts_installed, hosts_current, instances)
     SELECT release, hosts_installed, hosts_current, instances
     FROM json_to_recordset($1::json)
          AS x (release text, hosts_installed bigint, hosts_current bigint, instances bigint)
     ORDER BY release COLLATE \"C\"
     ON CONFLICT (release) DO UPDATE SET
         hosts_installed = t.hosts_installed + excluded.hosts_installed,
         hosts_current = t.hosts_current + excluded.hosts_current,
         instances = t.instances + excluded.instances",
);

/// By how much a release's totals change.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
struct Difference {
    hosts_installed: i64,
    hosts_current: i64,
    instances: i64,
}

/// By how much the totals change.
#[derive(Default)]
pub(super) struct Differences(BTreeMap<String, Difference>);

impl Differences {
    fn count(&mut self, release: &str, state: &str, instances: i64, sign: i64) {
        let difference = self.0.entry(release.to_owned()).or_default();
        difference.hosts_installed += sign * i64::from(state != REFUSED);
        difference.hosts_current += sign * i64::from(state == CURRENT);
        difference.instances += sign * instances;
    }
}

#[derive(Serialize)]
struct TotalRow<'a> {
    release: &'a str,
    hosts_installed: i64,
    hosts_current: i64,
    instances: i64,
}

/// Replaces what the hosts have. What that makes of the totals is for [`add_to_totals`].
pub(super) async fn replace(change: &mut Change, judged: &[Judged<'_>]) -> Result<Differences, StoreError> {
    let mut differences = Differences::default();
    let mut hosts = Vec::new();
    let mut statuses = Vec::new();
    let mut releases = Vec::new();
    for Judged { beat, judgement, .. } in judged {
        let Some(status) = beat.status.as_ref().filter(|_| judgement.status) else {
            continue;
        };
        let host = beat.host.as_str();
        hosts.push(host);
        statuses.push(StatusRow {
            host,
            document: json(status)?,
            arch: status.arch.to_string(),
            protocols: json(&protocols(status))?,
        });
        releases.extend(release_rows(host, status));
    }
    if hosts.is_empty() {
        return Ok(differences);
    }
    let statuses = json(&statuses)?;
    change.execute(DOCUMENTS, &[Arg::Text(&statuses)]).await?;
    change.execute(PLATFORMS, &[Arg::Text(&statuses)]).await?;
    for row in change.rows(FORGET_RELEASES, &[Arg::Text(&json(&hosts)?)]).await? {
        differences.count(&row.text(0)?, &row.text(1)?, row.int(2)?, -1);
    }
    if !releases.is_empty() {
        change.execute(RELEASES, &[Arg::Text(&json(&releases)?)]).await?;
    }
    for row in &releases {
        differences.count(&row.release, row.state, row.instances.into(), 1);
    }
    Ok(differences)
}

pub(super) async fn add_to_totals(change: &mut Change, differences: &Differences) -> Result<(), StoreError> {
    let rows: Vec<TotalRow<'_>> = differences
        .0
        .iter()
        .filter(|(_, difference)| **difference != Difference::default())
        .map(|(release, difference)| TotalRow {
            release,
            hosts_installed: difference.hosts_installed,
            hosts_current: difference.hosts_current,
            instances: difference.instances,
        })
        .collect();
    if !rows.is_empty() {
        change.execute(ADD_TOTALS, &[Arg::Text(&json(&rows)?)]).await?;
    }
    Ok(())
}

/// In order and each once, so that hosts that speak the same are alike.
fn protocols(status: &HostStatus) -> Vec<u32> {
    let mut protocols = status.advertisement.guest_init_protocols.clone();
    protocols.sort_unstable();
    protocols.dedup();
    protocols
}

/// One row per release, even if a host names one twice.
fn release_rows<'a>(host: &'a str, status: &HostStatus) -> Vec<ReleaseRow<'a>> {
    let rows: BTreeMap<&ReleaseId, ReleaseRow<'a>> = status
        .releases
        .iter()
        .map(|release| {
            let row = ReleaseRow {
                host,
                release: release.release.to_string(),
                state: state_name(release.state),
                instances: release.instances,
            };
            (&release.release, row)
        })
        .collect();
    rows.into_values().collect()
}

const CURRENT: &str = "current";
const REFUSED: &str = "refused";

fn state_name(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::Current => CURRENT,
        ReleaseState::Installed => "installed",
        ReleaseState::Refused => REFUSED,
    }
}
