//! Mounts, by descriptor: a file system is made, then put on an opened directory. No path of the customer's is
//! resolved on the way.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// Longest message of the kernel about a mount, in bytes.
const MESSAGE_BYTES_MAX: usize = 512;

/// A file system that could not be made: what the kernel says, and its error number.
#[derive(Debug)]
pub struct MountError {
    pub errno: Errno,
    pub message: String,
}

impl std::fmt::Display for MountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let error = std::io::Error::from(self.errno);
        if self.message.is_empty() {
            write!(f, "{error}")
        } else {
            write!(f, "{error} ({})", self.message)
        }
    }
}

impl From<Errno> for MountError {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            message: String::new(),
        }
    }
}

/// Makes a file system of type `kind` from `source` (a device, or its own type) with `options` (a flag is an option without a value). It is not visible
/// anywhere until [`attach`].
pub fn make(
    kind: &str,
    source: &str,
    options: &[(&str, Option<&str>)],
    flags: MountAttrFlags,
) -> Result<OwnedFd, MountError> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let made = fsconfig_set_string(&context, "source", source)
        .and_then(|()| configure(&context, options))
        .and_then(|()| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags));
    made.map_err(|errno| MountError {
        errno,
        message: last_message(&context),
    })
}

fn configure(context: &OwnedFd, options: &[(&str, Option<&str>)]) -> rustix::io::Result<()> {
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(context, *key, *value)?,
            None => fsconfig_set_flag(context, *key)?,
        }
    }
    fsconfig_create(context)
}

/// The last thing that the kernel logged about this context (`fsopen(2)`), or nothing.
fn last_message(context: &OwnedFd) -> String {
    let mut last = String::new();
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    // Each read gives one message; the kernel keeps at most eight.
    for _ in 0..8 {
        let Ok(length) = rustix::io::read(context, &mut buffer) else {
            break;
        };
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        last = text.trim_start_matches(['e', 'w', 'i']).trim().to_owned();
    }
    last
}

/// Puts a mount on the directory `target`.
pub fn attach(mount: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// Moves the mount at `path` onto the directory `target`.
pub fn move_to(path: &str, target: impl AsFd) -> rustix::io::Result<()> {
    let mount = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}
