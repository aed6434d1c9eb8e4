//! A fleet of simulated hosts against a real control plane, over TLS with a certificate for each host.
//!
//! ```text
//! this process     seed    a certificate authority, a log with N enrolled hosts, a certificate for each
//!                  start   `plfm-control serve` as --servers processes over one PostgreSQL, or as one on SQLite
//!                  start   this program again as --loaders processes, each with a part of the hosts
//! each loader      connects its hosts one after the other; each sends a heartbeat at once, then one each interval
//! this process     once all hosts are there: a span in which latencies count; then compares and asks
//! ```
//!
//! No process has more connections than it may have open files, which is why there are several.
//!
//! `cargo bench -p plfm-control --bench fleet -- --hosts 100000 --database postgres --seconds 600`

mod connection;
mod counted;
mod host;
mod lists;
mod loader;
mod measure;
mod most;
mod part;
mod push;
mod seed;
mod server;
mod shape;
mod spread;
mod summary;
mod usage;

#[path = "../../tests/it/support/postgres.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it is the tests', who need more of it and may fail"
)]
mod postgres;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Database {
    Sqlite,
    Postgres,
}

/// Loads a control plane as a fleet would.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// How many hosts there are
    #[arg(long, default_value_t = 1_000)]
    hosts: usize,
    /// How long latencies are measured, in seconds, once all hosts are connected
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// A heartbeat of each host comes every so many seconds
    #[arg(long, default_value_t = 60)]
    interval_seconds: u64,
    /// Of a hundred heartbeats, how many report a boot
    #[arg(long, default_value_t = 10)]
    news_percent: u64,
    /// The control plane's database
    #[arg(long, value_enum, default_value = "sqlite")]
    database: Database,
    /// Processes of the control plane: as many as the limit of open files asks for, unless told otherwise
    #[arg(long)]
    servers: Option<usize>,
    /// Processes that hosts are simulated in: the same
    #[arg(long)]
    loaders: Option<usize>,
    /// Handshakes a second of all hosts together, while they come
    #[arg(long, default_value_t = 450)]
    connects_per_second: u64,
    /// Measure how long a new default takes to be seen by all hosts, this many times, instead of heartbeats
    #[arg(long, default_value_t = 0)]
    push: usize,
    /// Find the most hosts whose heartbeats' P99 stays under 100 ms, up to --hosts, on SQLite
    #[arg(long)]
    most: bool,
    /// The `plfm` whose `admin kernels list` is timed; the one beside `plfm-control`, if it is there
    #[arg(long, value_name = "FILE")]
    plfm: Option<PathBuf>,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Simulate the hosts of this part: how this program runs itself
    #[arg(long, hide = true)]
    part: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_seconds.max(1))
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if !options.bench {
        // `cargo test --benches` only asks whether it starts.
        return Ok(());
    }
    if let Some(part) = &options.part {
        // One thread: the machine's others are for the servers, and there are other loaders.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        return runtime.block_on(part::run(part));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<()> {
    if options.most {
        let most = most::find(&options).await?;
        println!("{}", most.render());
        return keep(&options, &most);
    }
    let shape = shape::Shape::of(&options)?;
    println!("{}", shape.render());
    let figures = measure::measure(&options, &shape).await?;
    println!("{}", figures.render());
    keep(&options, &figures)?;
    figures.verdict()
}

fn keep(options: &Options, figures: &impl Serialize) -> anyhow::Result<()> {
    let Some(file) = &options.json else {
        return Ok(());
    };
    std::fs::write(file, serde_json::to_string_pretty(figures)? + "\n")
        .with_context(|| format!("cannot write {}", file.display()))
}
