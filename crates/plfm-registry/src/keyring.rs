//! Changing which keys may sign releases: by a threshold of root keys.

use jiff::Timestamp;
use plfm_release::{KeyEntry, KeyId, Keyring, Revocation, SignedKeyring, SigningKey};

use crate::commit::{Blob, Change, Signing};
use crate::error::RegistryError;
use crate::layout::KEYRING_TARGET;
use crate::publish::{keyring_target, target_name};
use crate::repository::Repository;
use crate::role::{RoleName, check_keys};

/// How a keyring is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyringChange {
    /// A key may sign from now on.
    Trust(Box<KeyEntry>),
    /// Nothing that a key signed is taken any more.
    Revoke(KeyId, Revocation),
}

/// What changing the keyring did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KeyringChanged {
    /// The version before.
    pub version_before: u64,
    /// And after; the same when it said so already.
    pub version: u64,
    /// How many keys are neither revoked nor past their end.
    pub valid_keys: usize,
}

impl Repository {
    /// Changes the keyring, signs it with `root_keys` and publishes it. A change that was made already makes none.
    ///
    /// # Errors
    /// [`RegistryError`] when too few root keys are given, or the change does not fit the keyring.
    pub async fn change_keyring(
        &mut self,
        change: KeyringChange,
        root_keys: &[SigningKey],
        signing: &Signing<'_>,
    ) -> Result<KeyringChanged, RegistryError> {
        self.check_root_valid(signing.now)?;
        check_keys(&self.root.signed, RoleName::Root, root_keys)?;
        let verified = self.keyring().await?;
        let version_before = verified.version();
        let before = verified.into_keyring();
        let after = apply(&before, change).map_err(RegistryError::Keyring)?;
        let mut version = version_before;
        if after != before {
            version = version.checked_add(1).ok_or(RegistryError::OutOfRange)?;
            let signed = SignedKeyring::sign(version, &after, root_keys);
            self.commit_keyring(&signed, signing).await?;
        }
        Ok(KeyringChanged {
            version_before,
            version,
            valid_keys: count_valid(&after, signing.now),
        })
    }

    /// Publishes a keyring.
    pub(crate) async fn commit_keyring(
        &mut self,
        keyring: &SignedKeyring,
        signing: &Signing<'_>,
    ) -> Result<(), RegistryError> {
        let bytes = keyring.as_bytes();
        let name = KEYRING_TARGET;
        self.upload(&[Blob { name, bytes }]).await?;
        let mut targets = self.targets.signed.clone();
        targets.targets.insert(target_name(name)?, keyring_target(bytes));
        self.commit(Change::Targets(Box::new(targets)), signing).await
    }
}

fn apply(keyring: &Keyring, change: KeyringChange) -> Result<Keyring, plfm_release::KeyringError> {
    let mut keyring = keyring.clone();
    match change {
        KeyringChange::Trust(entry) if keyring.get(entry.key_id) == Some(&*entry) => {}
        KeyringChange::Trust(entry) => keyring.insert(*entry)?,
        KeyringChange::Revoke(key_id, revocation) => keyring.revoke(key_id, revocation)?,
    }
    Ok(keyring)
}

fn count_valid(keyring: &Keyring, now: Timestamp) -> usize {
    let valid = |entry: &&KeyEntry| entry.revoked.is_none() && now < entry.not_after;
    keyring.keys().iter().filter(valid).count()
}
