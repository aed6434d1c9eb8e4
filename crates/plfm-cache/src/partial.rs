//! Fetching straight into the cache: a file in `.staging` that outlives a cut connection, a crash and a restart.
//!
//! ```text
//! Cache::missing_artifacts --> Cache::staging_file --write*--> StagingFile --finish--> FetchedArtifact
//!                                     ^  |   |                                              |
//!                                     |  |   +-- restart: the source starts over            |
//!                                     +--+------ dropped, or the process died: it stays     v
//!                                                                   Cache::stage_fetched --> StagedRelease
//! ```
//!
//! Invariants: only what has the length and the digest of a verified manifest gets from here into a release; never
//! more is written than that manifest announces; one artifact is written by one [`StagingFile`] at a time.
//!
//! What is in the file is read and hashed when it is opened again, so nothing has to be known about how it got
//! there. A power cut may leave anything in it: that shows in the digest, and the file is thrown away.

mod upkeep;

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use plfm_release::{Artifact, ArtifactKind, Sha256Digest, Sha256Hasher, VerifiedManifest};

use crate::blob;
use crate::cache::Shared;
use crate::hold::Hold;
use crate::installed::open_artifact;
use crate::stage::{StagedFile, check_end, check_names, disk_full};
use crate::tree::Tree;
use crate::{
    Cache, DiskError, FileFacts, FileKind, Folder, OpenArtifactError, Place, StageError, StagedRelease,
};

pub(crate) use upkeep::{remove_unused, worth_keeping};

const PARTIAL_SUFFIX: &str = ".partial";

/// An artifact that is being fetched.
///
/// A write that fails consumes it: open it again and it goes on from what is on the disk. Dropped, it leaves the
/// file for the next [`Cache::staging_file`], in this process or the next.
pub struct StagingFile {
    shared: Arc<Shared>,
    artifact: Artifact,
    at: Place,
    file: File,
    length_bytes: u64,
    hasher: Sha256Hasher,
    hold: Hold<Sha256Digest>,
}

/// An artifact that was fetched: its length and digest are those of the manifest, and it is durable.
///
/// Dropped, it leaves the file for the next [`Cache::staging_file`].
#[must_use = "what was fetched is no part of a release until it is staged"]
pub struct FetchedArtifact {
    shared: Arc<Shared>,
    artifact: Artifact,
    at: Place,
    file: File,
    hold: Hold<Sha256Digest>,
}

impl Cache {
    /// The artifacts of a release that have to be fetched: those that are not here or do not verify. An artifact
    /// that has two names in the release is listed once.
    ///
    /// # Errors
    /// [`StageError`] when a name is taken or the disk fails.
    pub fn missing_artifacts(&self, manifest: &VerifiedManifest) -> Result<Vec<Artifact>, StageError> {
        let shared = &self.shared;
        check_names(shared, manifest)?;
        let mut missing: Vec<Artifact> = Vec::new();
        for artifact in manifest.manifest().artifacts() {
            if missing.iter().any(|other| other.sha256 == artifact.sha256) {
                continue;
            }
            match open_artifact(shared, &artifact) {
                Ok(_) => {}
                Err(OpenArtifactError::Disk(error)) => return Err(error.into()),
                Err(_) => missing.push(artifact),
            }
        }
        Ok(missing)
    }

    /// Opens the staging file of an artifact, with what was fetched of it before.
    ///
    /// Reads and hashes what is there; blocks accordingly.
    ///
    /// # Errors
    /// [`StageError::Busy`] while another [`StagingFile`] or [`FetchedArtifact`] of it lives, [`StageError::Disk`]
    /// when the disk fails.
    pub fn staging_file(
        &self,
        manifest: &VerifiedManifest,
        kind: ArtifactKind,
    ) -> Result<StagingFile, StageError> {
        let shared = &self.shared;
        let artifact = manifest.manifest().artifact(kind);
        let hold = shared
            .partials
            .take_alone(&artifact.sha256)
            .ok_or_else(|| StageError::Busy {
                name: artifact.name.clone(),
            })?;
        let tree = &shared.tree;
        let at = partial(&artifact.sha256);
        let found = tree.facts_at(&at)?;
        if found.is_some_and(|facts| !may_be_resumed(&facts, artifact.size_bytes)) {
            tree.remove(&at)?;
        }
        let (file, length_bytes) = open_at_end(tree, &at, artifact.size_bytes)?;
        let hasher = blob::hash_start(tree, &file, length_bytes).map_err(tree.fail("read", &at))?;
        Ok(StagingFile {
            shared: Arc::clone(shared),
            artifact,
            at,
            file,
            length_bytes,
            hasher,
            hold,
        })
    }

    /// Makes a staged release of artifacts that were fetched and of those that are here already.
    ///
    /// # Errors
    /// [`StageError::NotFetched`] when an artifact is neither, and as for [`Cache::stage`].
    pub fn stage_fetched(
        &self,
        manifest: &VerifiedManifest,
        fetched: Vec<FetchedArtifact>,
    ) -> Result<StagedRelease, StageError> {
        let mut fetched = fetched;
        self.stage_with(manifest, &mut |artifact| {
            let found = fetched.iter().position(|file| {
                file.artifact.sha256 == artifact.sha256 && Arc::ptr_eq(&file.shared, &self.shared)
            });
            match found {
                Some(found) => fetched.swap_remove(found).seal(),
                None => Err(StageError::NotFetched {
                    name: artifact.name.clone(),
                }),
            }
        })
    }
}

/// Opens a partial file, or a new one where what is there cannot be gone on with.
fn open_at_end(tree: &Tree, at: &Place, size_bytes_max: u64) -> Result<(File, u64), DiskError> {
    let file = match tree.disk().resume(at) {
        // Sealed by an installation that was cut: only root can go on with it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tree.remove(at)?;
            tree.disk().resume(at)
        }
        other => other,
    };
    let file = file.map_err(tree.fail("open", at))?;
    let facts = tree.disk().facts(&file).map_err(tree.fail("examine", at))?;
    // Nobody else writes here; whoever does gets no more than the rest of the artifact's length read.
    Ok((file, facts.size_bytes.min(size_bytes_max)))
}

fn may_be_resumed(facts: &FileFacts, size_bytes: u64) -> bool {
    facts.kind == FileKind::Regular && facts.size_bytes <= size_bytes
}

impl StagingFile {
    /// What is being fetched.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// How much of it is here, in bytes: where a range request goes on.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`StageError::TooLong`] when there are more than the manifest announces, with the file thrown away;
    /// [`StageError::DiskFull`] and [`StageError::Disk`] when the disk fails, with what was written left for the
    /// next attempt.
    pub fn write(mut self, bytes: &[u8]) -> Result<Self, StageError> {
        let tree = &self.shared.tree;
        let rest = self.artifact.size_bytes - self.length_bytes;
        if bytes.len() as u64 > rest {
            tree.remove(&self.at)?;
            return Err(StageError::TooLong {
                name: self.artifact.name.clone(),
                announced: self.artifact.size_bytes,
            });
        }
        tree.disk()
            .write(&self.file, bytes)
            .map_err(tree.fail("write", &self.at))
            .map_err(|error| disk_full(tree, &self.artifact, rest, error))?;
        self.hasher.update(bytes);
        self.length_bytes += bytes.len() as u64;
        Ok(self)
    }

    /// Throws away what was fetched: the source starts over.
    ///
    /// # Errors
    /// [`StageError::Disk`] when the disk fails.
    pub fn restart(mut self) -> Result<Self, StageError> {
        let tree = &self.shared.tree;
        tree.remove(&self.at)?;
        let (file, length_bytes) = open_at_end(tree, &self.at, self.artifact.size_bytes)?;
        self.file = file;
        self.length_bytes = length_bytes;
        self.hasher = Sha256Hasher::new();
        Ok(self)
    }

    /// Checks length and digest, and makes the file durable.
    ///
    /// # Errors
    /// [`StageError::Truncated`] when it is not whole yet, with the file left for the next attempt;
    /// [`StageError::DigestMismatch`] when it is not what the manifest announces, with the file thrown away;
    /// [`StageError::Disk`] when the disk fails.
    pub fn finish(self) -> Result<FetchedArtifact, StageError> {
        let tree = &self.shared.tree;
        match check_end(&self.artifact, self.length_bytes, self.hasher) {
            Ok(()) => {}
            Err(error) => {
                if matches!(error, StageError::DigestMismatch { .. }) {
                    tree.remove(&self.at)?;
                }
                return Err(error);
            }
        }
        tree.disk()
            .sync_file(&self.file)
            .map_err(tree.fail("sync", &self.at))?;
        Ok(FetchedArtifact {
            shared: self.shared,
            artifact: self.artifact,
            at: self.at,
            file: self.file,
            hold: self.hold,
        })
    }
}

impl FetchedArtifact {
    /// What was fetched.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// Makes it a staged file, which nobody writes any more.
    fn seal(self) -> Result<StagedFile, StageError> {
        let tree = &self.shared.tree;
        tree.disk()
            .seal(&self.file)
            .map_err(tree.fail("seal", &self.at))?;
        tree.disk()
            .sync_file(&self.file)
            .map_err(tree.fail("sync", &self.at))?;
        Ok(StagedFile::fetched(
            self.shared,
            self.at,
            self.artifact.sha256,
            self.hold,
        ))
    }
}

impl fmt::Debug for StagingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagingFile")
            .field("artifact", &self.artifact.name)
            .field("length_bytes", &self.length_bytes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FetchedArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedArtifact")
            .field("artifact", &self.artifact.name)
            .finish_non_exhaustive()
    }
}

fn partial(digest: &Sha256Digest) -> Place {
    Place::new(Folder::Staging, format!("{digest}{PARTIAL_SUFFIX}"))
}
