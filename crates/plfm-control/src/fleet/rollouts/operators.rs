//! What people do to a rollout.

use plfm_api::control::ChangeRollout;
use plfm_release::ReleaseId;
use plfm_rollout::rollout::{self, Event, Observed, Outcomes, Running, Share, Stage};

use super::commands::{RolloutChange, Sight, hosts_below};
use super::{FleetState, RolloutRecord, RolloutStep};
use crate::fleet::{Context, Decision, Fact, Refusal};

impl FleetState {
    pub(in crate::fleet) fn change_rollout(
        &self,
        id: &str,
        change: RolloutChange,
        request: &ChangeRollout,
        context: &Context,
    ) -> Result<Decision, Refusal> {
        self.check_generation(request.expected_generation)?;
        let record = self.rollout(id)?;
        let stage = record.at.stage;
        let event = match (change, request.withdraw) {
            (RolloutChange::Pause, false) => Event::Pause(Share::Kept),
            (RolloutChange::Pause, true) => Event::Pause(Share::Withdrawn),
            (_, true) => {
                let detail = "withdraw is for a pause only";
                return Err(Refusal::invalid("withdraw_without_pause", detail));
            }
            (RolloutChange::Resume, false) => Event::Resume,
            (RolloutChange::Abort, false) => Event::Abort,
            (RolloutChange::Promote, false) => Event::Promote,
        };
        if let Some(summary) = is_so_already(stage, event) {
            return Ok(Decision {
                rollout: Some(record.id.clone()),
                release: Some(record.at.candidate.clone()),
                ..Decision::unchanged(summary)
            });
        }
        let word = match change {
            RolloutChange::Pause if request.withdraw => "paused and withdrawn",
            RolloutChange::Pause => "paused",
            RolloutChange::Resume => "resumed",
            RolloutChange::Abort => "aborted",
            RolloutChange::Promote => "promoted",
        };
        let why = match &request.reason {
            Some(reason) => format!("{word} by an operator: {reason}"),
            None => format!("{word} by an operator"),
        };
        let step = self.asked(record, event, &context.sight, context.now, why)?;
        Ok(Decision {
            release: Some(record.at.candidate.clone()),
            rollout: Some(record.id.clone()),
            undo: undo(change).map(str::to_owned),
            watch: Some("plfm admin rollout show".to_owned()),
            ..Decision::of(
                Fact::RolloutMoved(step),
                format!("rollout of {} {word}", record.at.candidate),
            )
        })
    }

    /// The step that a person's event is.
    fn asked(
        &self,
        record: &RolloutRecord,
        event: Event,
        sight: &Sight,
        now: jiff::Timestamp,
        why: String,
    ) -> Result<RolloutStep, Refusal> {
        let candidate = &record.at.candidate;
        if matches!(event, Event::Resume | Event::Promote) && !self.is_bootable(candidate) {
            let detail = format!("{candidate} is blocked, or is not in the registry any more");
            return Err(Refusal::conflict("release_not_bootable", detail).hint(format!(
                "if that is settled: `plfm admin kernels unblock {candidate}`; or `plfm admin rollout abort`"
            )));
        }
        // What the boots say is not asked: a person decided.
        let outcomes = Outcomes::default();
        let told = record.orders.directive();
        let defaults = self.default_releases();
        let observed = Observed {
            rollout: &record.at,
            told: &told,
            generation: self.generation.0,
            hosts: sight.hosts,
            outcomes: &outcomes,
            releases: &sight.known,
            defaults: &defaults,
            rolled_back_at: self.rolled_back_at,
        };
        let decision = rollout::asked(&record.rules, &observed, event, now).map_err(|error| {
            Refusal::conflict(error.code(), error.to_string()).hint(next_for(record.at.stage))
        })?;
        let below = hosts_below(&decision, &sight.places);
        self.step(record, &decision, below, why)
            .ok_or_else(|| Refusal::conflict("rollout_stage", "nothing would happen"))
    }

    /// Ends the rollout under way, if there is one: an operator takes the fleet back.
    pub(in crate::fleet) fn end_rollout(&self, context: &Context) -> Result<Option<RolloutStep>, Refusal> {
        let Some(record) = self.rollout_under_way() else {
            return Ok(None);
        };
        let (event, why) = match record.at.stage {
            Stage::RollingBack => (Event::Settled, "over: an operator took the fleet further"),
            _ => (Event::Abort, "aborted: an operator took the fleet back"),
        };
        self.asked(record, event, &context.sight, context.now, why.to_owned())
            .map(Some)
    }

    /// Where the fleet is being taken back to by itself right now.
    pub(in crate::fleet) fn on_its_way_to(&self) -> Option<&ReleaseId> {
        let record = self.rollout_under_way()?;
        (record.at.stage == Stage::RollingBack)
            .then_some(record.at.back_to.as_ref())
            .flatten()
    }

    /// The release that a rollback goes back from while a rollout has not made it the default yet.
    pub(in crate::fleet) fn candidate_on_trial(&self) -> Option<&ReleaseId> {
        let record = self.rollout_under_way()?;
        let candidate = &record.at.candidate;
        let is_on_trial = record.at.stage != Stage::RollingBack && self.default_release() != Some(candidate);
        is_on_trial.then_some(candidate)
    }
}

/// What is so already is no error.
fn is_so_already(stage: Stage, event: Event) -> Option<&'static str> {
    match (stage, event) {
        (
            Stage::Paused {
                share: Share::Kept, ..
            },
            Event::Pause(Share::Kept),
        )
        | (
            Stage::Paused {
                share: Share::Withdrawn,
                ..
            },
            Event::Pause(_),
        ) => Some("it is paused already"),
        (Stage::Running(_), Event::Resume) => Some("it is not paused"),
        (Stage::Running(Running::Promoting) | Stage::Complete, Event::Promote) => {
            Some("it is promoted already")
        }
        (Stage::Aborted, Event::Abort) => Some("it is aborted already"),
        _ => None,
    }
}

fn undo(change: RolloutChange) -> Option<&'static str> {
    match change {
        RolloutChange::Pause => Some("plfm admin rollout resume"),
        RolloutChange::Resume => Some("plfm admin rollout pause"),
        RolloutChange::Promote => Some("plfm admin kernels rollback"),
        RolloutChange::Abort => None,
    }
}

fn next_for(stage: Stage) -> &'static str {
    match stage {
        Stage::Paused { .. } => "let it go on first: `plfm admin rollout resume`",
        Stage::Running(Running::Distributing) => {
            "hosts have to bring it in first; without waiting: `plfm admin rollout abort`, then `plfm admin kernels set-default`"
        }
        Stage::RollingBack => "hosts are told to go back already: `plfm admin rollout show`",
        Stage::Planned | Stage::Running(_) => "see `plfm admin rollout show`",
        Stage::RolledBack | Stage::Complete | Stage::Aborted => {
            "it is over; start another one: `plfm admin rollout start`"
        }
    }
}
