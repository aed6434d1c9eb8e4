//! An installed release, and the descriptors that a boot reads.

use std::fmt;
use std::fs::File;
use std::sync::Arc;

use jiff::Timestamp;
use plfm_release::{
    Artifact, ArtifactKind, ArtifactName, Incompatible, Manifest, ManifestError, Protocol, ReleaseId,
    SignedManifest, VerifyError,
};

use crate::DiskError;
use crate::blob::{self, BlobFault, Rot};
use crate::cache::Shared;
use crate::hold::Hold;
use crate::record::Record;

/// A release that was verified and installed on this host, and that this agent can run.
///
/// It can be had from a [`crate::Cache`] only. It can be sent between threads and kept, and keeps the cache's
/// directory locked. While it lives, [`crate::Cache::gc`] does not remove the release.
#[derive(Clone)]
pub struct InstalledRelease {
    shared: Arc<Shared>,
    record: Record,
    id: ReleaseId,
    protocol: Protocol,
    /// Nobody removes it meanwhile.
    _hold: Hold<ReleaseId>,
}

/// The two files of a release, open for reading from their beginning. Their content was verified.
#[derive(Debug)]
#[non_exhaustive]
pub struct OpenPair {
    /// The kernel image.
    pub kernel: File,
    /// The initramfs image.
    pub initramfs: File,
}

/// Why a release's artifacts cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum OpenArtifactError {
    /// The manifest is no manifest; it was when it was installed.
    #[error("the manifest of release {release} is damaged; install the release again")]
    Damaged {
        /// The release.
        release: Box<ReleaseId>,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// The release is not trusted any more.
    #[error("release {release} is not to be trusted any more")]
    Untrusted {
        /// The release.
        release: Box<ReleaseId>,
        /// Why.
        #[source]
        source: VerifyError,
    },
    /// This agent must not run it.
    #[error("release {release} does not fit this agent")]
    Incompatible {
        /// The release.
        release: Box<ReleaseId>,
        /// Why.
        #[source]
        source: Incompatible,
    },
    /// The artifact is gone.
    #[error("artifact {name} is missing from the cache; install its release again")]
    Missing {
        /// Its name.
        name: Box<ArtifactName>,
    },
    /// The artifact is not what was installed. It is in `.quarantine` now.
    #[error(
        "artifact {name} changed after it was installed and is in quarantine now; install its release again"
    )]
    Rotted {
        /// Its name.
        name: Box<ArtifactName>,
        /// What changed.
        #[source]
        source: Rot,
    },
    /// The disk cannot read the artifact. It stays where it is: the disk may read it the next time.
    #[error("artifact {name} cannot be read from the disk; install its release again")]
    Unreadable {
        /// Its name.
        name: Box<ArtifactName>,
        /// Why.
        #[source]
        source: DiskError,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl OpenArtifactError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "release_record_damaged",
            Self::Untrusted { source, .. } => source.code(),
            Self::Incompatible { source, .. } => source.code(),
            Self::Missing { .. } => "artifact_missing",
            Self::Rotted { .. } => "artifact_rotted",
            Self::Unreadable { .. } => "artifact_unreadable",
            Self::Disk(error) => error.code(),
        }
    }
}

impl InstalledRelease {
    pub(crate) fn new(
        shared: Arc<Shared>,
        record: Record,
        protocol: Protocol,
        hold: Hold<ReleaseId>,
    ) -> Self {
        let id = record.manifest.manifest().release_id();
        Self {
            shared,
            record,
            id,
            protocol,
            _hold: hold,
        }
    }

    /// What its manifest says.
    pub fn manifest(&self) -> &Manifest {
        self.record.manifest.manifest()
    }

    /// The signed manifest, byte for byte.
    pub fn manifest_bytes(&self) -> &[u8] {
        self.record.manifest.as_bytes()
    }

    /// Its id.
    pub fn id(&self) -> &ReleaseId {
        &self.id
    }

    /// The protocol to speak with its guest init: the newest that both sides know.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// When it was installed.
    pub fn installed_at(&self) -> Timestamp {
        self.record.installed_at
    }

    /// Opens its two artifacts for a boot: the spec's "Verified: checksums validated before use".
    ///
    /// The signature is checked against the keyring of now, the bytes against the signed digests. What was hashed
    /// before and has not changed since is not hashed again.
    ///
    /// # Errors
    /// [`OpenArtifactError`] when the release is not trusted any more, or an artifact is missing or rotten; a rotten
    /// one is moved to `.quarantine`.
    pub fn open(&self) -> Result<OpenPair, OpenArtifactError> {
        self.check_trusted()?;
        let open = |kind| open_artifact(&self.shared, &self.manifest().artifact(kind));
        Ok(OpenPair {
            kernel: open(ArtifactKind::Kernel)?,
            initramfs: open(ArtifactKind::Initramfs)?,
        })
    }

    fn check_trusted(&self) -> Result<(), OpenArtifactError> {
        let release = || Box::new(self.id.clone());
        let signed =
            SignedManifest::parse(self.manifest_bytes()).map_err(|source| OpenArtifactError::Damaged {
                release: release(),
                source,
            })?;
        let trust = self.shared.trust();
        trust
            .verify(signed, self.record.installed_at)
            .map_err(|source| OpenArtifactError::Untrusted {
                release: release(),
                source,
            })?;
        trust
            .check(self.manifest())
            .map_err(|source| OpenArtifactError::Incompatible {
                release: release(),
                source,
            })?;
        Ok(())
    }
}

/// Opens and verifies one artifact; quarantines it when it rotted. Not to be called with [`Shared::changing`] held.
pub(crate) fn open_artifact(shared: &Shared, artifact: &Artifact) -> Result<File, OpenArtifactError> {
    let name = Box::new(artifact.name.clone());
    match shared.verified.open(&shared.tree, artifact) {
        Ok(file) => Ok(file),
        Err(BlobFault::Missing) => Err(OpenArtifactError::Missing { name }),
        Err(BlobFault::Unreadable { error, .. }) => {
            Err(OpenArtifactError::Unreadable { name, source: error })
        }
        Err(BlobFault::Disk(error)) => Err(error.into()),
        Err(BlobFault::Rotted(rotten)) => {
            let _changing = shared.changing();
            blob::quarantine(&shared.tree, &artifact.sha256, &rotten.found)?;
            Err(OpenArtifactError::Rotted {
                name,
                source: rotten.rot,
            })
        }
    }
}

impl fmt::Debug for InstalledRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstalledRelease")
            .field("id", &self.id)
            .field("protocol", &self.protocol)
            .field("installed_at", &self.record.installed_at)
            .finish_non_exhaustive()
    }
}
