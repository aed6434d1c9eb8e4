//! `plfm admin kernels`: what the fleet boots.

mod block;
mod list;
mod rollback;
mod set_default;
mod show;
mod state;

use clap::Subcommand;

use super::Control;
use crate::output::CliError;

/// Verbs of `plfm admin kernels`.
#[derive(Debug, Subcommand)]
pub enum KernelsCommand {
    /// List releases: where they are, how their boots go, what they are to the fleet
    List,
    /// Show all that is known about a release
    Show(show::ShowArgs),
    /// Make a release what new instances boot
    SetDefault(set_default::SetDefaultArgs),
    /// Take the fleet back to the last known good release, or to a named one
    Rollback(rollback::RollbackArgs),
    /// Keep new instances from a release
    Block(block::BlockArgs),
    /// Allow a release again
    Unblock(block::UnblockArgs),
}

impl KernelsCommand {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        match self {
            Self::List => list::run(control),
            Self::Show(args) => args.run(control),
            Self::SetDefault(args) => args.run(control),
            Self::Rollback(args) => args.run(control),
            Self::Block(args) => args.run(control),
            Self::Unblock(args) => args.run(control),
        }
    }
}
