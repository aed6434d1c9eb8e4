//! The four roles of a TUF repository: their names, lifetimes, keys and signed files.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use plfm_release::{PublicKey, Sha256Digest, SigningKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::{Ed25519Key, Ed25519Scheme, Key};
use tough::schema::{Hashes, Metafile, Role, RoleKeys, RoleType, Root, Signature, Signed};

use crate::error::RegistryError;

/// The version of the TUF specification that the metadata follows.
pub(crate) const SPEC_VERSION: &str = "1.0.0";
/// Largest root, snapshot or timestamp file, in bytes; `tough` takes as much. A real one has a few KiB.
pub const METADATA_BYTES_MAX: u64 = 1 << 20;
/// Largest targets file, in bytes: what [`crate::publish::TARGETS_MAX`] targets need, and what `tough` takes at least.
pub const TARGETS_BYTES_MAX: u64 = 4 << 20;
/// Last version of a role. Hosts read no greater integer (strict JSON: what every reader has exactly), and a version that
/// they cannot read would end the repository for them.
pub const VERSION_MAX: u64 = (1 << 53) - 1;
const DAY_HOURS: i64 = 24;

/// A role of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// Says whose keys all others are. Its keys are kept offline.
    Root,
    /// Says which files there are.
    Targets,
    /// Says which targets metadata is the one.
    Snapshot,
    /// Says which snapshot is the one, for a short time.
    Timestamp,
}

impl RoleName {
    /// The roles whose keys publish.
    pub const ONLINE: [Self; 3] = [Self::Targets, Self::Snapshot, Self::Timestamp];
    /// All four, root first.
    pub const ALL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    pub(crate) fn tuf(self) -> RoleType {
        match self {
            Self::Root => RoleType::Root,
            Self::Targets => RoleType::Targets,
            Self::Snapshot => RoleType::Snapshot,
            Self::Timestamp => RoleType::Timestamp,
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        })
    }
}

impl FromStr for RoleName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.to_string() == text)
            .ok_or_else(|| "a role is root, targets, snapshot or timestamp".to_owned())
    }
}

/// How long each role's metadata is taken after it was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of the root.
    pub root: SignedDuration,
    /// Of the targets.
    pub targets: SignedDuration,
    /// Of the snapshot.
    pub snapshot: SignedDuration,
    /// Of the timestamp: how long a host can be shown an old repository.
    pub timestamp: SignedDuration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let days = |days| SignedDuration::from_hours(days * DAY_HOURS);
        Self {
            root: days(365),
            targets: days(14),
            snapshot: days(14),
            timestamp: days(7),
        }
    }
}

impl Lifetimes {
    /// That of one role.
    pub fn of(&self, role: RoleName) -> SignedDuration {
        match role {
            RoleName::Root => self.root,
            RoleName::Targets => self.targets,
            RoleName::Snapshot => self.snapshot,
            RoleName::Timestamp => self.timestamp,
        }
    }
}

/// The keys that publish, by role. A role may have several while one replaces another; then each signs.
#[derive(Debug, Default)]
pub struct OnlineKeys {
    /// For targets.
    pub targets: Vec<SigningKey>,
    /// For snapshots.
    pub snapshot: Vec<SigningKey>,
    /// For timestamps.
    pub timestamp: Vec<SigningKey>,
}

impl OnlineKeys {
    /// Those of one role; none for the root, whose keys are not online.
    pub fn of(&self, role: RoleName) -> &[SigningKey] {
        match role {
            RoleName::Root => &[],
            RoleName::Targets => &self.targets,
            RoleName::Snapshot => &self.snapshot,
            RoleName::Timestamp => &self.timestamp,
        }
    }
}

/// A key as metadata has it.
pub(crate) fn tuf_key(key: &PublicKey) -> Key {
    Key::Ed25519 {
        keyval: Ed25519Key {
            public: key.to_bytes().to_vec().into(),
            _extra: HashMap::new(),
        },
        scheme: Ed25519Scheme::Ed25519,
        _extra: HashMap::new(),
    }
}

/// A key's id in TUF metadata: the digest of its canonical JSON, unlike a release key's id.
pub(crate) fn tuf_key_id(key: &PublicKey) -> Result<Decoded<Hex>, RegistryError> {
    tuf_key(key)
        .key_id()
        .map_err(|error| RegistryError::NotCanonical(Box::new(error)))
}

/// The Ed25519 keys of a role, and how many of them have to sign. Keys of other kinds are left out.
pub fn role_public_keys(root: &Root, role: RoleName) -> (Vec<PublicKey>, NonZeroU64) {
    let public = |key: &Key| match key {
        Key::Ed25519 { keyval, .. } => {
            let bytes: [u8; 32] = keyval.public.to_vec().try_into().ok()?;
            PublicKey::from_bytes(&bytes).ok()
        }
        Key::Rsa { .. } | Key::Ecdsa { .. } | Key::EcdsaOld { .. } => None,
    };
    let keys = root.keys(role.tuf()).filter_map(public).collect();
    // A role that the root does not have can't be satisfied.
    let threshold = root
        .roles
        .get(&role.tuf())
        .map_or(NonZeroU64::MAX, |role| role.threshold);
    (keys, threshold)
}

/// Makes `keys` those of `role`; keys that no role has any more are left out of the root.
pub(crate) fn set_role_keys(
    root: &mut Root,
    role: RoleName,
    keys: &[PublicKey],
    threshold: NonZeroU64,
) -> Result<(), RegistryError> {
    let mut keyids = Vec::new();
    for key in keys {
        let id = tuf_key_id(key)?;
        root.keys.insert(id.clone(), tuf_key(key));
        if !keyids.contains(&id) {
            keyids.push(id);
        }
    }
    if u64::try_from(keyids.len()).unwrap_or(u64::MAX) < threshold.get() {
        return Err(RegistryError::BadThreshold {
            keys: keyids.len(),
            threshold,
        });
    }
    let entry = RoleKeys {
        keyids,
        threshold,
        _extra: HashMap::new(),
    };
    root.roles.insert(role.tuf(), entry);
    let used: Vec<_> = root.roles.values().flat_map(|role| role.keyids.clone()).collect();
    root.keys.retain(|id, _| used.contains(id));
    Ok(())
}

/// Signs a role with each of `keys`, whether or not the role has them.
pub(crate) fn sign_role<'a, R: Role>(
    role: R,
    keys: impl IntoIterator<Item = &'a SigningKey>,
) -> Result<Signed<R>, RegistryError> {
    let form = role
        .canonical_form()
        .map_err(|error| RegistryError::NotCanonical(Box::new(error)))?;
    let mut signatures: Vec<Signature> = Vec::new();
    for key in keys {
        let keyid = tuf_key_id(&key.public_key())?;
        if signatures.iter().all(|signature| signature.keyid != keyid) {
            let sig = key.sign_tuf_role(&form).to_vec().into();
            signatures.push(Signature { keyid, sig });
        }
    }
    Ok(Signed {
        signed: role,
        signatures,
    })
}

/// Signs a role with the keys given for it, which must be enough of those that `root` lists.
pub(crate) fn sign_as<'a, R: Role>(
    root: &Root,
    name: RoleName,
    role: R,
    keys: impl IntoIterator<Item = &'a SigningKey> + Clone,
) -> Result<Signed<R>, RegistryError> {
    check_keys(root, name, keys.clone())?;
    sign_role(role, keys)
}

/// That enough different keys of `keys` are those of the role.
pub(crate) fn check_keys<'a>(
    root: &Root,
    role: RoleName,
    keys: impl IntoIterator<Item = &'a SigningKey>,
) -> Result<(), RegistryError> {
    let (listed, needed) = role_public_keys(root, role);
    let given: Vec<PublicKey> = keys.into_iter().map(SigningKey::public_key).collect();
    if given.is_empty() {
        return Err(RegistryError::KeyMissing { role });
    }
    let found = listed.iter().filter(|key| given.contains(key)).count();
    if u64::try_from(found).is_ok_and(|found| found >= needed.get()) {
        Ok(())
    } else {
        Err(RegistryError::KeysBelowThreshold { role, found, needed })
    }
}

/// A role's file: indented JSON.
pub(crate) fn render<R: Role>(signed: &Signed<R>) -> Vec<u8> {
    // Metadata has texts, integers and maps with text keys: the serializer has nothing to fail on.
    let value = serde_json::to_value(signed).unwrap_or_default();
    let mut bytes = serde_json::to_vec_pretty(&value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Reads a role's file. Its signatures are not checked.
pub(crate) fn parse<R: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<Signed<R>, RegistryError> {
    serde_json::from_slice(bytes).map_err(|source| RegistryError::Malformed {
        name: name.to_owned(),
        source,
    })
}

/// What metadata says of another metadata file.
pub(crate) fn metafile(version: NonZeroU64, bytes: &[u8]) -> Metafile {
    Metafile {
        length: u64::try_from(bytes.len()).ok(),
        hashes: Some(hashes(&Sha256Digest::of(bytes))),
        version,
        _extra: HashMap::new(),
    }
}

pub(crate) fn hashes(digest: &Sha256Digest) -> Hashes {
    Hashes {
        sha256: digest.as_bytes().to_vec().into(),
        _extra: HashMap::new(),
    }
}

/// `now` and a lifetime, in the type that the metadata has, in whole seconds.
pub(crate) fn expires<T: FromStr>(now: Timestamp, lifetime: SignedDuration) -> Result<T, RegistryError> {
    let end = now.checked_add(lifetime).map_err(|_| RegistryError::OutOfRange)?;
    let end = Timestamp::from_second(end.as_second()).map_err(|_| RegistryError::OutOfRange)?;
    end.to_string().parse().map_err(|_| RegistryError::OutOfRange)
}

/// When a role's metadata ends.
pub(crate) fn expiry<R: Role>(role: &R) -> Timestamp {
    Timestamp::from_second(role.expires().as_second()).unwrap_or(Timestamp::MIN)
}

/// The version after `version`.
pub(crate) fn next(version: NonZeroU64) -> Result<NonZeroU64, RegistryError> {
    version
        .checked_add(1)
        .filter(|next| next.get() <= VERSION_MAX)
        .ok_or(RegistryError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_version_is_signed_that_hosts_cannot_read() {
        let version = |version| NonZeroU64::new(version).unwrap();
        assert_eq!(next(version(VERSION_MAX - 1)).unwrap().get(), VERSION_MAX);
        for last in [VERSION_MAX, u64::MAX] {
            assert!(
                matches!(next(version(last)), Err(RegistryError::OutOfRange)),
                "{last}"
            );
        }
    }
}
