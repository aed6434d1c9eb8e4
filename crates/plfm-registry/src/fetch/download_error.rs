//! Why a file of the repository could not be downloaded.

use std::fmt;
use std::time::Duration;

use plfm_release::Sha256Digest;

use super::{DiskError, Mirror, ReadFault};

/// What one mirror did.
#[derive(Debug, thiserror::Error)]
pub enum DownloadFault {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadFault),
    /// It is longer than was signed. Nothing past the signed length was kept.
    #[error("it is longer than the {announced} bytes that were signed")]
    TooLong {
        /// The signed length.
        announced: u64,
    },
    /// It is shorter than was signed.
    #[error("it ended after {found} bytes; {announced} were signed")]
    TooShort {
        /// How much there is.
        found: u64,
        /// The signed length.
        announced: u64,
    },
    /// It has other bytes than were signed. All of them were thrown away.
    #[error("it has SHA-256 {found}; {announced} was signed")]
    WrongDigest {
        /// The digest of what came.
        found: Sha256Digest,
        /// The signed digest.
        announced: Sha256Digest,
    },
    /// It does not have the part that was asked for, and said so (status 416).
    #[error("the server has no bytes from {first} on")]
    NoSuchPart {
        /// Where the part begins.
        first: u64,
    },
}

impl DownloadFault {
    /// The stable code of the fault.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read(fault) => fault.code(),
            Self::TooLong { .. } | Self::TooShort { .. } | Self::NoSuchPart { .. } => "artifact_wrong_length",
            Self::WrongDigest { .. } => "artifact_wrong_digest",
        }
    }

    /// Whether the mirror is set aside for the rest of the download: what it has is wrong, or nothing.
    pub(crate) fn sets_aside(&self) -> bool {
        match self {
            Self::Read(fault) => fault.is_deceit() || matches!(fault, ReadFault::NotThere),
            Self::TooLong { .. } | Self::TooShort { .. } | Self::WrongDigest { .. } => true,
            Self::NoSuchPart { .. } => false,
        }
    }

    fn gravity(&self) -> u8 {
        match self {
            Self::Read(fault) if fault.is_deceit() => 1,
            Self::Read(_) => 0,
            Self::TooLong { .. } | Self::TooShort { .. } | Self::NoSuchPart { .. } => 1,
            Self::WrongDigest { .. } => 2,
        }
    }
}

/// A mirror, and the last thing that it did wrong.
#[derive(Debug)]
pub struct FailedMirror {
    /// The mirror.
    pub mirror: Mirror,
    /// What it did.
    pub fault: DownloadFault,
}

impl fmt::Display for FailedMirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.mirror, self.fault)
    }
}

/// Why a file of the repository could not be downloaded. What came so far is kept for the next time, unless it was
/// wrong.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No mirror gave it.
    #[error("{name} cannot be downloaded: {}", list(.failures))]
    Mirrors {
        /// The target's name.
        name: String,
        /// What each mirror did last.
        failures: Vec<FailedMirror>,
    },
    /// It took too long in all.
    #[error("{name} did not come within {} s; {bytes_done} of {bytes_total} bytes are here", .deadline.as_secs())]
    Deadline {
        /// The target's name.
        name: String,
        /// How long it was waited for.
        deadline: Duration,
        /// How much came.
        bytes_done: u64,
        /// How much there is.
        bytes_total: u64,
    },
    /// The host's disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl DownloadError {
    /// The stable code of the error: with several mirrors, that of the gravest fault.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Mirrors { failures, .. } => failures
                .iter()
                .max_by_key(|failure| failure.fault.gravity())
                .map_or("registry_unreachable", |failure| failure.fault.code()),
            Self::Deadline { .. } => "registry_too_slow",
            Self::Disk(error) => error.code(),
        }
    }
}

fn list(failures: &[FailedMirror]) -> String {
    if failures.is_empty() {
        return "there is no mirror".to_owned();
    }
    let texts: Vec<_> = failures.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
