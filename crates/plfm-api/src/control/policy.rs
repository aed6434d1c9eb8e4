//! What operators settle once: cohorts, pins, when and how fast releases are brought to hosts.

use std::collections::{BTreeMap, BTreeSet};

use plfm_release::ReleaseId;
use serde::{Deserialize, Serialize};

use super::{Canary, Generation};

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the days need none")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    /// The same day for calculations.
    pub fn civil(self) -> jiff::civil::Weekday {
        use jiff::civil::Weekday as Day;
        match self {
            Self::Monday => Day::Monday,
            Self::Tuesday => Day::Tuesday,
            Self::Wednesday => Day::Wednesday,
            Self::Thursday => Day::Thursday,
            Self::Friday => Day::Friday,
            Self::Saturday => Day::Saturday,
            Self::Sunday => Day::Sunday,
        }
    }
}

/// A time of the week in which hosts may fetch releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MaintenanceWindow {
    /// On which days it opens.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Weekday>, min_items = 1))]
    pub days: BTreeSet<Weekday>,
    /// When it opens, local time: `02:30`. A time that the clocks skip is taken as much later as they jump; of one that
    /// comes twice, the first counts.
    #[cfg_attr(feature = "openapi", schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub start: String,
    /// How long it stays open, in minutes of real time: 1 to 10,080, a week.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 10080))]
    pub duration_minutes: u32,
    /// The time zone's IANA name: `Europe/Berlin`, `UTC`.
    pub time_zone: String,
}

/// What operators settle once. Replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// A release that a share of new instances boots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// What particular instances boot, by their name or id.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, String>))]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<String, ReleaseId>,
    /// What hosts bring here though nothing boots it yet.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub prefetch: BTreeSet<ReleaseId>,
    /// When releases may be fetched; at any time without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<MaintenanceWindow>,
    /// How many hosts may fetch at once; 0 for no bound.
    pub fetches_max: u32,
    /// How long a host may be silent before it counts as lost, in seconds.
    pub lost_after_seconds: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            canary: None,
            pins: BTreeMap::new(),
            prefetch: BTreeSet::new(),
            window: None,
            fetches_max: 100,
            lost_after_seconds: 300,
        }
    }
}

/// A policy to be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetPolicy {
    /// All of it.
    pub policy: Policy,
    /// Only if the fleet's generation is still this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_generation: Option<Generation>,
    /// Why, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The policy, and the generation of the fleet that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CurrentPolicy {
    /// All of it.
    pub policy: Policy,
    /// The fleet's generation.
    pub generation: Generation,
}
