//! How long to wait before the next attempt: exponential, with jitter, so that a fleet does not come back at once.

use std::time::Duration;

use super::Settings;

/// Doublings after which the wait is at its longest whatever the settings.
const DOUBLINGS_MAX: u32 = 16;

/// The wait after `failed` attempts in a row (at least 1): between half of the exponential wait and the whole.
pub(crate) fn wait_after(failed: u32, settings: &Settings) -> Duration {
    let doublings = failed.saturating_sub(1).min(DOUBLINGS_MAX);
    let whole = settings
        .backoff_first
        .saturating_mul(1 << doublings)
        .min(settings.backoff_longest);
    let half = whole / 2;
    let jitter_parts = u32::try_from((settings.random)() % 1024).unwrap_or(0);
    half + half.saturating_mul(jitter_parts) / 1024
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn settings(random: u64) -> Settings {
        let built_at = jiff::Timestamp::UNIX_EPOCH;
        Settings::new(Vec::new(), "/nowhere".into(), built_at, Arc::new(move || random))
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread_over_half_of_it() {
        let (least, most) = (settings(0), settings(1023));
        assert_eq!(wait_after(1, &least), Duration::from_millis(100));
        assert_eq!(wait_after(2, &least), Duration::from_millis(200));
        assert_eq!(wait_after(1000, &least), Duration::from_secs(15));
        assert!(wait_after(1, &most) > Duration::from_millis(199));
        assert!(wait_after(1000, &most) <= Duration::from_secs(30));
    }
}
