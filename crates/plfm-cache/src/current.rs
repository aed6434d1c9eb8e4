//! What is current: one record decides, two links follow.
//!
//! Two links cannot change at once. So the second is taken away before the first changes and comes back after it:
//! for a moment there is one link, and at no moment do they lead to two releases.
//!
//! ```text
//! .current                    sync the top     now it is decided
//! current-initramfs removed   sync the top
//! current                     sync the top
//! current-initramfs           sync the top
//! ```

use std::ffi::OsString;

use plfm_release::ReleaseId;

use crate::tree::{self, CURRENT_INITRAMFS, CURRENT_KERNEL, CURRENT_RECORD, Tree};
use crate::{Cache, DiskError, Folder, InstalledRelease, OpenArtifactError, ReleaseError};

/// Why a release did not become the current one.
#[derive(Debug, thiserror::Error)]
pub enum SetCurrentError {
    /// It is not installed in this cache, or cannot be used.
    #[error("release {release} cannot become the current one")]
    Release {
        /// The release.
        release: Box<ReleaseId>,
        /// Why.
        #[source]
        source: ReleaseError,
    },
    /// Its artifacts cannot be booted.
    #[error("release {release} cannot become the current one")]
    Artifact {
        /// The release.
        release: Box<ReleaseId>,
        /// Why.
        #[source]
        source: OpenArtifactError,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl SetCurrentError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Release { source, .. } => source.code(),
            Self::Artifact { source, .. } => source.code(),
            Self::Disk(error) => error.code(),
        }
    }
}

impl Cache {
    /// Makes an installed release the current one, after verifying it once more.
    ///
    /// # Errors
    /// [`SetCurrentError`] when the release cannot be used any more, with nothing changed, or when the disk fails,
    /// with the old release or the new one current.
    pub fn set_current(&self, release: &InstalledRelease) -> Result<(), SetCurrentError> {
        let id = release.id();
        let refused = |source| SetCurrentError::Release {
            release: Box::new(id.clone()),
            source,
        };
        let unbootable = |source| SetCurrentError::Artifact {
            release: Box::new(id.clone()),
            source,
        };
        self.get(id).map_err(refused)?.open().map_err(unbootable)?;
        let _changing = self.shared.changing();
        let tree = &self.shared.tree;
        let decision = tree::root(CURRENT_RECORD);
        let wanted = tree::record_target(id);
        if !tree.link_at(&decision)?.leads_to(&wanted) {
            tree.replace_symlink(&wanted, &decision)?;
        }
        // Even where nothing changed: an attempt before may have failed between the change and its sync.
        tree.sync_folder(Folder::Root)?;
        follow(tree, Some(id))?;
        Ok(())
    }
}

/// The links and where they lead when `release` is current, the second one last.
fn links(release: &ReleaseId) -> [(&'static str, OsString); 2] {
    let kernel = release.kernel.artifact_name().to_string();
    let initramfs = release.initramfs.artifact_name().to_string();
    [
        (CURRENT_KERNEL, kernel.into()),
        (CURRENT_INITRAMFS, initramfs.into()),
    ]
}

/// Takes the second link away unless it is right for `release` already.
fn clear_second_link(tree: &Tree, release: &ReleaseId) -> Result<(), DiskError> {
    let [_, (name, wanted)] = links(release);
    let at = tree::root(name);
    if !tree.link_at(&at)?.leads_to(&wanted) && tree.remove_if_there(&at)? {
        tree.sync_folder(Folder::Root)?;
    }
    Ok(())
}

/// Brings the two links in line with what is current; the names of those that were not.
pub(crate) fn follow(tree: &Tree, current: Option<&ReleaseId>) -> Result<Vec<&'static str>, DiskError> {
    let mut changed = Vec::new();
    let Some(release) = current else {
        for name in [CURRENT_INITRAMFS, CURRENT_KERNEL] {
            if tree.remove_if_there(&tree::root(name))? {
                tree.sync_folder(Folder::Root)?;
                changed.push(name);
            }
        }
        return Ok(changed);
    };
    let links = links(release);
    for (name, wanted) in &links {
        if !tree.link_at(&tree::root(name))?.leads_to(wanted) {
            changed.push(*name);
        }
    }
    if changed.contains(&CURRENT_KERNEL) {
        clear_second_link(tree, release)?;
    }
    for (name, wanted) in &links {
        let at = tree::root(name);
        if !tree.link_at(&at)?.leads_to(wanted) {
            tree.replace_symlink(wanted, &at)?;
            tree.sync_folder(Folder::Root)?;
        }
    }
    Ok(changed)
}
