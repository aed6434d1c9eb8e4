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

/// The target with a release's provenance.
pub fn provenance_target(release: &ReleaseId) -> String {
    format!("provenance-{}--{}.json", release.kernel, release.initramfs)
}

/// The target with a release's bill of materials (CycloneDX).
pub fn sbom_target(release: &ReleaseId) -> String {
    format!("sbom-{}--{}.cdx.json", release.kernel, release.initramfs)
}

/// The one name that is overwritten.
pub const TIMESTAMP_FILE: &str = "metadata/timestamp.json";

/// Where a version of a role is.
pub fn versioned_file(role: &str, version: u64) -> String {
    format!("{METADATA_DIR}/{version}.{role}.json")
}

/// Where a target is.
pub fn target_file(sha256: &str, name: &str) -> String {
    format!("{TARGETS_DIR}/{sha256}.{name}")
}
