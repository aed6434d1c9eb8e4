//! What hosts have installed and run, replaced as a whole when a host says so.

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
    "DELETE FROM host_releases WHERE host IN (SELECT value FROM json_each($1))",
    "DELETE FROM host_releases WHERE host IN (SELECT value FROM json_array_elements_text($1::json) AS x (value))",
);

const RELEASES: Sql = Sql::of(
    "INSERT INTO host_releases (host, release, state, instances)
     SELECT value ->> 'host', value ->> 'release', value ->> 'state', value ->> 'instances' FROM json_each($1)",
    "INSERT INTO host_releases (host, release, state, instances)
     SELECT host, release, state, instances
     FROM json_to_recordset($1::json) AS x (host text, release text, state text, instances bigint)",
);

pub(super) async fn replace(change: &mut Change, judged: &[Judged<'_>]) -> Result<(), StoreError> {
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
        return Ok(());
    }
    let statuses = json(&statuses)?;
    change.execute(DOCUMENTS, &[Arg::Text(&statuses)]).await?;
    change.execute(PLATFORMS, &[Arg::Text(&statuses)]).await?;
    change
        .execute(FORGET_RELEASES, &[Arg::Text(&json(&hosts)?)])
        .await?;
    if !releases.is_empty() {
        change.execute(RELEASES, &[Arg::Text(&json(&releases)?)]).await?;
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
fn release_rows<'a>(host: &'a str, status: &HostStatus) -> impl Iterator<Item = ReleaseRow<'a>> {
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
    rows.into_values().collect::<Vec<_>>().into_iter()
}

fn state_name(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::Current => "current",
        ReleaseState::Installed => "installed",
        ReleaseState::Refused => "refused",
    }
}
