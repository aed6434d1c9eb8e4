//! `plfm admin kernels set-default`.

use clap::Args;
use plfm_api::control::{Generation, Receipt, SetDefault};
use reqwest::Method;

use crate::admin::Control;
use crate::admin::wait::WaitArgs;
use crate::output::CliError;

/// Arguments of `plfm admin kernels set-default`.
#[derive(Debug, Args)]
pub struct SetDefaultArgs {
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
    wait: WaitArgs,
}

impl SetDefaultArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let request = SetDefault {
            release: self.release,
            expected_generation: self.expect_generation.map(Generation),
            despite_unable_hosts: self.despite_unable_hosts,
            reason: self.reason,
        };
        control.block_on(async |client| {
            let receipt: Receipt = client
                .change(Method::POST, &["kernels", "set-default"], &request)
                .await?;
            self.wait.finish(control, client, &receipt).await
        })
    }
}
