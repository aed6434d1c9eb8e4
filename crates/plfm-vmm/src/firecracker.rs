//! Firecracker, in a jail unless that was given up by name.
//!
//! ```text
//! <dir>/console.log   stays
//! in the jail's root, see crate::jail, or without a jail in <dir>:
//!   api.sock          the VMM's, it is controlled there
//!   v.sock            the VMM's, see crate::vsock
//!   vmm.log           ours, a pipe
//!
//! files are opened ─> jail is furnished ─> jailer ─> VMM listens ─> it is told its machine ─> guest runs
//! ```

mod api;
mod calls;
mod disk;
mod kernel;
mod log;
mod room;
mod version;
mod vmm;

use std::path::PathBuf;
use std::process::ExitStatus;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::VmConfig;
use crate::console::{Console, ConsoleLog};
use crate::exit::{Ended, ExitCause};
use crate::jail::{Jail, JailError, Jailer};
use crate::process::LAST_WORDS_MAX;
use crate::start_error::StartError;
use crate::vsock::VsockPath;
use api::Api;
use calls::render_calls;
use log::VmmLog;
use room::Room;
use vmm::Vmm;
pub(crate) use vmm::VmmError;

pub use api::ApiError;
pub use disk::DiskError;
pub(crate) use disk::OpenDisk;
pub use version::{FirecrackerVersion, VersionError};

/// A Firecracker that was found on this host, and how it is run.
#[derive(Debug, Clone)]
pub struct Firecracker {
    /// The program. Its name has to have `firecracker` in it: the jailer wants that.
    pub program: PathBuf,
    /// Its version.
    pub version: FirecrackerVersion,
    /// What keeps a guest that breaks out of it from the host.
    pub isolation: Isolation,
}

/// What keeps a guest that breaks out of the VMM from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Isolation {
    /// Firecracker's jailer: own user, own root directory, own namespaces, limits.
    Jailed(Jailer),
    /// Nothing but seccomp. **A guest that breaks out of Firecracker is whoever started it, usually root, and has every
    /// file of the host before it.** For development, on a machine where that does not matter. Each start warns.
    DangerouslyWithoutJail,
}

impl Firecracker {
    /// The jail of the VM whose directory this is, if it is jailed. It may be written down before there is one: after a
    /// crash [`Jail::remove`] takes away what is left.
    pub fn jail(&self, dir: &std::path::Path) -> Result<Option<Jail>, JailError> {
        match &self.isolation {
            Isolation::Jailed(jailer) => jailer.jail(&self.program, dir).map(Some),
            Isolation::DangerouslyWithoutJail => Ok(None),
        }
    }
}

/// A running guest. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Machine {
    vmm: Vmm,
    log: VmmLog,
    pub(crate) console: Console,
    pub(crate) capture: JoinHandle<()>,
    /// Locks on disks that are written are held as long as the guest runs.
    disks: Vec<OpenDisk>,
    // Last, so that the process goes first.
    room: Room,
}

/// Starts the VMM and lets the guest run. After an error nothing is left of it.
pub(crate) async fn launch(
    firecracker: &Firecracker,
    config: &VmConfig,
    vsock: &VsockPath,
) -> Result<Machine, StartError> {
    let deadline = Instant::now() + config.start_timeout;
    config.check_firecracker()?;
    kernel::check_format(&config.kernel, firecracker.version)?;
    let disks = OpenDisk::open_all(&config.disks)?;
    let console_log = config.dir.join("console.log");
    let console_log =
        ConsoleLog::create(console_log.clone(), config.console_bytes_max).map_err(|source| {
            StartError::ConsoleLog {
                path: console_log,
                source,
            }
        })?;
    // From here on everything is made in the room, and goes with it.
    let room = Room::make(firecracker, config, vsock, &disks)?;
    let log = room.make_log()?;
    let (program, args) = room.render_command(firecracker, config);
    if firecracker.isolation == Isolation::DangerouslyWithoutJail {
        tracing::warn!(dir = %config.dir.display(), "a guest runs in a firecracker WITHOUT ITS JAIL: if it breaks out, it is on the host");
    }
    tracing::debug!(program = %program.display(), ?args, "starting firecracker");
    let mut child = Vmm::spawn(&program, &args, room.jail())?;
    let console = Console::default();
    let capture = match child.take_stdout() {
        Some(stdout) => tokio::spawn(console.clone().capture(stdout, console_log)),
        None => tokio::spawn(async {}),
    };
    let mut machine = Machine {
        vmm: child,
        log,
        console,
        capture,
        disks,
        room,
    };
    match run_guest(&mut machine, config, deadline).await {
        Ok(()) => Ok(machine),
        Err(not_running) => Err(machine.give_up(not_running).await),
    }
}

enum NotRunning {
    Vmm(VmmError),
    Ended(Option<ExitStatus>),
    Api(ApiError),
    Timeout,
}

async fn run_guest(machine: &mut Machine, config: &VmConfig, deadline: Instant) -> Result<(), NotRunning> {
    let settled = timeout_at(deadline, machine.vmm.settle()).await;
    settled
        .map_err(|_| NotRunning::Timeout)?
        .map_err(NotRunning::Vmm)?;
    let socket = machine.room.api_socket();
    let calls = render_calls(config, machine.room.seen());
    let talk = async {
        let mut api = timeout_at(deadline, Api::connect(&socket))
            .await
            .map_err(|_| NotRunning::Timeout)?
            .map_err(NotRunning::Api)?;
        for call in &calls {
            api.put(call, deadline).await.map_err(NotRunning::Api)?;
        }
        Ok(())
    };
    tokio::pin!(talk);
    let outcome = tokio::select! {
        biased;
        outcome = &mut talk => outcome,
        // A guest may be quicker than the answer that says it runs: what was answered last is still on its way to us.
        status = machine.vmm.wait() => match timeout(LAST_WORDS_MAX, &mut talk).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => return Err(NotRunning::Ended(status)),
        },
    };
    match outcome {
        // A VMM that fails closes the connection first; its exit and its words tell more than that.
        Err(NotRunning::Api(error @ ApiError::Broken { .. })) => {
            match timeout(LAST_WORDS_MAX, machine.vmm.wait()).await {
                Ok(status) => Err(NotRunning::Ended(status)),
                Err(_) => Err(NotRunning::Api(error)),
            }
        }
        outcome => outcome,
    }
}

impl Machine {
    /// The VMM's process.
    pub(crate) fn pid(&self) -> u32 {
        self.vmm.pid()
    }

    /// Waits for the end, or brings it about when `killed` has a message or is closed. Then nothing is left but the
    /// console's last bytes.
    pub(crate) async fn run(&mut self, killed: &mut tokio::sync::mpsc::Receiver<()>) -> Ended {
        let started = Instant::now();
        let (was_killed, status) = tokio::select! {
            status = self.vmm.wait() => (false, status),
            _ = killed.recv() => (true, self.vmm.end().await),
        };
        let ran_for = started.elapsed();
        self.log.drain();
        let is_clean = match status {
            Some(status) => status.success(),
            // The jailer's child is not ours to wait for, but it says in its log how it exits.
            None => self.log.exit_code() == Some(0),
        };
        let cause = match (was_killed, is_clean) {
            // A guest that was gone before the kill is not a killed one.
            (_, true) => ExitCause::GuestReset,
            (true, false) => ExitCause::Killed,
            (false, false) => ExitCause::VmmFailed,
        };
        let words = self.words().await;
        self.disks.clear();
        self.room.clear().await;
        Ended {
            cause,
            status,
            words,
            ran_for,
        }
    }

    async fn words(&mut self) -> String {
        let said = self.vmm.stderr_tail().await;
        [said, self.log.tail()]
            .iter()
            .filter(|words| !words.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    }

    async fn give_up(mut self, not_running: NotRunning) -> StartError {
        let status = self.vmm.end().await;
        self.log.drain();
        let words = self.words().await;
        // The console's writer is gone.
        if timeout(LAST_WORDS_MAX, &mut self.capture).await.is_err() {
            self.capture.abort();
        }
        self.disks.clear();
        self.room.clear().await;
        match not_running {
            NotRunning::Vmm(error) => StartError::jailer(error, words),
            NotRunning::Ended(ended) => StartError::FirecrackerFailed {
                status: ended.or(status),
                words,
            },
            NotRunning::Api(source) => StartError::FirecrackerApi { source, words },
            NotRunning::Timeout => StartError::FirecrackerTimeout { words },
        }
    }
}
