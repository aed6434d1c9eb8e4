//! The disks of a VM, opened and locked.
//!
//! Firecracker locks nothing, so a disk that is written is locked here: a second VM with it does not start.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use crate::config::{Disk, DiskAccess};

/// An open disk. Closing it lets go of its lock.
#[derive(Debug)]
pub(crate) struct OpenDisk {
    pub(crate) path: PathBuf,
    pub(crate) access: DiskAccess,
    pub(crate) file: File,
}

/// A disk is not usable.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It can't be opened.
    #[error("can't open disk {}", path.display())]
    Open {
        /// The disk.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a directory, a pipe or the like.
    #[error("disk {} is neither a file nor a block device", path.display())]
    Kind {
        /// The disk.
        path: PathBuf,
    },
    /// Another VM writes it.
    #[error("disk {} is in use by another vm", path.display())]
    InUse {
        /// The disk.
        path: PathBuf,
    },
}

impl DiskError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            DiskError::Open { .. } => "disk_not_opened",
            DiskError::Kind { .. } => "disk_kind_invalid",
            DiskError::InUse { .. } => "disk_in_use",
        }
    }
}

impl OpenDisk {
    /// Opens all of a VM's disks, in order.
    pub(crate) fn open_all(disks: &[Disk]) -> Result<Vec<OpenDisk>, DiskError> {
        disks.iter().map(OpenDisk::open).collect()
    }

    fn open(disk: &Disk) -> Result<OpenDisk, DiskError> {
        let path = disk.path.clone();
        let is_written = disk.access == DiskAccess::ReadWrite;
        let mut options = OpenOptions::new();
        options.read(true).write(is_written);
        // A pipe in its place must not hold the start up.
        std::os::unix::fs::OpenOptionsExt::custom_flags(
            &mut options,
            i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0),
        );
        let file = match options.open(&path) {
            Ok(file) => file,
            Err(source) => return Err(DiskError::Open { path, source }),
        };
        let kind = file.metadata().map(|meta| meta.file_type());
        if !kind.is_ok_and(|kind| kind.is_file() || kind.is_block_device()) {
            return Err(DiskError::Kind { path });
        }
        if is_written && flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(DiskError::InUse { path });
        }
        Ok(OpenDisk {
            path,
            access: disk.access,
            file,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path, access: DiskAccess) -> Result<OpenDisk, &'static str> {
        let disk = Disk {
            path: path.to_path_buf(),
            access,
        };
        OpenDisk::open(&disk).map_err(|error| error.code())
    }

    #[test]
    fn a_disk_that_is_written_is_written_by_one() {
        use DiskAccess::{ReadOnly, ReadWrite};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::write(&path, "x").unwrap();
        let writer = open(&path, ReadWrite).unwrap();
        assert_eq!(open(&path, ReadWrite).unwrap_err(), "disk_in_use");
        assert!(open(&path, ReadOnly).is_ok());
        drop(writer);
        assert!(open(&path, ReadWrite).is_ok());
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            open(dir.path(), DiskAccess::ReadOnly).unwrap_err(),
            "disk_kind_invalid"
        );
        let missing = dir.path().join("missing");
        assert_eq!(
            open(&missing, DiskAccess::ReadOnly).unwrap_err(),
            "disk_not_opened"
        );
    }
}
