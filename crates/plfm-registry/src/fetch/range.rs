//! The header `Content-Range` (RFC 9110, section 14.4), as far as an answer to our own request needs it.

use std::fmt;
use std::str::FromStr;

/// `bytes <first>-<last>/<complete length>`: which part of a file an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    first: u64,
    last: u64,
    complete: u64,
}

/// A text that is not a content range with a known complete length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a content range \"bytes <first>-<last>/<length>\"")]
pub struct ContentRangeError {
    text: String,
}

impl ContentRange {
    /// The bytes from `first` to the end of a file of `complete` bytes; none when there are no such bytes.
    pub fn rest_of(complete: u64, first: u64) -> Option<Self> {
        let last = complete.checked_sub(1)?;
        (first <= last).then_some(Self {
            first,
            last,
            complete,
        })
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}-{}/{}", self.first, self.last, self.complete)
    }
}

impl FromStr for ContentRange {
    type Err = ContentRangeError;

    fn from_str(text: &str) -> Result<Self, ContentRangeError> {
        let number = |text: &str| -> Option<u64> {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        let parse = || {
            let (range, complete) = text.strip_prefix("bytes ")?.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            let (first, last, complete) = (number(first)?, number(last)?, number(complete)?);
            (first <= last && last < complete).then_some(Self {
                first,
                last,
                complete,
            })
        };
        parse().ok_or_else(|| ContentRangeError {
            text: text.chars().take(80).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn impossible_and_foreign_ranges_are_refused() {
        for bad in [
            "",
            "bytes */10",
            "bytes 0-9/*",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes 0-9",
            "items 0-9/10",
            "bytes +0-9/10",
            "bytes 0-9/99999999999999999999",
            "bytes  0-9/10",
            "bytes 0-9/10 ",
        ] {
            assert!(bad.parse::<ContentRange>().is_err(), "{bad:?} was taken");
        }
        assert_eq!(ContentRange::rest_of(0, 0), None);
        assert_eq!(ContentRange::rest_of(10, 10), None);
    }

    proptest! {
        #[test]
        fn a_content_range_round_trips(complete in 1u64.., part: u64) {
            let range = ContentRange::rest_of(complete, part % complete).unwrap();
            prop_assert_eq!(range.to_string().parse::<ContentRange>().unwrap(), range);
        }

        #[test]
        fn any_text_is_a_content_range_or_an_error(text: String) {
            let _ = text.parse::<ContentRange>();
        }
    }
}
