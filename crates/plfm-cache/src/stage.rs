//! Staging: artifacts stream in, and only what is exactly as long and exactly what was announced gets through.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use plfm_release::{Artifact, ArtifactName, Sha256Digest, Sha256Hasher, VerifiedManifest};

use crate::cache::Shared;
use crate::installed::open_artifact;
use crate::record::{self, NameConflict};
use crate::{Cache, DiskError, OpenArtifactError, Place};

const CHUNK_BYTES: usize = 128 * 1024;

/// Why a release could not be staged. Nothing of it stays.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The source ended too early.
    #[error("artifact {name} ended after {found} bytes; its manifest announces {announced}")]
    Truncated {
        /// Its name.
        name: ArtifactName,
        /// How much came.
        found: u64,
        /// How much should have come.
        announced: u64,
    },
    /// The source went on after the end.
    #[error("artifact {name} is longer than the {announced} bytes that its manifest announces")]
    TooLong {
        /// Its name.
        name: ArtifactName,
        /// How much should have come.
        announced: u64,
    },
    /// The source gave other bytes than were signed.
    #[error("artifact {name} has SHA-256 {found}; its manifest announces {announced}")]
    DigestMismatch {
        /// Its name.
        name: ArtifactName,
        /// The digest of what came.
        found: Sha256Digest,
        /// The digest of what should have come.
        announced: Sha256Digest,
    },
    /// An installed release has that name for other bytes.
    #[error(transparent)]
    NameConflict(#[from] Box<NameConflict>),
    /// The source failed.
    #[error("artifact {name} could not be read from its source")]
    Source {
        /// Its name.
        name: ArtifactName,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl StageError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "artifact_truncated",
            Self::TooLong { .. } => "artifact_too_long",
            Self::DigestMismatch { .. } => "artifact_digest_mismatch",
            Self::NameConflict(_) => "artifact_name_conflict",
            Self::Source { .. } => "artifact_source_error",
            Self::Disk(error) => error.code(),
        }
    }
}

/// A release whose bytes are on this disk, verified and synced, and not visible yet. Dropped, it leaves nothing.
#[must_use = "a staged release is not installed until `install` is called"]
pub struct StagedRelease {
    pub(crate) shared: Arc<Shared>,
    pub(crate) manifest: VerifiedManifest,
    pub(crate) files: Vec<StagedFile>,
}

/// A finished file in `.staging`, removed when dropped.
pub(crate) struct StagedFile {
    shared: Arc<Shared>,
    pub(crate) at: Place,
    pub(crate) sha256: Sha256Digest,
}

impl fmt::Debug for StagedRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedRelease")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // After a successful installation it is not there any more; after a failure the next start removes it too.
        let _ = self.shared.tree.remove_if_there(&self.at);
    }
}

impl Cache {
    /// Reads a release's artifacts from `source`, checking size and digest in the stream. Never writes more than
    /// the manifest announces. An artifact that is here already and verifies is not asked for.
    ///
    /// # Errors
    /// [`StageError`] when an artifact is not what the manifest announces, when a name is taken, or when source or
    /// disk fail.
    pub fn stage(
        &self,
        manifest: &VerifiedManifest,
        source: &mut dyn FnMut(&Artifact) -> io::Result<Box<dyn Read>>,
    ) -> Result<StagedRelease, StageError> {
        let shared = &self.shared;
        if let Some(conflict) =
            record::find_name_conflict(&shared.tree, &shared.trust(), manifest.manifest())?
        {
            return Err(conflict.into());
        }
        let mut files = Vec::new();
        for artifact in manifest.manifest().artifacts() {
            match open_artifact(shared, &artifact) {
                Ok(_) => continue,
                Err(OpenArtifactError::Disk(error)) => return Err(error.into()),
                Err(_) => {}
            }
            let failed = |source| StageError::Source {
                name: artifact.name.clone(),
                source,
            };
            let mut reader = source(&artifact).map_err(failed)?;
            files.push(stage_artifact(shared, &artifact, &mut *reader)?);
        }
        Ok(StagedRelease {
            shared: Arc::clone(shared),
            manifest: manifest.clone(),
            files,
        })
    }
}

fn stage_artifact(
    shared: &Arc<Shared>,
    artifact: &Artifact,
    reader: &mut dyn Read,
) -> Result<StagedFile, StageError> {
    let tree = &shared.tree;
    let (at, file) = tree.create_staged()?;
    let staged = StagedFile {
        shared: Arc::clone(shared),
        at,
        sha256: artifact.sha256,
    };
    copy(shared, artifact, reader, &file, &staged.at)?;
    tree.disk()
        .sync_file(&file)
        .map_err(tree.fail("sync", &staged.at))?;
    Ok(staged)
}

fn copy(
    shared: &Shared,
    artifact: &Artifact,
    reader: &mut dyn Read,
    file: &File,
    at: &Place,
) -> Result<(), StageError> {
    let Artifact {
        name,
        sha256: announced,
        size_bytes,
        ..
    } = artifact;
    let disk = shared.tree.disk();
    let mut hasher = Sha256Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = *size_bytes;
    loop {
        // At the end one byte more is asked for, to see that there is none.
        let wanted = usize::try_from(left.max(1))
            .unwrap_or(CHUNK_BYTES)
            .min(CHUNK_BYTES);
        let read = match reader.read(chunk.get_mut(..wanted).unwrap_or_default()) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => {
                return Err(StageError::Source {
                    name: name.clone(),
                    source,
                });
            }
        };
        if read == 0 {
            break;
        }
        let bytes = chunk.get(..read).unwrap_or_default();
        left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| StageError::TooLong {
                name: name.clone(),
                announced: *size_bytes,
            })?;
        hasher.update(bytes);
        disk.write(file, bytes).map_err(shared.tree.fail("write", at))?;
    }
    if left > 0 {
        let found = size_bytes - left;
        return Err(StageError::Truncated {
            name: name.clone(),
            found,
            announced: *size_bytes,
        });
    }
    let found = hasher.finish();
    if found != *announced {
        return Err(StageError::DigestMismatch {
            name: name.clone(),
            found,
            announced: *announced,
        });
    }
    Ok(())
}
