//! Staging: artifacts stream in, and only what is exactly as long and exactly what was announced gets through.

mod error;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use plfm_release::{Artifact, Sha256Digest, Sha256Hasher, VerifiedManifest};

use crate::cache::Shared;
use crate::hold::Hold;
use crate::installed::open_artifact;
use crate::record;
use crate::tree::Tree;
use crate::{Cache, DiskError, OpenArtifactError, Place};

pub use error::StageError;

const CHUNK_BYTES: usize = 128 * 1024;

/// A release whose bytes are on this disk, verified and synced, and not visible yet. Dropped, it leaves nothing.
#[must_use = "a staged release is not installed until `install` is called"]
pub struct StagedRelease {
    pub(crate) shared: Arc<Shared>,
    pub(crate) manifest: VerifiedManifest,
    pub(crate) files: Vec<StagedFile>,
    /// What is here already stays here.
    pub(crate) counted_on: Vec<Hold<Sha256Digest>>,
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
        let artifacts = manifest.manifest().artifacts();
        // Before they are looked for: what is found stays.
        let counted_on = artifacts
            .each_ref()
            .map(|artifact| shared.artifacts.take(&artifact.sha256))
            .into();
        let mut files: Vec<StagedFile> = Vec::new();
        for artifact in &artifacts {
            if files.iter().any(|file| file.sha256 == artifact.sha256) {
                continue;
            }
            match open_artifact(shared, artifact) {
                Ok(_) => {}
                Err(OpenArtifactError::Disk(error)) => return Err(error.into()),
                Err(_) => {
                    let mut reader = source(artifact).map_err(|source| StageError::Source {
                        name: artifact.name.clone(),
                        source,
                    })?;
                    files.push(stage_artifact(shared, artifact, &mut *reader)?);
                }
            }
        }
        Ok(StagedRelease {
            shared: Arc::clone(shared),
            manifest: manifest.clone(),
            files,
            counted_on,
        })
    }
}

/// Tells a full disk from a broken one. `needed_bytes` were still to be written.
fn disk_full(tree: &Tree, artifact: &Artifact, needed_bytes: u64, error: DiskError) -> StageError {
    if !error.is_full() {
        return error.into();
    }
    StageError::DiskFull {
        name: Box::new(artifact.name.clone()),
        needed_bytes,
        available_bytes: tree.disk().available_bytes().ok(),
        source: error,
    }
}

fn stage_artifact(
    shared: &Arc<Shared>,
    artifact: &Artifact,
    reader: &mut dyn Read,
) -> Result<StagedFile, StageError> {
    let tree = &shared.tree;
    let full = |error| disk_full(tree, artifact, artifact.size_bytes, error);
    let (at, file) = tree.create_staged().map_err(full)?;
    let staged = StagedFile {
        shared: Arc::clone(shared),
        at,
        sha256: artifact.sha256,
    };
    copy(shared, artifact, reader, &file, &staged.at)?;
    tree.disk()
        .sync_file(&file)
        .map_err(tree.fail("sync", &staged.at))
        .map_err(full)?;
    Ok(staged)
}

fn copy(
    shared: &Shared,
    artifact: &Artifact,
    reader: &mut dyn Read,
    file: &File,
    at: &Place,
) -> Result<(), StageError> {
    let Artifact { name, size_bytes, .. } = artifact;
    let tree = &shared.tree;
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
        let rest = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| StageError::TooLong {
                name: name.clone(),
                announced: *size_bytes,
            })?;
        hasher.update(bytes);
        tree.disk()
            .write(file, bytes)
            .map_err(tree.fail("write", at))
            .map_err(|error| disk_full(tree, artifact, left, error))?;
        left = rest;
    }
    check_end(artifact, size_bytes - left, hasher)
}

/// Checks what came of an artifact when its source ended: `found_bytes`, all of which `hasher` has seen.
fn check_end(artifact: &Artifact, found_bytes: u64, hasher: Sha256Hasher) -> Result<(), StageError> {
    if found_bytes < artifact.size_bytes {
        return Err(StageError::Truncated {
            name: artifact.name.clone(),
            found: found_bytes,
            announced: artifact.size_bytes,
        });
    }
    let found = hasher.finish();
    if found != artifact.sha256 {
        return Err(StageError::DigestMismatch {
            name: artifact.name.clone(),
            found,
            announced: artifact.sha256,
        });
    }
    Ok(())
}
