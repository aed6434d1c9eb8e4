//! `plfm admin rollout pause`, `resume`, `abort` and `promote`.

use clap::Args;
use plfm_api::control::{ChangeRollout, Generation, Receipt};
use reqwest::Method;

use super::find::Which;
use super::state::render_state;
use crate::admin::Control;
use crate::admin::client::ControlClient;
use crate::admin::consent::Consent;
use crate::admin::receipt::finish;
use crate::output::CliError;

/// What every change has.
#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    which: Which,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
    /// Only if the fleet is still at this generation
    #[arg(long, value_name = "N")]
    expect_generation: Option<u64>,
}

impl Common {
    fn run(self, control: &Control, verb: &str, withdraw: bool) -> Result<(), CliError> {
        let receipt = control.block_on(async |client| {
            let id = self.which.id(client).await?;
            self.send(client, &id, verb, withdraw).await
        })?;
        finish(control, &receipt)
    }

    async fn send(
        &self,
        client: &ControlClient,
        id: &str,
        verb: &str,
        withdraw: bool,
    ) -> Result<Receipt, CliError> {
        let request = ChangeRollout {
            withdraw,
            expected_generation: self.expect_generation.map(Generation),
            reason: self.reason.clone(),
        };
        client
            .change(Method::POST, &["rollouts", id, verb], &request)
            .await
    }
}

/// Arguments of `plfm admin rollout pause`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    #[command(flatten)]
    common: Common,
    /// Take its share of new instances away meanwhile: they boot the default
    #[arg(long)]
    withdraw: bool,
}

impl PauseArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        self.common.run(control, "pause", self.withdraw)
    }
}

/// Arguments of `plfm admin rollout resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    common: Common,
}

impl ResumeArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        self.common.run(control, "resume", false)
    }
}

/// Arguments of `plfm admin rollout abort`. It goes back to what worked, in a hurry: nothing is asked.
#[derive(Debug, Args)]
pub struct AbortArgs {
    #[command(flatten)]
    common: Common,
}

impl AbortArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        self.common.run(control, "abort", false)
    }
}

/// Arguments of `plfm admin rollout promote`.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    consent: Consent,
}

impl PromoteArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        // Where nobody can be asked, nothing needs to be looked at.
        self.consent.check_askable("promote the rollout")?;
        let receipt = control.block_on(async |client| {
            let rollout = self.common.which.get(client).await?.rollout;
            let state = render_state(&rollout);
            let question = format!(
                "every new instance boots {} now, though its rollout is only at: {state}",
                rollout.release
            );
            self.consent.ask(&question)?;
            self.common.send(client, &rollout.id, "promote", false).await
        })?;
        finish(control, &receipt)
    }
}
