//! Verifying a release in a directory: signature first, then every file against what the signed manifest says.
//!
//! Nothing but the manifest is believed: a `.sha256` file beside an artifact has no say in whether the artifact is
//! good, but one that says something else is a sign that somebody was there.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use plfm_release::{
    Artifact, ArtifactKind, Keyring, MANIFEST_BYTES_MAX, ManifestError, Sha256Digest, Sha256Hasher,
    SignedManifest, VerifiedManifest, VerifyError, VerifyPolicy,
};
use rustix::fs::{FileType, Mode, OFlags};

use super::{KERNEL_CONFIG_FILE, MANIFEST_FILE, PROVENANCE_FILE, render_sidecar, sidecar_name};
use crate::provenance::{PROVENANCE_BYTES_MAX, ProvenanceError, check_provenance};

/// Largest `.sha256` file read, in bytes: a digest and a name have less than 200.
const SIDECAR_BYTES_MAX: usize = 4096;
/// Largest kernel configuration read, in bytes; a real one has less than 300 KiB.
const KERNEL_CONFIG_BYTES_MAX: usize = 4 << 20;
/// How much is hashed at a time.
const HASH_BLOCK_BYTES: usize = 1 << 18;

/// A release in a directory whose signature and files hold.
#[derive(Debug, Clone)]
pub struct VerifiedRelease {
    /// The manifest.
    pub manifest: VerifiedManifest,
    /// What is known of where it came from.
    pub provenance: ProvenanceStatus,
}

/// Whether a release has a provenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvenanceStatus {
    /// It has none.
    Absent,
    /// It has one of the same key, about the same artifacts.
    Signed,
}

/// Why a directory holds no release to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyDirError {
    /// There is no manifest.
    #[error("{} is missing", path.display())]
    ManifestMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The manifest is malformed.
    #[error("{} is not a manifest", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The manifest is not to be trusted.
    #[error("{} is not to be trusted", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifyError,
    },
    /// An artifact is missing.
    #[error("the {kind} {} is missing", path.display())]
    ArtifactMissing {
        /// Which one.
        kind: ArtifactKind,
        /// Where it should be.
        path: PathBuf,
    },
    /// An artifact has another size.
    #[error("the {kind} {} is {found} bytes long; the manifest says {expected}", path.display())]
    ArtifactSize {
        /// Which one.
        kind: ArtifactKind,
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The manifest's.
        expected: u64,
    },
    /// An artifact has other bytes.
    #[error("the {kind} {} has SHA-256 {found}; the manifest says {expected}", path.display())]
    ArtifactDigest {
        /// Which one.
        kind: ArtifactKind,
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: Sha256Digest,
        /// The manifest's.
        expected: Sha256Digest,
    },
    /// A digest file says something else than the manifest.
    #[error("{} does not agree with the signed manifest about the {kind}", path.display())]
    Sidecar {
        /// Which artifact it is about.
        kind: ArtifactKind,
        /// The file.
        path: PathBuf,
    },
    /// The kernel's configuration is another one.
    #[error("{} is not the configuration that the manifest names: its SHA-256 is {found}", path.display())]
    KernelConfig {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: Sha256Digest,
    },
    /// The provenance is of something else.
    #[error("{} is not the provenance of this release", path.display())]
    Provenance {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ProvenanceError,
    },
    /// Something that must be a regular file is none.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What it is.
        path: PathBuf,
    },
    /// A small file is large.
    #[error("{} is more than {limit} bytes long", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// A file can't be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl VerifyDirError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ManifestMissing { .. } => "manifest_missing",
            Self::Manifest { source, .. } => source.code(),
            Self::Untrusted { source, .. } => source.code(),
            Self::ArtifactMissing { .. } => "artifact_missing",
            Self::ArtifactSize { found, expected, .. } if found < expected => "artifact_truncated",
            Self::ArtifactSize { .. } => "artifact_too_long",
            Self::ArtifactDigest { .. } => "artifact_digest_mismatch",
            Self::Sidecar { .. } => "sidecar_mismatch",
            Self::KernelConfig { .. } => "kernel_config_mismatch",
            Self::Provenance { source, .. } => source.code(),
            Self::NotAFile { .. } => "not_a_regular_file",
            Self::TooLong { .. } => "file_too_long",
            Self::Unreadable { .. } => "file_unreadable",
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Untrusted {
                source: VerifyError::WrongChannel { found, .. },
                ..
            } => Some(format!("if that is the channel you mean, pass --channel {found}")),
            Self::Untrusted {
                source: VerifyError::UnknownKey(_),
                ..
            } => Some("pass the keyring of the platform that signed it with --keyring".to_owned()),
            Self::ManifestMissing { .. } => {
                Some("pass the directory that `plfm release build` wrote".to_owned())
            }
            Self::ArtifactMissing { .. }
            | Self::ArtifactSize { .. }
            | Self::ArtifactDigest { .. }
            | Self::Sidecar { .. } => Some("fetch the release again; do not boot this one".to_owned()),
            _ => None,
        }
    }
}

/// Reads the manifest of the release at `path`, the directory or the file. It is not verified.
///
/// # Errors
/// [`VerifyDirError`] when it is missing or malformed.
pub fn load_manifest(path: &Path) -> Result<SignedManifest, VerifyDirError> {
    let path = if path.is_dir() {
        path.join(MANIFEST_FILE)
    } else {
        path.to_owned()
    };
    let Some(bytes) = read_small(&path, MANIFEST_BYTES_MAX)? else {
        return Err(VerifyDirError::ManifestMissing { path });
    };
    SignedManifest::parse(&bytes).map_err(|source| VerifyDirError::Manifest { path, source })
}

/// Verifies the release in `dir`.
///
/// # Errors
/// [`VerifyDirError`] names the first thing that does not hold.
pub fn verify_dir(
    dir: &Path,
    keyring: &Keyring,
    policy: &VerifyPolicy,
) -> Result<VerifiedRelease, VerifyDirError> {
    let signed = load_manifest(&dir.join(MANIFEST_FILE))?;
    let untrusted = |source| VerifyDirError::Untrusted {
        path: dir.join(MANIFEST_FILE),
        source,
    };
    let verified = keyring.verify(signed, policy).map_err(untrusted)?;
    let manifest = verified.manifest();
    for artifact in manifest.artifacts() {
        check_artifact(dir, &artifact)?;
        check_sidecar(dir, &artifact)?;
    }
    let path = dir.join(KERNEL_CONFIG_FILE);
    if let Some(config) = read_small(&path, KERNEL_CONFIG_BYTES_MAX)? {
        let found = Sha256Digest::of(&config);
        if found != manifest.kernel.config_sha256 {
            return Err(VerifyDirError::KernelConfig { path, found });
        }
    }
    let path = dir.join(PROVENANCE_FILE);
    let provenance = match (
        read_small(&path, PROVENANCE_BYTES_MAX)?,
        keyring.get(verified.key_id()),
    ) {
        (Some(bytes), Some(entry)) => {
            check_provenance(&bytes, manifest, &entry.public_key)
                .map_err(|source| VerifyDirError::Provenance { path, source })?;
            ProvenanceStatus::Signed
        }
        (None, _) => ProvenanceStatus::Absent,
        (Some(_), None) => return Err(untrusted(VerifyError::UnknownKey(verified.key_id()))),
    };
    Ok(VerifiedRelease {
        manifest: verified,
        provenance,
    })
}

fn check_artifact(dir: &Path, artifact: &Artifact) -> Result<(), VerifyDirError> {
    let kind = artifact.kind;
    let path = dir.join(artifact.name.to_string());
    let Some(mut file) = open_regular(&path)? else {
        return Err(VerifyDirError::ArtifactMissing { kind, path });
    };
    let unreadable = |source| VerifyDirError::Unreadable {
        path: path.clone(),
        source,
    };
    let expected = artifact.size_bytes;
    let found = file.metadata().map_err(unreadable)?.len();
    if found != expected {
        return Err(VerifyDirError::ArtifactSize {
            kind,
            path,
            found,
            expected,
        });
    }
    let mut hasher = Sha256Hasher::new();
    let mut block = vec![0; HASH_BLOCK_BYTES];
    loop {
        match file.read(&mut block).map_err(unreadable)? {
            0 => break,
            length => hasher.update(block.get(..length).unwrap_or_default()),
        }
    }
    let (found, expected) = (hasher.finish(), artifact.sha256);
    if found == expected {
        Ok(())
    } else {
        Err(VerifyDirError::ArtifactDigest {
            kind,
            path,
            found,
            expected,
        })
    }
}

fn check_sidecar(dir: &Path, artifact: &Artifact) -> Result<(), VerifyDirError> {
    let path = dir.join(sidecar_name(artifact));
    let Some(bytes) = read_small(&path, SIDECAR_BYTES_MAX)? else {
        return Ok(());
    };
    let expected = render_sidecar(artifact);
    // `sha256sum --binary` marks the name with an asterisk.
    let agrees = bytes == expected.as_bytes() || bytes == expected.replace("  ", " *").as_bytes();
    if agrees {
        Ok(())
    } else {
        Err(VerifyDirError::Sidecar {
            kind: artifact.kind,
            path,
        })
    }
}

/// Opens a file that must be regular, and no link to one; `None` where there is nothing.
fn open_regular(path: &Path) -> Result<Option<File>, VerifyDirError> {
    let not_a_file = || VerifyDirError::NotAFile {
        path: path.to_owned(),
    };
    let unreadable = |source| VerifyDirError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // Not blocking, because opening a FIFO would else wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Err(not_a_file()),
        Err(error) => return Err(unreadable(error.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|error| unreadable(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        Ok(Some(File::from(file)))
    } else {
        Err(not_a_file())
    }
}

fn read_small(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, VerifyDirError> {
    let Some(file) = open_regular(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound)
        .read_to_end(&mut bytes)
        .map_err(|source| VerifyDirError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() > limit {
        Err(VerifyDirError::TooLong {
            path: path.to_owned(),
            limit,
        })
    } else {
        Ok(Some(bytes))
    }
}
