//! What can be checked of a config without the machine. The first wrong member is named, never its value.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use super::{
    CONFIG_VERSION, Config, ConfigError, FEATURES, Network, Rlimit, STOP_GRACE_SECONDS_MAX, Secrets,
    VolumeMount, Workload, is_reserved_mountpoint,
};
use crate::cmdline::is_instance_id;
use crate::{CONTROL_PORT, signal_number};

const ARGV_MAX: usize = 4_096;
const ENV_MAX: usize = 4_096;
/// `/dev/vdc` to `/dev/vdz`.
const VOLUMES_MAX: usize = 24;
const VOLUME_NAME_BYTES_MAX: usize = 128;
const DNS_MAX: usize = 8;
const GROUPS_MAX: usize = 64;
/// A user or group: twice what `useradd` allows, for `user:group` and numbers.
const USER_BYTES_MAX: usize = 128;
/// PATH_MAX and NAME_MAX of Linux (`linux/limits.h`), the NUL not counted.
const PATH_BYTES_MAX: usize = 4_095;
const NAME_BYTES_MAX: usize = 255;
/// Guest init's own directory: its boot log is there.
const OWN_DIRECTORY: &str = "/run/platform";
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

fn bad<T>(member: impl Into<String>, problem: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError {
        member: member.into(),
        problem: problem.into(),
    })
}

/// Whether `path` is absolute, has no empty, `.` or `..` component and no NUL, and is as short as Linux wants it.
fn is_normal_absolute(path: &str) -> bool {
    let is_name = |part: &str| (1..=NAME_BYTES_MAX).contains(&part.len()) && part != "." && part != "..";
    path.len() <= PATH_BYTES_MAX
        && !path.contains('\0')
        && path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(is_name))
}

fn is_user(text: &str) -> bool {
    text.len() <= USER_BYTES_MAX && !text.contains(char::is_control)
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
        if self
            .output
            .as_ref()
            .is_some_and(|output| output.vsock_port == CONTROL_PORT)
        {
            return bad("output.vsock_port", "is that of the control connection");
        }
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
        if !self.cwd.starts_with('/') || self.cwd.contains('\0') || self.cwd.len() > PATH_BYTES_MAX {
            return bad("workload.cwd", "is not an absolute path of at most 4095 bytes");
        }
        if self.user.as_deref().is_some_and(|user| !is_user(user)) {
            return bad("workload.user", "is not a user of at most 128 bytes");
        }
        if self.groups.len() > GROUPS_MAX || !self.groups.iter().all(|group| is_user(group)) {
            return bad(
                "workload.groups",
                "are not at most 64 groups of at most 128 bytes each",
            );
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
        if self.stop_grace_seconds > STOP_GRACE_SECONDS_MAX {
            return bad(
                "workload.stop_grace_seconds",
                format!("is more than {STOP_GRACE_SECONDS_MAX}"),
            );
        }
        if self.pids_max == Some(0) {
            return bad("workload.pids_max", "is 0, with which nothing can start");
        }
        check_rlimits(&self.rlimits)
    }
}

fn check_rlimits(limits: &[Rlimit]) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for limit in limits {
        if !RLIMITS.contains(&limit.name.as_str()) {
            return bad("workload.rlimits", "names a limit that Linux does not have");
        }
        if !names.insert(&limit.name) {
            return bad("workload.rlimits", format!("has {} twice", limit.name));
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

impl Network {
    fn check(&self) -> Result<(), ConfigError> {
        if !(1280..=9000).contains(&self.mtu) {
            return bad("network.mtu", "is not 1280 to 9000");
        }
        if self.prefix_len == 0 || self.prefix_len > 128 {
            return bad("network.prefix_len", "is not 1 to 128");
        }
        let unusable = |address: &Ipv6Addr| {
            address.is_unspecified()
                || address.is_multicast()
                || address.is_loopback()
                || address.to_ipv4_mapped().is_some()
        };
        if unusable(&self.overlay_ipv6) {
            return bad("network.overlay_ipv6", "is not a unicast address");
        }
        if unusable(&self.gateway_ipv6) || self.gateway_ipv6 == self.overlay_ipv6 {
            return bad("network.gateway_ipv6", "is not another unicast address");
        }
        if self.dns.len() > DNS_MAX {
            return bad("network.dns", format!("has more than {DNS_MAX} entries"));
        }
        if self
            .dns
            .iter()
            .any(|address| address.is_unspecified() || address.is_multicast())
        {
            return bad("network.dns", "has an address that no resolver can have");
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
        let length = self.name.len();
        if !(1..=VOLUME_NAME_BYTES_MAX).contains(&length) || self.name.contains(char::is_control) {
            return bad(
                format!("{member}.name"),
                "is not 1 to 128 bytes without control characters",
            );
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
        if self.path == OWN_DIRECTORY || self.path.starts_with(&format!("{OWN_DIRECTORY}/")) {
            return bad("secrets.path", format!("is at or under {OWN_DIRECTORY}"));
        }
        Ok(())
    }
}
