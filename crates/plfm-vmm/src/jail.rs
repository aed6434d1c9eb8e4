//! The jail of one VM: Firecracker's jailer, what is put where it can see it, and how all of it is taken away.
//!
//! ```text
//! <base>/                          root's, 0700; on a file system that allows devices
//!   <name of the program>/
//!     <id>/                        one VM; the id is the name of the VM's own directory
//!       root/                      the VMM's "/", its user's
//!         firecracker, dev/, run/  the jailer's
//!         kernel, initramfs        what was verified, mounted read-only from open descriptors
//!         disk0, disk1, …          the disks, mounted likewise
//!         api.sock, v.sock         the VMM's
//!         v.sock_<port>            ours, listened on before the VM starts
//!         vmm.log                  a pipe
//! <cgroup2>/<parent>/<id>/         its limits
//! ```
//!
//! The invariant: everything outside `root/` is root's, and nothing inside it is opened by name and followed once the
//! VMM runs. What a jail is made of can be found again from its [`Jail`] alone, so that another process, later, can
//! take it away: [`Jail::remove`].

mod command;
mod furnish;
mod inmates;
mod remove;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub(crate) use command::render_args;
pub(crate) use furnish::{check_free, furnish};
pub(crate) use inmates::Inmate;
pub use remove::JailRemoveError;

/// The jailer's own limit of an id.
const ID_BYTES_MAX: usize = 64;

/// The jailer, and what its jails are like on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jailer {
    /// The program.
    pub program: PathBuf,
    /// Where jails are made: an absolute path on a file system that is not mounted `nodev`.
    pub base: PathBuf,
    /// Whom the VMM runs as.
    pub user: JailUser,
    /// Where its limits are set; none on a host without cgroup v2.
    pub cgroup: Option<JailCgroup>,
    /// A network namespace that the VMM joins; the tap device must be in it.
    pub netns: Option<PathBuf>,
}

/// The user that a jailed VMM runs as: dedicated to this, without a login and without files of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JailUser {
    /// User id, never 0.
    pub uid: u32,
    /// Group id, never 0.
    pub gid: u32,
}

/// A text is no user of a jail.
#[derive(Debug, thiserror::Error)]
#[error("jail user {0:?} is not UID:GID, two numbers above 0")]
pub struct UnknownJailUser(String);

impl FromStr for JailUser {
    type Err = UnknownJailUser;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().ok().filter(|number| *number != 0);
        text.split_once(':')
            .and_then(|(uid, gid)| {
                Some(JailUser {
                    uid: number(uid)?,
                    gid: number(gid)?,
                })
            })
            .ok_or_else(|| UnknownJailUser(text.to_owned()))
    }
}

impl fmt::Display for JailUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// Where cgroups of VMs are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JailCgroup {
    /// Where cgroup v2 is mounted.
    pub mount: PathBuf,
    /// The parent of all VMs' cgroups, relative to the mount.
    pub parent: String,
    /// The controllers that this host has, out of `cpu`, `memory` and `pids`.
    pub controllers: Vec<String>,
}

/// One jail, whether it is there or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jail {
    /// Its directory, `<base>/<program>/<id>`.
    pub dir: PathBuf,
    /// Its cgroup's directory, if it has one.
    pub cgroup: Option<PathBuf>,
}

/// A jail can't be made.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// The directory's name is no id.
    #[error(
        "vm directory {} has no name of 1 to {ID_BYTES_MAX} letters, digits and hyphens, which the jailer needs as id",
        dir.display()
    )]
    Id {
        /// The VM's directory.
        dir: PathBuf,
    },
    /// The jail is not empty.
    #[error("jail {} has {name:?} in it: another vm uses it, or an earlier one left it; remove the jail first", dir.display())]
    Taken {
        /// The jail.
        dir: PathBuf,
        /// What is there.
        name: String,
    },
    /// A file or directory in it can't be made.
    #[error("can't make {}", path.display())]
    Make {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file can't be mounted into it.
    #[error("can't mount {what} at {}: it takes CAP_SYS_ADMIN", path.display())]
    Mount {
        /// What.
        what: String,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A disk that is only read can't be read by the jail's user.
    #[error(
        "disk {} can't be read by the jail's user {uid}: let it, for example with chmod o+r",
        path.display()
    )]
    Unreadable {
        /// The disk.
        path: PathBuf,
        /// The user.
        uid: u32,
    },
}

impl JailError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            JailError::Id { .. } => "jail_id_invalid",
            JailError::Taken { .. } => "jail_taken",
            JailError::Make { .. } => "jail_not_made",
            JailError::Mount { .. } => "jail_mount_failed",
            JailError::Unreadable { .. } => "disk_unreadable",
        }
    }
}

impl Jailer {
    /// The jail of the VM whose directory this is. Touches nothing.
    ///
    /// `program` is the Firecracker that is jailed: its file name is part of the jail's path.
    pub fn jail(&self, program: &Path, dir: &Path) -> Result<Jail, JailError> {
        let id = jail_id(dir)?;
        // The jailer resolves links and names the directory after what it finds.
        let program = program.canonicalize().unwrap_or_else(|_| program.to_path_buf());
        let name = program.file_name().unwrap_or_default();
        Ok(Jail {
            dir: self.base.join(name).join(id),
            cgroup: self
                .cgroup
                .as_ref()
                .map(|cgroup| cgroup.mount.join(&cgroup.parent).join(id)),
        })
    }
}

impl Jail {
    /// What the VMM has for `/`.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }
}

/// The jailer's id of the VM whose directory this is.
pub(crate) fn jail_id(dir: &Path) -> Result<&str, JailError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    dir.file_name()
        .and_then(|name| name.to_str())
        .filter(|name| name.len() <= ID_BYTES_MAX && name.bytes().all(is_plain))
        .ok_or_else(|| JailError::Id {
            dir: dir.to_path_buf(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_prints_as_it_parses_and_is_never_root() {
        assert_eq!("990:991".parse::<JailUser>().unwrap().to_string(), "990:991");
        for bad in ["0:1", "1:0", "990", "a:b", "1:2:3", ":", "-1:1"] {
            assert!(bad.parse::<JailUser>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_jail_is_known_from_the_names_alone() {
        let jailer = Jailer {
            program: "/usr/bin/jailer".into(),
            base: "/srv/jails".into(),
            user: JailUser { uid: 990, gid: 990 },
            cgroup: Some(JailCgroup {
                mount: "/sys/fs/cgroup".into(),
                parent: "plfm".into(),
                controllers: vec![],
            }),
            netns: None,
        };
        let jail = jailer
            .jail(Path::new("/nowhere/firecracker"), Path::new("/run/vm/0a-b"))
            .unwrap();
        assert_eq!(jail.root(), Path::new("/srv/jails/firecracker/0a-b/root"));
        assert_eq!(
            jail.cgroup.as_deref(),
            Some(Path::new("/sys/fs/cgroup/plfm/0a-b"))
        );
        for bad in [
            "/run/vm/a_b",
            "/run/vm/.tmp",
            "/",
            "/run/vm/ä",
            &format!("/{}", "x".repeat(65)),
        ] {
            let error = jailer
                .jail(Path::new("/nowhere/firecracker"), Path::new(bad))
                .unwrap_err();
            assert_eq!(error.code(), "jail_id_invalid", "{bad}");
        }
    }
}
