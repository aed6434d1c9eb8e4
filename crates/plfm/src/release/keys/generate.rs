//! `plfm release keys generate`.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use plfm_release::{Channel, KeyEntry, KeyId, Keyring};
use serde::Serialize;

use crate::key_file::{create, exists, file_error, random_key, store_key};
use crate::output::{Category, CliError, Output, render_fields};
use crate::release::keyring_file;

const PUBLIC_MODE: u32 = 0o644;
/// Longest validity that can be asked for: a key that is never replaced is never practised replacing.
pub(crate) const VALID_DAYS_MAX: i64 = 3650;

/// Arguments of `plfm release keys generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Directory for the key's files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the key's files: NAME.key, NAME.pub.pem, NAME.keyring.json
    #[arg(long, value_parser = parse_name)]
    name: String,
    /// Channel that the key may sign for; may be given several times
    #[arg(long = "channel", value_name = "CHANNEL", default_value = "staging")]
    channels: Vec<Channel>,
    /// How long its signatures are taken
    #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(i64).range(1..=VALID_DAYS_MAX))]
    valid_days: i64,
    /// Add the key to this keyring, instead of making NAME.keyring.json
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
}

/// What `plfm release keys generate` prints.
#[derive(Debug, Serialize)]
struct GenerateReport {
    key_id: KeyId,
    private_key: PathBuf,
    public_key: PathBuf,
    keyring: PathBuf,
    channels: Vec<Channel>,
    not_before: Timestamp,
    not_after: Timestamp,
}

fn parse_name(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('.') {
        Ok(text.to_owned())
    } else {
        Err("a name has letters, digits, '-', '_' and '.', and does not begin with '.'".to_owned())
    }
}

impl GenerateArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        fs::create_dir_all(&self.out).map_err(|error| file_error(&self.out, &error))?;
        let path = |suffix: &str| self.out.join(format!("{}{suffix}", self.name));
        let (private, public) = (path(".key"), path(".pub.pem"));
        let keyring_path = self.keyring.clone().unwrap_or_else(|| path(".keyring.json"));
        // A new keyring must not replace one: hosts may trust what is in it.
        let made_here = self.keyring.is_none().then_some(&keyring_path);
        if let Some(taken) = [&private, &public]
            .into_iter()
            .chain(made_here)
            .find(|path| path.exists())
        {
            return Err(exists(taken));
        }
        let _lock = keyring_file::lock(&keyring_path)?;
        let mut keyring = match &self.keyring {
            Some(path) if path.exists() => keyring_file::load(path)?,
            _ => Keyring::default(),
        };

        let key = random_key()?;
        let not_before = whole_seconds(Timestamp::now());
        let not_after = not_before
            .checked_add(SignedDuration::from_hours(24 * self.valid_days))
            .map_err(|error| CliError::from_error(Category::Usage, "validity_out_of_range", &error))?;
        let entry = KeyEntry::new(key.public_key(), self.channels.clone(), not_before, not_after);
        keyring
            .insert(entry)
            .map_err(|error| CliError::from_error(Category::Failure, "keyring_unchangeable", &error))?;
        store_key(&private, &key)?;
        create(&public, PUBLIC_MODE, key.public_key().to_pem().as_bytes())?;
        keyring_file::store(&keyring_path, &keyring)?;

        let report = GenerateReport {
            key_id: key.public_key().id(),
            private_key: private,
            public_key: public,
            keyring: keyring_path,
            channels: self.channels,
            not_before,
            not_after,
        };
        out.result(&report, render)
    }
}

pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn render(report: &GenerateReport) -> String {
    let channels = report
        .channels
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let fields = [
        (
            "private key",
            format!(
                "{} (mode 0600; keep it off the hosts)",
                report.private_key.display()
            ),
        ),
        ("public key", report.public_key.display().to_string()),
        ("keyring", report.keyring.display().to_string()),
        ("channels", channels),
        ("valid", format!("{} to {}", report.not_before, report.not_after)),
    ];
    format!("key {}\n{}", report.key_id, render_fields(&fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", ".hidden", "a b", "a\n"] {
            assert!(parse_name(bad).is_err(), "{bad:?} was taken");
        }
        assert_eq!(parse_name("platform-2026.1").unwrap(), "platform-2026.1");
    }

    #[test]
    fn two_keys_are_two() {
        assert_ne!(
            random_key().unwrap().public_key(),
            random_key().unwrap().public_key()
        );
    }
}
