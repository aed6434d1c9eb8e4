//! Whether the host's clock can be believed, as far as that can be told.

use std::time::Duration;

use jiff::Timestamp;

/// How far the clock may be behind the last committed update without an error: what a resumed host or a stepping NTP
/// client may show. Within it, expiry is judged by the later of the two times.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

/// A clock that is behind something that has certainly happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behind {
    /// A moment that has passed.
    pub(crate) passed: Timestamp,
}

/// The time to judge expiry by: time never runs backwards, so that a clock that is set back revives nothing.
pub(crate) fn judge(
    now: Timestamp,
    built_at: Timestamp,
    committed_at: Option<Timestamp>,
) -> Result<Timestamp, Behind> {
    let passed = committed_at.map_or(built_at, |committed_at| committed_at.max(built_at));
    if passed.duration_since(now) > tolerance() {
        return Err(Behind { passed });
    }
    Ok(now.max(passed))
}

/// Whether the host's clock, not the metadata, may be what is wrong: the server that sent it says that it is much
/// earlier, and the metadata was good then.
pub(crate) fn is_suspect(now: Timestamp, expired_at: Timestamp, server_says: Option<Timestamp>) -> bool {
    server_says.is_some_and(|server| server < expired_at && now.duration_since(server) > tolerance())
}

fn tolerance() -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(CLOCK_TOLERANCE).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_clock_a_little_behind_is_judged_by_what_has_passed() {
        let (built, committed) = (time("2026-01-01T00:00:00Z"), time("2026-02-01T12:00:00Z"));
        assert_eq!(
            judge(time("2026-02-01T11:30:00Z"), built, Some(committed)),
            Ok(committed)
        );
        let later = time("2026-02-01T13:00:00Z");
        assert_eq!(judge(later, built, Some(committed)), Ok(later));
    }

    #[test]
    fn a_clock_before_the_build_or_the_last_update_is_behind() {
        let (built, committed) = (time("2026-01-01T00:00:00Z"), time("2026-02-01T12:00:00Z"));
        let behind = Err(Behind { passed: committed });
        assert_eq!(
            judge(time("2026-02-01T10:59:59Z"), built, Some(committed)),
            behind
        );
        assert_eq!(
            judge(time("1970-01-01T00:00:00Z"), built, None),
            Err(Behind { passed: built })
        );
    }

    #[test]
    fn a_clock_is_suspect_only_if_the_server_is_earlier_and_the_metadata_was_good_then() {
        let (now, expired) = (time("2027-02-01T00:00:00Z"), time("2026-02-08T00:00:00Z"));
        assert!(is_suspect(now, expired, Some(time("2026-02-01T00:00:00Z"))));
        assert!(!is_suspect(now, expired, Some(time("2026-03-01T00:00:00Z"))));
        assert!(!is_suspect(now, expired, None));
        assert!(!is_suspect(
            time("2026-02-08T00:30:00Z"),
            expired,
            Some(time("2026-02-07T23:59:00Z"))
        ));
    }
}
