//! Blobs: artifacts by digest, verified whenever they are used.
//!
//! Invariant: a descriptor that leaves this module is of a regular file whose content has the digest that was asked
//! for. Hashing is skipped only for a file that was hashed before and has not changed since, going by its device,
//! inode, length, mtime and ctime.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use plfm_release::{Artifact, Sha256Digest, Sha256Hasher};

use crate::tree::{self, Tree};
use crate::{DiskError, FileFacts, FileKind, Folder, Place};

/// How much is read at once while hashing: past this size more does not make it faster.
const CHUNK_BYTES: usize = 128 * 1024;
/// A file whose inode changed less than this ago is hashed again the next time: a file system stamps files with a
/// clock that ticks every few milliseconds, some every second, and a change within the tick would not show.
const SETTLED_NS: i128 = 2_000_000_000;
/// How many names one digest can have in `.quarantine`. A rotten file replaces the one before it; only where
/// something else than a file is in the way is another name needed.
const QUARANTINE_NAMES_MAX: u32 = 8;

/// How an artifact on disk differs from what its release's manifest announces.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rot {
    /// A link, a directory, a device or a pipe is in its place.
    #[error("it is not a regular file")]
    NotAFile,
    /// It got longer or shorter.
    #[error("it is {found} bytes long, not {announced}")]
    WrongSize {
        /// Its length.
        found: u64,
        /// The length in the manifest.
        announced: u64,
    },
    /// Its content changed.
    #[error("its SHA-256 is {found}, not {announced}")]
    WrongDigest {
        /// Its digest.
        found: Sha256Digest,
        /// The digest in the manifest.
        announced: Sha256Digest,
    },
}

/// Why a blob cannot be used.
#[derive(Debug)]
pub(crate) enum BlobFault {
    Missing,
    Rotted(Box<Rotten>),
    /// The disk cannot read it.
    Unreadable {
        error: DiskError,
        found: FileFacts,
    },
    Disk(DiskError),
}

/// A rotten blob, and which file it was.
#[derive(Debug)]
pub(crate) struct Rotten {
    pub(crate) rot: Rot,
    pub(crate) found: FileFacts,
}

/// The state in which each blob was last found good.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<HashMap<Sha256Digest, FileFacts>>);

impl Verified {
    /// Opens the blob of `artifact` and checks it.
    pub(crate) fn open(&self, tree: &Tree, artifact: &Artifact) -> Result<File, BlobFault> {
        let (file, found) = open_unread(tree, artifact)?;
        // Held while hashing: a hundred boots at once hash a blob once.
        let mut good = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if good.get(&artifact.sha256) == Some(&found) {
            return Ok(file);
        }
        good.remove(&artifact.sha256);
        let started_ns = tree.disk().clock_ns();
        let digest = hash(tree, &file, artifact.size_bytes).map_err(|error| {
            let error = tree.fail("read", &tree::blob(&artifact.sha256))(error);
            BlobFault::Unreadable { error, found }
        })?;
        if digest != artifact.sha256 {
            let rot = Rot::WrongDigest {
                found: digest,
                announced: artifact.sha256,
            };
            return Err(BlobFault::Rotted(Box::new(Rotten { rot, found })));
        }
        if is_settled(&found, started_ns) {
            good.insert(artifact.sha256, found);
        }
        Ok(file)
    }

    /// Remembers that a blob in this state was read and found good, by somebody who began at `started_ns`.
    pub(crate) fn remember(&self, digest: &Sha256Digest, found: &FileFacts, started_ns: i128) {
        if is_settled(found, started_ns) {
            let mut good = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            good.insert(*digest, *found);
        }
    }
}

/// Whether a change after `started_ns` would show in the facts.
fn is_settled(found: &FileFacts, started_ns: i128) -> bool {
    found.changed_ns + SETTLED_NS <= started_ns
}

/// Opens the blob of `artifact` and checks what shows without reading it.
pub(crate) fn open_unread(tree: &Tree, artifact: &Artifact) -> Result<(File, FileFacts), BlobFault> {
    let at = tree::blob(&artifact.sha256);
    let file = tree
        .disk()
        .open(&at)
        .map_err(|error| explain_open_error(tree, &at, error))?;
    let found = tree
        .disk()
        .facts(&file)
        .map_err(tree.fail("examine", &at))
        .map_err(BlobFault::Disk)?;
    let rotted = |rot| Err(BlobFault::Rotted(Box::new(Rotten { rot, found })));
    if found.kind != FileKind::Regular {
        return rotted(Rot::NotAFile);
    }
    if found.size_bytes != artifact.size_bytes {
        return rotted(Rot::WrongSize {
            found: found.size_bytes,
            announced: artifact.size_bytes,
        });
    }
    Ok((file, found))
}

fn explain_open_error(tree: &Tree, at: &Place, error: io::Error) -> BlobFault {
    if error.kind() == io::ErrorKind::NotFound {
        return BlobFault::Missing;
    }
    match tree.facts_at(at) {
        Ok(None) => BlobFault::Missing,
        Ok(Some(found)) if found.kind != FileKind::Regular => BlobFault::Rotted(Box::new(Rotten {
            rot: Rot::NotAFile,
            found,
        })),
        Ok(Some(_)) | Err(_) => BlobFault::Disk(tree.fail("open", at)(error)),
    }
}

/// The digest of the first `size_bytes` of `file`, and of the byte after them if there is one.
fn hash(tree: &Tree, file: &File, size_bytes: u64) -> io::Result<Sha256Digest> {
    let bytes_max = size_bytes.saturating_add(1);
    let mut hasher = Sha256Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    while offset < bytes_max {
        let wanted = usize::try_from(bytes_max - offset)
            .unwrap_or(CHUNK_BYTES)
            .min(CHUNK_BYTES);
        let part = chunk.get_mut(..wanted).unwrap_or_default();
        match tree.disk().read_at(file, part, offset) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(chunk.get(..read).unwrap_or_default());
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finish())
}

/// Moves a rotten blob out of the way, if it is still the file that was found, and takes away the names by which
/// people know it: a name that is visible is verified.
pub(crate) fn quarantine(tree: &Tree, digest: &Sha256Digest, found: &FileFacts) -> Result<(), DiskError> {
    let at = tree::blob(digest);
    if !tree.facts_at(&at)?.is_some_and(|now| now.is_same_file(found)) {
        return Ok(());
    }
    for name in tree.list(Folder::Root)? {
        let at = Place::new(Folder::Root, name);
        if tree.facts_at(&at)?.is_some_and(|facts| facts.is_same_file(found)) {
            tree.remove(&at)?;
            let mut sidecar = at.name().to_owned();
            sidecar.push(tree::SIDECAR_SUFFIX);
            tree.remove_if_there(&Place::new(Folder::Root, sidecar))?;
        }
    }
    tree.sync_folder(Folder::Root)?;
    let mut moved = tree.rename(&at, &Place::new(Folder::Quarantine, digest.to_string()));
    for n in 1..QUARANTINE_NAMES_MAX {
        if moved.is_ok() {
            break;
        }
        moved = tree.rename(&at, &Place::new(Folder::Quarantine, format!("{digest}.{n}")));
    }
    moved?;
    tree.sync_folder(Folder::Quarantine)?;
    tree.sync_folder(Folder::Blobs)
}
