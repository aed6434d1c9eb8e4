//! The operator's command.

mod output;
mod release;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

#[derive(Parser)]
#[command(name = "plfm", version, about = "The operator's command")]
struct Cli {
    /// How the result is written
    #[arg(long, global = true, value_enum, default_value = "human")]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Human,
    Json,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make releases and keys, and look at them
    #[command(subcommand)]
    Release(release::ReleaseCommand),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = output::Output {
        json: matches!(cli.output, Format::Json),
    };
    let result = match cli.command {
        Command::Release(command) => command.run(&out),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => out.fail(&error),
    }
}
