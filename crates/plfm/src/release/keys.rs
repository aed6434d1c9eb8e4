//! `plfm release keys`: the keys that releases are signed with.

pub(crate) mod generate;
mod list;
pub(crate) mod revoke;

use clap::Subcommand;

use crate::output::{CliError, Output};

/// Verbs of `plfm release keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a signing key, and trust it in a keyring
    Generate(generate::GenerateArgs),
    /// List the keys of a keyring
    List(list::ListArgs),
    /// Revoke a key: nothing that it signed is taken any more
    Revoke(revoke::RevokeArgs),
}

impl KeysCommand {
    /// Runs the verb.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        match self {
            Self::Generate(args) => args.run(out),
            Self::List(args) => args.run(out),
            Self::Revoke(args) => args.run(out),
        }
    }
}
