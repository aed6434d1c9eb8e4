//! Replacing keys: the root's own, and those of the roles it vouches for.
//!
//! A host reads root, then timestamp, then the rest, while they are replaced. So that whatever it meets fits together,
//! new keys sign before old ones are dropped:
//!
//! ```text
//! rotate-key    root n+1: old and new key  ->  metadata signed by both  ->  root n+2: new key
//! rotate-root   keyring signed by old and new root keys                 ->  root n+1, signed by old and new
//! ```
//!
//! Invariant: after each arrow the repository is whole; the same call again goes on where one was cut off.

use std::num::NonZeroU64;

use jiff::Timestamp;
use plfm_release::{PublicKey, SignedKeyring, SigningKey};
use serde::Serialize;
use tough::schema::{Role, Root, Signed};

use crate::commit::{Change, Signing};
use crate::error::RegistryError;
use crate::layout::versioned_file;
use crate::repository::{Repository, check_signatures};
use crate::role::{
    OnlineKeys, RoleName, check_keys, expires, expiry, next, render, role_public_keys, set_role_keys,
    sign_role, tuf_key_id,
};
use crate::store::Created;

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// The role whose keys were replaced.
    pub role: RoleName,
    /// The root's version before.
    pub root_version_before: u64,
    /// And after.
    pub root_version: u64,
    /// When the root ends now.
    pub root_expires: Timestamp,
    /// Ids of the role's keys, as release keys have them.
    pub keys: Vec<plfm_release::KeyId>,
    /// How many of them have to sign.
    pub threshold: NonZeroU64,
}

/// The root keys that are to be.
#[derive(Debug, Clone, Copy)]
pub struct NewRootKeys<'a> {
    /// The keys, all of them.
    pub keys: &'a [SigningKey],
    /// How many have to sign.
    pub threshold: NonZeroU64,
}

impl Repository {
    /// Makes a new root version, signed by a threshold of the old keys and of the new ones. Without `new` the keys stay
    /// and only the expiry moves. A root that has expired is renewed like any other.
    ///
    /// # Errors
    /// [`RegistryError`] when too few of the old keys are given, or an online key is missing.
    pub async fn rotate_root(
        &mut self,
        old_keys: &[SigningKey],
        new: Option<NewRootKeys<'_>>,
        signing: &Signing<'_>,
    ) -> Result<Rotated, RegistryError> {
        check_keys(&self.root.signed, RoleName::Root, old_keys)?;
        let mut body = self.root.signed.clone();
        let new_keys = new.map(|new| new.keys).unwrap_or_default();
        let signers = || old_keys.iter().chain(new_keys);
        if let Some(new) = new {
            let public: Vec<_> = new.keys.iter().map(SigningKey::public_key).collect();
            set_role_keys(&mut body, RoleName::Root, &public, new.threshold)?;
            check_keys(&body, RoleName::Root, signers())?;
            // The keyring is signed by root keys, and hosts will look for signatures of the new ones.
            let keyring = self.keyring().await?;
            let signed = SignedKeyring::sign(keyring.version(), keyring.keyring(), unique(signers()));
            self.commit_keyring(&signed, signing).await?;
        }
        let before = self.root.signed.version.get();
        self.put_root(body, signers(), signing).await?;
        Ok(self.rotated(RoleName::Root, before))
    }

    /// Makes `new` the only key of an online role. `signing` has the keys of all online roles, that of `role` as long
    /// as it is not lost: then hosts that are reading just now notice nothing.
    ///
    /// # Errors
    /// [`RegistryError`] when too few root keys are given, or another role's key is missing.
    pub async fn rotate_key(
        &mut self,
        role: RoleName,
        new: SigningKey,
        root_keys: &[SigningKey],
        mut keys: OnlineKeys,
        signing: &Signing<'_>,
    ) -> Result<Rotated, RegistryError> {
        check_keys(&self.root.signed, RoleName::Root, root_keys)?;
        let before = self.root.signed.version.get();
        let public = new.public_key();
        let (listed, _) = role_public_keys(&self.root.signed, role);
        if !listed.contains(&public) {
            let mut both = listed;
            both.push(public.clone());
            self.put_role_keys(role, &both, root_keys, signing).await?;
        }
        if !self.is_signed_with(role, &public)? {
            match role {
                RoleName::Targets => keys.targets.push(new),
                RoleName::Snapshot => keys.snapshot.push(new),
                RoleName::Timestamp => keys.timestamp.push(new),
                RoleName::Root => return Err(RegistryError::KeyMissing { role }),
            }
            let change = match role {
                RoleName::Targets => Change::Targets(Box::new(self.targets.signed.clone())),
                RoleName::Snapshot => Change::Snapshot,
                RoleName::Timestamp | RoleName::Root => Change::Timestamp,
            };
            let signing = Signing {
                keys: &keys,
                ..*signing
            };
            self.commit(change, &signing).await?;
        }
        let (listed, _) = role_public_keys(&self.root.signed, role);
        if listed != [public.clone()] {
            self.put_role_keys(role, &[public], root_keys, signing).await?;
        }
        Ok(self.rotated(role, before))
    }

    async fn put_role_keys(
        &mut self,
        role: RoleName,
        keys: &[PublicKey],
        root_keys: &[SigningKey],
        signing: &Signing<'_>,
    ) -> Result<(), RegistryError> {
        let mut body = self.root.signed.clone();
        set_role_keys(&mut body, role, keys, NonZeroU64::MIN)?;
        self.put_root(body, root_keys, signing).await
    }

    /// Signs and puts the next root (TUF specification, section 5.3.4: the next version, signed by the old keys and by
    /// the new). The put is what makes it valid.
    async fn put_root<'a>(
        &mut self,
        mut body: Root,
        signers: impl IntoIterator<Item = &'a SigningKey>,
        signing: &Signing<'_>,
    ) -> Result<(), RegistryError> {
        body.version = next(self.root.signed.version)?;
        body.expires = expires(signing.now, signing.lifetimes.root)?;
        let name = versioned_file("root", body.version.get());
        let signed = sign_role(body, signers)?;
        check_signatures(&self.root.signed, &name, &signed)?;
        check_signatures(&signed.signed, &name, &signed)?;
        let bytes = render(&signed);
        match self.store.create(&name, &bytes).await? {
            Created::New => {}
            Created::Exists => return Err(self.store.conflict().into()),
        }
        self.root = signed;
        Ok(())
    }

    fn is_signed_with(&self, role: RoleName, key: &PublicKey) -> Result<bool, RegistryError> {
        fn has<R: Role>(signed: &Signed<R>, id: &[u8]) -> bool {
            signed.signatures.iter().any(|signature| *signature.keyid == *id)
        }
        let id = tuf_key_id(key)?.into_vec();
        Ok(match role {
            RoleName::Root => has(&self.root, &id),
            RoleName::Targets => has(&self.targets, &id),
            RoleName::Snapshot => has(&self.snapshot, &id),
            RoleName::Timestamp => has(&self.timestamp, &id),
        })
    }

    fn rotated(&self, role: RoleName, before: u64) -> Rotated {
        let (keys, threshold) = role_public_keys(&self.root.signed, role);
        Rotated {
            role,
            root_version_before: before,
            root_version: self.root.signed.version.get(),
            root_expires: expiry(&self.root.signed),
            keys: keys.iter().map(PublicKey::id).collect(),
            threshold,
        }
    }
}

/// A key that is old and new signs once.
fn unique<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> Vec<&'a SigningKey> {
    let mut unique: Vec<&SigningKey> = Vec::new();
    for key in keys {
        if unique.iter().all(|other| other.public_key() != key.public_key()) {
            unique.push(key);
        }
    }
    unique
}
