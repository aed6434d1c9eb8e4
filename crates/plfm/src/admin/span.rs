//! Spans of time on the command line: `90d`, `1h30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Longest that can be said: a century, so that no sum overflows.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;
/// The units, longest first.
const UNITS: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// A span of whole seconds, more than none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(u64);

/// Not a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a span is whole numbers with w, d, h, m or s, the longest first: 90d, 1h30m")]
pub struct SpanError;

impl Span {
    /// A span of so many seconds.
    pub fn from_seconds(seconds: u64) -> Option<Self> {
        (1..=SECONDS_MAX).contains(&seconds).then_some(Self(seconds))
    }

    /// The seconds.
    pub fn seconds(self) -> u64 {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Self::from_secs(span.0)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let mut rest = text;
        let mut seconds = 0u64;
        let mut units = UNITS.iter();
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| SpanError)?;
            // Each unit once, in order: what was passed is not found again.
            let (name, length) = units.find(|(name, _)| after.starts_with(name)).ok_or(SpanError)?;
            let part = number.checked_mul(*length).ok_or(SpanError)?;
            seconds = seconds.checked_add(part).ok_or(SpanError)?;
            rest = after.strip_prefix(name).unwrap_or_default();
        }
        Self::from_seconds(seconds).ok_or(SpanError)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        for (name, length) in UNITS {
            if rest >= length {
                write!(f, "{}{name}", rest / length)?;
            }
            rest %= length;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        text.parse::<Span>().ok().map(Span::seconds)
    }

    #[test]
    fn spans_are_sums_of_units() {
        assert_eq!(seconds("90d"), Some(7_776_000));
        assert_eq!(seconds("1h30m"), Some(5_400));
        assert_eq!(seconds("1w1s"), Some(604_801));
        assert_eq!(seconds("600s"), Some(600));
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in [
            "",
            "0s",
            "5",
            "h",
            "-1h",
            "1.5h",
            "1h1h",
            "1m1h",
            "1 h",
            "1y",
            "200000w",
            "1hx",
            "٣h",
            "99999999999999999999s",
            "30500568904943w",
        ] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(seconds in 1..=SECONDS_MAX) {
            prop_assert_eq!(Span(seconds).to_string().parse(), Ok(Span(seconds)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<Span>();
        }
    }
}
