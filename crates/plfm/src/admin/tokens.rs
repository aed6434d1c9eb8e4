//! `plfm admin tokens`: who may say what the fleet boots.

mod create;

use clap::{Args, Subcommand};
use plfm_api::Items;
use plfm_api::control::{Receipt, RevokeToken, Token};
use reqwest::Method;

use super::Control;
use super::consent::Consent;
use super::receipt::finish;
use crate::output::CliError;
use crate::table::render_table;
use crate::times::render_time;

/// Verbs of `plfm admin tokens`.
#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// List them
    List,
    /// Make one
    Create(create::CreateArgs),
    /// Take one back: it works no more
    Revoke(RevokeArgs),
}

/// Arguments of `plfm admin tokens revoke`.
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

impl TokensCommand {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        match self {
            Self::List => list(control),
            Self::Create(args) => args.run(control),
            Self::Revoke(args) => args.run(control),
        }
    }
}

fn list(control: &Control) -> Result<(), CliError> {
    let items: Vec<Token> = control.block_on(async |client| client.list(&["tokens"], &[]).await)?;
    control.out.result(&Items { items }, |list| render(&list.items))
}

fn render(tokens: &[Token]) -> String {
    let rows = tokens.iter().map(|token| {
        [
            token.id.clone(),
            token.name.clone(),
            token.role.as_str().to_owned(),
            token.state.as_str().to_owned(),
            token.created_by.clone(),
            render_time(token.created_at),
            render_time(token.expires_at),
        ]
    });
    render_table(
        ["TOKEN", "NAME", "ROLE", "STATE", "MADE BY", "MADE", "EXPIRES"],
        rows,
    )
}

impl RevokeArgs {
    fn run(self, control: &Control) -> Result<(), CliError> {
        self.consent.ask(&format!("take back the token {}", self.id))?;
        let request = RevokeToken { reason: self.reason };
        let path = ["tokens", &self.id, "revoke"];
        let receipt: Receipt =
            control.block_on(async |client| client.change(Method::POST, &path, &request).await)?;
        finish(control, &receipt)
    }
}
