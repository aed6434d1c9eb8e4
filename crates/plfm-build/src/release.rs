//! A release, put together and signed: every file of it, in memory.
//!
//! ```text
//! <dir>/
//!   vmlinuz-plfm-<kernel_version>-<build_id>                    and .sha256
//!   initramfs-plfm-guestinit-<guest_init_version>-<build_id>.img and .sha256
//!   manifest.json        signed; names everything above by digest
//!   kernel.config        the kernel's whole .config
//!   provenance.json      what it was made from, signed with the same key
//! ```
//!
//! Invariant: the files are a function of the [`BuildInputs`] and the key.

mod verify;
mod write;

use std::collections::BTreeMap;

use plfm_release::{
    Architecture, Artifact, InitramfsEntry, KernelEntry, KernelFormat, MANIFEST_SCHEMA, Manifest,
    ManifestError, Sha256Digest, SignError, SignedManifest, SigningKey, Source, sign,
};

use crate::fault::{FaultRefused, check_fault, fault_in};
use crate::initramfs::{Initramfs, InitramfsContents, InitramfsError, build_initramfs};
use crate::inputs::BuildInputs;
use crate::json::render_json;
use crate::provenance::attest;
pub use verify::{ProvenanceStatus, VerifiedRelease, VerifyDirError, load_manifest, verify_dir};
pub use write::{Overwrite, WriteError, Written};

/// File name of the manifest.
pub const MANIFEST_FILE: &str = "manifest.json";
/// File name of the kernel's configuration.
pub const KERNEL_CONFIG_FILE: &str = "kernel.config";
/// File name of the provenance.
pub const PROVENANCE_FILE: &str = "provenance.json";

/// A release that was put together: what its manifest says, and its files.
#[derive(Debug, Clone)]
pub struct Release {
    manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
    unpacked_bytes: usize,
}

/// Why a release could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// There is no initramfs.
    #[error("the release has no initramfs")]
    Initramfs(#[source] InitramfsError),
    /// Guest init fails on purpose, and the release is not for the one channel that takes that.
    #[error(transparent)]
    Faulty(FaultRefused),
    /// The manifest can't be signed.
    #[error("the manifest cannot be signed")]
    Sign(#[source] SignError),
    /// The manifest would be refused by every reader.
    #[error("the manifest would not be accepted")]
    Manifest(#[source] ManifestError),
}

impl AssembleError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Initramfs(error) => error.code(),
            Self::Faulty(refused) => refused.code(),
            Self::Sign(_) => "manifest_unsignable",
            Self::Manifest(error) => error.code(),
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Initramfs(error) => error.hint(),
            Self::Faulty(refused) => refused.hint(),
            Self::Sign(_) | Self::Manifest(_) => None,
        }
    }
}

impl Release {
    /// What the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Every file by its name.
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// Size of the archive in the initramfs, in bytes.
    pub fn unpacked_bytes(&self) -> usize {
        self.unpacked_bytes
    }
}

/// Packs the initramfs, writes the manifest and the provenance, and signs both.
///
/// # Errors
/// [`AssembleError`] when a part does not fit, or the manifest would not be accepted by a reader.
pub fn assemble(inputs: &BuildInputs, key: &SigningKey) -> Result<Release, AssembleError> {
    if let Some(fault) = fault_in(&inputs.guest_init.program) {
        check_fault(&fault, &inputs.channel).map_err(AssembleError::Faulty)?;
    }
    let contents = InitramfsContents {
        guest_init: &inputs.guest_init.program,
        busybox: inputs.busybox.as_deref(),
        ca_bundle: inputs.ca_bundle.as_deref(),
    };
    let initramfs =
        build_initramfs(&contents, inputs.epoch, inputs.gzip_level).map_err(AssembleError::Initramfs)?;
    let manifest = manifest(inputs, &initramfs);
    // A manifest has only texts and integers: the serializer has nothing to fail on.
    let document = serde_json::to_value(&manifest).unwrap_or_default();
    let signed = render_json(&sign(document, key).map_err(AssembleError::Sign)?);
    SignedManifest::parse(&signed).map_err(AssembleError::Manifest)?;

    let [kernel_artifact, initramfs_artifact] = manifest.artifacts();
    let unpacked_bytes = initramfs.unpacked_bytes;
    let mut files = BTreeMap::from([
        (MANIFEST_FILE.to_owned(), signed),
        (KERNEL_CONFIG_FILE.to_owned(), inputs.kernel.config.clone()),
        (PROVENANCE_FILE.to_owned(), attest(&manifest, inputs, key)),
    ]);
    let images = [
        (kernel_artifact, inputs.kernel.image.clone()),
        (initramfs_artifact, initramfs.bytes),
    ];
    for (artifact, bytes) in images {
        files.insert(sidecar_name(&artifact), render_sidecar(&artifact).into_bytes());
        files.insert(artifact.name.to_string(), bytes);
    }
    Ok(Release {
        manifest,
        files,
        unpacked_bytes,
    })
}

fn manifest(inputs: &BuildInputs, initramfs: &Initramfs) -> Manifest {
    let kernel = &inputs.kernel;
    let size = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    Manifest {
        schema: MANIFEST_SCHEMA.to_owned(),
        channel: inputs.channel.clone(),
        arch: Architecture::X86_64,
        variant: inputs.variant,
        kernel: KernelEntry {
            version: kernel.version.clone(),
            build_id: inputs.kernel_build_id.clone(),
            sha256: Sha256Digest::of(&kernel.image),
            config_sha256: Sha256Digest::of(&kernel.config),
            size_bytes: size(&kernel.image),
            format: KernelFormat::ElfPvh,
        },
        initramfs: InitramfsEntry {
            guest_init_version: inputs.guest_init.version.clone(),
            guest_init_protocol: inputs.guest_init_protocol,
            build_id: inputs.initramfs_build_id.clone(),
            sha256: initramfs.sha256,
            size_bytes: size(&initramfs.bytes),
        },
        compatibility: inputs.compatibility.clone(),
        source: Source {
            git_sha: inputs.checkout.as_ref().map(|checkout| checkout.git_sha.clone()),
            dirty: inputs.checkout.as_ref().is_some_and(|checkout| checkout.dirty),
            timestamp: inputs.epoch.timestamp(),
        },
    }
}

/// Name of the file with an artifact's digest.
fn sidecar_name(artifact: &Artifact) -> String {
    format!("{}.sha256", artifact.name)
}

/// The digest of an artifact as `sha256sum` writes and checks it.
fn render_sidecar(artifact: &Artifact) -> String {
    format!("{}  {}\n", artifact.sha256, artifact.name)
}
