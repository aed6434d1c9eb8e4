//! What verification costs: the spec's "Signature verification time: <= 100 ms".
//!
//! `verify_manifest` is everything between the manifest's bytes and trust in it; `hash_pair` is the hashing of a
//! kernel of 18 MiB and an initramfs of 1.2 MiB that are in memory.

#![allow(clippy::expect_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use plfm_release::{
    Architecture, Channel, KeyEntry, Keyring, Sha256Digest, SignedManifest, SigningKey, VerifyPolicy, sign,
};
use serde_json::json;
use zeroize::Zeroizing;

const KERNEL_BYTES: usize = 18 * 1024 * 1024;
const INITRAMFS_BYTES: usize = 12 * 1024 * 1024 / 10;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

/// A keyring in the middle of a rotation: the key that signed is the last of three.
fn keyring() -> Keyring {
    let mut keyring = Keyring::default();
    for seed in 1..=3 {
        let channels = vec![Channel::production()];
        let entry = KeyEntry::new(
            key(seed).public_key(),
            channels,
            Timestamp::UNIX_EPOCH,
            Timestamp::MAX,
        );
        keyring.insert(entry).expect("a new key");
    }
    keyring
}

fn manifest() -> Vec<u8> {
    let document = json!({
        "schema": "plfm.release-manifest/v1",
        "channel": "production",
        "arch": "x86_64",
        "variant": "standard",
        "kernel": {
            "version": "6.1.50",
            "build_id": "20251217a",
            "sha256": "11".repeat(32),
            "config_sha256": "22".repeat(32),
            "size_bytes": KERNEL_BYTES,
            "format": "elf-pvh",
        },
        "initramfs": {
            "guest_init_version": "1.0.0",
            "guest_init_protocol": 1,
            "build_id": "20251217a",
            "sha256": "33".repeat(32),
            "size_bytes": INITRAMFS_BYTES,
        },
        "compatibility": { "min_agent_version": "1.0.0", "supported_protocols": [1] },
        "source": { "git_sha": "4".repeat(40), "dirty": false, "timestamp": "2025-12-17T00:00:00Z" },
    });
    let signed = sign(document, &key(3)).expect("a signable document");
    serde_json::to_vec_pretty(&signed).expect("JSON")
}

fn verify_manifest(criterion: &mut Criterion) {
    let (keyring, bytes) = (keyring(), manifest());
    let policy = VerifyPolicy {
        channel: Channel::production(),
        arch: Architecture::X86_64,
        at: "2026-01-15T12:00:00Z".parse().expect("a time"),
    };
    criterion.bench_function("verify_manifest", |bencher| {
        bencher.iter(|| {
            let signed = SignedManifest::parse(black_box(&bytes)).expect("a manifest");
            keyring.verify(signed, &policy).expect("a good signature")
        });
    });
}

fn hash_pair(criterion: &mut Criterion) {
    let (kernel, initramfs) = (vec![0x5a_u8; KERNEL_BYTES], vec![0xa5_u8; INITRAMFS_BYTES]);
    let mut group = criterion.benchmark_group("hash_pair");
    group
        .throughput(Throughput::Bytes((KERNEL_BYTES + INITRAMFS_BYTES) as u64))
        .sample_size(20);
    group.bench_function("19.2 MiB", |bencher| {
        bencher.iter(|| {
            (
                Sha256Digest::of(black_box(&kernel)),
                Sha256Digest::of(black_box(&initramfs)),
            )
        });
    });
    group.finish();
}

criterion_group!(benches, verify_manifest, hash_pair);
criterion_main!(benches);
