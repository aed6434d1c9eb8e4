//! Numbers of the fleet, as they were counted last.

use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Numbers of one release.
#[derive(Debug, Clone, Default)]
pub struct ReleaseNumbers {
    /// Its id.
    pub release: String,
    /// Active hosts that have it installed and do not boot it by default.
    pub hosts_installed: u64,
    /// Active hosts whose new instances boot it.
    pub hosts_current: u64,
    /// Instances that run on it.
    pub instances: u64,
    /// Boots by outcome.
    pub outcomes: Vec<(String, u64)>,
    /// The share of boots that became ready, of those that count, if any did.
    pub success_ratio: Option<f64>,
    /// The share of new instances that boot it as a canary.
    pub weight: f64,
}

/// Numbers of the fleet.
#[derive(Debug, Clone, Default)]
pub struct FleetNumbers {
    /// Hosts by state.
    pub states: Vec<(&'static str, u64)>,
    /// Active hosts that go by the target's generation.
    pub hosts_at_generation: u64,
    /// Each release that the registry ever listed.
    pub releases: Vec<ReleaseNumbers>,
    /// Rollbacks, by what made them.
    pub rollbacks: Vec<(&'static str, u64)>,
    /// Where the rollout under way is.
    pub rollout_stage: Option<&'static str>,
    /// How long ago anybody looked whether something is to happen to it, in seconds.
    pub rollout_decided_seconds: f64,
    /// What happened to rollouts, ever.
    pub rollout_events: Vec<(&'static str, u64)>,
    /// What people had to hear of.
    pub rollout_alerts: Vec<(&'static str, u64)>,
}

/// Where a rollout under way can be.
const STAGES: [&str; 5] = ["distributing", "canary", "promoting", "paused", "rolling_back"];

/// Writes the numbers out.
#[derive(Debug)]
pub(super) struct Collector(pub(super) Arc<RwLock<FleetNumbers>>);

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let numbers = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        states(&mut encoder, &numbers)?;
        at_generation(&mut encoder, &numbers)?;
        hosts(&mut encoder, &numbers)?;
        instances(&mut encoder, &numbers)?;
        boots(&mut encoder, &numbers)?;
        ratios(&mut encoder, &numbers)?;
        weights(&mut encoder, &numbers)?;
        rollbacks(&mut encoder, &numbers)?;
        rollout_stage(&mut encoder, &numbers)?;
        rollout_decided(&mut encoder, &numbers)?;
        let help = "Things that happened to rollouts";
        counted(
            &mut encoder,
            "rollout_events",
            help,
            "event",
            &numbers.rollout_events,
        )?;
        let help = "Things that happened to rollouts and that a person must hear of";
        counted(
            &mut encoder,
            "rollout_alerts",
            help,
            "alert",
            &numbers.rollout_alerts,
        )
    }
}

fn states(encoder: &mut DescriptorEncoder<'_>, numbers: &FleetNumbers) -> std::fmt::Result {
    let gauge = ConstGauge::new(0_u64);
    let mut family = encoder.encode_descriptor(
        "fleet_hosts_by_state",
        "Hosts by what they are to the fleet",
        None,
        gauge.metric_type(),
    )?;
    for (state, hosts) in &numbers.states {
        ConstGauge::new(*hosts).encode(family.encode_family(&[("state", *state)])?)?;
    }
    Ok(())
}

fn at_generation(encoder: &mut DescriptorEncoder<'_>, numbers: &FleetNumbers) -> std::fmt::Result {
    let gauge = ConstGauge::new(numbers.hosts_at_generation);
    let help = "Active hosts that go by the target's generation";
    gauge.encode(encoder.encode_descriptor("fleet_hosts_at_generation", help, None, gauge.metric_type())?)
}

fn hosts(encoder: &mut DescriptorEncoder<'_>, numbers: &FleetNumbers) -> std::fmt::Result {
    let gauge = ConstGauge::new(0_u64);
    let mut family = encoder.encode_descriptor(
        "fleet_hosts",
        "Active hosts that have a release, by whether they boot it by default",
        None,
        gauge.metric_type(),
    )?;
    for one in &numbers.releases {
        for (state, hosts) in [("installed", one.hosts_installed), ("current", one.hosts_current)] {
            let labels = [("release", one.release.as_str()), ("state", state)];
            ConstGauge::new(hosts).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn instances(encoder: &mut DescriptorEncoder<'_>, numbers: &FleetNumbers) -> std::fmt::Result {
    let gauge = ConstGauge::new(0_u64);
    let mut family = encoder.encode_descriptor(
        "fleet_instances",
        "Instances that run on a release",
        None,
        gauge.metric_type(),
    )?;
    for one in &numbers.releases {
        ConstGauge::new(one.instances).encode(family.encode_family(&[("release", one.release.as_str())])?)?;
    }
    Ok(())
}

fn boots(encoder: &mut DescriptorEncoder<'_>, numbers: &FleetNumbers) -> std::fmt::Result {
    let counter = ConstCounter::new(0_u64);
    let mut family =
        encoder.encode_descriptor("boots", "Boots that hosts reported", None, counter.metric_type())?;
    for one in &numbers.releases {
        for (outcome, boots) in &one.outcomes {
            let labels = [("release", one.release.as_str()), ("outcome", outcome.as_str())];
            ConstCounter::new(*boots).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn ratios(encoder: &mut DescriptorEncoder<'_>, numbers: &FleetNumbers) -> std::fmt::Result {
    let gauge = ConstGauge::new(0.0_f64);
    let mut family = encoder.encode_descriptor(
        "boot_success_ratio",
        "The share of boots that became ready, of those that count",
        None,
        gauge.metric_type(),
    )?;
    for one in &numbers.releases {
        let Some(ratio) = one.success_ratio else { continue };
        ConstGauge::new(ratio).encode(family.encode_family(&[("release", one.release.as_str())])?)?;
    }
    Ok(())
}

fn weights(encoder: &mut DescriptorEncoder<'_>, numbers: &FleetNumbers) -> std::fmt::Result {
    let gauge = ConstGauge::new(0.0_f64);
    let mut family = encoder.encode_descriptor(
        "rollout_weight",
        "The share of new instances that boot a release as a canary",
        None,
        gauge.metric_type(),
    )?;
    for one in &numbers.releases {
        ConstGauge::new(one.weight).encode(family.encode_family(&[("release", one.release.as_str())])?)?;
    }
    Ok(())
}

fn rollbacks(encoder: &mut DescriptorEncoder<'_>, numbers: &FleetNumbers) -> std::fmt::Result {
    let counter = ConstCounter::new(0_u64);
    let mut family = encoder.encode_descriptor(
        "rollbacks",
        "Times that the fleet was taken back",
        None,
        counter.metric_type(),
    )?;
    for (trigger, rollbacks) in &numbers.rollbacks {
        ConstCounter::new(*rollbacks).encode(family.encode_family(&[("trigger", *trigger)])?)?;
    }
    Ok(())
}

fn rollout_stage(encoder: &mut DescriptorEncoder<'_>, numbers: &FleetNumbers) -> std::fmt::Result {
    let gauge = ConstGauge::new(0_u64);
    let help = "1 for where the rollout under way is";
    let mut family = encoder.encode_descriptor("rollout_stage", help, None, gauge.metric_type())?;
    for stage in STAGES {
        let is_there = u64::from(numbers.rollout_stage == Some(stage));
        ConstGauge::new(is_there).encode(family.encode_family(&[("stage", stage)])?)?;
    }
    Ok(())
}

fn rollout_decided(encoder: &mut DescriptorEncoder<'_>, numbers: &FleetNumbers) -> std::fmt::Result {
    let gauge = ConstGauge::new(numbers.rollout_decided_seconds);
    let help = "Time since it was last decided what happens to the rollout under way; 0 without one";
    let unit = prometheus_client::registry::Unit::Seconds;
    gauge.encode(encoder.encode_descriptor("rollout_decided", help, Some(&unit), gauge.metric_type())?)
}

fn counted(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    counts: &[(&'static str, u64)],
) -> std::fmt::Result {
    let counter = ConstCounter::new(0_u64);
    let mut family = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
    for (value, count) in counts {
        ConstCounter::new(*count).encode(family.encode_family(&[(label, *value)])?)?;
    }
    Ok(())
}
