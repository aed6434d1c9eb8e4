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
    /// Why it stays on the host, for people: `current`, `instances run it`, `number 2 of the last 3`. Nothing: the next
    /// collection removes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_because: Vec<String>,
}

/// Fetches a release from the registry and installs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchRelease {
    /// The release's id, or an abbreviation that only one release in the registry has.
    pub release: String,
    /// Whether it becomes the current release, which new instances boot.
    #[serde(default)]
    pub make_current: bool,
}

/// Keeps an installed release on the host whatever its age, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinRelease {
    /// The release's id, or an abbreviation that only one release has.
    pub release: String,
    /// Whether it is kept.
    pub pinned: bool,
}

/// What the registry says, as this host last trusted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// Where it is read from.
    pub mirrors: Vec<String>,
    /// When the host last found it fresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
    /// Until when that is fresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The version of the keyring that came with it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring_version: Option<u64>,
    /// Why the last attempt failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<RegistryProblem>,
    /// The releases in it.
    pub releases: Vec<AvailableRelease>,
    /// What is being fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetching: Vec<Fetching>,
}

/// Why the registry could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryProblem {
    /// Stable code.
    pub code: String,
    /// For people.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

/// A release in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailableRelease {
    /// Its id.
    pub id: ReleaseId,
    /// What its files take, in bytes; absent where the registry does not have them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Whether it is installed on this host.
    pub installed: bool,
}

/// A release on its way to this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetching {
    /// Its id.
    pub id: ReleaseId,
    /// What has come, in bytes.
    pub bytes_done: u64,
    /// What there is to come, in bytes.
    pub bytes_total: u64,
}

/// What a collection removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// The releases that are gone.
    pub removed: Vec<ReleaseId>,
    /// What was to go and stays, and why.
    pub kept: Vec<String>,
    /// How much that freed, in bytes.
    pub freed_bytes: u64,
}
