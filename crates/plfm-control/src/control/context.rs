//! What is known of hosts when a command is decided.

use std::time::Duration;

use jiff::Timestamp;
use plfm_api::control::HostId;
use plfm_release::Protocol;

use super::{Control, ControlError};
use crate::fleet::{Command, Context, FleetState, Lacking, RolloutChange, Sight, VersionGroup};
use crate::store::HostVersions;

/// Hosts that are named as examples.
const EXAMPLES: usize = 5;

/// Since when a host must have been heard of to be active.
pub(super) fn active_since(fleet: &FleetState, now: Timestamp) -> Timestamp {
    let allowed = Duration::from_secs(fleet.policy().lost_after_seconds.into());
    now.checked_sub(allowed).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What people call a host.
pub(super) fn name_of(fleet: &FleetState, host: &HostId) -> String {
    fleet
        .hosts()
        .get(host)
        .map_or_else(|| host.to_string(), |record| record.name.clone())
}

impl Control {
    pub(super) async fn context(
        &self,
        fleet: &FleetState,
        command: &Command,
        now: Timestamp,
    ) -> Result<Context, ControlError> {
        let mut context = Context::at(now);
        context.sight = self.sight_for(fleet, command, now).await?;
        // Only what is about to be booted everywhere is asked of the hosts.
        if !matches!(
            command,
            Command::SetDefault(_) | Command::Rollback(_) | Command::StartRollout { .. }
        ) {
            return Ok(context);
        }
        context.versions = self.versions(fleet, now).await?;
        if let Some(release) = fleet.release_in_question(command) {
            let since = active_since(fleet, now);
            let lacking = self.0.store.hosts_lacking(&release, since, EXAMPLES).await?;
            let counts = self.0.store.fleet_counts(since, fleet.generation(), None).await?;
            context.lacking = Some(Lacking {
                release,
                hosts: lacking.total,
                active: counts.hosts_active,
                examples: lacking.hosts.iter().map(|host| name_of(fleet, host)).collect(),
            });
        }
        Ok(context)
    }

    /// The hosts as a rollout needs them, for commands about one.
    async fn sight_for(
        &self,
        fleet: &FleetState,
        command: &Command,
        now: Timestamp,
    ) -> Result<Sight, ControlError> {
        let under_way = fleet.rollout_under_way().map(|rollout| &rollout.at.candidate);
        let candidate = match command {
            Command::StartRollout { request, .. } => match fleet.resolve(&request.release) {
                Ok((release, _)) => release,
                Err(_) => return Ok(Sight::default()),
            },
            Command::ChangeRollout { .. } | Command::Rollback(_) => match under_way {
                Some(candidate) => candidate,
                None => return Ok(Sight::default()),
            },
            _ => return Ok(Sight::default()),
        };
        // Places are every host's: asked for only where hosts may be told of a cohort.
        let places = match command {
            Command::ChangeRollout {
                change: RolloutChange::Pause | RolloutChange::Resume,
                ..
            } => self.places(fleet, candidate, now).await?,
            _ => Vec::new(),
        };
        Ok(Sight {
            places,
            ..self.sight(fleet, candidate, now).await?
        })
    }

    /// The active hosts by what they can run. Those that did not say yet are not among them.
    pub(super) async fn versions(
        &self,
        fleet: &FleetState,
        now: Timestamp,
    ) -> Result<Vec<VersionGroup>, ControlError> {
        let since = active_since(fleet, now);
        let mut groups = Vec::new();
        for versions in self.0.store.hosts_versions(since).await? {
            let Some((arch, protocols)) = versions.platform.clone() else {
                continue;
            };
            groups.push(VersionGroup {
                agent_version: versions.agent_version.clone(),
                protocols: protocols.into_iter().map(Protocol).collect(),
                arch,
                hosts: versions.hosts,
                examples: self.examples(fleet, &versions, since).await?,
            });
        }
        Ok(groups)
    }

    async fn examples(
        &self,
        fleet: &FleetState,
        versions: &HostVersions,
        since: Timestamp,
    ) -> Result<Vec<(HostId, String)>, ControlError> {
        let hosts = self.0.store.hosts_of_versions(versions, since, EXAMPLES).await?;
        let named = |host: HostId| {
            let name = name_of(fleet, &host);
            (host, name)
        };
        Ok(hosts.into_iter().map(named).collect())
    }
}
