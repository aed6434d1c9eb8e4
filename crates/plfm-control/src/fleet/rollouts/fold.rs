//! Facts about rollouts into the state.

use plfm_api::control::{Event as LogEvent, RolloutMoment};
use plfm_rollout::rollout::{Event, Mark, Marks, Rollout, Stage};

use super::super::fact::Started;
use super::super::state::Was;
use super::{
    FleetState, RolloutAlert, RolloutEvent, RolloutMark, RolloutRecord, RolloutRemark, RolloutStep, plan,
};

impl FleetState {
    pub(in crate::fleet) fn take_start(&mut self, started: Started, event: &LogEvent) -> Result<(), String> {
        if let Some(other) = self.rollout_under_way() {
            return Err(format!("rollout {} is under way", other.id));
        }
        let rules = plan::of(&started.plan).map_err(|error| error.to_string())?;
        let at = Rollout::new(started.release, started.baseline, event.at)
            .after(Event::Start, None, rules.waves_count(), event.at)
            .map_err(|error| error.to_string())?;
        self.raise(started.generation)?;
        let why = started.why.clone();
        self.rollouts.push(RolloutRecord {
            id: started.rollout,
            started_by: event.actor.name.clone(),
            started_at: event.at,
            since: started.generation,
            plan: started.plan,
            rules,
            votes: started.votes,
            at,
            orders: started.orders,
            marks: Vec::new(),
            late_above: None,
            health: None,
            why: started.why,
            warnings: started.warnings,
            history: Vec::new(),
            ended_at: None,
        });
        self.remark("started", why, None, event);
        Ok(())
    }

    pub(in crate::fleet) fn take_step(&mut self, step: RolloutStep, event: &LogEvent) -> Result<(), String> {
        let record = self
            .rollouts
            .last()
            .filter(|rollout| rollout.id == step.rollout && !rollout.is_over())
            .ok_or_else(|| format!("rollout {} is not under way", step.rollout))?;
        let at = match step.event.event() {
            Some(happened) => record
                .at
                .after(
                    happened,
                    step.back_to.clone(),
                    record.rules.waves_count(),
                    event.at,
                )
                .map_err(|error| error.to_string())?,
            None => record.at.clone(),
        };
        let candidate = at.candidate.clone();
        if step.event.event() == Some(Event::Condemn) {
            self.release_mut(&candidate)?;
        }
        step.generation
            .map_or(Ok(()), |generation| self.raise(generation))?;
        if step.event.event() == Some(Event::Condemn) {
            self.release_mut(&candidate)?.rolled_back = Some(step.why.clone());
            self.rolled_back_at = Some(event.at);
        }
        // What was promoted and is taken out again without having proved itself is no way back.
        let is_taken_out = matches!(step.event, RolloutEvent::Aborted | RolloutEvent::PausedWithdrawn);
        if is_taken_out
            && step.orders.default.as_ref() != Some(&candidate)
            && self.default_release() == Some(&candidate)
        {
            self.defaults.pop();
        }
        if let Some(default) = &step.orders.default {
            self.push_default(default.clone(), event.at);
        }
        let marks = marks(&step.marks);
        // Why it was taken back is what people ask of it for good, not that the hosts have taken that up.
        let is_back = at.stage == Stage::RolledBack && step.event.event() == Some(Event::Settled);
        if let Some(record) = self.rollouts.last_mut() {
            record.ended_at = at.stage.is_over().then_some(event.at);
            record.at = at;
            record.orders = step.orders;
            record.marks.push((event.at, marks));
            record.late_above = step.late_above.or(record.late_above);
            record.health = step.health.or_else(|| record.health.take());
            record.warnings = step.warnings;
            if !is_back {
                record.why.clone_from(&step.why);
            }
        }
        self.remark(step.event.as_str(), step.why, step.alert, event);
        Ok(())
    }

    /// The release is the default from now on, if it is not already.
    pub(in crate::fleet) fn push_default(&mut self, release: plfm_release::ReleaseId, at: jiff::Timestamp) {
        if self.default_release() != Some(&release) {
            self.defaults.push(Was {
                generation: self.generation,
                release,
                at,
            });
        }
    }

    fn remark(&mut self, kind: &str, why: String, alert: Option<RolloutAlert>, event: &LogEvent) {
        let generation = self.generation;
        let Some(record) = self.rollouts.last_mut() else {
            return;
        };
        let moment = RolloutMoment {
            at: event.at,
            kind: kind.to_owned(),
            why,
            actor: event.actor.clone(),
            generation,
        };
        let then = record.shown();
        record.history.push(RolloutRemark {
            position: event.position,
            moment,
            alert,
            then,
        });
    }
}

fn marks(told: &[RolloutMark]) -> Marks {
    Marks {
        round: Mark::from(told.contains(&RolloutMark::Round)),
        unsettled: Mark::from(told.contains(&RolloutMark::Unsettled)),
    }
}
