//! What becomes of a rollout, and why.
//!
//! ```text
//! planned ──> distributing ──> canary, wave 1 ──> … ──> canary, wave n ──> promoting ──> complete
//!    │             │            probe 16, 64, 256         │                   │
//!    │             │            then the wave's share     │                   │
//!    │             └─────────────┴──────────┬─────────────┴───────────────────┤
//!    │                                      v                                 │  the boots prove it bad
//!    │     a person lets it go on:   paused (share kept, or withdrawn) ───────┤
//!    │     back to where it was             │                                 v
//!    └──────────────────────────────────────┴──> aborted               rolling back ──> rolled back
//! ```
//!
//! [`decide`] is called whenever anything was heard, and at least once a minute. It says which event happens, if any, what
//! hosts shall be told, and why. What a person does (pause, resume, promote, abort) is an [`Event`] too, for [`Stage::on`].
//!
//! Invariants, each a property test:
//! - A release that is over its threshold is nobody's target, unless there is no other.
//! - A release that is blocked, gone or taken back is never what hosts are told to boot anew.
//! - The candidate's share never rises while anything speaks against it.
//! - Generations only rise, and rise with every change of what hosts are told.
//! - The same facts give the same decision.

mod apart;
pub mod cohort;
mod evidence;
mod health;
mod outcome;
mod plan;
mod progress;
mod stage;
mod target;
mod way_back;
mod why;

use jiff::Timestamp;
use plfm_release::ReleaseId;

pub use apart::{Apart, Fault};
pub use cohort::Cohort;
pub use health::{Health, Proof, Reckoned, Verdict};
pub use outcome::{
    Ending, Host, HostRecord, Mark, Marks, Minute, Outcomes, Pair, ROUND_MINUTES, Side, Tally,
};
pub use plan::{Overdue, Override, Plan, PlanError, Slow, Wave};
pub use stage::{Event, IllegalEvent, Running, Share, Stage};
pub use target::{Canary, Directive, Extent};
pub use way_back::{Known, Standing};
pub use why::{Numbers, Why};

use progress::Step;
use way_back::way_back;

/// A rollout as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// What is rolled out.
    pub candidate: ReleaseId,
    /// What was the default when it began.
    pub baseline: ReleaseId,
    /// Where it is.
    pub stage: Stage,
    /// Since when it is in this wave, or where else it is.
    pub wave_since: Timestamp,
    /// Since when it has the share that it has.
    pub step_since: Timestamp,
    /// From when on boots are judged: its first wave's begin, or when a person let it go on.
    pub judged_since: Timestamp,
    /// Where it was rolled back to.
    pub back_to: Option<ReleaseId>,
}

/// The hosts as they were heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hosts {
    /// Those that take instances.
    pub active: u32,
    /// Of these, those that could run the candidate.
    pub eligible: u32,
    /// Of the eligible, those that have it.
    pub with_candidate: u32,
    /// Of the active, those that go by the newest target.
    pub at_generation: u32,
    /// Of the active, those that were heard of lately: within two minutes, or two heartbeats where those are longer.
    pub heard: u32,
}

/// All facts that a decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The rollout.
    pub rollout: &'a Rollout,
    /// What hosts are told now.
    pub told: &'a Directive,
    /// The generation of that.
    pub generation: u64,
    /// The hosts.
    pub hosts: Hosts,
    /// What they reported.
    pub outcomes: &'a Outcomes,
    /// The releases that are known.
    pub releases: &'a [Known],
    /// What was the default, oldest first; the last one is.
    pub defaults: &'a [ReleaseId],
    /// When the fleet was last taken back from any release.
    pub rolled_back_at: Option<Timestamp>,
}

/// What a person must hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alert {
    /// The fleet was taken back.
    RolledBack,
    /// The rollout waits for a person.
    Paused,
    /// The fleet has a problem that is not the release's.
    Incident,
    /// The release is bad and there is nothing to go back to.
    NoWayBack,
}

/// What becomes of a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What happens, if anything does.
    pub event: Option<Event>,
    /// Where the rollout is then.
    pub stage: Stage,
    /// What hosts shall be told.
    pub directive: Directive,
    /// The generation of that: a newer one if it is something else than now.
    pub generation: u64,
    /// Where the fleet is taken back to.
    pub back_to: Option<ReleaseId>,
    /// What it means for the boots from now on: for [`Outcomes::mark`].
    pub marks: Marks,
    /// What a person must hear of.
    pub alert: Option<Alert>,
    /// Why.
    pub why: Why,
    /// What an operator should know beside.
    pub warnings: Vec<Why>,
    /// What the boots say.
    pub health: Health,
}

/// Decides what becomes of a rollout. Deterministic.
pub fn decide(plan: &Plan, fleet: &Observed<'_>, now: Timestamp) -> Decision {
    decide_again(&mut Reckoned::default(), plan, fleet, now)
}

/// The same, for who decides about one rollout again and again: only what is new since the last time is reckoned.
pub fn decide_again(reckoned: &mut Reckoned, plan: &Plan, fleet: &Observed<'_>, now: Timestamp) -> Decision {
    let health = Health::of(reckoned, plan, fleet, now);
    let verdict = health.verdict(plan, fleet.hosts.active);
    let step = match fleet.rollout.stage {
        Stage::Planned => progress::start(plan, fleet, now),
        Stage::Running(_) | Stage::Paused { .. } if !fleet.is_bootable(&fleet.rollout.candidate) => {
            progress::withdraw_unbootable(fleet)
        }
        Stage::Running(Running::Distributing) => progress::distribute(plan, fleet, now),
        Stage::Running(at @ (Running::Canary { .. } | Running::Promoting)) => match verdict {
            Verdict::Bad(proof) => condemn(plan, fleet, &health, proof),
            Verdict::Over => Step::pause(Share::Withdrawn, progress::over(&health)),
            Verdict::Incident => Step::pause(Share::Kept, progress::incident(&health)),
            // A probe goes on: its few boots are what tells a bad release from a slightly worse one.
            Verdict::Worse if !progress::is_probing(plan, at) => {
                Step::pause(Share::Kept, progress::worse(plan, &health))
            }
            Verdict::Slow if plan.slow == Slow::Pause => Step::pause(Share::Kept, progress::slow(&health)),
            Verdict::Worse | Verdict::Slow | Verdict::Above | Verdict::Fine => {
                progress::go_on(plan, fleet, &health, at, now)
            }
        },
        Stage::Paused { at, share } => match verdict {
            Verdict::Bad(proof) if at != Running::Distributing => condemn(plan, fleet, &health, proof),
            Verdict::Over if share == Share::Kept => Step::pause(Share::Withdrawn, progress::over(&health)),
            Verdict::Bad(_) | Verdict::Over | Verdict::Incident | Verdict::Worse => Step::stay(Why::Paused),
            Verdict::Slow | Verdict::Above | Verdict::Fine => Step::stay(Why::Paused),
        },
        Stage::RollingBack => progress::return_hosts(fleet),
        Stage::RolledBack | Stage::Complete | Stage::Aborted => Step::stay(Why::Over),
    };
    Decision::of(plan, fleet, step, health)
}

/// What comes of what a person does: the event, if it can happen where the rollout is, and what hosts are told then. Deterministic.
///
/// # Errors
/// [`IllegalEvent`]: it is where this cannot happen.
pub fn asked(
    plan: &Plan,
    fleet: &Observed<'_>,
    event: Event,
    now: Timestamp,
) -> Result<Decision, IllegalEvent> {
    fleet.rollout.stage.on(event, plan.waves_count())?;
    let why = match event {
        Event::Promote => Why::Promoting,
        Event::Pause(_) => Why::Paused,
        Event::Start
        | Event::Distributed
        | Event::Widen
        | Event::Advance
        | Event::Settled
        | Event::Resume
        | Event::Condemn
        | Event::Abort => Why::Over,
    };
    let health = Health::of(&mut Reckoned::default(), plan, fleet, now);
    Ok(Decision::of(plan, fleet, Step::event(event, why), health))
}

/// Takes the fleet back, or freezes it where there is nothing to go back to.
fn condemn(plan: &Plan, fleet: &Observed<'_>, health: &Health, proof: Proof) -> Step {
    let numbers = Numbers::of(health);
    let rollout = fleet.rollout;
    let target = way_back(
        plan,
        fleet.defaults,
        fleet.releases,
        fleet.hosts.active,
        &rollout.candidate,
    );
    match (target, rollout.stage) {
        (Some(release), _) => Step {
            back_to: Some(release.clone()),
            alert: Some(Alert::RolledBack),
            ..Step::event(
                Event::Condemn,
                Why::Bad {
                    proof,
                    numbers,
                    back_to: release.clone(),
                },
            )
        },
        (
            None,
            Stage::Paused {
                share: Share::Withdrawn,
                ..
            },
        ) => Step::stay(Why::NoWayBack { proof, numbers }),
        (None, _) => Step {
            alert: Some(Alert::NoWayBack),
            ..Step::event(Event::Pause(Share::Withdrawn), Why::NoWayBack { proof, numbers })
        },
    }
}

impl Observed<'_> {
    /// Whether hosts may be told to boot it.
    pub fn is_bootable(&self, release: &ReleaseId) -> bool {
        let known = self.releases.iter().find(|known| known.release == *release);
        known.is_some_and(|known| known.standing == Standing::Good)
    }
}

impl Rollout {
    /// Of a release that is to follow another.
    pub fn new(candidate: ReleaseId, baseline: ReleaseId, now: Timestamp) -> Self {
        Self {
            candidate,
            baseline,
            stage: Stage::Planned,
            wave_since: now,
            step_since: now,
            judged_since: now,
            back_to: None,
        }
    }

    /// As it is after an event at a time.
    ///
    /// # Errors
    /// [`IllegalEvent`]: this cannot happen where it is.
    pub fn after(
        &self,
        event: Event,
        back_to: Option<ReleaseId>,
        waves: u8,
        now: Timestamp,
    ) -> Result<Self, IllegalEvent> {
        let stage = self.stage.on(event, waves)?;
        let (wave_since, judged_since) = match event {
            Event::Distributed => (now, now),
            Event::Resume => (now, now),
            Event::Widen | Event::Pause(_) => (self.wave_since, self.judged_since),
            Event::Start
            | Event::Advance
            | Event::Promote
            | Event::Settled
            | Event::Condemn
            | Event::Abort => (now, self.judged_since),
        };
        Ok(Self {
            stage,
            wave_since,
            step_since: now,
            judged_since,
            back_to: back_to.or_else(|| self.back_to.clone()),
            ..self.clone()
        })
    }
}

impl Decision {
    fn of(plan: &Plan, fleet: &Observed<'_>, step: Step, health: Health) -> Self {
        let stage = fleet.rollout.stage;
        let waves = plan.waves_count();
        // What this module decides is legal where it decides it, which a test shows; otherwise nothing happens.
        let event = step.event.filter(|event| stage.on(*event, waves).is_ok());
        let stage = event
            .and_then(|event| stage.on(event, waves).ok())
            .unwrap_or(stage);
        let back_to = step.back_to.or_else(|| fleet.rollout.back_to.clone());
        let directive = Directive::of(plan, fleet, stage, back_to.as_ref());
        let changed = directive != *fleet.told;
        let marks = Marks {
            round: Mark::from(matches!(
                event,
                Some(Event::Distributed | Event::Advance | Event::Promote)
            )),
            // The few boots of a probe are too few for this to matter, and too few to be missed. When the share is withdrawn, the
            // minute's boots are what it was withdrawn for; an outage that goes on meets more of the baseline's.
            unsettled: Mark::from(
                changed
                    && event != Some(Event::Pause(Share::Withdrawn))
                    && (directive.is_share(fleet) || fleet.told.is_share(fleet)),
            ),
        };
        Self {
            event,
            stage,
            generation: fleet.generation.saturating_add(u64::from(changed)),
            directive,
            back_to,
            marks,
            alert: step.alert.filter(|_| event.is_some()),
            why: step.why,
            warnings: progress::warnings(plan, fleet, &health),
            health,
        }
    }
}

#[cfg(test)]
mod tests;
