//! What the rule is to be worth, and whether the runs show it.
//!
//! A share is shown to be within its bound when the end of its interval is, not when the share itself is: of `n` runs without
//! one exception the interval ends at 3.7/n.

use std::fmt;

use crate::cell::Cell;
use crate::interval::Share;

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Rollouts taken back, less than this share.
    RolledBackBelow(f64),
    /// Rollouts taken back, more than this share.
    RolledBackAbove(f64),
    /// Rollouts stopped in their first wave, more than this share.
    StoppedInWave1Above(f64),
    /// Boots that failed, in each run fewer than this.
    FailedBelow(f64),
}

/// A bound on what comes of a scenario under this project's rule with 100,000 hosts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// The scenario's name.
    pub scenario: &'static str,
    /// What holds.
    pub limit: Limit,
}

const fn bound(scenario: &'static str, limit: Limit) -> Bound {
    Bound { scenario, limit }
}

/// Runs that show any of them: of 4,000 without an exception, a share of less than a thousandth.
pub const RUNS: u64 = 4_000;

/// All bounds.
pub const BOUNDS: &[Bound] = &[
    bound("good-1", Limit::RolledBackBelow(0.001)),
    bound("good-3", Limit::RolledBackBelow(0.005)),
    bound("outage", Limit::RolledBackBelow(0.001)),
    bound("outage-early", Limit::RolledBackBelow(0.002)),
    bound("liars", Limit::RolledBackBelow(0.001)),
    bound("fails-20", Limit::RolledBackAbove(0.999)),
    bound("fails-50", Limit::StoppedInWave1Above(0.99)),
    bound("fails-100", Limit::FailedBelow(20.0)),
    bound("hangs-100", Limit::FailedBelow(20.0)),
];

impl Bound {
    /// What was measured of it.
    pub fn measured(&self, cell: &Cell) -> String {
        match self.limit {
            Limit::RolledBackBelow(_) | Limit::RolledBackAbove(_) => cell.rolled_back.to_string(),
            Limit::StoppedInWave1Above(_) => cell.stopped_in_wave_1.to_string(),
            Limit::FailedBelow(_) => cell
                .failed
                .map_or("-".to_owned(), |failed| format!("{} at most", failed.max)),
        }
    }

    /// Whether the runs show that it holds.
    pub fn is_shown(&self, cell: &Cell) -> bool {
        let below = |share: Share, bound: f64| share.of > 0 && share.high < bound;
        let above = |share: Share, bound: f64| share.of > 0 && share.low > bound;
        match self.limit {
            Limit::RolledBackBelow(bound) => below(cell.rolled_back, bound),
            Limit::RolledBackAbove(bound) => above(cell.rolled_back, bound),
            Limit::StoppedInWave1Above(bound) => above(cell.stopped_in_wave_1, bound),
            Limit::FailedBelow(bound) => cell.failed.is_some_and(|failed| failed.max < bound),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            Limit::RolledBackBelow(bound) => write!(f, "taken back < {:.1} %", bound * 100.0),
            Limit::RolledBackAbove(bound) => write!(f, "taken back > {:.1} %", bound * 100.0),
            Limit::StoppedInWave1Above(bound) => write!(f, "stopped in wave 1 > {:.0} %", bound * 100.0),
            Limit::FailedBelow(bound) => write!(f, "failed boots < {bound}"),
        }
    }
}
