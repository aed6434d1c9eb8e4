//! `plfm admin kernels block` and `unblock`.

use clap::Args;
use plfm_api::control::{BlockRelease, Generation, KernelDetail, KernelState, Receipt, UnblockRelease};
use reqwest::Method;

use crate::admin::Control;
use crate::admin::consent::Consent;
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
    #[command(flatten)]
    consent: Consent,
}

impl BlockArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let receipt: Receipt = control.block_on(async |client| {
            let detail: KernelDetail = client.get(&["kernels", &self.release], &[]).await?;
            let kernel = detail.kernel;
            if kernel.state == KernelState::Default {
                self.consent.ask(&format!(
                    "{} is what new instances boot; block it all the same",
                    kernel.release
                ))?;
            }
            let request = BlockRelease {
                // What was asked about, whatever the abbreviation means by now.
                release: kernel.release.to_string(),
                reason: self.reason,
                expected_generation: self.expect_generation.map(Generation),
            };
            client.change(Method::POST, &["kernels", "block"], &request).await
        })?;
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
