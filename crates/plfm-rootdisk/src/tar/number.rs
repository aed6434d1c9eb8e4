//! Numbers of tar headers: octal digits, base 256, and the decimals of PAX records.

use crate::tar::{Mtime, TarError};

/// A header's number field: octal digits amid blanks and NULs, or base 256 in two's complement (GNU, star).
pub(super) fn parse_field(field: &[u8], name: &'static str) -> Result<i64, TarError> {
    let error = TarError::Number { field: name };
    match field.first() {
        Some(first) if first & 0x80 != 0 => parse_base256(field).ok_or(error),
        _ => parse_octal(field).ok_or(error),
    }
}

/// A header's number that cannot be negative.
pub(super) fn parse_unsigned(field: &[u8], name: &'static str) -> Result<u64, TarError> {
    u64::try_from(parse_field(field, name)?).map_err(|_| TarError::Number { field: name })
}

fn parse_octal(field: &[u8]) -> Option<i64> {
    let is_blank = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !is_blank(b)).unwrap_or(field.len());
    let digits = field.get(start..)?;
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at_checked(end)?;
    if !rest.iter().all(is_blank) {
        return None;
    }
    digits.iter().try_fold(0i64, |value, b| match b {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(b - b'0')),
        _ => None,
    })
}

fn parse_base256(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    let is_negative = first & 0x40 != 0;
    let start = if is_negative {
        i64::from(*first) - 256
    } else {
        i64::from(first & 0x3f)
    };
    rest.iter().try_fold(start, |value, b| {
        value.checked_mul(256)?.checked_add(i64::from(*b))
    })
}

/// A whole number of a PAX record: ASCII digits.
pub(super) fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A time of a PAX record: `[-]seconds[.fraction]`. Digits past nanoseconds are cut, as everyone does.
pub(super) fn parse_time(text: &[u8]) -> Option<Mtime> {
    let (is_negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let (whole, fraction) = text.split_at_checked(point)?;
    let seconds = i64::try_from(parse_decimal(whole)?).ok()?;
    let nanoseconds = parse_fraction(fraction.strip_prefix(b".").unwrap_or(fraction))?;
    if !is_negative {
        return Some(Mtime { seconds, nanoseconds });
    }
    match nanoseconds {
        0 => Some(Mtime {
            seconds: -seconds,
            nanoseconds: 0,
        }),
        _ => Some(Mtime {
            seconds: (-seconds).checked_sub(1)?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        }),
    }
}

fn parse_fraction(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    Some(padded.fold(0, |value, b| value * 10 + u32::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_and_base_256_fields_are_read() {
        assert_eq!(parse_field(b"0000644\0", "mode").unwrap(), 0o644);
        assert_eq!(parse_field(b"  644 \0 ", "mode").unwrap(), 0o644);
        assert_eq!(parse_field(b"\0\0\0\0", "mode").unwrap(), 0);
        assert_eq!(parse_field(b"\x80\0\0\0\0\0\x01\0", "uid").unwrap(), 256);
        assert_eq!(parse_field(&[0xff; 12], "mtime").unwrap(), -1);
    }

    #[test]
    fn garbage_in_a_number_is_refused() {
        for bad in [&b"12x"[..], b"8", b"1 2", b"-1", &[0xbf; 12]] {
            assert!(parse_field(bad, "size").is_err(), "{bad:?} was taken");
        }
        assert!(parse_unsigned(&[0xff; 12], "size").is_err());
    }

    #[test]
    fn times_before_1970_round_down() {
        let time = |text: &str| parse_time(text.as_bytes()).map(|t| (t.seconds, t.nanoseconds));
        assert_eq!(time("1.5"), Some((1, 500_000_000)));
        assert_eq!(time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time("-3"), Some((-3, 0)));
        assert_eq!(time("7.1234567891"), Some((7, 123_456_789)));
        assert_eq!(time("x"), None);
        assert_eq!(time("99999999999999999999"), None);
    }
}
