//! tough's errors in our terms.

use std::error::Error as _;

use tough::error::Error;
use tough::schema::{Error as SchemaError, RoleType};

use super::MetadataFault;
use super::limits::ROOTS_PER_UPDATE_MAX;

/// What an error of tough's means.
pub(crate) fn explain(error: &Error) -> MetadataFault {
    match error {
        Error::OlderMetadata {
            role: RoleType::Root,
            current_version,
            new_version,
            ..
        } if new_version > current_version => MetadataFault::RootGap {
            trusted: *current_version,
            offered: *new_version,
        },
        Error::OlderMetadata {
            role,
            current_version,
            new_version,
            ..
        } => rollback(role, *current_version, *new_version),
        Error::OlderSnapshotInTimestamp {
            snapshot_new,
            snapshot_old,
            ..
        } => rollback("snapshot", *snapshot_old, *snapshot_new),
        Error::SnapshotRoleRollback {
            role,
            old_role_version,
            new_role_version,
            ..
        } => rollback(role, *old_role_version, *new_role_version),
        Error::SnapshotRoleMissing { role, .. } => MetadataFault::Withdrawn { what: role.clone() },
        Error::VerifyMetadata { role, source, .. } => bad_signature(role, source),
        Error::VerifyTrustedMetadata { source, .. } => bad_signature("trusted root", source),
        Error::MaxUpdatesExceeded { .. } => MetadataFault::TooManyRoots(ROOTS_PER_UPDATE_MAX),
        Error::VersionMismatch {
            role,
            fetched,
            expected,
            ..
        } => MetadataFault::Mixed {
            why: format!("{role} has version {fetched}, and version {expected} was announced"),
        },
        Error::ParseMetadata { role, source, .. } => malformed(&format!("{role} metadata"), source),
        Error::ParseTrustedMetadata { source, .. } => malformed("the trusted root", source),
        Error::Transport { source, .. } => match source.source().and_then(|cause| cause.downcast_ref()) {
            Some(Error::HashMismatch { context, .. }) => MetadataFault::Mixed {
                why: format!("{context} is not the one that was announced"),
            },
            Some(Error::MaxSizeExceeded { max_size, .. }) => MetadataFault::Mixed {
                why: format!("a file is longer than the {max_size} bytes that were announced"),
            },
            _ => malformed("the metadata", source),
        },
        Error::DatastoreCreate { .. } | Error::DatastoreOpen { .. } | Error::DatastoreRemove { .. } => {
            MetadataFault::WorkingCopy(error.to_string())
        }
        other => malformed("the metadata", other),
    }
}

fn rollback(what: impl ToString, trusted: u64, offered: u64) -> MetadataFault {
    MetadataFault::Rollback {
        what: what.to_string(),
        trusted,
        offered,
    }
}

fn malformed(file: &str, why: impl ToString) -> MetadataFault {
    MetadataFault::Malformed {
        file: file.to_owned(),
        why: why.to_string(),
    }
}

fn bad_signature(role: impl ToString, source: &SchemaError) -> MetadataFault {
    let why = match source {
        SchemaError::SignatureThreshold { threshold, valid, .. } => {
            format!("{valid} good signatures, {threshold} needed")
        }
        SchemaError::DuplicateKeyId { .. } => "one key signed twice".to_owned(),
        other => other.to_string(),
    };
    MetadataFault::BadSignature {
        role: role.to_string(),
        why,
    }
}
