//! A repository as its publisher sees it: everything that the trusted root and the timestamp lead to, verified.
//!
//! ```text
//! trusted root -> … -> <n>.root.json -> timestamp.json -> <n>.snapshot.json -> <n>.targets.json -> keyring.json
//! ```
//!
//! Invariant: what is read is verified from a root that the publisher has from elsewhere, because a publisher signs
//! what it found: whoever can write the store could else have his files signed with the publisher's keys.

use std::num::NonZeroU64;

use jiff::Timestamp;
use object_store::UpdateVersion;
use plfm_release::{SIGNED_KEYRING_BYTES_MAX, Sha256Digest, SignedKeyring, VerifiedKeyring};
use serde::de::DeserializeOwned;
use tough::schema::{Metafile, Role, Root, Signed, Snapshot, Target, Targets};

use crate::error::RegistryError;
use crate::layout::{KEYRING_TARGET, TIMESTAMP_FILE, target_file, versioned_file};
use crate::role::{METADATA_BYTES_MAX, RoleName, TARGETS_BYTES_MAX, expiry, parse, role_public_keys};
use crate::store::{Store, WriteLock};

/// Most root versions walked from the trusted one: a rotation a day for three years.
pub const ROOT_UPDATES_MAX: u64 = 1024;
const SNAPSHOT_META: &str = "snapshot.json";
const TARGETS_META: &str = "targets.json";

/// A repository, verified, and the right to change it.
#[derive(Debug)]
pub struct Repository {
    pub(crate) store: Store,
    pub(crate) lock: WriteLock,
    pub(crate) root: Signed<Root>,
    pub(crate) timestamp: Signed<tough::schema::Timestamp>,
    pub(crate) timestamp_version: UpdateVersion,
    pub(crate) snapshot: Signed<Snapshot>,
    pub(crate) targets: Signed<Targets>,
}

impl Repository {
    /// Reads and verifies the repository in `store` from `trusted_root`, the content of a root file that came from
    /// elsewhere; a later root is taken when the one before it says so. Expired metadata is taken: to replace it is
    /// what a publisher comes for.
    ///
    /// # Errors
    /// [`RegistryError`] when somebody else writes, or anything is missing, malformed or not signed as it has to be.
    pub async fn open(store: Store, trusted_root: &[u8]) -> Result<Self, RegistryError> {
        let lock = store.lock()?;
        let root = load_root(&store, trusted_root).await?;
        let object = store.get(TIMESTAMP_FILE, METADATA_BYTES_MAX).await?;
        let object = object.ok_or_else(|| missing(TIMESTAMP_FILE))?;
        let timestamp: Signed<tough::schema::Timestamp> = parse(TIMESTAMP_FILE, &object.bytes)?;
        check_signatures(&root.signed, TIMESTAMP_FILE, &timestamp)?;
        let meta = timestamp.signed.meta.get(SNAPSHOT_META);
        let snapshot: Signed<Snapshot> =
            load_role(&store, &root.signed, RoleName::Snapshot, meta, METADATA_BYTES_MAX).await?;
        let meta = snapshot.signed.meta.get(TARGETS_META);
        let targets: Signed<Targets> =
            load_role(&store, &root.signed, RoleName::Targets, meta, TARGETS_BYTES_MAX).await?;
        Ok(Self {
            store,
            lock,
            root,
            timestamp,
            timestamp_version: object.version,
            snapshot,
            targets,
        })
    }

    /// The keyring that hosts take release keys from.
    ///
    /// # Errors
    /// [`RegistryError`] when it is missing or not signed by the root's keys.
    pub async fn keyring(&self) -> Result<VerifiedKeyring, RegistryError> {
        let (name, target) = self
            .targets
            .signed
            .targets
            .iter()
            .find(|(name, _)| name.resolved() == KEYRING_TARGET)
            .ok_or_else(|| missing(KEYRING_TARGET))?;
        let limit = u64::try_from(SIGNED_KEYRING_BYTES_MAX).unwrap_or(u64::MAX);
        let bytes = self.load_target(name.resolved(), target, limit).await?;
        let (keys, threshold) = role_public_keys(&self.root.signed, RoleName::Root);
        SignedKeyring::verify(&bytes, &keys, threshold).map_err(RegistryError::KeyringUntrusted)
    }

    /// A target's content, which must be what the targets metadata says.
    pub(crate) async fn load_target(
        &self,
        name: &str,
        target: &Target,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let path = target_file(&digest_text(target), name);
        let object = self
            .store
            .get(&path, limit)
            .await?
            .ok_or_else(|| missing(&path))?;
        if Sha256Digest::of(&object.bytes).as_bytes() == &*target.hashes.sha256.to_vec() {
            Ok(object.bytes)
        } else {
            Err(contradiction(&path, "its digest is another"))
        }
    }

    /// That hosts still take the root.
    pub(crate) fn check_root_valid(&self, now: Timestamp) -> Result<(), RegistryError> {
        let expired = expiry(&self.root.signed);
        if now < expired {
            Ok(())
        } else {
            Err(RegistryError::RootExpired { expired })
        }
    }

    /// The store's address, for people.
    pub fn store_name(&self) -> &str {
        self.store.name()
    }
}

/// A target's digest, in hexadecimal.
pub(crate) fn digest_text(target: &Target) -> String {
    target.hashes.sha256.iter().fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

pub(crate) fn missing(name: &str) -> RegistryError {
    RegistryError::Missing {
        name: name.to_owned(),
    }
}

pub(crate) fn contradiction(name: &str, why: &'static str) -> RegistryError {
    RegistryError::Contradiction {
        name: name.to_owned(),
        why,
    }
}

pub(crate) fn check_signatures<R: Role>(
    root: &Root,
    name: &str,
    signed: &Signed<R>,
) -> Result<(), RegistryError> {
    root.verify_role(signed)
        .map_err(|source| RegistryError::BadSignature {
            name: name.to_owned(),
            source: Box::new(source),
        })
}

/// The latest root that the trusted one leads to (TUF specification, section 5.3).
async fn load_root(store: &Store, trusted: &[u8]) -> Result<Signed<Root>, RegistryError> {
    let mut root: Signed<Root> = parse("the trusted root", trusted)?;
    check_signatures(&root.signed, "the trusted root", &root)?;
    for _ in 0..ROOT_UPDATES_MAX {
        let version = crate::role::next(root.signed.version)?;
        let name = versioned_file("root", version.get());
        let Some(object) = store.get(&name, METADATA_BYTES_MAX).await? else {
            return Ok(root);
        };
        let later: Signed<Root> = parse(&name, &object.bytes)?;
        check_signatures(&root.signed, &name, &later)?;
        check_signatures(&later.signed, &name, &later)?;
        if later.signed.version != version {
            return Err(contradiction(&name, "its version is another"));
        }
        root = later;
    }
    Err(RegistryError::TooManyRoots {
        max: ROOT_UPDATES_MAX,
    })
}

/// A versioned role that is as the metadata before it says.
async fn load_role<R: Role + DeserializeOwned>(
    store: &Store,
    root: &Root,
    role: RoleName,
    meta: Option<&Metafile>,
    limit: u64,
) -> Result<Signed<R>, RegistryError> {
    let role_name = role.to_string();
    let meta = meta.ok_or_else(|| missing(&format!("{role_name}.json")))?;
    let name = versioned_file(&role_name, meta.version.get());
    let object = store.get(&name, limit).await?.ok_or_else(|| missing(&name))?;
    let digest = Sha256Digest::of(&object.bytes);
    if meta
        .hashes
        .as_ref()
        .is_some_and(|hashes| hashes.sha256.to_vec() != digest.as_bytes())
    {
        return Err(contradiction(&name, "its digest is another"));
    }
    let signed: Signed<R> = parse(&name, &object.bytes)?;
    check_signatures(root, &name, &signed)?;
    if signed.signed.version() != meta.version {
        return Err(contradiction(&name, "its version is another"));
    }
    Ok(signed)
}

/// The version of the targets that a snapshot names.
pub(crate) fn targets_version(snapshot: &Snapshot) -> Option<NonZeroU64> {
    snapshot.meta.get(TARGETS_META).map(|meta| meta.version)
}

/// Makes `meta` what the snapshot says of the targets.
pub(crate) fn set_targets_meta(snapshot: &mut Snapshot, meta: Metafile) {
    snapshot.meta.insert(TARGETS_META.to_owned(), meta);
}

/// Makes `meta` what the timestamp says of the snapshot.
pub(crate) fn set_snapshot_meta(timestamp: &mut tough::schema::Timestamp, meta: Metafile) {
    timestamp.meta.insert(SNAPSHOT_META.to_owned(), meta);
}
