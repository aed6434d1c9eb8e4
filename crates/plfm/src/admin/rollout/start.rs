//! `plfm admin rollout start`.

use clap::Args;
use plfm_api::control::{Generation, Receipt, StartRollout};
use reqwest::Method;

use super::plan::PlanArgs;
use super::watch::FollowArgs;
use crate::admin::Control;
use crate::output::CliError;

/// Arguments of `plfm admin rollout start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// The release's id, a label, or a build id that only one release has
    release: String,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
    /// Only if the fleet is still at this generation
    #[arg(long, value_name = "N")]
    expect_generation: Option<u64>,
    /// Even if there are active hosts that could not run it
    #[arg(long)]
    despite_unable_hosts: bool,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    follow: FollowArgs,
}

impl StartArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let request = StartRollout {
            release: self.release,
            plan: self.plan.plan()?,
            expected_generation: self.expect_generation.map(Generation),
            despite_unable_hosts: self.despite_unable_hosts,
            reason: self.reason,
        };
        control.block_on(async |client| {
            let receipt: Receipt = client.change(Method::POST, &["rollouts"], &request).await?;
            self.follow.finish(control, client, &receipt).await
        })
    }
}
