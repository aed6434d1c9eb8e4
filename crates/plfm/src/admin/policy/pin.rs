//! `plfm admin policy pin` and `unpin`.

use clap::Args;
use plfm_api::control::Policy;

use super::change::{change_policy, find_release};
use crate::admin::Control;
use crate::admin::quote::quote;
use crate::output::{Category, CliError};

/// Arguments of `plfm admin policy pin`.
#[derive(Debug, Args)]
pub struct PinArgs {
    /// The instance's name or id
    instance: String,
    /// The release's id, a label, or a build id that only one release has
    release: String,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
}

impl PinArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        control.block_on(async |client| {
            let release = find_release(client, &self.release).await?;
            let change = |policy: &mut Policy| {
                policy.pins.insert(self.instance.clone(), release.clone());
                Ok(())
            };
            let undo = |before: &Policy| undo(before, &self.instance);
            change_policy(control, client, self.reason.clone(), change, undo).await
        })
    }
}

/// Arguments of `plfm admin policy unpin`.
#[derive(Debug, Args)]
pub struct UnpinArgs {
    /// The instance's name or id
    instance: String,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
}

impl UnpinArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        control.block_on(async |client| {
            let change = |policy: &mut Policy| match policy.pins.remove(&self.instance) {
                Some(_) => Ok(()),
                None => Err(no_such_pin(&self.instance)),
            };
            let undo = |before: &Policy| undo(before, &self.instance);
            change_policy(control, client, self.reason.clone(), change, undo).await
        })
    }
}

fn no_such_pin(instance: &str) -> CliError {
    let message = format!("{instance:?} is not pinned");
    CliError::new(Category::NotFound, "no_such_pin", message)
        .with_hint(Some("`plfm admin policy show` shows the pins".to_owned()))
}

fn undo(before: &Policy, instance: &str) -> String {
    match before.pins.get(instance) {
        Some(release) => format!("plfm admin policy pin {} {release}", quote(instance)),
        None => format!("plfm admin policy unpin {}", quote(instance)),
    }
}
