//! The manifest: the spec's section "Manifest File", and the members that the signature needs around it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::signature::decode_signature;
use crate::{
    ArtifactName, BuildId, Compatibility, GuestInitVersion, InitramfsLabel, JsonError, KernelLabel,
    KernelVersion, KeyId, Protocol, ReleaseId, Sha256Digest, parse_strict_json,
};

/// The `schema` of the manifests that this version reads: type and version, so that no other signed document
/// passes for a manifest.
pub const MANIFEST_SCHEMA: &str = "plfm.release-manifest/v1";
/// Largest manifest taken, in bytes; a real one has less than 2 KiB.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;
/// Largest artifact a manifest may announce, in bytes: what a host downloads is bounded by this.
const ARTIFACT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MANIFEST_BYTES_MAX`].
    #[error("the manifest is {bytes} bytes long, more than {MANIFEST_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not JSON, or ambiguous JSON.
    #[error("the manifest is not acceptable JSON")]
    Json(#[source] JsonError),
    /// The `schema` member names another kind of document or another version.
    #[error("the manifest's schema is {found}, not {MANIFEST_SCHEMA:?}")]
    UnknownSchema {
        /// What the member holds, as JSON.
        found: String,
    },
    /// A member is missing or malformed.
    #[error("the manifest has a missing or malformed member")]
    Shape(#[source] serde_json::Error),
    /// The members contradict each other.
    #[error("the manifest contradicts itself: {0}")]
    Contradiction(&'static str),
}

impl ManifestError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "manifest_too_long",
            Self::Json(_) => "manifest_not_json",
            Self::UnknownSchema { .. } => "manifest_unknown_schema",
            Self::Shape(_) | Self::Contradiction(_) => "manifest_malformed",
        }
    }
}

/// How mature a release is: `production`, `staging`, `dev`, … A host takes releases of one channel only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Channel(String);

impl Channel {
    /// The channel of customers' hosts.
    pub fn production() -> Self {
        Self("production".to_owned())
    }
}

impl FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good =
            (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{text:?} is not a channel (lowercase letters)"))
        }
    }
}

impl TryFrom<String> for Channel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Channel> for String {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The machine that a release runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        })
    }
}

/// What a release is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// For customers' VMs.
    Standard,
    /// With diagnostics that a customer's VM should not have.
    Debug,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standard => "standard",
            Self::Debug => "debug",
        })
    }
}

/// What a VMM must be able to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelFormat {
    /// Uncompressed ELF with a PVH note: every Firecracker boots it, and nothing is unpacked at boot.
    ElfPvh,
    /// Compressed bzImage: only newer Firecracker boots it.
    Bzimage,
}

impl fmt::Display for KernelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ElfPvh => "elf-pvh",
            Self::Bzimage => "bzimage",
        })
    }
}

/// The manifest's `kernel` member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelEntry {
    /// Version of the kernel's source.
    pub version: KernelVersion,
    /// Which build made it.
    pub build_id: BuildId,
    /// Digest of the image.
    pub sha256: Sha256Digest,
    /// Digest of the whole `.config` it was built with.
    pub config_sha256: Sha256Digest,
    /// Size of the image, in bytes.
    pub size_bytes: u64,
    /// Format of the image.
    pub format: KernelFormat,
}

/// The manifest's `initramfs` member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitramfsEntry {
    /// Version of the guest init in it.
    pub guest_init_version: GuestInitVersion,
    /// Protocol that its hello names.
    pub guest_init_protocol: Protocol,
    /// Which build made it.
    pub build_id: BuildId,
    /// Digest of the image.
    pub sha256: Sha256Digest,
    /// Size of the image, in bytes.
    pub size_bytes: u64,
}

/// Where a release came from: the spec's "build metadata".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Commit of this project that guest init was built from, if it was a repository.
    pub git_sha: Option<String>,
    /// Whether the work tree differed from that commit.
    pub dirty: bool,
    /// The time that the build pretends it is (`SOURCE_DATE_EPOCH`).
    pub timestamp: Timestamp,
}

/// What a manifest says. Reading one proves nothing; see [`VerifiedManifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA`].
    pub schema: String,
    /// Channel that the release is for.
    pub channel: Channel,
    /// Machine that the release is for.
    pub arch: Architecture,
    /// What the release is built for.
    pub variant: Variant,
    /// The kernel.
    pub kernel: KernelEntry,
    /// The initramfs.
    pub initramfs: InitramfsEntry,
    /// What the release asks of an agent.
    pub compatibility: Compatibility,
    /// Where it came from.
    pub source: Source,
}

/// Which of a release's two artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArtifactKind {
    /// The kernel image.
    Kernel,
    /// The initramfs image.
    Initramfs,
}

impl ArtifactKind {
    /// Both kinds, kernel first.
    pub const ALL: [Self; 2] = [Self::Kernel, Self::Initramfs];
}

impl fmt::Display for ArtifactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
        })
    }
}

/// One artifact as a manifest announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Which of the two.
    pub kind: ArtifactKind,
    /// Its file name.
    pub name: ArtifactName,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// Its size, in bytes.
    pub size_bytes: u64,
}

impl Manifest {
    /// The release's id: the pair of labels.
    pub fn release_id(&self) -> ReleaseId {
        ReleaseId {
            kernel: KernelLabel {
                version: self.kernel.version.clone(),
                build_id: self.kernel.build_id.clone(),
            },
            initramfs: InitramfsLabel {
                version: self.initramfs.guest_init_version.clone(),
                build_id: self.initramfs.build_id.clone(),
            },
        }
    }

    /// One of the two artifacts.
    pub fn artifact(&self, kind: ArtifactKind) -> Artifact {
        let id = self.release_id();
        let (name, sha256, size_bytes) = match kind {
            ArtifactKind::Kernel => (
                id.kernel.artifact_name(),
                self.kernel.sha256,
                self.kernel.size_bytes,
            ),
            ArtifactKind::Initramfs => (
                id.initramfs.artifact_name(),
                self.initramfs.sha256,
                self.initramfs.size_bytes,
            ),
        };
        Artifact {
            kind,
            name,
            sha256,
            size_bytes,
        }
    }

    /// Both artifacts, kernel first.
    pub fn artifacts(&self) -> [Artifact; 2] {
        ArtifactKind::ALL.map(|kind| self.artifact(kind))
    }

    fn check(&self) -> Result<(), ManifestError> {
        let bounded = |size: u64| (1..=ARTIFACT_BYTES_MAX).contains(&size);
        if !bounded(self.kernel.size_bytes) || !bounded(self.initramfs.size_bytes) {
            return Err(ManifestError::Contradiction(
                "an artifact's size_bytes is 0 or more than 256 MiB",
            ));
        }
        if !self
            .compatibility
            .supported_protocols
            .contains(&self.initramfs.guest_init_protocol)
        {
            return Err(ManifestError::Contradiction(
                "guest_init_protocol is not in supported_protocols",
            ));
        }
        Ok(())
    }
}

/// A manifest whose shape is right and whose signature nobody has looked at yet.
#[derive(Debug, Clone)]
pub struct SignedManifest {
    document: Value,
    manifest: Manifest,
    key_id: KeyId,
    signature: [u8; 64],
    bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct SignatureMembers {
    key_id: KeyId,
    signature: String,
}

impl SignedManifest {
    /// Reads a manifest's shape. This trusts nothing: verify it with [`crate::Keyring::verify`].
    ///
    /// # Errors
    /// [`ManifestError`] when the bytes are too many, not acceptable JSON, of another schema, or misshapen.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong { bytes: bytes.len() });
        }
        let document = parse_strict_json(bytes).map_err(ManifestError::Json)?;
        match document.get("schema") {
            Some(Value::String(schema)) if schema == MANIFEST_SCHEMA => {}
            other => {
                let found: String = other
                    .map_or("absent".to_owned(), Value::to_string)
                    .chars()
                    .take(80)
                    .collect();
                return Err(ManifestError::UnknownSchema { found });
            }
        }
        let manifest: Manifest = serde_json::from_value(document.clone()).map_err(ManifestError::Shape)?;
        manifest.check()?;
        let members: SignatureMembers =
            serde_json::from_value(document.clone()).map_err(ManifestError::Shape)?;
        let signature = decode_signature(&members.signature).ok_or(ManifestError::Contradiction(
            "signature is not the base64 of 64 bytes",
        ))?;
        Ok(Self {
            document,
            manifest,
            key_id: members.key_id,
            signature,
            bytes: bytes.to_vec(),
        })
    }

    /// What the manifest says, without any trust in it: for display.
    pub fn untrusted(&self) -> &Manifest {
        &self.manifest
    }

    /// The key that the manifest says it was signed with.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The whole document, as JSON.
    pub fn document(&self) -> &Value {
        &self.document
    }

    pub(crate) fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    pub(crate) fn into_verified(self) -> VerifiedManifest {
        VerifiedManifest {
            manifest: self.manifest,
            key_id: self.key_id,
            bytes: self.bytes,
        }
    }
}

/// A manifest that a trusted key signed, for this channel and machine.
///
/// The only way to have one is [`crate::Keyring::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedManifest {
    manifest: Manifest,
    key_id: KeyId,
    bytes: Vec<u8>,
}

impl VerifiedManifest {
    /// What the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The key that signed it.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The document, byte for byte as it was verified.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}
