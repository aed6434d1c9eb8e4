//! Shares of new instances on the command line: `5%`, `0.25%`.

use std::fmt;
use std::str::FromStr;

use plfm_api::control::WEIGHT_MAX;

/// A share, in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight(pub u16);

/// Not a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a share is 0% to 100% with the sign, and two digits after the point at most: 5%, 0.25%")]
pub struct WeightError;

impl FromStr for Weight {
    type Err = WeightError;

    fn from_str(text: &str) -> Result<Self, WeightError> {
        let number = text.strip_suffix('%').ok_or(WeightError)?;
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) => (whole, digits(fraction, 1..=2)?),
            None => (number, ""),
        };
        let whole: u16 = digits(whole, 1..=3)?.parse().map_err(|_| WeightError)?;
        let hundredths: u16 = format!("{fraction:0<2}").parse().map_err(|_| WeightError)?;
        match whole * 100 + hundredths {
            weight @ 0..=WEIGHT_MAX => Ok(Self(weight)),
            _ => Err(WeightError),
        }
    }
}

/// `text` if it is as many digits as that.
fn digits(text: &str, count: std::ops::RangeInclusive<usize>) -> Result<&str, WeightError> {
    match count.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(text),
        false => Err(WeightError),
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0 / 100, self.0 % 100);
        match hundredths {
            0 => write!(f, "{whole}%"),
            _ if hundredths % 10 == 0 => write!(f, "{whole}.{}%", hundredths / 10),
            _ => write!(f, "{whole}.{hundredths:02}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weight(text: &str) -> Option<u16> {
        text.parse::<Weight>().ok().map(|weight| weight.0)
    }

    #[test]
    fn shares_are_hundredths_of_a_percent() {
        let read = ["0%", "5%", "0.25%", "12.5%", "99.99%", "100%", "100.00%"].map(weight);
        assert_eq!(read, [0, 500, 25, 1_250, 9_999, 10_000, 10_000].map(Some));
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in [
            "", "%", "5", "100.01%", "-1%", "+1%", "1.234%", ".5%", "5.%", "1000%", "5%%", "5 %", "0.٣%",
        ] {
            assert_eq!(weight(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(weight in 0..=WEIGHT_MAX) {
            prop_assert_eq!(Weight(weight).to_string().parse(), Ok(Weight(weight)));
        }
    }
}
