//! `plfm registry trust`.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;
use plfm_registry::keyring::{KeyringChange, KeyringChanged};
use plfm_release::{Channel, KeyEntry, KeyId, PublicKey};
use serde::Serialize;

use super::{Address, OnlineArgs, RootKeyArgs, block_on, refusal};
use crate::output::{Category, CliError, Output, render_fields};
use crate::release::keys::generate::{VALID_DAYS_MAX, whole_seconds};

/// Arguments of `plfm registry trust`.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// The key's public half, as `plfm release keys generate` makes it
    key: PathBuf,
    #[command(flatten)]
    address: Address,
    #[command(flatten)]
    online: OnlineArgs,
    #[command(flatten)]
    root_keys: RootKeyArgs,
    /// Channel that the key may sign for; may be given several times
    #[arg(long = "channel", value_name = "CHANNEL", required = true)]
    channels: Vec<Channel>,
    /// How long its signatures are taken
    #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(i64).range(1..=VALID_DAYS_MAX))]
    valid_days: i64,
}

/// What `plfm registry trust` prints.
#[derive(Debug, Serialize)]
struct TrustReport {
    #[serde(flatten)]
    entry: KeyEntry,
    #[serde(flatten)]
    keyring: KeyringChanged,
}

impl TrustArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let unusable = |why: String| {
            let message = format!("cannot use the key {}: {why}", self.key.display());
            CliError::new(Category::Failure, "key_unreadable", message)
        };
        let pem = fs::read_to_string(&self.key).map_err(|error| unusable(error.to_string()))?;
        let public = PublicKey::from_pem(&pem).map_err(|error| unusable(error.to_string()))?;
        let root_keys = self.root_keys.load()?;
        let signer = self.online.signer()?;
        let not_before = whole_seconds(signer.now);
        let not_after = not_before
            .checked_add(SignedDuration::from_hours(24 * self.valid_days))
            .map_err(|error| CliError::from_error(Category::Usage, "validity_out_of_range", &error))?;
        let entry = KeyEntry::new(public, self.channels, not_before, not_after);
        let change = KeyringChange::Trust(Box::new(entry.clone()));
        let keyring = block_on(async {
            let mut repository = self.address.open(Some(&self.online.keys)).await?;
            repository
                .change_keyring(change, &root_keys, &signer.signing())
                .await
                .map_err(refusal)
        })?;
        out.result(&TrustReport { entry, keyring }, render)
    }
}

fn render(report: &TrustReport) -> String {
    let id: KeyId = report.entry.key_id;
    let channels: Vec<_> = report.entry.channels.iter().map(ToString::to_string).collect();
    let undo: String = id.to_string().chars().take(16).collect();
    let fields = [
        ("channels", channels.join(", ")),
        (
            "valid",
            format!("{} to {}", report.entry.not_before, report.entry.not_after),
        ),
        (
            "keyring",
            format!(
                "version {}, was {}",
                report.keyring.version, report.keyring.version_before
            ),
        ),
        ("undo", format!("`plfm registry revoke {undo} --reason …`")),
    ];
    format!("key {id} may sign releases\n{}", render_fields(&fields))
}
