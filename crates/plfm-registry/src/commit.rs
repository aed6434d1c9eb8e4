//! Making a change visible.
//!
//! ```text
//! targets/…  ->  <n>.targets.json  ->  <n>.snapshot.json  ->  timestamp.json
//! create-only    create-only           create-only            replaced if unchanged: the change
//! ```
//!
//! Invariant: until `timestamp.json` is replaced nothing leads to any of the new files, and then all of them are there.
//! A change that was cut off leaves files that nothing leads to; the next one takes the next free numbers, and `gc`
//! removes them.

use std::num::NonZeroU64;

use jiff::Timestamp;
use plfm_release::Sha256Digest;
use tough::schema::{Role, Signed, Snapshot, Targets};

use crate::error::RegistryError;
use crate::layout::{TIMESTAMP_FILE, target_file, versioned_file};
use crate::repository::{Repository, set_snapshot_meta, set_targets_meta};
use crate::role::{
    Lifetimes, METADATA_BYTES_MAX, OnlineKeys, RoleName, TARGETS_BYTES_MAX, check_keys, expires, metafile,
    next, render, sign_as,
};
use crate::store::{Created, Store, StoreError};

/// Most numbers that are passed over because a change that was cut off has them.
pub const VERSIONS_SKIPPED_MAX: u64 = 1000;
/// The snapshot that this one replaced: what `gc` finds out from how long a file is no longer led to.
pub(crate) const PREVIOUS_MEMBER: &str = "x-plfm-previous";

/// What a change is made with.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    /// The keys of the online roles.
    pub keys: &'a OnlineKeys,
    /// How long the new metadata is taken.
    pub lifetimes: &'a Lifetimes,
    /// The moment.
    pub now: Timestamp,
}

/// Which files are made anew. Each needs those after it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Targets(Box<Targets>),
    Snapshot,
    Timestamp,
}

/// A file to be published as a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blob<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
}

impl Repository {
    /// Puts files where hosts will look for them. A file that is there is checked, and made anew if it rotted or is
    /// not led to, so that a `gc` that takes it for forgotten sees it is young.
    pub(crate) async fn upload(&self, blobs: &[Blob<'_>]) -> Result<(), RegistryError> {
        for blob in blobs {
            let digest = Sha256Digest::of(blob.bytes);
            let path = target_file(&digest.to_string(), blob.name);
            if self.store.create(&path, blob.bytes).await? == Created::New {
                continue;
            }
            let led_to = self.targets.signed.targets.iter().any(|(name, target)| {
                name.resolved() == blob.name && target.hashes.sha256.to_vec() == digest.as_bytes()
            });
            let limit = u64::try_from(blob.bytes.len()).unwrap_or(u64::MAX);
            let whole = match self.store.get(&path, limit).await {
                Ok(object) => object.is_some_and(|object| object.bytes == blob.bytes),
                Err(StoreError::TooLong { .. }) => false,
                Err(error) => return Err(error.into()),
            };
            if !(whole && led_to) {
                self.store.put(&path, blob.bytes).await?;
            }
        }
        Ok(())
    }

    /// Makes a change visible.
    pub(crate) async fn commit(
        &mut self,
        change: Change,
        signing: &Signing<'_>,
    ) -> Result<(), RegistryError> {
        // Before anything is written: all the keys that will be needed.
        let needed: &[RoleName] = match change {
            Change::Targets(_) => &[RoleName::Targets, RoleName::Snapshot, RoleName::Timestamp],
            Change::Snapshot => &[RoleName::Snapshot, RoleName::Timestamp],
            Change::Timestamp => &[RoleName::Timestamp],
        };
        for role in needed {
            check_keys(&self.root.signed, *role, signing.keys.of(*role))?;
        }
        let mut snapshot = None;
        if let Change::Targets(targets) = change {
            let (signed, bytes) = self.create_targets(*targets, signing).await?;
            let mut body = self.next_snapshot(signing)?;
            set_targets_meta(&mut body, metafile(signed.signed.version, &bytes));
            self.targets = signed;
            snapshot = Some(body);
        } else if change == Change::Snapshot {
            snapshot = Some(self.next_snapshot(signing)?);
        }
        let mut timestamp = self.timestamp.signed.clone();
        if let Some(body) = snapshot {
            let (signed, bytes) = self.create_snapshot(body, signing).await?;
            set_snapshot_meta(&mut timestamp, metafile(signed.signed.version, &bytes));
            self.snapshot = signed;
        }
        timestamp.version = next(timestamp.version)?;
        timestamp.expires = expires(signing.now, signing.lifetimes.timestamp)?;
        self.replace_timestamp(timestamp, signing).await
    }

    fn next_snapshot(&self, signing: &Signing<'_>) -> Result<Snapshot, RegistryError> {
        let mut body = self.snapshot.signed.clone();
        let previous = self.snapshot.signed.version.get();
        body._extra.insert(PREVIOUS_MEMBER.to_owned(), previous.into());
        body.expires = expires(signing.now, signing.lifetimes.snapshot)?;
        Ok(body)
    }

    async fn create_targets(
        &self,
        mut body: Targets,
        signing: &Signing<'_>,
    ) -> Result<(Signed<Targets>, Vec<u8>), RegistryError> {
        body.expires = expires(signing.now, signing.lifetimes.targets)?;
        let sign = |version: NonZeroU64| {
            let mut body = body.clone();
            body.version = version;
            sign_as(&self.root.signed, RoleName::Targets, body, &signing.keys.targets)
        };
        let first = next(self.targets.signed.version)?;
        create_version(&self.store, "targets", TARGETS_BYTES_MAX, first, sign).await
    }

    async fn create_snapshot(
        &self,
        body: Snapshot,
        signing: &Signing<'_>,
    ) -> Result<(Signed<Snapshot>, Vec<u8>), RegistryError> {
        let sign = |version: NonZeroU64| {
            let mut body = body.clone();
            body.version = version;
            sign_as(
                &self.root.signed,
                RoleName::Snapshot,
                body,
                &signing.keys.snapshot,
            )
        };
        let first = next(self.snapshot.signed.version)?;
        create_version(&self.store, "snapshot", METADATA_BYTES_MAX, first, sign).await
    }

    async fn replace_timestamp(
        &mut self,
        body: tough::schema::Timestamp,
        signing: &Signing<'_>,
    ) -> Result<(), RegistryError> {
        let signed = sign_as(
            &self.root.signed,
            RoleName::Timestamp,
            body,
            &signing.keys.timestamp,
        )?;
        let bytes = render(&signed);
        let old = self.timestamp_version.clone();
        self.timestamp_version = self
            .store
            .replace(TIMESTAMP_FILE, &bytes, old, &self.lock)
            .await?;
        self.timestamp = signed;
        Ok(())
    }
}

/// Puts a role under the first free number from `first` on.
pub(crate) async fn create_version<R: Role>(
    store: &Store,
    role: &'static str,
    limit: u64,
    first: NonZeroU64,
    sign: impl Fn(NonZeroU64) -> Result<Signed<R>, RegistryError>,
) -> Result<(Signed<R>, Vec<u8>), RegistryError> {
    let mut version = first;
    for _ in 0..VERSIONS_SKIPPED_MAX {
        let signed = sign(version)?;
        let bytes = render(&signed);
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
            return Err(RegistryError::LimitReached {
                what: "bytes of metadata in one file",
                found: bytes.len(),
                max: usize::try_from(limit).unwrap_or(usize::MAX),
            });
        }
        if store.create(&versioned_file(role, version.get()), &bytes).await? == Created::New {
            return Ok((signed, bytes));
        }
        version = next(version)?;
    }
    Err(RegistryError::NoFreeVersion { name: role })
}
