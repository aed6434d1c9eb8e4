//! `plfm release keys list`.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets};
use jiff::Timestamp;
use plfm_release::{KeyEntry, Revocation};
use serde::Serialize;

use crate::output::{CliError, Output};
use crate::release::keyring_file;

/// Arguments of `plfm release keys list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The keyring
    #[arg(long, value_name = "FILE", env = "PLFM_KEYRING")]
    keyring: PathBuf,
}

/// What `plfm release keys list` prints.
#[derive(Debug, Serialize)]
struct ListReport {
    keys: Vec<KeyReport>,
}

#[derive(Debug, Serialize)]
struct KeyReport {
    key_id: String,
    status: &'static str,
    channels: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
    revoked: Option<Revocation>,
}

impl ListArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let keyring = keyring_file::load(&self.keyring)?;
        let now = Timestamp::now();
        let keys = keyring
            .keys()
            .iter()
            .map(|entry| key_report(entry, now))
            .collect();
        out.result(&ListReport { keys }, render)
    }
}

fn key_report(entry: &KeyEntry, now: Timestamp) -> KeyReport {
    KeyReport {
        key_id: entry.key_id.to_string(),
        status: status(entry, now),
        channels: entry.channels.iter().map(ToString::to_string).collect(),
        not_before: entry.not_before,
        not_after: entry.not_after,
        revoked: entry.revoked.clone(),
    }
}

fn status(entry: &KeyEntry, now: Timestamp) -> &'static str {
    if entry.revoked.is_some() {
        "revoked"
    } else if now < entry.not_before {
        "not yet valid"
    } else if now >= entry.not_after {
        "expired"
    } else {
        "valid"
    }
}

fn render(report: &ListReport) -> String {
    if report.keys.is_empty() {
        return "no keys\n".to_owned();
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["KEY", "STATUS", "CHANNELS", "VALID FROM", "VALID TO"]);
    for key in &report.keys {
        let status = match &key.revoked {
            Some(revocation) => format!("revoked {}: {}", revocation.at, revocation.reason),
            None => key.status.to_owned(),
        };
        let (from, to) = (key.not_before.to_string(), key.not_after.to_string());
        table.add_row([key.key_id.clone(), status, key.channels.join(","), from, to]);
    }
    let lines = table.to_string();
    lines.lines().map(|line| format!("{}\n", line.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plfm_release::SigningKey;
    use zeroize::Zeroizing;

    #[test]
    fn a_key_has_one_status_at_each_moment() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let key = SigningKey::from_seed(&Zeroizing::new([1; 32])).public_key();
        let mut entry = KeyEntry::new(
            key,
            vec![],
            time("2025-01-01T00:00:00Z"),
            time("2026-01-01T00:00:00Z"),
        );
        assert_eq!(status(&entry, time("2024-12-31T23:59:59Z")), "not yet valid");
        assert_eq!(status(&entry, time("2025-01-01T00:00:00Z")), "valid");
        assert_eq!(status(&entry, time("2026-01-01T00:00:00Z")), "expired");
        entry.revoked = Some(Revocation {
            at: time("2025-06-01T00:00:00Z"),
            reason: "lost".to_owned(),
        });
        assert_eq!(status(&entry, time("2025-01-01T00:00:00Z")), "revoked");
        let table = render(&ListReport {
            keys: vec![key_report(&entry, time("2025-01-01T00:00:00Z"))],
        });
        assert!(table.contains("revoked 2025-06-01T00:00:00Z: lost"), "{table}");
    }
}
