//! What is signed, and signing it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::SigningKey;

pub(crate) const SIGNATURE_MEMBER: &str = "signature";
pub(crate) const KEY_ID_MEMBER: &str = "key_id";

/// Why a document could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Only a JSON object can carry a signature.
    #[error("the document is not a JSON object")]
    NotAnObject,
    /// The canonical form could not be made.
    #[error("the document has no canonical form")]
    NotCanonical(#[source] serde_json::Error),
}

/// The bytes that a manifest's signature covers: the RFC 8785 (JCS) form of the document without its
/// `signature` member. Everything else is covered, members that this version does not know included.
///
/// For documents that [`crate::parse_strict_json`] takes, `jq -cSj 'del(.signature)'` prints the same bytes.
///
/// # Errors
/// When `document` is not an object or holds what JCS cannot print.
pub fn signed_bytes(document: &Value) -> Result<Vec<u8>, SignError> {
    let mut members = document.as_object().ok_or(SignError::NotAnObject)?.clone();
    members.remove(SIGNATURE_MEMBER);
    serde_jcs::to_vec(&Value::Object(members)).map_err(SignError::NotCanonical)
}

/// Signs `document`: sets its `key_id` and `signature` members (Ed25519, base64 of RFC 4648 section 4).
///
/// # Errors
/// When `document` is not an object or has no canonical form.
pub fn sign(mut document: Value, key: &SigningKey) -> Result<Value, SignError> {
    let members = document.as_object_mut().ok_or(SignError::NotAnObject)?;
    members.insert(
        KEY_ID_MEMBER.to_owned(),
        Value::String(key.public_key().id().to_string()),
    );
    let signature = BASE64.encode(key.sign(&signed_bytes(&document)?));
    let members = document.as_object_mut().ok_or(SignError::NotAnObject)?;
    members.insert(SIGNATURE_MEMBER.to_owned(), Value::String(signature));
    Ok(document)
}

/// The 64 bytes of a base64 signature, or `None`.
pub(crate) fn decode_signature(text: &str) -> Option<[u8; 64]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn signed_bytes_are_sorted_compact_and_without_the_signature() {
        let document = json!({"signature": "x", "b": [1, "é\n"], "a": {"signature": "kept", "A": null}});
        let bytes = signed_bytes(&document).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            r#"{"a":{"A":null,"signature":"kept"},"b":[1,"é\n"]}"#
        );
    }

    #[test]
    fn only_objects_are_signed() {
        assert!(matches!(signed_bytes(&json!([1])), Err(SignError::NotAnObject)));
    }
}
