//! `plfm registry revoke`.

use clap::Args;
use plfm_registry::keyring::{KeyringChange, KeyringChanged};
use plfm_release::{KeyId, Revocation};
use serde::Serialize;

use super::{Address, OnlineArgs, RootKeyArgs, block_on, refusal};
use crate::output::{CliError, Output, render_fields};
use crate::release::keys::revoke::find;

/// Arguments of `plfm registry revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The release key's id, or its first digits (8 at least)
    key_id: String,
    #[command(flatten)]
    address: Address,
    #[command(flatten)]
    online: OnlineArgs,
    #[command(flatten)]
    root_keys: RootKeyArgs,
    /// Why, for whoever meets the refusal
    #[arg(long)]
    reason: String,
}

/// What `plfm registry revoke` prints.
#[derive(Debug, Serialize)]
struct RevokeReport {
    key_id: KeyId,
    /// It was revoked before, which stays as it was.
    already: bool,
    /// Releases on offer that no host takes any more.
    releases: Vec<String>,
    #[serde(flatten)]
    keyring: KeyringChanged,
}

impl RevokeArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let root_keys = self.root_keys.load()?;
        let signer = self.online.signer()?;
        let report = block_on(async {
            let mut repository = self.address.open(Some(&self.online.keys)).await?;
            let keyring = repository.keyring().await.map_err(refusal)?.into_keyring();
            let entry = find(&keyring, &self.key_id)?;
            let revocation = Revocation {
                at: signer.now,
                reason: self.reason,
            };
            let change = KeyringChange::Revoke(entry.key_id, revocation);
            let changed = repository
                .change_keyring(change, &root_keys, &signer.signing())
                .await
                .map_err(refusal)?;
            let releases = repository.releases().into_iter();
            let releases = releases.filter(|release| release.key_id == entry.key_id);
            Ok(RevokeReport {
                key_id: entry.key_id,
                already: entry.revoked.is_some(),
                releases: releases.map(|release| release.id.to_string()).collect(),
                keyring: changed,
            })
        })?;
        out.result(&report, render)
    }
}

fn render(report: &RevokeReport) -> String {
    let verb = if report.already {
        "was revoked already"
    } else {
        "revoked"
    };
    let mut fields = vec![
        (
            "keyring",
            format!(
                "version {}, was {}",
                report.keyring.version, report.keyring.version_before
            ),
        ),
        ("keys left", format!("{} valid", report.keyring.valid_keys)),
        (
            "hosts",
            "refuse what it signed from their next look at the registry".to_owned(),
        ),
    ];
    if !report.releases.is_empty() {
        fields.push(("refused now", report.releases.join(", ")));
        fields.push(("next", "publish them anew, signed with another key".to_owned()));
    }
    format!("key {} {verb}\n{}", report.key_id, render_fields(&fields))
}
