//! `plfm admin kernels rollback`.

use clap::Args;
use plfm_api::control::{Generation, Receipt, Rollback};
use reqwest::Method;

use crate::admin::Control;
use crate::admin::consent::Consent;
use crate::admin::wait::WaitArgs;
use crate::output::CliError;

/// Arguments of `plfm admin kernels rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// To which release, by its id, a label, or a build id that only one has; to the last known good one without it
    release: Option<String>,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
    /// Only if the fleet is still at this generation
    #[arg(long, value_name = "N")]
    expect_generation: Option<u64>,
    /// Even if there are active hosts that do not have it: they boot what they have until they fetched it
    #[arg(long)]
    despite_missing_hosts: bool,
    /// Even to a release that the fleet was taken back from before
    #[arg(long)]
    despite_earlier_rollback: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    wait: WaitArgs,
}

impl RollbackArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        // Without a name it goes to what worked before, in a hurry; a name may be the wrong one.
        if let Some(release) = &self.release {
            self.consent
                .ask(&format!("take the whole fleet back to {release}"))?;
        }
        let request = Rollback {
            to: self.release,
            expected_generation: self.expect_generation.map(Generation),
            despite_missing_hosts: self.despite_missing_hosts,
            despite_earlier_rollback: self.despite_earlier_rollback,
            reason: self.reason,
        };
        control.block_on(async |client| {
            let receipt: Receipt = client
                .change(Method::POST, &["kernels", "rollback"], &request)
                .await?;
            self.wait.finish(control, client, &receipt).await
        })
    }
}
