//! Many runs of one scenario under one rule, and what they come to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::fleet::Fleet;
use crate::interval::Share;
use crate::judge::{Ending, Rule};
use crate::scenario::Scenario;
use crate::world::{Run, simulate};

/// What something came to over many runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// On average.
    pub mean: f64,
    /// In the middle run.
    pub median: f64,
    /// In all but one of a hundred.
    pub p99: f64,
    /// At most.
    pub max: f64,
}

impl Spread {
    /// Of some values. None of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (values.len() as f64 * share).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied()
        };
        Some(Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            median: at(0.5)?,
            p99: at(0.99)?,
            max: *values.last()?,
        })
    }
}

/// What makes a cell the one that it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// The scenario's name.
    pub scenario: String,
    /// The rule's name.
    pub rule: String,
    /// Hosts.
    pub hosts: u32,
    /// The seed.
    pub seed: u64,
}

/// What a scenario under a rule comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Which one it is.
    #[serde(flatten)]
    pub key: Key,
    /// What the scenario is.
    pub about: String,
    /// Whether the release deserves to be taken back.
    pub is_bad: bool,
    /// Rollouts that took the fleet back.
    pub rolled_back: Share,
    /// Rollouts that stopped booting the release, taken back or not.
    pub stopped: Share,
    /// Rollouts that stopped or wait for a person with the share that they had.
    pub acted: Share,
    /// Rollouts in which a warning was given.
    pub warned: Share,
    /// Rollouts that made the release the default.
    pub completed: Share,
    /// Rollouts that stopped in their first wave.
    pub stopped_in_wave_1: Share,
    /// Boots of the release.
    pub exposed: Option<Spread>,
    /// Those that failed.
    pub failed: Option<Spread>,
    /// Seconds from the first boot to the stop, where there was one.
    pub stopped_after: Option<Spread>,
    /// Seconds from the first boot to the stop or pause, where there was one.
    pub acted_after: Option<Spread>,
    /// Rollbacks to each of the earlier releases, oldest first.
    pub back_to: [u64; 3],
}

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// The fleet.
    pub fleet: &'a Fleet,
    /// The release, and the world around it.
    pub scenario: &'a Scenario,
    /// Who decides.
    pub rule: &'a Rule,
    /// Where chance begins.
    pub seed: u64,
}

impl Trial<'_> {
    /// What it is told by.
    pub fn key(&self) -> Key {
        Key {
            scenario: self.scenario.name.to_owned(),
            rule: self.rule.name().to_owned(),
            hosts: self.fleet.hosts,
            seed: self.seed,
        }
    }

    /// Runs it `runs` times, or until it `goes_on` no more, `jobs` at once, and adds up.
    ///
    /// What comes of each run depends on the seed and its number only, so `jobs` changes nothing but the time.
    pub fn cell(&self, runs: u64, jobs: usize, goes_on: impl Fn() -> bool + Sync) -> Cell {
        self.sum(&self.runs(runs, jobs, goes_on))
    }

    fn runs(&self, runs: u64, jobs: usize, goes_on: impl Fn() -> bool + Sync) -> Vec<Run> {
        let next = AtomicU64::new(0);
        let done = Mutex::new(Vec::new());
        let work = || {
            while goes_on() {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= runs {
                    break;
                }
                let run = simulate(self.fleet, self.scenario, self.rule, self.seed, number);
                if let (Some((run, _)), Ok(mut done)) = (run, done.lock()) {
                    done.push(run);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..jobs.max(1) {
                scope.spawn(work);
            }
            work();
        });
        done.into_inner().unwrap_or_default()
    }

    fn sum(&self, all: &[Run]) -> Cell {
        let of = all.len() as u64;
        let share = |counts: &dyn Fn(&Run) -> bool| {
            Share::new(all.iter().filter(|run| counts(run)).count() as u64, of)
        };
        let back_to = |release| all.iter().filter(|run| run.back_to == Some(release)).count() as u64;
        Cell {
            key: self.key(),
            about: self.scenario.about.to_owned(),
            is_bad: self.scenario.is_bad,
            rolled_back: share(&|run| run.ending == Ending::RolledBack),
            stopped: share(&|run| matches!(run.ending, Ending::RolledBack | Ending::Withdrawn)),
            acted: share(&|run| run.ending != Ending::Completed),
            warned: share(&|run| run.warned_after.is_some()),
            completed: share(&|run| run.ending == Ending::Completed),
            stopped_in_wave_1: share(&|run| run.stopped_in_wave == Some(1)),
            exposed: Spread::of(all.iter().map(|run| run.exposed as f64)),
            failed: Spread::of(all.iter().map(|run| run.failed as f64)),
            stopped_after: Spread::of(all.iter().filter_map(|run| run.stopped_after)),
            acted_after: Spread::of(all.iter().filter_map(|run| run.acted_after)),
            back_to: [back_to(0), back_to(1), back_to(2)],
        }
    }
}
