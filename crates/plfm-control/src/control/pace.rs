//! How often hosts come, and how long to wait before another try.

use std::time::Duration;

/// Shortest time between two heartbeats: what a host has to tell sooner it tells without being asked.
const INTERVAL_MIN: Duration = Duration::from_secs(10);
/// A fleet whose heartbeats take less than one in so many of the allowed rate is let come more often.
const SPARE: u32 = 6;
/// Longest pause before a decision is taken anew.
const BACK_OFF_MAX: Duration = Duration::from_millis(200);

/// How often hosts come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The time between two heartbeats of a host, as long as the rate allows it.
    pub interval: Duration,
    /// Heartbeats of all hosts together, at most, in a second.
    pub per_second_max: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            per_second_max: 2_000,
        }
    }
}

impl Pace {
    /// The time between two heartbeats of a host, in a fleet of so many: shorter in a small one, as long as it takes in one
    /// that would exceed the rate.
    pub fn interval_of(&self, hosts: u64) -> Duration {
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        let shortest = Duration::from_secs(1) * hosts / self.per_second_max.max(1);
        let floor = INTERVAL_MIN.min(self.interval);
        if shortest > self.interval {
            return shortest;
        }
        (shortest.saturating_mul(SPARE)).clamp(floor, self.interval)
    }

    /// The time to a host's next heartbeat: up to a tenth earlier or later, so that hosts that began together spread out.
    pub fn next(&self, hosts: u64, random: u64) -> Duration {
        spread(self.interval_of(hosts), random)
    }
}

/// A tenth earlier or later.
pub fn spread(time: Duration, random: u64) -> Duration {
    let span = u64::try_from(time.as_millis()).unwrap_or(u64::MAX) / 5;
    time - time / 10 + Duration::from_millis(random % (span + 1))
}

/// A random number; where the system has none, hosts come together.
pub fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}

/// The pause before a decision is taken anew.
pub fn back_off(attempt: u32) -> Duration {
    let most = Duration::from_millis(5)
        .saturating_mul(attempt.saturating_add(1))
        .min(BACK_OFF_MAX);
    most.mul_f64((random() % 1_000) as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(hosts: u64) -> u64 {
        Pace::default().interval_of(hosts).as_secs()
    }

    #[test]
    fn a_small_fleet_comes_more_often_but_never_under_ten_seconds() {
        assert_eq!(seconds(0), 10);
        assert_eq!(seconds(3), 10);
        assert_eq!(seconds(10_000), 30);
        assert_eq!(seconds(20_000), 60);
        assert_eq!(seconds(100_000), 60);
    }

    #[test]
    fn a_large_fleet_stays_under_the_rate() {
        for hosts in [100_000, 120_001, 500_000, 4_000_000] {
            let interval = Pace::default().interval_of(hosts);
            assert!(hosts as f64 / interval.as_secs_f64() <= 2_000.0, "{hosts}");
        }
    }

    #[test]
    fn a_shorter_interval_is_kept_to() {
        let pace = Pace {
            interval: Duration::from_secs(2),
            ..Pace::default()
        };
        assert_eq!(pace.interval_of(1), Duration::from_secs(2));
    }

    #[test]
    fn the_next_is_within_a_tenth() {
        for random in [0, 1, 7_777, u64::MAX] {
            let next = Pace::default().next(100_000, random);
            assert!(
                (Duration::from_secs(54)..=Duration::from_secs(66)).contains(&next),
                "{next:?}"
            );
        }
    }
}
