//! Time: microseconds since the kernel started, and RFC 3339 for people.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// The monotonic clock, in microseconds. It starts with the kernel.
pub fn monotonic_us() -> u64 {
    micros(clock_gettime(ClockId::Monotonic))
}

fn micros(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_nsec / 1_000).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(micros)
}

/// The processor time that this process has used, in microseconds.
pub fn cpu_us() -> u64 {
    micros(clock_gettime(ClockId::ProcessCPUTime))
}

/// The wall clock as RFC 3339 in UTC, with milliseconds.
pub fn timestamp() -> String {
    let now = clock_gettime(ClockId::Realtime);
    render_rfc3339(now.tv_sec, now.tv_nsec / 1_000_000)
}

/// The civil date of a day count is Howard Hinnant's `civil_from_days`.
fn render_rfc3339(seconds: i64, millis: i64) -> String {
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::render_rfc3339;

    #[test]
    fn dates_around_leap_days_and_the_epoch_are_right() {
        assert_eq!(render_rfc3339(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(render_rfc3339(951_782_399, 7), "2000-02-28T23:59:59.007Z");
        assert_eq!(render_rfc3339(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(render_rfc3339(1_795_478_400, 0), "2026-11-24T00:00:00.000Z");
        assert_eq!(render_rfc3339(-1, 999), "1969-12-31T23:59:59.999Z");
    }
}
