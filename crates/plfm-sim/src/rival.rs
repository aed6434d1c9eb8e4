//! The rules that others use.

use plfm_rollout::rollout::Tally;
use serde::Serialize;

use crate::judge::{Ending, Told};

/// Shares of the waves, and how long each takes, in minutes: those of this project's plan.
const WAVES: [(f64, f64); 5] = [
    (0.01, 30.0),
    (0.05, 30.0),
    (0.25, 60.0),
    (0.5, 60.0),
    (1.0, 120.0),
];
/// The threshold of them all: the spec's example.
const THRESHOLD: f64 = 0.1;
/// Boots before a fixed threshold is applied, and before a wave ends.
const SAMPLE_MIN: f64 = 50.0;
/// How often a fixed threshold is looked at, in seconds.
const INTERVAL: f64 = 60.0;
/// How long people take to see that a fleet fails, and to take it back, in seconds.
const PEOPLE: f64 = 1_800.0;

/// Another rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RivalRule {
    /// More than 10 % failed, looked at after each boot, no minimum.
    Bare,
    /// More than 10 % of a wave failed, at least 50 boots, looked at each minute: Argo, Flagger, hawkBit.
    Fixed,
    /// All at once; people see that it fails after half an hour, if more than 10 % do.
    NoCanary,
}

impl RivalRule {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare-10",
            Self::Fixed => "fixed-threshold",
            Self::NoCanary => "no-canary",
        }
    }
}

/// Another rule at work.
#[derive(Debug)]
pub struct Rival {
    rule: RivalRule,
    wave: usize,
    wave_since: Option<f64>,
    looked: f64,
    all: Tally,
    of_wave: Tally,
    ending: Option<Ending>,
}

impl Rival {
    /// At the first wave's begin.
    pub fn new(rule: RivalRule) -> Self {
        Self {
            rule,
            wave: 0,
            wave_since: None,
            looked: 0.0,
            all: Tally::default(),
            of_wave: Tally::default(),
            ending: None,
        }
    }

    /// Takes boots in.
    pub fn hear(&mut self, boots: Tally) {
        self.all = self.all.plus(boots);
        self.of_wave = self.of_wave.plus(boots);
        if self.rule == RivalRule::Bare && self.all.failure_rate() > THRESHOLD {
            self.ending.get_or_insert(Ending::RolledBack);
        }
    }

    /// Looks at them.
    pub fn look(&mut self, seconds: f64) {
        if self.ending.is_some() {
            return;
        }
        let since = seconds - *self.wave_since.get_or_insert(seconds);
        let is_over = self.of_wave.failure_rate() > THRESHOLD;
        let enough = self.of_wave.boots >= SAMPLE_MIN;
        match self.rule {
            RivalRule::Bare => {}
            RivalRule::Fixed => {
                if seconds - self.looked < INTERVAL {
                    return;
                }
                self.looked = seconds;
                if enough && is_over {
                    self.ending = Some(Ending::RolledBack);
                    return;
                }
            }
            RivalRule::NoCanary => {
                if since >= PEOPLE {
                    self.ending = Some(if is_over {
                        Ending::RolledBack
                    } else {
                        Ending::Completed
                    });
                }
                return;
            }
        }
        let soak = WAVES.get(self.wave).map_or(0.0, |(_, minutes)| minutes * 60.0);
        if enough && since >= soak {
            self.wave += 1;
            self.wave_since = Some(seconds);
            self.of_wave = Tally::default();
            if self.wave == WAVES.len() {
                self.ending = Some(Ending::Completed);
            }
        }
    }

    /// What hosts are told.
    pub fn told(&self) -> Told {
        if self.wave_since.is_none() {
            return Told::Nothing;
        }
        match (self.ending, self.rule) {
            (Some(Ending::RolledBack | Ending::Withdrawn), _) => Told::Nothing,
            (_, RivalRule::NoCanary) => Told::Share(1.0),
            (_, RivalRule::Bare | RivalRule::Fixed) => {
                Told::Share(WAVES.get(self.wave).map_or(1.0, |(share, _)| *share))
            }
        }
    }

    /// How it ended.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// The wave that it is in.
    pub fn wave(&self) -> u8 {
        u8::try_from(self.wave).unwrap_or(u8::MAX)
    }
}
