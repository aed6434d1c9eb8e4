//! The secrets file: `# TRC_SECRETS_V1`, then `KEY=VALUE` lines.
//!
//! Checked before it is written, so that a workload never reads half of what it needs. No error quotes a value.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Largest file, in bytes.
pub const SECRETS_BYTES_MAX: usize = 256 * 1024;
const HEADER: &str = "# TRC_SECRETS_V1";
const KEYS_MAX: usize = 256;
const KEY_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 8 * 1024;
const DECODED_BYTES_MAX: usize = 64 * 1024;
const BASE64_PREFIX: &str = "base64:";

/// Why a secrets file was refused. Lines are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// Larger than [`SECRETS_BYTES_MAX`].
    #[error("the secrets file is larger than {SECRETS_BYTES_MAX} bytes")]
    TooLarge,
    /// Not UTF-8.
    #[error("the secrets file is not UTF-8")]
    NotUtf8,
    /// The first line that is not empty is not the header.
    #[error("the secrets file does not begin with {HEADER:?}")]
    NoHeader,
    /// A carriage return, or a NUL.
    #[error("line {0} of the secrets file holds a carriage return or a NUL")]
    ControlCharacter(usize),
    /// Not `KEY=VALUE` with a key of `[A-Z_][A-Z0-9_]*`, at most 128 bytes long.
    #[error("line {0} of the secrets file is not KEY=VALUE")]
    NotAnEntry(usize),
    /// The key was there before.
    #[error("line {0} of the secrets file repeats a key")]
    DuplicateKey(usize),
    /// The value is too long.
    #[error("the value on line {0} of the secrets file is too long")]
    ValueTooLong(usize),
    /// What follows `base64:` is not base64.
    #[error("the value on line {0} of the secrets file is not base64")]
    NotBase64(usize),
    /// More than 256 keys.
    #[error("the secrets file has more than {KEYS_MAX} keys")]
    TooManyKeys,
}

/// A secrets file that is well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsFile {
    keys: Vec<String>,
}

impl SecretsFile {
    /// Checks a secrets file.
    ///
    /// # Errors
    /// [`SecretsError`] with the first thing that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, SecretsError> {
        if bytes.len() > SECRETS_BYTES_MAX {
            return Err(SecretsError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| SecretsError::NotUtf8)?;
        let mut lines = text.split('\n').zip(1..).filter(|(line, _)| !line.is_empty());
        if lines.next().is_none_or(|(line, _)| line != HEADER) {
            return Err(SecretsError::NoHeader);
        }
        let mut seen = BTreeSet::new();
        let mut keys = Vec::new();
        for (line, number) in lines {
            if line.contains(['\r', '\0']) {
                return Err(SecretsError::ControlCharacter(number));
            }
            if line.starts_with('#') {
                continue;
            }
            let (key, value) = line.split_once('=').ok_or(SecretsError::NotAnEntry(number))?;
            if !is_key(key) {
                return Err(SecretsError::NotAnEntry(number));
            }
            if !seen.insert(key) {
                return Err(SecretsError::DuplicateKey(number));
            }
            check_value(value, number)?;
            keys.push(key.to_owned());
            if keys.len() > KEYS_MAX {
                return Err(SecretsError::TooManyKeys);
            }
        }
        Ok(Self { keys })
    }

    /// The keys, in the file's order. Values are for the workload alone.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }
}

fn is_key(key: &str) -> bool {
    key.len() <= KEY_BYTES_MAX
        && key
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_uppercase() || b == b'_')
        && key
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

fn check_value(value: &str, line: usize) -> Result<(), SecretsError> {
    let Some(encoded) = value.strip_prefix(BASE64_PREFIX) else {
        return if value.len() > VALUE_BYTES_MAX {
            Err(SecretsError::ValueTooLong(line))
        } else {
            Ok(())
        };
    };
    let decoded = BASE64
        .decode(encoded)
        .map_err(|_| SecretsError::NotBase64(line))?;
    if decoded.len() > DECODED_BYTES_MAX {
        Err(SecretsError::ValueTooLong(line))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Vec<String>, SecretsError> {
        SecretsFile::parse(text.as_bytes()).map(|file| file.keys)
    }

    #[test]
    fn comments_blank_lines_and_raw_values_are_taken() {
        let keys =
            parse("\n# TRC_SECRETS_V1\n# a comment\n\nA= spaces kept = x \n_B1=base64:aGk=\nC=\n").unwrap();
        assert_eq!(keys, ["A", "_B1", "C"]);
    }

    #[test]
    fn each_malformed_file_has_its_own_error() {
        let with = |line: &str| format!("# TRC_SECRETS_V1\n{line}\n");
        assert_eq!(parse("A=1\n"), Err(SecretsError::NoHeader));
        assert_eq!(parse(""), Err(SecretsError::NoHeader));
        assert_eq!(parse(&with("A=1\r")), Err(SecretsError::ControlCharacter(2)));
        assert_eq!(parse(&with("a=1")), Err(SecretsError::NotAnEntry(2)));
        assert_eq!(parse(&with("A")), Err(SecretsError::NotAnEntry(2)));
        assert_eq!(parse(&with("1A=x")), Err(SecretsError::NotAnEntry(2)));
        assert_eq!(parse(&with("A=1\nA=2")), Err(SecretsError::DuplicateKey(3)));
        assert_eq!(parse(&with("A=base64:***")), Err(SecretsError::NotBase64(2)));
        assert_eq!(
            parse(&with(&format!("A={}", "x".repeat(8_193)))),
            Err(SecretsError::ValueTooLong(2))
        );
        assert_eq!(
            parse(&with(&format!("A=base64:{}", "AAAA".repeat(21_846)))),
            Err(SecretsError::ValueTooLong(2))
        );
        let many: String = (0..257).map(|n| format!("K{n}=1\n")).collect();
        assert_eq!(parse(&with(&many)), Err(SecretsError::TooManyKeys));
        assert_eq!(
            SecretsFile::parse(&vec![b'x'; SECRETS_BYTES_MAX + 1]),
            Err(SecretsError::TooLarge)
        );
        assert_eq!(
            SecretsFile::parse(b"# TRC_SECRETS_V1\n\xff"),
            Err(SecretsError::NotUtf8)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_give_keys_or_an_error(bytes: Vec<u8>) {
            let _ = SecretsFile::parse(&bytes);
        }

        #[test]
        fn no_error_quotes_a_value(value in "[a-z]{12,20}", key in "[a-z]") {
            let text = format!("# TRC_SECRETS_V1\n{key}={value}\n");
            prop_assert!(!parse(&text).unwrap_err().to_string().contains(&value));
        }
    }
}
