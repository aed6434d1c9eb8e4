//! `plfm admin policy canary`.

use clap::Args;
use plfm_api::control::{Canary, Policy};

use super::change::{change_policy, find_release};
use crate::admin::Control;
use crate::admin::weight::Weight;
use crate::output::CliError;

/// Arguments of `plfm admin policy canary`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["release", "none"])))]
pub struct CanaryArgs {
    /// The release's id, a label, or a build id that only one release has
    #[arg(requires = "weight")]
    release: Option<String>,
    /// The share of new instances, such as 5%
    #[arg(long, value_name = "PERCENT", conflicts_with = "none")]
    weight: Option<Weight>,
    /// No canary
    #[arg(long)]
    none: bool,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
}

impl CanaryArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        control.block_on(async |client| {
            let canary = match (&self.release, self.weight) {
                (Some(release), Some(Weight(weight))) => Some(Canary {
                    release: find_release(client, release).await?,
                    weight,
                    cohort: None,
                }),
                _ => None,
            };
            let change = |policy: &mut Policy| {
                policy.canary.clone_from(&canary);
                Ok(())
            };
            change_policy(control, client, self.reason.clone(), change, undo).await
        })
    }
}

fn undo(before: &Policy) -> String {
    match &before.canary {
        Some(canary) => format!(
            "plfm admin policy canary {} --weight {}",
            canary.release,
            Weight(canary.weight)
        ),
        None => "plfm admin policy canary --none".to_owned(),
    }
}
