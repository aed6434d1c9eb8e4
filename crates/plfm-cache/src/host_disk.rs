//! The real [`Disk`]: a directory of this host, locked for one process.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::{Disk, DiskError, FileFacts, FileKind, Folder, OpenError, Place};

const LOCK_FILE: &str = ".lock";
/// The mode of what nobody writes any more.
const READ_ONLY: u32 = 0o444;
const NANOSECONDS: i128 = 1_000_000_000;

/// A directory of this host. Nobody else has one for the same directory while this one lives.
#[derive(Debug)]
pub struct HostDisk {
    dir: PathBuf,
    root: OwnedFd,
    blobs: OwnedFd,
    releases: OwnedFd,
    staging: OwnedFd,
    quarantine: OwnedFd,
    lock: File,
}

impl Drop for HostDisk {
    fn drop(&mut self) {
        // Not left to the closing of the descriptor: a child that was forked and has not got to its exec yet has it too.
        let _ = self.lock.unlock();
    }
}

impl HostDisk {
    /// Opens `dir`, makes it and its folders where they are missing, and locks it.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process has it, [`OpenError::Disk`] when it cannot be made or opened.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let fail = |action, path: &Path| {
            let path = dir.join(path);
            move |source: Errno| DiskError {
                action,
                path,
                source: source.into(),
            }
        };
        make_dir(dir)?;
        let root = rustix::fs::open(
            dir,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(fail("open", Path::new("")))?;
        let lock = lock(dir, root.as_fd())?;
        let folder = |folder: Folder| -> Result<OwnedFd, DiskError> {
            match rustix::fs::mkdirat(&root, folder.path(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(fail("create", folder.path())(error)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&root, folder.path(), flags, Mode::empty())
                .map_err(fail("open as a directory", folder.path()))
        };
        let disk = Self {
            dir: dir.to_owned(),
            blobs: folder(Folder::Blobs)?,
            releases: folder(Folder::Releases)?,
            staging: folder(Folder::Staging)?,
            quarantine: folder(Folder::Quarantine)?,
            root,
            lock,
        };
        rustix::fs::fsync(&disk.root).map_err(fail("sync", Path::new("")))?;
        Ok(disk)
    }

    fn fd(&self, folder: Folder) -> BorrowedFd<'_> {
        match folder {
            Folder::Root => self.root.as_fd(),
            Folder::Blobs => self.blobs.as_fd(),
            Folder::Releases => self.releases.as_fd(),
            Folder::Staging => self.staging.as_fd(),
            Folder::Quarantine => self.quarantine.as_fd(),
        }
    }
}

fn make_dir(dir: &Path) -> Result<(), DiskError> {
    if dir.is_dir() {
        return Ok(());
    }
    let fail = |action, path: &Path| {
        let path = path.to_owned();
        move |source| DiskError { action, path, source }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .map_err(fail("create", dir))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(fail("sync", parent)),
        _ => Ok(()),
    }
}

fn lock(dir: &Path, root: BorrowedFd<'_>) -> Result<File, OpenError> {
    let fail = |action| {
        let path = dir.join(LOCK_FILE);
        move |source| DiskError { action, path, source }
    };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(root, LOCK_FILE, flags, Mode::from_raw_mode(0o600))
        .map_err(|error| fail("open")(error.into()))?;
    let file = File::from(file);
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(fail("lock")(source).into()),
    }
}

// The fields' integer types differ between machines.
#[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
fn facts_of(stat: &Stat) -> FileFacts {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    };
    let at = |seconds: i128, nanoseconds: i128| seconds * NANOSECONDS + nanoseconds;
    FileFacts {
        kind,
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        size_bytes: stat.st_size as u64,
        modified_ns: at(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
        changed_ns: at(stat.st_ctime.into(), stat.st_ctime_nsec.into()),
    }
}

impl Disk for HostDisk {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn clock_ns(&self) -> i128 {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        i128::from(now.tv_sec) * NANOSECONDS + i128::from(now.tv_nsec)
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::fstatvfs(&self.root)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn open(&self, at: &Place) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.fd(at.folder()), at.name(), flags, Mode::empty())?;
        // A regular file does not heed it, but whoever gets the descriptor should not have to know that.
        rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
        Ok(file.into())
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buffer, offset)
    }

    fn facts(&self, file: &File) -> io::Result<FileFacts> {
        Ok(facts_of(&rustix::fs::fstat(file)?))
    }

    fn facts_at(&self, at: &Place) -> io::Result<Option<FileFacts>> {
        match rustix::fs::statat(self.fd(at.folder()), at.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(facts_of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read_link(&self, at: &Place) -> io::Result<OsString> {
        let target = rustix::fs::readlinkat(self.fd(at.folder()), at.name(), Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    fn list(&self, folder: Folder) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(self.fd(folder))? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    fn create(&self, at: &Place) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(READ_ONLY);
        let file = rustix::fs::openat(self.fd(at.folder()), at.name(), flags, mode)?;
        // Whatever the umask is.
        rustix::fs::fchmod(&file, mode)?;
        Ok(file.into())
    }

    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_folder(&self, folder: Folder) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.fd(folder))?)
    }

    fn rename(&self, from: &Place, to: &Place) -> io::Result<()> {
        Ok(rustix::fs::renameat(
            self.fd(from.folder()),
            from.name(),
            self.fd(to.folder()),
            to.name(),
        )?)
    }

    fn link(&self, existing: &Place, new: &Place) -> io::Result<()> {
        let (from, to) = (self.fd(existing.folder()), self.fd(new.folder()));
        Ok(rustix::fs::linkat(
            from,
            existing.name(),
            to,
            new.name(),
            AtFlags::empty(),
        )?)
    }

    fn symlink(&self, target: &OsStr, at: &Place) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, self.fd(at.folder()), at.name())?)
    }

    fn remove(&self, at: &Place) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            self.fd(at.folder()),
            at.name(),
            AtFlags::empty(),
        )?)
    }
}
