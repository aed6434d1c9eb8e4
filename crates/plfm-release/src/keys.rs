//! Ed25519 keys (RFC 8032) and their ids.
//!
//! Key files are PKCS#8 and SPKI in PEM (RFC 8410), so that `openssl` reads and checks them too.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{Signature, Signer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Sha256Digest;

/// A key's id: the SHA-256 of its SubjectPublicKeyInfo in DER
/// (`openssl pkey -pubin -in KEY.pub.pem -outform DER | sha256sum`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(Sha256Digest);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key:{self}")
    }
}

impl FromStr for KeyId {
    type Err = crate::DigestParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A text that is not the key it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a private key.
    #[error("not an Ed25519 private key in PKCS#8 PEM (RFC 8410)")]
    NotAPrivateKey,
    /// Not a public key.
    #[error("not an Ed25519 public key in SPKI PEM (RFC 8410)")]
    NotAPublicKey,
    /// 32 bytes that are no point of the curve.
    #[error("not an Ed25519 public key (RFC 8032)")]
    NotAPoint,
    /// A point of small order, which would verify forged signatures.
    #[error("the public key is weak (a point of small order)")]
    Weak,
}

/// A public key that manifests are verified with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// Reads a public key.
    ///
    /// # Errors
    /// When `pem` is not an Ed25519 SPKI, or the key is weak.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key =
            ed25519_dalek::VerifyingKey::from_public_key_pem(pem).map_err(|_| KeyError::NotAPublicKey)?;
        if key.is_weak() {
            Err(KeyError::Weak)
        } else {
            Ok(Self(key))
        }
    }

    /// The key of RFC 8032's encoding, as TUF metadata has it.
    ///
    /// # Errors
    /// When `bytes` is no point of the curve, or the key is weak.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        if key.is_weak() {
            Err(KeyError::Weak)
        } else {
            Ok(Self(key))
        }
    }

    /// The key in RFC 8032's encoding.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The key as SPKI PEM.
    pub fn to_pem(&self) -> String {
        // An Ed25519 SPKI is 44 fixed-shape bytes; its encoding has no failing input.
        self.0.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// The key's id.
    pub fn id(&self) -> KeyId {
        let der = self
            .0
            .to_public_key_der()
            .map(|document| document.into_vec())
            .unwrap_or_default();
        KeyId(Sha256Digest::of(&der))
    }

    /// Whether `signature` (64 bytes) over `message` was made with this key, by the strict rules: no malleable
    /// encoding and no small-order point is taken.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = Signature::from_slice(signature) else {
            return false;
        };
        self.0.verify_strict(message, &signature).is_ok()
    }

    /// Whether `signature` was made by [`SigningKey::sign_dsse`] of this key for this type and payload.
    pub fn verifies_dsse(&self, payload_type: &str, payload: &[u8], signature: &[u8]) -> bool {
        self.verifies(&dsse_signed_bytes(payload_type, payload), signature)
    }
}

/// The bytes that a DSSE signature covers: its "pre-authentication encoding". They begin with `DSSEv1`, those of a
/// manifest (a JSON object) with `{`, so no signature of the one kind fits the other.
fn dsse_signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(pem: String) -> Result<Self, KeyError> {
        Self::from_pem(&pem)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_pem()
    }
}

/// A private key that releases are signed with. Wiped from memory when dropped; never printed.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key whose seed is `seed`: 32 bytes from the operating system's random generator.
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// Reads a private key.
    ///
    /// # Errors
    /// When `pem` is not an Ed25519 PKCS#8 private key.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        ed25519_dalek::SigningKey::from_pkcs8_pem(pem)
            .map(Self)
            .map_err(|_| KeyError::NotAPrivateKey)
    }

    /// The key as PKCS#8 version 1 PEM: version 2, with the public key in it, is not read by OpenSSL 3.0.
    ///
    /// # Errors
    /// When the encoder fails, which no key makes it do.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let bytes = KeypairBytes {
            secret_key: self.0.to_bytes(),
            public_key: None,
        };
        bytes
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| KeyError::NotAPrivateKey)
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a payload for a DSSE envelope (Dead Simple Signing Envelope, version 1).
    pub fn sign_dsse(&self, payload_type: &str, payload: &[u8]) -> [u8; 64] {
        self.sign(&dsse_signed_bytes(payload_type, payload))
    }

    /// Signs a role of a TUF repository: `canonical_form` is the canonical JSON of its `signed` member (TUF
    /// specification, section 4.2.1). It begins with `{"_type":`, which no manifest has, and which no reader of TUF
    /// metadata does without: the two kinds of signature do not fit each other.
    pub fn sign_tuf_role(&self, canonical_form: &[u8]) -> [u8; 64] {
        self.sign(canonical_form)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.public_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([byte; 32]))
    }

    #[test]
    fn keys_round_trip_through_pem() {
        let key = key(7);
        let again = SigningKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(
            PublicKey::from_pem(&key.public_key().to_pem()).unwrap().id(),
            key.public_key().id()
        );
    }

    #[test]
    fn a_private_key_is_not_taken_for_a_public_one() {
        let key = key(7);
        assert_eq!(
            PublicKey::from_pem(&key.to_pem().unwrap()),
            Err(KeyError::NotAPublicKey)
        );
        assert_eq!(
            SigningKey::from_pem(&key.public_key().to_pem()).unwrap_err(),
            KeyError::NotAPrivateKey
        );
    }

    #[test]
    fn a_weak_public_key_is_refused() {
        // The neutral element, a point of order 1: its encoding is 1 followed by zeros.
        let mut der = vec![
            0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00, 0x01,
        ];
        der.resize(44, 0);
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
        assert_eq!(PublicKey::from_pem(&pem), Err(KeyError::Weak));
    }

    #[test]
    fn dsse_signs_the_bytes_of_its_specification() {
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(
            dsse_signed_bytes("http://example.com/HelloWorld", b"hello world"),
            expected
        );
    }

    #[test]
    fn a_dsse_signature_fits_its_type_and_payload_only() {
        let key = key(3);
        let signature = key.sign_dsse("type", b"payload");
        let public = key.public_key();
        assert!(public.verifies_dsse("type", b"payload", &signature));
        assert!(!public.verifies_dsse("typ", b"payload", &signature));
        assert!(!public.verifies_dsse("type", b"payloae", &signature));
        assert!(
            !public.verifies(b"payload", &signature),
            "it passes for a manifest's signature"
        );
        assert!(!public.verifies_dsse("type", b"payload", &key.sign(b"payload")));
    }

    #[test]
    fn debug_output_holds_no_private_key() {
        let key = key(9);
        let printed = format!("{key:?}");
        assert!(!printed.contains("0909") && printed.contains(&key.public_key().id().to_string()));
    }
}
