//! The host daemon as a process: its arguments, its logs, its signals, and what systemd is told.

mod notify;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use plfm_agent::{Settings, SettingsError, Signals};
use tokio::signal::unix::{SignalKind, signal};
use tracing::error;

use crate::notify::Notifier;

/// Says what is wrong with the settings instead of starting an agent with them.
const CHECK_CONFIG: &str = "check-config";

fn main() -> ExitCode {
    if let Some(probed) = plfm_vmm::probe_if_asked() {
        return probed;
    }
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let checks_only = arguments.get(1).is_some_and(|first| first == CHECK_CONFIG);
    if checks_only {
        arguments.remove(1);
    }
    match plfm_agent::load_settings(&arguments) {
        Ok(settings) if checks_only => check_config(&settings),
        Ok(settings) => serve(settings),
        Err(SettingsError::Arguments(error)) => {
            // Help and version are no failures, and go to standard output.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {:#}", anyhow::Error::new(error));
            ExitCode::from(2)
        }
    }
}

fn check_config(settings: &Settings) -> ExitCode {
    let problems = plfm_agent::check_settings(settings);
    for problem in &problems {
        let _ = writeln!(std::io::stderr(), "error: {problem}");
    }
    if problems.is_empty() {
        let _ = writeln!(std::io::stdout(), "the configuration can be used");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn serve(settings: Settings) -> ExitCode {
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
        tokio::spawn(tell_systemd(signals.clone())),
    ];
    let ended = plfm_agent::run(settings, signals).await;
    background.iter().for_each(tokio::task::JoinHandle::abort);
    ended
}

/// From ready on, and through the end: stopping instances takes their grace periods, and that is no hang.
async fn tell_systemd(signals: Signals) {
    let notifier = Notifier::from_environment();
    signals.ready.cancelled().await;
    notifier.ready();
    let stopping = async {
        signals.shutdown.cancelled().await;
        notifier.stopping();
    };
    tokio::join!(stopping, notifier.clone().keep_alive());
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
