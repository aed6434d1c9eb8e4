//! The fleet in numbers, counted at most once a second whoever asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plfm_api::BootOutcome;
use plfm_api::control::{Fleet, HostId, HostState};
use plfm_release::ReleaseId;
use tokio::time::Instant;

use super::context::active_since;
use super::{Control, ControlError};
use crate::fleet::{FleetState, HostRecord, HostStanding};
use crate::store::{FleetCounts, ReleaseCount};

/// How old numbers may be.
const AGE_MAX: Duration = Duration::from_secs(1);

/// The fleet in numbers.
#[derive(Debug)]
pub struct Numbers {
    counted: Instant,
    /// The log's position when they were counted.
    position: u64,
    /// Hosts by state.
    pub states: BTreeMap<&'static str, u64>,
    /// Active hosts against the target.
    pub fleet: FleetCounts,
    /// Where releases are.
    pub releases: HashMap<ReleaseId, ReleaseCount>,
    /// Boots by release and outcome, ever.
    pub boots: HashMap<ReleaseId, BTreeMap<String, u64>>,
}

impl Numbers {
    /// Hosts that are neither revoked nor lost.
    pub fn hosts_active(&self) -> u64 {
        let of = |state: HostState| self.states.get(state.as_str()).copied().unwrap_or(0);
        of(HostState::Active) + of(HostState::Draining)
    }

    /// Boots of a release that became ready, and those that count.
    pub fn boots_of(&self, release: &ReleaseId) -> (u64, u64) {
        let Some(outcomes) = self.boots.get(release) else {
            return (0, 0);
        };
        let of = |outcome: BootOutcome| outcomes.get(outcome.as_str()).copied().unwrap_or(0);
        let all: u64 = outcomes.values().sum();
        let beside = of(BootOutcome::CustomerFailure) + of(BootOutcome::Cancelled);
        (of(BootOutcome::Ready), all.saturating_sub(beside))
    }
}

/// What a host is to the fleet.
pub(super) fn state_of(record: &HostRecord, seen_at: Option<Timestamp>, since: Timestamp) -> HostState {
    match (record.standing, seen_at) {
        (HostStanding::Revoked, _) => HostState::Revoked,
        (_, Some(seen_at)) if seen_at < since => HostState::Lost,
        (HostStanding::Draining, _) => HostState::Draining,
        (HostStanding::Enrolled, Some(_)) => HostState::Active,
        (HostStanding::Enrolled, None) => HostState::Enrolled,
    }
}

impl Control {
    /// The numbers, counted anew if they are old, or if the log went on.
    pub async fn numbers(&self) -> Result<Arc<Numbers>, ControlError> {
        let mut kept = self.0.numbers.lock().await;
        let fleet = self.fleet();
        if let Some(numbers) = kept.as_ref()
            && numbers.counted.elapsed() < AGE_MAX
            && numbers.position == fleet.position()
        {
            return Ok(Arc::clone(numbers));
        }
        let numbers = Arc::new(self.count(&fleet).await?);
        *kept = Some(Arc::clone(&numbers));
        Ok(numbers)
    }

    async fn count(&self, fleet: &Arc<FleetState>) -> Result<Numbers, ControlError> {
        let counted = Instant::now();
        let since = active_since(fleet, self.now());
        let store = &self.0.store;
        let seen = store.seen(None).await?;
        let releases = store.release_counts(since).await?;
        let mut boots: HashMap<ReleaseId, BTreeMap<String, u64>> = HashMap::new();
        for total in store.boot_totals().await? {
            boots
                .entry(total.release)
                .or_default()
                .insert(total.outcome, total.count);
        }
        let counts = store
            .fleet_counts(since, fleet.generation(), fleet.default_release())
            .await?;
        let held = Arc::clone(fleet);
        // Tens of milliseconds for a hundred thousand hosts.
        let states = tokio::task::spawn_blocking(move || states(&held, &seen, since)).await;
        Ok(Numbers {
            counted,
            position: fleet.position(),
            states: states.map_err(|_| ControlError::Ending)?,
            fleet: counts,
            releases: releases
                .into_iter()
                .map(|count| (count.release.clone(), count))
                .collect(),
            boots,
        })
    }

    /// The fleet at a glance.
    pub async fn glance(&self) -> Result<Fleet, ControlError> {
        let numbers = self.numbers().await?;
        let told = self.told();
        Ok(Fleet {
            target: told.target.clone(),
            hosts: numbers
                .states
                .iter()
                .map(|(state, hosts)| ((*state).to_owned(), *hosts))
                .collect(),
            hosts_at_generation: numbers.fleet.hosts_at_generation,
            hosts_at_default: numbers.fleet.hosts_at_default,
            hosts_with_default: numbers.fleet.hosts_with_default,
        })
    }
}

fn states(fleet: &FleetState, seen: &[(HostId, Timestamp)], since: Timestamp) -> BTreeMap<&'static str, u64> {
    let seen: HashMap<&HostId, Timestamp> = seen.iter().map(|(host, at)| (host, *at)).collect();
    let all = [
        HostState::Active,
        HostState::Draining,
        HostState::Enrolled,
        HostState::Lost,
        HostState::Revoked,
    ];
    let mut states: BTreeMap<&'static str, u64> = all.iter().map(|state| (state.as_str(), 0)).collect();
    for (host, record) in fleet.hosts() {
        let state = state_of(record, seen.get(host).copied(), since);
        *states.entry(state.as_str()).or_insert(0) += 1;
    }
    states
}
