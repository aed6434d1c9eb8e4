use jiff::Timestamp;
use plfm_release::ReleaseId;
use serde::{Deserialize, Serialize};

use crate::control::{Generation, HostId};

/// A list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Items<T> {
    /// Its items.
    pub items: Vec<T>,
}

/// What a host is and can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The agent's version.
    pub agent_version: String,
    /// Guest init protocols that the agent speaks.
    pub guest_init_protocols: Vec<u32>,
    /// The one channel whose releases it takes.
    pub channel: String,
    /// What runs the guests: `qemu-kvm` or `qemu-tcg` (emulation).
    pub vmm: String,
    /// Whether instances can have a network interface; if not, why.
    pub network: String,
    /// The link to the control plane, if the agent was told of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlLink>,
}

/// An agent's link to its control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlLink {
    /// Where the control plane is.
    pub url: String,
    /// What people call the host.
    pub host_name: String,
    /// The host's id; none before it has enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// Whether the last request was answered.
    pub connected: bool,
    /// When one was answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Timestamp>,
    /// What went wrong last, until it goes right again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ControlProblem>,
    /// The generation of the target that the host goes by; 0 before its first.
    pub generation: Generation,
    /// What that target makes the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<ReleaseId>,
    /// When the host's certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_not_after: Option<Timestamp>,
    /// Whether releases may be fetched now, for people: `open`, `open until …`, `closed until …`.
    pub window: String,
    /// What the target names and the host does not have yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<ReleaseId>,
    /// Whether the host takes no new instances.
    pub draining: bool,
    /// Boots that the control plane has not acknowledged yet.
    pub unreported_boots: u64,
}

/// What went wrong between an agent and its control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlProblem {
    /// Stable code.
    pub code: String,
    /// For people.
    pub detail: String,
    /// One thing to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// When.
    pub at: Timestamp,
}
