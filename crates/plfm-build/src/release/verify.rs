//! Verifying a release in a directory: signature first, then every file against what the signed manifest says.
//!
//! Nothing but the manifest is believed: a `.sha256` file beside an artifact has no say in whether the artifact is
//! good, but one that says something else is a sign that somebody was there.

mod error;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use plfm_release::{
    Artifact, Keyring, MANIFEST_BYTES_MAX, Sha256Digest, Sha256Hasher, SignedManifest, VerifiedManifest,
    VerifyError, VerifyPolicy,
};
use rustix::fs::{FileType, Mode, OFlags};

use super::{KERNEL_CONFIG_FILE, MANIFEST_FILE, PROVENANCE_FILE, render_sidecar, sidecar_name};
use crate::provenance::{PROVENANCE_BYTES_MAX, check_provenance};
pub use error::VerifyDirError;

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
