//! `plfm dev`: a fleet in one process and one directory, on loopback.
//!
//! ```text
//! <dir>/                          0700
//!   keys/                         a key that signs releases, and the keyring that trusts it
//!   registry/files/               the registry, served
//!   registry/keys/, root-keys/    what it is signed with
//!   control/                      the control plane
//!   token                         the first admin's token, 0600
//!   agents/<n>/state/, run/       an agent
//!   env                           for a shell: how `plfm` finds all of it, 0600
//! ```
//!
//! What is there already is used again: stop it and start it, and the fleet is where it was.

mod files;
mod fleet;

use clap::Subcommand;

use crate::output::{CliError, Output};

/// A fleet on this machine.
#[derive(Debug, Subcommand)]
pub enum DevCommand {
    /// Run a registry, a control plane and agents, all in this process, until Ctrl-C
    Up(fleet::UpArgs),
}

impl DevCommand {
    /// Runs it.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        match self {
            Self::Up(args) => args.run(out),
        }
    }
}
