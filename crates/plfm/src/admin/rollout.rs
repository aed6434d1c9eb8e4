//! `plfm admin rollout`: a release goes out in waves, and is taken back by itself if its boots fail.
//!
//! ```text
//! start ──> (show, --watch, --wait) ──> complete: 0
//!                  │                └─> rolled back, aborted, paused: 1
//!                  └── pause, resume, promote, abort: what a person may do meanwhile
//! ```

mod change;
mod find;
mod list;
mod plan;
mod plan_file;
mod screen;
mod show;
mod start;
pub mod state;
mod story;
mod view;
mod watch;

use clap::Subcommand;
use plfm_api::control::Rollout;

use super::Control;
use super::client::ControlClient;
use crate::output::CliError;

/// Verbs of `plfm admin rollout`.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Begin to roll a release out
    Start(Box<start::StartArgs>),
    /// Show how a rollout is and why, what its boots say and what happened to it
    Show(show::ShowArgs),
    /// List rollouts
    List,
    /// Hold a rollout where it is, until `resume`
    Pause(change::PauseArgs),
    /// Let a paused rollout go on
    Resume(change::ResumeArgs),
    /// End a rollout: new instances boot what they did before it
    Abort(change::AbortArgs),
    /// Skip what is left of the waves: every new instance boots the release
    Promote(change::PromoteArgs),
}

impl RolloutCommand {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        match self {
            Self::Start(args) => args.run(control),
            Self::Show(args) => args.run(control),
            Self::List => list::run(control),
            Self::Pause(args) => args.run(control),
            Self::Resume(args) => args.run(control),
            Self::Abort(args) => args.run(control),
            Self::Promote(args) => args.run(control),
        }
    }
}

/// The rollout that is under way, if one is.
pub async fn under_way(client: &ControlClient) -> Result<Option<Rollout>, CliError> {
    let current = find::current(client).await?;
    Ok(current
        .map(|detail| detail.rollout)
        .filter(|rollout| !state::is_over(rollout.stage)))
}
