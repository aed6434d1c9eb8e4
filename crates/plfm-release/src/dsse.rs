//! DSSE envelopes (Dead Simple Signing Envelope, version 1): a payload, its type, and who signed both.
//!
//! What is signed is not the JSON but the payload's bytes, so the envelope may be formatted at will.

use std::num::NonZeroU64;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::{JsonError, KeyId, PublicKey, SigningKey, parse_strict_json};

/// Most signatures taken in one envelope: with each is tried each key, so the number bounds the work.
pub const ENVELOPE_SIGNATURES_MAX: usize = 32;

/// Why an envelope is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum DsseError {
    /// Not JSON, or ambiguous JSON.
    #[error("the envelope is not acceptable JSON")]
    Json(#[source] JsonError),
    /// A member is missing or malformed.
    #[error("the envelope has a missing or malformed member")]
    Shape(#[source] serde_json::Error),
    /// The payload is of another type.
    #[error("the envelope holds {found:?}, not {expected:?}")]
    WrongType {
        /// The type it holds.
        found: String,
        /// The type that was expected.
        expected: &'static str,
    },
    /// The payload is not base64.
    #[error("the envelope's payload is not base64")]
    NotBase64,
    /// More signatures than anybody needs.
    #[error("the envelope has {found} signatures; at most {ENVELOPE_SIGNATURES_MAX} are read")]
    TooManySignatures {
        /// How many it has.
        found: usize,
    },
    /// None of the signatures is one of the key.
    #[error("the envelope has no good signature of key {0}")]
    BadSignature(KeyId),
    /// Fewer keys signed than have to.
    #[error("the envelope has good signatures of {found} of the trusted keys; it needs {threshold}")]
    BelowThreshold {
        /// How many different keys signed.
        found: usize,
        /// How many have to.
        threshold: NonZeroU64,
    },
}

/// A payload with its type and signatures. Nothing in it is trusted until it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
}

impl Envelope {
    /// Puts `payload` into an envelope and signs it with each key.
    pub fn seal<'a>(
        payload_type: &str,
        payload: &[u8],
        keys: impl IntoIterator<Item = &'a SigningKey>,
    ) -> Self {
        let signature = |key: &SigningKey| Signature {
            keyid: key.public_key().id().to_string(),
            sig: BASE64.encode(key.sign_dsse(payload_type, payload)),
        };
        Self {
            payload: BASE64.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: keys.into_iter().map(signature).collect(),
        }
    }

    /// Reads an envelope. Its shape is checked, nothing else.
    ///
    /// # Errors
    /// [`DsseError`] when it is not JSON, misshapen, or has more signatures than [`ENVELOPE_SIGNATURES_MAX`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DsseError> {
        let document = parse_strict_json(bytes).map_err(DsseError::Json)?;
        let envelope: Self = serde_json::from_value(document).map_err(DsseError::Shape)?;
        let found = envelope.signatures.len();
        if found > ENVELOPE_SIGNATURES_MAX {
            return Err(DsseError::TooManySignatures { found });
        }
        Ok(envelope)
    }

    /// The payload, if `key` signed it.
    ///
    /// # Errors
    /// [`DsseError`] when it is of another type or not signed with `key`.
    pub fn open(&self, payload_type: &'static str, key: &PublicKey) -> Result<Vec<u8>, DsseError> {
        let payload = self.untrusted_payload(payload_type)?;
        if self.is_signed_by(&payload, key) {
            Ok(payload)
        } else {
            Err(DsseError::BadSignature(key.id()))
        }
    }

    /// The payload, if `threshold` different keys of `keys` signed it. A key that is listed twice counts once, and
    /// so does one that signed twice.
    ///
    /// # Errors
    /// [`DsseError`] when it is of another type or signed by too few.
    pub fn open_by_threshold(
        &self,
        payload_type: &'static str,
        keys: &[PublicKey],
        threshold: NonZeroU64,
    ) -> Result<Vec<u8>, DsseError> {
        let payload = self.untrusted_payload(payload_type)?;
        let mut signers: Vec<&PublicKey> = Vec::new();
        for key in keys {
            if !signers.contains(&key) && self.is_signed_by(&payload, key) {
                signers.push(key);
            }
        }
        let found = signers.len();
        if u64::try_from(found).is_ok_and(|found| found >= threshold.get()) {
            Ok(payload)
        } else {
            Err(DsseError::BelowThreshold { found, threshold })
        }
    }

    fn untrusted_payload(&self, payload_type: &'static str) -> Result<Vec<u8>, DsseError> {
        if self.payload_type != payload_type {
            return Err(DsseError::WrongType {
                found: self.payload_type.clone(),
                expected: payload_type,
            });
        }
        BASE64.decode(&self.payload).map_err(|_| DsseError::NotBase64)
    }

    /// The key id beside a signature is a hint, by the specification; the signature is what counts.
    fn is_signed_by(&self, payload: &[u8], key: &PublicKey) -> bool {
        self.signatures.iter().any(|signature| {
            BASE64
                .decode(&signature.sig)
                .is_ok_and(|sig| key.verifies_dsse(&self.payload_type, payload, &sig))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([byte; 32]))
    }

    fn threshold(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number).unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_with_the_same_key_and_type_only() {
        let (key, other) = (key(1), key(2));
        let envelope = Envelope::seal("a/b", b"payload", [&key]);
        assert_eq!(envelope.open("a/b", &key.public_key()).unwrap(), b"payload");
        assert!(matches!(
            envelope.open("a/c", &key.public_key()),
            Err(DsseError::WrongType { .. })
        ));
        let error = envelope.open("a/b", &other.public_key()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the envelope has no good signature of key {}",
                other.public_key().id()
            )
        );
    }

    #[test]
    fn a_changed_payload_is_refused() {
        let key = key(1);
        let mut envelope = Envelope::seal("a/b", b"payload", [&key]);
        envelope.payload = BASE64.encode("Payload");
        assert!(matches!(
            envelope.open("a/b", &key.public_key()),
            Err(DsseError::BadSignature(_))
        ));
    }

    #[test]
    fn an_envelope_without_signatures_is_refused() {
        let envelope =
            Envelope::parse(br#"{"payload": "", "payloadType": "a/b", "signatures": []}"#).unwrap();
        assert!(matches!(
            envelope.open("a/b", &key(1).public_key()),
            Err(DsseError::BadSignature(_))
        ));
    }

    #[test]
    fn a_key_counts_once_towards_a_threshold() {
        let (a, b) = (key(1), key(2));
        let (public_a, public_b) = (a.public_key(), b.public_key());
        let twice = Envelope::seal("a/b", b"payload", [&a, &a]);
        let listed_twice = [public_a.clone(), public_a.clone(), public_b.clone()];
        assert!(matches!(
            twice.open_by_threshold("a/b", &listed_twice, threshold(2)),
            Err(DsseError::BelowThreshold { found: 1, .. })
        ));
        let both = Envelope::seal("a/b", b"payload", [&a, &b]);
        let keys = [public_a, public_b];
        assert_eq!(
            both.open_by_threshold("a/b", &keys, threshold(2)).unwrap(),
            b"payload"
        );
        assert!(both.open_by_threshold("a/b", &keys, threshold(3)).is_err());
    }

    #[test]
    fn an_envelope_with_many_signatures_is_refused() {
        let key = key(1);
        let envelope = Envelope::seal(
            "a/b",
            b"x",
            std::iter::repeat_n(&key, ENVELOPE_SIGNATURES_MAX + 1),
        );
        let bytes = serde_json::to_vec(&envelope).unwrap();
        assert!(matches!(
            Envelope::parse(&bytes),
            Err(DsseError::TooManySignatures { .. })
        ));
    }
}
