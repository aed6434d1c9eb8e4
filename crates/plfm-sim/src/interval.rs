//! How sure one can be of a share that was counted.

use plfm_rollout::interval::clopper_pearson;
use serde::{Deserialize, Serialize};

/// A share, and the Clopper-Pearson interval that holds the true one in at least 95 of 100 cases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// How many.
    pub have: u64,
    /// Of how many.
    pub of: u64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Share {
    /// `have` of `of`.
    pub fn new(have: u64, of: u64) -> Self {
        let [low, high] = clopper_pearson(have as f64, of as f64);
        Self { have, of, low, high }
    }

    /// The share itself.
    pub fn rate(self) -> f64 {
        if self.of == 0 {
            0.0
        } else {
            self.have as f64 / self.of as f64
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [rate, low, high] = [self.rate(), self.low, self.high].map(|share| share * 100.0);
        write!(f, "{rate:.2} % [{low:.2}, {high:.2}]")
    }
}
