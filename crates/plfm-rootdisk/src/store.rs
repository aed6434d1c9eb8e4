//! The host's root disks: built once, shared by all instances, never written again.
//!
//! ```text
//! images/
//!   <sha256>-erofs-1/         one disk: digest of the image, format, version of the builder
//!     disk                    mode 0444; attached read-only to any number of instances
//!     config.json             the image's configuration, byte for byte
//!     record.json             size and digest of the disk
//!   .names/<sha256>.json      which image a name meant when it was last looked up
//!   .blobs/sha256/<hex>       layers of a pull that goes on, `.part` while they are fetched
//!   .staging/<key>/           a disk that is being built, or of a build that was cut
//!   .locks/<key>              locked by who builds or removes the disk
//! ```
//!
//! Invariants:
//! - A directory without a dot is complete and synced: it is staged and renamed as a whole. A crash leaves the old
//!   state or the new one, and what it leaves in `.staging` goes with the next build of the disk or the next `gc`.
//! - Of several builders of one disk, in one process or in several, one works and the others get what it made.
//! - [`Store::gc`] removes nothing that a [`StoredImage`] in any process holds, nor what the caller says is in use.

mod entry;
mod error;
mod gc;
mod key;
mod lock;
mod names;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use plfm_release::{Sha256Digest, Sha256Hasher};

use crate::disk::{BUILDER_VERSION, BuildError, DiskFormat, Step, build};
use crate::image::Image;
use crate::limits::Limits;
use crate::source::BlobDirectory;

pub use entry::StoredImage;
pub use error::StoreError;
pub(crate) use gc::BlobsClaim;
pub use gc::Removed;
pub use key::ImageKey;

use entry::Record;
use error::fail;
use lock::{Lock, lock};

pub(crate) use lock::is_same;

const NAMES: &str = ".names";
const BLOBS: &str = ".blobs";
const STAGING: &str = ".staging";
const LOCKS: &str = ".locks";
const DISK: &str = "disk";
const CONFIG: &str = "config.json";
const RECORD: &str = "record.json";

/// A directory of root disks. Any number of processes may have the same one.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens a directory, made where it is missing.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be made.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self {
            root: root.to_owned(),
        };
        let folders = [
            PathBuf::new(),
            NAMES.into(),
            Path::new(BLOBS).join("sha256"),
            STAGING.into(),
            LOCKS.into(),
        ];
        for folder in folders {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(fail("create", &path))?;
        }
        Ok(store)
    }

    /// What the store's file system has room for.
    ///
    /// # Errors
    /// [`StoreError`] if it does not say.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let stat =
            rustix::fs::statvfs(&self.root).map_err(|error| fail("look at", &self.root)(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Where a pull puts what it fetches.
    pub(crate) fn blobs(&self) -> BlobDirectory {
        BlobDirectory::new(self.root.join(BLOBS))
    }

    fn staging(&self, key: &ImageKey) -> PathBuf {
        self.root.join(STAGING).join(key.to_string())
    }

    /// The disk of an image, built if it is not there. `on_step` hears what happens.
    ///
    /// # Errors
    /// [`StoreError`]: a layer is not taken, or the disk cannot be written. Nothing of it stays.
    pub fn build(
        &self,
        image: &Image,
        format: DiskFormat,
        limits: &Limits,
        on_step: &mut dyn FnMut(Step),
    ) -> Result<StoredImage, StoreError> {
        let key = ImageKey {
            image: image.digest(),
            format,
            builder: BUILDER_VERSION,
        };
        if let Some(stored) = self.get(&key)? {
            return Ok(stored);
        }
        let _lock = self.lock(&key, || on_step(Step::Wait))?;
        if let Some(stored) = self.get(&key)? {
            return Ok(stored);
        }
        let staging = self.staging(&key);
        let result = self.stage(image, &key, limits, &staging, on_step);
        if result.is_err() {
            // The error that led here says more than one of cleaning up; what stays goes with the next build.
            let _ = fs::remove_dir_all(&staging);
        }
        result?;
        self.get(&key)?
            .ok_or_else(|| fail("find", &self.root.join(key.to_string()))(io::ErrorKind::NotFound.into()))
    }

    fn lock(&self, key: &ImageKey, on_wait: impl FnMut()) -> Result<Lock, StoreError> {
        let path = self.root.join(LOCKS).join(key.to_string());
        lock(&path, on_wait).map_err(fail("lock", &path))
    }

    fn stage(
        &self,
        image: &Image,
        key: &ImageKey,
        limits: &Limits,
        staging: &Path,
        on_step: &mut dyn FnMut(Step),
    ) -> Result<(), StoreError> {
        remove_tree(staging)?;
        let (work, entry) = (staging.join("work"), staging.join("entry"));
        for path in [staging, &work, &entry] {
            make_private(path).map_err(fail("create", path))?;
        }
        let disk = entry.join(DISK);
        let built = build(image, key.format, limits, &work, &disk, on_step)?;
        let digest = finish_disk(&disk).map_err(fail("sync", &disk))?;
        let record = Record {
            disk_bytes: built.size_bytes,
            disk_digest: digest,
            dropped_xattrs: built.dropped_xattrs,
        };
        write_synced(&entry.join(CONFIG), image.config())?;
        write_synced(&entry.join(RECORD), &record.render())?;
        open_up(&entry)
            .and_then(|()| sync_dir(&entry))
            .map_err(fail("sync", &entry))?;
        let to = self.root.join(key.to_string());
        // What is there without a record that can be read is of no use to anyone.
        remove_tree(&to)?;
        fs::rename(&entry, &to).map_err(fail("install", &to))?;
        sync_dir(&self.root).map_err(fail("sync", &self.root))?;
        remove_tree(staging)
    }
}

impl From<BuildError> for StoreError {
    fn from(source: BuildError) -> Self {
        Self::Build(source)
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// A finished entry: the VMM may run as another user.
fn open_up(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Digest of the disk; read-only and synced from now on.
fn finish_disk(path: &Path) -> io::Result<Sha256Digest> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut file = File::open(path)?;
    let mut hasher = Sha256Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => break,
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
    file.set_permissions(fs::Permissions::from_mode(0o444))?;
    file.sync_all()?;
    Ok(hasher.finish())
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let write = || {
        let mut file = File::create(path)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    write().map_err(fail("write", path))
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn remove_tree(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail("remove", path)(error)),
        _ => Ok(()),
    }
}
