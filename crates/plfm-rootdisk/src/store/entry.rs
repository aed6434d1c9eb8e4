//! One disk of the store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use plfm_release::Sha256Digest;
use serde::{Deserialize, Serialize};

use crate::defaults::ImageDefaults;
use crate::oci::ImageConfig;
use crate::store::error::fail;
use crate::store::lock::is_same;
use crate::store::{CONFIG, DISK, ImageKey, RECORD, Store, StoreError};

/// `record.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub disk_bytes: u64,
    pub disk_digest: Sha256Digest,
    #[serde(default)]
    pub dropped_xattrs: u64,
}

impl Record {
    pub(super) fn render(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// A disk that is there. While this lives, no process removes it.
#[derive(Debug)]
pub struct StoredImage {
    key: ImageKey,
    path: PathBuf,
    disk: File,
    record: Record,
    defaults: ImageDefaults,
}

impl Drop for StoredImage {
    fn drop(&mut self) {
        // As for every lock: a child before its exec has the descriptor too.
        let _ = self.disk.unlock();
    }
}

impl StoredImage {
    /// What decides its bytes.
    pub fn key(&self) -> ImageKey {
        self.key
    }

    /// The disk's file, to be attached read-only.
    pub fn disk_path(&self) -> PathBuf {
        self.path.join(DISK)
    }

    /// Size of the disk.
    pub fn disk_bytes(&self) -> u64 {
        self.record.disk_bytes
    }

    /// Digest of the disk.
    pub fn disk_digest(&self) -> Sha256Digest {
        self.record.disk_digest
    }

    /// Extended attributes of the image that Linux has no place for.
    pub fn dropped_xattrs(&self) -> u64 {
        self.record.dropped_xattrs
    }

    /// When an instance was last made of it; when it was built, if none was.
    pub fn used_at(&self) -> Option<SystemTime> {
        fs::metadata(self.path.join(RECORD)).ok()?.modified().ok()
    }

    /// Notes that an instance is made of it now.
    ///
    /// # Errors
    /// [`StoreError`] if the store refuses it.
    pub fn note_use(&self, now: SystemTime) -> Result<(), StoreError> {
        let path = self.path.join(RECORD);
        let note = || File::options().write(true).open(&path)?.set_modified(now);
        note().map_err(fail("write", &path))
    }

    /// How the image's program is meant to run.
    pub fn defaults(&self) -> &ImageDefaults {
        &self.defaults
    }

    /// The image's configuration, byte for byte.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn config(&self) -> Result<Vec<u8>, StoreError> {
        let path = self.path.join(CONFIG);
        fs::read(&path).map_err(fail("read", &path))
    }
}

impl Store {
    /// A disk by what decides it. What is damaged counts as not there: it is built again.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn get(&self, key: &ImageKey) -> Result<Option<StoredImage>, StoreError> {
        let path = self.root.join(key.to_string());
        let disk_path = path.join(DISK);
        let disk = match File::open(&disk_path) {
            Ok(disk) => disk,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail("open", &disk_path)(error)),
        };
        disk.lock_shared().map_err(fail("lock", &disk_path))?;
        if !is_same(&disk, &disk_path) {
            return Ok(None);
        }
        let (Some(record), Some(defaults)) = (read_record(&path)?, read_defaults(&path)?) else {
            return Ok(None);
        };
        let size_bytes = disk.metadata().map_err(fail("read", &disk_path))?.len();
        Ok((size_bytes == record.disk_bytes).then_some(StoredImage {
            key: *key,
            path,
            disk,
            record,
            defaults,
        }))
    }

    /// All disks, by key.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn list(&self) -> Result<Vec<StoredImage>, StoreError> {
        let mut stored = Vec::new();
        for key in self.keys()? {
            stored.extend(self.get(&key)?);
        }
        Ok(stored)
    }

    /// The disks of one image, in whatever format.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn of_image(&self, image: Sha256Digest) -> Result<Vec<StoredImage>, StoreError> {
        let keys = self.keys()?.into_iter().filter(|key| key.image == image);
        let stored = keys.map(|key| self.get(&key)).collect::<Result<Vec<_>, _>>()?;
        Ok(stored.into_iter().flatten().collect())
    }

    pub(super) fn keys(&self) -> Result<Vec<ImageKey>, StoreError> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(fail("list", &self.root))? {
            let entry = entry.map_err(fail("list", &self.root))?;
            keys.extend(
                entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<ImageKey>().ok()),
            );
        }
        keys.sort();
        Ok(keys)
    }
}

fn read_record(path: &Path) -> Result<Option<Record>, StoreError> {
    Ok(read(&path.join(RECORD))?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn read_defaults(path: &Path) -> Result<Option<ImageDefaults>, StoreError> {
    Ok(read(&path.join(CONFIG))?
        .and_then(|bytes| ImageConfig::parse(&bytes).ok())
        .map(|config| config.defaults))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail("read", path)(error)),
    }
}
