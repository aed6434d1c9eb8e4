//! What is put right when the cache is opened: the leavings of a crash, and what people moved.
//!
//! Nothing that a release needs is removed. A release whose record does not verify keeps its files: the keyring may
//! be the one that is wrong.

use std::fmt;

use plfm_release::{Artifact, ArtifactName, ReleaseId};

use crate::blob::{self, BlobFault, Verified};
use crate::hold::Holds;
use crate::install::{place_name, place_sidecar};
use crate::record::{self, Record};
use crate::tree::{self, CURRENT_RECORD, SIDECAR_SUFFIX, Tree};
use crate::{DiskError, Folder, Place, ReleaseError, Rot, Trust, current, gc};

/// One thing that was put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Unfinished files were removed from `.staging`.
    StagingEmptied {
        /// How many.
        files: usize,
    },
    /// A removal that was cut is finished.
    RemovalFinished {
        /// Which release was removed.
        release: ReleaseId,
    },
    /// `.current` led to nothing that is a release, and was removed.
    CurrentForgotten {
        /// Where it led.
        target: String,
    },
    /// `current` or `current-initramfs` was brought in line with `.current`.
    LinkCorrected {
        /// Which.
        link: &'static str,
    },
    /// An artifact's name leads to its blob again.
    NameRestored {
        /// The name.
        name: ArtifactName,
    },
    /// A name was removed that no release has, or whose artifact is missing.
    NameRemoved {
        /// The name.
        name: String,
    },
    /// A `.sha256` file did not say what the signed manifest says, and was written anew.
    SidecarRewritten {
        /// The artifact's name.
        name: ArtifactName,
    },
    /// A blob is not what was installed, and was moved to `.quarantine`.
    Quarantined {
        /// The artifact's name.
        name: ArtifactName,
        /// What is wrong with it.
        rot: Rot,
    },
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StagingEmptied { files } => write!(f, "removed {files} unfinished files from .staging"),
            Self::RemovalFinished { release } => write!(f, "finished the removal of release {release}"),
            Self::CurrentForgotten { target } => {
                write!(
                    f,
                    "removed {CURRENT_RECORD}, which led to {target:?} and not to a release"
                )
            }
            Self::LinkCorrected { link } => write!(f, "brought {link} in line with {CURRENT_RECORD}"),
            Self::NameRestored { name } => write!(f, "linked {name} to its blob again"),
            Self::NameRemoved { name } => write!(
                f,
                "removed {name}, for which no installed release has an artifact"
            ),
            Self::SidecarRewritten { name } => {
                write!(f, "wrote {name}{SIDECAR_SUFFIX} anew from the signed manifest")
            }
            Self::Quarantined { name, rot } => write!(f, "moved {name} to .quarantine: {rot}"),
        }
    }
}

pub(crate) fn repair(tree: &Tree, verified: &Verified, trust: &Trust) -> Result<Vec<Repair>, DiskError> {
    let mut repairs = Vec::new();
    // What is visible now is built upon, so it must not vanish later: a process that was killed before this one may
    // have left changes that no power cut has tried yet.
    for folder in Folder::ALL {
        tree.sync_folder(folder)?;
    }
    empty_staging(tree, &mut repairs)?;
    let current = forget_senseless_current(tree, &mut repairs)?;
    let releases = record::release_ids(tree)?;
    for release in &releases {
        // One release that cannot be read must not keep the host from the others.
        let Ok(record) = Record::read(tree, trust, release) else {
            continue;
        };
        for artifact in record.manifest.manifest().artifacts() {
            restore_name(tree, verified, &artifact, &mut repairs)?;
        }
    }
    finish_removals(tree, &mut repairs)?;
    remove_orphans(tree, &releases, &mut repairs)?;
    if !repairs.is_empty() {
        tree.sync_folder(Folder::Root)?;
    }
    let links = current::follow(tree, current.as_ref())?;
    repairs.extend(links.into_iter().map(|link| Repair::LinkCorrected { link }));
    Ok(repairs)
}

fn empty_staging(tree: &Tree, repairs: &mut Vec<Repair>) -> Result<(), DiskError> {
    let mut files = 0;
    for name in tree.list(Folder::Staging)? {
        if tree.remove_file(&Place::new(Folder::Staging, name))? {
            files += 1;
        }
    }
    if files > 0 {
        repairs.push(Repair::StagingEmptied { files });
    }
    Ok(())
}

fn finish_removals(tree: &Tree, repairs: &mut Vec<Repair>) -> Result<(), DiskError> {
    let removed = record::ids_with(tree, tree::REMOVED_SUFFIX)?;
    if removed.is_empty() {
        return Ok(());
    }
    gc::finish(tree, &Holds::default(), &mut 0)?;
    repairs.extend(
        removed
            .into_iter()
            .map(|release| Repair::RemovalFinished { release }),
    );
    Ok(())
}

fn forget_senseless_current(tree: &Tree, repairs: &mut Vec<Repair>) -> Result<Option<ReleaseId>, DiskError> {
    match record::current_id(tree) {
        Ok(current) => Ok(current),
        Err(ReleaseError::UnknownCurrent { target, .. }) => {
            tree.remove(&tree::root(CURRENT_RECORD))?;
            repairs.push(Repair::CurrentForgotten { target });
            Ok(None)
        }
        Err(ReleaseError::Disk(error)) => Err(error),
        // Nothing else is asked of a link.
        Err(_) => Ok(None),
    }
}

/// A name at the top level is a second name of its blob, or it is not there.
fn restore_name(
    tree: &Tree,
    verified: &Verified,
    artifact: &Artifact,
    repairs: &mut Vec<Repair>,
) -> Result<(), DiskError> {
    let blob = tree.facts_at(&tree::blob(&artifact.sha256))?;
    let name = tree.facts_at(&tree::root(&artifact.name))?;
    if !blob
        .zip(name)
        .is_some_and(|(blob, name)| blob.is_same_file(&name))
    {
        match verified.open(tree, artifact) {
            Ok(_) => {
                place_name(tree, artifact)?;
                repairs.push(Repair::NameRestored {
                    name: artifact.name.clone(),
                });
            }
            // What cannot be read now may be readable at the next start; a name that is visible was verified.
            Err(BlobFault::Missing | BlobFault::Unreadable { .. }) => {
                return remove_names(tree, artifact, repairs);
            }
            Err(BlobFault::Rotted(rotten)) => {
                blob::quarantine(tree, &artifact.sha256, &rotten.found)?;
                repairs.push(Repair::Quarantined {
                    name: artifact.name.clone(),
                    rot: rotten.rot,
                });
                return remove_names(tree, artifact, repairs);
            }
            Err(BlobFault::Disk(error)) => return Err(error),
        }
    }
    if place_sidecar(tree, artifact)? {
        repairs.push(Repair::SidecarRewritten {
            name: artifact.name.clone(),
        });
    }
    Ok(())
}

fn remove_names(tree: &Tree, artifact: &Artifact, repairs: &mut Vec<Repair>) -> Result<(), DiskError> {
    remove_name(tree, &artifact.name.to_string(), repairs)?;
    remove_name(tree, &format!("{}{SIDECAR_SUFFIX}", artifact.name), repairs)
}

fn remove_name(tree: &Tree, name: &str, repairs: &mut Vec<Repair>) -> Result<(), DiskError> {
    if tree.remove_file(&tree::root(name))? {
        repairs.push(Repair::NameRemoved {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Removes artifact names that no release has: those of an installation that did not get to its record. Its blobs
/// stay, for the next attempt.
pub(crate) fn remove_orphans(
    tree: &Tree,
    releases: &[ReleaseId],
    repairs: &mut Vec<Repair>,
) -> Result<(), DiskError> {
    for file_name in tree.list(Folder::Root)? {
        let Some(text) = file_name.to_str() else { continue };
        let Ok(name) = text
            .strip_suffix(SIDECAR_SUFFIX)
            .unwrap_or(text)
            .parse::<ArtifactName>()
        else {
            continue;
        };
        if !releases.iter().any(|release| record::owns(release, &name)) {
            remove_name(tree, text, repairs)?;
        }
    }
    Ok(())
}
