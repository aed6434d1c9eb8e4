//! Which virtual machine monitor runs the VMs of this host, and where its programs are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::accelerator::{Accelerator, AcceleratorChoice};
use crate::choice::ChoiceError;
use crate::firecracker::{Firecracker, Isolation};
use crate::jail::{Jail, JailError};
use crate::start_error::StartError;
use crate::vsock::VsockPath;

const QEMU: &str = "qemu-system-x86_64";
const VSOCK_DAEMON: &str = "vhost-device-vsock";

/// The virtual machine monitor. Found once, used for every VM.
#[derive(Debug, Clone)]
pub enum Backend {
    /// QEMU's `microvm` machine.
    Qemu {
        /// What runs the guest's instructions.
        accelerator: Accelerator,
        /// The programs that make up one VM.
        programs: QemuPrograms,
    },
    /// Firecracker, which needs KVM.
    Firecracker(Firecracker),
}

/// The programs of a QEMU VM.
#[derive(Debug, Clone)]
pub struct QemuPrograms {
    /// `qemu-system-x86_64`.
    pub qemu: PathBuf,
    /// `vhost-device-vsock`, which puts the host's end of vsock on Unix sockets.
    pub vsock_daemon: PathBuf,
}

/// This host can't run a VM.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// No QEMU.
    #[error("qemu-system-x86_64 is not on PATH: install the Debian package qemu-system-x86")]
    QemuMissing,
    /// No vsock daemon.
    #[error(
        "vhost-device-vsock is not in PLFM_VHOST_DEVICE_VSOCK, on PATH or in cargo's bin directory: \
         cargo install vhost-device-vsock --version 0.3.0"
    )]
    VsockDaemonMissing,
    /// Nothing that was asked for can be used.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
}

impl DetectError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            DetectError::QemuMissing => "qemu_missing",
            DetectError::VsockDaemonMissing => "vsock_daemon_missing",
            DetectError::Choice(error) => error.code(),
        }
    }
}

impl Backend {
    /// The vsock of the VM whose directory this is. With a jail it is in there, and elsewhere than the directory.
    pub fn vsock(&self, dir: &Path) -> Result<VsockPath, StartError> {
        match (self.jail(dir)?, self) {
            (
                Some(jail),
                Backend::Firecracker(Firecracker {
                    isolation: Isolation::Jailed(jailer),
                    ..
                }),
            ) => Ok(VsockPath::in_jail(jail, jailer.user)?),
            _ => VsockPath::in_dir(dir).map_err(|error| StartError::Config(error.into())),
        }
    }

    /// The jail of the VM whose directory this is, if VMs are jailed here. To be written down before the VM is started:
    /// after a crash [`Jail::remove`] takes away what is left of it.
    pub fn jail(&self, dir: &Path) -> Result<Option<Jail>, JailError> {
        match self {
            Backend::Qemu { .. } => Ok(None),
            Backend::Firecracker(firecracker) => firecracker.jail(dir),
        }
    }

    /// QEMU, whatever else there is: looks for its programs in this process's environment and resolves the accelerator.
    pub fn detect(choice: AcceleratorChoice) -> Result<Backend, DetectError> {
        let programs = QemuPrograms::find(|name| std::env::var_os(name).map(PathBuf::from))?;
        Ok(Backend::Qemu {
            accelerator: Accelerator::resolve(choice),
            programs,
        })
    }
}

impl QemuPrograms {
    /// Looks for the programs with the environment that `env` gives.
    ///
    /// QEMU is found on `PATH`; the vsock daemon is `PLFM_VHOST_DEVICE_VSOCK` if set, else on `PATH`, else in
    /// `$CARGO_HOME/bin` or `$HOME/.cargo/bin`, because it is installed with cargo.
    pub fn find(env: impl Fn(&str) -> Option<PathBuf>) -> Result<QemuPrograms, DetectError> {
        let path = env("PATH").unwrap_or_default();
        let qemu = on_path(path.as_os_str(), QEMU).ok_or(DetectError::QemuMissing)?;
        let vsock_daemon = match env("PLFM_VHOST_DEVICE_VSOCK") {
            Some(named) => Some(named).filter(|file| is_program(file)),
            None => on_path(path.as_os_str(), VSOCK_DAEMON).or_else(|| in_cargo_home(&env)),
        };
        Ok(QemuPrograms {
            qemu,
            vsock_daemon: vsock_daemon.ok_or(DetectError::VsockDaemonMissing)?,
        })
    }
}

pub(crate) fn on_path(path: &OsStr, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_absolute() && is_program(file))
}

fn in_cargo_home(env: &impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let home = env("CARGO_HOME").or_else(|| env("HOME").map(|home| home.join(".cargo")))?;
    Some(home.join("bin").join(VSOCK_DAEMON)).filter(|file| is_program(file))
}

pub(crate) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Host(tempfile::TempDir);

    impl Host {
        fn with(programs: &[&str]) -> Host {
            let host = Host(tempfile::tempdir().unwrap());
            for program in programs {
                let path = host.path(program);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, "").unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            host
        }

        fn path(&self, relative: &str) -> PathBuf {
            self.0.path().join(relative)
        }

        fn find(&self, env: &[(&str, &str)]) -> Result<QemuPrograms, DetectError> {
            let value = |name: &str| {
                env.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| self.path(value))
            };
            QemuPrograms::find(value)
        }
    }

    #[test]
    fn programs_are_found_on_path() {
        let host = Host::with(&["bin/qemu-system-x86_64", "bin/vhost-device-vsock"]);
        let programs = host.find(&[("PATH", "bin")]).unwrap();
        assert_eq!(programs.qemu, host.path("bin/qemu-system-x86_64"));
        assert_eq!(programs.vsock_daemon, host.path("bin/vhost-device-vsock"));
    }

    #[test]
    fn the_daemon_is_found_where_cargo_installs_it() {
        let host = Host::with(&[
            "bin/qemu-system-x86_64",
            "cargo/bin/vhost-device-vsock",
            ".cargo/bin/vhost-device-vsock",
        ]);
        let found = |env: &[(&str, &str)]| host.find(env).unwrap().vsock_daemon;
        assert_eq!(
            found(&[("PATH", "bin"), ("CARGO_HOME", "cargo"), ("HOME", "")]),
            host.path("cargo/bin/vhost-device-vsock")
        );
        assert_eq!(
            found(&[("PATH", "bin"), ("HOME", "")]),
            host.path(".cargo/bin/vhost-device-vsock")
        );
    }

    #[test]
    fn a_daemon_that_is_named_is_the_one() {
        let host = Host::with(&["bin/qemu-system-x86_64", "bin/vhost-device-vsock", "mine"]);
        let env = |named| [("PATH", "bin"), ("PLFM_VHOST_DEVICE_VSOCK", named)];
        assert_eq!(host.find(&env("mine")).unwrap().vsock_daemon, host.path("mine"));
        assert!(matches!(
            host.find(&env("missing")),
            Err(DetectError::VsockDaemonMissing)
        ));
    }

    #[test]
    fn what_is_missing_is_named_with_how_to_get_it() {
        let empty = Host::with(&[]);
        let error = empty.find(&[("PATH", "bin")]).unwrap_err();
        assert_eq!(error.code(), "qemu_missing");
        assert!(
            error.to_string().contains("Debian package qemu-system-x86"),
            "{error}"
        );
        let error = Host::with(&["bin/qemu-system-x86_64"])
            .find(&[("PATH", "bin")])
            .unwrap_err();
        assert_eq!(error.code(), "vsock_daemon_missing");
        assert!(
            error
                .to_string()
                .contains("cargo install vhost-device-vsock --version 0.3.0"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_does_not_execute_is_no_program() {
        let host = Host::with(&["bin/qemu-system-x86_64", "bin/vhost-device-vsock"]);
        let qemu = host.path("bin/qemu-system-x86_64");
        std::fs::set_permissions(qemu, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            host.find(&[("PATH", "bin")]),
            Err(DetectError::QemuMissing)
        ));
    }
}
