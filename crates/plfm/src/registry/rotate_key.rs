//! `plfm registry rotate-key`.

use std::fs;
use std::path::Path;

use clap::Args;
use plfm_registry::RoleName;
use plfm_registry::rotate::Rotated;

use super::keys::{load_or_make_key, role_file};
use super::{Address, OnlineArgs, RootKeyArgs, block_on, refusal};
use crate::key_file::{file_error, load_key};
use crate::output::{Category, CliError, Output, render_fields};

/// Digits of the old key's id in the name under which it is kept.
const KEPT_DIGITS: usize = 8;

/// Arguments of `plfm registry rotate-key`.
#[derive(Debug, Args)]
pub struct RotateKeyArgs {
    /// The role: targets, snapshot or timestamp
    role: RoleName,
    #[command(flatten)]
    address: Address,
    #[command(flatten)]
    online: OnlineArgs,
    #[command(flatten)]
    root_keys: RootKeyArgs,
}

impl RotateKeyArgs {
    /// Runs the verb. The new key is in a file of its own before anything names it, and becomes the role's key when
    /// the registry names no other: a rotation that was cut off is finished by the next call.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        if self.role == RoleName::Root {
            let message = "the root's own keys are replaced by another verb";
            return Err(CliError::new(Category::Usage, "wrong_verb", message)
                .with_hint(Some("use `plfm registry rotate-root`".to_owned())));
        }
        let root_keys = self.root_keys.load()?;
        let dir = &self.online.keys;
        let next = dir.join(format!("{}.next.key", self.role));
        let new = load_or_make_key(&next)?;
        let signer = self.online.signer()?;
        let old_keys = self.online.signer()?.keys;
        let rotated = block_on(async {
            let mut repository = self.address.open(Some(dir)).await?;
            repository
                .rotate_key(self.role, new, &root_keys, old_keys, &signer.signing())
                .await
                .map_err(refusal)
        })?;
        take_over(dir, self.role, &next)?;
        out.result(&rotated, render)
    }
}

/// Makes the new key's file that of the role; the old one is kept under another name.
fn take_over(dir: &Path, role: RoleName, next: &Path) -> Result<(), CliError> {
    let path = role_file(dir, role);
    let error = |error: std::io::Error| file_error(&path, &error);
    if let Some(old) = load_key(&path)? {
        let id: String = old
            .public_key()
            .id()
            .to_string()
            .chars()
            .take(KEPT_DIGITS)
            .collect();
        fs::rename(&path, dir.join(format!("{role}.{id}.old.key"))).map_err(error)?;
    }
    fs::rename(next, &path).map_err(error)
}

fn render(rotated: &Rotated) -> String {
    let keys: Vec<_> = rotated.keys.iter().map(ToString::to_string).collect();
    let fields = [
        ("key", keys.join(", ")),
        (
            "root",
            format!(
                "version {}, was {}",
                rotated.root_version, rotated.root_version_before
            ),
        ),
        (
            "next",
            "bring the key to wherever publishing or refreshing runs".to_owned(),
        ),
    ];
    format!("{} has a new key\n{}", rotated.role, render_fields(&fields))
}
