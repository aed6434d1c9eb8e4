//! Which hosts may fetch right now: so many at once that the registry's mirrors stand it.
//!
//! A host has a lease or has none; with one it fetches all that it wants. Whoever grants holds the row of `fetch_gate`
//! until its transaction ends, and takes it before it touches any lease, so that the bound holds whatever the number of
//! replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use plfm_api::ReleaseState;
use plfm_api::control::HostId;
use plfm_release::ReleaseId;
use serde::Serialize;

use super::{Beat, Judged};
use crate::store::StoreError;
use crate::store::backend::{Arg, Change, Sql};
use crate::store::log::json;
use crate::store::moment::Micros;

/// How long a lease lasts after the host asked last.
pub const LEASE_RENEWED_FOR: Duration = Duration::from_secs(600);
/// How long a host may go on renewing. Then others come first: hosts that never finish must not keep the rest waiting.
pub const LEASE_HELD_MAX: Duration = Duration::from_secs(3600);

#[derive(Serialize)]
struct LeaseRow<'a> {
    host: &'a str,
    granted_at: i64,
    until: i64,
}

const LOCK_GATE: Sql = Sql::of(
    "SELECT one FROM fetch_gate",
    "SELECT one FROM fetch_gate FOR UPDATE",
);

const END: Sql = Sql::of(
    "DELETE FROM fetch_leases WHERE host IN (SELECT value FROM json_each($1))",
    "DELETE FROM fetch_leases WHERE host IN (SELECT value FROM json_array_elements_text($1::json) AS x (value))",
);

/// A lease that somebody else is about to end is left to them: to wait here could be to wait in a circle.
const END_EXPIRED: Sql = Sql::of(
    "DELETE FROM fetch_leases WHERE until <= $1",
    "DELETE FROM fetch_leases WHERE host IN
         (SELECT host FROM fetch_leases WHERE until <= $1 FOR UPDATE SKIP LOCKED)",
);

const LIVE: Sql = Sql::shared("SELECT host, granted_at FROM fetch_leases WHERE until > $1");

const GRANT: Sql = Sql::of(
    "INSERT INTO fetch_leases (host, granted_at, until)
     SELECT value ->> 'host', value ->> 'granted_at', value ->> 'until' FROM json_each($1) WHERE true
     ON CONFLICT (host) DO UPDATE SET granted_at = excluded.granted_at, until = excluded.until",
    "INSERT INTO fetch_leases (host, granted_at, until)
     SELECT host, granted_at, until
     FROM json_to_recordset($1::json) AS x (host text, granted_at bigint, until bigint)
     ON CONFLICT (host) DO UPDATE SET granted_at = excluded.granted_at, until = excluded.until",
);

/// What the host wants and does not have.
pub(super) fn wanted(beat: &Beat) -> Vec<ReleaseId> {
    let installed: BTreeSet<&ReleaseId> = beat
        .status
        .iter()
        .flat_map(|status| &status.releases)
        .filter(|release| release.state != ReleaseState::Refused)
        .map(|release| &release.release)
        .collect();
    beat.wants
        .iter()
        .filter(|release| !installed.contains(release))
        .cloned()
        .collect()
}

/// Ends, renews and grants leases. The hosts that have one afterwards, of those that want one.
pub(super) async fn settle(
    change: &mut Change,
    judged: &[Judged<'_>],
    fetches_max: u32,
    now: Timestamp,
) -> Result<BTreeSet<HostId>, StoreError> {
    let newest = judged.iter().filter(|judged| judged.judgement.newest);
    let (asking, content): (Vec<&Beat>, Vec<&Beat>) = newest
        .map(|judged| judged.beat)
        .partition(|beat| !wanted(beat).is_empty());
    if !asking.is_empty() {
        change.rows(LOCK_GATE, &[]).await?;
    }
    end(change, content.iter().map(|beat| beat.host.as_str()).collect()).await?;
    if asking.is_empty() {
        return Ok(BTreeSet::new());
    }
    change.execute(END_EXPIRED, &[Arg::Int(now.micros())]).await?;
    let mut live = BTreeMap::new();
    for row in change.rows(LIVE, &[Arg::Int(now.micros())]).await? {
        live.insert(row.text(0)?, row.int(1)?);
    }
    let settled = decide(&live, &asking, fetches_max, now);
    end(change, settled.ended).await?;
    if !settled.granted.is_empty() {
        change
            .execute(GRANT, &[Arg::Text(&json(&settled.granted)?)])
            .await?;
    }
    let granted: BTreeSet<&str> = settled.granted.iter().map(|lease| lease.host).collect();
    Ok(asking
        .iter()
        .filter(|beat| granted.contains(beat.host.as_str()))
        .map(|beat| beat.host.clone())
        .collect())
}

async fn end(change: &mut Change, hosts: Vec<&str>) -> Result<(), StoreError> {
    if !hosts.is_empty() {
        change.execute(END, &[Arg::Text(&json(&hosts)?)]).await?;
    }
    Ok(())
}

struct Settled<'a> {
    granted: Vec<LeaseRow<'a>>,
    ended: Vec<&'a str>,
}

/// Who gets a lease, or keeps it. Pure: `live` is every lease that is not over, by host, with when it was granted.
fn decide<'a>(
    live: &BTreeMap<String, i64>,
    asking: &[&'a Beat],
    fetches_max: u32,
    now: Timestamp,
) -> Settled<'a> {
    let held_max = micros_of(LEASE_HELD_MAX);
    let until = now.micros().saturating_add(micros_of(LEASE_RENEWED_FOR));
    let mut settled = Settled {
        granted: Vec::new(),
        ended: Vec::new(),
    };
    let mut waiting = Vec::new();
    for beat in asking {
        let host = beat.host.as_str();
        match live.get(host) {
            Some(granted_at) if fetches_max > 0 && now.micros() - granted_at >= held_max => {
                settled.ended.push(host);
            }
            Some(granted_at) => settled.granted.push(LeaseRow {
                host,
                granted_at: *granted_at,
                until,
            }),
            None => waiting.push(host),
        }
    }
    let held = live.len() - settled.ended.len();
    let free = match fetches_max {
        0 => usize::MAX,
        max => (max as usize).saturating_sub(held),
    };
    let granted_at = now.micros();
    settled
        .granted
        .extend(waiting.into_iter().take(free).map(|host| LeaseRow {
            host,
            granted_at,
            until,
        }));
    settled
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
