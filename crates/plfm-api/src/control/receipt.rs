//! What a change leaves in the operator's hand; and pages of lists.

use plfm_release::ReleaseId;
use serde::{Deserialize, Serialize};

use super::Generation;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to give as `cursor` for the next part; none at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Receipt {
    /// What changed, in words: `default set to 6.1.192-…`.
    pub summary: String,
    /// Whether anything changed: what is so already is no error.
    pub changed: bool,
    /// The generation from now on.
    pub generation: Generation,
    /// The generation before.
    pub previous_generation: Generation,
    /// The event in the log; none where nothing changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
    /// The release that it is about.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
    /// The rollout that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// What was there before, if a release was replaced.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_release: Option<ReleaseId>,
    /// Why that one, if the choice was the control plane's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What an operator should know: hosts that do not have it yet, hosts that never will.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The command that takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
    /// The command that shows how it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<String>,
    /// The request, as in the log.
    pub request_id: String,
}
