//! `plfm release`: making releases and keys, and looking at them. Nothing here talks to a daemon.

mod build;
mod keyring_file;
mod keys;
mod show;
mod verify;

use clap::Subcommand;

use crate::output::{CliError, Output};

/// Verbs of `plfm release`.
#[derive(Debug, Subcommand)]
pub enum ReleaseCommand {
    /// Build a kernel and an initramfs, and sign them as a release
    Build(Box<build::BuildArgs>),
    /// Verify a release: its signature, and every file against it
    Verify(verify::VerifyArgs),
    /// Show what a manifest says
    Show(show::ShowArgs),
    /// Manage signing keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
}

impl ReleaseCommand {
    /// Runs the verb.
    ///
    /// # Errors
    /// [`CliError`], to be given to [`Output::fail`].
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        match self {
            Self::Build(args) => args.run(out),
            Self::Verify(args) => args.run(out),
            Self::Show(args) => args.run(out),
            Self::Keys(command) => command.run(out),
        }
    }
}
