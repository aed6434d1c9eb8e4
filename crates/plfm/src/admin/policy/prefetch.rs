//! `plfm admin policy prefetch`.

use clap::{Args, Subcommand};
use plfm_api::control::Policy;

use super::change::{change_policy, find_release};
use crate::admin::Control;
use crate::output::{Category, CliError};

/// Verbs of `plfm admin policy prefetch`.
#[derive(Debug, Subcommand)]
pub enum PrefetchCommand {
    /// Let hosts fetch a release
    Add(PrefetchArgs),
    /// Let hosts fetch it no more; those that have it keep it
    Remove(PrefetchArgs),
}

/// Arguments of both.
#[derive(Debug, Args)]
pub struct PrefetchArgs {
    /// The release's id, a label, or a build id that only one release has
    release: String,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
}

impl PrefetchCommand {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let (args, adds) = match self {
            Self::Add(args) => (args, true),
            Self::Remove(args) => (args, false),
        };
        control.block_on(async |client| {
            let release = find_release(client, &args.release).await?;
            let change = |policy: &mut Policy| {
                if adds {
                    policy.prefetch.insert(release.clone());
                } else if !policy.prefetch.remove(&release) {
                    let message = format!("{release} is not prefetched");
                    return Err(CliError::new(Category::NotFound, "not_prefetched", message)
                        .with_hint(Some("`plfm admin policy show` shows what is".to_owned())));
                }
                Ok(())
            };
            let opposite = if adds { "remove" } else { "add" };
            let undo = |_: &Policy| format!("plfm admin policy prefetch {opposite} {release}");
            change_policy(control, client, args.reason.clone(), change, undo).await
        })
    }
}
