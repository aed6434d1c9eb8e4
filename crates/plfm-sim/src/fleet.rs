//! Hosts, what they launch, and what reaches the control plane when.
//!
//! Hosts of one kind are alike, so what all of them launch in a tick is one Poisson draw. Who is who matters where few boot
//! the candidate and where votes are counted: there each boot has its host. Where many boot it, hosts that lie or are broken,
//! and each boot that fails, still have their host; the good boots of the others are drawn together, and of these as many have
//! a vote left as a binomial draw says: hosts being alike, each boot's host has one with the same probability.

use serde::Serialize;

use crate::scenario::{Scenario, Symptom};

/// Seconds of a tick.
pub const TICK: f64 = 5.0;

/// What a fleet is like.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fleet {
    /// How many hosts.
    pub hosts: u32,
    /// Launches a host has in an hour, on average over the day.
    pub launches_per_hour: f64,
    /// How much more it is at noon than on average, and less at midnight.
    pub diurnal: f64,
    /// The share of hosts that are broken: whatever they boot fails more often than not.
    pub broken: f64,
    /// How often it fails there.
    pub broken_rate: f64,
    /// How long hosts keep good boots of the baseline to themselves, at most, in seconds.
    pub heartbeat_seconds: f64,
    /// How long what is reported at once takes to the control plane, on average, in seconds.
    pub report_seconds: f64,
    /// The share of reports that are lost and come with the heartbeat after.
    pub lost: f64,
    /// The share of reports that never come, because their host dies first.
    pub never: f64,
    /// How long most hosts take to hear of a new target, at most, in seconds.
    pub target_seconds: f64,
    /// The share of hosts that hear of it with their next heartbeat only.
    pub target_late: f64,
}

impl Fleet {
    /// Of so many hosts.
    pub fn new(hosts: u32) -> Self {
        Self {
            hosts,
            launches_per_hour: 6.0,
            diurnal: 0.5,
            broken: 0.000_5,
            broken_rate: 0.6,
            heartbeat_seconds: 30.0,
            report_seconds: 1.0,
            lost: 0.01,
            never: 0.000_1,
            target_seconds: 2.0,
            target_late: 0.01,
        }
    }

    /// Launches of one host in a second, at an hour of the day.
    pub fn rate(&self, hour: f64) -> f64 {
        let phase = (hour - 6.0) / 24.0 * std::f64::consts::TAU;
        self.launches_per_hour / 3_600.0 * (1.0 + self.diurnal * phase.sin())
    }

    /// The share of hosts that do not yet go by what was said so many seconds ago, on average over the tick that begins then.
    pub fn unaware(&self, seconds: f64) -> f64 {
        let quick = if seconds < TICK {
            self.target_seconds / 2.0 / TICK
        } else {
            0.0
        };
        let late = if seconds < self.heartbeat_seconds {
            self.target_late
        } else {
            0.0
        };
        quick + (1.0 - quick) * late
    }
}

/// Hosts that are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kind {
    /// The number of the first of them.
    pub first: u32,
    /// How many they are.
    pub hosts: u32,
    /// Whether they have the CPU type on which the fault shows.
    pub shows_fault: bool,
    /// Whether they lie.
    pub lies: bool,
    /// Whether they are broken.
    pub broken: bool,
    /// Of those that are drawn together: how many have a vote on the candidate left in this round.
    pub unvoted: f64,
}

impl Kind {
    /// Whether each of its boots has its host, however many there are.
    pub fn is_watched(&self) -> bool {
        self.lies || self.broken
    }
}

/// The kinds of hosts in a scenario.
pub fn kinds(fleet: &Fleet, scenario: &Scenario) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut first = 0;
    let mut left = fleet.hosts;
    let share = |is: bool, share: f64| if is { share } else { 1.0 - share };
    for (lies, broken, shows_fault) in [
        (true, true, false),
        (true, true, true),
        (true, false, false),
        (true, false, true),
        (false, true, false),
        (false, true, true),
        (false, false, false),
        (false, false, true),
    ] {
        let of = share(lies, scenario.liars)
            * share(broken, fleet.broken)
            * share(shows_fault, scenario.fault.hosts);
        let is_last = (lies, broken, shows_fault) == (false, false, true);
        let rest = if is_last { left } else { 0 };
        let hosts = ((f64::from(fleet.hosts) * of).round() as u32).max(rest).min(left);
        if hosts > 0 {
            kinds.push(Kind {
                first,
                hosts,
                shows_fault,
                lies,
                broken,
                unvoted: f64::from(hosts),
            });
        }
        first += hosts;
        left -= hosts;
    }
    kinds
}

/// How long a boot takes until its host knows how it ended, in seconds, as median of its law.
pub fn duration(symptom: Option<Symptom>) -> f64 {
    match symptom {
        None => 0.6,
        Some(Symptom::KernelPanic) => 0.3,
        Some(Symptom::StageFailure) => 0.9,
        Some(Symptom::HandshakeTimeout) => 5.0,
    }
}
