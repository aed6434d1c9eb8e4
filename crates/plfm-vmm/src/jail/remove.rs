//! Taking a jail away: who is in it, what is mounted in it, its cgroup, its files.
//!
//! Everything is found by what is there, not by what was recorded, so it may be done after a crash, by another process,
//! twice, and of a jail that was made only in part.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

use super::{Jail, inmates};

/// From SIGKILL to the end of a process. The kernel takes back its memory in that time.
const END_MAX: Duration = Duration::from_secs(5);
/// A process that was forked while the others were killed is found by the next look.
const ROUNDS_MAX: usize = 10;
/// A cgroup whose last process has just ended is busy for a moment.
const CGROUP_POLL: Duration = Duration::from_millis(2);

/// Something of a jail is left.
#[derive(Debug, thiserror::Error)]
pub enum JailRemoveError {
    /// Processes can't be looked for.
    #[error("can't look for processes in jail {}", dir.display())]
    Look {
        /// The jail.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A process does not end.
    #[error("process {pid} in jail {} does not end", dir.display())]
    Process {
        /// The jail.
        dir: PathBuf,
        /// The process.
        pid: u32,
    },
    /// A mount stays.
    #[error("can't unmount {}", path.display())]
    Unmount {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cgroup stays.
    #[error("can't remove cgroup {}", path.display())]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file stays.
    #[error("can't remove {}", path.display())]
    Files {
        /// The jail's directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl JailRemoveError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            JailRemoveError::Look { .. } => "jail_not_searched",
            JailRemoveError::Process { .. } => "jail_process_left",
            JailRemoveError::Unmount { .. } => "jail_mount_left",
            JailRemoveError::Cgroup { .. } => "jail_cgroup_left",
            JailRemoveError::Files { .. } => "jail_files_left",
        }
    }
}

impl Jail {
    /// Ends whoever is in the jail and removes all of it. What is gone already is as good. Blocks: for milliseconds, and
    /// at most for some seconds.
    pub fn remove(&self) -> Result<(), JailRemoveError> {
        self.end_inmates(Instant::now() + END_MAX)?;
        self.unmount_all()?;
        self.remove_cgroup()?;
        match std::fs::remove_dir_all(&self.dir) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(JailRemoveError::Files {
                path: self.dir.clone(),
                source,
            }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Ends whoever is in the jail. Blocks for as long as processes take to end.
    pub(crate) fn end_inmates(&self, deadline: Instant) -> Result<(), JailRemoveError> {
        let root = self.root();
        for _ in 0..ROUNDS_MAX {
            let inmates = inmates::all(&root).map_err(|source| JailRemoveError::Look {
                dir: self.dir.clone(),
                source,
            })?;
            if inmates.is_empty() {
                return Ok(());
            }
            inmates.iter().for_each(inmates::Inmate::kill);
            if let Some(left) = inmates.iter().find(|inmate| !inmate.ended_by(deadline)) {
                return Err(JailRemoveError::Process {
                    dir: self.dir.clone(),
                    pid: left.pid,
                });
            }
        }
        Ok(())
    }

    fn unmount_all(&self) -> Result<(), JailRemoveError> {
        let mounts = std::fs::read("/proc/self/mountinfo").map_err(|source| JailRemoveError::Look {
            dir: self.dir.clone(),
            source,
        })?;
        // What was mounted last is unmounted first: it may be on top of another.
        for path in mounts_below(&mounts, &self.dir).into_iter().rev() {
            let unmounted = unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
            unmounted.map_err(|errno| JailRemoveError::Unmount {
                path,
                source: errno.into(),
            })?;
        }
        Ok(())
    }

    fn remove_cgroup(&self) -> Result<(), JailRemoveError> {
        let Some(path) = &self.cgroup else {
            return Ok(());
        };
        // Where the kernel has it (5.14), this reaches also what has left the jail's root.
        let kill = OpenOptions::new().write(true).open(path.join("cgroup.kill"));
        let _ = kill.and_then(|mut kill| kill.write_all(b"1"));
        let deadline = Instant::now() + END_MAX;
        loop {
            match std::fs::remove_dir(path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    std::thread::sleep(CGROUP_POLL);
                }
                Err(source) => {
                    return Err(JailRemoveError::Cgroup {
                        path: path.clone(),
                        source,
                    });
                }
            }
        }
    }
}

/// The mount points below a directory in the text of `/proc/self/mountinfo`, in its order.
fn mounts_below(mountinfo: &[u8], dir: &Path) -> Vec<PathBuf> {
    mountinfo
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(|field| PathBuf::from(unescape(field)))
        .filter(|path| path != dir && path.starts_with(dir))
        .collect()
}

/// Spaces, tabs, newlines and backslashes are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:5 /x /srv/jails/firecracker/a/root/kernel ro,nosuid - tmpfs tmpfs rw
41 22 0:5 /y /srv/jails/firecracker/ab/root/kernel ro,nosuid - tmpfs tmpfs rw
42 22 0:5 /z /srv/jails/firecracker/a/root/disk\\0400 rw - tmpfs tmpfs rw
";

    #[test]
    fn only_what_is_mounted_in_this_jail_is_unmounted() {
        let below = |dir: &str| mounts_below(MOUNTS, Path::new(dir));
        assert_eq!(
            below("/srv/jails/firecracker/a"),
            [
                Path::new("/srv/jails/firecracker/a/root/kernel"),
                Path::new("/srv/jails/firecracker/a/root/disk 0")
            ]
        );
        assert_eq!(below("/srv/jails/firecracker/abc"), Vec::<PathBuf>::new());
        assert_eq!(
            below("/srv/jails/firecracker/a/root/kernel"),
            Vec::<PathBuf>::new()
        );
    }

    #[test]
    fn a_jail_that_was_never_made_is_removed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let jail = Jail {
            dir: dir.path().join("firecracker/i1"),
            cgroup: Some(dir.path().join("cgroup/i1")),
        };
        jail.remove().unwrap();
        std::fs::create_dir_all(jail.root()).unwrap();
        std::fs::create_dir_all(dir.path().join("cgroup/i1")).unwrap();
        jail.remove().unwrap();
        jail.remove().unwrap();
        assert!(!jail.dir.exists() && !dir.path().join("cgroup/i1").exists());
    }
}
