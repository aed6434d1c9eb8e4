//! The control plane (binary `plfm-control`).

mod notify;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use plfm_control::settings::{DATA_DIR_DEFAULT, Given, Settings};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// What the fleet boots, who may say so, and how it goes.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Makes a certificate authority, a key, a database and the first admin's token, which is printed once.
    Init(Told),
    /// Runs the control plane.
    Serve(Told),
    /// Says what is wrong with the configuration, if anything is.
    CheckConfig(Told),
    /// Prints the API's document.
    Openapi,
    /// Prints the fleet as JSON, made anew from nothing but the log.
    Rebuild(Told),
    /// Raises the fleet's generation above that of all hosts, after the log was restored from a backup that is older than
    /// what they go by. The control plane may run meanwhile.
    RaiseGeneration {
        #[command(flatten)]
        told: Told,
        /// The new generation.
        #[arg(long, value_name = "GENERATION")]
        to: u64,
        /// Why, for the log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Copies a SQLite database, as it is at this moment, while the control plane runs.
    Backup {
        #[command(flatten)]
        told: Told,
        /// Where to; a file that is not there yet.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

#[derive(clap::Args)]
struct Told {
    /// The control plane's own directory.
    #[arg(long, value_name = "DIR", env = "PLFM_CONTROL_DATA_DIR", default_value = DATA_DIR_DEFAULT)]
    data_dir: PathBuf,
    /// The configuration; `control.toml` in the data directory unless given.
    #[arg(long, value_name = "FILE", env = "PLFM_CONTROL_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

impl Told {
    fn given(self) -> anyhow::Result<(PathBuf, Given)> {
        let file = Given::load(self.config.as_deref(), &self.data_dir)?;
        Ok((self.data_dir, self.given.or(file)))
    }

    fn settings(self) -> anyhow::Result<Settings> {
        let (data_dir, given) = self.given()?;
        Ok(given.check(&data_dir)?)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = forbid_core_files() {
        eprintln!("error: cannot forbid core files: {error}");
        return ExitCode::FAILURE;
    }
    match run(cli.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Openapi => {
            let text = plfm_control::server::openapi().to_pretty_json()?;
            print(&text)
        }
        Verb::CheckConfig(told) => {
            let settings = told.settings()?;
            if let Some(webhook) = &settings.webhook {
                plfm_control::control::Webhook::open(webhook)?;
            }
            print("the configuration can be used")
        }
        Verb::Init(told) => block_on(init(told)),
        Verb::Rebuild(told) => block_on(async {
            let settings = told.settings()?;
            let fleet = plfm_control::rebuild(&settings.database).await?;
            print(&serde_json::to_string_pretty(&fleet)?)
        }),
        Verb::RaiseGeneration { told, to, reason } => block_on(async {
            let settings = told.settings()?;
            let raised = plfm_control::raise_generation(&settings.database, to, reason).await?;
            print(&raised)
        }),
        Verb::Backup { told, to } => block_on(backup(told, to)),
        Verb::Serve(told) => block_on(serve(told)),
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")
}

async fn init(told: Told) -> anyhow::Result<()> {
    // A new control plane has no configuration yet: only one that was named counts.
    let file = match told.config.as_deref() {
        Some(named) => Given::load(Some(named), &told.data_dir)?,
        None => Given::default(),
    };
    let made = plfm_control::init(&told.data_dir, told.given.or(file), Timestamp::now()).await?;
    eprintln!("configuration: {}", made.config.display());
    eprintln!("clients are to trust: {}", made.ca_certificate.display());
    eprintln!(
        "the first admin's token, until {}; it is shown this once:",
        made.expires_at
    );
    print(&made.admin_token)
}

async fn backup(told: Told, to: PathBuf) -> anyhow::Result<()> {
    let settings = told.settings()?;
    let store = plfm_control::store::Store::open(&settings.database).await?;
    store.backup(&to).await.context("cannot copy the database")?;
    store.close().await;
    print(&format!(
        "copied to {}; keep ca.key and secret.key with it",
        to.display()
    ))
}

async fn serve(told: Told) -> anyhow::Result<()> {
    let settings = told.settings()?;
    start_log(settings.log_json);
    if let Err(error) = raise_file_limit() {
        warn!("cannot raise the limit of open files: {error}");
    }
    let shutdown = CancellationToken::new();
    let signals = tokio::spawn(cancel_on_signal(shutdown.clone()));
    let running = match plfm_control::serve(settings, shutdown.clone()).await {
        Ok(running) => running,
        Err(error) => {
            error!("{}", plfm_control::server::chain(&error));
            return Err(error.into());
        }
    };
    let reloads = tokio::spawn(reload_on_signal(Arc::clone(&running.reload)));
    let notifier = notify::Notifier::from_environment();
    notifier.ready();
    let watchdog = tokio::spawn(notifier.clone().keep_alive());
    shutdown.cancelled().await;
    notifier.stopping();
    running.ended().await;
    watchdog.abort();
    reloads.abort();
    signals.abort();
    Ok(())
}

fn start_log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PLFM_LOG").unwrap_or_else(|_| "info".into());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if json { logs.json().init() } else { logs.init() }
}

/// Keys and tokens are in this process's memory: it leaves no core file. 1 byte, not 0, is what keeps the kernel from
/// starting a program for it too.
fn forbid_core_files() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    Ok(setrlimit(Resource::Core, limit)?)
}

/// Each connection is an open file.
fn raise_file_limit() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// SIGHUP: whoever replaced the files of the certificate says so.
async fn reload_on_signal(reload: Arc<Notify>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangups) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangups.recv().await.is_some() {
        reload.notify_one();
    }
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    shutdown.cancel();
}
