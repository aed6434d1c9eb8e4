//! What happened: the append-only log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Actor {
    /// `operator`, `host` or `system`.
    pub kind: String,
    /// The token's or the host's id; of the system, the part of it.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where the request came from: an IP address. None for the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The request, as in the answer and in the control plane's own log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// One thing that happened. Never changed, never removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Its place among all, from 1, without gaps.
    pub position: u64,
    /// What it is about: `fleet`, `rollout/<id>`, `release/<id>`, `host/<id>`, `token/<id>` or `enrollment-token/<id>`.
    pub aggregate: String,
    /// Its place among those about the same, from 1, without gaps.
    pub sequence: u64,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What: `default_set`, `rolled_back`, `release_blocked`, …
    pub kind: String,
    /// The rest of it.
    pub detail: serde_json::Value,
}

/// Some of the log, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventPage {
    /// The events.
    pub items: Vec<Event>,
    /// What to give as `after` for what comes next. Of a log that was read to its end, its end.
    pub next_after: u64,
    /// Whether there is more already.
    pub more: bool,
}
