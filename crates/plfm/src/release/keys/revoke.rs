//! `plfm release keys revoke`.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use plfm_release::{KeyEntry, KeyId, Keyring, Revocation};
use serde::Serialize;

use crate::output::{Category, CliError, Output, render_fields};
use crate::release::keyring_file;

/// Fewest digits of a key id that name a key: fewer could name another one by a slip.
const PREFIX_DIGITS_MIN: usize = 8;

/// Arguments of `plfm release keys revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The key's id, or its first digits (8 at least)
    key_id: String,
    /// The keyring
    #[arg(long, value_name = "FILE", env = "PLFM_KEYRING")]
    keyring: PathBuf,
    /// Why, for whoever meets the refusal
    #[arg(long)]
    reason: String,
}

/// What `plfm release keys revoke` prints.
#[derive(Debug, Serialize)]
struct RevokeReport {
    key_id: KeyId,
    revoked: Revocation,
    /// It was revoked before, which stays as it was.
    already: bool,
    valid_keys_left: usize,
}

impl RevokeArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let _lock = keyring_file::lock(&self.keyring)?;
        let mut keyring = keyring_file::load(&self.keyring)?;
        let entry = find(&keyring, &self.key_id)?;
        let key_id = entry.key_id;
        let report = |keyring: &Keyring, revoked: Revocation, already: bool| RevokeReport {
            key_id,
            revoked,
            already,
            valid_keys_left: keyring
                .keys()
                .iter()
                .filter(|entry| entry.revoked.is_none() && Timestamp::now() < entry.not_after)
                .count(),
        };
        if let Some(revoked) = entry.revoked.clone() {
            return out.result(&report(&keyring, revoked, true), render);
        }
        let revocation = Revocation {
            at: Timestamp::now(),
            reason: self.reason,
        };
        keyring
            .revoke(key_id, revocation.clone())
            .map_err(|error| CliError::from_error(Category::Internal, "key_unrevokable", &error))?;
        keyring_file::store(&self.keyring, &keyring)?;
        out.result(&report(&keyring, revocation, false), render)
    }
}

/// The one key whose id begins with `text`.
pub(crate) fn find<'a>(keyring: &'a Keyring, text: &str) -> Result<&'a KeyEntry, CliError> {
    if text.len() < PREFIX_DIGITS_MIN {
        let message = format!("{text:?} is too short for a key id: give {PREFIX_DIGITS_MIN} digits at least");
        return Err(CliError::new(Category::Usage, "key_id_too_short", message));
    }
    let mut matching = keyring
        .keys()
        .iter()
        .filter(|entry| entry.key_id.to_string().starts_with(text));
    match (matching.next(), matching.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => {
            let message = format!("{text:?} is the beginning of more than one key's id");
            Err(CliError::new(Category::Usage, "key_id_ambiguous", message))
        }
        (None, _) => {
            let message = format!("the keyring has no key {text:?}");
            let hint = "look at the ids with `plfm release keys list`".to_owned();
            Err(CliError::new(Category::NotFound, "no_such_key", message).with_hint(Some(hint)))
        }
    }
}

fn render(report: &RevokeReport) -> String {
    let verb = if report.already {
        "was revoked already"
    } else {
        "revoked"
    };
    let fields = [
        ("at", report.revoked.at.to_string()),
        ("reason", report.revoked.reason.clone()),
        ("keys left", format!("{} not revoked", report.valid_keys_left)),
        (
            "next",
            "bring the keyring to every host: until then they trust the key".to_owned(),
        ),
    ];
    format!("key {} {verb}\n{}", report.key_id, render_fields(&fields))
}
