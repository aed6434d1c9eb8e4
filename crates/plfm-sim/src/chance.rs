//! Draws from the laws that the fleet follows. The generator is fixed: the same seed gives the same fleet for good.

use rand_distr::{Binomial, Distribution, Exp, LogNormal, Poisson};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// A source of chance.
#[derive(Debug, Clone)]
pub struct Chance(Pcg64Mcg);

impl Chance {
    /// Of run `run` with a seed.
    pub fn new(seed: u64, run: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ run,
        ))
    }

    /// Between 0 and 1.
    pub fn unit(&mut self) -> f64 {
        // 53 bits: what fits into the number.
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something with a probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of the numbers below `bound`.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((self.unit() * f64::from(bound)) as u32).min(bound.saturating_sub(1))
    }

    /// How many of what happens `mean` times on average.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        Poisson::new(mean).map_or(0, |law| law.sample(&mut self.0) as u64)
    }

    /// How many of `of` happen with a probability each.
    pub fn binomial(&mut self, of: u64, probability: f64) -> u64 {
        if probability >= 1.0 {
            return of;
        }
        if of == 0 || probability <= 0.0 {
            return 0;
        }
        Binomial::new(of, probability).map_or(0, |law| law.sample(&mut self.0))
    }

    /// A time until something that has no memory, in seconds.
    pub fn waiting(&mut self, mean: f64) -> f64 {
        Exp::new(1.0 / mean).map_or(mean, |law| law.sample(&mut self.0))
    }

    /// A time that is mostly near `median` and sometimes much longer.
    pub fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        LogNormal::new(median.ln(), sigma).map_or(median, |law| law.sample(&mut self.0))
    }
}
