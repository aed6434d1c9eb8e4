//! A release that takes no time to make: its kernel and its guest init are headers and nothing else.

use std::path::Path;

use plfm_build::{
    BuildInputs, BuiltKernel, Checkout, Epoch, GuestInit, GzipLevel, KernelOrigin, KernelRecord, Overwrite,
    Release, assemble,
};
use plfm_release::{
    Architecture, Compatibility, KeyEntry, Keyring, Protocol, Sha256Digest, SigningKey, VerifyPolicy,
};

/// The key whose PKCS#8 holds a seed of one repeated character.
pub fn key(letter: char) -> SigningKey {
    // A base64 seed of 32 bytes behind RFC 8410's fixed header of 16 bytes.
    let header = "MC4CAQAwBQYDK2VwBCIEI";
    let body = format!("{header}{}", letter.to_string().repeat(43));
    SigningKey::from_pem(&format!(
        "-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"
    ))
    .unwrap()
}

/// A static program for x86_64 without any segment.
pub fn program(length: usize) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0, 1]);
    bytes.resize(52, 0);
    bytes.extend_from_slice(&[64, 0, 56, 0]);
    bytes.resize(length.max(64), 0);
    bytes
}

pub fn inputs(channel: &str) -> BuildInputs {
    let record = KernelRecord {
        recipe: 1,
        source_sha256: Sha256Digest::of(b"source"),
        options_sha256: Sha256Digest::of(b"options"),
        tools: [("gcc".to_owned(), "gcc 12".to_owned())].into(),
    };
    BuildInputs {
        channel: channel.parse().unwrap(),
        variant: plfm_release::Variant::Standard,
        kernel: BuiltKernel {
            version: "6.1.192".parse().unwrap(),
            image: b"kernel image".repeat(1000),
            config: b"CONFIG_PVH=y\n".to_vec(),
            record,
            fragment_sha256: Sha256Digest::of(b"fragment"),
            origin: KernelOrigin::Cached,
        },
        kernel_source_name: "linux.tar.xz".to_owned(),
        kernel_build_id: "20251217a".parse().unwrap(),
        guest_init: GuestInit {
            version: "1.0.0".parse().unwrap(),
            program: program(1000),
            record: None,
        },
        guest_init_protocol: Protocol(1),
        busybox: None,
        ca_bundle: None,
        initramfs_build_id: "20251217a".parse().unwrap(),
        gzip_level: GzipLevel::STORED,
        compatibility: Compatibility {
            min_agent_version: "1.0.0".parse().unwrap(),
            supported_protocols: [Protocol(1)].into(),
        },
        epoch: Epoch::from_seconds(1_766_000_000),
        checkout: Some(Checkout {
            git_sha: "a".repeat(40),
            dirty: false,
            committed: None,
        }),
    }
}

pub fn release(channel: &str) -> Release {
    assemble(&inputs(channel), &key('A')).unwrap()
}

pub fn written(dir: &Path) -> Release {
    let release = release("production");
    release.write(dir, Overwrite::Refuse).unwrap();
    release
}

/// Trusts key A for production and staging, in 2025.
pub fn keyring() -> Keyring {
    let mut keyring = Keyring::default();
    let channels = vec!["production".parse().unwrap(), "staging".parse().unwrap()];
    let (from, to) = (
        "2025-01-01T00:00:00Z".parse().unwrap(),
        "2026-01-01T00:00:00Z".parse().unwrap(),
    );
    keyring
        .insert(KeyEntry::new(key('A').public_key(), channels, from, to))
        .unwrap();
    keyring
}

pub fn policy() -> VerifyPolicy {
    VerifyPolicy {
        channel: plfm_release::Channel::production(),
        arch: Architecture::X86_64,
        at: "2025-12-20T00:00:00Z".parse().unwrap(),
    }
}
