//! How a rollout goes on while nothing speaks against it, and what is said when it does not.

use jiff::Timestamp;

use super::target::{Extent, extent, probe};
use super::{
    Alert, Event, Health, Numbers, Observed, Overdue, Plan, Running, Share, Slow, Stage, Standing, Verdict,
    Why,
};

/// The share of active hosts that must have been heard of lately for their silence to mean anything, in percent.
const HEARD_MIN_PERCENT: u64 = 90;
/// The share of active hosts that must go by a target for it to be settled, in percent.
const SETTLED_MIN_PERCENT: u64 = 99;

/// What happens next, before it is checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) event: Option<Event>,
    pub(super) back_to: Option<plfm_release::ReleaseId>,
    pub(super) alert: Option<Alert>,
    pub(super) why: Why,
}

impl Step {
    pub(super) fn stay(why: Why) -> Self {
        Self {
            event: None,
            back_to: None,
            alert: None,
            why,
        }
    }

    pub(super) fn event(event: Event, why: Why) -> Self {
        Self {
            event: Some(event),
            ..Self::stay(why)
        }
    }

    pub(super) fn pause(share: Share, (alert, why): (Alert, Why)) -> Self {
        Self {
            alert: Some(alert),
            ..Self::event(Event::Pause(share), why)
        }
    }
}

pub(super) fn start(plan: &Plan, fleet: &Observed<'_>, now: Timestamp) -> Step {
    let candidate = &fleet.rollout.candidate;
    let cool_until = fleet
        .rolled_back_at
        .and_then(|at| at.saturating_add(plan.cool_down).ok());
    let known = fleet.releases.iter().find(|known| known.release == *candidate);
    match known.map(|known| known.standing) {
        Some(Standing::Good) => match cool_until.filter(|until| now < *until) {
            Some(until) => Step::stay(Why::CoolDown { until }),
            None => Step::event(Event::Start, Why::Starting),
        },
        Some(Standing::TakenBack) => Step::stay(Why::Remembered {
            release: candidate.clone(),
        }),
        Some(Standing::Blocked | Standing::Gone) | None => Step::stay(Why::Unbootable {
            release: candidate.clone(),
        }),
    }
}

pub(super) fn withdraw_unbootable(fleet: &Observed<'_>) -> Step {
    let why = Why::Unbootable {
        release: fleet.rollout.candidate.clone(),
    };
    match fleet.rollout.stage {
        Stage::Paused {
            share: Share::Withdrawn,
            ..
        } => Step::stay(why),
        Stage::Planned
        | Stage::Running(_)
        | Stage::Paused {
            share: Share::Kept, ..
        }
        | Stage::RollingBack
        | Stage::RolledBack
        | Stage::Complete
        | Stage::Aborted => Step::pause(Share::Withdrawn, (Alert::Paused, why)),
    }
}

pub(super) fn distribute(plan: &Plan, fleet: &Observed<'_>, now: Timestamp) -> Step {
    let (have, of) = (fleet.hosts.with_candidate, fleet.hosts.eligible);
    let needed = share_of(of, u64::from(plan.distributed_min), 10_000).max(1);
    if have >= needed {
        return Step::event(Event::Distributed, Why::Distributed { have, of });
    }
    if waited(fleet.rollout.wave_since, now) > plan.distribution_wait_max {
        return Step::pause(
            Share::Kept,
            (Alert::Paused, Why::DistributionOverdue { have, needed }),
        );
    }
    Step::stay(Why::Distributing { have, needed, of })
}

pub(super) fn return_hosts(fleet: &Observed<'_>) -> Step {
    let (have, needed) = settled(fleet);
    if have >= needed {
        return Step::event(Event::Settled, Why::Returned { have });
    }
    Step::stay(Why::Returning { have, needed })
}

/// Goes on, or says what it waits for.
pub(super) fn go_on(plan: &Plan, fleet: &Observed<'_>, health: &Health, at: Running, now: Timestamp) -> Step {
    match at {
        Running::Distributing => distribute(plan, fleet, now),
        Running::Canary { wave, step } => match probe(plan, wave, step) {
            Some(_) => widen(plan, fleet, health, wave, step, now),
            None => advance(plan, fleet, health, wave, now),
        },
        // What is complete is judged no more: not while it is above the threshold.
        Running::Promoting if is_above(plan, fleet, health) => {
            Step::stay(above(plan, health, plan.waves_count().saturating_sub(1)))
        }
        Running::Promoting => match settled(fleet) {
            (have, needed) if have >= needed => Step::event(Event::Settled, Why::Complete),
            (have, needed) => Step::stay(Why::Settling { have, needed }),
        },
    }
}

fn is_above(plan: &Plan, fleet: &Observed<'_>, health: &Health) -> bool {
    health.verdict(plan, fleet.hosts.active) == Verdict::Above
}

/// Whether its first wave is still bounded by boots.
pub(super) fn is_probing(plan: &Plan, at: Running) -> bool {
    match at {
        Running::Canary { wave, step } => probe(plan, wave, step).is_some(),
        Running::Distributing | Running::Promoting => false,
    }
}

fn widen(plan: &Plan, fleet: &Observed<'_>, health: &Health, wave: u8, step: u8, now: Timestamp) -> Step {
    let allowed = match extent(plan, fleet, wave, step) {
        Extent::Hosts(cohort) => cohort.boots(),
        Extent::Share(_) => 0,
    };
    let (seen, failed) = (whole(health.sample.boots), whole(health.sample.failures));
    // In doubt more must be known before more is risked, but not all: some reports never come.
    let is_doubtful = failed * 10_000 > seen * u32::from(plan.threshold);
    let needed = if is_doubtful {
        allowed - allowed / 8
    } else {
        allowed.div_ceil(2)
    };
    if let Some(why) = unheard(fleet, wave) {
        return Step::stay(why);
    }
    if seen >= needed {
        return Step::event(Event::Widen, Why::Widening { wave, seen, failed });
    }
    if waited(fleet.rollout.wave_since, now) > wait_max(plan, wave) {
        return Step::pause(Share::Kept, (Alert::Paused, Why::Overdue { wave, seen, needed }));
    }
    Step::stay(Why::Probing {
        wave,
        allowed,
        seen,
        needed,
    })
}

fn advance(plan: &Plan, fleet: &Observed<'_>, health: &Health, wave: u8, now: Timestamp) -> Step {
    let Some(rules) = plan.waves.get(usize::from(wave)) else {
        return Step::stay(Why::Paused);
    };
    if let Some(why) = unheard(fleet, wave) {
        return Step::stay(why);
    }
    let (seen, failed) = (whole(health.sample.boots), whole(health.sample.failures));
    let needed = rules.sample_min;
    let overdue = waited(fleet.rollout.wave_since, now) > rules.wait_max;
    let above_threshold = is_above(plan, fleet, health);
    let soak_until = fleet
        .rollout
        .step_since
        .saturating_add(rules.soak_min)
        .unwrap_or(Timestamp::MAX);
    let overdue_pause = || Step::pause(Share::Kept, (Alert::Paused, Why::Overdue { wave, seen, needed }));
    let next = || match wave + 1 < plan.waves_count() {
        true => Step::event(
            Event::Advance,
            Why::Advancing {
                wave: wave + 1,
                seen,
                failed,
            },
        ),
        false => Step::event(Event::Promote, Why::Promoting),
    };
    match (seen >= needed && soak_until <= now, above_threshold, overdue) {
        (_, true, true) => overdue_pause(),
        (_, true, false) => Step::stay(above(plan, health, wave)),
        (true, false, _) => next(),
        (false, false, true) if plan.overdue == Overdue::Advance && seen > 0 => next(),
        (false, false, true) => overdue_pause(),
        (false, false, false) => {
            let soak_until = Some(soak_until).filter(|until| *until > now);
            Step::stay(Why::Held {
                wave,
                seen,
                needed,
                soak_until,
            })
        }
    }
}

fn above(plan: &Plan, health: &Health, wave: u8) -> Why {
    Why::AboveThreshold {
        wave,
        sample: health.sample,
        threshold: plan.threshold,
    }
}

/// Silence is not health: a control plane that was cut off hears the failures later.
fn unheard(fleet: &Observed<'_>, wave: u8) -> Option<Why> {
    let heard = fleet.hosts.heard;
    let needed = share_of(fleet.hosts.active, HEARD_MIN_PERCENT, 100);
    (heard < needed).then_some(Why::Unheard { wave, heard, needed })
}

pub(super) fn over(health: &Health) -> (Alert, Why) {
    (
        Alert::Paused,
        Why::OverThreshold {
            numbers: Numbers::of(health),
        },
    )
}

pub(super) fn incident(health: &Health) -> (Alert, Why) {
    (
        Alert::Incident,
        Why::Incident {
            baseline: health.baseline_lately,
        },
    )
}

pub(super) fn worse(plan: &Plan, health: &Health) -> (Alert, Why) {
    (
        Alert::Paused,
        Why::Worse {
            numbers: Numbers::of(health),
            margin: plan.margin,
        },
    )
}

pub(super) fn slow(health: &Health) -> (Alert, Why) {
    (
        Alert::Paused,
        Why::Slow {
            numbers: Numbers::of(health),
        },
    )
}

pub(super) fn warnings(plan: &Plan, fleet: &Observed<'_>, health: &Health) -> Vec<Why> {
    let slow = health.late >= f64::from(plan.false_pause_one_in).ln();
    let is_judged = !fleet.rollout.stage.is_over() && plan.slow == Slow::Warn;
    let slow = (slow && is_judged).then(|| Why::Slow {
        numbers: Numbers::of(health),
    });
    slow.into_iter().collect()
}

fn settled(fleet: &Observed<'_>) -> (u32, u32) {
    let needed = share_of(fleet.hosts.active, SETTLED_MIN_PERCENT, 100);
    (fleet.hosts.at_generation, needed)
}

fn wait_max(plan: &Plan, wave: u8) -> jiff::SignedDuration {
    plan.waves
        .get(usize::from(wave))
        .map_or(jiff::SignedDuration::ZERO, |wave| wave.wait_max)
}

fn waited(since: Timestamp, now: Timestamp) -> jiff::SignedDuration {
    now.duration_since(since)
}

fn share_of(of: u32, share: u64, whole: u64) -> u32 {
    u32::try_from((u64::from(of) * share).div_ceil(whole)).unwrap_or(u32::MAX)
}

/// Whole boots of a scaled count.
fn whole(boots: f64) -> u32 {
    boots.round().clamp(0.0, f64::from(u32::MAX)) as u32
}
