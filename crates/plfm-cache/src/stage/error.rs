//! What can go wrong until a release is staged.

use std::io;

use plfm_release::{ArtifactName, Sha256Digest};

use crate::DiskError;
use crate::record::NameConflict;

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
    /// There is no room for it.
    #[error(
        "artifact {name} does not fit on the disk: {needed_bytes} more bytes are needed, {}; remove releases that \
         nothing uses and try again",
        available(*available_bytes)
    )]
    DiskFull {
        /// Its name.
        name: Box<ArtifactName>,
        /// How much was still to be written when the disk was full, in bytes.
        needed_bytes: u64,
        /// How much the file system has left, in bytes, if it tells.
        available_bytes: Option<u64>,
        /// What the disk said.
        #[source]
        source: DiskError,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn available(bytes: Option<u64>) -> String {
    match bytes {
        Some(bytes) => format!("{bytes} are available"),
        None => "how many are available is not known".to_owned(),
    }
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
            Self::DiskFull { .. } => "cache_disk_full",
            Self::Disk(error) => error.code(),
        }
    }
}
