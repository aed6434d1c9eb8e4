//! What guest init and its contract need of a kernel, by purpose.
//!
//! The fragment asks for options; this list is about what they are there for. A configuration of somebody's own that
//! forgets one still builds and boots, and fails in a customer's VM: a controller that is not there, a root disk that
//! can't be mounted. `docs/kernel.md` has the same table; a test holds the two together.

use std::fmt;

use super::config::Configured;

/// A purpose, and the options without which it is not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelNeed {
    /// What the options are for.
    pub purpose: &'static str,
    /// Options, without `CONFIG_`, that must all be built in.
    pub options: &'static [&'static str],
}

/// What a configuration lacks for one purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmetNeed {
    /// What is not possible.
    pub purpose: &'static str,
    /// The options, without `CONFIG_`, that are not built in.
    pub missing: Vec<&'static str>,
}

impl fmt::Display for UnmetNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.purpose)?;
        for (index, option) in self.missing.iter().enumerate() {
            write!(f, "{}CONFIG_{option}", if index == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

const fn need(purpose: &'static str, options: &'static [&'static str]) -> KernelNeed {
    KernelNeed { purpose, options }
}

/// What every kernel that guests boot must have.
pub const KERNEL_NEEDS: &[KernelNeed] = &[
    need("entry through PVH as a guest of KVM", &["PVH", "KVM_GUEST"]),
    need(
        "an initramfs in gzip, and its program",
        &["BLK_DEV_INITRD", "RD_GZIP", "BINFMT_ELF"],
    ),
    need(
        "a console that says why a boot failed",
        &["TTY", "PRINTK", "SERIAL_8250", "SERIAL_8250_CONSOLE"],
    ),
    need(
        "devices on virtio-mmio, named on the command line",
        &["VIRTIO_MMIO", "VIRTIO_MMIO_CMDLINE_DEVICES"],
    ),
    need(
        "kernel file systems",
        &["PROC_FS", "PROC_SYSCTL", "SYSFS", "DEVTMPFS"],
    ),
    need("handshake and exec over vsock", &["VSOCKETS", "VIRTIO_VSOCKETS"]),
    need("exec sessions with a terminal", &["UNIX98_PTYS"]),
    need("disks", &["BLOCK", "VIRTIO_BLK"]),
    need("scratch, volumes and root disks in ext4", &["EXT4_FS"]),
    need("root disks in squashfs", &["SQUASHFS", "SQUASHFS_ZSTD"]),
    need("root disks in erofs", &["EROFS_FS", "EROFS_FS_ZIP"]),
    need("a writable root over a read-only disk", &["OVERLAY_FS"]),
    need("secrets, /run and /tmp in memory", &["SHMEM", "TMPFS"]),
    need("network", &["NET", "INET", "IPV6", "UNIX", "VIRTIO_NET"]),
    need(
        "cgroup v2, controller cpu",
        &["CGROUP_SCHED", "FAIR_GROUP_SCHED", "CFS_BANDWIDTH"],
    ),
    need("cgroup v2, controller cpuset", &["CPUSETS"]),
    need("cgroup v2, controller io", &["BLK_CGROUP"]),
    need("cgroup v2, controller memory", &["MEMCG"]),
    need("cgroup v2, controller pids", &["CGROUP_PIDS"]),
    need("pressure", &["PSI"]),
    need("one loop for signals, timers and sockets", &["SIGNALFD", "EPOLL"]),
    need("users and groups of images", &["MULTIUSER"]),
    need("sandboxes of workloads", &["SECCOMP_FILTER"]),
    need(
        "randomness from the host",
        &["HW_RANDOM_VIRTIO", "RANDOM_TRUST_CPU"],
    ),
    need(
        "new randomness after a resume from a snapshot",
        &["ACPI", "VMGENID"],
    ),
    need("the host's clock", &["PTP_1588_CLOCK_KVM"]),
];

/// What `config`, a whole `.config`, lacks. A module does not count: there are none in a guest.
pub(super) fn check_needs(needs: &[KernelNeed], config: &str) -> Vec<UnmetNeed> {
    let configured = Configured::parse(config);
    let is_missing = |option: &str| configured.value(&format!("CONFIG_{option}")) != "y";
    let unmet = needs.iter().map(|need| UnmetNeed {
        purpose: need.purpose,
        missing: need
            .options
            .iter()
            .copied()
            .filter(|option| is_missing(option))
            .collect(),
    });
    unmet.filter(|need| !need.missing.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::config::Fragment;

    const NEEDS: &[KernelNeed] = &[
        need("disks", &["BLOCK", "VIRTIO_BLK"]),
        need("pressure", &["PSI"]),
    ];

    fn unmet(config: &str) -> Vec<String> {
        let unmet = check_needs(NEEDS, config);
        unmet.iter().map(UnmetNeed::to_string).collect()
    }

    #[test]
    fn a_need_is_met_by_all_of_its_options() {
        assert_eq!(
            unmet("CONFIG_BLOCK=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_PSI=y\n"),
            [""; 0]
        );
        assert_eq!(
            unmet("CONFIG_BLOCK=y\nCONFIG_PSI=y\n"),
            ["disks (CONFIG_VIRTIO_BLK)"]
        );
        assert_eq!(
            unmet("# CONFIG_PSI is not set\n"),
            ["disks (CONFIG_BLOCK, CONFIG_VIRTIO_BLK)", "pressure (CONFIG_PSI)"]
        );
    }

    #[test]
    fn a_module_meets_no_need() {
        assert_eq!(
            unmet("CONFIG_BLOCK=y\nCONFIG_VIRTIO_BLK=m\nCONFIG_PSI=y\n"),
            ["disks (CONFIG_VIRTIO_BLK)"]
        );
    }

    #[test]
    fn the_default_fragment_asks_for_everything_that_is_needed() {
        let text = include_str!("../../../../kernel/x86_64.config");
        let fragment = Fragment::parse(text.as_bytes()).unwrap();
        assert_eq!(check_needs(KERNEL_NEEDS, &fragment.render()), vec![]);
    }
}
