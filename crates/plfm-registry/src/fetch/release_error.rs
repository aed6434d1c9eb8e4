//! Why a release could not be fetched.

use std::sync::Arc;

use jiff::Timestamp;
use plfm_release::{ManifestError, ReleaseId, VerifyError};

use super::{DiskError, DownloadError};

/// Why a release could not be fetched. Nothing of it has a final name but files that are exactly what was signed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The view is too old to act on: update first.
    #[error("the registry's metadata was fresh until {expired_at}, and it is {now}: update first")]
    StaleView {
        /// When the view ended.
        expired_at: Timestamp,
        /// The time that was passed in.
        now: Timestamp,
    },
    /// The repository does not list it.
    #[error("the registry does not list release {0}")]
    Unknown(Box<ReleaseId>),
    /// The repository lists its manifest and not all of its artifacts.
    #[error("the registry lists release {release} without {name}")]
    MissingPart {
        /// The release.
        release: Box<ReleaseId>,
        /// What is missing.
        name: String,
    },
    /// The manifest is no manifest.
    #[error("the manifest of release {release} is refused: {source}")]
    Manifest {
        /// The release.
        release: Box<ReleaseId>,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The manifest is not to be trusted.
    #[error("the manifest of release {release} is refused: {source}")]
    Untrusted {
        /// The release.
        release: Box<ReleaseId>,
        /// Why.
        #[source]
        source: VerifyError,
    },
    /// The manifest is that of another release.
    #[error("the registry has the manifest of release {found} in the place of that of {release}")]
    OtherRelease {
        /// The release.
        release: Box<ReleaseId>,
        /// Whose manifest it is.
        found: Box<ReleaseId>,
    },
    /// Manifest and metadata, each well signed, disagree about an artifact.
    #[error("the manifest of release {release} and the registry's metadata disagree about {name}")]
    Mixed {
        /// The release.
        release: Box<ReleaseId>,
        /// The artifact.
        name: String,
    },
    /// A file could not be downloaded.
    #[error(transparent)]
    Download(#[from] Arc<DownloadError>),
    /// The host's disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl FetchError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::StaleView { .. } => "registry_expired",
            Self::Unknown(_) => "release_unknown",
            Self::MissingPart { .. } => "release_incomplete",
            Self::Manifest { source, .. } => source.code(),
            Self::Untrusted { source, .. } => source.code(),
            Self::OtherRelease { .. } | Self::Mixed { .. } => "registry_mixed",
            Self::Download(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }
}
