//! Plans, between the wire and the decisions.

use jiff::SignedDuration;
use plfm_api::control::{OverdueWave, PlanBase, RolloutPlan, RolloutWave, SlowBoots};
use plfm_rollout::rollout::{Overdue, Override, Plan, PlanError, Slow, Wave};

fn seconds(seconds: u32) -> SignedDuration {
    SignedDuration::from_secs(seconds.into())
}

fn told(time: SignedDuration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// The whole plan that was asked for.
pub fn of(asked: &RolloutPlan) -> Result<Plan, PlanError> {
    let base = match asked.base {
        PlanBase::Usual => Plan::default(),
        PlanBase::Emergency => Plan::emergency(),
    };
    let wave = |wave: &RolloutWave| Wave {
        share: wave.share,
        sample_min: wave.sample_min,
        soak_min: seconds(wave.soak_seconds),
        wait_max: seconds(wave.wait_seconds),
    };
    base.with(Override {
        waves: asked.waves.as_ref().map(|waves| waves.iter().map(wave).collect()),
        probe: asked.probe.clone(),
        distributed_min: asked.distributed_min,
        distribution_wait_max: asked.distribution_wait_seconds.map(seconds),
        holdback: asked.holdback,
        threshold: asked.threshold,
        margin: asked.margin,
        sample_enough: asked.sample_enough,
        judged_after: asked.judged_after_seconds.map(seconds),
        compared_with: asked.compared_with,
        hosts_min: asked.hosts_min,
        false_rollback_one_in: asked.false_rollback_one_in,
        false_pause_one_in: asked.false_pause_one_in,
        agreed_one_in: asked.agreed_one_in,
        apart_max: asked.apart_max,
        slow: asked.slow.map(|slow| match slow {
            SlowBoots::Warn => Slow::Warn,
            SlowBoots::Pause => Slow::Pause,
        }),
        overdue: asked.overdue.map(|overdue| match overdue {
            OverdueWave::Pause => Overdue::Pause,
            OverdueWave::Advance => Overdue::Advance,
        }),
        cool_down: asked.cool_down_seconds.map(seconds),
        way_back_present_min: asked.way_back_present_min,
    })
}

/// A plan with all that it says. [`of`] makes the same plan of it.
pub fn shown(base: PlanBase, plan: &Plan) -> RolloutPlan {
    let wave = |wave: &Wave| RolloutWave {
        share: wave.share,
        sample_min: wave.sample_min,
        soak_seconds: told(wave.soak_min),
        wait_seconds: told(wave.wait_max),
    };
    RolloutPlan {
        base,
        waves: Some(plan.waves.iter().map(wave).collect()),
        probe: Some(plan.probe.clone()),
        distributed_min: Some(plan.distributed_min),
        distribution_wait_seconds: Some(told(plan.distribution_wait_max)),
        holdback: Some(plan.holdback),
        threshold: Some(plan.threshold),
        margin: Some(plan.margin),
        sample_enough: Some(plan.sample_enough),
        judged_after_seconds: Some(told(plan.judged_after)),
        compared_with: Some(plan.compared_with),
        hosts_min: Some(plan.hosts_min),
        false_rollback_one_in: Some(plan.false_rollback_one_in),
        false_pause_one_in: Some(plan.false_pause_one_in),
        agreed_one_in: Some(plan.agreed_one_in),
        apart_max: Some(plan.apart_max),
        slow: Some(match plan.slow {
            Slow::Warn => SlowBoots::Warn,
            Slow::Pause => SlowBoots::Pause,
        }),
        overdue: Some(match plan.overdue {
            Overdue::Pause => OverdueWave::Pause,
            Overdue::Advance => OverdueWave::Advance,
        }),
        cool_down_seconds: Some(told(plan.cool_down)),
        way_back_present_min: Some(plan.way_back_present_min),
    }
}
