//! `plfm admin`: the fleet, through its control plane.
//!
//! ```text
//! context   which control plane, as whom: a file of this user's
//! kernels   what the fleet boots          hosts    where
//! rollout   how a new release gets there  policy   what is settled once
//! events    what happened                 fleet    how far it is
//! tokens    who may say so
//! ```

mod client;
mod config;
mod connection;
mod consent;
mod context;
mod events;
mod fleet;
mod hosts;
mod kernels;
mod policy;
mod quote;
mod receipt;
mod rollout;
mod secret_file;
mod send;
mod span;
mod tokens;
mod wait;
mod weight;
mod whoami;

use clap::{Args, Subcommand};

use self::client::ControlClient;
use self::connection::{Connection, Environment};
use crate::output::{CliError, Output};

/// What every verb has in common.
const COMMON: &str = "\
Contexts, with their tokens, are kept in $XDG_CONFIG_HOME/plfm/config.toml or ~/.config/plfm/config.toml, which must be
readable by its owner only. PLFM_CONTROL_URL, PLFM_CONTROL_CA (a file) and PLFM_CONTROL_TOKEN come before them.

Exit codes: 0 done, 1 it did not work, 2 the command line is wrong, 3 not allowed, 4 not there, 5 something is in the way,
6 it may work later, 7 a bug.";

/// Arguments of `plfm admin`.
#[derive(Debug, Args)]
#[command(after_long_help = COMMON)]
pub struct AdminArgs {
    /// Which control plane: a context by its name, instead of the current one
    #[arg(long, global = true, help_heading = crate::GLOBAL, env = "PLFM_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    #[command(subcommand)]
    command: AdminCommand,
}

/// Verbs of `plfm admin`.
#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Say which control plane, and as whom
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Look at releases in the fleet, and change what it boots
    #[command(subcommand)]
    Kernels(kernels::KernelsCommand),
    /// Roll a release out in waves, and see it taken back by itself if it fails
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Look at hosts, drain, enrol and revoke them
    #[command(subcommand)]
    Hosts(hosts::HostsCommand),
    /// Read the log of what happened
    Events(events::EventsArgs),
    /// Look at and change what is settled once: canary, pins, window
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Make and take back operators' tokens
    #[command(subcommand)]
    Tokens(tokens::TokensCommand),
    /// Show what the fleet is told, and how far it is
    Fleet,
    /// Show who this is to the control plane
    Whoami,
}

impl AdminArgs {
    /// Runs the verb.
    ///
    /// # Errors
    /// [`CliError`], to be given to [`Output::fail`].
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let control = Control {
            out,
            context: self.context,
        };
        match self.command {
            AdminCommand::Context(command) => command.run(out),
            AdminCommand::Kernels(command) => command.run(&control),
            AdminCommand::Rollout(command) => command.run(&control),
            AdminCommand::Hosts(command) => command.run(&control),
            AdminCommand::Events(args) => args.run(&control),
            AdminCommand::Policy(command) => command.run(&control),
            AdminCommand::Tokens(command) => command.run(&control),
            AdminCommand::Fleet => fleet::run(&control),
            AdminCommand::Whoami => whoami::run(&control),
        }
    }
}

/// What a verb needs: a way to the control plane, and somewhere to put its result.
struct Control<'a> {
    out: &'a Output,
    context: Option<String>,
}

impl Control<'_> {
    /// Which control plane, and as whom.
    fn connection(&self) -> Result<Connection, CliError> {
        Connection::find(self.context.as_deref(), &Environment::read())
    }

    /// Runs `work` with a client.
    fn block_on<T>(
        &self,
        work: impl AsyncFnOnce(&ControlClient) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        client::block_on(self.connection()?, work)
    }
}
