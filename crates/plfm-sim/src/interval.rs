//! How sure one can be of a share that was counted.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF};

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

/// Half of what the interval leaves out.
const TAIL: f64 = 0.025;

impl Share {
    /// `have` of `of`.
    pub fn new(have: u64, of: u64) -> Self {
        let (x, n) = (have as f64, of as f64);
        let beta = |a: f64, b: f64, at: f64, otherwise: f64| {
            Beta::new(a, b).map_or(otherwise, |law| law.inverse_cdf(at))
        };
        let low = if have == 0 {
            0.0
        } else {
            beta(x, n - x + 1.0, TAIL, 0.0)
        };
        let high = if have == of {
            1.0
        } else {
            beta(x + 1.0, n - x, 1.0 - TAIL, 1.0)
        };
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

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn none_of_two_thousand_is_below_two_tenths_of_a_percent() {
        let share = Share::new(0, 2_000);
        assert!(
            share.low == 0.0 && (share.high - 0.001_843).abs() < 1e-5,
            "{share:?}"
        );
        let all = Share::new(2_000, 2_000);
        assert!(all.high == 1.0 && (all.low - 0.998_157).abs() < 1e-5, "{all:?}");
        let some = Share::new(10, 100);
        assert!(
            (some.low - 0.049_0).abs() < 1e-4 && (some.high - 0.176_2).abs() < 1e-4,
            "{some:?}"
        );
    }
}
