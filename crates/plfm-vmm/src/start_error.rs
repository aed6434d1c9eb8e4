//! Why a VM did not start.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::config::ConfigError;
use crate::qemu::QmpError;

/// A VM did not start. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is not usable.
    #[error("vm configuration is not usable")]
    Config(#[from] ConfigError),
    /// QEMU vanished after it was found.
    #[error("{} is missing: install the Debian package qemu-system-x86", path.display())]
    QemuMissing {
        /// Where it was.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The vsock daemon vanished after it was found.
    #[error("{} is missing: cargo install vhost-device-vsock --version 0.3.0", path.display())]
    VsockDaemonMissing {
        /// Where it was.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program can't be started.
    #[error("can't start {}", path.display())]
    Spawn {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No `console.log`.
    #[error("can't make console log {}", path.display())]
    ConsoleLog {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A socket's name is taken, or the control socket can't be made.
    #[error("can't make socket {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The vsock daemon ended.
    #[error("vsock daemon ended with {status}{}", Words(stderr))]
    VsockDaemonFailed {
        /// How.
        status: ExitStatus,
        /// Its last words.
        stderr: String,
    },
    /// The vsock daemon did not listen in time.
    #[error("vsock daemon did not listen in time{}", Words(stderr))]
    VsockDaemonTimeout {
        /// Its last words.
        stderr: String,
    },
    /// QEMU ended before the guest ran.
    #[error("qemu ended with {status}{}", Words(stderr))]
    QemuFailed {
        /// How.
        status: ExitStatus,
        /// Its last words.
        stderr: String,
    },
    /// QEMU did not make the machine in time.
    #[error("qemu did not run the guest in time{}", Words(stderr))]
    QemuTimeout {
        /// Its last words.
        stderr: String,
    },
    /// QEMU can't be controlled.
    #[error("qemu can't be controlled{}", Words(stderr))]
    Control {
        /// Why.
        #[source]
        source: QmpError,
        /// Its last words.
        stderr: String,
    },
    /// A child can't be waited for.
    #[error("can't wait for a process of the vm")]
    Wait {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl StartError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            StartError::Config(error) => error.code(),
            StartError::QemuMissing { .. } => "qemu_missing",
            StartError::VsockDaemonMissing { .. } => "vsock_daemon_missing",
            StartError::Spawn { .. } => "spawn_failed",
            StartError::ConsoleLog { .. } => "console_log_failed",
            StartError::Socket { .. } => "socket_failed",
            StartError::VsockDaemonFailed { .. } => "vsock_daemon_failed",
            StartError::VsockDaemonTimeout { .. } => "vsock_daemon_timeout",
            StartError::QemuFailed { .. } => "qemu_failed",
            StartError::QemuTimeout { .. } => "qemu_timeout",
            StartError::Control { .. } => "qemu_control_failed",
            StartError::Wait { .. } => "wait_failed",
        }
    }

    pub(crate) fn qemu_spawn(path: &Path, source: io::Error) -> StartError {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => StartError::QemuMissing { path, source },
            _ => StartError::Spawn { path, source },
        }
    }

    pub(crate) fn vsock_daemon_spawn(path: &Path, source: io::Error) -> StartError {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => StartError::VsockDaemonMissing { path, source },
            _ => StartError::Spawn { path, source },
        }
    }
}

/// What a program said before it ended, if anything.
struct Words<'a>(&'a str);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.0)
        }
    }
}
