//! The config: everything that a guest is told to be.

mod check;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::{EXEC_PORT, Sensitive};

/// The only `config_version`.
pub const CONFIG_VERSION: &str = "v1";

/// What a config may list in `required_features`: parts of the contract that an older guest init may not know.
pub const FEATURES: &[&str] = &[
    "output_stream",
    "exec",
    "user",
    "rlimits",
    "stop_signal",
    "secrets_data",
    "pids_max",
];

/// Longest grace period of a stop, in seconds: a VM that is asked to end does so within the hour.
pub(crate) const STOP_GRACE_SECONDS_MAX: u32 = 3_600;

/// Mount points that no volume may be at or under.
const RESERVED_MOUNTPOINTS: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// Why a config was refused. It names the member and never its value where that may be sensitive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the config's {member} {problem}")]
pub struct ConfigError {
    /// The member, `workload.argv`.
    pub member: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What a guest is told to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// [`CONFIG_VERSION`].
    pub config_version: String,
    /// The instance; must be the one of the hello.
    pub instance_id: String,
    /// Grows with every config that the host makes for the instance.
    pub generation: u64,
    /// Parts of the contract without which this config makes no sense; see [`FEATURES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_features: Vec<String>,
    /// The program.
    pub workload: Workload,
    /// The network; absent where the host gives none (then only `lo` is up).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// The volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<VolumeMount>,
    /// The secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Secrets>,
    /// The exec service.
    #[serde(default)]
    pub exec: ExecService,
    /// Where the workload's output goes; to the console, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputStream>,
}

/// The customer's program and what it runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Program and arguments; a program without a slash is looked up in PATH of `env`.
    pub argv: Vec<String>,
    /// Working directory; created when it is missing.
    #[serde(default = "root_directory")]
    pub cwd: String,
    /// The whole environment.
    #[serde(default)]
    pub env: BTreeMap<String, Sensitive>,
    /// User number; `user` wins over it.
    #[serde(default)]
    pub uid: u32,
    /// Group number; `user` wins over it.
    #[serde(default)]
    pub gid: u32,
    /// User as in an OCI image: `name`, `uid`, `name:group`, `uid:gid`, looked up in the image's own files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Supplementary groups, by name or number, beside those of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whether standard input comes over the output connection; `/dev/null` otherwise.
    #[serde(default)]
    pub stdin: bool,
    /// Whether the program gets a terminal.
    #[serde(default)]
    pub tty: bool,
    /// What asks it to end.
    #[serde(default = "default_stop_signal")]
    pub stop_signal: String,
    /// How long it may take to end, in seconds; at most an hour.
    #[serde(default = "default_stop_grace")]
    pub stop_grace_seconds: u32,
    /// Resource limits, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// How many processes and threads it may have at once (`pids.max` of its cgroup); if absent, guest init keeps
    /// some of the kernel's own limit back for exec sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u32>,
}

fn root_directory() -> String {
    "/".to_owned()
}

fn default_stop_signal() -> String {
    "SIGTERM".to_owned()
}

fn default_stop_grace() -> u32 {
    10
}

/// One resource limit (`setrlimit(2)`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Its name in lower case without `RLIMIT_`: `nofile`.
    pub name: String,
    /// The soft limit; absent for none.
    #[serde(default)]
    pub soft: Option<u64>,
    /// The hard limit; absent for none.
    #[serde(default)]
    pub hard: Option<u64>,
}

/// The network: static IPv6 on `eth0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The instance's address.
    pub overlay_ipv6: Ipv6Addr,
    /// The gateway; link-local, or any other address (then reached on the link).
    pub gateway_ipv6: Ipv6Addr,
    /// Prefix length of the address.
    #[serde(default = "default_prefix")]
    pub prefix_len: u8,
    /// Maximum transmission unit, in bytes: 1280 to 9000.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// Resolvers; nothing is written to `/etc/resolv.conf` if there are none.
    #[serde(default)]
    pub dns: Vec<std::net::IpAddr>,
    /// The host name.
    pub hostname: String,
}

fn default_prefix() -> u8 {
    128
}

fn default_mtu() -> u32 {
    1420
}

/// Whether a volume may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountMode {
    /// Read and write.
    Rw,
    /// Read only.
    Ro,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// `volume`.
    pub kind: String,
    /// The volume's name, for messages: 1 to 128 bytes, no control characters.
    pub name: String,
    /// Its device: `/dev/vdc`, …
    pub device: String,
    /// Where it goes: absolute, no `.` or `..`, not reserved.
    pub mountpoint: String,
    /// `ext4`.
    #[serde(default = "default_fs_type")]
    pub fs_type: String,
    /// Whether it may be written.
    pub mode: MountMode,
}

fn default_fs_type() -> String {
    "ext4".to_owned()
}

/// The secrets file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Whether the workload must not start without them.
    #[serde(default)]
    pub required: bool,
    /// Where the file goes; under `/run`, but not in guest init's own `/run/platform`.
    #[serde(default = "default_secrets_path")]
    pub path: String,
    /// Its mode in octal: `0400` or `0440`.
    #[serde(default = "default_secrets_mode")]
    pub mode: String,
    /// Its owner.
    #[serde(default)]
    pub owner_uid: u32,
    /// Its group.
    #[serde(default)]
    pub owner_gid: u32,
    /// The format's name, for the host's records: `data` is always a [`crate::SecretsFile`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Which bundle this is, for the host's records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_version_id: Option<String>,
    /// The file's content; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Sensitive>,
}

fn default_secrets_path() -> String {
    "/run/secrets/platform.env".to_owned()
}

fn default_secrets_mode() -> String {
    "0400".to_owned()
}

impl Secrets {
    /// The mode as a number, if it is one of the two that are allowed.
    pub fn mode_bits(&self) -> Option<u32> {
        match self.mode.as_str() {
            "0400" | "400" => Some(0o400),
            "0440" | "440" => Some(0o440),
            _ => None,
        }
    }
}

/// The exec service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecService {
    /// The vsock port it listens on.
    #[serde(default = "default_exec_port")]
    pub vsock_port: u32,
    /// Whether it runs.
    #[serde(default)]
    pub enabled: bool,
}

fn default_exec_port() -> u32 {
    EXEC_PORT
}

impl Default for ExecService {
    fn default() -> Self {
        Self {
            vsock_port: EXEC_PORT,
            enabled: false,
        }
    }
}

/// Where the workload's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputStream {
    /// The vsock port on the host that takes it.
    pub vsock_port: u32,
}

/// Whether a volume's mount point is at or under one that the system needs. `path` is absolute and normal.
pub fn is_reserved_mountpoint(path: &str) -> bool {
    RESERVED_MOUNTPOINTS.iter().any(|reserved| {
        path == *reserved
            || path
                .strip_prefix(reserved)
                .is_some_and(|rest| rest.starts_with('/'))
    })
}
