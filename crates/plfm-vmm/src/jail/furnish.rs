//! What a VM needs is put where its jailed VMM sees it.
//!
//! Kernel, initramfs and disks are mounted from open descriptors: what was opened and verified is what boots, whatever
//! happens to names, and across file systems. A hard link would need one file system, and could not be made read-only
//! without the original; a copy would cost what sharing saves.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount_bind, mount_remount};

use super::{Jail, JailError, JailUser};
use crate::config::{DiskAccess, VmConfig};
use crate::firecracker::OpenDisk;

/// What is in a jail, by the names that the VMM has for it.
#[derive(Debug)]
pub(crate) struct Furnished {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) disks: Vec<PathBuf>,
}

/// Puts everything into the jail. After an error something may be there: [`Jail::remove`] takes it away.
pub(crate) fn furnish(
    jail: &Jail,
    user: JailUser,
    config: &VmConfig,
    disks: &[OpenDisk],
) -> Result<Furnished, JailError> {
    make_root(jail)?;
    let root = jail.root();
    let put = |file: &File, name: &str, access| put(file, &root, name, access);
    let furnished = Furnished {
        kernel: put(config.kernel.file(), "kernel", DiskAccess::ReadOnly)?,
        initramfs: put(config.initramfs.file(), "initramfs", DiskAccess::ReadOnly)?,
        disks: disks
            .iter()
            .enumerate()
            .map(|(index, disk)| {
                admit(disk, user)?;
                put(&disk.file, &format!("disk{index}"), disk.access)
            })
            .collect::<Result<_, _>>()?,
    };
    Ok(furnished)
}

/// Makes the jail's directories, for root alone. The jailer gives the last of them to its user.
fn make_root(jail: &Jail) -> Result<(), JailError> {
    let root = jail.root();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&root);
    made.map_err(|source| JailError::Make { path: root, source })
}

/// Checks that the jail is nobody's: only sockets that are listened on may be there before the VM.
pub(crate) fn check_free(jail: &Jail) -> Result<(), JailError> {
    let root = jail.root();
    let read = |source| JailError::Make {
        path: root.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(read)?,
    };
    for entry in entries {
        let entry = entry.map_err(read)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_listener = name.starts_with("v.sock_") && entry.file_type().map_err(read)?.is_socket();
        if !is_listener {
            return Err(JailError::Taken {
                dir: jail.dir.clone(),
                name,
            });
        }
    }
    Ok(())
}

fn put(file: &File, root: &Path, name: &str, access: DiskAccess) -> Result<PathBuf, JailError> {
    let target = root.join(name);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&target)
        .map_err(|source| JailError::Make {
            path: target.clone(),
            source,
        })?;
    bind(file, &target, access).map_err(|source| JailError::Mount {
        what: format!("the {name}"),
        path: target,
        source,
    })?;
    Ok(Path::new("/").join(name))
}

fn bind(file: &File, target: &Path, access: DiskAccess) -> io::Result<()> {
    mount_bind(format!("/proc/self/fd/{}", file.as_raw_fd()), target)?;
    let mut flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NOEXEC;
    if access == DiskAccess::ReadOnly {
        flags |= MountFlags::RDONLY;
    }
    if !file.metadata()?.file_type().is_block_device() {
        flags |= MountFlags::NODEV;
    }
    Ok(mount_remount(target, flags, "")?)
}

/// Lets the jail's user have a disk. One that is written becomes its own; one that is only read, and may be shared, is
/// left as it is.
fn admit(disk: &OpenDisk, user: JailUser) -> Result<(), JailError> {
    let made = |source| JailError::Make {
        path: disk.path.clone(),
        source,
    };
    match disk.access {
        DiskAccess::ReadWrite => fchown(&disk.file, Some(user.uid), Some(user.gid)).map_err(made),
        DiskAccess::ReadOnly => {
            let metadata = disk.file.metadata().map_err(made)?;
            let mode = metadata.permissions().mode();
            let is_readable = if metadata.uid() == user.uid {
                mode & 0o400 != 0
            } else if metadata.gid() == user.gid {
                mode & 0o040 != 0
            } else {
                mode & 0o004 != 0
            };
            is_readable.then_some(()).ok_or_else(|| JailError::Unreadable {
                path: disk.path.clone(),
                uid: user.uid,
            })
        }
    }
}
