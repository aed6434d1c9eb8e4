//! `plfm admin rollout show`.

use clap::Args;
use jiff::Timestamp;

use super::find::Which;
use super::view::render;
use super::watch::{Teller, watch};
use crate::admin::Control;
use crate::output::CliError;

/// Arguments of `plfm admin rollout show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    which: Which,
    /// Go on showing it until it is over or waits for a person; as JSON, one document per line
    #[arg(long)]
    watch: bool,
}

impl ShowArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        control.block_on(async |client| {
            let detail = self.which.get(client).await?;
            if !self.watch {
                return control
                    .out
                    .result(&detail, |detail| render(detail, Timestamp::now()));
            }
            let id = detail.rollout.id;
            watch(control, client, &id, None, Teller::live(control.out)).await
        })
    }
}
