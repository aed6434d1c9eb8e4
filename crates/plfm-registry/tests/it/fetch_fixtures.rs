//! A repository that is made by hand, so that evil ones can be made too; a release; a client.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plfm_registry::fetch::{
    FetchError, FetchRequest, FetchedRelease, Mirror, RegistryClient, Settings, TrustedView,
};
use plfm_registry::layout::{KEYRING_TARGET, manifest_target};
use plfm_release::{
    Architecture, ArtifactKind, Channel, KeyEntry, Keyring, ReleaseId, Sha256Digest, SignedKeyring,
    SigningKey, VerifyPolicy, sign,
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use zeroize::Zeroizing;

pub type FileMap = BTreeMap<String, Vec<u8>>;

pub const ROOT_KEYS: [u8; 3] = [11, 12, 13];
pub const TARGETS_KEY: u8 = 21;
pub const SNAPSHOT_KEY: u8 = 22;
pub const TIMESTAMP_KEY: u8 = 23;
/// Signs releases for production and staging.
pub const RELEASE_KEY: u8 = 31;
/// In nobody's keyring or root.
pub const FOREIGN_KEY: u8 = 99;

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn now() -> Timestamp {
    time("2026-01-15T12:00:00Z")
}

pub fn days_later(days: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_hours(24 * days)
}

/// The id of a key in TUF metadata, and the key.
fn tuf_key(seed: u8) -> (String, Value) {
    let public = hex(&key(seed).public_key().to_bytes());
    let key = json!({"keytype": "ed25519", "keyval": {"public": public}, "scheme": "ed25519"});
    let id = Sha256Digest::of(&serde_json::to_vec(&key).unwrap());
    (id.to_string(), key)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Signs a role with each of `seeds`. serde_json sorts members, which is all that these documents need to be canonical.
pub fn sign_role(signed: &Value, seeds: &[u8]) -> Vec<u8> {
    let canonical = serde_json::to_vec(signed).unwrap();
    let signatures: Vec<_> = seeds
        .iter()
        .map(|seed| json!({"keyid": tuf_key(*seed).0, "sig": hex(&key(*seed).sign_tuf_role(&canonical))}))
        .collect();
    serde_json::to_vec(&json!({"signed": signed, "signatures": signatures})).unwrap()
}

/// The `signed` member of a metadata file.
pub fn signed_part(file: &[u8]) -> Value {
    serde_json::from_slice::<Value>(file).unwrap()["signed"].clone()
}

pub fn meta(version: u64, content: &[u8]) -> Value {
    json!({"version": version, "length": content.len(), "hashes": {"sha256": Sha256Digest::of(content)}})
}

/// A publisher with all keys at hand, and the files that it published.
#[derive(Clone)]
pub struct Repository {
    pub root_keys: Vec<u8>,
    pub targets_key: u8,
    pub snapshot_key: u8,
    pub timestamp_key: u8,
    pub root_version: u64,
    /// Of targets, snapshot and timestamp.
    pub version: u64,
    pub root_expires: Timestamp,
    pub targets_expires: Timestamp,
    pub timestamp_expires: Timestamp,
    pub targets: Map<String, Value>,
    pub files: FileMap,
}

impl Repository {
    /// A repository with a keyring and the given releases.
    pub fn with(releases: &[&Release]) -> Self {
        let mut repository = Self {
            root_keys: ROOT_KEYS.to_vec(),
            targets_key: TARGETS_KEY,
            snapshot_key: SNAPSHOT_KEY,
            timestamp_key: TIMESTAMP_KEY,
            root_version: 0,
            version: 0,
            root_expires: days_later(365),
            targets_expires: days_later(14),
            timestamp_expires: days_later(7),
            targets: Map::new(),
            files: FileMap::new(),
        };
        repository.publish_root(&ROOT_KEYS);
        repository.add_keyring(1, &keyring(), &ROOT_KEYS[..2]);
        for release in releases {
            repository.add_release(release);
        }
        repository.publish();
        repository
    }

    pub fn root(&self) -> &[u8] {
        &self.files["metadata/1.root.json"]
    }

    pub fn root_document(&self) -> Value {
        let roles = [
            ("root", self.root_keys.clone(), 2),
            ("targets", vec![self.targets_key], 1),
            ("snapshot", vec![self.snapshot_key], 1),
            ("timestamp", vec![self.timestamp_key], 1),
        ];
        let keys: Map<String, Value> = roles
            .iter()
            .flat_map(|(_, seeds, _)| seeds)
            .map(|seed| tuf_key(*seed))
            .collect();
        let roles: Map<String, Value> = roles
            .iter()
            .map(|(role, seeds, threshold)| {
                let ids: Vec<_> = seeds.iter().map(|seed| tuf_key(*seed).0).collect();
                ((*role).to_owned(), json!({"keyids": ids, "threshold": threshold}))
            })
            .collect();
        json!({
            "_type": "root", "spec_version": "1.0.0", "consistent_snapshot": true, "version": self.root_version,
            "expires": self.root_expires, "keys": keys, "roles": roles,
        })
    }

    /// The next root, signed by `signers`.
    pub fn publish_root(&mut self, signers: &[u8]) {
        self.root_version += 1;
        let root = sign_role(&self.root_document(), signers);
        self.files
            .insert(format!("metadata/{}.root.json", self.root_version), root);
    }

    pub fn add_target(&mut self, name: &str, content: &[u8]) {
        let sha256 = Sha256Digest::of(content);
        let target = json!({"length": content.len(), "hashes": {"sha256": sha256}});
        self.targets.insert(name.to_owned(), target);
        self.files
            .insert(format!("targets/{sha256}.{name}"), content.to_vec());
    }

    pub fn add_keyring(&mut self, version: u64, keyring: &Keyring, signers: &[u8]) {
        let keys: Vec<_> = signers.iter().map(|seed| key(*seed)).collect();
        let signed = SignedKeyring::sign(version, keyring, &keys);
        self.add_target(KEYRING_TARGET, signed.as_bytes());
    }

    pub fn add_release(&mut self, release: &Release) {
        let id = release.id();
        self.add_target(&manifest_target(&id), &release.signed_by(RELEASE_KEY));
        self.add_target(&id.kernel.artifact_name().to_string(), &release.kernel);
        self.add_target(&id.initramfs.artifact_name().to_string(), &release.initramfs);
    }

    /// Signs targets, snapshot and timestamp anew, each with the next version.
    pub fn publish(&mut self) {
        self.version += 1;
        let version = self.version;
        let targets = json!({
            "_type": "targets", "spec_version": "1.0.0", "version": version, "expires": self.targets_expires,
            "targets": self.targets,
        });
        let targets = sign_role(&targets, &[self.targets_key]);
        self.put_targets(&targets);
        self.put_snapshot(&json!({"targets.json": meta(version, &targets)}));
    }

    pub fn put_targets(&mut self, file: &[u8]) {
        self.files
            .insert(format!("metadata/{}.targets.json", self.version), file.to_vec());
    }

    /// Signs a snapshot with this `meta`, and the timestamp above it.
    pub fn put_snapshot(&mut self, metas: &Value) {
        let version = self.version;
        let snapshot = json!({
            "_type": "snapshot", "spec_version": "1.0.0", "version": version, "expires": self.targets_expires,
            "meta": metas,
        });
        let snapshot = sign_role(&snapshot, &[self.snapshot_key]);
        self.files
            .insert(format!("metadata/{version}.snapshot.json"), snapshot.clone());
        self.put_timestamp(version, &json!({"snapshot.json": meta(version, &snapshot)}));
    }

    pub fn put_timestamp(&mut self, version: u64, metas: &Value) {
        let timestamp = json!({
            "_type": "timestamp", "spec_version": "1.0.0", "version": version, "expires": self.timestamp_expires,
            "meta": metas,
        });
        let timestamp = sign_role(&timestamp, &[self.timestamp_key]);
        self.files.insert("metadata/timestamp.json".to_owned(), timestamp);
    }

    /// Changes one metadata file's `signed` member and signs it anew with `seeds`.
    pub fn forge(&mut self, file: &str, seeds: &[u8], change: impl FnOnce(&mut Value)) {
        let mut signed = signed_part(&self.files[file]);
        change(&mut signed);
        self.files.insert(file.to_owned(), sign_role(&signed, seeds));
    }
}

pub fn keyring() -> Keyring {
    keyring_of(&[RELEASE_KEY])
}

pub fn keyring_of(seeds: &[u8]) -> Keyring {
    let mut keyring = Keyring::default();
    for seed in seeds {
        let channels = vec![Channel::production(), "staging".parse().unwrap()];
        let (from, to) = (time("2025-12-01T00:00:00Z"), time("2027-12-01T00:00:00Z"));
        keyring
            .insert(KeyEntry::new(key(*seed).public_key(), channels, from, to))
            .unwrap();
    }
    keyring
}

/// A release as a publisher has it: a document that is not signed yet, and the bytes.
#[derive(Clone)]
pub struct Release {
    document: Value,
    pub kernel: Vec<u8>,
    pub initramfs: Vec<u8>,
}

impl Release {
    pub fn new(build_id: &str) -> Self {
        let kernel = format!("kernel {build_id} ").repeat(4000).into_bytes();
        Self::of(
            build_id,
            kernel,
            format!("initramfs {build_id} ").repeat(1000).into_bytes(),
        )
    }

    pub fn of(build_id: &str, kernel: Vec<u8>, initramfs: Vec<u8>) -> Self {
        let document = json!({
            "schema": "plfm.release-manifest/v1",
            "channel": "production",
            "arch": "x86_64",
            "variant": "standard",
            "kernel": {
                "version": "6.1.50",
                "build_id": build_id,
                "sha256": Sha256Digest::of(&kernel),
                "config_sha256": Sha256Digest::of(b"config"),
                "size_bytes": kernel.len(),
                "format": "elf-pvh",
            },
            "initramfs": {
                "guest_init_version": "1.0.0",
                "guest_init_protocol": 1,
                "build_id": build_id,
                "sha256": Sha256Digest::of(&initramfs),
                "size_bytes": initramfs.len(),
            },
            "compatibility": { "min_agent_version": "1.0.0", "supported_protocols": [1] },
            "source": { "git_sha": null, "dirty": false, "timestamp": "2025-12-17T00:00:00Z" },
        });
        Self {
            document,
            kernel,
            initramfs,
        }
    }

    /// The release with the member at a JSON pointer set to `value`.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        *self.document.pointer_mut(pointer).unwrap() = value;
        self
    }

    pub fn signed_by(&self, seed: u8) -> Vec<u8> {
        serde_json::to_vec_pretty(&sign(self.document.clone(), &key(seed)).unwrap()).unwrap()
    }

    pub fn id(&self) -> ReleaseId {
        let part = |pointer: &str| self.document.pointer(pointer).unwrap().as_str().unwrap();
        let (kernel, build) = (part("/kernel/version"), part("/kernel/build_id"));
        format!("{kernel}-{build}+guestinit-1.0.0-{}", part("/initramfs/build_id"))
            .parse()
            .unwrap()
    }

    pub fn bytes(&self, kind: ArtifactKind) -> &[u8] {
        match kind {
            ArtifactKind::Kernel => &self.kernel,
            ArtifactKind::Initramfs => &self.initramfs,
        }
    }

    /// The path of one of its artifacts below the repository's base.
    pub fn path(&self, kind: ArtifactKind) -> String {
        let id = self.id();
        let name = match kind {
            ArtifactKind::Kernel => id.kernel.artifact_name().to_string(),
            ArtifactKind::Initramfs => id.initramfs.artifact_name().to_string(),
        };
        format!("targets/{}.{name}", Sha256Digest::of(self.bytes(kind)))
    }
}

/// A client's directory, in memory where the host has such a thing.
pub fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// Settings without patience, that begin with the first mirror and go on in order.
pub fn settings(mirrors: Vec<Mirror>, dir: &Path) -> Settings {
    let built_at = time("2026-01-01T00:00:00Z");
    let mut settings = Settings::new(mirrors, dir.join("state"), built_at, Arc::new(|| 0));
    settings.backoff_first = Duration::from_micros(10);
    settings.backoff_longest = Duration::from_micros(100);
    settings
}

pub fn open(mirrors: Vec<Mirror>, dir: &Path, root: &[u8]) -> RegistryClient {
    RegistryClient::open(settings(mirrors, dir), root).unwrap()
}

pub fn policy(at: Timestamp) -> VerifyPolicy {
    VerifyPolicy {
        channel: Channel::production(),
        arch: Architecture::X86_64,
        at,
    }
}

pub async fn fetch(
    client: &RegistryClient,
    view: &TrustedView,
    id: &ReleaseId,
) -> Result<FetchedRelease, FetchError> {
    let keyring = view.keyring().unwrap().keyring();
    let request = FetchRequest {
        release: id,
        keyring,
        policy: &policy(now()),
        is_here: &|_| false,
        progress: &|_| {},
    };
    client.fetch_release(view, request).await
}

pub fn content(release: &FetchedRelease, kind: ArtifactKind) -> Vec<u8> {
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut release.open(kind).unwrap(), &mut content).unwrap();
    content
}

/// Checks the one thing that no attack may achieve: every file with a final name is what its name says.
pub fn assert_nothing_unverified(dir: &Path) {
    let downloads = dir.join("state/downloads");
    for entry in std::fs::read_dir(downloads).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".partial") {
            assert_eq!(Sha256Digest::of(&std::fs::read(&path).unwrap()).to_string(), name);
        }
    }
    let elsewhere: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "state")
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}
