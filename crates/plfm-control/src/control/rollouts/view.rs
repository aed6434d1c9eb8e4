//! What whoever decides saw last, for all replicas.

use jiff::Timestamp;
use plfm_api::control::{BootSample, Evidence, HostSetApart, RolloutHealth, RolloutHosts};
use plfm_rollout::interval::clopper_pearson;
use plfm_rollout::rollout::{Decision, Health, Hosts, Plan, Tally, Why};
use serde::{Deserialize, Serialize};

use super::trial::Trial;
use crate::control::context::name_of;
use crate::control::{Control, ControlError};
use crate::fleet::{FleetState, RolloutRecord};
use crate::store::View;

/// Hosts set apart that are named: more of them are a number only.
const APART_SHOWN: usize = 50;

/// What was seen of a rollout when it was last decided about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// Which rollout.
    pub rollout: String,
    /// The log's position that it was decided from.
    pub position: u64,
    /// Why it is where it is.
    pub why: String,
    /// What an operator should know beside.
    pub warnings: Vec<String>,
    /// What the boots say.
    pub health: RolloutHealth,
    /// The hosts.
    pub hosts: RolloutHosts,
}

impl RolloutView {
    pub(super) fn of(
        record: &RolloutRecord,
        position: u64,
        decision: &Decision,
        hosts: Hosts,
        health: RolloutHealth,
    ) -> Self {
        Self {
            rollout: record.id.clone(),
            position,
            // That it is paused is no reason: why it was is what its last event says.
            why: match &decision.why {
                Why::Paused => record.why.clone(),
                why => why.to_string(),
            },
            warnings: decision.warnings.iter().map(ToString::to_string).collect(),
            health,
            hosts: RolloutHosts {
                active: hosts.active,
                eligible: hosts.eligible,
                with_release: hosts.with_candidate,
                at_generation: hosts.at_generation,
                heard: hosts.heard,
            },
        }
    }
}

impl Control {
    /// What was seen last of a rollout that is under way, since its last event.
    pub(super) async fn view_of(&self, record: &RolloutRecord) -> Result<Option<RolloutView>, ControlError> {
        if record.is_over() {
            return Ok(None);
        }
        let Some(View { document, .. }) = self.store().view().await? else {
            return Ok(None);
        };
        let view: Option<RolloutView> = serde_json::from_str(&document).ok();
        let last = record.history.last().map_or(0, |remark| remark.position);
        Ok(view.filter(|view| view.rollout == record.id && view.position >= last))
    }

    /// How long ago anybody decided about the rollout under way; none without one.
    pub async fn decided_seconds_ago(&self, now: Timestamp) -> Option<f64> {
        let fleet = self.fleet();
        let record = fleet.rollout_under_way()?;
        let seen = self.store().view().await.ok()?.map(|view| view.at);
        let at = seen.map_or(record.started_at, |at| at.max(record.started_at));
        Some(now.duration_since(at).as_secs_f64().max(0.0))
    }
}

/// The health of a rollout, for people.
pub(super) fn health(fleet: &FleetState, plan: &Plan, health: &Health, trial: &Trial) -> RolloutHealth {
    let evidence = |test: &str, ln: f64, needed: u32| Evidence {
        test: test.to_owned(),
        // Numbers that JSON can have: beyond this nobody counts.
        one_in: ln.min(60.0).exp(),
        needed: f64::from(needed),
    };
    let apart = health.apart.iter().take(APART_SHOWN).filter_map(|apart| {
        let host = trial.name(apart.host)?;
        Some(HostSetApart {
            host: host.clone(),
            name: name_of(fleet, host),
            release_boots: apart.reported.candidate.boots,
            release_failures: apart.reported.candidate.failures,
            baseline_boots: apart.reported.baseline.boots,
            baseline_failures: apart.reported.baseline.failures,
        })
    });
    RolloutHealth {
        sample: sample(health.sample),
        release: sample(health.judged.candidate),
        baseline: sample(health.judged.baseline),
        failing_hosts: health.failing_hosts,
        apart: apart.collect(),
        evidence: vec![
            evidence("worse_than_baseline", health.worse, plan.false_rollback_one_in),
            evidence("handshake_timeouts", health.timeouts, plan.false_rollback_one_in),
            evidence("over_threshold", health.over, plan.false_rollback_one_in),
            evidence("worse_at_all", health.any_worse, plan.false_pause_one_in),
            evidence("slow", health.late, plan.false_pause_one_in),
        ],
        incident: health.is_incident,
    }
}

fn sample(tally: Tally) -> BootSample {
    let has_boots = tally.boots > 0.0;
    BootSample {
        boots: tally.boots,
        failures: tally.failures,
        handshake_timeouts: tally.timeouts,
        slow: tally.late,
        failure_rate: has_boots.then(|| tally.failure_rate()),
        failure_rate_interval: has_boots.then(|| clopper_pearson(tally.failures, tally.boots)),
    }
}
