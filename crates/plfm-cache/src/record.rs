//! What is installed: the signed manifest of each release and the moment of its installation.
//!
//! A record proves itself each time it is read: the keyring of today judges its key's revocation, the moment of
//! installation its key's validity.

use std::ffi::OsStr;

use jiff::Timestamp;
use plfm_release::{
    ArtifactName, Incompatible, Manifest, ManifestError, Protocol, ReleaseId, Sha256Digest, SignedManifest,
    VerifiedManifest, VerifyError, VerifyPolicy,
};

use crate::tree::{self, Tree};
use crate::{DiskError, Folder, Trust};

/// Longest `.installed` file: a few lines of less than 110 bytes.
const INSTALL_TIME_BYTES_MAX: usize = 4096;

/// Why a release cannot be used from this cache.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It was never installed here.
    #[error("release {release} is not installed on this host")]
    NotInstalled {
        /// The release.
        release: Box<ReleaseId>,
    },
    /// Its manifest is no manifest any more.
    #[error("the stored manifest of release {release} is damaged; install the release again")]
    Damaged {
        /// The release.
        release: Box<ReleaseId>,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// Its manifest is another release's.
    #[error("the stored manifest of release {release} is that of {found}; install the release again")]
    OtherRelease {
        /// The release.
        release: Box<ReleaseId>,
        /// The release whose manifest it is.
        found: Box<ReleaseId>,
    },
    /// Nothing tells when it was installed, so its key cannot be judged.
    #[error("nothing tells when the manifest of release {release} was installed; install the release again")]
    NoInstallTime {
        /// The release.
        release: Box<ReleaseId>,
    },
    /// Its manifest is not to be trusted, or not any more.
    #[error("the stored manifest of release {release} is not to be trusted")]
    Untrusted {
        /// The release.
        release: Box<ReleaseId>,
        /// Why.
        #[source]
        source: VerifyError,
    },
    /// This agent must not run it.
    #[error("release {release} does not fit this agent")]
    Incompatible {
        /// The release.
        release: Box<ReleaseId>,
        /// Why.
        #[source]
        source: Incompatible,
    },
    /// The record of what is current says nothing that makes sense.
    #[error("{link:?} leads to {target:?}, which is no release; set what is current again")]
    UnknownCurrent {
        /// The link that decides.
        link: &'static str,
        /// What it says.
        target: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl ReleaseError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotInstalled { .. } => "release_not_installed",
            Self::Damaged { .. } | Self::OtherRelease { .. } | Self::NoInstallTime { .. } => {
                "release_record_damaged"
            }
            Self::Untrusted { source, .. } => source.code(),
            Self::Incompatible { source, .. } => source.code(),
            Self::UnknownCurrent { .. } => "current_unknown",
            Self::Disk(error) => error.code(),
        }
    }
}

/// A record that was just verified.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) manifest: VerifiedManifest,
    pub(crate) installed_at: Timestamp,
}

impl Record {
    /// Reads and verifies the record of a release.
    pub(crate) fn read(tree: &Tree, trust: &Trust, release: &ReleaseId) -> Result<Self, ReleaseError> {
        let bytes = read_manifest(tree, release)?.ok_or_else(|| ReleaseError::NotInstalled {
            release: Box::new(release.clone()),
        })?;
        let installed_at =
            InstallTimes::read(tree, release)?
                .of(&bytes)
                .ok_or_else(|| ReleaseError::NoInstallTime {
                    release: Box::new(release.clone()),
                })?;
        let signed = SignedManifest::parse(&bytes).map_err(|source| ReleaseError::Damaged {
            release: Box::new(release.clone()),
            source,
        })?;
        let found = signed.untrusted().release_id();
        if found != *release {
            return Err(ReleaseError::OtherRelease {
                release: Box::new(release.clone()),
                found: Box::new(found),
            });
        }
        let manifest = trust
            .verify(signed, installed_at)
            .map_err(|source| ReleaseError::Untrusted {
                release: Box::new(release.clone()),
                source,
            })?;
        Ok(Self {
            manifest,
            installed_at,
        })
    }

    /// The protocol to speak with the release's guest init.
    pub(crate) fn protocol(&self, trust: &Trust) -> Result<Protocol, ReleaseError> {
        let manifest = self.manifest.manifest();
        trust
            .check(manifest)
            .map_err(|source| ReleaseError::Incompatible {
                release: Box::new(manifest.release_id()),
                source,
            })
    }

    /// Makes `manifest` the record of its release. The moment of installation is durable before the manifest is
    /// visible, and stays that of the old manifest until then, so that there is no moment without either. The
    /// caller syncs `.releases`.
    pub(crate) fn write(tree: &Tree, manifest: &VerifiedManifest, now: Timestamp) -> Result<(), DiskError> {
        let release = manifest.manifest().release_id();
        let old = read_manifest(tree, &release).ok().flatten();
        let mut times = InstallTimes::read(tree, &release).unwrap_or_default();
        times.keep_only(old.as_deref());
        times.set(manifest.as_bytes(), now);
        tree.write_small(&tree::install_time(&release), times.render().as_bytes())?;
        tree.sync_folder(Folder::Releases)?;
        tree.write_small(&tree::record(&release), manifest.as_bytes())
    }
}

/// The manifest stored for a release, unread.
pub(crate) fn read_manifest(tree: &Tree, release: &ReleaseId) -> Result<Option<Vec<u8>>, DiskError> {
    tree.read_small(&tree::record(release), plfm_release::MANIFEST_BYTES_MAX)
}

/// The releases that have a record, whatever it says.
pub(crate) fn release_ids(tree: &Tree) -> Result<Vec<ReleaseId>, DiskError> {
    ids_with(tree, tree::RECORD_SUFFIX)
}

/// The releases that have a file with that suffix in `.releases`.
pub(crate) fn ids_with(tree: &Tree, suffix: &str) -> Result<Vec<ReleaseId>, DiskError> {
    let names = tree.list(Folder::Releases)?;
    let mut ids: Vec<_> = names
        .iter()
        .filter_map(|name| tree::id_with(name, suffix))
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// The release that `.current` names, verified or not.
pub(crate) fn current_id(tree: &Tree) -> Result<Option<ReleaseId>, ReleaseError> {
    let unknown = |target: String| ReleaseError::UnknownCurrent {
        link: tree::CURRENT_RECORD,
        target,
    };
    match tree.link_at(&tree::root(tree::CURRENT_RECORD))? {
        tree::Link::Absent => Ok(None),
        tree::Link::Other => Err(unknown(String::new())),
        tree::Link::To(target) => {
            let id = tree::record_id(
                std::path::Path::new(&target)
                    .file_name()
                    .unwrap_or(OsStr::new("")),
            );
            match id.filter(|id| tree::record_target(id) == target) {
                Some(id) => Ok(Some(id)),
                None => Err(unknown(target.to_string_lossy().into_owned())),
            }
        }
    }
}

/// When the manifest of a release was installed, as far as the directory tells.
pub(crate) fn installed_at(tree: &Tree, release: &ReleaseId) -> Result<Option<Timestamp>, DiskError> {
    let Some(manifest) = read_manifest(tree, release)? else {
        return Ok(None);
    };
    Ok(InstallTimes::read(tree, release)?.of(&manifest))
}

/// Whether a release has an artifact of that name.
pub(crate) fn owns(release: &ReleaseId, name: &ArtifactName) -> bool {
    match name {
        ArtifactName::Kernel(label) => release.kernel == *label,
        ArtifactName::Initramfs(label) => release.initramfs == *label,
    }
}

/// An installed release has an artifact's name for other bytes: names are immutable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "artifact {name} is installed with SHA-256 {installed} by release {by}; this one has {offered}, and a name never \
     changes its meaning: build it with another build id"
)]
pub struct NameConflict {
    /// The name.
    pub name: ArtifactName,
    /// The release that has it.
    pub by: ReleaseId,
    /// What the name means on this host.
    pub installed: Sha256Digest,
    /// What it means in the release that was refused.
    pub offered: Sha256Digest,
}

/// Finds an artifact of `manifest` whose name an installed release has for other bytes. A release whose record does
/// not verify has no claim to a name.
pub(crate) fn find_name_conflict(
    tree: &Tree,
    trust: &Trust,
    manifest: &Manifest,
) -> Result<Option<Box<NameConflict>>, DiskError> {
    for by in release_ids(tree)? {
        for artifact in manifest.artifacts() {
            if !owns(&by, &artifact.name) {
                continue;
            }
            let record = match Record::read(tree, trust, &by) {
                Ok(record) => record,
                Err(ReleaseError::Disk(error)) => return Err(error),
                Err(_) => continue,
            };
            let installed = record.manifest.manifest().artifact(artifact.kind).sha256;
            if installed != artifact.sha256 {
                let (name, offered) = (artifact.name, artifact.sha256);
                return Ok(Some(Box::new(NameConflict {
                    name,
                    by,
                    installed,
                    offered,
                })));
            }
        }
    }
    Ok(None)
}

/// When each manifest of a release was installed: lines of `<RFC 3339>  <SHA-256 of the manifest>`. There is one
/// line, and two while a manifest with another signature replaces the first.
#[derive(Debug, Default)]
struct InstallTimes(Vec<(Timestamp, Sha256Digest)>);

impl InstallTimes {
    fn read(tree: &Tree, release: &ReleaseId) -> Result<Self, DiskError> {
        let content = tree
            .read_small(&tree::install_time(release), INSTALL_TIME_BYTES_MAX)?
            .unwrap_or_default();
        Ok(Self::parse(&String::from_utf8_lossy(&content)))
    }

    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (time, digest) = line.split_once("  ")?;
            Some((time.parse().ok()?, digest.parse().ok()?))
        };
        Self(text.lines().filter_map(line).collect())
    }

    fn render(&self) -> String {
        self.0
            .iter()
            .map(|(time, digest)| format!("{time}  {digest}\n"))
            .collect()
    }

    fn of(&self, manifest: &[u8]) -> Option<Timestamp> {
        let digest = Sha256Digest::of(manifest);
        self.0.iter().find(|(_, of)| *of == digest).map(|(time, _)| *time)
    }

    fn keep_only(&mut self, manifest: Option<&[u8]>) {
        let kept = manifest.map(Sha256Digest::of);
        self.0.retain(|(_, of)| Some(*of) == kept);
    }

    fn set(&mut self, manifest: &[u8], time: Timestamp) {
        let digest = Sha256Digest::of(manifest);
        self.0.retain(|(_, of)| *of != digest);
        self.0.push((time, digest));
    }
}

impl Trust {
    /// Verifies a manifest whose key must be valid at that moment.
    pub(crate) fn verify(
        &self,
        signed: SignedManifest,
        at: Timestamp,
    ) -> Result<VerifiedManifest, VerifyError> {
        self.keyring.verify(
            signed,
            &VerifyPolicy {
                channel: self.channel.clone(),
                arch: self.arch,
                at,
            },
        )
    }

    /// The protocol to speak with a release's guest init, if this agent can run it.
    pub(crate) fn check(&self, manifest: &Manifest) -> Result<Protocol, Incompatible> {
        manifest.compatibility.check(&self.agent_version, &self.protocols)
    }
}
