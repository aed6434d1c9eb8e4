use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use jiff::Timestamp;
use plfm_release::ReleaseId;
use serde::{Deserialize, Serialize};

use crate::{BootReport, InstanceImage, PullPolicy};

/// Scratch disk of an instance that asks for none, in MiB.
pub const SCRATCH_MIB_DEFAULT: u32 = 512;

/// Creates and starts an instance.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateInstance {
    /// What people call it, and what a release is pinned to: 1 to 63 of `a-z`, `0-9`, `-` and `.`. Names need not be
    /// unique: a pin holds for all instances that have its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The customer's root disk: an ext4, erofs or squashfs image, absolute path. Never written. This or `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_disk: Option<String>,
    /// The customer's image instead: `oci:DIR[:NAME]`, `docker-archive:FILE[:NAME]` (absolute paths) or a registry's
    /// reference. What it says about its program holds where `workload` says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether the image's registry is asked.
    #[serde(default)]
    pub pull: PullPolicy,
    /// Size of the scratch disk that is made for it, in MiB.
    #[serde(default = "default_scratch_mib")]
    pub scratch_mib: u32,
    /// An ext4 image to use as scratch disk instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch_disk: Option<String>,
    /// Volumes, in the order of their devices.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// The program.
    pub workload: Workload,
    /// Content of the secrets file. Kept in memory only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<String>,
    /// Mode of the secrets file in octal: `0400`, if absent, or `0440`. Refused without `secrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_mode: Option<String>,
    /// Owner of the secrets file; 0:0, if absent. Refused without `secrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_owner: Option<SecretsOwner>,
    /// Whether it gets a network interface.
    #[serde(default)]
    pub network: NetworkMode,
    /// Memory and processors.
    #[serde(default)]
    pub resources: Resources,
    /// The release to boot, by id or abbreviation; if absent, what the control plane and the host choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
}

fn default_scratch_mib() -> u32 {
    SCRATCH_MIB_DEFAULT
}

/// Who owns a secrets file, by number: names are the image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsOwner {
    /// User.
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
}

/// Whether an instance gets a network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Where the host can.
    #[default]
    Auto,
    /// Or the instance is refused.
    On,
    /// No.
    Off,
}

/// Memory and processors of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub vcpus: u8,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            memory_mib: 128,
            vcpus: 1,
        }
    }
}

/// Whether a volume may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeMode {
    /// It may.
    #[default]
    Rw,
    /// It may not, by the VMM and by the guest.
    Ro,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The ext4 image, absolute path.
    pub disk: String,
    /// Where the workload sees it.
    pub mountpoint: String,
    /// Whether it may be written.
    #[serde(default)]
    pub mode: VolumeMode,
}

/// The program of an instance.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Program and arguments. With an image: the arguments of its entrypoint, instead of its own.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Another entrypoint than the image's, whose arguments then do not count either. Refused with a root disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// User as in an OCI image: `name`, `uid`, `name:group`, `uid:gid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Supplementary groups, by name or number, beside those of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Resource limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// How many processes and threads it may have at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u32>,
    /// What asks it to end; SIGTERM, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How long it may take to end, in seconds; 10, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_grace_seconds: Option<u32>,
    /// Whether it gets a terminal.
    #[serde(default)]
    pub tty: bool,
}

/// One resource limit of a program (`setrlimit(2)`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// Its name in lower case without `RLIMIT_`: `nofile`.
    pub name: String,
    /// The soft limit; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<u64>,
    /// The hard limit; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard: Option<u64>,
}

/// Where an instance is in its life.
///
/// ```text
/// preparing --> booting --> running --> stopping --> stopped
///     |            |           |                        ^
///     +--> failed <+           +-- the workload ended --+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Disks, sockets and network are made.
    Preparing,
    /// The VM runs; guest init does its stages.
    Booting,
    /// The workload runs.
    Running,
    /// It was asked to stop.
    Stopping,
    /// The VM is gone, and it had run the workload.
    Stopped,
    /// The VM is gone, and it had not.
    Failed,
}

impl InstanceState {
    /// The state's name in JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more will happen to it.
    pub fn is_over(self) -> bool {
        match self {
            Self::Stopped | Self::Failed => true,
            Self::Preparing | Self::Booting | Self::Running | Self::Stopping => false,
        }
    }
}

/// How a workload ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceExit {
    /// Its exit code, if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that killed it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the guest's kernel killed something of it for want of memory.
    pub oom_killed: bool,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Why it counts as a failure, for programs: `workload_crashed`, `vm_lost`, `killed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id, a ULID.
    pub id: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is in its life.
    pub state: InstanceState,
    /// The release it boots.
    pub release: ReleaseId,
    /// Why this release: `requested`, `pinned`, `canary`, `default` or `current`.
    pub release_reason: String,
    /// The same for people, with what was passed over for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<String>,
    /// The image that it runs from, if not from a root disk that was brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<InstanceImage>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Its address, if it has a network interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv6Addr>,
    /// Why it has no network interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_network: Option<String>,
    /// How the boot went, as soon as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootReport>,
    /// How the workload ended, as soon as it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<InstanceExit>,
    /// Its end could not be written to the host's disk: the agent's next start will not know it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end_unsaved: bool,
}

/// Asks an instance to stop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopInstance {
    /// Grace in seconds, instead of the workload's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u32>,
}

/// Sends the workload a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalInstance {
    /// Its name, with or without `SIG`.
    pub signal: String,
}
