//! The names of a repository's targets, for both sides.

use plfm_release::ReleaseId;

/// The directory of TUF metadata.
pub const METADATA_DIR: &str = "metadata";
/// The directory of targets.
pub const TARGETS_DIR: &str = "targets";
/// The target that tells hosts which keys may sign releases.
pub const KEYRING_TARGET: &str = "keyring.json";

/// The target with a release's signed manifest. Artifacts are targets under their own artifact names. No `+`, which
/// some object stores read as a space.
pub fn manifest_target(release: &ReleaseId) -> String {
    format!("manifest-{}--{}.json", release.kernel, release.initramfs)
}
