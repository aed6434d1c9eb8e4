//! The hosts and releases, as a decision about a rollout needs them.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use plfm_api::control::HostId;
use plfm_release::{Architecture, Protocol, ReleaseId};
use plfm_rollout::rollout::{Hosts, Known, cohort};

use crate::control::context::active_since;
use crate::control::{Control, ControlError};
use crate::fleet::{FleetState, FoundRelease, HostStanding, Sight, VersionGroup};
use crate::store::HostGroup;

/// A host that was not heard of for so long, and for two of its heartbeats, is silent.
const HEARD_WITHIN: Duration = Duration::from_secs(120);

/// Hosts that take no instances though they are heard of.
fn aside(fleet: &FleetState) -> Vec<&HostId> {
    fleet
        .hosts()
        .iter()
        .filter(|(_, record)| record.standing != HostStanding::Enrolled)
        .map(|(host, _)| host)
        .collect()
}

fn can_run(
    found: &FoundRelease,
    agent_version: &semver::Version,
    platform: Option<&(Architecture, Vec<u32>)>,
) -> bool {
    let Some((arch, protocols)) = platform else {
        return false;
    };
    let group = VersionGroup {
        agent_version: agent_version.clone(),
        protocols: protocols.iter().copied().map(Protocol).collect(),
        arch: *arch,
        hosts: 0,
        examples: Vec::new(),
    };
    found.why_not(&group).is_none()
}

impl Control {
    /// What a decision about a rollout of `candidate` needs, but for the places of hosts.
    pub(in crate::control) async fn sight(
        &self,
        fleet: &FleetState,
        candidate: &ReleaseId,
        now: Timestamp,
    ) -> Result<Sight, ControlError> {
        let since = active_since(fleet, now);
        let hosts = u64::try_from(fleet.hosts().len()).unwrap_or(u64::MAX);
        let heard_within = HEARD_WITHIN.max(self.0.pace.interval_of(hosts) * 2);
        let heard = now.checked_sub(heard_within).unwrap_or(since).max(since);
        let aside = aside(fleet);
        let store = self.store();
        let groups = store
            .host_groups(since, heard, fleet.generation(), candidate, &aside)
            .await?;
        let found = fleet.releases().get(candidate).map(|record| &record.found);
        let eligible = |group: &&HostGroup| {
            found.is_some_and(|found| can_run(found, &group.agent_version, group.platform.as_ref()))
        };
        let sum = |count: fn(&HostGroup) -> u32| groups.iter().map(count).fold(0, u32::saturating_add);
        let of_eligible = |count: fn(&HostGroup) -> u32| {
            let counts = groups.iter().filter(eligible).map(count);
            counts.fold(0, u32::saturating_add)
        };
        let counts = store.release_counts(since).await?;
        let known = candidates(fleet, candidate).into_iter().map(|release| {
            let record = fleet.releases().get(&release);
            let unable = groups.iter().filter(|group| {
                group.platform.is_some()
                    && record.is_some_and(|record| {
                        !can_run(&record.found, &group.agent_version, group.platform.as_ref())
                    })
            });
            let with = counts.iter().find(|count| count.release == release);
            Known {
                standing: fleet.standing(&release),
                hosts_with: with.map_or(0, |count| {
                    u32::try_from(count.hosts_installed).unwrap_or(u32::MAX)
                }),
                hosts_unable: unable.map(|group| group.hosts).fold(0, u32::saturating_add),
                release,
            }
        });
        Ok(Sight {
            hosts: Hosts {
                active: sum(|group| group.hosts),
                eligible: of_eligible(|group| group.hosts),
                with_candidate: of_eligible(|group| group.with_release),
                at_generation: sum(|group| group.at_generation),
                heard: sum(|group| group.heard),
            },
            known: known.collect(),
            places: Vec::new(),
        })
    }

    /// The places, in the line for the candidate, of the hosts that could run it.
    pub(in crate::control) async fn places(
        &self,
        fleet: &FleetState,
        candidate: &ReleaseId,
        now: Timestamp,
    ) -> Result<Vec<u32>, ControlError> {
        let since = active_since(fleet, now);
        let found = fleet.releases().get(candidate).map(|record| record.found.clone());
        let hosts = self
            .store()
            .host_members(since, &aside(fleet), |agent_version, platform| {
                found
                    .as_ref()
                    .is_some_and(|found| can_run(found, agent_version, platform))
            })
            .await?;
        Ok(hosts
            .iter()
            .map(|host| cohort::place(candidate, host.as_str()))
            .collect())
    }
}

/// The candidate, and whatever was the default.
fn candidates(fleet: &FleetState, candidate: &ReleaseId) -> BTreeSet<ReleaseId> {
    let mut releases: BTreeSet<ReleaseId> = fleet.default_releases().into_iter().collect();
    releases.insert(candidate.clone());
    releases
}
