//! The time that a build pretends it is.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use plfm_release::BuildId;

/// `SOURCE_DATE_EPOCH`: whole seconds since 1970, in the 32 bits that a cpio archive has for them (so up to the
/// year 2106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u32);

/// A time that an archive can't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an epoch: whole seconds since 1970, at most {}", u32::MAX)]
pub struct EpochError {
    text: String,
}

impl Epoch {
    /// The epoch `seconds` after 1970.
    pub const fn from_seconds(seconds: u32) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> u32 {
        self.0
    }

    /// As a time.
    pub fn timestamp(self) -> Timestamp {
        // 32 bits of seconds are far inside the range that a timestamp has.
        Timestamp::from_second(i64::from(self.0)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The build id that goes with the epoch by default: its day in UTC and the letter of a day's first build.
    pub fn build_id(self) -> Option<BuildId> {
        format!("{}a", self.timestamp().strftime("%Y%m%d")).parse().ok()
    }
}

impl FromStr for Epoch {
    type Err = EpochError;

    fn from_str(text: &str) -> Result<Self, EpochError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = digits.then(|| text.parse().ok()).flatten();
        seconds.map(Self).ok_or_else(|| EpochError {
            text: text.chars().take(40).collect(),
        })
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_that_no_archive_holds_are_refused() {
        for bad in ["", "-1", "+1", "4294967296", "1.5", "now", " 1"] {
            assert!(bad.parse::<Epoch>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_day_gives_the_build_id() {
        assert_eq!(
            Epoch::from_seconds(1_766_016_000).build_id().unwrap().as_str(),
            "20251218a"
        );
        assert_eq!(
            Epoch::from_seconds(1_766_015_999).build_id().unwrap().as_str(),
            "20251217a"
        );
        assert_eq!(
            Epoch::from_seconds(u32::MAX).build_id().unwrap().as_str(),
            "21060207a"
        );
    }

    proptest! {
        #[test]
        fn epochs_round_trip(seconds: u32) {
            let epoch = Epoch::from_seconds(seconds);
            prop_assert_eq!(epoch.to_string().parse::<Epoch>().unwrap(), epoch);
            prop_assert_eq!(epoch.timestamp().as_second(), i64::from(seconds));
        }
    }
}
