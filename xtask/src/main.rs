//! Tasks of this repository: `cargo xtask <task>`.
//!
//! ```text
//! setup ──> lab (a signed release, root disks) ──> demo
//!                                              ──> test, compliance
//!                                              ──> bench
//! reproduce: the same release again, from another directory
//! fuzz: the guest protocol against bytes that nobody would send
//! ```
//!
//! Every task makes what it needs and may be run again at any time.

#![allow(clippy::indexing_slicing, reason = "of JSON, where what is absent is null")]

mod agent;
mod api_fuzz;
mod bench;
mod compliance;
mod debian;
mod demo;
mod fuzz;
mod lab;
mod monitoring;
mod packaging;
mod pypi;
mod reproduce;
mod s3;
mod setup;
mod shell;
mod software;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the other tasks need: Debian packages and the vsock daemon
    Setup,
    /// Build, sign, publish, fetch and boot a release, fetch a page from a web server in it, and stop it
    Demo {
        /// Write sizes and timings to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Give the instance no network: the page is then fetched over exec
        #[arg(long)]
        no_network: bool,
    },
    /// Run all tests, those in microVMs included
    Test {
        /// Passed on to the test runner
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Make images of real software from Debian's packages, as the tests run them
    Software,
    /// Show the guest contract in real microVMs: a table with a line for each clause
    Compliance,
    /// Roll bad releases out in real microVMs, which takes them back: some minutes, on a machine that does nothing else
    Rollouts,
    /// Measure
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Build the release's parts twice, in two directories, and compare
    Reproduce {
        /// The kernel too, which takes two whole kernel builds
        #[arg(long)]
        kernel: bool,
    },
    /// Fuzz the guest protocol: one target, or all (nightly toolchain and cargo-fuzz)
    Fuzz {
        /// The target; all of them, if none is named
        target: Option<String>,
        /// How long each target runs
        #[arg(long, value_name = "N", default_value_t = 600)]
        seconds: u64,
    },
    /// Fuzz the control plane's API, from its own OpenAPI document
    FuzzApi {
        /// How long
        #[arg(long, value_name = "N", default_value_t = 300)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Setup => setup::run(),
        Task::Demo { json, no_network } => demo::run(json.as_deref(), no_network),
        Task::Test { args } => test::run(&args),
        Task::Software => software::ensure().map(|dir| println!("{}", dir.display())),
        Task::Compliance => compliance::run_all(),
        Task::Rollouts => compliance::roll_out(),
        Task::Bench(bench) => bench.run(),
        Task::Reproduce { kernel } => reproduce::run(kernel),
        Task::FuzzApi { seconds } => api_fuzz::run_for(seconds),
        Task::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
    }
}
