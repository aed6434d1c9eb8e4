//! QEMU's `microvm` machine with the vsock daemon beside it.
//!
//! ```text
//! <dir>/v.sock       the daemon's, see crate::vsock
//! <dir>/vhost.sock   the daemon's, QEMU connects to it
//! <dir>/qmp.sock     ours, QEMU connects to it and is controlled there
//! <dir>/console.log  stays
//!
//! daemon starts ─> daemon listens ─> QEMU starts ─> QEMU connects to qmp.sock ─> machine is made ─> guest runs
//! ```

mod command;
mod qmp;
mod vsock_daemon;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::accelerator::Accelerator;
use crate::backend::QemuPrograms;
use crate::config::VmConfig;
use crate::console::{Console, ConsoleLog};
use crate::process::{LAST_WORDS_MAX, Process};
use crate::start_error::StartError;
use crate::vsock::{VsockPath, remove_socket};
use vsock_daemon::NotReady;

pub use qmp::QmpError;

/// A running guest. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Machine {
    qemu: Process,
    vsock_daemon: Process,
    qmp: qmp::Qmp,
    pub(crate) console: Console,
    pub(crate) capture: JoinHandle<()>,
    _sockets: SocketFiles,
}

/// The sockets of a VM, removed when dropped. Last field of its owner, so that the processes go first.
#[derive(Debug)]
struct SocketFiles {
    uds: PathBuf,
    vhost: PathBuf,
    qmp: PathBuf,
}

impl SocketFiles {
    /// Makes room for the sockets.
    fn claim(dir: &Path, vsock: &VsockPath) -> Result<SocketFiles, StartError> {
        let files = SocketFiles {
            uds: vsock.uds().to_path_buf(),
            vhost: dir.join("vhost.sock"),
            qmp: dir.join("qmp.sock"),
        };
        for path in files.paths() {
            remove_socket(path).map_err(|source| StartError::Socket {
                path: path.to_path_buf(),
                source,
            })?;
        }
        Ok(files)
    }

    fn paths(&self) -> [&Path; 3] {
        [&self.uds, &self.vhost, &self.qmp]
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        for path in self.paths() {
            if let Err(error) = remove_socket(path) {
                tracing::warn!(socket = %path.display(), %error, "socket can't be removed");
            }
        }
    }
}

/// Starts the processes and lets the guest run. After an error nothing is left of them.
pub(crate) async fn launch(
    accelerator: Accelerator,
    programs: &QemuPrograms,
    config: &VmConfig,
    vsock: &VsockPath,
) -> Result<Machine, StartError> {
    let deadline = Instant::now() + config.start_timeout;
    let sockets = SocketFiles::claim(&config.dir, vsock)?;
    let log = config.dir.join("console.log");
    let log = ConsoleLog::create(log.clone(), config.console_bytes_max)
        .map_err(|source| StartError::ConsoleLog { path: log, source })?;
    let control = UnixListener::bind(&sockets.qmp).map_err(|source| StartError::Socket {
        path: sockets.qmp.clone(),
        source,
    })?;

    let mut daemon = vsock_daemon::spawn(&programs.vsock_daemon, vsock.uds(), &sockets.vhost)
        .map_err(|source| StartError::vsock_daemon_spawn(&programs.vsock_daemon, source))?;
    if let Err(not_ready) = vsock_daemon::ready(&mut daemon, &sockets.vhost, deadline).await {
        daemon.end().await;
        return Err(daemon_error(not_ready, &mut daemon).await);
    }

    let around = command::Surroundings {
        accelerator,
        vhost_socket: &sockets.vhost,
        qmp_socket: &sockets.qmp,
    };
    let args = command::render_args(config, &around);
    tracing::debug!(program = %programs.qemu.display(), ?args, "starting qemu");
    let mut qemu = match Process::spawn(&programs.qemu, &args, Stdio::piped()) {
        Ok(qemu) => qemu,
        Err(source) => {
            daemon.end().await;
            return Err(StartError::qemu_spawn(&programs.qemu, source));
        }
    };
    let console = Console::default();
    let capture = match qemu.take_stdout() {
        Some(stdout) => tokio::spawn(console.clone().capture(stdout, log)),
        None => tokio::spawn(async {}),
    };

    match run_guest(&mut qemu, &mut daemon, &control, deadline).await {
        Ok(qmp) => Ok(Machine {
            qemu,
            vsock_daemon: daemon,
            qmp,
            console,
            capture,
            _sockets: sockets,
        }),
        Err(not_running) => {
            qemu.end().await;
            daemon.end().await;
            Err(match not_running {
                NotRunning::Qemu(Ok(status)) => StartError::QemuFailed {
                    status,
                    stderr: qemu.stderr_tail().await,
                },
                NotRunning::Qemu(Err(source)) => StartError::Wait { source },
                NotRunning::Daemon(status) => daemon_error(NotReady::Exited(status), &mut daemon).await,
                NotRunning::Control(source) => StartError::Control {
                    source,
                    stderr: qemu.stderr_tail().await,
                },
                NotRunning::Timeout => StartError::QemuTimeout {
                    stderr: qemu.stderr_tail().await,
                },
            })
        }
    }
}

enum NotRunning {
    Qemu(io::Result<std::process::ExitStatus>),
    Daemon(io::Result<std::process::ExitStatus>),
    Control(QmpError),
    Timeout,
}

async fn run_guest(
    qemu: &mut Process,
    daemon: &mut Process,
    control: &UnixListener,
    deadline: Instant,
) -> Result<qmp::Qmp, NotRunning> {
    let handshake = async {
        let (stream, _) = control.accept().await.map_err(QmpError::Io)?;
        let mut qmp = qmp::Qmp::new(stream);
        qmp.run_guest().await?;
        Ok::<_, QmpError>(qmp)
    };
    let outcome = tokio::select! {
        status = qemu.wait() => return Err(NotRunning::Qemu(status)),
        status = daemon.wait() => return Err(NotRunning::Daemon(status)),
        outcome = timeout_at(deadline, handshake) => outcome,
    };
    match outcome {
        Ok(Ok(qmp)) => Ok(qmp),
        // A QEMU that fails closes the channel first; its exit and its words tell more than that.
        Ok(Err(QmpError::Io(error))) => match timeout(LAST_WORDS_MAX, qemu.wait()).await {
            Ok(status) => Err(NotRunning::Qemu(status)),
            Err(_) => Err(NotRunning::Control(QmpError::Io(error))),
        },
        Ok(Err(error)) => Err(NotRunning::Control(error)),
        Err(_) => Err(NotRunning::Timeout),
    }
}

async fn daemon_error(not_ready: NotReady, daemon: &mut Process) -> StartError {
    let stderr = daemon.stderr_tail().await;
    match not_ready {
        NotReady::Exited(Ok(status)) => StartError::VsockDaemonFailed { status, stderr },
        NotReady::Exited(Err(source)) => StartError::Wait { source },
        NotReady::Timeout => StartError::VsockDaemonTimeout { stderr },
    }
}
