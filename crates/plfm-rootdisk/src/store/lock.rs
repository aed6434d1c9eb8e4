//! One worker for one disk, across processes: a lock on a file that may be removed by who holds it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Times that the file may be removed under a waiter's hands before it gives up.
const TRIES_MAX: u32 = 100;

/// A lock that is held.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Not left to the closing of the descriptor: a child that was forked and has not got to its exec yet has it too.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Removes the lock's file, for a disk that is gone.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes the lock; `on_wait` is called if somebody else has it.
pub(super) fn lock(path: &Path, mut on_wait: impl FnMut()) -> io::Result<Lock> {
    for _ in 0..TRIES_MAX {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                on_wait();
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if is_same(&file, path) {
            return Ok(Lock {
                file,
                path: path.to_owned(),
            });
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Takes the lock, if nobody has it.
pub(super) fn try_lock(path: &Path) -> io::Result<Option<Lock>> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) if is_same(&file, path) => Ok(Some(Lock {
            file,
            path: path.to_owned(),
        })),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
}

/// Whether the path still leads to this file: a lock on one that was removed keeps nobody away.
pub(crate) fn is_same(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}
