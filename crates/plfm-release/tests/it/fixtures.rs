//! Keys from fixed seeds, the keyring that knows them, and a manifest.

use std::sync::LazyLock;

use jiff::Timestamp;
use plfm_release::{
    Architecture, Channel, KeyEntry, Keyring, Revocation, SignedManifest, SigningKey, VerifiedManifest,
    VerifyPolicy, sign,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Signs for production and staging.
pub const KEY: u8 = 1;
/// Signs for staging only.
pub const STAGING_KEY: u8 = 2;
/// Was revoked.
pub const REVOKED_KEY: u8 = 3;
/// Ended before [`now`].
pub const EXPIRED_KEY: u8 = 4;
/// Begins after [`now`].
pub const FUTURE_KEY: u8 = 5;
/// In no keyring.
pub const UNKNOWN_KEY: u8 = 6;

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn now() -> Timestamp {
    time("2026-01-15T12:00:00Z")
}

pub fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

pub fn entry(seed: u8, channels: &[&str], not_before: &str, not_after: &str) -> KeyEntry {
    let channels = channels.iter().map(|name| channel(name)).collect();
    KeyEntry::new(
        key(seed).public_key(),
        channels,
        time(not_before),
        time(not_after),
    )
}

pub fn keyring() -> &'static Keyring {
    static KEYRING: LazyLock<Keyring> = LazyLock::new(build_keyring);
    &KEYRING
}

fn build_keyring() -> Keyring {
    let (begin, end) = ("2025-12-01T00:00:00Z", "2027-12-01T00:00:00Z");
    let mut keyring = Keyring::default();
    keyring
        .insert(entry(KEY, &["production", "staging"], begin, end))
        .unwrap();
    keyring
        .insert(entry(STAGING_KEY, &["staging"], begin, end))
        .unwrap();
    keyring
        .insert(entry(REVOKED_KEY, &["production"], begin, end))
        .unwrap();
    keyring
        .insert(entry(EXPIRED_KEY, &["production"], begin, "2026-01-01T00:00:00Z"))
        .unwrap();
    keyring
        .insert(entry(FUTURE_KEY, &["production"], "2026-02-01T00:00:00Z", end))
        .unwrap();
    let revocation = Revocation {
        at: time("2026-01-02T03:04:05Z"),
        reason: "laptop stolen".to_owned(),
    };
    keyring
        .revoke(key(REVOKED_KEY).public_key().id(), revocation)
        .unwrap();
    keyring
}

/// What a customers' host takes.
pub fn policy() -> VerifyPolicy {
    VerifyPolicy {
        channel: Channel::production(),
        arch: Architecture::X86_64,
        at: now(),
    }
}

/// The spec's example, with what the signature needs around it; not signed.
pub fn document() -> Value {
    json!({
        "schema": "plfm.release-manifest/v1",
        "channel": "production",
        "arch": "x86_64",
        "variant": "standard",
        "kernel": {
            "version": "6.1.50",
            "build_id": "20251217a",
            "sha256": "11".repeat(32),
            "config_sha256": "22".repeat(32),
            "size_bytes": 18_000_000,
            "format": "elf-pvh",
        },
        "initramfs": {
            "guest_init_version": "1.0.0",
            "guest_init_protocol": 1,
            "build_id": "20251217a",
            "sha256": "33".repeat(32),
            "size_bytes": 1_200_000,
        },
        "compatibility": { "min_agent_version": "1.0.0", "supported_protocols": [1] },
        "source": { "git_sha": "4".repeat(40), "dirty": false, "timestamp": "2025-12-17T00:00:00Z" },
    })
}

/// The document with the member at a JSON pointer set to `value`, added where it was absent.
pub fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let members = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    members.insert(name.to_owned(), value);
    document
}

/// The document without the member at a JSON pointer.
pub fn without(mut document: Value, pointer: &str) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    document
        .pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove(name)
        .unwrap();
    document
}

pub fn signed_by(seed: u8, document: Value) -> Value {
    sign(document, &key(seed)).unwrap()
}

pub fn signed(document: Value) -> Value {
    signed_by(KEY, document)
}

/// From bytes to trust, or the stable code of the refusal.
pub fn verify(bytes: &[u8], policy: &VerifyPolicy) -> Result<VerifiedManifest, &'static str> {
    let manifest = SignedManifest::parse(bytes).map_err(|error| error.code())?;
    keyring().verify(manifest, policy).map_err(|error| error.code())
}

/// The stable code with which a customers' host refuses `bytes`.
#[track_caller]
pub fn refusal_of_bytes(bytes: &[u8]) -> &'static str {
    match verify(bytes, &policy()) {
        Ok(_) => panic!("taken: {}", String::from_utf8_lossy(bytes)),
        Err(code) => code,
    }
}

/// The stable code with which a customers' host refuses a document.
#[track_caller]
pub fn refusal(document: &Value) -> &'static str {
    refusal_of_bytes(document.to_string().as_bytes())
}
