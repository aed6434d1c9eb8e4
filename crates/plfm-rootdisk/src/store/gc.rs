//! What goes: disks that nobody needs, names without a disk, what cut builds and pulls left.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::store::error::fail;
use crate::store::lock::try_lock;
use crate::store::{BLOBS, DISK, ImageKey, LOCKS, STAGING, Store, StoreError, remove_tree, sync_dir};

/// The file that pulls lock together, and who removes blobs alone.
const BLOBS_LOCK: &str = "lock";

/// What [`Store::gc`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// Disks that are gone.
    pub removed: Vec<ImageKey>,
    /// Disks that stay though nobody named them: something holds them, or they are being built.
    pub held: Vec<ImageKey>,
    /// Bytes of the disks that are gone.
    pub bytes: u64,
}

/// A pull's claim on the blobs.
#[derive(Debug)]
pub(crate) struct BlobsClaim(File);

impl Drop for BlobsClaim {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl Store {
    /// Removes every disk that is neither in `in_use` nor held, names that lead nowhere, and what was left unfinished.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read or something not be removed. What was removed is.
    pub fn gc(&self, in_use: &BTreeSet<ImageKey>) -> Result<Removed, StoreError> {
        let mut done = Removed::default();
        for key in self.keys()? {
            if in_use.contains(&key) {
                continue;
            }
            match self.remove(&key)? {
                Some(bytes) => {
                    done.bytes = done.bytes.saturating_add(bytes);
                    done.removed.push(key);
                }
                None => done.held.push(key),
            }
        }
        self.remove_leftovers()?;
        self.remove_names()?;
        self.trim_blobs(true)?;
        Ok(done)
    }

    /// Removes one disk; nothing if somebody has it.
    fn remove(&self, key: &ImageKey) -> Result<Option<u64>, StoreError> {
        let lock_path = self.root.join(LOCKS).join(key.to_string());
        let Some(lock) = try_lock(&lock_path).map_err(fail("lock", &lock_path))? else {
            return Ok(None);
        };
        let path = self.root.join(key.to_string());
        let disk_path = path.join(DISK);
        let disk = File::open(&disk_path);
        let bytes = match &disk {
            Ok(disk) => match disk.try_lock() {
                Ok(()) => disk.metadata().map_or(0, |metadata| metadata.len()),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(fail("lock", &disk_path)(error)),
            },
            Err(_) => 0,
        };
        // Out of sight as a whole first: no moment shows half a disk.
        let away = self.staging(key);
        remove_tree(&away)?;
        fs::rename(&path, &away).map_err(fail("remove", &path))?;
        sync_dir(&self.root).map_err(fail("sync", &self.root))?;
        remove_tree(&away)?;
        if let Ok(disk) = &disk {
            let _ = disk.unlock();
        }
        lock.remove();
        Ok(Some(bytes))
    }

    fn remove_leftovers(&self) -> Result<(), StoreError> {
        let folder = self.root.join(STAGING);
        for path in entries(&folder)? {
            let Some(name) = path.file_name() else { continue };
            let lock_path = self.root.join(LOCKS).join(name);
            if let Some(lock) = try_lock(&lock_path).map_err(fail("lock", &lock_path))? {
                remove_tree(&path)?;
                lock.remove();
            }
        }
        Ok(())
    }

    fn remove_names(&self) -> Result<(), StoreError> {
        let images: BTreeSet<_> = self.keys()?.into_iter().map(|key| key.image).collect();
        for (name, image) in self.names()? {
            if !images.contains(&image) {
                self.forget(&name)?;
            }
        }
        Ok(())
    }

    /// Keeps blobs from being removed while a pull needs them.
    pub(crate) fn claim_blobs(&self) -> Result<BlobsClaim, StoreError> {
        let path = self.root.join(BLOBS).join(BLOBS_LOCK);
        let claim = || {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            file.lock_shared()?;
            Ok(BlobsClaim(file))
        };
        claim().map_err(fail("lock", &path))
    }

    /// Removes blobs, unless a pull goes on; those that are not complete only if `with_parts`: they are what the next
    /// pull goes on with.
    pub(crate) fn trim_blobs(&self, with_parts: bool) -> Result<(), StoreError> {
        let lock_path = self.root.join(BLOBS).join(BLOBS_LOCK);
        let Some(_lock) = try_lock(&lock_path).map_err(fail("lock", &lock_path))? else {
            return Ok(());
        };
        for path in entries(&self.root.join(BLOBS).join("sha256"))? {
            if with_parts || path.extension().is_none() {
                fs::remove_file(&path).map_err(fail("remove", &path))?;
            }
        }
        Ok(())
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    };
    list().map_err(fail("list", folder))
}
