//! `plfm admin policy fetches`.

use clap::Args;
use plfm_api::control::Policy;

use super::change::change_policy;
use crate::admin::Control;
use crate::output::CliError;

/// Arguments of `plfm admin policy fetches`.
#[derive(Debug, Args)]
pub struct FetchesArgs {
    /// How many hosts may fetch at once; 0 for no bound
    count: u32,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
}

impl FetchesArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        control.block_on(async |client| {
            let change = |policy: &mut Policy| {
                policy.fetches_max = self.count;
                Ok(())
            };
            let undo = |before: &Policy| format!("plfm admin policy fetches {}", before.fetches_max);
            change_policy(control, client, self.reason.clone(), change, undo).await
        })
    }
}
