//! Every operation on the file system that the cache makes, as a trait.
//!
//! A file is named by a [`Place`]: one of five folders, which are held open, and one path component. So nothing
//! that is planted inside the directory can lead an operation out of it. The cache changes files through [`Disk`]
//! alone, which is where tests stop it after any operation; the real one is [`crate::HostDisk`].

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A folder of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// The cache directory itself: the names that the spec defines.
    Root,
    /// `.blobs`: artifacts by digest.
    Blobs,
    /// `.releases`: signed manifests and their installation times.
    Releases,
    /// `.staging`: what is not finished.
    Staging,
    /// `.quarantine`: what rotted.
    Quarantine,
}

impl Folder {
    /// All folders.
    pub const ALL: [Self; 5] = [
        Self::Root,
        Self::Blobs,
        Self::Releases,
        Self::Staging,
        Self::Quarantine,
    ];

    /// Its path in the cache directory.
    pub fn path(self) -> &'static Path {
        Path::new(match self {
            Self::Root => "",
            Self::Blobs => ".blobs",
            Self::Releases => ".releases",
            Self::Staging => ".staging",
            Self::Quarantine => ".quarantine",
        })
    }
}

/// Where one file is: a folder and a single path component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    folder: Folder,
    name: OsString,
}

impl Place {
    /// `name` must be one path component; the callers make it of digests, release ids, artifact names, counters
    /// and directory entries, which are.
    pub(crate) fn new(folder: Folder, name: impl Into<OsString>) -> Self {
        Self {
            folder,
            name: name.into(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> Folder {
        self.folder
    }

    /// The name in the folder.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The path in the cache directory.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }
}

/// What is at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// What it is.
    pub kind: FileKind,
    /// Its device.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Its length, in bytes.
    pub size_bytes: u64,
    /// When its content last changed, in nanoseconds since the epoch.
    pub modified_ns: i128,
    /// When its inode last changed, in nanoseconds since the epoch. A process cannot set it.
    pub changed_ns: i128,
}

impl FileFacts {
    /// Whether both are names of one file.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// The operations. Each is one system call, or so close to one that stopping inside it is stopping before it.
pub trait Disk: Send + Sync {
    /// The cache directory, for messages.
    fn dir(&self) -> &Path;

    /// The clock that stamps the files, in nanoseconds since the epoch.
    fn clock_ns(&self) -> i128;

    /// How much can still be written to its file system, in bytes.
    ///
    /// # Errors
    /// As `fstatvfs(2)`.
    fn available_bytes(&self) -> io::Result<u64>;

    /// Opens a file for reading. Never follows a symbolic link, never waits for the other end of a pipe.
    ///
    /// # Errors
    /// As `openat(2)`.
    fn open(&self, at: &Place) -> io::Result<File>;

    /// Reads from `offset` on, without moving the file's own offset.
    ///
    /// # Errors
    /// As `pread(2)`.
    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The facts of an open file.
    ///
    /// # Errors
    /// As `fstat(2)`.
    fn facts(&self, file: &File) -> io::Result<FileFacts>;

    /// The facts of what is at a place, itself and not what it links to; `None` when nothing is.
    ///
    /// # Errors
    /// As `fstatat(2)`.
    fn facts_at(&self, at: &Place) -> io::Result<Option<FileFacts>>;

    /// What the symbolic link at a place says.
    ///
    /// # Errors
    /// As `readlinkat(2)`.
    fn read_link(&self, at: &Place) -> io::Result<OsString>;

    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// As `getdents(2)`.
    fn list(&self, folder: Folder) -> io::Result<Vec<OsString>>;

    /// Creates a file with mode 0444 that is not there yet, open for writing.
    ///
    /// # Errors
    /// As `openat(2)`.
    fn create(&self, at: &Place) -> io::Result<File>;

    /// Appends to a file just created.
    ///
    /// # Errors
    /// As `write(2)`.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file's content durable.
    ///
    /// # Errors
    /// As `fsync(2)`.
    fn sync_file(&self, file: &File) -> io::Result<()>;

    /// Makes the folder's entries durable.
    ///
    /// # Errors
    /// As `fsync(2)`.
    fn sync_folder(&self, folder: Folder) -> io::Result<()>;

    /// Gives the file at `from` the name `to`, replacing what has it.
    ///
    /// # Errors
    /// As `renameat(2)`.
    fn rename(&self, from: &Place, to: &Place) -> io::Result<()>;

    /// Gives the file at `existing` a second name, which must be free.
    ///
    /// # Errors
    /// As `linkat(2)`.
    fn link(&self, existing: &Place, new: &Place) -> io::Result<()>;

    /// Makes a symbolic link under a name that must be free.
    ///
    /// # Errors
    /// As `symlinkat(2)`.
    fn symlink(&self, target: &OsStr, at: &Place) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    /// As `unlinkat(2)`.
    fn remove(&self, at: &Place) -> io::Result<()>;
}
