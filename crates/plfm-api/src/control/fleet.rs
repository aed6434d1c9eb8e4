//! The fleet and its hosts, as operators see them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Generation, HostId, HostStatus, Target};

/// What a host is to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// It was heard of lately.
    Active,
    /// It takes no new instances.
    Draining,
    /// It has been silent for longer than the policy allows.
    Lost,
    /// It enrolled and was not heard of yet.
    Enrolled,
    /// Its certificate is not accepted any more.
    Revoked,
}

impl HostState {
    /// The name in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Lost => "lost",
            Self::Enrolled => "enrolled",
            Self::Revoked => "revoked",
        }
    }
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FleetHost {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: HostId,
    /// What people call it.
    pub name: String,
    /// What it is to the fleet.
    pub state: HostState,
    /// The agent's version.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub agent_version: semver::Version,
    /// The generation that it goes by.
    pub generation: Generation,
    /// When it enrolled.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub enrolled_at: Timestamp,
    /// When it was last heard of.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
    /// When its certificate ends.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub certificate_not_after: Timestamp,
    /// How it is, as it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<HostStatus>,
}

/// A change of a host's standing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HostChange {
    /// Why, for the log.
    #[cfg_attr(feature = "openapi", schema(max_length = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The fleet at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fleet {
    /// What hosts are told.
    pub target: Target,
    /// Hosts by state.
    pub hosts: BTreeMap<String, u64>,
    /// Active hosts that go by the target's generation.
    pub hosts_at_generation: u64,
    /// Active hosts whose new instances boot the target's default.
    pub hosts_at_default: u64,
    /// Active hosts that have the target's default installed.
    pub hosts_with_default: u64,
}
