//! `plfm admin kernels block` and `unblock`.

use clap::Args;
use plfm_api::control::{BlockRelease, Generation, Receipt, UnblockRelease};
use reqwest::Method;

use crate::admin::Control;
use crate::admin::receipt::finish;
use crate::output::CliError;

/// Arguments of `plfm admin kernels block`.
#[derive(Debug, Args)]
pub struct BlockArgs {
    /// The release's id, a label, or a build id that only one release has
    release: String,
    /// Why: whoever comes next wants to know
    #[arg(long)]
    reason: String,
    /// Only if the fleet is still at this generation
    #[arg(long, value_name = "N")]
    expect_generation: Option<u64>,
}

impl BlockArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let request = BlockRelease {
            release: self.release,
            reason: self.reason,
            expected_generation: self.expect_generation.map(Generation),
        };
        let path = ["kernels", "block"];
        let receipt: Receipt =
            control.block_on(async |client| client.change(Method::POST, &path, &request).await)?;
        finish(control, &receipt)
    }
}

/// Arguments of `plfm admin kernels unblock`.
#[derive(Debug, Args)]
pub struct UnblockArgs {
    /// The release's id, a label, or a build id that only one release has
    release: String,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
    /// Only if the fleet is still at this generation
    #[arg(long, value_name = "N")]
    expect_generation: Option<u64>,
}

impl UnblockArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let request = UnblockRelease {
            release: self.release,
            expected_generation: self.expect_generation.map(Generation),
            reason: self.reason,
        };
        let path = ["kernels", "unblock"];
        let receipt: Receipt =
            control.block_on(async |client| client.change(Method::POST, &path, &request).await)?;
        finish(control, &receipt)
    }
}
