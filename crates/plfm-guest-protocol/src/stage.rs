//! The stages of a boot and the reasons for which one can fail.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A stage of guest init's boot, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// `/proc`, `/sys` and `/dev` are mounted.
    KernelFilesystems,
    /// hello, config, ack over vsock.
    Handshake,
    /// `vda` at `/mnt/lower`, read-only.
    RootDisk,
    /// `vdb` at `/mnt/scratch`.
    ScratchDisk,
    /// The overlay of both at `/mnt/newroot`.
    Overlay,
    /// The overlay becomes `/`.
    SwitchRoot,
    /// Addresses, routes, names.
    Network,
    /// The secrets file.
    Secrets,
    /// The customer's volumes.
    Volumes,
    /// The workload is started.
    Workload,
}

impl Stage {
    /// All stages, in the order in which they run.
    pub const ALL: [Self; 10] = [
        Self::KernelFilesystems,
        Self::Handshake,
        Self::RootDisk,
        Self::ScratchDisk,
        Self::Overlay,
        Self::SwitchRoot,
        Self::Network,
        Self::Secrets,
        Self::Volumes,
        Self::Workload,
    ];

    /// The stage's name on the wire, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KernelFilesystems => "kernel_filesystems",
            Self::Handshake => "handshake",
            Self::RootDisk => "root_disk",
            Self::ScratchDisk => "scratch_disk",
            Self::Overlay => "overlay",
            Self::SwitchRoot => "switch_root",
            Self::Network => "network",
            Self::Secrets => "secrets",
            Self::Volumes => "volumes",
            Self::Workload => "workload",
        }
    }

    /// How long the stage may take, in milliseconds. After that guest init reports the failure and reboots: a boot
    /// that hangs in a mount must not look like one that is merely slow.
    pub fn deadline_ms(self) -> u64 {
        match self {
            Self::KernelFilesystems | Self::Overlay | Self::SwitchRoot | Self::Secrets => 5_000,
            // The handshake has its own 5 s; the margin lets it report by itself.
            Self::Handshake => crate::HANDSHAKE_MS_MAX + 1_000,
            // A journal may have to be replayed.
            Self::RootDisk | Self::ScratchDisk => 15_000,
            Self::Volumes => 60_000,
            Self::Network | Self::Workload => 10_000,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a boot failed, or a workload ended by itself in a bad way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No handshake, or not in time.
    HandshakeFailed,
    /// The config was malformed, or asks for what this guest init does not know.
    ConfigParseFailed,
    /// The root file system could not be put together.
    RootFailed,
    /// The network could not be set up, or did not come out as configured.
    NetConfigFailed,
    /// Secrets are required and were not given.
    SecretsMissing,
    /// The secrets file could not be written, or its content is malformed.
    SecretsWriteFailed,
    /// A volume or a kernel file system could not be mounted.
    MountFailed,
    /// The workload could not be started.
    WorkloadStartFailed,
    /// The workload ended by itself with a failure.
    WorkloadCrashed,
}

impl Reason {
    /// The reason's name on the wire, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HandshakeFailed => "handshake_failed",
            Self::ConfigParseFailed => "config_parse_failed",
            Self::RootFailed => "root_failed",
            Self::NetConfigFailed => "net_config_failed",
            Self::SecretsMissing => "secrets_missing",
            Self::SecretsWriteFailed => "secrets_write_failed",
            Self::MountFailed => "mount_failed",
            Self::WorkloadStartFailed => "workload_start_failed",
            Self::WorkloadCrashed => "workload_crashed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
