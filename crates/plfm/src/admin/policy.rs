//! `plfm admin policy`: what is settled once.

pub mod render;

mod canary;
mod change;
mod fetches;
mod pin;
mod prefetch;
mod set;
mod show;
mod window;

use clap::Subcommand;

use super::Control;
use crate::output::CliError;

/// Verbs of `plfm admin policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show it
    Show,
    /// Replace all of it from a file
    Set(set::SetArgs),
    /// Let a share of new instances boot a release
    Canary(canary::CanaryArgs),
    /// Let one instance boot a particular release
    Pin(pin::PinArgs),
    /// Let an instance boot what others do again
    Unpin(pin::UnpinArgs),
    /// Bring releases to hosts before anything boots them
    #[command(subcommand)]
    Prefetch(prefetch::PrefetchCommand),
    /// Say when hosts may fetch releases
    Window(window::WindowArgs),
    /// Say how many hosts may fetch at once
    Fetches(fetches::FetchesArgs),
}

impl PolicyCommand {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        match self {
            Self::Show => show::run(control),
            Self::Set(args) => args.run(control),
            Self::Canary(args) => args.run(control),
            Self::Pin(args) => args.run(control),
            Self::Unpin(args) => args.run(control),
            Self::Prefetch(command) => command.run(control),
            Self::Window(args) => args.run(control),
            Self::Fetches(args) => args.run(control),
        }
    }
}
