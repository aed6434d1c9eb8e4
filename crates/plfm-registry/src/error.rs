//! Why a repository could not be read as its publisher, or changed.

use std::num::NonZeroU64;

use jiff::Timestamp;
use plfm_release::{KeyringError, ManifestError, ReleaseId, Sha256Digest, SignedKeyringError, VerifyError};

use crate::role::RoleName;
use crate::store::StoreError;

/// Why a repository could not be read or changed. Whatever it is, readers still see the repository as it was, whole.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The files can't be read or written, or somebody else writes them.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is a repository already.
    #[error("{store} holds a repository already")]
    Exists {
        /// The store.
        store: String,
    },
    /// A file that the rest leads to is not there.
    #[error("{name} is missing")]
    Missing {
        /// The file.
        name: String,
    },
    /// A file is not what its name says.
    #[error("{name} is malformed")]
    Malformed {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file is not what the file before it says.
    #[error("{name} is not to be trusted: {why}")]
    Contradiction {
        /// The file.
        name: String,
        /// What does not fit.
        why: &'static str,
    },
    /// A file is not signed by the keys of its role.
    #[error("{name} is not signed by the keys of its role")]
    BadSignature {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: Box<tough::schema::Error>,
    },
    /// The root's time is over, so no host takes anything any more.
    #[error("the root expired at {expired}, so no host takes anything from this repository")]
    RootExpired {
        /// When.
        expired: Timestamp,
    },
    /// There are more root versions than anybody walks.
    #[error("more than {max} root versions follow the trusted one")]
    TooManyRoots {
        /// The limit.
        max: u64,
    },
    /// No key of a role was given.
    #[error("this needs the {role} key, which was not given")]
    KeyMissing {
        /// The role.
        role: RoleName,
    },
    /// The keys given are not enough keys of a role.
    #[error("{found} of the keys given are {role} keys of this repository; {needed} are needed")]
    KeysBelowThreshold {
        /// The role.
        role: RoleName,
        /// How many are.
        found: usize,
        /// How many have to be.
        needed: NonZeroU64,
    },
    /// A threshold that can't be reached.
    #[error("{keys} different root keys cannot reach a threshold of {threshold}")]
    BadThreshold {
        /// How many keys.
        keys: usize,
        /// The threshold.
        threshold: NonZeroU64,
    },
    /// The repository's keyring can't be trusted.
    #[error("the repository's keyring is not to be trusted")]
    KeyringUntrusted(#[source] SignedKeyringError),
    /// The keyring can't be changed like that.
    #[error("the keyring cannot be changed like that")]
    Keyring(#[source] KeyringError),
    /// The release's manifest is malformed.
    #[error("the release's manifest is malformed")]
    Manifest(#[source] ManifestError),
    /// No host would take the release.
    #[error("the repository's keyring does not trust the release, so no host would take it")]
    ReleaseUntrusted(#[source] VerifyError),
    /// An artifact is not the one of the manifest.
    #[error("{name} has digest {found}; the manifest says {expected}")]
    ArtifactDigest {
        /// The artifact.
        name: String,
        /// Its digest.
        found: Sha256Digest,
        /// The digest that the manifest announces.
        expected: Sha256Digest,
    },
    /// The name is taken by other bytes.
    #[error("the repository has {name} with digest {found}; this one has {offered}")]
    NameTaken {
        /// The target.
        name: String,
        /// The digest of what is there, or was before it was yanked.
        found: String,
        /// The digest of what was to be published.
        offered: Sha256Digest,
    },
    /// The release was yanked.
    #[error("release {release} was yanked at {at}: {reason}")]
    Yanked {
        /// The release.
        release: Box<ReleaseId>,
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// There is no such release.
    #[error("the repository has no release {release}")]
    NoSuchRelease {
        /// The release.
        release: ReleaseId,
    },
    /// More than the limits allow.
    #[error("the repository would have {found} {what}; at most {max} are allowed")]
    LimitReached {
        /// Of what.
        what: &'static str,
        /// How many there would be.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// So many unfinished changes are in the way that something else must be wrong.
    #[error("no free version number for {name} was found")]
    NoFreeVersion {
        /// The file, without its number.
        name: &'static str,
    },
    /// A number or time beyond what metadata can hold.
    #[error("a version or time is out of range")]
    OutOfRange,
    /// A role has no signed form.
    #[error("metadata has no canonical form")]
    NotCanonical(#[source] Box<tough::schema::Error>),
}

impl RegistryError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Exists { .. } => "registry_exists",
            Self::Missing { .. } => "registry_file_missing",
            Self::Malformed { .. } => "registry_malformed",
            Self::Contradiction { .. } => "registry_contradiction",
            Self::BadSignature { .. } => "registry_bad_signature",
            Self::RootExpired { .. } => "registry_root_expired",
            Self::TooManyRoots { .. } => "registry_too_many_roots",
            Self::KeyMissing { .. } => "registry_key_missing",
            Self::KeysBelowThreshold { .. } => "registry_wrong_keys",
            Self::BadThreshold { .. } => "registry_bad_threshold",
            Self::KeyringUntrusted(error) => error.code(),
            Self::Keyring(KeyringError::NoSuchKey(_)) => "no_such_key",
            Self::Keyring(KeyringError::DuplicateKey(_)) => "key_exists",
            Self::Keyring(_) => "keyring_unchangeable",
            Self::Manifest(error) => error.code(),
            Self::ReleaseUntrusted(error) => error.code(),
            Self::ArtifactDigest { .. } => "artifact_digest_mismatch",
            Self::NameTaken { .. } => "registry_name_taken",
            Self::Yanked { .. } => "release_yanked",
            Self::NoSuchRelease { .. } => "no_such_release",
            Self::LimitReached { .. } => "registry_limit_reached",
            Self::NoFreeVersion { .. } => "registry_no_free_version",
            Self::OutOfRange => "registry_out_of_range",
            Self::NotCanonical(_) => "registry_not_canonical",
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Store(StoreError::Conflict { .. }) => {
                "nothing was lost and nothing was published: run the command again"
            }
            Self::Store(StoreError::Unsafe { .. }) => {
                "enable conditional put in the store's settings, or publish to a directory"
            }
            Self::Missing { name } if name.ends_with("timestamp.json") => {
                "make a repository with `plfm registry init`"
            }
            Self::Malformed { name, .. } | Self::BadSignature { name, .. }
                if name.ends_with("timestamp.json") =>
            {
                "who can write the store? put back the newest timestamp.json that this command takes; then replace the \
                 role's key with `plfm registry rotate-key timestamp`"
            }
            Self::OutOfRange => {
                "a version that leaves no other was signed by a thief: put back an older timestamp.json, then replace the \
                 role's key with `plfm registry rotate-key`"
            }
            Self::RootExpired { .. } => "renew it with `plfm registry rotate-root`",
            Self::KeysBelowThreshold { .. } | Self::KeyMissing { .. } => {
                "look at the role's keys with `plfm registry list`; a rotation that was cut off is finished by running \
                 it again"
            }
            Self::ReleaseUntrusted(VerifyError::UnknownKey(_)) => {
                "if the key is yours, trust it with `plfm registry trust KEY.pub.pem`"
            }
            Self::NameTaken { .. } => "a published name is for ever: build with another --build-id",
            Self::Yanked { .. } => "build it anew with another --build-id",
            Self::NoSuchRelease { .. } => "look at the releases with `plfm registry list`",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
