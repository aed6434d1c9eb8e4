//! What hosts shall boot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plfm_release::ReleaseId;
use serde::{Deserialize, Serialize};

use super::MaintenanceWindow;

/// A weight of everything, in hundredths of a percent.
pub const WEIGHT_MAX: u16 = 10_000;

/// Counts the changes of what the fleet is told. It only rises; an agent never applies an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A release that a share of new instances boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The release.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub release: ReleaseId,
    /// The share of new instances, in hundredths of a percent: 0 to [`WEIGHT_MAX`]. With a cohort, of its hosts' instances.
    #[cfg_attr(feature = "openapi", schema(maximum = 10000))]
    pub weight: u16,
    /// Only on some hosts, and so many boots on each. Hosts × boots is a bound that holds whoever is cut off from whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<CanaryCohort>,
}

/// The first hosts that boot a release, and how often each may begin to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CanaryCohort {
    /// Hosts whose place in the line for the release is below this; all hosts without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts_below: Option<u32>,
    /// Boots that each of them may begin, counted since `since`: durably, so that a restart begins no more.
    pub boots_each: u32,
    /// The generation in which the rollout began: counts belong to it, and a later rollout has its own.
    pub since: Generation,
}

/// What the control plane wants of every host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Target {
    /// Which version of the target this is.
    pub generation: Generation,
    /// What new instances boot. None until an operator set one: hosts go on with what they have.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<ReleaseId>,
    /// The way back: what a rollback would make the default. Hosts keep it.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ReleaseId>,
    /// What a share of new instances boots instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// What particular instances boot, by their name or id.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, String>))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<String, ReleaseId>,
    /// What hosts bring here though nothing boots it yet.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub prefetch: BTreeSet<ReleaseId>,
    /// What no new instance boots, whatever else is said.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub blocked: BTreeSet<ReleaseId>,
    /// When releases may be fetched; at any time without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<MaintenanceWindow>,
}
