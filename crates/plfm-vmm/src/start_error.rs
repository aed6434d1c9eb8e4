//! Why a VM did not start.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::config::ConfigError;
use crate::firecracker::{ApiError, DiskError, FirecrackerVersion, VmmError};
use crate::jail::JailError;
use crate::qemu::QmpError;
use crate::tap::TapError;
use crate::vsock::SocketPathTooLong;

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
    /// A disk is not usable.
    #[error("a disk of the vm is not usable")]
    Disk(#[from] DiskError),
    /// Firecracker does not boot such a kernel.
    #[error("the kernel is {found}, which firecracker {version} does not boot: it takes an ELF vmlinux")]
    KernelFormat {
        /// What it is.
        found: &'static str,
        /// The Firecracker.
        version: FirecrackerVersion,
    },
    /// The sockets would not fit, or the directory's name is no id.
    #[error(
        "the jail's path is too long for its sockets: have jails made in a directory with a shorter path"
    )]
    JailPath(#[from] SocketPathTooLong),
    /// No jail.
    #[error("the vm's jail can't be made")]
    Jail(#[from] JailError),
    /// The tap device can't be given to the jail's user.
    #[error("the tap device can't be given to the jail's user")]
    Tap(#[from] TapError),
    /// No pipe for the VMM's log.
    #[error("can't make pipe {}", path.display())]
    VmmLog {
        /// The pipe.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Firecracker or its jailer vanished after it was found.
    #[error("{} is missing: install Firecracker and its jailer, versions 1.7 to 1.17", path.display())]
    FirecrackerMissing {
        /// Where it was.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The jailer left no VMM behind.
    #[error("{why}{}", Words(words))]
    Jailer {
        /// What happened.
        why: String,
        /// Its last words.
        words: String,
    },
    /// Firecracker ended before the guest ran.
    #[error("firecracker ended {}{}", Status(status), Words(words))]
    FirecrackerFailed {
        /// How, if it was our child.
        status: Option<ExitStatus>,
        /// Its last words.
        words: String,
    },
    /// Firecracker refused its machine, or could not be told.
    #[error("firecracker can't be told its machine")]
    FirecrackerApi {
        /// Why.
        #[source]
        source: ApiError,
        /// Its last words.
        words: String,
    },
    /// Firecracker, or its jailer, did not come so far in time.
    #[error("firecracker did not run the guest in time{}", Words(words))]
    FirecrackerTimeout {
        /// Its last words.
        words: String,
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
            StartError::Disk(error) => error.code(),
            StartError::KernelFormat { .. } => "kernel_format_unsupported",
            StartError::JailPath(_) => "jail_path_too_long",
            StartError::Jail(error) => error.code(),
            StartError::Tap(error) => error.code(),
            StartError::VmmLog { .. } => "vmm_log_failed",
            StartError::FirecrackerMissing { .. } => "firecracker_missing",
            StartError::Jailer { .. } => "jailer_failed",
            StartError::FirecrackerFailed { .. } => "firecracker_failed",
            StartError::FirecrackerApi { source, .. } => source.code(),
            StartError::FirecrackerTimeout { .. } => "firecracker_timeout",
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

impl StartError {
    pub(crate) fn firecracker_spawn(path: &Path, source: io::Error) -> StartError {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => StartError::FirecrackerMissing { path, source },
            _ => StartError::Spawn { path, source },
        }
    }

    pub(crate) fn jailer(error: VmmError, words: String) -> StartError {
        match error {
            VmmError::Wait(source) => StartError::Wait { source },
            VmmError::Gone => StartError::FirecrackerFailed { status: None, words },
            other @ (VmmError::Jailer(_) | VmmError::NoPid(_) | VmmError::Watch(_)) => StartError::Jailer {
                why: other.to_string(),
                words,
            },
        }
    }
}

/// How a process ended, where that is known.
struct Status<'a>(&'a Option<ExitStatus>);

impl fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => write!(f, "with {status}"),
            None => f.write_str("in its jail"),
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
