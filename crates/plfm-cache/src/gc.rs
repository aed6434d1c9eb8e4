//! Removing releases: artifacts before the metadata that vouches for them, never the other way round.
//!
//! ```text
//! .releases/<id>.json also .removed          sync .releases   the manifest stays until its artifacts are gone
//! .releases/<id>.json removed                sync .releases   now it is not installed
//! names and sidecars removed                 sync the top     no name is visible without a manifest on this disk
//! .blobs/<sha256> removed                    sync .blobs
//! .releases/<id>.installed removed           sync .releases
//! .releases/<id>.removed removed             sync .releases
//! ```
//!
//! Cut before the second step, the release is installed; cut after it, opening the cache finishes the removal.
//!
//! Invariant: an artifact stays while any record in the directory has its digest, trusted or not, while a name that
//! a release has leads to it, and while a staged release counts on it.

use std::collections::BTreeSet;

use plfm_release::{ArtifactKind, ReleaseId, Sha256Digest, SignedManifest};

use crate::hold::Holds;
use crate::tree::{self, Tree};
use crate::{Cache, DiskError, FileKind, Folder, Place, ReleaseError, record, repair};

/// What came of a removal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "what was to be removed may have been kept"]
pub struct Removal {
    /// What is gone, in the order that was given.
    pub removed: Vec<ReleaseId>,
    /// What was to be removed and stays.
    pub kept: Vec<Kept>,
    /// How much the removed artifacts and quarantined files took, in bytes.
    pub freed_bytes: u64,
}

/// A release that was not removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The release.
    pub release: ReleaseId,
    /// Why it stays.
    pub because: KeptBecause,
}

/// Why a release was not removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeptBecause {
    /// New instances get it.
    #[error("it is the current release")]
    Current,
    /// The caller says that it is in use.
    #[error("it is in use")]
    InUse,
    /// An [`crate::InstalledRelease`] of it lives in this process.
    #[error("this process is using it")]
    Held,
    /// Its record is a directory or a device, which the cache never made.
    #[error("its record is not a file; look at it and remove it by hand")]
    ForeignRecord,
}

impl Cache {
    /// Removes releases and with them whatever no release has: artifacts of installations that were cut, quarantined
    /// files of releases that are gone.
    ///
    /// Whatever is current, held by an [`crate::InstalledRelease`] of this process, or in `in_use` is kept, however
    /// full the disk is. What is not installed counts as removed.
    ///
    /// # Errors
    /// [`DiskError`] when the disk fails. Each release is then installed or not, and the next call or the next
    /// opening goes on.
    pub fn gc(&self, remove: &[ReleaseId], in_use: &BTreeSet<ReleaseId>) -> Result<Removal, DiskError> {
        let shared = &self.shared;
        let tree = &shared.tree;
        let _changing = shared.changing();
        let current = match record::current_id(tree) {
            Ok(current) => current,
            Err(ReleaseError::Disk(error)) => return Err(error),
            // A link that names no release keeps none.
            Err(_) => None,
        };
        let mut removal = Removal::default();
        for release in remove {
            let refusal = if current.as_ref() == Some(release) {
                Some(KeptBecause::Current)
            } else if in_use.contains(release) {
                Some(KeptBecause::InUse)
            } else {
                shared
                    .releases
                    .unless_held(release, || uninstall(tree, release))
                    .unwrap_or(Ok(Some(KeptBecause::Held)))?
            };
            match refusal {
                None => removal.removed.push(release.clone()),
                Some(because) => removal.kept.push(Kept {
                    release: release.clone(),
                    because,
                }),
            }
        }
        finish(tree, &shared.artifacts, &mut removal.freed_bytes)?;
        Ok(removal)
    }
}

/// Takes away the record of a release, keeping the manifest until its artifacts are gone.
fn uninstall(tree: &Tree, release: &ReleaseId) -> Result<Option<KeptBecause>, DiskError> {
    let (record, removed) = (tree::record(release), tree::removed(release));
    match tree.facts_at(&record)? {
        None => return Ok(None),
        Some(facts) if facts.kind == FileKind::Other => return Ok(Some(KeptBecause::ForeignRecord)),
        Some(_) => {}
    }
    // That of an earlier removal, after which it was installed again.
    tree.remove_file(&removed)?;
    tree.link(&record, &removed)?;
    tree.sync_folder(Folder::Releases)?;
    tree.remove(&record)?;
    // Not left to `finish`: what fails before it must not undo what was said to be removed.
    tree.sync_folder(Folder::Releases)?;
    Ok(None)
}

/// Removes what no release has, and then the manifests of removed releases. Adds what that freed.
pub(crate) fn finish(
    tree: &Tree,
    counted_on: &Holds<Sha256Digest>,
    freed_bytes: &mut u64,
) -> Result<(), DiskError> {
    let installed = record::release_ids(tree)?;
    repair::remove_orphans(tree, &installed, &mut Vec::new())?;
    // Synced even where nothing changed: an attempt before may have failed between a change and its sync.
    tree.sync_folder(Folder::Root)?;
    let claims = Claims::read(tree, &installed)?;
    for (folder, counted_on) in [
        (Folder::Blobs, counted_on),
        (Folder::Quarantine, &Holds::default()),
    ] {
        *freed_bytes += remove_unclaimed(tree, folder, &claims, counted_on)?;
        tree.sync_folder(folder)?;
    }
    for suffix in [tree::INSTALL_TIME_SUFFIX, tree::REMOVED_SUFFIX] {
        remove_metadata(tree, suffix, &installed)?;
        tree.sync_folder(Folder::Releases)?;
    }
    Ok(())
}

/// What the records in the directory need.
struct Claims {
    digests: BTreeSet<Sha256Digest>,
    /// Device and inode of what their names lead to. A record that is damaged cannot tell its digests.
    files: BTreeSet<(u64, u64)>,
}

impl Claims {
    fn read(tree: &Tree, installed: &[ReleaseId]) -> Result<Self, DiskError> {
        let (mut digests, mut files) = (BTreeSet::new(), BTreeSet::new());
        for release in installed {
            let bytes = record::read_manifest(tree, release)?.unwrap_or_default();
            if let Ok(signed) = SignedManifest::parse(&bytes) {
                digests.extend(ArtifactKind::ALL.map(|kind| signed.untrusted().artifact(kind).sha256));
            }
            for name in [release.kernel.artifact_name(), release.initramfs.artifact_name()] {
                files.extend(
                    tree.facts_at(&tree::root(name))?
                        .map(|facts| (facts.device, facts.inode)),
                );
            }
        }
        Ok(Self { digests, files })
    }
}

/// Removes files in a folder whose digest nobody needs; how much they took.
fn remove_unclaimed(
    tree: &Tree,
    folder: Folder,
    claims: &Claims,
    counted_on: &Holds<Sha256Digest>,
) -> Result<u64, DiskError> {
    let mut freed_bytes = 0;
    for name in tree.list(folder)? {
        // What is quarantined may have a number behind its digest.
        let stem = name
            .to_str()
            .map(|text| text.split_once('.').map_or(text, |(stem, _)| stem));
        let Some(digest) = stem.and_then(|text| text.parse::<Sha256Digest>().ok()) else {
            continue;
        };
        let at = Place::new(folder, name);
        let Some(facts) = tree.facts_at(&at)? else {
            continue;
        };
        let claimed = claims.digests.contains(&digest) || claims.files.contains(&(facts.device, facts.inode));
        if claimed {
            continue;
        }
        let removed = counted_on.unless_held(&digest, || tree.remove_file(&at));
        if removed.transpose()? == Some(true) {
            freed_bytes += facts.size_bytes;
        }
    }
    Ok(freed_bytes)
}

/// Removes the files with a suffix in `.releases`, of releases that are not installed; manifests of removed ones in
/// any case.
fn remove_metadata(tree: &Tree, suffix: &str, installed: &[ReleaseId]) -> Result<(), DiskError> {
    for release in record::ids_with(tree, suffix)? {
        if suffix == tree::REMOVED_SUFFIX || !installed.contains(&release) {
            tree.remove_file(&tree::metadata(&release, suffix))?;
        }
    }
    Ok(())
}
