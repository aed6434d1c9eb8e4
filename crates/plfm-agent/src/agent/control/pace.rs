//! How long to wait: pure, with chance as a parameter.

use std::time::Duration;

/// First and longest pause after failures.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Bounds of what the control plane may ask for: a slip of it must neither flood it nor lose the host for a day.
const INTERVAL_MIN: Duration = Duration::from_millis(200);
const INTERVAL_MAX: Duration = Duration::from_secs(600);
/// How long boots of the baseline may wait while they are compared with a canary's: a minute is judged 90 s after its end.
const NEWS_WITHIN: Duration = Duration::from_secs(30);

/// Pauses that double while it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(BACKOFF_FIRST, BACKOFF_MAX)
    }
}

impl Backoff {
    /// From `first` on, at most `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    /// The pause after one more failure: half of it is chance, so that a fleet does not come back at once.
    pub fn pause(&mut self, random: u64) -> Duration {
        let pause = self.next;
        self.next = self.next.saturating_mul(2).min(self.max);
        pause / 2 + share(pause / 2, random)
    }
}

/// When to come back, if the control plane says `told_ms`: a tenth earlier or later.
pub fn interval(told_ms: u64, random: u64) -> Duration {
    let told = Duration::from_millis(told_ms).clamp(INTERVAL_MIN, INTERVAL_MAX);
    told - told / 10 + share(told / 5, random)
}

/// A moment within a quarter of the interval: news that all hosts have at once are not told at once.
pub fn soon(told_ms: u64, random: u64) -> Duration {
    share(
        Duration::from_millis(told_ms).clamp(INTERVAL_MIN, INTERVAL_MAX) / 4,
        random,
    )
}

/// When news are told that a rollout's judgement waits for: within half a minute, and not by all hosts at once.
pub fn news(random: u64) -> Duration {
    NEWS_WITHIN - share(NEWS_WITHIN / 3, random)
}

/// Some of `whole`.
fn share(whole: Duration, random: u64) -> Duration {
    let ms = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % ms.saturating_add(1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..9)
            .map(|_| backoff.pause(0).as_secs_f32().ceil() as u64)
            .collect();
        assert_eq!(pauses, [1, 1, 2, 4, 8, 16, 30, 30, 30]);
        for random in [0, 1, 12_345, u64::MAX] {
            let pause = backoff.pause(random);
            assert!((Duration::from_secs(30)..=Duration::from_secs(60)).contains(&pause));
        }
    }

    #[test]
    fn what_the_control_plane_asks_for_is_bounded() {
        for random in [0, 77, u64::MAX] {
            assert!(interval(0, random) >= Duration::from_millis(180));
            assert!(interval(u64::MAX, random) <= Duration::from_secs(660));
            let ten = interval(10_000, random);
            assert!((Duration::from_secs(9)..=Duration::from_secs(11)).contains(&ten));
            assert!(soon(10_000, random) <= Duration::from_millis(2_500));
            assert!((Duration::from_secs(20)..=Duration::from_secs(30)).contains(&news(random)));
        }
    }
}
