//! Decides about the rollout under way, again and again, as long as this replica holds the desk.

use std::time::Duration;

use jiff::Timestamp;
use plfm_api::control::Generation;
use plfm_rollout::rollout::{self, Observed};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::trial::Trial;
use super::view::{RolloutView, health};
use crate::control::{Control, ControlError};
use crate::fleet::{Command, EngineDecision, Fact, Refusal, RolloutRecord, Sight, hosts_below};
use crate::server::chain;
use crate::store::{Desk, View};

/// Shortest time between two decisions: news within it are decided about together.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest: boots are judged by the minute.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A decision takes one in so many of the time.
const SPARE: u32 = 20;
/// How long the desk is held without a word: as long as a rollout may stand still because a replica died.
const DESK_HELD_FOR: Duration = Duration::from_secs(8);

/// The task that decides.
pub(in crate::control) struct Driver {
    control: Control,
    trial: Option<Trial>,
    fails: bool,
}

impl Driver {
    /// Of this replica.
    pub fn new(control: Control) -> Self {
        Self {
            control,
            trial: None,
            fails: false,
        }
    }

    /// Decides until the control plane ends.
    pub async fn run(mut self) {
        let control = self.control.clone();
        let mut position = control.0.position.subscribe();
        loop {
            let seen = what_matters(&control);
            let ending = control.ending();
            let turn = async {
                let pause = match seen.1 {
                    Some(_) => self.look().await,
                    None => {
                        self.trial = None;
                        PAUSE_MAX
                    }
                };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = position.wait_for(|_| what_matters(&control) != seen) => {}
                    () = ending.cancelled() => {}
                }
            };
            tokio::select! {
                () = turn => {}
                () = keep_desk(&control), if seen.1.is_some() => {}
            }
            if ending.is_cancelled() {
                return;
            }
        }
    }

    /// One look. How long to wait for the next.
    async fn look(&mut self) -> Duration {
        let began = Instant::now();
        match self.decide().await {
            Ok(()) => self.fails = false,
            // Another replica was faster, or an operator: decided anew from where the log is now.
            Err(ControlError::Refused(Refusal::No {
                code: "decision_outdated",
                ..
            })) => {}
            Err(error) => {
                if !self.fails {
                    warn!("nothing is decided about the rollout: {}", chain(&error));
                }
                self.fails = true;
            }
        }
        began.elapsed().saturating_mul(SPARE).clamp(PAUSE_MIN, PAUSE_MAX)
    }

    async fn decide(&mut self) -> Result<(), ControlError> {
        let control = self.control.clone();
        let (now, holder) = (control.now(), control.0.replica.as_str());
        let desk = control.store().take_desk(holder, DESK_HELD_FOR, now).await?;
        if desk == Desk::Theirs {
            self.trial = None;
            return Ok(());
        }
        control.catch_up().await?;
        let fleet = control.fleet();
        let Some(record) = fleet.rollout_under_way() else {
            return Ok(());
        };
        let mut trial = match self.trial.take() {
            Some(trial) if trial.is_of(record) => trial,
            Some(_) | None => Trial::new(record),
        };
        let read = trial.read(record, control.store()).await;
        let trial = self.trial.insert(trial);
        read?;
        let sight = control.sight(&fleet, &record.at.candidate, now).await?;
        let decision = decide(
            record,
            &fleet.default_releases(),
            fleet.generation().0,
            &sight,
            trial,
            now,
        );
        let shown = health(&fleet, &record.rules, &decision.health, trial);
        let view = RolloutView::of(record, fleet.position(), &decision, sight.hosts, shown.clone());
        if decision.event.is_some() || decision.directive != record.orders.directive() {
            let is_told_anew = decision.directive != record.orders.directive();
            let places = if is_told_anew && decision.directive.has_cohort() {
                control.places(&fleet, &record.at.candidate, now).await?
            } else {
                Vec::new()
            };
            let made = EngineDecision {
                rollout: record.id.clone(),
                position: fleet.position(),
                hosts_below: hosts_below(&decision, &places),
                late_above: trial.usually_within(),
                health: shown,
                decision,
            };
            drop(fleet);
            let command = Command::CarryOut(Box::new(made));
            let done = control.execute(&command, &super::actor()).await?;
            for fact in &done.decision.facts {
                told(fact, done.event);
            }
            return Ok(());
        }
        let document = serde_json::to_string(&view).map_err(ControlError::KeptAnswer)?;
        let view = View { at: now, document };
        control.store().keep_view(holder, &view).await?;
        Ok(())
    }
}

/// What a decision must not be late for: what hosts are told, and what happened to the rollout.
fn what_matters(control: &Control) -> (Generation, Option<(String, usize)>) {
    let fleet = control.fleet();
    let rollout = fleet.rollout_under_way();
    let happened = rollout.map(|rollout| (rollout.id.clone(), rollout.history.len()));
    (fleet.generation(), happened)
}

/// Says again and again that this replica decides, for ever: reading all reports, or a decision with its pause, may take longer
/// than the desk is held.
async fn keep_desk(control: &Control) {
    loop {
        tokio::time::sleep(DESK_HELD_FOR / 3).await;
        // An error is the next look's to tell. Whoever has it not may get it here: the one who had it is gone.
        let _ = control
            .store()
            .take_desk(&control.0.replica, DESK_HELD_FOR, control.now())
            .await;
    }
}

fn decide(
    record: &RolloutRecord,
    defaults: &[plfm_release::ReleaseId],
    generation: u64,
    sight: &Sight,
    trial: &mut Trial,
    now: Timestamp,
) -> rollout::Decision {
    let told = record.orders.directive();
    let (outcomes, reckoned) = trial.outcomes(sight.hosts.active);
    let observed = Observed {
        rollout: &record.at,
        told: &told,
        generation,
        hosts: sight.hosts,
        outcomes,
        releases: &sight.known,
        defaults,
        rolled_back_at: None,
    };
    rollout::decide_again(reckoned, &record.rules, &observed, now)
}

/// One line for each decision.
fn told(fact: &Fact, event: Option<u64>) {
    let Fact::RolloutMoved(step) = fact else { return };
    let (rollout, kind, why) = (&step.rollout, step.event.as_str(), &step.why);
    match step.alert {
        Some(alert) => {
            let alert = alert.as_str();
            error!(rollout, kind, alert, position = event, "{why}");
        }
        None => info!(rollout, kind, position = event, "{why}"),
    }
}
