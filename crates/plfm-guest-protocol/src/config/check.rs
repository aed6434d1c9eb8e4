//! What can be checked of a config without the machine. The first wrong member is named, never its value.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use super::{
    CONFIG_VERSION, Config, ConfigError, FEATURES, Network, Secrets, VolumeMount, Workload,
    is_reserved_mountpoint,
};
use crate::cmdline::is_instance_id;
use crate::signal_number;

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

fn bad<T>(member: impl Into<String>, problem: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError {
        member: member.into(),
        problem: problem.into(),
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
        if self.pids_max == Some(0) {
            return bad("workload.pids_max", "is 0, with which nothing can start");
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
