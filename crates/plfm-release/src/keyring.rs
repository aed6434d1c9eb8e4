//! Which keys are trusted, for what and when, and the one way from a signed manifest to a verified one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Architecture, Channel, JsonError, KeyId, PublicKey, SignError, SignedManifest, VerifiedManifest,
    parse_strict_json, signed_bytes,
};

/// The `schema` of the keyring files that this version reads.
pub const KEYRING_SCHEMA: &str = "plfm.keyring/v1";

/// That a key is not to be trusted any more, whenever it signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// When it was revoked.
    pub at: Timestamp,
    /// Why, for people.
    pub reason: String,
}

/// One trusted key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The key's id; checked against `public_key` when the keyring is read.
    pub key_id: KeyId,
    /// The key, SPKI PEM.
    pub public_key: PublicKey,
    /// Channels that the key may sign for.
    pub channels: Vec<Channel>,
    /// First moment at which its signatures are taken.
    pub not_before: Timestamp,
    /// First moment at which they are not taken any more.
    pub not_after: Timestamp,
    /// Set when the key was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
}

/// The set of keys that a host trusts. Several, so that a key can be replaced before it ends.
///
/// It is read with [`Keyring::parse`] only, which checks that each key is listed under its own id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Keyring {
    schema: String,
    keys: Vec<KeyEntry>,
}

/// A keyring as it is in a file, unchecked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyringFile {
    schema: String,
    keys: Vec<KeyEntry>,
}

/// Why a keyring could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Not JSON, or ambiguous JSON.
    #[error("the keyring is not acceptable JSON")]
    Json(#[source] JsonError),
    /// A member is missing or malformed.
    #[error("the keyring has a missing or malformed member")]
    Shape(#[source] serde_json::Error),
    /// The `schema` member names something else.
    #[error("the keyring's schema is {found:?}, not {KEYRING_SCHEMA:?}")]
    UnknownSchema {
        /// What the member holds.
        found: String,
    },
    /// A key's id is not that of its public key.
    #[error("the keyring lists key {listed} with the public key of {actual}")]
    WrongKeyId {
        /// The id in the file.
        listed: KeyId,
        /// The id of the key in the file.
        actual: KeyId,
    },
    /// A key is there twice.
    #[error("the keyring lists key {0} twice")]
    DuplicateKey(KeyId),
    /// A key that should be there is not.
    #[error("the keyring has no key {0}")]
    NoSuchKey(KeyId),
    /// A key's validity ends before it begins.
    #[error("the validity of key {0} ends before it begins")]
    EmptyValidity(KeyId),
}

/// What a verifier will take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyPolicy {
    /// The one channel.
    pub channel: Channel,
    /// The one machine.
    pub arch: Architecture,
    /// The moment at which the signing key must be valid: now for a release that arrives, the moment of its
    /// installation for one that is on the host already (a key that ends must not stop boots; a revoked one does).
    pub at: Timestamp,
}

/// Why a manifest is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No key of that id is trusted.
    #[error("the manifest is signed with key {0}, which the keyring does not have")]
    UnknownKey(KeyId),
    /// The key was revoked.
    #[error("the manifest is signed with key {key_id}, which was revoked at {at}: {reason}")]
    RevokedKey {
        /// The key.
        key_id: KeyId,
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// The key is not valid yet.
    #[error("the manifest is signed with key {key_id}, which is not valid before {not_before}")]
    KeyNotYetValid {
        /// The key.
        key_id: KeyId,
        /// The beginning of its validity.
        not_before: Timestamp,
    },
    /// The key's validity has ended.
    #[error("the manifest is signed with key {key_id}, which expired at {not_after}")]
    ExpiredKey {
        /// The key.
        key_id: KeyId,
        /// The end of its validity.
        not_after: Timestamp,
    },
    /// The key may not sign for that channel.
    #[error("the manifest is for channel {channel}, for which key {key_id} may not sign")]
    KeyNotForChannel {
        /// The key.
        key_id: KeyId,
        /// The manifest's channel.
        channel: Channel,
    },
    /// The signature does not fit the document.
    #[error("the manifest's signature does not fit its content (key {0})")]
    BadSignature(KeyId),
    /// The document has no canonical form.
    #[error("the manifest cannot be brought into its signed form")]
    Unsignable(#[source] SignError),
    /// A good signature, for another channel.
    #[error("the manifest is for channel {found}; this host takes {expected}")]
    WrongChannel {
        /// The manifest's channel.
        found: Channel,
        /// The verifier's channel.
        expected: Channel,
    },
    /// A good signature, for another machine.
    #[error("the manifest is for {found}; this host is {expected}")]
    WrongArchitecture {
        /// The manifest's machine.
        found: Architecture,
        /// The verifier's machine.
        expected: Architecture,
    },
}

impl VerifyError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownKey(_) => "manifest_unknown_key",
            Self::RevokedKey { .. } => "manifest_revoked_key",
            Self::KeyNotYetValid { .. } => "manifest_key_not_yet_valid",
            Self::ExpiredKey { .. } => "manifest_expired_key",
            Self::KeyNotForChannel { .. } => "manifest_key_not_for_channel",
            Self::BadSignature(_) | Self::Unsignable(_) => "manifest_bad_signature",
            Self::WrongChannel { .. } => "manifest_wrong_channel",
            Self::WrongArchitecture { .. } => "manifest_wrong_architecture",
        }
    }
}

impl KeyEntry {
    /// An entry for `public_key`, not revoked.
    pub fn new(
        public_key: PublicKey,
        channels: Vec<Channel>,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Self {
        Self {
            key_id: public_key.id(),
            public_key,
            channels,
            not_before,
            not_after,
            revoked: None,
        }
    }

    fn check(&self) -> Result<(), KeyringError> {
        let actual = self.public_key.id();
        if actual != self.key_id {
            return Err(KeyringError::WrongKeyId {
                listed: self.key_id,
                actual,
            });
        }
        if self.not_after <= self.not_before {
            return Err(KeyringError::EmptyValidity(self.key_id));
        }
        Ok(())
    }

    fn check_trusted(&self, channel: &Channel, at: Timestamp) -> Result<(), VerifyError> {
        let key_id = self.key_id;
        if let Some(Revocation { at, reason }) = &self.revoked {
            return Err(VerifyError::RevokedKey {
                key_id,
                at: *at,
                reason: reason.clone(),
            });
        }
        if at < self.not_before {
            return Err(VerifyError::KeyNotYetValid {
                key_id,
                not_before: self.not_before,
            });
        }
        if at >= self.not_after {
            return Err(VerifyError::ExpiredKey {
                key_id,
                not_after: self.not_after,
            });
        }
        if !self.channels.contains(channel) {
            return Err(VerifyError::KeyNotForChannel {
                key_id,
                channel: channel.clone(),
            });
        }
        Ok(())
    }
}

impl Default for Keyring {
    fn default() -> Self {
        Self {
            schema: KEYRING_SCHEMA.to_owned(),
            keys: Vec::new(),
        }
    }
}

impl Keyring {
    /// Reads a keyring file.
    ///
    /// # Errors
    /// When it is not acceptable JSON, not a keyring, or lists a key twice or under a wrong id.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        let document = parse_strict_json(bytes).map_err(KeyringError::Json)?;
        let file: KeyringFile = serde_json::from_value(document).map_err(KeyringError::Shape)?;
        if file.schema != KEYRING_SCHEMA {
            return Err(KeyringError::UnknownSchema { found: file.schema });
        }
        let mut checked = Self::default();
        for entry in file.keys {
            checked.insert(entry)?;
        }
        Ok(checked)
    }

    /// The keyring as a file's content: indented JSON and a newline.
    pub fn render(&self) -> String {
        // Every member has a text form, so the serializer has nothing to fail on.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Adds a key.
    ///
    /// # Errors
    /// When it is there already, its id is not its own, or its validity is empty.
    pub fn insert(&mut self, entry: KeyEntry) -> Result<(), KeyringError> {
        entry.check()?;
        if self.get(entry.key_id).is_some() {
            return Err(KeyringError::DuplicateKey(entry.key_id));
        }
        self.keys.push(entry);
        Ok(())
    }

    /// Revokes a key. A key that is revoked already keeps its first revocation.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn revoke(&mut self, key_id: KeyId, revocation: Revocation) -> Result<(), KeyringError> {
        let entry = self
            .keys
            .iter_mut()
            .find(|entry| entry.key_id == key_id)
            .ok_or(KeyringError::NoSuchKey(key_id))?;
        entry.revoked.get_or_insert(revocation);
        Ok(())
    }

    /// The same keys, and those that `other` revokes are revoked. Keys that only `other` has are not trusted.
    #[must_use]
    pub fn with_revocations_of(mut self, other: &Self) -> Self {
        for entry in &mut self.keys {
            let revoked = other.get(entry.key_id).and_then(|other| other.revoked.clone());
            entry.revoked = entry.revoked.take().or(revoked);
        }
        self
    }

    /// The keys, in the file's order.
    pub fn keys(&self) -> &[KeyEntry] {
        &self.keys
    }

    /// The key of that id.
    pub fn get(&self, key_id: KeyId) -> Option<&KeyEntry> {
        self.keys.iter().find(|entry| entry.key_id == key_id)
    }

    /// Verifies a manifest: the spec's "Agents MUST verify signatures before use".
    ///
    /// # Errors
    /// [`VerifyError`] when the key is unknown, revoked, outside its validity or not for the channel, when the
    /// signature does not fit, or when the manifest is for another channel or machine than `policy` takes.
    pub fn verify(
        &self,
        signed: SignedManifest,
        policy: &VerifyPolicy,
    ) -> Result<VerifiedManifest, VerifyError> {
        let key_id = signed.key_id();
        let entry = self.get(key_id).ok_or(VerifyError::UnknownKey(key_id))?;
        let manifest = signed.untrusted();
        entry.check_trusted(&manifest.channel, policy.at)?;
        let message = signed_bytes(signed.document()).map_err(VerifyError::Unsignable)?;
        if !entry.public_key.verifies(&message, signed.signature()) {
            return Err(VerifyError::BadSignature(key_id));
        }
        if manifest.channel != policy.channel {
            let (found, expected) = (manifest.channel.clone(), policy.channel.clone());
            return Err(VerifyError::WrongChannel { found, expected });
        }
        if manifest.arch != policy.arch {
            return Err(VerifyError::WrongArchitecture {
                found: manifest.arch,
                expected: policy.arch,
            });
        }
        Ok(signed.into_verified())
    }
}
