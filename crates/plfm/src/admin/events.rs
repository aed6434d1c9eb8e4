//! `plfm admin events`: what happened, and by whom.

mod follow;
mod list;
mod render;

use clap::{Args, Subcommand};

use super::Control;
use crate::output::CliError;

/// Arguments of `plfm admin events`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct EventsArgs {
    /// Show what happens from now on, until interrupted; as JSON, one document per line
    #[arg(long, required = true)]
    follow: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(subcommand)]
    command: Option<EventsCommand>,
}

/// Verbs of `plfm admin events`.
#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// Show some of the log: the latest, unless told otherwise
    List(list::ListArgs),
}

/// Which events.
#[derive(Debug, Clone, Args)]
pub struct FilterArgs {
    /// Those after this position
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// Those about this: fleet, release/ID, host/ID, token/ID or enrollment-token/ID
    #[arg(long, value_name = "WHAT")]
    aggregate: Option<String>,
}

impl FilterArgs {
    /// As a query.
    fn query(&self, after: u64) -> Vec<(&'static str, String)> {
        let aggregate = self.aggregate.clone().map(|aggregate| ("aggregate", aggregate));
        [("after", after.to_string())]
            .into_iter()
            .chain(aggregate)
            .collect()
    }
}

impl EventsArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        match self.command {
            Some(EventsCommand::List(args)) => args.run(control),
            None => follow::run(control, &self.filter),
        }
    }
}
