//! Why a directory holds no release to be trusted: one code for each reason, and the object in each text.

use std::io;
use std::path::PathBuf;

use plfm_release::{ArtifactKind, ManifestError, Sha256Digest, VerifyError};

use crate::provenance::ProvenanceError;

/// Why a directory holds no release to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyDirError {
    /// There is no manifest.
    #[error("{} is missing", path.display())]
    ManifestMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The manifest is malformed.
    #[error("{} is not a manifest", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The manifest is not to be trusted.
    #[error("{} is not to be trusted", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifyError,
    },
    /// An artifact is missing.
    #[error("the {kind} {} is missing", path.display())]
    ArtifactMissing {
        /// Which one.
        kind: ArtifactKind,
        /// Where it should be.
        path: PathBuf,
    },
    /// An artifact has another size.
    #[error("the {kind} {} is {found} bytes long; the manifest says {expected}", path.display())]
    ArtifactSize {
        /// Which one.
        kind: ArtifactKind,
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The manifest's.
        expected: u64,
    },
    /// An artifact has other bytes.
    #[error("the {kind} {} has SHA-256 {found}; the manifest says {expected}", path.display())]
    ArtifactDigest {
        /// Which one.
        kind: ArtifactKind,
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: Sha256Digest,
        /// The manifest's.
        expected: Sha256Digest,
    },
    /// A digest file says something else than the manifest.
    #[error("{} does not agree with the signed manifest about the {kind}", path.display())]
    Sidecar {
        /// Which artifact it is about.
        kind: ArtifactKind,
        /// The file.
        path: PathBuf,
    },
    /// The kernel's configuration is another one.
    #[error("{} is not the configuration that the manifest names: its SHA-256 is {found}", path.display())]
    KernelConfig {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: Sha256Digest,
    },
    /// The provenance is of something else.
    #[error("{} is not the provenance of this release", path.display())]
    Provenance {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ProvenanceError,
    },
    /// Something that must be a regular file is none.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What it is.
        path: PathBuf,
    },
    /// A small file is large.
    #[error("{} is more than {limit} bytes long", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// A file can't be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl VerifyDirError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ManifestMissing { .. } => "manifest_missing",
            Self::Manifest { source, .. } => source.code(),
            Self::Untrusted { source, .. } => source.code(),
            Self::ArtifactMissing { .. } => "artifact_missing",
            Self::ArtifactSize { found, expected, .. } if found < expected => "artifact_truncated",
            Self::ArtifactSize { .. } => "artifact_too_long",
            Self::ArtifactDigest { .. } => "artifact_digest_mismatch",
            Self::Sidecar { .. } => "sidecar_mismatch",
            Self::KernelConfig { .. } => "kernel_config_mismatch",
            Self::Provenance { source, .. } => source.code(),
            Self::NotAFile { .. } => "not_a_regular_file",
            Self::TooLong { .. } => "file_too_long",
            Self::Unreadable { .. } => "file_unreadable",
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Untrusted {
                source: VerifyError::WrongChannel { found, .. },
                ..
            } => Some(format!("if that is the channel you mean, pass --channel {found}")),
            Self::Untrusted {
                source: VerifyError::UnknownKey(_),
                ..
            } => Some("pass the keyring of the platform that signed it with --keyring".to_owned()),
            Self::ManifestMissing { .. } => {
                Some("pass the directory that `plfm release build` wrote".to_owned())
            }
            Self::ArtifactMissing { .. }
            | Self::ArtifactSize { .. }
            | Self::ArtifactDigest { .. }
            | Self::Sidecar { .. } => Some("fetch the release again; do not boot this one".to_owned()),
            _ => None,
        }
    }
}
