//! The host daemon: verified releases in, microVMs out.
//!
//! ```text
//! server  ──>  agent  ──>  instance (one task each)  ──>  plfm-vmm
//!  HTTP          │              ├── plan      what to boot, from an installed release only
//!  over a        │              ├── prepare   directory, scratch disk, sockets, tap
//!  Unix          v              ├── conversation  with guest init
//!  socket     plfm-cache        └── output    what the workload writes
//! ```
//!
//! Invariants: nothing boots but an installed release whose bytes were verified just now; one task owns an
//! instance's state; an exit is on disk before the instance counts as stopped; secrets and environment values are
//! in memory only.

mod agent;
mod durable;
mod instance;
mod network;
mod problem;
mod server;
mod settings;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing::{error, info};

use crate::settings::Settings;

fn main() -> ExitCode {
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
    if let Err(error) = forbid_core_files() {
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

/// Secrets are in this process's memory and in its VMs', so neither it nor a program that it starts leaves a core file.
///
/// The limit is 1 byte, not 0: less than any core file has, and the one value at which the kernel does not start the
/// program of a `core_pattern` with a pipe either, for which it ignores the limit otherwise (`fs/coredump.c`).
/// `PR_SET_DUMPABLE` would do the same, but takes `/proc/<pid>/fd` away from a VMM that does not run as root, and that is
/// how it opens the verified images.
fn forbid_core_files() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    Ok(setrlimit(Resource::Core, limit)?)
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let agent = agent::Agent::start(settings).await?;
    let listener = server::listen(agent.settings())?;
    info!(socket = %agent.settings().socket().display(), "ready");
    let background = [
        tokio::spawn(reload_on_hangup(agent.clone())),
        tokio::spawn(agent.clone().follow_registry()),
        tokio::spawn(agent.clone().scrub_now_and_then()),
    ];
    server::serve(listener, agent.clone(), shutdown_signal()).await?;
    background.iter().for_each(tokio::task::JoinHandle::abort);
    info!("stopping all instances");
    agent.stop_all().await;
    Ok(())
}

/// SIGHUP: read the keyring again.
async fn reload_on_hangup(agent: agent::Agent) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangup.recv().await.is_some() {
        agent.reload_keyring();
    }
}

async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
