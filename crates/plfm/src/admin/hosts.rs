//! `plfm admin hosts`: where releases boot.

mod change;
mod enroll_token;
mod enroll_tokens;
mod find;
mod list;
mod show;

use clap::Subcommand;

use super::Control;
use crate::output::CliError;

/// Verbs of `plfm admin hosts`.
#[derive(Debug, Subcommand)]
pub enum HostsCommand {
    /// List hosts
    List(list::ListArgs),
    /// Show all that is known about a host
    Show(show::ShowArgs),
    /// Let a host take no new instances
    Drain(change::ChangeArgs),
    /// Let a host take new instances again
    Undrain(change::ChangeArgs),
    /// Take a host's certificate no more: it has to enrol anew
    Revoke(change::RevokeArgs),
    /// Make a token that one host enrols with
    EnrollToken(enroll_token::EnrollTokenArgs),
    /// Look at and take back tokens that hosts enrol with
    #[command(subcommand)]
    EnrollTokens(enroll_tokens::EnrollTokensCommand),
}

impl HostsCommand {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        match self {
            Self::List(args) => args.run(control),
            Self::Show(args) => args.run(control),
            Self::Drain(args) => args.run(control, "drain"),
            Self::Undrain(args) => args.run(control, "undrain"),
            Self::Revoke(args) => args.run(control),
            Self::EnrollToken(args) => args.run(control),
            Self::EnrollTokens(command) => command.run(control),
        }
    }
}
