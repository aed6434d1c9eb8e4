use serde::{Deserialize, Serialize};

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
}
