//! `plfm release`: making releases and keys, looking at them, and having them on this host. Building,
//! verifying, showing and keys need no agent.

mod build;
mod fetch;
mod install;
pub(crate) mod keyring_file;
pub(crate) mod keys;
mod publish;
mod retention;
mod show;
mod verify;

use clap::Subcommand;

use crate::agent::AgentClient;
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
    /// Publish a release to a registry
    Publish(publish::PublishArgs),
    /// Install a release on this host; the agent verifies it with its own keyring
    Install(install::InstallArgs),
    /// List what the registry has, asking it anew
    Available,
    /// Fetch a release from the registry and install it
    Fetch(fetch::FetchArgs),
    /// List the releases on this host
    List,
    /// Keep a release on this host whatever its age
    Pin(retention::PinArgs),
    /// Keep a release no longer than others
    Unpin(retention::PinArgs),
    /// Remove the releases that nothing keeps
    Gc,
    /// Make an installed release the current one
    Use(install::UseArgs),
    /// Manage signing keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
}

impl ReleaseCommand {
    /// Runs the verb.
    ///
    /// # Errors
    /// [`CliError`], to be given to [`Output::fail`].
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        match self {
            Self::Build(args) => args.run(out),
            Self::Verify(args) => args.run(out),
            Self::Show(args) => args.run(out),
            Self::Publish(args) => args.run(out),
            Self::Install(args) => args.run(out, agent),
            Self::Available => fetch::available(out, agent),
            Self::Fetch(args) => args.run(out, agent),
            Self::List => install::list(out, agent),
            Self::Pin(args) => args.run(out, agent, true),
            Self::Unpin(args) => args.run(out, agent, false),
            Self::Gc => retention::collect(out, agent),
            Self::Use(args) => args.run(out, agent),
            Self::Keys(command) => command.run(out),
        }
    }
}
