//! How a figure is spread.

use serde::Serialize;

/// In milliseconds, by the nearest rank of all values that were measured: nothing is sampled or put into buckets.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Spread {
    pub count: usize,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    /// Of microseconds.
    pub fn of(mut us: Vec<u32>) -> Self {
        us.sort_unstable();
        let at = |share: f64| {
            let index = (us.len() as f64 * share).ceil() as usize;
            us.get(index.saturating_sub(1))
                .map_or(0.0, |us| f64::from(*us) / 1_000.0)
        };
        Self {
            count: us.len(),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
        }
    }

    pub fn render(&self) -> String {
        format!(
            "P50 {:.1} ms, P95 {:.1} ms, P99 {:.1} ms, most {:.1} ms of {}",
            self.p50, self.p95, self.p99, self.max, self.count
        )
    }
}

/// A duration for a [`Spread`].
pub fn us(took: std::time::Duration) -> u32 {
    u32::try_from(took.as_micros()).unwrap_or(u32::MAX)
}
