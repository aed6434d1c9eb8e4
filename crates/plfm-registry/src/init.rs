//! The first metadata of a repository.

use std::collections::HashMap;
use std::num::NonZeroU64;

use jiff::Timestamp;
use plfm_release::{Keyring, PublicKey, SignedKeyring, SigningKey};
use tough::schema::{Role as _, Root, Signed, Snapshot, Targets};

use crate::commit::{Signing, create_version};
use crate::error::RegistryError;
use crate::layout::{KEYRING_TARGET, TIMESTAMP_FILE, target_file, versioned_file};
use crate::publish::{keyring_target, target_name};
use crate::repository::{Repository, check_signatures, digest_text, set_snapshot_meta, set_targets_meta};
use crate::role::{
    Lifetimes, METADATA_BYTES_MAX, OnlineKeys, RoleName, SPEC_VERSION, TARGETS_BYTES_MAX, check_keys,
    expires, metafile, parse, render, set_role_keys, sign_as, sign_role,
};
use crate::store::{Created, Store};

/// How many root keys a repository has by default.
pub const ROOT_KEYS_DEFAULT: u64 = 3;
/// How many of them have to sign by default.
pub const ROOT_THRESHOLD_DEFAULT: NonZeroU64 = NonZeroU64::new(2).unwrap();

/// The first root: what hosts and publishers are given to trust. Its content is the file's.
///
/// # Errors
/// [`RegistryError`] when the threshold is beyond the number of keys, or an online key is missing.
pub fn first_root(
    root_keys: &[SigningKey],
    threshold: NonZeroU64,
    online: &OnlineKeys,
    lifetimes: &Lifetimes,
    now: Timestamp,
) -> Result<Vec<u8>, RegistryError> {
    let mut root = Root {
        spec_version: SPEC_VERSION.to_owned(),
        consistent_snapshot: true,
        version: NonZeroU64::MIN,
        expires: expires(now, lifetimes.root)?,
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    set_role_keys(&mut root, RoleName::Root, &public(root_keys), threshold)?;
    for role in RoleName::ONLINE {
        if online.of(role).is_empty() {
            return Err(RegistryError::KeyMissing { role });
        }
        set_role_keys(&mut root, role, &public(online.of(role)), NonZeroU64::MIN)?;
    }
    Ok(render(&sign_role(root, root_keys)?))
}

fn public(keys: &[SigningKey]) -> Vec<PublicKey> {
    keys.iter().map(SigningKey::public_key).collect()
}

/// Makes a repository in `store` with the root `root` ([`first_root`]) and no release. A call that was cut off is
/// repeated with the same root.
///
/// # Errors
/// [`RegistryError`] when there is one already, or `root_keys` are not enough keys of `root` to sign the keyring.
pub async fn init(
    store: Store,
    root: &[u8],
    root_keys: &[SigningKey],
    keyring: &Keyring,
    signing: &Signing<'_>,
) -> Result<Repository, RegistryError> {
    let exists = || RegistryError::Exists {
        store: store.name().to_owned(),
    };
    let name = versioned_file("root", 1);
    let signed_root: Signed<Root> = parse(&name, root)?;
    check_signatures(&signed_root.signed, &name, &signed_root)?;
    check_keys(&signed_root.signed, RoleName::Root, root_keys)?;
    {
        let _lock = store.lock()?;
        if store.get(TIMESTAMP_FILE, METADATA_BYTES_MAX).await?.is_some() {
            return Err(exists());
        }
        if store.create(&name, root).await? == Created::Exists {
            let there = store.get(&name, METADATA_BYTES_MAX).await?;
            if there.is_none_or(|there| there.bytes != root) {
                return Err(exists());
            }
        }
        let keyring = SignedKeyring::sign(1, keyring, root_keys);
        let timestamp = first_files(&store, &signed_root.signed, &keyring, signing).await?;
        if store.create(TIMESTAMP_FILE, &timestamp).await? == Created::Exists {
            return Err(exists());
        }
    }
    Repository::open(store, root).await
}

/// Everything but the timestamp, which is returned.
async fn first_files(
    store: &Store,
    root: &Root,
    keyring: &SignedKeyring,
    signing: &Signing<'_>,
) -> Result<Vec<u8>, RegistryError> {
    let first = NonZeroU64::MIN;
    let (now, lifetimes) = (signing.now, signing.lifetimes);
    let target = keyring_target(keyring.as_bytes());
    let blob = target_file(&digest_text(&target), KEYRING_TARGET);
    store.create(&blob, keyring.as_bytes()).await?;

    let spec = || SPEC_VERSION.to_owned();
    let mut targets = Targets::new(spec(), first, expires(now, lifetimes.targets)?);
    targets.delegations = None;
    targets.targets.insert(target_name(KEYRING_TARGET)?, target);
    let sign = |version| {
        let mut body = targets.clone();
        body.version = version;
        sign_as(root, RoleName::Targets, body, &signing.keys.targets)
    };
    let (targets, bytes) = create_version(store, "targets", TARGETS_BYTES_MAX, first, sign).await?;

    let mut snapshot = Snapshot::new(spec(), first, expires(now, lifetimes.snapshot)?);
    set_targets_meta(&mut snapshot, metafile(targets.signed.version(), &bytes));
    let sign = |version| {
        let mut body = snapshot.clone();
        body.version = version;
        sign_as(root, RoleName::Snapshot, body, &signing.keys.snapshot)
    };
    let (snapshot, bytes) = create_version(store, "snapshot", METADATA_BYTES_MAX, first, sign).await?;

    let ends = expires(now, lifetimes.timestamp)?;
    let mut timestamp = tough::schema::Timestamp::new(spec(), NonZeroU64::MIN, ends);
    set_snapshot_meta(&mut timestamp, metafile(snapshot.signed.version(), &bytes));
    let timestamp = sign_as(root, RoleName::Timestamp, timestamp, &signing.keys.timestamp)?;
    Ok(render(&timestamp))
}
