//! `plfm registry`: making and keeping the registry that releases are published to.

mod gc;
mod init;
mod keys;
mod list;
mod open;
mod refresh;
mod revoke;
mod rotate_key;
mod rotate_root;
mod serve;
mod trust;
mod yank;

use clap::Subcommand;

use crate::output::{CliError, Output};
pub(crate) use keys::{OnlineArgs, RootKeyArgs};
pub(crate) use open::{Address, block_on, refusal};

/// Verbs of `plfm registry`.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Make a registry and its keys
    Init(Box<init::InitArgs>),
    /// Show releases, keys and what expires when
    List(list::ListArgs),
    /// Sign metadata anew before it expires; for a cron job
    Refresh(refresh::RefreshArgs),
    /// Make a new root version: other root keys, or a later expiry
    RotateRoot(Box<rotate_root::RotateRootArgs>),
    /// Replace the key of targets, snapshot or timestamp
    RotateKey(rotate_key::RotateKeyArgs),
    /// Let a key sign releases
    Trust(trust::TrustArgs),
    /// Revoke a release key: no host takes anything that it signed
    Revoke(revoke::RevokeArgs),
    /// Take a release off the offer
    Yank(yank::YankArgs),
    /// Remove files that nothing leads to any more
    Gc(gc::GcArgs),
    /// Serve a registry's directory over HTTP
    Serve(serve::ServeArgs),
}

impl RegistryCommand {
    /// Runs the verb.
    ///
    /// # Errors
    /// [`CliError`], to be given to [`Output::fail`].
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        match self {
            Self::Init(args) => args.run(out),
            Self::List(args) => args.run(out),
            Self::Refresh(args) => args.run(out),
            Self::RotateRoot(args) => args.run(out),
            Self::RotateKey(args) => args.run(out),
            Self::Trust(args) => args.run(out),
            Self::Revoke(args) => args.run(out),
            Self::Yank(args) => args.run(out),
            Self::Gc(args) => args.run(out),
            Self::Serve(args) => args.run(out),
        }
    }
}
