//! Looking at this host: files below `/proc` and `/sys`, programs on `PATH`. Nothing is changed.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::HostFacts;
use crate::backend::{QemuPrograms, is_program, on_path};
use crate::firecracker::Isolation;
use crate::kvm::{KvmFact, cpu_flags};
use crate::tap::TapSupport;
use crate::wish::{VmmWish, find_cgroup, find_firecracker};

/// Where administrators' programs are, which a user's `PATH` may lack.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// What keeps clocks right, by the name of its process.
const CLOCK_KEEPERS: [&str; 5] = ["chronyd", "systemd-timesyn", "ntpd", "ptp4l", "phc2sys"];

impl HostFacts {
    /// Looks at this host for what is wanted. `state_dir` is where instances are, or will be. Blocks, for some seconds
    /// where KVM hangs.
    pub fn probe(wish: &VmmWish, state_dir: &Path) -> HostFacts {
        let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let cpuinfo = text("/proc/cpuinfo");
        HostFacts {
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: field(&cpuinfo, "model name").unwrap_or_else(|| "unknown processor".to_owned()),
            is_guest: cpu_flags(&cpuinfo).any(|flag| flag == "hypervisor"),
            kvm: KvmFact::detect(wish.probe.as_ref()),
            firecracker: find_firecracker(env, &wish.jail).map(|found| {
                let jail = match &found.isolation {
                    Isolation::Jailed(jailer) => format!("jailed as {}", jailer.user),
                    Isolation::DangerouslyWithoutJail => "WITHOUT ITS JAIL".to_owned(),
                };
                format!("{} {}, {jail}", found.program.display(), found.version)
            }),
            qemu: QemuPrograms::find(env)
                .map(|found| format!("{} and {}", found.qemu.display(), found.vsock_daemon.display()))
                .map_err(|error| error.to_string()),
            cgroup_controllers: find_cgroup("").map(|cgroup| cgroup.controllers),
            tap: TapSupport::detect(),
            forwards_ipv6: flag("/proc/sys/net/ipv6/conf/all/forwarding"),
            nft: program("nft"),
            mke2fs: program("mke2fs"),
            files_max: getrlimit(Resource::Nofile).current,
            disk_free_bytes: free_bytes(state_dir),
            memory_bytes: memory_bytes(&text("/proc/meminfo")),
            has_smt: flag("/sys/devices/system/cpu/smt/active"),
            merges_pages: flag("/sys/kernel/mm/ksm/run"),
            has_swap: text("/proc/swaps").lines().count() > 1,
            user_namespaces_max: text("/proc/sys/user/max_user_namespaces").trim().parse().ok(),
            clock_keeper: clock_keeper(),
        }
    }
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn flag(path: &str) -> Option<bool> {
    match text(path).trim() {
        "" => None,
        value => Some(value != "0"),
    }
}

/// The first value of a key in a file of `key : value` lines.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == key)
        .map(|(_, value)| value.trim().to_owned())
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let kib: u64 = field(meminfo, "MemTotal")?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()?;
    kib.checked_mul(1024)
}

fn program(name: &str) -> Option<PathBuf> {
    on_path(&std::env::var_os("PATH").unwrap_or_default(), name).or_else(|| {
        SBIN.iter()
            .map(|dir| Path::new(dir).join(name))
            .find(|file| is_program(file))
    })
}

/// Of the directory, or of the nearest one above it that is there.
fn free_bytes(dir: &Path) -> Option<u64> {
    let there = dir.ancestors().find(|dir| dir.is_dir())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

fn clock_keeper() -> Option<String> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("comm")).ok())
        .find(|name| CLOCK_KEEPERS.contains(&name.trim()))
        .map(|name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accelerator::AcceleratorChoice;
    use crate::choice::VmmChoice;
    use crate::wish::JailWish;

    #[test]
    fn this_host_can_be_looked_at() {
        let wish = VmmWish {
            vmm: VmmChoice::Auto,
            accelerator: AcceleratorChoice::Auto,
            jail: JailWish::DangerouslyWithoutJail,
            probe: None,
        };
        let facts = HostFacts::probe(&wish, Path::new("/nowhere/at/all"));
        assert!(!facts.kernel.is_empty());
        assert!(facts.memory_bytes.is_some() && facts.disk_free_bytes.is_some());
        assert!(facts.checks().len() > 15);
    }

    #[test]
    fn values_are_found_by_their_whole_key() {
        let text = "processor\t: 0\nmodel name\t: A: B\nMemTotal:  2048 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A: B"));
        assert_eq!(field(text, "model"), None);
        assert_eq!(memory_bytes(text), Some(2 * 1024 * 1024));
    }
}
