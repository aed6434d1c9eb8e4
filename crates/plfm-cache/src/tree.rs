//! Where everything is in the directory, and the few compound changes, with errors that name the path.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plfm_release::{ArtifactName, ReleaseId, Sha256Digest};

use crate::{Disk, FileFacts, FileKind, Folder, Place};

/// The link to the current kernel.
pub(crate) const CURRENT_KERNEL: &str = "current";
/// The link to the current initramfs.
pub(crate) const CURRENT_INITRAMFS: &str = "current-initramfs";
/// The link to the record of the current release, which decides.
pub(crate) const CURRENT_RECORD: &str = ".current";
pub(crate) const SIDECAR_SUFFIX: &str = ".sha256";
pub(crate) const RECORD_SUFFIX: &str = ".json";
/// The manifest of a release that is being removed.
pub(crate) const REMOVED_SUFFIX: &str = ".removed";
pub(crate) const INSTALL_TIME_SUFFIX: &str = ".installed";
/// How often a free name is looked for where foreign files are in the way.
const NAME_ATTEMPTS_MAX: u32 = 16;

/// An operation on the cache directory that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct DiskError {
    /// What was tried.
    pub action: &'static str,
    /// With what.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        if self.is_full() {
            "cache_disk_full"
        } else {
            "cache_disk_error"
        }
    }

    /// Whether there was no room.
    pub(crate) fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// What is where a symbolic link should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Absent,
    To(OsString),
    Other,
}

impl Link {
    pub(crate) fn leads_to(&self, wanted: &OsStr) -> bool {
        matches!(self, Self::To(target) if target == wanted)
    }
}

pub(crate) struct Tree {
    disk: Arc<dyn Disk>,
    staged: AtomicU64,
}

pub(crate) fn blob(digest: &Sha256Digest) -> Place {
    Place::new(Folder::Blobs, digest.to_string())
}

pub(crate) fn root(name: impl ToString) -> Place {
    Place::new(Folder::Root, name.to_string())
}

pub(crate) fn sidecar(name: &ArtifactName) -> Place {
    root(format!("{name}{SIDECAR_SUFFIX}"))
}

pub(crate) fn record(id: &ReleaseId) -> Place {
    metadata(id, RECORD_SUFFIX)
}

pub(crate) fn install_time(id: &ReleaseId) -> Place {
    metadata(id, INSTALL_TIME_SUFFIX)
}

pub(crate) fn removed(id: &ReleaseId) -> Place {
    metadata(id, REMOVED_SUFFIX)
}

/// What of a release has that suffix in `.releases`.
pub(crate) fn metadata(id: &ReleaseId, suffix: &str) -> Place {
    Place::new(Folder::Releases, format!("{id}{suffix}"))
}

/// What the `.current` link of a release says.
pub(crate) fn record_target(id: &ReleaseId) -> OsString {
    record(id).path().into_os_string()
}

/// The release that a file in `.releases` is the record of.
pub(crate) fn record_id(file_name: &OsStr) -> Option<ReleaseId> {
    id_with(file_name, RECORD_SUFFIX)
}

/// The release that a file in `.releases` with that suffix belongs to.
pub(crate) fn id_with(file_name: &OsStr, suffix: &str) -> Option<ReleaseId> {
    file_name.to_str()?.strip_suffix(suffix)?.parse().ok()
}

impl Tree {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            staged: AtomicU64::new(0),
        }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Makes an error of `at` out of an I/O error.
    pub(crate) fn fail(&self, action: &'static str, at: &Place) -> impl Fn(io::Error) -> DiskError + use<> {
        let path = self.disk.dir().join(at.path());
        move |source| DiskError {
            action,
            path: path.clone(),
            source,
        }
    }

    fn fail_folder(&self, action: &'static str, folder: Folder) -> impl Fn(io::Error) -> DiskError + use<> {
        let path = self.disk.dir().join(folder.path());
        move |source| DiskError {
            action,
            path: path.clone(),
            source,
        }
    }

    /// A place in `.staging` that this process has not used yet.
    pub(crate) fn next_staged(&self) -> Place {
        Place::new(
            Folder::Staging,
            self.staged.fetch_add(1, Ordering::Relaxed).to_string(),
        )
    }

    /// A new file in `.staging`.
    pub(crate) fn create_staged(&self) -> Result<(Place, File), DiskError> {
        let mut at = self.next_staged();
        for _ in 1..NAME_ATTEMPTS_MAX {
            match self.disk.create(&at) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => at = self.next_staged(),
                other => {
                    return other
                        .map(|file| (at.clone(), file))
                        .map_err(self.fail("create", &at));
                }
            }
        }
        self.disk
            .create(&at)
            .map(|file| (at.clone(), file))
            .map_err(self.fail("create", &at))
    }

    pub(crate) fn facts_at(&self, at: &Place) -> Result<Option<FileFacts>, DiskError> {
        self.disk.facts_at(at).map_err(self.fail("examine", at))
    }

    pub(crate) fn list(&self, folder: Folder) -> Result<Vec<OsString>, DiskError> {
        let mut names = self.disk.list(folder).map_err(self.fail_folder("list", folder))?;
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) fn sync_folder(&self, folder: Folder) -> Result<(), DiskError> {
        self.disk
            .sync_folder(folder)
            .map_err(self.fail_folder("sync", folder))
    }

    pub(crate) fn remove(&self, at: &Place) -> Result<(), DiskError> {
        self.disk.remove(at).map_err(self.fail("remove", at))
    }

    /// Removes a name if it is there; whether it was.
    pub(crate) fn remove_if_there(&self, at: &Place) -> Result<bool, DiskError> {
        match self.disk.remove(at) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.fail("remove", at)(error)),
        }
    }

    /// Removes a name if it is there and no directory, which the cache never made; whether it was.
    pub(crate) fn remove_file(&self, at: &Place) -> Result<bool, DiskError> {
        match self.remove_if_there(at) {
            Err(error) if error.source.kind() == io::ErrorKind::IsADirectory => Ok(false),
            other => other,
        }
    }

    pub(crate) fn rename(&self, from: &Place, to: &Place) -> Result<(), DiskError> {
        self.disk
            .rename(from, to)
            .map_err(self.fail("rename a file to", to))
    }

    /// Gives a file a second name, which must be free.
    pub(crate) fn link(&self, existing: &Place, new: &Place) -> Result<(), DiskError> {
        self.disk.link(existing, new).map_err(self.fail("link", new))
    }

    /// The whole of a small file, or `None` when it is not there. What is no regular file, or longer than such a
    /// file can be, is nothing that the cache wrote, and counts as empty.
    pub(crate) fn read_small(&self, at: &Place, bytes_max: usize) -> Result<Option<Vec<u8>>, DiskError> {
        let fail = self.fail("read", at);
        let foreign = Ok(Some(Vec::new()));
        match self.facts_at(at)? {
            None => return Ok(None),
            Some(facts) if facts.kind != FileKind::Regular => return foreign,
            Some(_) => {}
        }
        let file = match self.disk.open(at) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        // One byte more than allowed tells a file that is too long from one that just fits.
        let mut content = vec![0; bytes_max + 1];
        let mut length = 0;
        while let Some(rest) = content.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match self.disk.read_at(&file, rest, length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fail(error)),
            }
        }
        if length > bytes_max {
            return foreign;
        }
        content.truncate(length);
        Ok(Some(content))
    }

    /// Writes a small file whole: whoever opens it sees the old content or the new. The caller syncs the folder.
    pub(crate) fn write_small(&self, at: &Place, content: &[u8]) -> Result<(), DiskError> {
        let (staged, file) = self.create_staged()?;
        let written = (self
            .disk
            .write(&file, content)
            .map_err(self.fail("write", &staged)))
        .and_then(|()| self.disk.sync_file(&file).map_err(self.fail("sync", &staged)))
        .and_then(|()| self.rename(&staged, at));
        if written.is_err() {
            // What stays is removed at the next start.
            let _ = self.disk.remove(&staged);
        }
        written
    }

    pub(crate) fn link_at(&self, at: &Place) -> Result<Link, DiskError> {
        match self.facts_at(at)? {
            None => Ok(Link::Absent),
            Some(facts) if facts.kind == FileKind::Symlink => self
                .disk
                .read_link(at)
                .map(Link::To)
                .map_err(self.fail("read the link", at)),
            Some(_) => Ok(Link::Other),
        }
    }

    /// Makes `at` a symbolic link to `target`, at once. The caller syncs the folder.
    pub(crate) fn replace_symlink(&self, target: &OsStr, at: &Place) -> Result<(), DiskError> {
        let staged = self.next_staged();
        self.disk
            .symlink(target, &staged)
            .map_err(self.fail("create the link", &staged))?;
        self.rename(&staged, at)
    }

    /// Makes `new` a name of the file at `existing`, at once. The caller syncs the folder.
    pub(crate) fn replace_link(&self, existing: &Place, new: &Place) -> Result<(), DiskError> {
        let staged = self.next_staged();
        self.link(existing, &staged)?;
        self.rename(&staged, new)
    }
}
