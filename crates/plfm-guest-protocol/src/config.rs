//! The config: everything that a guest is told to be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::cmdline::is_instance_id;
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
];

/// Mount points that no volume may be at or under.
const RESERVED_MOUNTPOINTS: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];
const ARGV_MAX: usize = 4_096;
const ENV_MAX: usize = 4_096;
const VOLUMES_MAX: usize = 24;
const DNS_MAX: usize = 8;
const RLIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Why a config was refused. It names the member and never its value where that may be sensitive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the config's {member} {problem}")]
pub struct ConfigError {
    /// The member, `workload.argv`.
    pub member: String,
    /// What is wrong with it.
    pub problem: String,
}

fn bad<T>(member: impl Into<String>, problem: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError {
        member: member.into(),
        problem: problem.into(),
    })
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
    /// How long it may take to end, in seconds.
    #[serde(default = "default_stop_grace")]
    pub stop_grace_seconds: u32,
    /// Resource limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
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
    /// The volume's name, for messages.
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
    /// Where the file goes; under `/run`.
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

/// Whether `path` is absolute and has no empty, `.` or `..` component and no NUL.
fn is_normal_absolute(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        !path.contains('\0')
            && rest
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..")
    })
}

impl Config {
    /// Checks everything that can be checked without the machine. `instance_id` is the one of the hello.
    ///
    /// # Errors
    /// [`ConfigError`] with the first member that is wrong.
    pub fn check(&self, instance_id: &str) -> Result<(), ConfigError> {
        if self.config_version != CONFIG_VERSION {
            return bad("config_version", format!("is not {CONFIG_VERSION:?}"));
        }
        if self.instance_id != instance_id || !is_instance_id(&self.instance_id) {
            return bad("instance_id", "is not that of this instance");
        }
        if let Some(unknown) = self
            .required_features
            .iter()
            .find(|name| !FEATURES.contains(&name.as_str()))
        {
            let shown: String = unknown.chars().take(64).collect();
            return bad(
                "required_features",
                format!("names {shown:?}, which this guest init does not know"),
            );
        }
        self.workload.check()?;
        self.network.iter().try_for_each(Network::check)?;
        self.check_mounts()?;
        self.secrets.iter().try_for_each(Secrets::check)?;
        for (member, port) in [
            ("exec.vsock_port", Some(self.exec.vsock_port)),
            (
                "output.vsock_port",
                self.output.as_ref().map(|output| output.vsock_port),
            ),
        ] {
            if matches!(port, Some(0 | u32::MAX)) {
                return bad(member, "is not a port");
            }
        }
        Ok(())
    }

    fn check_mounts(&self) -> Result<(), ConfigError> {
        if self.mounts.len() > VOLUMES_MAX {
            return bad("mounts", format!("has more than {VOLUMES_MAX} entries"));
        }
        let (mut devices, mut mountpoints) = (BTreeSet::new(), BTreeSet::new());
        for (index, mount) in self.mounts.iter().enumerate() {
            mount.check(&format!("mounts[{index}]"))?;
            if !devices.insert(&mount.device) {
                return bad(format!("mounts[{index}].device"), "is there twice");
            }
            if !mountpoints.insert(&mount.mountpoint) {
                return bad(format!("mounts[{index}].mountpoint"), "is there twice");
            }
        }
        Ok(())
    }
}

impl Workload {
    fn check(&self) -> Result<(), ConfigError> {
        if self.argv.first().is_none_or(String::is_empty) {
            return bad("workload.argv", "has no program");
        }
        if self.argv.len() > ARGV_MAX || self.env.len() > ENV_MAX {
            return bad(
                "workload",
                format!("has more than {ARGV_MAX} arguments or {ENV_MAX} environment entries"),
            );
        }
        if self.argv.iter().any(|arg| arg.contains('\0')) {
            return bad("workload.argv", "holds a NUL");
        }
        if !self.cwd.starts_with('/') || self.cwd.contains('\0') {
            return bad("workload.cwd", "is not an absolute path");
        }
        for (key, value) in &self.env {
            if key.is_empty() || key.contains(['=', '\0']) || value.reveal().contains('\0') {
                return bad(
                    "workload.env",
                    "has an entry with an empty key, `=` in a key, or a NUL",
                );
            }
        }
        if signal_number(&self.stop_signal).is_none() {
            return bad("workload.stop_signal", "is not a signal");
        }
        if self.stop_grace_seconds > 3_600 {
            return bad("workload.stop_grace_seconds", "is more than 3600");
        }
        for limit in &self.rlimits {
            if !RLIMITS.contains(&limit.name.as_str()) {
                return bad("workload.rlimits", "names a limit that Linux does not have");
            }
            let (soft, hard) = (limit.soft.unwrap_or(u64::MAX), limit.hard.unwrap_or(u64::MAX));
            if soft > hard {
                return bad(
                    "workload.rlimits",
                    format!("has a soft {} above the hard one", limit.name),
                );
            }
        }
        Ok(())
    }
}

impl Network {
    fn check(&self) -> Result<(), ConfigError> {
        if !(1280..=9000).contains(&self.mtu) {
            return bad("network.mtu", "is not 1280 to 9000");
        }
        if self.prefix_len == 0 || self.prefix_len > 128 {
            return bad("network.prefix_len", "is not 1 to 128");
        }
        let unusable =
            |address: &Ipv6Addr| address.is_unspecified() || address.is_multicast() || address.is_loopback();
        if unusable(&self.overlay_ipv6) {
            return bad("network.overlay_ipv6", "is not a unicast address");
        }
        if unusable(&self.gateway_ipv6) || self.gateway_ipv6 == self.overlay_ipv6 {
            return bad("network.gateway_ipv6", "is not another unicast address");
        }
        if self.dns.len() > DNS_MAX {
            return bad("network.dns", format!("has more than {DNS_MAX} entries"));
        }
        let label = |part: &str| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        if self.hostname.len() > 64 || !self.hostname.split('.').all(label) {
            return bad("network.hostname", "is not a host name of at most 64 characters");
        }
        Ok(())
    }
}

impl VolumeMount {
    fn check(&self, member: &str) -> Result<(), ConfigError> {
        if self.kind != "volume" {
            return bad(format!("{member}.kind"), "is not \"volume\"");
        }
        if self.fs_type != "ext4" {
            return bad(format!("{member}.fs_type"), "is not \"ext4\"");
        }
        let disk = self
            .device
            .strip_prefix("/dev/vd")
            .and_then(|letter| letter.chars().next());
        if self.device.len() != "/dev/vdX".len() || !disk.is_some_and(|letter| ('c'..='z').contains(&letter))
        {
            return bad(format!("{member}.device"), "is not /dev/vdc to /dev/vdz");
        }
        if !is_normal_absolute(&self.mountpoint) {
            return bad(
                format!("{member}.mountpoint"),
                "is not an absolute path without `.`, `..` and `//`, or is `/`",
            );
        }
        if is_reserved_mountpoint(&self.mountpoint) {
            return bad(
                format!("{member}.mountpoint"),
                "is at or under /proc, /sys, /dev, /run or /tmp",
            );
        }
        Ok(())
    }
}

impl Secrets {
    fn check(&self) -> Result<(), ConfigError> {
        if self.mode_bits().is_none() {
            return bad("secrets.mode", "is neither 0400 nor 0440");
        }
        if !is_normal_absolute(&self.path) || !self.path.starts_with("/run/") {
            return bad(
                "secrets.path",
                "is not an absolute path under /run, without `.`, `..` and `//`",
            );
        }
        Ok(())
    }
}

/// The number of a signal by name (`SIGTERM`, `TERM`, `SIGRTMIN+3`) or number, as OCI images write them.
pub fn signal_number(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    // The C library keeps 32 and 33 for itself: SIGRTMIN is 34, SIGRTMAX 64.
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let text = text.to_ascii_uppercase();
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    let offset = |rest: &str, sign: char| {
        if rest.is_empty() {
            Some(0)
        } else {
            rest.strip_prefix(sign)?.parse::<i32>().ok()
        }
    };
    let realtime = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => offset(rest, '+').map(|n| RTMIN.saturating_add(n)),
        (_, Some(rest)) => offset(rest, '-').map(|n| RTMAX.saturating_sub(n)),
        (None, None) => NAMES
            .iter()
            .position(|known| *known == name)
            .and_then(|index| i32::try_from(index + 1).ok()),
    };
    realtime.filter(|number| (1..=RTMAX).contains(number))
}
