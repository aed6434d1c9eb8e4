//! Hosts, as operators see them.

use std::collections::HashMap;

use jiff::Timestamp;
use plfm_api::control::{FleetHost, Generation, HostId, HostState, Page};
use plfm_release::ReleaseId;

use super::context::active_since;
use super::numbers::state_of;
use super::{Control, ControlError};
use crate::fleet::{FleetState, HostRecord};
use crate::store::{HostFilter, HostRow};

/// Hosts that are read at once while those are looked for that a query wants.
const READ_AT_ONCE: usize = 500;

/// Which hosts.
#[derive(Debug, Clone, Default)]
pub struct HostQuery {
    /// Those after this one.
    pub after: Option<HostId>,
    /// How many at most.
    pub limit: usize,
    /// Only those in this state.
    pub state: Option<HostState>,
    /// Only those that have this release.
    pub release: Option<ReleaseId>,
}

impl Control {
    /// One host.
    pub async fn host(&self, host: &HostId) -> Result<FleetHost, ControlError> {
        let fleet = self.fleet();
        let record = match fleet.hosts().get(host) {
            Some(record) => record,
            // The fleet's word for a host that is not there.
            None => fleet.host(host)?,
        };
        let row = self.0.store.host_row(host).await?;
        let since = active_since(&fleet, self.now());
        Ok(shown(host, record, row, since))
    }

    /// Hosts in the order of their ids.
    pub async fn hosts(&self, query: &HostQuery) -> Result<Page<FleetHost>, ControlError> {
        let fleet = self.fleet();
        let since = active_since(&fleet, self.now());
        let mut items = Vec::new();
        let mut after = query.after.clone();
        loop {
            let some = self.some(&fleet, after.as_ref(), query).await?;
            let Some((last, _)) = some.last() else { break };
            after = Some(last.clone());
            for (host, row) in some {
                let Some(record) = fleet.hosts().get(&host) else {
                    continue;
                };
                let host = shown(&host, record, row, since);
                if query.state.is_none_or(|state| state == host.state) {
                    items.push(host);
                }
            }
            // One more than asked for tells that there is more.
            if items.len() > query.limit {
                break;
            }
        }
        let more = items.len() > query.limit;
        items.truncate(query.limit);
        Ok(Page {
            next_cursor: items.last().filter(|_| more).map(|last| last.id.to_string()),
            items,
        })
    }

    /// The next hosts, with what they said last: with a release, those that reported it; else all that enrolled.
    async fn some(
        &self,
        fleet: &FleetState,
        after: Option<&HostId>,
        query: &HostQuery,
    ) -> Result<Vec<(HostId, Option<HostRow>)>, ControlError> {
        use std::ops::Bound::{Excluded, Unbounded};
        // Few match a state: reading page by page is bounded by the fleet's size.
        let limit = if query.state.is_some() {
            READ_AT_ONCE
        } else {
            query.limit + 1
        };
        if let Some(release) = &query.release {
            let filter = HostFilter {
                release: Some(release.clone()),
                ..HostFilter::default()
            };
            let rows = self.0.store.host_rows(after, limit, &filter).await?;
            return Ok(rows
                .into_iter()
                .map(|row| (row.host.clone(), Some(row)))
                .collect());
        }
        let begin = after.map_or(Unbounded, Excluded);
        let hosts: Vec<HostId> = fleet
            .hosts()
            .range::<HostId, _>((begin, Unbounded))
            .take(limit)
            .map(|(host, _)| host.clone())
            .collect();
        let rows = self.0.store.host_rows_of(&hosts).await?;
        let mut rows: HashMap<HostId, HostRow> =
            rows.into_iter().map(|row| (row.host.clone(), row)).collect();
        let with_row = |host: HostId| {
            let row = rows.remove(&host);
            (host, row)
        };
        Ok(hosts.into_iter().map(with_row).collect())
    }
}

fn shown(host: &HostId, record: &HostRecord, row: Option<HostRow>, since: Timestamp) -> FleetHost {
    // A revoked host is put down as one that was never heard of.
    let seen_at = row.as_ref().map(|row| row.seen_at);
    let seen_at = seen_at.filter(|at| *at > Timestamp::UNIX_EPOCH);
    FleetHost {
        id: host.clone(),
        name: record.name.clone(),
        state: state_of(record, seen_at, since),
        agent_version: row
            .as_ref()
            .map_or_else(|| record.agent_version.clone(), |row| row.agent_version.clone()),
        generation: row.as_ref().map_or(Generation(0), |row| row.generation),
        enrolled_at: record.enrolled_at,
        seen_at,
        certificate_not_after: record.not_after,
        status: row.and_then(|row| row.status),
    }
}
