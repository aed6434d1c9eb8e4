//! The host daemon: verified releases in, microVMs out.
//!
//! ```text
//! server  ──>  agent  ──>  instance (one task each)  ──>  plfm-vmm
//!  HTTP          │ │            ├── plan      what to boot, from an installed release only
//!  over a        │ │            ├── prepare   directory, scratch disk, sockets, tap
//!  Unix          │ │            ├── conversation  with guest init
//!  socket        │ v            └── output    what the workload writes
//!                │ plfm-cache
//!                └──> control   what the control plane wants, and what it is told
//! ```
//!
//! Invariants: nothing boots but an installed release whose bytes were verified just now; one task owns an
//! instance's state; an exit is on disk before the instance counts as stopped; secrets and environment values are
//! in memory only.
//!
//! Several agents may run in one process, each with its own directories: there is no state but theirs. What belongs to
//! the process (its signals, its logs, [`forbid_core_files`]) is its caller's.

mod agent;
mod durable;
mod instance;
mod metrics;
mod network;
mod problem;
mod server;
mod settings;

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use crate::settings::{Settings, SettingsError, SettingsProblem, check_settings, load_settings};

/// What an agent is told while it runs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// Ends the agent: its instances are stopped first.
    pub shutdown: CancellationToken,
    /// Has it read its keyring again.
    pub reload: Arc<Notify>,
    /// Cancelled by the agent when its socket takes requests.
    pub ready: CancellationToken,
}

/// Secrets are in this process's memory and in its VMs', so neither it nor a program that it starts leaves a core file.
///
/// The limit is 1 byte, not 0: less than any core file has, and the one value at which the kernel does not start the
/// program of a `core_pattern` with a pipe either, for which it ignores the limit otherwise (`fs/coredump.c`).
/// `PR_SET_DUMPABLE` would do the same, but takes `/proc/<pid>/fd` away from a VMM that does not run as root, and that is
/// how it opens the verified images.
///
/// # Errors
/// What `setrlimit(2)` says.
pub fn forbid_core_files() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    Ok(setrlimit(Resource::Core, limit)?)
}

/// Runs an agent until it is told to end, and its instances have.
///
/// # Errors
/// What keeps it from starting or from serving its socket; for people, with its causes.
pub async fn run(settings: Settings, signals: Signals) -> anyhow::Result<()> {
    let agent = agent::Agent::start(settings).await?;
    let listener = server::listen(agent.settings())?;
    let mut background = tokio::task::JoinSet::new();
    if let Some(address) = agent.settings().metrics_listen {
        background.spawn(server::serve_metrics(address, agent.clone()).await?);
    }
    info!(socket = %agent.settings().socket().display(), "ready");
    signals.ready.cancel();
    background.spawn(reload_when_told(agent.clone(), signals.reload.clone()));
    background.spawn(agent.clone().follow_registry());
    background.spawn(agent.clone().scrub_now_and_then());
    background.spawn(agent.clone().follow_control());
    server::serve(listener, agent.clone(), signals.shutdown.cancelled_owned()).await?;
    background.shutdown().await;
    info!("stopping all instances");
    agent.stop_all().await;
    Ok(())
}

async fn reload_when_told(agent: agent::Agent, reload: Arc<Notify>) {
    loop {
        reload.notified().await;
        agent.reload_keyring();
    }
}
