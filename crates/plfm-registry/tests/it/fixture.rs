//! A repository in memory, its keys, and releases to publish.

use std::num::NonZeroU64;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use plfm_registry::publish::ReleaseFiles;
use plfm_registry::{Lifetimes, OnlineKeys, RegistryError, Repository, Signing, Store};
use plfm_release::{Channel, KeyEntry, Keyring, ReleaseId, Sha256Digest, SigningKey, sign};
use serde_json::json;
use zeroize::Zeroizing;

pub fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([byte; 32]))
}

pub fn keys<const N: usize>(bytes: [u8; N]) -> Vec<SigningKey> {
    bytes.map(key).into()
}

/// The key that releases are signed with.
pub const RELEASE_KEY: u8 = 50;

pub fn two() -> NonZeroU64 {
    NonZeroU64::new(2).unwrap()
}

pub fn root_keys() -> Vec<SigningKey> {
    keys([1, 2, 3])
}

pub fn online() -> OnlineKeys {
    OnlineKeys {
        targets: keys([11]),
        snapshot: keys([12]),
        timestamp: keys([13]),
    }
}

pub fn entry(byte: u8, now: Timestamp) -> KeyEntry {
    let day = SignedDuration::from_hours(24);
    let channels = vec!["staging".parse::<Channel>().unwrap()];
    KeyEntry::new(key(byte).public_key(), channels, now - day, now + day * 300)
}

/// What everything is signed with in a test.
pub struct Signer {
    pub keys: OnlineKeys,
    pub lifetimes: Lifetimes,
    pub now: Timestamp,
}

impl Signer {
    pub fn new() -> Self {
        Self {
            keys: online(),
            lifetimes: Lifetimes::default(),
            // `tough` looks at the clock, so the tests live now.
            now: Timestamp::from_second(Timestamp::now().as_second()).unwrap(),
        }
    }

    pub fn signing(&self) -> Signing<'_> {
        Signing {
            keys: &self.keys,
            lifetimes: &self.lifetimes,
            now: self.now,
        }
    }

    pub fn keyring(&self) -> Keyring {
        let mut keyring = Keyring::default();
        keyring.insert(entry(RELEASE_KEY, self.now)).unwrap();
        keyring
    }

    pub fn root(&self) -> Vec<u8> {
        plfm_registry::init::first_root(&root_keys(), two(), &self.keys, &self.lifetimes, self.now).unwrap()
    }

    pub async fn init(&self, store: Store) -> Result<Repository, RegistryError> {
        let root = self.root();
        plfm_registry::init::init(store, &root, &root_keys(), &self.keyring(), &self.signing()).await
    }

    pub async fn open(&self, objects: Arc<dyn ObjectStore>) -> Result<Repository, RegistryError> {
        Repository::open(Store::on(objects), &self.root()).await
    }
}

/// A repository without releases.
pub async fn empty(signer: &Signer) -> Arc<InMemory> {
    let objects = Arc::new(InMemory::new());
    signer.init(Store::on(objects.clone())).await.unwrap();
    objects
}

/// A repository with release `a`.
pub async fn with_one(signer: &Signer) -> Arc<InMemory> {
    let objects = empty(signer).await;
    let mut repository = signer.open(objects.clone()).await.unwrap();
    repository
        .publish(&release("a", "a"), &signer.signing())
        .await
        .unwrap();
    objects
}

pub fn release_id(kernel: &str, initramfs: &str) -> ReleaseId {
    format!("6.1.50-{kernel}+guestinit-1.0.0-{initramfs}")
        .parse()
        .unwrap()
}

/// A release of the kernel and the initramfs of these builds, signed.
pub fn release(kernel: &str, initramfs: &str) -> ReleaseFiles {
    release_of(
        kernel,
        format!("kernel {kernel}").into_bytes(),
        initramfs,
        RELEASE_KEY,
    )
}

pub fn release_of(kernel_id: &str, kernel: Vec<u8>, initramfs_id: &str, release_key: u8) -> ReleaseFiles {
    let initramfs = format!("initramfs {initramfs_id}").into_bytes();
    let manifest = json!({
        "schema": "plfm.release-manifest/v1", "channel": "staging", "arch": "x86_64", "variant": "standard",
        "kernel": {"version": "6.1.50", "build_id": kernel_id, "sha256": Sha256Digest::of(&kernel),
            "config_sha256": Sha256Digest::of(b""), "size_bytes": kernel.len(), "format": "elf-pvh"},
        "initramfs": {"guest_init_version": "1.0.0", "guest_init_protocol": 1, "build_id": initramfs_id,
            "sha256": Sha256Digest::of(&initramfs), "size_bytes": initramfs.len()},
        "compatibility": {"min_agent_version": "1.0.0", "supported_protocols": [1]},
        "source": {"git_sha": null, "dirty": false, "timestamp": "2025-12-17T00:00:00Z"},
    });
    let signed = sign(manifest, &key(release_key)).unwrap();
    ReleaseFiles {
        manifest: serde_json::to_vec(&signed).unwrap(),
        kernel,
        initramfs,
        provenance: Some(b"provenance".to_vec()),
        sbom: None,
    }
}
