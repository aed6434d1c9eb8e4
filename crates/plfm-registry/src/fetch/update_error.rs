//! Why the registry's metadata was not taken: in terms of what somebody may be doing, not of how it was noticed.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use plfm_release::SignedKeyringError;

use super::{DownloadError, Mirror, ReadFault, StateError};

/// Why the metadata of one mirror was not taken.
#[derive(Debug, thiserror::Error)]
pub enum MetadataFault {
    /// A file could not be read.
    #[error("{file} cannot be read: {fault}")]
    Read {
        /// Its name.
        file: String,
        /// Why.
        #[source]
        fault: ReadFault,
    },
    /// A file is longer than its kind may be: endless data, or another file.
    #[error("{file} is longer than the {bytes_max} bytes that it may have")]
    TooLarge {
        /// Its name.
        file: String,
        /// The limit.
        bytes_max: u64,
    },
    /// A file is not what its name says.
    #[error("{file} is malformed: {why}")]
    Malformed {
        /// Its name.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// Not signed by enough of the role's keys: arbitrary software, or a key that was replaced.
    #[error("the {role} metadata is not signed by enough of its keys: {why}")]
    BadSignature {
        /// The role.
        role: String,
        /// How many there are and how many it needs.
        why: String,
    },
    /// Something older than what was trusted before.
    #[error("the mirror offers {what} version {offered}; version {trusted} was trusted already (rollback)")]
    Rollback {
        /// A role, or the keyring.
        what: String,
        /// What was trusted.
        trusted: u64,
        /// What is offered.
        offered: u64,
    },
    /// A file that was listed is not listed any more.
    #[error("{what} is not listed any more (rollback)")]
    Withdrawn {
        /// The file.
        what: String,
    },
    /// A root between the trusted one and a later one is missing.
    #[error(
        "the mirror has root version {offered} and not the one after version {trusted}, which leads there"
    )]
    RootGap {
        /// The trusted root.
        trusted: u64,
        /// The root that cannot be reached.
        offered: u64,
    },
    /// More roots than one update walks through.
    #[error("the mirror has more than {0} roots after the trusted one; the next update goes on from there")]
    TooManyRoots(u64),
    /// Files that do not belong together.
    #[error("the mirror's files do not belong together: {why}")]
    Mixed {
        /// Which and why.
        why: String,
    },
    /// More targets than a repository may have.
    #[error("the targets metadata lists {found} targets, more than {targets_max}")]
    TooManyTargets {
        /// How many.
        found: usize,
        /// The limit.
        targets_max: usize,
    },
    /// Expired, and newer than what was trusted: the publisher does not renew it.
    #[error("the {role} metadata expired at {expired_at}, and it is {now}: run `plfm registry refresh`")]
    Expired {
        /// The role.
        role: String,
        /// When it expired.
        expired_at: Timestamp,
        /// The host's clock.
        now: Timestamp,
    },
    /// Expired, and nothing newer than what was trusted: a mirror that holds newer metadata back, or one that stopped.
    #[error(
        "the mirror offers nothing newer than {role} version {version}, which expired at {expired_at}, and it is {now} \
         (freeze)"
    )]
    Frozen {
        /// The role.
        role: String,
        /// Its version.
        version: u64,
        /// When it expired.
        expired_at: Timestamp,
        /// The host's clock.
        now: Timestamp,
    },
    /// Expired by the host's clock, and good by the server's.
    #[error(
        "the {role} metadata expired at {expired_at} by this host's clock, {now}, but the mirror says that it is \
         {server_says}: check the clock and NTP, or the mirror"
    )]
    ClockSuspect {
        /// The role.
        role: String,
        /// When it expired.
        expired_at: Timestamp,
        /// The host's clock.
        now: Timestamp,
        /// The server's clock. Nothing is trusted because of it.
        server_says: Timestamp,
    },
    /// The signed keyring could not be fetched.
    #[error("the keyring cannot be fetched: {0}")]
    KeyringDownload(#[source] std::sync::Arc<DownloadError>),
    /// The keyring is not signed by enough root keys, or is none.
    #[error("the keyring is refused: {0}")]
    Keyring(#[source] SignedKeyringError),
    /// The repository had a keyring and has none any more.
    #[error("the keyring is gone; version {trusted} was trusted already (rollback)")]
    KeyringGone {
        /// What was trusted.
        trusted: u64,
    },
    /// The metadata took too long.
    #[error("the metadata did not come within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The TUF client failed in its working directory.
    #[error("the working copy failed: {0}")]
    WorkingCopy(String),
}

impl MetadataFault {
    /// The stable code of the fault.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { fault, .. } => fault.code(),
            Self::TooLarge { .. } | Self::TooManyTargets { .. } => "registry_too_large",
            Self::Malformed { .. } => "registry_malformed",
            Self::BadSignature { .. } => "registry_bad_signature",
            Self::Rollback { .. } | Self::Withdrawn { .. } | Self::KeyringGone { .. } => "registry_rollback",
            Self::RootGap { .. } => "registry_root_gap",
            Self::TooManyRoots(_) => "registry_too_many_roots",
            Self::Mixed { .. } => "registry_mixed",
            Self::Expired { .. } => "registry_expired",
            Self::Frozen { .. } => "registry_frozen",
            Self::ClockSuspect { .. } => "clock_suspect",
            Self::KeyringDownload(error) => error.code(),
            Self::Keyring(error) => error.code(),
            Self::Deadline(_) => "registry_too_slow",
            Self::WorkingCopy(_) => "disk_error",
        }
    }

    /// How much it tells: an attack more than old metadata, and that more than a mirror that is down.
    fn gravity(&self) -> u8 {
        match self {
            Self::Read { fault, .. } if !fault.is_deceit() => 0,
            Self::Deadline(_) | Self::WorkingCopy(_) | Self::KeyringDownload(_) => 0,
            Self::Expired { .. }
            | Self::Frozen { .. }
            | Self::ClockSuspect { .. }
            | Self::TooManyRoots(_) => 1,
            _ => 2,
        }
    }
}

/// A mirror, and why its metadata was not taken.
#[derive(Debug)]
pub struct MirrorFailure {
    /// The mirror.
    pub mirror: Mirror,
    /// Why.
    pub fault: MetadataFault,
}

impl fmt::Display for MirrorFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.mirror, self.fault)
    }
}

/// Why an update failed. What was trusted before stays trusted.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The clock is behind something that has certainly happened.
    #[error(
        "this host's clock says {now}, but {passed} has passed (the last update, or this program's build): check NTP. If \
         the clock was ahead then and is right now, updates go on by themselves at that time"
    )]
    ClockBehind {
        /// The host's clock.
        now: Timestamp,
        /// A moment that has passed.
        passed: Timestamp,
    },
    /// No mirror's metadata was taken.
    #[error("no mirror gave metadata that can be trusted: {}", list(.0))]
    Mirrors(Vec<MirrorFailure>),
    /// There is no mirror.
    #[error("there is no mirror to update from")]
    NoMirror,
    /// The trusted state could not be written.
    #[error(transparent)]
    State(#[from] StateError),
}

impl UpdateError {
    /// The stable code of the error: with several mirrors, that of the gravest fault.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ClockBehind { .. } => "clock_behind",
            Self::Mirrors(failures) => failures
                .iter()
                .max_by_key(|failure| failure.fault.gravity())
                .map_or("registry_unreachable", |failure| failure.fault.code()),
            Self::NoMirror => "registry_unreachable",
            Self::State(error) => error.code(),
        }
    }
}

/// The failures, the gravest first.
fn list(failures: &[MirrorFailure]) -> String {
    let mut sorted: Vec<_> = failures.iter().collect();
    sorted.sort_by_key(|failure| std::cmp::Reverse(failure.fault.gravity()));
    let texts: Vec<_> = sorted.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
