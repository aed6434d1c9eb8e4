//! `plfm registry rotate-root`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;
use plfm_registry::init::ROOT_KEYS_DEFAULT;
use plfm_registry::rotate::{NewRootKeys, Rotated};

use super::keys::{ROOT_KEYS_MAX, load_or_make_root_keys};
use super::{Address, OnlineArgs, RootKeyArgs, block_on, refusal};
use crate::output::{CliError, Output, render_fields};

/// Arguments of `plfm registry rotate-root`.
#[derive(Debug, Args)]
pub struct RotateRootArgs {
    #[command(flatten)]
    address: Address,
    #[command(flatten)]
    online: OnlineArgs,
    #[command(flatten)]
    root_keys: RootKeyArgs,
    /// Directory with the root keys that are to be; they are made where there are none [default: the keys stay]
    #[arg(long, value_name = "DIR")]
    new_root_keys: Option<PathBuf>,
    /// How many root keys are made
    #[arg(long, value_name = "N", default_value_t = ROOT_KEYS_DEFAULT, value_parser = clap::value_parser!(u64).range(1..=ROOT_KEYS_MAX))]
    root_key_count: u64,
    /// How many of the new root keys have to sign
    #[arg(long, value_name = "N", default_value = "2")]
    threshold: NonZeroU64,
}

impl RotateRootArgs {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let old = self.root_keys.load()?;
        let count = NonZeroU64::new(self.root_key_count).unwrap_or(NonZeroU64::MIN);
        let made = self
            .new_root_keys
            .as_ref()
            .map(|dir| load_or_make_root_keys(dir, count))
            .transpose()?;
        let new = made.as_ref().map(|keys| NewRootKeys {
            keys,
            threshold: self.threshold,
        });
        let signer = self.online.signer()?;
        let rotated = block_on(async {
            let mut repository = self.address.open(Some(&self.online.keys)).await?;
            repository
                .rotate_root(&old, new, &signer.signing())
                .await
                .map_err(refusal)
        })?;
        out.result(&rotated, render)
    }
}

fn render(rotated: &Rotated) -> String {
    let fields = [
        ("was", rotated.root_version_before.to_string()),
        ("expires", rotated.root_expires.to_string()),
        (
            "root keys",
            format!("{}, {} have to sign", rotated.keys.len(), rotated.threshold),
        ),
        (
            "hosts",
            "follow by themselves; give new ones any root since the first".to_owned(),
        ),
    ];
    format!(
        "root is version {}\n{}",
        rotated.root_version,
        render_fields(&fields)
    )
}
