//! DSSE envelopes (Dead Simple Signing Envelope, version 1): a payload, its type, and who signed both.
//!
//! What is signed is not the JSON but the payload's bytes, so the envelope may be formatted at will.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use plfm_release::{JsonError, KeyId, PublicKey, SigningKey, parse_strict_json};
use serde::{Deserialize, Serialize};

use crate::json::render_json;

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
    /// None of the signatures is one of the key.
    #[error("the envelope has no good signature of key {0}")]
    BadSignature(KeyId),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
}

/// Signs `payload` and puts it into an envelope.
pub fn seal(payload_type: &str, payload: &[u8], key: &SigningKey) -> Vec<u8> {
    let signature = Signature {
        keyid: key.public_key().id().to_string(),
        sig: BASE64.encode(key.sign_dsse(payload_type, payload)),
    };
    let envelope = Envelope {
        payload: BASE64.encode(payload),
        payload_type: payload_type.to_owned(),
        signatures: vec![signature],
    };
    // Only texts: the serializer has nothing to fail on.
    render_json(&serde_json::to_value(envelope).unwrap_or_default())
}

/// The payload of an envelope, if `key` signed it.
///
/// # Errors
/// [`DsseError`] when the envelope is misshapen, of another type, or not signed with `key`.
pub fn open(bytes: &[u8], payload_type: &'static str, key: &PublicKey) -> Result<Vec<u8>, DsseError> {
    let document = parse_strict_json(bytes).map_err(DsseError::Json)?;
    let envelope: Envelope = serde_json::from_value(document).map_err(DsseError::Shape)?;
    if envelope.payload_type != payload_type {
        return Err(DsseError::WrongType {
            found: envelope.payload_type,
            expected: payload_type,
        });
    }
    let payload = BASE64
        .decode(&envelope.payload)
        .map_err(|_| DsseError::NotBase64)?;
    let good = envelope.signatures.iter().any(|signature| {
        // The key id is a hint, by the specification; the signature is what counts.
        BASE64
            .decode(&signature.sig)
            .is_ok_and(|sig| key.verifies_dsse(payload_type, &payload, &sig))
    });
    if good {
        Ok(payload)
    } else {
        Err(DsseError::BadSignature(key.id()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A key for tests: RFC 8410's format around a seed of one repeated byte.
    pub(crate) fn key(byte: u8) -> SigningKey {
        let mut der = vec![
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
        ];
        der.extend([byte; 32]);
        let body = BASE64.encode(der);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        SigningKey::from_pem(&pem).unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_with_the_same_key_and_type_only() {
        let (key, other) = (key(1), key(2));
        let envelope = seal("a/b", b"payload", &key);
        assert_eq!(open(&envelope, "a/b", &key.public_key()).unwrap(), b"payload");
        assert!(matches!(
            open(&envelope, "a/c", &key.public_key()),
            Err(DsseError::WrongType { .. })
        ));
        let error = open(&envelope, "a/b", &other.public_key()).unwrap_err();
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
        let text = String::from_utf8(seal("a/b", b"payload", &key)).unwrap();
        let changed = text.replace(&BASE64.encode("payload"), &BASE64.encode("Payload"));
        assert!(matches!(
            open(changed.as_bytes(), "a/b", &key.public_key()),
            Err(DsseError::BadSignature(_))
        ));
    }

    #[test]
    fn an_envelope_without_signatures_is_refused() {
        let envelope = br#"{"payload": "", "payloadType": "a/b", "signatures": []}"#;
        assert!(matches!(
            open(envelope, "a/b", &key(1).public_key()),
            Err(DsseError::BadSignature(_))
        ));
    }
}
