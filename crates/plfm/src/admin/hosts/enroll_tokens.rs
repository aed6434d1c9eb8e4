//! `plfm admin hosts enroll-tokens`.

use clap::{Args, Subcommand};
use plfm_api::Items;
use plfm_api::control::{EnrollmentToken, Receipt, RevokeToken};
use reqwest::Method;

use crate::admin::Control;
use crate::admin::consent::Consent;
use crate::admin::receipt::finish;
use crate::output::CliError;
use crate::table::render_table;
use crate::times::render_time;

/// Verbs of `plfm admin hosts enroll-tokens`.
#[derive(Debug, Subcommand)]
pub enum EnrollTokensCommand {
    /// List them: who made them, which host used them
    List,
    /// Take one back: no host enrols with it any more
    Revoke(RevokeArgs),
}

/// Arguments of `plfm admin hosts enroll-tokens revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The token's id
    id: String,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

impl EnrollTokensCommand {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        match self {
            Self::List => list(control),
            Self::Revoke(args) => args.run(control),
        }
    }
}

fn list(control: &Control) -> Result<(), CliError> {
    let items: Vec<EnrollmentToken> =
        control.block_on(async |client| client.list(&["enrollment-tokens"], &[]).await)?;
    control.out.result(&Items { items }, |list| render(&list.items))
}

fn render(tokens: &[EnrollmentToken]) -> String {
    if tokens.is_empty() {
        return "no tokens; `plfm admin hosts enroll-token` makes one\n".to_owned();
    }
    let rows = tokens.iter().map(|token| {
        [
            token.id.clone(),
            token.state.as_str().to_owned(),
            token.host_name.clone().unwrap_or_else(|| "any".to_owned()),
            token.created_by.clone(),
            render_time(token.created_at),
            render_time(token.expires_at),
            token.host.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]
    });
    let header = ["TOKEN", "STATE", "FOR", "MADE BY", "MADE", "EXPIRES", "HOST"];
    render_table(header, rows)
}

impl RevokeArgs {
    fn run(self, control: &Control) -> Result<(), CliError> {
        self.consent.ask(&format!("take back the token {}", self.id))?;
        let request = RevokeToken { reason: self.reason };
        let path = ["enrollment-tokens", &self.id, "revoke"];
        let receipt: Receipt =
            control.block_on(async |client| client.change(Method::POST, &path, &request).await)?;
        finish(control, &receipt)
    }
}
