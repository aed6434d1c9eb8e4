//! The secrets file: what is accepted obeys every limit, by a second reading that shares no code with the parser.

use std::collections::BTreeSet;

use plfm_guest_protocol::{SECRETS_BYTES_MAX, SecretsError, SecretsFile};

/// Parses `bytes` and, if they are taken, checks the limits again and that known damage is refused.
pub fn check(bytes: &[u8]) {
    let file = match SecretsFile::parse(bytes) {
        Ok(file) => file,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let text = std::str::from_utf8(bytes).expect("accepted, so UTF-8");
    assert!(bytes.len() <= SECRETS_BYTES_MAX);
    assert!(!text.contains(['\r', '\0']));
    let mut lines = text.lines().filter(|line| !line.is_empty());
    assert_eq!(lines.next(), Some("# TRC_SECRETS_V1"));
    let entries: Vec<(&str, &str)> = lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('=').expect("an entry"))
        .collect();
    let keys: Vec<&str> = entries.iter().map(|(key, _)| *key).collect();
    assert_eq!(file.keys(), keys);
    assert!(keys.len() <= 256);
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    for (key, value) in entries {
        check_entry(key, value);
    }
    if let Some(key) = keys.first() {
        assert_refused(text, &format!("{key}=again"), |error| {
            matches!(error, SecretsError::DuplicateKey(_))
        });
    }
    assert_refused(text, "NEW_KEY_=a\rb", |error| {
        matches!(error, SecretsError::ControlCharacter(_))
    });
    assert_refused(text, "lower=x", |error| {
        matches!(error, SecretsError::NotAnEntry(_))
    });
}

fn check_entry(key: &str, value: &str) {
    assert!((1..=128).contains(&key.len()), "a key of {} bytes", key.len());
    assert!(
        key.chars().all(|c| matches!(c, 'A'..='Z' | '_' | '0'..='9')),
        "{key}"
    );
    assert!(!key.starts_with(|c: char| c.is_ascii_digit()), "{key}");
    match value.strip_prefix("base64:") {
        // Four characters are at most three bytes.
        Some(encoded) => assert!(encoded.len() % 4 == 0 && encoded.len() / 4 * 3 <= 64 * 1024 + 2),
        None => assert!(value.len() <= 8 * 1024),
    }
}

fn assert_refused(text: &str, line: &str, expected: fn(&SecretsError) -> bool) {
    let damaged = format!("{text}\n{line}\n");
    if damaged.len() <= SECRETS_BYTES_MAX {
        let error = SecretsFile::parse(damaged.as_bytes()).expect_err("the damaged file was taken");
        assert!(expected(&error), "{line:?} gives {error:?}");
    }
}
