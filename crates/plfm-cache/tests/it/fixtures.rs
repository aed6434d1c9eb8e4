//! Releases with small artifacts, signed by keys from fixed seeds, and a directory to install them in.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

use jiff::Timestamp;
use plfm_cache::{Cache, InstalledRelease, Repair, StageError, StagedRelease, Trust};
use plfm_release::{
    Architecture, Artifact, ArtifactKind, Channel, KeyEntry, Keyring, Protocol, Revocation, Sha256Digest,
    SignedManifest, SigningKey, VerifiedManifest, VerifyPolicy, sign,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use zeroize::Zeroizing;

/// Signs for production and staging; ends at [`KEY_END`].
pub const KEY: u8 = 1;
/// Signs for production and staging; begins at [`NEXT_KEY_BEGIN`].
pub const NEXT_KEY: u8 = 2;
pub const KEY_END: &str = "2026-06-01T00:00:00Z";
pub const NEXT_KEY_BEGIN: &str = "2026-03-01T00:00:00Z";

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn now() -> Timestamp {
    time("2026-01-15T12:00:00Z")
}

pub fn keyring() -> Keyring {
    // Making keys is slow without optimization.
    static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
        let entry = |seed, not_before, not_after| {
            let channels = vec![Channel::production(), "staging".parse().unwrap()];
            KeyEntry::new(
                key(seed).public_key(),
                channels,
                time(not_before),
                time(not_after),
            )
        };
        let mut keyring = Keyring::default();
        keyring
            .insert(entry(KEY, "2025-12-01T00:00:00Z", KEY_END))
            .unwrap();
        keyring
            .insert(entry(NEXT_KEY, NEXT_KEY_BEGIN, "2027-12-01T00:00:00Z"))
            .unwrap();
        keyring
    });
    KEYRING.clone()
}

pub fn keyring_without(seed: u8) -> Keyring {
    let mut keyring = keyring();
    let revocation = Revocation {
        at: now(),
        reason: "stolen".to_owned(),
    };
    keyring.revoke(key(seed).public_key().id(), revocation).unwrap();
    keyring
}

pub fn trust() -> Trust {
    Trust {
        keyring: keyring(),
        channel: Channel::production(),
        arch: Architecture::X86_64,
        agent_version: "1.2.0".parse().unwrap(),
        protocols: vec![Protocol(1)],
    }
}

/// A release as a publisher has it: a document that is not signed yet, and the bytes.
#[derive(Clone)]
pub struct Release {
    document: Value,
    pub kernel: Vec<u8>,
    pub initramfs: Vec<u8>,
    manifest: OnceLock<VerifiedManifest>,
}

impl Release {
    /// A release whose parts both come from build `build_id` and differ from every other build's.
    pub fn new(build_id: &str) -> Self {
        let kernel = format!("kernel {build_id} ").repeat(40).into_bytes();
        Self::of(
            build_id,
            kernel,
            build_id,
            format!("initramfs {build_id} ").repeat(10).into_bytes(),
        )
    }

    pub fn of(kernel_build: &str, kernel: Vec<u8>, initramfs_build: &str, initramfs: Vec<u8>) -> Self {
        let document = json!({
            "schema": "plfm.release-manifest/v1",
            "channel": "production",
            "arch": "x86_64",
            "variant": "standard",
            "kernel": {
                "version": "6.1.50",
                "build_id": kernel_build,
                "sha256": Sha256Digest::of(&kernel),
                "config_sha256": Sha256Digest::of(b"config"),
                "size_bytes": kernel.len(),
                "format": "elf-pvh",
            },
            "initramfs": {
                "guest_init_version": "1.0.0",
                "guest_init_protocol": 1,
                "build_id": initramfs_build,
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
            manifest: OnceLock::new(),
        }
    }

    /// The release with the member at a JSON pointer set to `value`.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        *self.document.pointer_mut(pointer).unwrap() = value;
        self.manifest = OnceLock::new();
        self
    }

    pub fn signed_by(&self, seed: u8) -> Vec<u8> {
        serde_json::to_vec_pretty(&sign(self.document.clone(), &key(seed)).unwrap()).unwrap()
    }

    /// The manifest, signed with [`KEY`] and verified the way an agent would just before staging.
    pub fn manifest(&self) -> VerifiedManifest {
        self.manifest
            .get_or_init(|| self.manifest_for(KEY, Architecture::X86_64, "production", now()))
            .clone()
    }

    pub fn manifest_for(
        &self,
        seed: u8,
        arch: Architecture,
        channel: &str,
        at: Timestamp,
    ) -> VerifiedManifest {
        let policy = VerifyPolicy {
            channel: channel.parse().unwrap(),
            arch,
            at,
        };
        keyring()
            .verify(SignedManifest::parse(&self.signed_by(seed)).unwrap(), &policy)
            .unwrap()
    }

    pub fn id(&self) -> plfm_release::ReleaseId {
        self.manifest().manifest().release_id()
    }

    pub fn artifact(&self, kind: ArtifactKind) -> Artifact {
        self.manifest().manifest().artifact(kind)
    }

    pub fn bytes(&self, kind: ArtifactKind) -> &[u8] {
        match kind {
            ArtifactKind::Kernel => &self.kernel,
            ArtifactKind::Initramfs => &self.initramfs,
        }
    }

    pub fn stage(&self, cache: &Cache) -> Result<StagedRelease, StageError> {
        let source = |artifact: &Artifact| self.bytes(artifact.kind).to_vec();
        stage_from(cache, &self.manifest(), source)
    }

    pub fn install(&self, cache: &Cache) -> InstalledRelease {
        self.stage(cache).unwrap().install(now()).unwrap()
    }

    /// Where the bytes of one of the two artifacts are.
    pub fn blob(&self, kind: ArtifactKind) -> PathBuf {
        Path::new(".blobs").join(Sha256Digest::of(self.bytes(kind)).to_string())
    }
}

/// Stages with the bytes that `source` has for each artifact.
pub fn stage_from(
    cache: &Cache,
    manifest: &VerifiedManifest,
    source: impl Fn(&Artifact) -> Vec<u8>,
) -> Result<StagedRelease, StageError> {
    cache.stage(manifest, &mut |artifact| {
        Ok(Box::new(io::Cursor::new(source(artifact))))
    })
}

/// A source that must not be asked.
pub fn no_source(artifact: &Artifact) -> io::Result<Box<dyn Read>> {
    panic!("{} was asked for", artifact.name)
}

/// An empty directory, in memory where the host has such a thing: syncing costs nothing there.
pub fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

pub fn open(dir: &Path) -> Cache {
    open_reporting(dir).0
}

pub fn open_reporting(dir: &Path) -> (Cache, Vec<Repair>) {
    Cache::open(dir, trust()).unwrap()
}

/// Every file under `dir`: content, or where a link leads. The lock is left out, as are the directories.
pub fn snapshot(dir: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_symlink() {
                files.insert(name, format!("-> {}", fs::read_link(path).unwrap().display()));
            } else if name != ".lock" {
                files.insert(
                    name,
                    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned(),
                );
            }
        }
    }
    files
}

pub fn names(dir: &Path) -> Vec<String> {
    snapshot(dir).into_keys().collect()
}

/// Replaces the content of a file in place: the inode stays.
pub fn overwrite(path: &Path, content: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
}

/// Replaces a file by another.
pub fn replace(path: &Path, content: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}
