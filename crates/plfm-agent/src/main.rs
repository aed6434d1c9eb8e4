//! The host daemon as a process: its arguments, its logs, its signals.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use plfm_agent::{Settings, Signals};
use tokio::signal::unix::{SignalKind, signal};
use tracing::error;

fn main() -> ExitCode {
    if let Some(probed) = plfm_vmm::probe_if_asked() {
        return probed;
    }
    let settings = Settings::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("PLFM_LOG").unwrap_or_else(|_| "info".into());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let logs = logs.with_ansi(std::io::stderr().is_terminal());
    if settings.log_json {
        logs.json().init()
    } else {
        logs.init()
    }
    if let Err(error) = plfm_agent::forbid_core_files() {
        error!("cannot forbid core files: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let signals = Signals::default();
    let background = [
        tokio::spawn(reload_on_hangup(signals.clone())),
        tokio::spawn(end_when_told(signals.clone())),
    ];
    let ended = plfm_agent::run(settings, signals).await;
    background.iter().for_each(tokio::task::JoinHandle::abort);
    ended
}

/// SIGHUP: read the keyring again.
async fn reload_on_hangup(signals: Signals) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangup.recv().await.is_some() {
        signals.reload.notify_one();
    }
}

/// SIGTERM and SIGINT: end.
async fn end_when_told(signals: Signals) {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    signals.shutdown.cancel();
}
