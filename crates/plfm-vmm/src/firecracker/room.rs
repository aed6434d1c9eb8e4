//! Where a VMM lives: its jail, or without one the VM's directory. What is made there goes with it.

use std::ffi::OsString;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};

use super::calls::SeenPaths;
use super::disk::OpenDisk;
use super::log::VmmLog;
use super::{Firecracker, Isolation};
use crate::config::{VmConfig, proc_path};
use crate::jail::{self, Jail, JailUser, Jailer};
use crate::start_error::StartError;
use crate::tap;
use crate::vsock::{VsockPath, remove_socket};

const API_SOCKET: &str = "api.sock";
const LOG: &str = "vmm.log";

/// A VMM's files and sockets. Dropping it removes them, and ends whoever is in the jail.
#[derive(Debug)]
pub(crate) struct Room {
    /// The directory as the host sees it.
    dir: PathBuf,
    /// The names that the VMM has.
    seen: SeenPaths,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Jail {
        jail: Jail,
        jailer: Jailer,
    },
    Dir {
        uds: PathBuf,
    },
    /// Nothing is left.
    Cleared,
}

impl Room {
    /// Makes room for a VMM. After an error nothing is left of it but listeners' sockets.
    pub(crate) fn make(
        firecracker: &Firecracker,
        config: &VmConfig,
        vsock: &VsockPath,
        disks: &[OpenDisk],
    ) -> Result<Room, StartError> {
        match &firecracker.isolation {
            Isolation::Jailed(jailer) => Room::in_jail(firecracker, jailer, config, disks),
            Isolation::DangerouslyWithoutJail => Room::in_dir(config, vsock, disks),
        }
    }

    fn in_jail(
        firecracker: &Firecracker,
        jailer: &Jailer,
        config: &VmConfig,
        disks: &[OpenDisk],
    ) -> Result<Room, StartError> {
        let jail = jailer.jail(&firecracker.program, &config.dir)?;
        if let Err(error) = jail::check_free(&jail) {
            // Somebody else's: not to be cleared.
            return Err(error.into());
        }
        let mut room = Room {
            dir: jail.root(),
            seen: SeenPaths {
                kernel: PathBuf::new(),
                initramfs: PathBuf::new(),
                disks: Vec::new(),
                vsock: "/v.sock".into(),
            },
            kind: Kind::Jail {
                jail: jail.clone(),
                jailer: jailer.clone(),
            },
        };
        let furnished = jail::furnish(&jail, jailer.user, config, disks)?;
        room.seen.kernel = furnished.kernel;
        room.seen.initramfs = furnished.initramfs;
        room.seen.disks = furnished.disks;
        if let Some(device) = &config.tap {
            tap::give(&device.name, jailer.user.uid)?;
        }
        Ok(room)
    }

    fn in_dir(config: &VmConfig, vsock: &VsockPath, disks: &[OpenDisk]) -> Result<Room, StartError> {
        let room = Room {
            dir: config.dir.clone(),
            seen: SeenPaths {
                kernel: config.kernel.proc_path(),
                initramfs: config.initramfs.proc_path(),
                disks: disks.iter().map(|disk| proc_path(&disk.file)).collect(),
                vsock: vsock.uds().to_path_buf(),
            },
            kind: Kind::Dir {
                uds: vsock.uds().to_path_buf(),
            },
        };
        for path in [room.api_socket(), vsock.uds().to_path_buf()] {
            if let Err(source) = remove_socket(&path) {
                return Err(StartError::Socket { path, source });
            }
        }
        remove_pipe(&config.dir.join(LOG));
        Ok(room)
    }

    pub(crate) fn seen(&self) -> &SeenPaths {
        &self.seen
    }

    pub(crate) fn api_socket(&self) -> PathBuf {
        self.dir.join(API_SOCKET)
    }

    pub(crate) fn jail(&self) -> Option<&Jail> {
        match &self.kind {
            Kind::Jail { jail, .. } => Some(jail),
            Kind::Dir { .. } | Kind::Cleared => None,
        }
    }

    /// Makes the pipe that the VMM logs to.
    pub(crate) fn make_log(&self) -> Result<VmmLog, StartError> {
        let path = self.dir.join(LOG);
        let failed = |source| StartError::VmmLog {
            path: path.clone(),
            source,
        };
        let log = VmmLog::create(&path).map_err(failed)?;
        if let Kind::Jail { jailer, .. } = &self.kind {
            let JailUser { uid, gid } = jailer.user;
            lchown(&path, Some(uid), Some(gid)).map_err(failed)?;
        }
        Ok(log)
    }

    /// The program and its arguments.
    pub(crate) fn render_command(
        &self,
        firecracker: &Firecracker,
        config: &VmConfig,
    ) -> (PathBuf, Vec<OsString>) {
        // The jailer passes the id on itself. Without a jail a name that is none is no reason to fail.
        let id = jail::jail_id(&config.dir).unwrap_or("vm");
        match &self.kind {
            Kind::Jail { jailer, .. } => {
                let for_vmm = render_vmm_args(Path::new("/"));
                let args = jail::render_args(jailer, &firecracker.program, id, config, &for_vmm);
                (jailer.program.clone(), args)
            }
            Kind::Dir { .. } | Kind::Cleared => {
                let mut args: Vec<OsString> = vec!["--id".into(), id.into()];
                args.extend(render_vmm_args(&self.dir));
                (firecracker.program.clone(), args)
            }
        }
    }

    /// Removes everything, off the runtime's threads. The VMM has ended.
    pub(crate) async fn clear(&mut self) {
        let kind = std::mem::replace(&mut self.kind, Kind::Cleared);
        let dir = self.dir.clone();
        // A runtime that is shutting down refuses; then nobody waits for it either.
        let _ = tokio::task::spawn_blocking(move || clear(&kind, &dir)).await;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        clear(&self.kind, &self.dir);
    }
}

/// The log goes to its own pipe, because standard output is the guest's console. Level `Info` has the line that tells
/// how the VMM ended; at that level it writes about 30 lines a VM.
fn render_vmm_args(dir: &Path) -> Vec<OsString> {
    let path = |name| dir.join(name).into_os_string();
    vec![
        "--api-sock".into(),
        path(API_SOCKET),
        "--log-path".into(),
        path(LOG),
        "--level".into(),
        "Info".into(),
        "--show-level".into(),
    ]
}

fn clear(kind: &Kind, dir: &Path) {
    match kind {
        Kind::Jail { jail, .. } => {
            if let Err(error) = jail.remove() {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(jail = %jail.dir.display(), code = error.code(), %error, cause, "something of a jail is left");
            }
        }
        Kind::Dir { uds } => {
            for path in [&dir.join(API_SOCKET), uds] {
                if let Err(error) = remove_socket(path) {
                    tracing::warn!(socket = %path.display(), %error, "socket can't be removed");
                }
            }
            remove_pipe(&dir.join(LOG));
        }
        Kind::Cleared => {}
    }
}

/// Removes the log's pipe, and nothing else that has its name.
fn remove_pipe(path: &Path) {
    use std::os::unix::fs::FileTypeExt;
    let is_pipe = path
        .symlink_metadata()
        .is_ok_and(|meta| meta.file_type().is_fifo());
    if is_pipe && let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(pipe = %path.display(), %error, "pipe can't be removed");
    }
}
