//! The root file system: the customer's image below, the scratch disk above, and the switch to it.
//!
//! ```text
//! initramfs /            -> emptied, then covered
//!   /mnt/lower           vda, read-only: the customer's image, never written
//!   /mnt/scratch         vdb: upper/ and work/
//!   /mnt/newroot         the overlay of both, moved over /
//! ```
//!
//! `pivot_root(2)` cannot leave an initramfs, so the overlay is moved over `/` and entered by chroot. The scratch
//! mount is then unreachable by path; the old root is kept open, for the clean unmount.

use std::fs::File;
use std::os::fd::OwnedFd;

use plfm_guest_protocol::Reason;
use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::cgroup;
use crate::failure::StageError;
use crate::fs::{Replace, create_dir, delete_contents, open_dir, replace_file};
use crate::log::{LOG_PATH, Log};
use crate::mount::{attach, make, move_to};

const LOWER: &str = "/mnt/lower";
pub const SCRATCH: &str = "/mnt/scratch";
const NEWROOT: &str = "/mnt/newroot";
const ROOT_DEVICE: &str = "/dev/vda";
const SCRATCH_DEVICE: &str = "/dev/vdb";

const NOSUID_NODEV_NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
const NOSUID_NODEV: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

struct Mount {
    kind: &'static str,
    target: &'static str,
    options: &'static [(&'static str, Option<&'static str>)],
    flags: MountAttrFlags,
}

/// Before the handshake, in the initramfs; later moved into the new root.
const KERNEL_FILESYSTEMS: [Mount; 3] = [
    Mount {
        kind: "proc",
        target: "/proc",
        options: &[],
        flags: NOSUID_NODEV_NOEXEC,
    },
    Mount {
        kind: "sysfs",
        target: "/sys",
        options: &[],
        flags: NOSUID_NODEV_NOEXEC,
    },
    Mount {
        kind: "devtmpfs",
        target: "/dev",
        options: &[("mode", Some("0755"))],
        flags: MountAttrFlags::MOUNT_ATTR_NOSUID,
    },
];

/// In the new root. The sizes are shares of memory and together less than all of it: what a program leaves there must not
/// keep PID 1 from reporting its end.
const ROOT_FILESYSTEMS: [Mount; 5] = [
    Mount {
        kind: "devpts",
        target: "/dev/pts",
        options: &[
            ("ptmxmode", Some("0666")),
            ("mode", Some("0620")),
            ("gid", Some("5")),
        ],
        flags: MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC),
    },
    Mount {
        kind: "tmpfs",
        target: "/dev/shm",
        options: &[("mode", Some("1777")), ("size", Some("40%"))],
        flags: NOSUID_NODEV,
    },
    Mount {
        kind: "tmpfs",
        target: "/run",
        options: &[("mode", Some("0755")), ("size", Some("10%"))],
        flags: NOSUID_NODEV,
    },
    Mount {
        kind: "tmpfs",
        target: "/tmp",
        options: &[("mode", Some("1777")), ("size", Some("40%"))],
        flags: NOSUID_NODEV,
    },
    Mount {
        kind: "cgroup2",
        target: cgroup::CGROUP_ROOT,
        options: &[("nsdelegate", None)],
        flags: NOSUID_NODEV_NOEXEC,
    },
];

/// Links that programs expect in `/dev` and devtmpfs does not have.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// What the shutdown needs of the old root.
pub struct RootMounts {
    /// The initramfs's root, covered by the overlay.
    pub initramfs: OwnedFd,
    /// The overlay's root.
    pub overlay: OwnedFd,
}

fn root_error(what: impl std::fmt::Display, errno: Errno) -> StageError {
    StageError::os(Reason::RootFailed, what, errno)
}

/// `/proc`, `/sys` and `/dev`.
pub fn mount_kernel_filesystems() -> Result<(), StageError> {
    for Mount {
        kind,
        target,
        options,
        flags,
    } in &KERNEL_FILESYSTEMS
    {
        let made = make(kind, kind, options, *flags)
            .and_then(|mount| Ok(attach(&mount, &open_dir(target)?)?))
            .map_err(|error| {
                mount_error(
                    Reason::MountFailed,
                    format!("cannot mount {kind} at {target}"),
                    &error,
                )
            });
        made?;
    }
    Ok(())
}

/// A failed mount as a stage's failure.
pub fn mount_error(reason: Reason, what: String, error: &crate::mount::MountError) -> StageError {
    StageError {
        reason,
        detail: format!("{what}: {error}"),
        errno: Some(error.errno.raw_os_error()),
    }
}

/// `vda` at `/mnt/lower`, read-only.
pub fn mount_root_disk() -> Result<(), StageError> {
    let kind = detect_filesystem(ROOT_DEVICE)?;
    make(
        kind,
        ROOT_DEVICE,
        &[("ro", None)],
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
    .and_then(|mount| Ok(attach(&mount, &open_dir(LOWER)?)?))
    .map_err(|error| {
        let what = format!("cannot mount the root disk {ROOT_DEVICE} as {kind}");
        mount_error(Reason::RootFailed, what, &error)
    })
}

/// Which file system a disk holds, by its magic number: ext4, erofs or squashfs.
fn detect_filesystem(device: &str) -> Result<&'static str, StageError> {
    let disk = open(device, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| root_error(format_args!("cannot open the root disk {device}"), errno))?;
    let mut start = [0; 2048];
    let length = rustix::io::pread(&disk, &mut start, 0)
        .map_err(|errno| root_error(format_args!("cannot read the root disk {device}"), errno))?;
    let found = filesystem_of(start.get(..length).unwrap_or_default());
    found.ok_or_else(|| StageError {
        reason: Reason::RootFailed,
        detail: format!("the root disk {device} holds no ext4, erofs or squashfs file system"),
        errno: Some(Errno::INVAL.raw_os_error()),
    })
}

/// Magic numbers: ext4 (`Documentation/filesystems/ext4/super.rst`) at 1080, erofs at 1024, squashfs at 0.
fn filesystem_of(start: &[u8]) -> Option<&'static str> {
    let has = |offset: usize, magic: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if has(1080, &0xEF53u16.to_le_bytes()) {
        Some("ext4")
    } else if has(1024, &0xE0F5_E1E2u32.to_le_bytes()) {
        Some("erofs")
    } else if has(0, b"hsqs") {
        Some("squashfs")
    } else {
        None
    }
}

/// `vdb` at `/mnt/scratch`, with `upper` and `work`.
pub fn mount_scratch_disk() -> Result<(), StageError> {
    let mount = make("ext4", SCRATCH_DEVICE, &[], MountAttrFlags::MOUNT_ATTR_NOATIME).map_err(|error| {
        mount_error(
            Reason::RootFailed,
            format!("cannot mount the scratch disk {SCRATCH_DEVICE} as ext4"),
            &error,
        )
    })?;
    let on_scratch = |errno| {
        root_error(
            format_args!("cannot use the scratch disk {SCRATCH_DEVICE}"),
            errno,
        )
    };
    attach(&mount, &open_dir(SCRATCH).map_err(on_scratch)?).map_err(on_scratch)?;
    let space = rustix::fs::fstatvfs(&mount).map_err(on_scratch)?;
    if space.f_bavail == 0 || space.f_favail == 0 {
        return Err(root_error(
            format_args!("the scratch disk {SCRATCH_DEVICE} is full"),
            Errno::NOSPC,
        ));
    }
    for name in ["upper", "work"] {
        match mkdirat(&mount, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(root_error(
                    format_args!("cannot make {name} on the scratch disk"),
                    errno,
                ));
            }
        }
    }
    Ok(())
}

/// The overlay of both at `/mnt/newroot`. `volatile`: the scratch disk does not outlive the VM, so syncing it for
/// the customer's fsync would cost and buy nothing.
pub fn mount_overlay() -> Result<OwnedFd, StageError> {
    let options: &[(&str, Option<&str>)] = &[
        ("lowerdir", Some(LOWER)),
        ("upperdir", Some("/mnt/scratch/upper")),
        ("workdir", Some("/mnt/scratch/work")),
        ("volatile", None),
    ];
    let mount = make("overlay", "overlay", options, MountAttrFlags::empty()).map_err(|error| {
        mount_error(
            Reason::RootFailed,
            "cannot make the overlay of root and scratch disk".into(),
            &error,
        )
    })?;
    let target = open_dir(NEWROOT).map_err(|errno| root_error("cannot open /mnt/newroot", errno))?;
    attach(&mount, &target).map_err(|errno| root_error("cannot attach the overlay", errno))?;
    Ok(mount)
}

/// Makes the overlay `/`.
pub fn switch_root(overlay: OwnedFd) -> Result<RootMounts, StageError> {
    let initramfs = open_dir("/").map_err(|errno| root_error("cannot open the initramfs", errno))?;
    for Mount { target, .. } in &KERNEL_FILESYSTEMS {
        create_dir(&overlay, target, Replace::Allowed)
            .and_then(|dir| move_to(target, dir))
            .map_err(|errno| {
                root_error(
                    format_args!("cannot move {target} into the root file system"),
                    errno,
                )
            })?;
    }
    delete_contents(&initramfs).map_err(|errno| root_error("cannot empty the initramfs", errno))?;
    let enter = || {
        rustix::process::chdir(NEWROOT)?;
        rustix::mount::mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")
    };
    enter().map_err(|errno| root_error("cannot make the overlay the root", errno))?;
    let root = open_dir("/").map_err(|errno| root_error("cannot open the new root", errno))?;
    for Mount {
        kind,
        target,
        options,
        flags,
    } in &ROOT_FILESYSTEMS
    {
        make(kind, kind, options, *flags)
            .and_then(|mount| Ok(attach(&mount, &create_dir(&root, target, Replace::Allowed)?)?))
            .map_err(|error| {
                mount_error(
                    Reason::RootFailed,
                    format!("cannot mount {kind} at {target}"),
                    &error,
                )
            })?;
    }
    for (target, name) in DEVICE_LINKS {
        match rustix::fs::symlink(target, format!("/dev/{name}")) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(root_error(format_args!("cannot make /dev/{name}"), errno)),
        }
    }
    cgroup::enable_controllers();
    Ok(RootMounts {
        initramfs,
        overlay: root,
    })
}

/// Moves the boot log to its place in `/run`, which is a tmpfs of ours.
pub fn open_log(log: &mut Log) -> Result<(), StageError> {
    let open_file = || {
        let run = open_dir("/run")?;
        let dir = create_dir(run, "platform", Replace::Forbidden)?;
        let (_, name) = LOG_PATH.rsplit_once('/').ok_or(Errno::INVAL)?;
        replace_file(&dir, name, b"", 0o600, None)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        openat(
            dir,
            name,
            OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    let file = open_file().map_err(|errno| root_error(format_args!("cannot make {LOG_PATH}"), errno))?;
    log.continue_in(File::from(file));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::filesystem_of;

    #[test]
    fn file_systems_are_told_by_their_magic_numbers() {
        let mut disk = vec![0; 2048];
        assert_eq!(filesystem_of(&disk), None);
        disk[1024..1028].copy_from_slice(&[0xE2, 0xE1, 0xF5, 0xE0]);
        assert_eq!(filesystem_of(&disk), Some("erofs"));
        disk[1080..1082].copy_from_slice(&[0x53, 0xEF]);
        assert_eq!(filesystem_of(&disk), Some("ext4"));
        assert_eq!(filesystem_of(b"hsqs"), Some("squashfs"));
        assert_eq!(filesystem_of(b""), None);
    }
}
