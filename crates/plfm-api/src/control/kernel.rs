//! Releases, as operators see them: where they are and how their boots go.

use std::collections::BTreeMap;

use jiff::Timestamp;
use plfm_release::{GuestInitVersion, InitramfsLabel, KernelLabel, ReleaseId};
use serde::{Deserialize, Serialize};

use super::{Generation, HostId};

/// What a release is to the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum KernelState {
    /// New instances boot it.
    Default,
    /// A share of new instances boots it.
    Canary {
        /// The share, in hundredths of a percent.
        weight: u16,
    },
    /// The default before: what a rollback goes to.
    Previous,
    /// The registry has it; nothing boots it.
    Available,
    /// No new instance boots it.
    Blocked {
        /// Why.
        reason: String,
    },
    /// The fleet was taken back from it: neither the default nor a rollback's target until somebody unblocks it.
    RolledBack {
        /// Why.
        reason: String,
    },
    /// The registry has it no more, or its signature is not trusted any more.
    Withdrawn {
        /// Why.
        reason: String,
    },
}

/// A line of `plfm admin kernels list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Kernel {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub release: ReleaseId,
    /// What it is to the fleet.
    #[serde(flatten)]
    pub state: KernelState,
    /// The kernel.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kernel: KernelLabel,
    /// The initramfs.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub initramfs: InitramfsLabel,
    /// Guest init's version.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub guest_init_version: GuestInitVersion,
    /// The protocol that guest init speaks.
    pub protocol: u32,
    /// Hosts that have it installed and could boot it.
    pub hosts: u64,
    /// Hosts in the fleet: neither revoked nor lost.
    pub hosts_active: u64,
    /// Instances that run on it.
    pub instances: u64,
    /// Boots that became ready, of those that count.
    pub boots_ready: u64,
    /// Boots that count: not those that were cancelled or failed by the customer's making.
    pub boots: u64,
    /// When it was first seen.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub found_at: Timestamp,
}

/// `plfm admin kernels show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KernelDetail {
    /// The line of the list.
    #[serde(flatten)]
    pub kernel: Kernel,
    /// SHA-256 of the signed manifest.
    pub manifest_sha256: String,
    /// The key that signed it.
    pub key_id: String,
    /// The oldest agent that may run it.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub min_agent_version: semver::Version,
    /// The protocols that it works with.
    pub supported_protocols: Vec<u32>,
    /// Boots by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// When it was the default, newest first: the generation in which it became it.
    pub default_in: Vec<Generation>,
    /// Hosts that could not run it, the first of them, and why.
    pub unable: Vec<KernelHost>,
    /// How many could not.
    pub unable_total: u64,
}

/// A host that cannot run a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KernelHost {
    /// The host.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub host: HostId,
    /// What people call it.
    pub name: String,
    /// Why not.
    pub reason: String,
}

/// Makes a release what new instances boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetDefault {
    /// The release: its id, either label, or a build id that only one has.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub release: String,
    /// Only if the fleet's generation is still this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_generation: Option<Generation>,
    /// Even if there are active hosts that could not run it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub despite_unable_hosts: bool,
    /// Why, for the log.
    #[cfg_attr(feature = "openapi", schema(max_length = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Takes the fleet back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// To which release; to the last known good one, if none is named.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only if the fleet's generation is still this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_generation: Option<Generation>,
    /// Even if there are active hosts that do not have it installed: they boot what they have until they fetched it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub despite_missing_hosts: bool,
    /// Even to a release that the fleet was taken back from before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub despite_earlier_rollback: bool,
    /// Why, for the log.
    #[cfg_attr(feature = "openapi", schema(max_length = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Keeps new instances from a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BlockRelease {
    /// The release: its id, either label, or a build id that only one has.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub release: String,
    /// Why: whoever comes next wants to know.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 512))]
    pub reason: String,
    /// Only if the fleet's generation is still this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_generation: Option<Generation>,
}

/// Allows a release again. Clears the mark of a rollback too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UnblockRelease {
    /// The release: its id, either label, or a build id that only one has.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub release: String,
    /// Only if the fleet's generation is still this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_generation: Option<Generation>,
    /// Why, for the log.
    #[cfg_attr(feature = "openapi", schema(max_length = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
