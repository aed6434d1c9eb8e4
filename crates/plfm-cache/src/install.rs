//! Installing: a staged release gets its names, and its record last.
//!
//! ```text
//! .staging/N -> .blobs/<sha256>   sync .blobs        the bytes were synced when they were staged
//! names and sidecars              sync the top       a name leads to a durable blob
//! .releases/<id>.installed        sync .releases
//! .releases/<id>.json             sync .releases     now it is installed
//! ```

use jiff::Timestamp;
use plfm_release::{
    Artifact, ArtifactName, Incompatible, ManifestError, ReleaseId, SignedManifest, VerifyError,
};

use crate::blob::{self, BlobFault};
use crate::cache::Shared;
use crate::record::{self, NameConflict, Record};
use crate::stage::StagedFile;
use crate::tree::{self, Tree};
use crate::{Cache, DiskError, Folder, InstalledRelease, Place, ReleaseError, StagedRelease};

/// Longest sidecar: a digest, two spaces, a name and a newline.
const SIDECAR_BYTES_MAX: usize = 512;

/// Why a release was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// This agent must not run it.
    #[error("release {release} does not fit this agent")]
    Incompatible {
        /// The release.
        release: Box<ReleaseId>,
        /// Why.
        #[source]
        source: Incompatible,
    },
    /// Its manifest is none.
    #[error("the manifest of release {release} is damaged")]
    Damaged {
        /// The release.
        release: Box<ReleaseId>,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// This cache does not trust it.
    #[error("the manifest of release {release} is not to be trusted")]
    Untrusted {
        /// The release.
        release: Box<ReleaseId>,
        /// Why.
        #[source]
        source: VerifyError,
    },
    /// An installed release has that name for other bytes.
    #[error(transparent)]
    NameConflict(#[from] Box<NameConflict>),
    /// An artifact that was in the cache during staging is not any more.
    #[error("artifact {name} was lost from the cache after staging; stage the release again")]
    ArtifactLost {
        /// Its name.
        name: ArtifactName,
    },
    /// What was installed does not read back.
    #[error("release {release} was installed and cannot be read back")]
    NotReadBack {
        /// The release.
        release: Box<ReleaseId>,
        /// Why.
        #[source]
        source: Box<ReleaseError>,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl InstallError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Incompatible { source, .. } => source.code(),
            Self::Damaged { source, .. } => source.code(),
            Self::Untrusted { source, .. } => source.code(),
            Self::NameConflict(_) => "artifact_name_conflict",
            Self::ArtifactLost { .. } => "artifact_lost",
            Self::NotReadBack { source, .. } => source.code(),
            Self::Disk(error) => error.code(),
        }
    }
}

impl StagedRelease {
    /// The release's id.
    pub fn id(&self) -> ReleaseId {
        self.manifest.manifest().release_id()
    }

    /// Installs the release. To install what is installed changes nothing, and a release that was signed anew
    /// gets its new manifest.
    ///
    /// # Errors
    /// [`InstallError`] when the release is not for this agent, not trusted at `now`, or in conflict with another,
    /// with nothing changed; and when the disk fails, with what is not recorded left to the next attempt.
    pub fn install(self, now: Timestamp) -> Result<InstalledRelease, InstallError> {
        let Self {
            shared,
            manifest,
            mut files,
            counted_on: _counted_on,
        } = self;
        let release = manifest.manifest().release_id();
        let hold = shared.releases.take(&release);
        let changing = shared.changing();
        let trust = shared.trust();
        trust
            .check(manifest.manifest())
            .map_err(|source| InstallError::Incompatible {
                release: Box::new(release.clone()),
                source,
            })?;
        // What is recorded with the very same bytes is judged by the moment at which it was.
        let recorded = match Record::read(&shared.tree, &trust, &release) {
            Ok(record) => record.manifest == manifest,
            Err(ReleaseError::Disk(error)) => return Err(error.into()),
            Err(_) => false,
        };
        if !recorded {
            let signed =
                SignedManifest::parse(manifest.as_bytes()).map_err(|source| InstallError::Damaged {
                    release: Box::new(release.clone()),
                    source,
                })?;
            trust
                .verify(signed, now)
                .map_err(|source| InstallError::Untrusted {
                    release: Box::new(release.clone()),
                    source,
                })?;
        }
        if let Some(conflict) = record::find_name_conflict(&shared.tree, &trust, manifest.manifest())? {
            return Err(conflict.into());
        }
        drop(trust);
        let artifacts = manifest.manifest().artifacts();
        place_blobs(&shared, &artifacts, &mut files)?;
        // Synced even where nothing changed: an attempt before may have failed between a change and its sync.
        shared.tree.sync_folder(Folder::Blobs)?;
        for artifact in &artifacts {
            place_name(&shared.tree, artifact)?;
            place_sidecar(&shared.tree, artifact)?;
        }
        shared.tree.sync_folder(Folder::Root)?;
        if !recorded {
            Record::write(&shared.tree, &manifest, now)?;
        }
        shared.tree.sync_folder(Folder::Releases)?;
        drop(changing);
        let installed = Cache { shared }.get(&release);
        drop(hold);
        installed.map_err(|source| InstallError::NotReadBack {
            release: Box::new(release),
            source: Box::new(source),
        })
    }
}

/// Moves staged files to their blobs. A blob that is good already stays, as its names are links to it. The caller
/// syncs `.blobs`.
fn place_blobs(
    shared: &Shared,
    artifacts: &[Artifact],
    files: &mut Vec<StagedFile>,
) -> Result<(), InstallError> {
    for artifact in artifacts {
        let staged = files.iter().position(|file| file.sha256 == artifact.sha256);
        match shared.verified.open(&shared.tree, artifact) {
            Ok(_) => continue,
            Err(BlobFault::Missing) => {}
            Err(BlobFault::Rotted(rotten)) => {
                blob::quarantine(&shared.tree, &artifact.sha256, &rotten.found)?;
            }
            // With what replaces it at hand.
            Err(BlobFault::Unreadable { found, .. }) if staged.is_some() => {
                blob::quarantine(&shared.tree, &artifact.sha256, &found)?;
            }
            Err(BlobFault::Unreadable { error, .. } | BlobFault::Disk(error)) => return Err(error.into()),
        }
        let Some(staged) = staged else {
            return Err(InstallError::ArtifactLost {
                name: artifact.name.clone(),
            });
        };
        shared
            .tree
            .rename(&files.swap_remove(staged).at, &tree::blob(&artifact.sha256))?;
    }
    Ok(())
}

/// Makes an artifact's name lead to its blob. The caller syncs the top level.
pub(crate) fn place_name(tree: &Tree, artifact: &Artifact) -> Result<(), DiskError> {
    let (blob, name) = (tree::blob(&artifact.sha256), tree::root(&artifact.name));
    let wanted = tree.facts_at(&blob)?;
    let found = tree.facts_at(&name)?;
    if wanted
        .zip(found)
        .is_some_and(|(wanted, found)| wanted.is_same_file(&found))
    {
        return Ok(());
    }
    tree.replace_link(&blob, &name)
}

/// Writes an artifact's sidecar if it is not right; whether it was not. The caller syncs the top level.
pub(crate) fn place_sidecar(tree: &Tree, artifact: &Artifact) -> Result<bool, DiskError> {
    let at: Place = tree::sidecar(&artifact.name);
    let content = format!("{}  {}\n", artifact.sha256, artifact.name);
    if tree
        .read_small(&at, SIDECAR_BYTES_MAX)?
        .is_some_and(|found| found == content.as_bytes())
    {
        return Ok(false);
    }
    tree.write_small(&at, content.as_bytes())?;
    Ok(true)
}
