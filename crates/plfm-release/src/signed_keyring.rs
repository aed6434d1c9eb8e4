//! A keyring as it is distributed: with a version, signed by a threshold of keys that are not in it.
//!
//! ```text
//! DSSE envelope, payloadType application/vnd.plfm.keyring+json
//!   payload     {"schema": "plfm.signed-keyring/v1", "version": 3, "keys": [as in a keyring file]}
//!   signatures  of the repository's root keys (TUF specification, section 4.3), by threshold
//! ```
//!
//! Invariant: whoever can publish a release (the targets key) can't add a release key.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::dsse::{DsseError, Envelope};
use crate::keyring::{KeyEntry, Keyring, KeyringError};
use crate::{JsonError, PublicKey, SigningKey, parse_strict_json};

/// The `schema` of the payloads that this version reads and writes.
pub const SIGNED_KEYRING_SCHEMA: &str = "plfm.signed-keyring/v1";
/// The type of the payload inside the envelope.
pub const SIGNED_KEYRING_PAYLOAD_TYPE: &str = "application/vnd.plfm.keyring+json";
/// Largest signed keyring taken, in bytes: an entry has 400 bytes, so there is room for some 400 keys.
pub const SIGNED_KEYRING_BYTES_MAX: usize = 256 << 10;

/// Why a signed keyring is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum SignedKeyringError {
    /// Longer than any real one.
    #[error("the signed keyring has {found} bytes; at most {SIGNED_KEYRING_BYTES_MAX} are read")]
    TooLong {
        /// Its length, in bytes.
        found: usize,
    },
    /// The envelope is misshapen or not signed by enough root keys.
    #[error("the signed keyring is not to be trusted")]
    Envelope(#[source] DsseError),
    /// The payload is not JSON.
    #[error("the signed keyring's payload is not acceptable JSON")]
    Json(#[source] JsonError),
    /// A member of the payload is missing or malformed.
    #[error("the signed keyring's payload has a missing or malformed member")]
    Shape(#[source] serde_json::Error),
    /// The `schema` member names something else.
    #[error("the signed keyring's schema is {found:?}, not {SIGNED_KEYRING_SCHEMA:?}")]
    UnknownSchema {
        /// What the member holds.
        found: String,
    },
    /// The keys contradict each other or themselves.
    #[error("the signed keyring's keys are not a keyring")]
    Keyring(#[source] KeyringError),
}

impl SignedKeyringError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Envelope(DsseError::BelowThreshold { .. }) => "keyring_bad_signature",
            Self::TooLong { .. }
            | Self::Envelope(_)
            | Self::Json(_)
            | Self::Shape(_)
            | Self::UnknownSchema { .. }
            | Self::Keyring(_) => "keyring_malformed",
        }
    }
}

/// A keyring in its signed form: bytes to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedKeyring {
    bytes: Vec<u8>,
}

/// A keyring that enough root keys signed. The only way to have one is [`SignedKeyring::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedKeyring {
    version: u64,
    keyring: Keyring,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    schema: String,
    version: u64,
    keys: Vec<KeyEntry>,
}

impl SignedKeyring {
    /// Signs `keyring` as `version` with each of `root_keys`. Version by version, the number has to rise: a host
    /// takes none that is lower than what it has seen.
    pub fn sign<'a>(
        version: u64,
        keyring: &Keyring,
        root_keys: impl IntoIterator<Item = &'a SigningKey>,
    ) -> Self {
        let payload = Payload {
            schema: SIGNED_KEYRING_SCHEMA.to_owned(),
            version,
            keys: keyring.keys().to_vec(),
        };
        // Texts, times and one integer: the serializer has nothing to fail on, here and below.
        let payload = serde_json::to_vec(&payload).unwrap_or_default();
        let envelope = Envelope::seal(SIGNED_KEYRING_PAYLOAD_TYPE, &payload, root_keys);
        let mut bytes = serde_json::to_vec_pretty(&envelope).unwrap_or_default();
        bytes.push(b'\n');
        Self { bytes }
    }

    /// The file's content.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Verifies a signed keyring: `threshold` different keys of `root_keys` must have signed it. Both are those of
    /// the root role of the current root metadata. Whether the version is too old is for the caller to say.
    ///
    /// # Errors
    /// [`SignedKeyringError`].
    pub fn verify(
        bytes: &[u8],
        root_keys: &[PublicKey],
        threshold: NonZeroU64,
    ) -> Result<VerifiedKeyring, SignedKeyringError> {
        if bytes.len() > SIGNED_KEYRING_BYTES_MAX {
            return Err(SignedKeyringError::TooLong { found: bytes.len() });
        }
        let payload = Envelope::parse(bytes)
            .and_then(|envelope| {
                envelope.open_by_threshold(SIGNED_KEYRING_PAYLOAD_TYPE, root_keys, threshold)
            })
            .map_err(SignedKeyringError::Envelope)?;
        let document = parse_strict_json(&payload).map_err(SignedKeyringError::Json)?;
        let payload: Payload = serde_json::from_value(document).map_err(SignedKeyringError::Shape)?;
        if payload.schema != SIGNED_KEYRING_SCHEMA {
            return Err(SignedKeyringError::UnknownSchema {
                found: payload.schema,
            });
        }
        let mut keyring = Keyring::default();
        for entry in payload.keys {
            keyring.insert(entry).map_err(SignedKeyringError::Keyring)?;
        }
        Ok(VerifiedKeyring {
            version: payload.version,
            keyring,
        })
    }
}

impl VerifiedKeyring {
    /// Its version; a later keyring has a higher one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The keys that may sign releases.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The keys that may sign releases.
    pub fn into_keyring(self) -> Keyring {
        self.keyring
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Channel;
    use jiff::Timestamp;
    use zeroize::Zeroizing;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([byte; 32]))
    }

    fn keyring() -> Keyring {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let (from, to) = (time("2026-01-01T00:00:00Z"), time("2027-01-01T00:00:00Z"));
        let channels = vec!["staging".parse::<Channel>().unwrap()];
        let mut keyring = Keyring::default();
        keyring
            .insert(KeyEntry::new(key(9).public_key(), channels, from, to))
            .unwrap();
        keyring
    }

    fn two() -> NonZeroU64 {
        NonZeroU64::new(2).unwrap()
    }

    #[test]
    fn a_threshold_of_root_keys_makes_a_keyring_trusted() {
        let keys = [key(1), key(2), key(3)];
        let public: Vec<_> = keys.iter().map(SigningKey::public_key).collect();
        let signed = SignedKeyring::sign(7, &keyring(), &keys[1..]);
        let verified = SignedKeyring::verify(signed.as_bytes(), &public, two()).unwrap();
        assert_eq!((verified.version(), verified.keyring()), (7, &keyring()));
    }

    #[test]
    fn one_root_key_and_a_foreign_one_are_not_enough() {
        let keys = [key(1), key(2), key(3)];
        let public: Vec<_> = keys.iter().map(SigningKey::public_key).collect();
        let signed = SignedKeyring::sign(7, &keyring(), [&keys[0], &key(8)]);
        let error = SignedKeyring::verify(signed.as_bytes(), &public, two()).unwrap_err();
        assert_eq!(error.code(), "keyring_bad_signature");
    }

    #[test]
    fn a_keyring_signed_for_another_purpose_is_refused() {
        let keys = [key(1), key(2)];
        let public: Vec<_> = keys.iter().map(SigningKey::public_key).collect();
        let envelope = Envelope::seal("application/vnd.in-toto+json", b"{}", &keys);
        let bytes = serde_json::to_vec(&envelope).unwrap();
        let error = SignedKeyring::verify(&bytes, &public, two()).unwrap_err();
        assert!(matches!(
            error,
            SignedKeyringError::Envelope(DsseError::WrongType { .. })
        ));
    }

    #[test]
    fn unknown_schemas_and_members_are_refused() {
        let keys = [key(1), key(2)];
        let public: Vec<_> = keys.iter().map(SigningKey::public_key).collect();
        let code = |payload: &str| {
            let envelope = Envelope::seal(SIGNED_KEYRING_PAYLOAD_TYPE, payload.as_bytes(), &keys);
            let bytes = serde_json::to_vec(&envelope).unwrap();
            SignedKeyring::verify(&bytes, &public, two()).map(|verified| verified.version())
        };
        assert_eq!(
            code(r#"{"schema":"plfm.signed-keyring/v1","version":1,"keys":[]}"#).unwrap(),
            1
        );
        for bad in [
            r#"{"schema":"plfm.keyring/v1","version":1,"keys":[]}"#,
            r#"{"schema":"plfm.signed-keyring/v1","keys":[]}"#,
            r#"{"schema":"plfm.signed-keyring/v1","version":1,"keys":[],"more":1}"#,
            r#"{"schema":"plfm.signed-keyring/v1","version":1,"version":2,"keys":[]}"#,
        ] {
            assert_eq!(code(bad).unwrap_err().code(), "keyring_malformed", "{bad}");
        }
    }

    #[test]
    fn a_long_document_is_refused_unread() {
        let bytes = vec![b' '; SIGNED_KEYRING_BYTES_MAX + 1];
        assert!(matches!(
            SignedKeyring::verify(&bytes, &[], two()),
            Err(SignedKeyringError::TooLong { .. })
        ));
    }
}
