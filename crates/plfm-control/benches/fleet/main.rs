//! A fleet of simulated hosts against a real control plane, over TLS with a certificate for each host.
//!
//! ```text
//! seed    a certificate authority, a log with N enrolled hosts, a certificate for each
//! serve   the real `plfm-control serve`, a process of its own, on SQLite or on a PostgreSQL of this run's own
//! load    every host keeps its connection and sends a heartbeat each interval; some have news
//! count   afterwards: was every heartbeat answered, and is every boot that was reported counted once
//! push    with --push: every host holds a long poll; how long until all have seen a new default
//! ```
//!
//! `cargo bench -p plfm-control --bench fleet -- --hosts 100000 --database postgres`

mod connection;
mod load;
mod push;
mod seed;
mod server;
mod summary;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
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
    /// How long they report, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// A heartbeat of each host comes every so many seconds
    #[arg(long, default_value_t = 60)]
    interval_seconds: u64,
    /// Of a hundred heartbeats, how many report boots
    #[arg(long, default_value_t = 10)]
    news_percent: u64,
    /// The control plane's database
    #[arg(long, value_enum, default_value = "sqlite")]
    database: Database,
    /// Measure how long a new default takes to be seen by all hosts, this many times
    #[arg(long, default_value_t = 0)]
    push: usize,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
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
    raise_file_limit(options.hosts)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("plfm-fleet-").tempdir()?;
    let postgres = match options.database {
        Database::Postgres => Some(postgres::Postgres::start()),
        Database::Sqlite => None,
    };
    let database = match &postgres {
        Some(postgres) => postgres.database().await,
        None => format!("sqlite:{}", dir.path().join("control.sqlite").display()),
    };
    let fleet = seed::seed(dir.path(), &database, options.hosts).await?;
    let server = server::Server::start(dir.path(), &database).await?;
    let mut figures = summary::Figures::new(&options, server.started_ms);
    let hosts = connection::connect(&server, &fleet, &mut figures).await?;
    if options.push > 0 {
        push::measure(&server, &fleet, hosts, &options, &mut figures).await?;
    } else {
        load::measure(&server, &fleet, hosts, &options, &mut figures).await?;
    }
    figures.server_rss_bytes = server.rss_bytes();
    figures.server_cpu_ms = server.cpu_ms();
    server.stop().await?;
    println!("{}", figures.render());
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    figures.verdict()
}

/// Two descriptors for each host: its end of the connection here, and the server's there (limits are inherited).
fn raise_file_limit(hosts: usize) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = u64::try_from(hosts)? + 4_096;
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|current| current < wanted) {
        let limit = Rlimit {
            current: Some(wanted),
            maximum: now.maximum.map(|maximum| maximum.max(wanted)),
        };
        setrlimit(Resource::Nofile, limit)
            .with_context(|| format!("cannot open {wanted} files: raise `ulimit -n`, or be root"))?;
    }
    Ok(())
}
