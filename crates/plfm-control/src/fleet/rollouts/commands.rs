//! A rollout begins, and goes where the decisions about it lead.

use jiff::Timestamp;
use plfm_api::control::{RolloutHealth, StartRollout};
use plfm_release::ReleaseId;
use plfm_rollout::rollout::{self, Extent, Hosts, Known, Mark, Outcomes, Stage, Standing, Why, cohort};

use super::super::fact::Started;
use super::super::releases::unable;
use super::{FleetState, Orders, RolloutAlert, RolloutEvent, RolloutMark, RolloutRecord, RolloutStep, plan};
use crate::fleet::{Context, Decision, Fact, Refusal};

/// The hosts, as far as decisions about a rollout need them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sight {
    /// How many.
    pub hosts: Hosts,
    /// The releases that a rollout may go to or come back to.
    pub known: Vec<Known>,
    /// The places, in the line for the candidate, of the hosts that could run it.
    pub places: Vec<u32>,
}

/// A decision about the rollout under way, to be carried out if the log still ends where it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineDecision {
    /// Which rollout.
    pub rollout: String,
    /// Where the log ended.
    pub position: u64,
    /// The decision.
    pub decision: rollout::Decision,
    /// The place below which a cohort's hosts are.
    pub hosts_below: Option<u32>,
    /// The bucket that separates slow boots from others, as the old release's boots give it.
    pub late_above: Option<u8>,
    /// The health, for people.
    pub health: RolloutHealth,
}

/// What a person does to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutChange {
    /// It waits for a person.
    Pause,
    /// It goes on.
    Resume,
    /// It ends; the release is not remembered as bad.
    Abort,
    /// Every new instance boots the release.
    Promote,
}

impl FleetState {
    /// What speaks for and against the releases that a rollout may have to do with.
    pub fn standing(&self, release: &ReleaseId) -> Standing {
        match self.releases.get(release) {
            None => Standing::Gone,
            Some(record) if record.withdrawn.is_some() => Standing::Gone,
            Some(record) if record.blocked.is_some() => Standing::Blocked,
            Some(record) if record.rolled_back.is_some() => Standing::TakenBack,
            Some(_) => Standing::Good,
        }
    }

    /// The releases that were ever the default, oldest first.
    pub fn default_releases(&self) -> Vec<ReleaseId> {
        self.defaults.iter().map(|was| was.release.clone()).collect()
    }

    pub(in crate::fleet) fn start_rollout(
        &self,
        id: &str,
        request: &StartRollout,
        context: &Context,
    ) -> Result<Decision, Refusal> {
        self.check_generation(request.expected_generation)?;
        self.check_no_rollout()?;
        let rules = plan::of(&request.plan)
            .map_err(|error| Refusal::invalid(error.code(), format!("the plan makes no sense: {error}")))?;
        let (release, record) = self.resolve(&request.release)?;
        self.check_bootable(release, record)?;
        if let Some(reason) = &record.rolled_back {
            let detail = format!("the fleet was taken back from {release}: {reason}");
            return Err(Refusal::conflict("release_rolled_back", detail).hint(format!(
                "if it is good after all: `plfm admin kernels unblock {release}`"
            )));
        }
        let baseline = self.check_baseline(release)?;
        self.check_cooled_down(rules.cool_down, context.now)?;
        let unable = unable(&record.found, context);
        if unable.hosts > 0 && !request.despite_unable_hosts {
            let detail = format!("{release} cannot run on {}", unable.told());
            return Err(Refusal::conflict("hosts_unable", detail).hint(
                "update their agents first, or say --despite-unable-hosts: they go on with what they have",
            ));
        }
        let warnings: Vec<String> = (unable.hosts > 0)
            .then(|| format!("cannot run on {}", unable.told()))
            .into_iter()
            .collect();
        let sample = rules.waves.first().map_or(1, |wave| wave.sample_min);
        let why = match &request.reason {
            Some(reason) => format!("{}: {reason}", Why::Starting),
            None => Why::Starting.to_string(),
        };
        let fact = Fact::RolloutStarted(Started {
            rollout: id.to_owned(),
            generation: self.next_generation(),
            release: release.clone(),
            baseline: baseline.clone(),
            plan: plan::shown(request.plan.base, &rules),
            votes: Outcomes::votes(context.sight.hosts.active, sample),
            orders: Orders {
                default: Some(baseline.clone()),
                prefetch: Some(release.clone()),
                ..Orders::default()
            },
            why,
            warnings: warnings.clone(),
        });
        Ok(Decision {
            release: Some(release.clone()),
            previous_release: Some(baseline.clone()),
            rollout: Some(id.to_owned()),
            warnings,
            undo: Some("plfm admin rollout abort".to_owned()),
            watch: Some("plfm admin rollout show".to_owned()),
            ..Decision::of(fact, format!("rollout of {release} started"))
        })
    }

    /// The release that new instances boot otherwise, which must be one that they may.
    fn check_baseline(&self, release: &ReleaseId) -> Result<&ReleaseId, Refusal> {
        let Some(baseline) = self.default_release() else {
            let detail = "the fleet has no default yet, so there is nothing to compare a release with";
            return Err(Refusal::conflict("no_default", detail).hint(format!(
                "the first release is set: `plfm admin kernels set-default {release}`"
            )));
        };
        if baseline == release {
            let detail = format!("{release} is the default already");
            return Err(Refusal::conflict("release_is_default", detail).hint("see `plfm admin fleet`"));
        }
        if let Some(canary) = &self.policy.canary {
            let detail = format!(
                "the policy has a canary, {}: it would be compared too",
                canary.release
            );
            return Err(Refusal::conflict("canary_set", detail)
                .hint("take it out first: `plfm admin policy set` without a canary"));
        }
        if self.standing(baseline) != Standing::Good {
            let detail = format!(
                "the default {baseline} is not in the registry any more, or the fleet was taken back from it: hosts \
                 could not be told to go on with it"
            );
            return Err(Refusal::conflict("default_not_good", detail).hint(format!(
                "set another default first, or clear it: `plfm admin kernels unblock {baseline}`"
            )));
        }
        Ok(baseline)
    }

    fn check_cooled_down(&self, cool_down: jiff::SignedDuration, now: Timestamp) -> Result<(), Refusal> {
        let until = self.rolled_back_at.and_then(|at| at.checked_add(cool_down).ok());
        match until.filter(|until| now < *until) {
            None => Ok(()),
            Some(until) => {
                let detail = format!(
                    "the fleet was taken back lately: no rollout begins before {}",
                    until.strftime("%Y-%m-%dT%H:%M:%SZ")
                );
                Err(Refusal::conflict("cool_down", detail)
                    .hint("wait, or start with a shorter cool_down_seconds in the plan"))
            }
        }
    }

    /// Nothing else moves what hosts are told while a rollout does.
    pub(in crate::fleet) fn check_no_rollout(&self) -> Result<(), Refusal> {
        match self.rollout_under_way() {
            None => Ok(()),
            Some(rollout) => {
                let detail = format!("the rollout of {} is under way", rollout.at.candidate);
                Err(Refusal::conflict("rollout_under_way", detail).hint(
                    "end it first: `plfm admin rollout abort`; `plfm admin kernels rollback` always works",
                ))
            }
        }
    }

    pub(in crate::fleet) fn carry_out(&self, made: &EngineDecision) -> Result<Decision, Refusal> {
        let record = self
            .rollout_under_way()
            .filter(|record| record.id == made.rollout && made.position == self.position)
            .ok_or_else(|| {
                let detail = format!(
                    "the log is at {} by now, and this was decided at {}",
                    self.position, made.position
                );
                Refusal::conflict("decision_outdated", detail)
            })?;
        let decision = &made.decision;
        let Some(step) = self.step(record, decision, made.hosts_below, decision.why.to_string()) else {
            return Ok(Decision::unchanged("nothing happens"));
        };
        let proof = match &decision.why {
            Why::Bad { proof, .. } | Why::NoWayBack { proof, .. } => Some(proof.as_str().to_owned()),
            _ => None,
        };
        let is_first_wave = step.event == RolloutEvent::Distributed;
        let summary = format!("rollout {}: {}", step.event.as_str(), step.why);
        let step = RolloutStep {
            proof,
            alert: decision.alert.map(|alert| match alert {
                rollout::Alert::RolledBack => RolloutAlert::RolledBack,
                rollout::Alert::Paused => RolloutAlert::Paused,
                rollout::Alert::Incident => RolloutAlert::Incident,
                rollout::Alert::NoWayBack => RolloutAlert::NoWayBack,
            }),
            health: Some(made.health.clone()),
            late_above: made.late_above.filter(|_| is_first_wave),
            ..step
        };
        Ok(Decision::of(Fact::RolloutMoved(step), summary))
    }

    /// The step that a decision is; nothing if nothing happens and hosts are told what they are told.
    pub(super) fn step(
        &self,
        record: &RolloutRecord,
        decision: &rollout::Decision,
        hosts_below: Option<u32>,
        why: String,
    ) -> Option<RolloutStep> {
        let is_same = decision.directive == record.orders.directive();
        if is_same && decision.event.is_none() {
            return None;
        }
        let orders = if is_same {
            record.orders.clone()
        } else {
            Orders::of(&decision.directive, record.since, hosts_below)
        };
        let event = RolloutEvent::of(decision.event);
        // Once it is over hosts are told the default, whatever they were told last; and whoever is condemned is no way back.
        let is_default = orders.default.as_ref() == self.default_release();
        let raises = !is_same
            || event == RolloutEvent::Condemned
            || (matches!(
                decision.stage,
                Stage::RolledBack | Stage::Complete | Stage::Aborted
            ) && !is_default);
        let why = match event {
            RolloutEvent::Retold => format!("hosts are told anew: {why}"),
            _ => why,
        };
        Some(RolloutStep {
            rollout: record.id.clone(),
            event,
            generation: raises.then(|| self.next_generation()),
            orders,
            marks: marks(decision.marks),
            back_to: decision.back_to.clone(),
            why,
            warnings: decision.warnings.iter().map(Why::to_string).collect(),
            alert: None,
            proof: None,
            health: None,
            late_above: None,
        })
    }
}

fn marks(marks: rollout::Marks) -> Vec<RolloutMark> {
    let round = (marks.round == Mark::Set).then_some(RolloutMark::Round);
    let unsettled = (marks.unsettled == Mark::Set).then_some(RolloutMark::Unsettled);
    round.into_iter().chain(unsettled).collect()
}

/// The place below which a decision's cohort is, if it has one and not all hosts belong to it.
pub fn hosts_below(decision: &rollout::Decision, places: &[u32]) -> Option<u32> {
    match decision.directive.canary.as_ref()?.extent {
        Extent::Hosts(cohort) => cohort::bound(places.iter().copied(), cohort.hosts),
        Extent::Share(_) => None,
    }
}
