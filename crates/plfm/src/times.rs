//! Times and spans for people.

use jiff::{SignedDuration, Timestamp};

/// A time, to the second: RFC 3339.
pub fn render_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A span in one unit.
pub fn render_age(age: SignedDuration) -> String {
    match age.as_secs() {
        seconds if seconds < 120 => format!("{} s", seconds.max(0)),
        seconds if seconds < 7_200 => format!("{} min", seconds / 60),
        seconds if seconds < 172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_one_unit() {
        let ages =
            [-5, 0, 119, 120, 7_200, 172_800].map(|seconds| render_age(SignedDuration::from_secs(seconds)));
        assert_eq!(ages, ["0 s", "0 s", "119 s", "2 min", "2 h", "2 d"]);
    }

    #[test]
    fn times_have_no_fractions() {
        assert_eq!(
            render_time(Timestamp::new(1_766_000_000, 5).unwrap()),
            "2025-12-17T19:33:20Z"
        );
    }
}
