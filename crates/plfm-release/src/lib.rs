//! What a release is, and what makes it trusted.
//!
//! A *release* is one kernel, one initramfs and one signed manifest that pairs them. This crate holds the
//! vocabulary that everything else speaks and the chain that turns bytes into trust:
//!
//! ```text
//! bytes --SignedManifest::parse--> SignedManifest --Keyring::verify--> VerifiedManifest
//!                                  (shape only)                         (trusted, and proof of it)
//! ```
//!
//! Invariants:
//! - No I/O, no clock, no async: the time is a parameter.
//! - [`VerifiedManifest`] can be had only from [`Keyring`]: it has no public constructor and no `Deserialize`.
//! - The bytes that are signed are defined in one function, [`signed_bytes`].

mod compatibility;
mod digest;
pub mod dsse;
mod json;
mod keyring;
mod keys;
mod manifest;
mod name;
mod signature;
mod signed_keyring;

pub use compatibility::{Compatibility, Incompatible, Protocol};
pub use digest::{DigestParseError, Sha256Digest, Sha256Hasher};
pub use json::{JSON_DEPTH_MAX, JsonError, parse_strict_json};
pub use keyring::{KEYRING_SCHEMA, KeyEntry, Keyring, KeyringError, Revocation, VerifyError, VerifyPolicy};
pub use keys::{KeyError, KeyId, PublicKey, SigningKey};
pub use manifest::{
    Architecture, Artifact, ArtifactKind, Channel, InitramfsEntry, KernelEntry, KernelFormat,
    MANIFEST_BYTES_MAX, MANIFEST_SCHEMA, Manifest, ManifestError, SignedManifest, Source, Variant,
    VerifiedManifest,
};
pub use name::{
    ArtifactName, BuildId, GuestInitVersion, InitramfsLabel, KernelLabel, KernelVersion, NameError, ReleaseId,
};
pub use signature::{SignError, sign, signed_bytes};
pub use signed_keyring::{
    SIGNED_KEYRING_BYTES_MAX, SIGNED_KEYRING_PAYLOAD_TYPE, SIGNED_KEYRING_SCHEMA, SignedKeyring,
    SignedKeyringError, VerifiedKeyring,
};
