//! What the registry has becomes facts.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use plfm_control::settings::{RegistrySettings, Settings};
use plfm_registry::fetch::Mirror;
use plfm_registry::keyring::KeyringChange;
use plfm_registry::publish::ReleaseFiles;
use plfm_registry::{Lifetimes, OnlineKeys, Repository, Signing, Store};
use plfm_release::{Channel, KeyEntry, Keyring, Revocation, Sha256Digest, SigningKey, sign};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::plane::{Plane, start_with};

/// Signs releases.
const TRUSTED: u8 = 50;
/// Looks, each a tenth of a second after the one before.
const LOOKS_MAX: u32 = 300;

fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([byte; 32]))
}

struct Registry {
    keys: OnlineKeys,
    root: Vec<u8>,
    now: Timestamp,
    repository: Repository,
}

impl Registry {
    async fn create(dir: &Path) -> Self {
        let keys = OnlineKeys {
            targets: vec![key(11)],
            snapshot: vec![key(12)],
            timestamp: vec![key(13)],
        };
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        let day = SignedDuration::from_hours(24);
        let channels = ["staging", "production"]
            .map(|name| name.parse::<Channel>().unwrap())
            .to_vec();
        let mut keyring = Keyring::default();
        keyring
            .insert(KeyEntry::new(
                key(TRUSTED).public_key(),
                channels,
                now - day,
                now + day * 300,
            ))
            .unwrap();
        let (lifetimes, one) = (Lifetimes::default(), NonZeroU64::new(1).unwrap());
        let root = plfm_registry::init::first_root(&[key(1)], one, &keys, &lifetimes, now).unwrap();
        let store = Store::open(dir.to_str().unwrap(), []).unwrap();
        let signing = Signing {
            keys: &keys,
            lifetimes: &lifetimes,
            now,
        };
        let repository = plfm_registry::init::init(store, &root, &[key(1)], &keyring, &signing)
            .await
            .unwrap();
        Self {
            keys,
            root,
            now,
            repository,
        }
    }

    async fn publish(&mut self, build: &str, channel: &str, signer: u8) {
        let (kernel, initramfs) = (
            format!("kernel {build}").into_bytes(),
            format!("initramfs {build}").into_bytes(),
        );
        let manifest = json!({
            "schema": "plfm.release-manifest/v1", "channel": channel, "arch": "x86_64", "variant": "standard",
            "kernel": {"version": "6.1.50", "build_id": build, "sha256": Sha256Digest::of(&kernel),
                "config_sha256": Sha256Digest::of(b""), "size_bytes": kernel.len(), "format": "elf-pvh"},
            "initramfs": {"guest_init_version": "1.0.0", "guest_init_protocol": 1, "build_id": build,
                "sha256": Sha256Digest::of(&initramfs), "size_bytes": initramfs.len()},
            "compatibility": {"min_agent_version": "1.0.0", "supported_protocols": [1]},
            "source": {"git_sha": null, "dirty": false, "timestamp": "2025-12-17T00:00:00Z"},
        });
        let files = ReleaseFiles {
            manifest: serde_json::to_vec(&sign(manifest, &key(signer)).unwrap()).unwrap(),
            kernel,
            initramfs,
            provenance: Some(b"provenance".to_vec()),
            sbom: None,
        };
        let lifetimes = Lifetimes::default();
        let signing = Signing {
            keys: &self.keys,
            lifetimes: &lifetimes,
            now: self.now,
        };
        self.repository.publish(&files, &signing).await.unwrap();
    }

    async fn yank(&mut self, release: &str) {
        let lifetimes = Lifetimes::default();
        let signing = Signing {
            keys: &self.keys,
            lifetimes: &lifetimes,
            now: self.now,
        };
        self.repository
            .yank(&release.parse().unwrap(), "bad", &signing)
            .await
            .unwrap();
    }

    async fn revoke(&mut self, signer: u8) {
        let lifetimes = Lifetimes::default();
        let signing = Signing {
            keys: &self.keys,
            lifetimes: &lifetimes,
            now: self.now,
        };
        let revocation = Revocation {
            at: self.now,
            reason: "stolen".to_owned(),
        };
        let change = KeyringChange::Revoke(key(signer).public_key().id(), revocation);
        self.repository
            .change_keyring(change, &[key(1)], &signing)
            .await
            .unwrap();
    }
}

fn id(build: &str) -> String {
    format!("6.1.50-{build}+guestinit-1.0.0-{build}")
}

async fn follower(registry: &Registry, dir: &Path) -> Plane {
    let (mirror, root) = (Mirror::Dir(dir.join("registry")), dir.join("root.json"));
    std::fs::write(&root, &registry.root).unwrap();
    let state_dir = dir.join("trusted");
    start_with(|settings| Settings {
        registry: Some(RegistrySettings {
            mirrors: vec![mirror],
            root,
            every: Duration::from_millis(200),
            channel: "staging".parse().unwrap(),
            state_dir,
        }),
        ..settings
    })
    .await
}

/// Waits until the list of releases, by build, is as it should be.
async fn wait_for(plane: &Plane, expected: &[(&str, &str)]) -> Value {
    let mut list = Value::Null;
    for _ in 0..LOOKS_MAX {
        list = plane.get_json("/v1/kernels").await;
        let mut found: Vec<(String, String)> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| {
                (
                    item["release"].as_str().unwrap().to_owned(),
                    item["state"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        found.sort();
        let expected: Vec<_> = expected
            .iter()
            .map(|(build, state)| (id(build), (*state).to_owned()))
            .collect();
        if found == expected {
            return list;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain for {expected:?}: {list}");
}

#[tokio::test]
async fn releases_are_found_and_withdrawn_as_the_registry_says() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("registry")).unwrap();
    let mut registry = Registry::create(&dir.path().join("registry")).await;
    registry.publish("20261101a", "staging", TRUSTED).await;
    // The same key signs for another channel, which does not count here.
    registry.publish("20261102a", "production", TRUSTED).await;
    let plane = follower(&registry, dir.path()).await;
    let list = wait_for(&plane, &[("20261101a", "available")]).await;
    assert_eq!(
        (
            &list["items"][0]["protocol"],
            &list["items"][0]["guest_init_version"]
        ),
        (&json!(1), &json!("1.0.0"))
    );
    let detail = plane.get_json("/v1/kernels/20261101a").await;
    assert_eq!(detail["key_id"], key(TRUSTED).public_key().id().to_string());

    registry.publish("20261104a", "staging", TRUSTED).await;
    wait_for(&plane, &[("20261101a", "available"), ("20261104a", "available")]).await;
    registry.yank(&id("20261101a")).await;
    wait_for(&plane, &[("20261101a", "withdrawn"), ("20261104a", "available")]).await;
    registry.revoke(TRUSTED).await;
    wait_for(&plane, &[("20261101a", "withdrawn"), ("20261104a", "withdrawn")]).await;
    let events = plane.events(0).await.items;
    let kinds: Vec<&str> = events.iter().skip(1).map(|event| event.kind.as_str()).collect();
    let expected = [
        "release_found",
        "release_found",
        "release_withdrawn",
        "release_withdrawn",
    ];
    assert_eq!(kinds, expected, "each once, however often the registry is asked");
    assert!(
        events
            .iter()
            .skip(1)
            .all(|event| event.actor.kind == "system" && event.actor.id == "registry")
    );
    // Nothing but manifests is here.
    let downloads = dir.path().join("trusted/downloads");
    let left = std::fs::read_dir(downloads).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}
