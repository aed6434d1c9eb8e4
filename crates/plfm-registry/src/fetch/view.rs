//! What the registry says, verified: which releases there are, and the lengths and digests of their files.

use std::collections::BTreeMap;

use jiff::Timestamp;
use plfm_release::{ReleaseId, Sha256Digest, VerifiedKeyring};
use tough::schema::Targets;

use super::MirrorFailure;
use super::download::Wanted;
use crate::layout::manifest_target;

/// The repository as it was when it was last found to be fresh. It can be had only from
/// [`RegistryClient::update`](super::RegistryClient::update).
#[derive(Debug)]
pub struct TrustedView {
    pub(crate) targets: BTreeMap<String, TrustedTarget>,
    pub(crate) keyring: Option<VerifiedKeyring>,
    pub(crate) expires_at: Timestamp,
    pub(crate) version: u64,
    pub(crate) failures: Vec<MirrorFailure>,
}

/// A target as the signed targets metadata has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrustedTarget {
    pub(crate) sha256: Sha256Digest,
    pub(crate) size_bytes: u64,
}

/// A release that the repository lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRelease {
    /// Its id.
    pub id: ReleaseId,
    /// How long its manifest, kernel and initramfs are together, in bytes. None when the repository does not have them
    /// all: such a release cannot be fetched.
    pub size_bytes: Option<u64>,
}

impl TrustedView {
    /// The releases that the repository lists, by name.
    pub fn releases(&self) -> Vec<ListedRelease> {
        self.targets
            .keys()
            .filter_map(|name| {
                let id = listed_release(name)?;
                let size_bytes = self.size_of(&id);
                Some(ListedRelease { id, size_bytes })
            })
            .collect()
    }

    /// The keys that may sign releases, as a threshold of the root keys signed them; none if the repository has none.
    pub fn keyring(&self) -> Option<&VerifiedKeyring> {
        self.keyring.as_ref()
    }

    /// When the view ends to be fresh: the earliest expiry of its metadata.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The version of the timestamp metadata; it rises with each change of the repository.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The mirrors that were asked before one answered well, and what was wrong with them.
    pub fn failures(&self) -> &[MirrorFailure] {
        &self.failures
    }

    /// The target of that name.
    pub(crate) fn wanted(&self, name: String) -> Option<Wanted> {
        let TrustedTarget { sha256, size_bytes } = *self.targets.get(&name)?;
        Some(Wanted {
            name,
            sha256,
            size_bytes,
        })
    }

    fn size_of(&self, id: &ReleaseId) -> Option<u64> {
        let names = [
            manifest_target(id),
            id.kernel.artifact_name().to_string(),
            id.initramfs.artifact_name().to_string(),
        ];
        names.iter().try_fold(0_u64, |sum, name| {
            sum.checked_add(self.targets.get(name)?.size_bytes)
        })
    }
}

/// The targets of `targets`, by name as it is written there. A name is only ever looked up, never made into a path,
/// so that names with `..`, `/` or anything else are dead letters.
pub(crate) fn trusted_targets(targets: &Targets) -> BTreeMap<String, TrustedTarget> {
    let entry = |(name, target): (&tough::TargetName, &tough::schema::Target)| {
        let sha256 = hex::encode(&*target.hashes.sha256).parse().ok()?;
        let size_bytes = target.length;
        Some((name.raw().to_owned(), TrustedTarget { sha256, size_bytes }))
    };
    targets.targets.iter().filter_map(entry).collect()
}

/// The release whose manifest a target is. Labels may hold `--`, so each place is tried.
fn listed_release(target: &str) -> Option<ReleaseId> {
    let pair = target.strip_prefix("manifest-")?.strip_suffix(".json")?;
    pair.match_indices("--").find_map(|(at, dashes)| {
        let (kernel, initramfs) = (pair.get(..at)?, pair.get(at + dashes.len()..)?);
        let id = ReleaseId {
            kernel: kernel.parse().ok()?,
            initramfs: initramfs.parse().ok()?,
        };
        (manifest_target(&id) == target).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifests_target_gives_back_its_release() {
        for id in [
            "6.1.50-a+guestinit-1.0.0-b",
            "6.1.50-20251217a+guestinit-2.0.0-rc.1-20260101b",
        ] {
            let id: ReleaseId = id.parse().unwrap();
            assert_eq!(listed_release(&manifest_target(&id)), Some(id));
        }
    }

    #[test]
    fn other_targets_are_no_releases() {
        for name in [
            "keyring.json",
            "manifest-.json",
            "manifest-x--y.json",
            "manifest-../..--x.json",
            "manifest",
        ] {
            assert_eq!(listed_release(name), None, "{name}");
        }
    }
}
