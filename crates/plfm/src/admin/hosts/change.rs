//! `plfm admin hosts drain`, `undrain` and `revoke`.

use clap::Args;
use plfm_api::control::{HostChange, Receipt};
use reqwest::Method;

use super::find::find_host;
use crate::admin::Control;
use crate::admin::consent::Consent;
use crate::admin::receipt::finish;
use crate::output::CliError;

/// Arguments of `plfm admin hosts drain` and `undrain`.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// The host's id, or its name
    host: String,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
}

impl ChangeArgs {
    pub fn run(self, control: &Control, verb: &str) -> Result<(), CliError> {
        let request = HostChange { reason: self.reason };
        let receipt: Receipt = control.block_on(async |client| {
            let id = find_host(client, &self.host).await?;
            client
                .change(Method::POST, &["hosts", id.as_str(), verb], &request)
                .await
        })?;
        finish(control, &receipt)
    }
}

/// Arguments of `plfm admin hosts revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    consent: Consent,
}

impl RevokeArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let host = &self.change.host;
        self.consent
            .ask(&format!("take the certificate of {host} no more"))?;
        self.change.run(control, "revoke")
    }
}
