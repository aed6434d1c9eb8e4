//! A cpio archive (`newc`), compressed with gzip: bytes from a list of entries, and from nothing else.
//!
//! The kernel's own unpacker reads it (Documentation/driver-api/early-userspace/buffer-format.rst): parents must come
//! before their children, and regular files that share an inode number are hard links.

use std::collections::BTreeSet;
use std::io::{self, Write};

use cpio::newc::{Builder, ModeFileType};
use flate2::{Compression, GzBuilder};

use crate::Epoch;

/// The "unknown" operating system of RFC 1952: the archive is the same wherever it is made.
const GZIP_OS_UNKNOWN: u8 = 255;
/// Longest path, in bytes (`PATH_MAX` less its NUL): the kernel's unpacker skips longer ones without a word.
const PATH_BYTES_MAX: usize = 4095;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node<'a> {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// What is in it.
        content: &'a [u8],
    },
    /// A character device.
    CharDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: &'a str,
    },
}

/// One entry of an archive. Its owner is always root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its path, without a slash at the beginning.
    pub path: &'a str,
    /// Its permissions.
    pub mode: u16,
    /// What is there.
    pub node: Node<'a>,
}

/// Why a list of entries is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A path that could leave the root, or that no file can have.
    #[error("{path:?} cannot be a path in the initramfs")]
    BadPath {
        /// The path.
        path: String,
    },
    /// Permissions with other bits in them.
    #[error("{mode:#o} cannot be the permissions of {path} in the initramfs")]
    BadMode {
        /// The path.
        path: String,
        /// The permissions.
        mode: u16,
    },
    /// Two entries for a path.
    #[error("the initramfs has {path} twice")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// An entry whose directory is not there.
    #[error("the initramfs has {path}, but not its directory")]
    NoParent {
        /// The path.
        path: String,
    },
    /// A file of 4 GiB or more.
    #[error("{path} is too large for the initramfs: {bytes} bytes")]
    TooLarge {
        /// The path.
        path: String,
        /// Its size.
        bytes: usize,
    },
    /// The archive could not be put together.
    #[error("cannot pack the initramfs")]
    Pack(#[source] io::Error),
}

/// How hard gzip tries: 0 (stored) to 9. Unpacking costs at every boot, size once per host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GzipLevel(u32);

impl GzipLevel {
    /// Not compressed at all, in gzip's own framing.
    pub const STORED: Self = Self(0);

    /// The level, if there is one.
    pub fn new(level: u32) -> Option<Self> {
        (level <= 9).then_some(Self(level))
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// The archive of `entries`, in the order of their paths, whatever the order of the list.
///
/// # Errors
/// [`ArchiveError`] names the entry that cannot be in an archive.
pub fn pack(entries: &[Entry<'_>], epoch: Epoch) -> Result<Vec<u8>, ArchiveError> {
    let mut sorted = entries.to_vec();
    sorted.sort_by_key(|entry| entry.path);
    let mut directories = BTreeSet::new();
    let mut last = None;
    let mut archive = Vec::new();
    for (inode, entry) in (1..).zip(&sorted) {
        check(entry, &directories, last)?;
        if entry.node == Node::Directory {
            directories.insert(entry.path);
        }
        last = Some(entry.path);
        append(&mut archive, entry, inode, epoch)?;
    }
    cpio::newc::trailer(&mut archive).map_err(ArchiveError::Pack)?;
    Ok(archive)
}

/// `bytes` as one gzip member without a name or a time.
///
/// # Errors
/// When the compressor fails, which it does on no bytes.
pub fn gzip(bytes: &[u8], level: GzipLevel) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .operating_system(GZIP_OS_UNKNOWN)
        .write(Vec::new(), Compression::new(level.get()));
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn check(entry: &Entry<'_>, directories: &BTreeSet<&str>, last: Option<&str>) -> Result<(), ArchiveError> {
    let path = || entry.path.to_owned();
    let part_is_good = |part: &str| !part.is_empty() && part != "." && part != "..";
    let good = entry.path.len() <= PATH_BYTES_MAX
        && !entry.path.contains('\0')
        && entry.path != "TRAILER!!!"
        && entry.path.split('/').all(part_is_good);
    if !good {
        return Err(ArchiveError::BadPath { path: path() });
    }
    if entry.mode > 0o7777 {
        return Err(ArchiveError::BadMode {
            path: path(),
            mode: entry.mode,
        });
    }
    if last == Some(entry.path) {
        return Err(ArchiveError::Duplicate { path: path() });
    }
    match entry.path.rsplit_once('/') {
        Some((parent, _)) if !directories.contains(parent) => Err(ArchiveError::NoParent { path: path() }),
        _ => Ok(()),
    }
}

fn append(archive: &mut Vec<u8>, entry: &Entry<'_>, inode: u32, epoch: Epoch) -> Result<(), ArchiveError> {
    let header = Builder::new(entry.path)
        .ino(inode)
        .mode(u32::from(entry.mode))
        .uid(0)
        .gid(0)
        .mtime(epoch.seconds());
    let (header, content) = match entry.node {
        Node::Directory => (
            header.nlink(2).set_mode_file_type(ModeFileType::Directory),
            &[][..],
        ),
        Node::File { content } => (header.nlink(1).set_mode_file_type(ModeFileType::Regular), content),
        Node::CharDevice { major, minor } => {
            let header = header.nlink(1).rdev_major(major).rdev_minor(minor);
            (header.set_mode_file_type(ModeFileType::Char), &[][..])
        }
        Node::Symlink { target } => (
            header.nlink(1).set_mode_file_type(ModeFileType::Symlink),
            target.as_bytes(),
        ),
    };
    let too_large = |_| ArchiveError::TooLarge {
        path: entry.path.to_owned(),
        bytes: content.len(),
    };
    let size = u32::try_from(content.len()).map_err(too_large)?;
    let mut writer = header.write(archive, size);
    writer.write_all(content).map_err(ArchiveError::Pack)?;
    writer.finish().map_err(ArchiveError::Pack)?;
    Ok(())
}

#[cfg(test)]
mod tests;
