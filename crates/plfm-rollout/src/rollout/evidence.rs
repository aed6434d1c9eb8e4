//! How much speaks against a release, whenever one looks.
//!
//! Each test is a product of factors whose expectation is at most one while the release is as good as claimed, so that by
//! Ville's inequality the product ever exceeds `n` with probability 1/n at most, however often it is looked at. What is
//! claimed differs:
//!
//! - [`against_baseline`]: in each minute, at most `margin` more of the candidate's boots than of the baseline's fail,
//!   whatever the baseline does in that minute. An outage that hits both raises both, and is no evidence.
//! - [`against_threshold`]: at most `threshold` of the candidate's boots fail.
//!
//! Both add up what they would have if they had begun with any later round, weighted: so that a fault which begins late
//! need not first pay for all the good boots before it. The derivation is in `docs/decisions/0019-when-to-roll-back.md`.
//!
//! Invariant: a minute's factor depends on nothing but that minute's boots and what was known before it.

use super::outcome::{Minute, Pair, Tally};

/// How much worse than claimed the alternatives are that a test bets on: small faults, and large ones.
const GAPS: [f64; 5] = [0.02, 0.05, 0.12, 0.35, 0.9];
/// The largest rate that an alternative has: of a release that fails always, a rare boot may not.
const RATE_MAX: f64 = 0.98;
/// What the baseline's rate is taken for before anything is known of it, and the boots that this is worth.
const RATE_PRIOR: (f64, f64) = (0.01, 20.0);
/// How much of what was known of the baseline still counts a minute later.
const MEMORY: f64 = 0.9;
/// How close is close enough, relatively.
const CLOSE: f64 = 1e-3;
/// Steps to find the closest point: halving alone would end at the limits of the format.
const STEPS_MAX: u32 = 60;

type Bets = [f64; GAPS.len()];

/// The factors of the stretches that a test reckoned before: those that are still the same need not be reckoned again.
#[derive(Debug, Clone, Default)]
pub(super) struct Factors(Vec<Factor>);

#[derive(Debug, Clone, Copy)]
struct Factor {
    measure: Measure,
    margin: f64,
    expected: f64,
    pair: Pair,
    bets: Bets,
}

impl Factors {
    /// Of the stretch that comes as the `nth`.
    fn of(&mut self, nth: usize, pair: &Pair, measure: Measure, margin: f64, expected: f64) -> Bets {
        let is_same = |factor: &&Factor| {
            factor.pair == *pair
                && factor.measure == measure
                && factor.margin == margin
                && factor.expected == expected
        };
        if let Some(factor) = self.0.get(nth).filter(is_same) {
            return factor.bets;
        }
        let bets = pair_factors(pair, measure, margin, expected);
        let factor = Factor {
            measure,
            margin,
            expected,
            pair: *pair,
            bets,
        };
        match self.0.get_mut(nth) {
            Some(place) => *place = factor,
            None => self.0.push(factor),
        }
        bets
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Boots that failed.
    Failures,
    /// Boots where no hello came.
    Timeouts,
    /// Ready boots that were slow.
    Late,
}

impl Measure {
    /// How many, of how many.
    fn of(self, tally: Tally) -> (f64, f64) {
        match self {
            Self::Failures => (tally.failures, tally.boots),
            Self::Timeouts => (tally.timeouts, tally.boots),
            Self::Late => (tally.late, tally.boots - tally.failures),
        }
    }
}

/// A minute, and when its round began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Block {
    pub(super) round: Minute,
    pub(super) pair: Pair,
}

/// The logarithm of the evidence that more of the candidate's boots than of the baseline's, by more than `margin`, have it.
///
/// `before` are minutes before the first that is judged, which only tell what to expect of the baseline. `reckoned` saves
/// time and changes nothing.
pub(super) fn against_baseline(
    reckoned: &mut Factors,
    before: &[Block],
    blocks: &[Block],
    measure: Measure,
    margin: f64,
) -> f64 {
    let mut known = (RATE_PRIOR.0 * RATE_PRIOR.1, RATE_PRIOR.1);
    let mut learn = |pair: &Pair| {
        let expected = (known.0 / known.1).clamp(0.000_5, 0.5);
        let (have, of) = measure.of(pair.baseline);
        known = (known.0 * MEMORY + have, known.1 * MEMORY + of);
        let short = (RATE_PRIOR.1 - known.1).max(0.0);
        known = (known.0 + RATE_PRIOR.0 * short, known.1 + short);
        expected
    };
    for block in before {
        learn(&block.pair);
    }
    let factors = blocks.iter().enumerate().map(|(nth, block)| {
        let expected = learn(&block.pair);
        (
            block.round,
            reckoned.of(nth, &block.pair, measure, margin, expected),
        )
    });
    over_starts(&factors.collect::<Vec<_>>())
}

fn pair_factors(pair: &Pair, measure: Measure, margin: f64, expected: f64) -> Bets {
    let (have, of) = measure.of(pair.candidate);
    let (base_have, base_of) = measure.of(pair.baseline);
    if of <= 0.0 || base_of <= 0.0 {
        return Bets::default();
    }
    GAPS.map(|gap| {
        let worse = (expected + margin + gap).min(RATE_MAX);
        let null = closest(worse, expected, margin, of, base_of);
        // The closest point is found roughly. What the baseline is bet to be is then moved by as much as makes the weights fit
        // exactly, which is what the factor's expectation hangs on; how well the bet is placed is a matter of power only.
        let (p, q) = (null + margin, null);
        let better = q - of / base_of * (worse - p) * (q * (1.0 - q)) / (p * (1.0 - p));
        if better <= 0.0 || better >= 1.0 {
            return 0.0;
        }
        log_ratio(have, of, worse, p) + log_ratio(base_have, base_of, better, q)
    })
}

/// The baseline's rate at the point of the claim's boundary that is about closest to the alternative, both weighted by their
/// boots: where the derivative of the divergence is zero.
fn closest(worse: f64, expected: f64, margin: f64, of: f64, base_of: f64) -> f64 {
    let (mut low, mut high) = (expected, worse - margin);
    let mut at = expected;
    for _ in 0..STEPS_MAX {
        let (p, q) = (at + margin, at);
        let (vp, vq) = (p * (1.0 - p), q * (1.0 - q));
        let slope = of * (worse - p) / vp + base_of * (expected - q) / vq;
        if slope > 0.0 {
            low = at
        } else {
            high = at
        }
        let bend = of * (1.0 / vp + (worse - p) * (1.0 - 2.0 * p) / (vp * vp))
            + base_of * (1.0 / vq + (expected - q) * (1.0 - 2.0 * q) / (vq * vq));
        let newton = at + slope / bend;
        let next = if newton > low && newton < high {
            newton
        } else {
            f64::midpoint(low, high)
        };
        if (next - at).abs() <= CLOSE * at {
            return next;
        }
        at = next;
    }
    at
}

fn log_ratio(have: f64, of: f64, alternative: f64, claim: f64) -> f64 {
    have * (alternative / claim).ln() + (of - have) * ((1.0 - alternative) / (1.0 - claim)).ln()
}

/// The logarithm of the evidence that more than `threshold` of the candidate's boots fail.
pub(super) fn against_threshold(blocks: &[Block], threshold: f64) -> f64 {
    let alternatives = GAPS.map(|gap| (threshold + gap).min(RATE_MAX));
    let factors = blocks.iter().map(|Block { round, pair }| {
        let (have, of) = Measure::Failures.of(pair.candidate);
        (
            *round,
            alternatives.map(|alternative| log_ratio(have, of, alternative, threshold)),
        )
    });
    over_starts(&factors.collect::<Vec<_>>())
}

/// Adds up over the rounds with which a test could have begun, the first one weighted 1/2, then 1/6, 1/12 and so on, and over
/// the bets, each weighted alike. All weights together are one at most.
fn over_starts(factors: &[(Minute, Bets)]) -> f64 {
    let mut rounds: Vec<Minute> = factors.iter().map(|(round, _)| *round).collect();
    rounds.dedup();
    let mut sum = LogSum::default();
    let mut since_start = Bets::default();
    let mut later = factors.iter().rev().peekable();
    while let Some((round, bets)) = later.next() {
        for (total, bet) in since_start.iter_mut().zip(bets) {
            *total += bet;
        }
        if later.peek().is_none_or(|(before, _)| before != round) {
            rounds.pop();
            let nth = u32::try_from(rounds.len()).map_or(f64::INFINITY, f64::from);
            let weight =
                1.0 / ((nth + 1.0) * (nth + 2.0) * f64::from(u8::try_from(GAPS.len()).unwrap_or(u8::MAX)));
            since_start.iter().for_each(|total| sum.add(total + weight.ln()));
        }
    }
    sum.value()
}

/// A sum of numbers of which only the logarithms fit into a number.
#[derive(Debug, Clone, Copy)]
struct LogSum {
    largest: f64,
    rest: f64,
}

impl Default for LogSum {
    fn default() -> Self {
        Self {
            largest: f64::NEG_INFINITY,
            rest: 0.0,
        }
    }
}

impl LogSum {
    fn add(&mut self, log: f64) {
        if log == f64::NEG_INFINITY {
            return;
        }
        if log > self.largest {
            self.rest = self.rest * (self.largest - log).exp() + 1.0;
            self.largest = log;
        } else {
            self.rest += (log - self.largest).exp();
        }
    }

    fn value(self) -> f64 {
        if self.rest > 0.0 {
            self.largest + self.rest.ln()
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests;
