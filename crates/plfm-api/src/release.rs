use jiff::Timestamp;
use plfm_release::{KeyId, ReleaseId, Sha256Digest};
use serde::{Deserialize, Serialize};

/// Installs a release from a directory on the host. Verified by the agent with its own keyring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstallRelease {
    /// The directory, absolute, with `manifest.json` and both artifacts.
    pub directory: String,
    /// Whether it becomes the current release, which new instances boot.
    #[serde(default)]
    pub make_current: bool,
}

/// Makes an installed release the current one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetCurrentRelease {
    /// The release's id, or an abbreviation that only one release has.
    pub release: String,
}

/// Whether a release can be booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// It can, and new instances do.
    Current,
    /// It can.
    Installed,
    /// It must not: see the problem.
    Refused,
}

/// A release on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its id.
    pub id: ReleaseId,
    /// Whether it can be booted.
    pub state: ReleaseState,
    /// Why it must not be booted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When it was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed_at: Option<Timestamp>,
    /// The protocol that agent and guest init will speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// The key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    /// Digest of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_sha256: Option<Sha256Digest>,
    /// Digest of the initramfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initramfs_sha256: Option<Sha256Digest>,
    /// Instances that run on it.
    pub instances: usize,
}
