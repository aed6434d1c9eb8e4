//! The operator's command.
//!
//! ```text
//! release   build, verify, show, keys: files only       install, list, use: the local agent
//!           publish: a registry
//! registry  all of it: a registry
//! run, ps, logs, exec, stop, rm, instances, image       the local agent
//! admin     the fleet: its control plane
//! dev       all of it in this process, on loopback
//! ```

mod admin;
mod agent;
mod completions;
mod dev;
mod harmless;
mod host;
mod images;
mod instances;
mod key_file;
mod output;
mod problem;
mod registry;
mod release;
mod table;
mod times;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::agent::AgentClient;
use crate::output::{Category, CliError, Output};

/// Exit code of `run` and `exec` when it is this command that failed and not the program in the instance; what
/// container runtimes use.
const OWN_FAILURE: u8 = 125;

/// Heading of the options that every verb has.
const GLOBAL: &str = "Global options";

/// Builds, signs, installs and boots releases of plfm's guest kernel and init.
#[derive(Parser)]
#[command(name = "plfm", version)]
struct Cli {
    /// How the result is written
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value = "human")]
    output: Format,
    /// The local agent's socket
    #[arg(long, global = true, help_heading = GLOBAL, env = "PLFM_AGENT_SOCKET", default_value = plfm_api::AGENT_SOCKET_DEFAULT)]
    agent: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Text for people
    Human,
    /// One JSON document on standard output, nothing else; one per line from verbs that follow something
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Make releases and keys, look at them, and install them on this host
    #[command(subcommand)]
    Release(release::ReleaseCommand),
    /// Make and keep the registry that releases are published to
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Boot an instance and run a program in it
    Run(Box<instances::run::RunArgs>),
    /// List instances
    Ps(instances::ps::PsArgs),
    /// Show what an instance's program wrote
    Logs(instances::logs::LogsArgs),
    /// Run another program in an instance
    Exec(instances::exec::ExecArgs),
    /// End an instance's program, and the instance
    Stop(instances::stop::StopArgs),
    /// Forget an instance that is over
    Rm(instances::stop::RmArgs),
    /// Bring customers' images to this host and look at them
    #[command(subcommand)]
    Image(images::ImageCommand),
    /// Look into instances
    #[command(subcommand)]
    Instances(instances::InstancesCommand),
    /// Show what this host is and can do
    Host(host::HostArgs),
    /// Look after the fleet, through its control plane
    Admin(Box<admin::AdminArgs>),
    /// Run a whole fleet in one process, to work with
    #[command(subcommand)]
    Dev(dev::DevCommand),
    /// Print a shell's completions
    Completions(completions::CompletionsArgs),
    /// Write man pages
    Man(completions::ManArgs),
}

fn main() -> ExitCode {
    // An agent in this process (`dev up`) has it try KVM.
    if let Some(probed) = plfm_vmm::probe_if_asked() {
        return probed;
    }
    let cli = Cli::parse();
    let out = Output {
        json: matches!(cli.output, Format::Json),
        quiet: false,
    };
    let agent = AgentClient::new(cli.agent);
    let done = |result: Result<(), CliError>| match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => out.fail(&error),
    };
    // A program's own exit code passes through; ours must not look like one.
    let program = |result: Result<ExitCode, CliError>| {
        result.unwrap_or_else(|error| {
            out.fail(&error);
            ExitCode::from(OWN_FAILURE)
        })
    };
    match cli.command {
        Command::Release(command) => done(command.run(&out, &agent)),
        Command::Registry(command) => done(command.run(&out)),
        Command::Run(args) => program(args.run(&out, &agent)),
        Command::Exec(args) => program(args.run(&out, &agent)),
        Command::Ps(args) => done(args.run(&out, &agent)),
        Command::Logs(args) => done(args.run(&out, &agent)),
        Command::Stop(args) => done(args.run(&out, &agent)),
        Command::Rm(args) => done(args.run(&out, &agent)),
        Command::Image(command) => done(command.run(&out, &agent)),
        Command::Instances(command) => done(command.run(&out, &agent)),
        Command::Host(args) => args.run(&out, &agent).unwrap_or_else(|error| out.fail(&error)),
        Command::Admin(args) => done(args.run(&out)),
        Command::Dev(command) => done(command.run(&out)),
        Command::Completions(args) => done(args.run(&out, Cli::command())),
        Command::Man(args) => done(args.run(&out, Cli::command())),
    }
}

/// Runs a verb that works on files alone, as a part of another one: its result is not shown.
fn run_quietly(args: &[&str]) -> Result<(), CliError> {
    let internal = |error: clap::Error| CliError::from_error(Category::Internal, "verb_malformed", &error);
    let cli = Cli::try_parse_from(std::iter::once(&"plfm").chain(args)).map_err(internal)?;
    let out = Output {
        json: false,
        quiet: true,
    };
    match cli.command {
        Command::Release(command) => command.run(&out, &AgentClient::new(cli.agent)),
        Command::Registry(command) => command.run(&out),
        _ => Err(CliError::new(
            Category::Internal,
            "verb_unfit",
            "this verb is not one of files alone",
        )),
    }
}
