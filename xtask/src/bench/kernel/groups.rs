//! The groups of kernel options that are measured.

/// Whether the kernel of releases has a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has it: the cost is what goes away without it.
    In,
    /// It does not have it: the cost is what comes with it.
    Out,
}

/// Options that are there for one purpose.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    pub name: &'static str,
    pub presence: Presence,
    /// Option, without `CONFIG_`, and the value that takes the group out or puts it in. Everything that depends on an
    /// option that goes is listed with it: the build does not let an option go unsaid.
    pub changes: &'static [(&'static str, &'static str)],
}

const fn has(name: &'static str, changes: &'static [(&'static str, &'static str)]) -> Group {
    Group {
        name,
        presence: Presence::In,
        changes,
    }
}

const fn lacks(name: &'static str, changes: &'static [(&'static str, &'static str)]) -> Group {
    Group {
        name,
        presence: Presence::Out,
        changes,
    }
}

/// In an order in which little is compiled twice: groups in files of their own first, those that reach into every file
/// last.
pub const GROUPS: &[Group] = &[
    has(
        "erofs",
        &[("EROFS_FS", "n"), ("EROFS_FS_XATTR", "n"), ("EROFS_FS_ZIP", "n")],
    ),
    has(
        "squashfs",
        &[("SQUASHFS", "n"), ("SQUASHFS_XATTR", "n"), ("SQUASHFS_ZSTD", "n")],
    ),
    has(
        "ext4",
        &[
            ("EXT4_FS", "n"),
            ("EXT4_FS_POSIX_ACL", "n"),
            ("EXT4_FS_SECURITY", "n"),
        ],
    ),
    has("overlay", &[("OVERLAY_FS", "n")]),
    has(
        "virtio-rng",
        &[
            ("HW_RANDOM", "n"),
            ("HW_RANDOM_VIRTIO", "n"),
            ("HW_RANDOM_VIA", "n"),
        ],
    ),
    has("ptp", &[("PTP_1588_CLOCK", "n"), ("PTP_1588_CLOCK_KVM", "n")]),
    has(
        "dm-verity",
        &[("MD", "n"), ("BLK_DEV_DM", "n"), ("DM_VERITY", "n")],
    ),
    has("cgroup-pids", &[("CGROUP_PIDS", "n")]),
    has("balloon", &[("VIRTIO_BALLOON", "n")]),
    has("io_uring", &[("IO_URING", "n")]),
    // The drivers that would come in with PCI are off, and stay off without it.
    has(
        "acpi",
        &[
            ("ACPI", "n"),
            ("PCI", "n"),
            ("VIRT_DRIVERS", "n"),
            ("VMGENID", "n"),
        ],
    ),
    has("cgroup-cpuset", &[("CPUSETS", "n")]),
    has("cgroup-io", &[("BLK_CGROUP", "n")]),
    has("psi", &[("PSI", "n")]),
    has(
        "control-groups",
        &[
            ("CGROUPS", "n"),
            ("MEMCG", "n"),
            ("BLK_CGROUP", "n"),
            ("CPUSETS", "n"),
            ("CGROUP_PIDS", "n"),
            ("CGROUP_SCHED", "n"),
            ("FAIR_GROUP_SCHED", "n"),
            ("CFS_BANDWIDTH", "n"),
        ],
    ),
    has(
        "cgroup-cpu",
        &[
            ("CGROUP_SCHED", "n"),
            ("FAIR_GROUP_SCHED", "n"),
            ("CFS_BANDWIDTH", "n"),
        ],
    ),
    has("seccomp", &[("SECCOMP", "n"), ("SECCOMP_FILTER", "n")]),
    has("cgroup-memory", &[("MEMCG", "n")]),
    has("ipv6", &[("IPV6", "n"), ("IPV6_SIT", "n")]),
    has("huge-pages", &[("TRANSPARENT_HUGEPAGE", "n")]),
    lacks("kallsyms", &[("KALLSYMS", "y")]),
    lacks("x2apic", &[("X86_X2APIC", "y")]),
    has("mitigations", &[("CPU_MITIGATIONS", "n")]),
    has(
        "hardening",
        &[
            ("STACKPROTECTOR", "n"),
            ("STACKPROTECTOR_STRONG", "n"),
            ("VMAP_STACK", "n"),
            ("HARDENED_USERCOPY", "n"),
            ("FORTIFY_SOURCE", "n"),
        ],
    ),
    lacks("orc", &[("UNWINDER_GUESS", "n"), ("UNWINDER_ORC", "y")]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use plfm_build::{Fragment, KERNEL_FRAGMENT_DEFAULT};

    use super::*;

    #[test]
    fn every_group_changes_the_kernel_in_the_direction_that_it_says() {
        let fragment = Fragment::parse(KERNEL_FRAGMENT_DEFAULT.as_bytes()).unwrap();
        for group in GROUPS {
            let (first, value) = group.changes[0];
            let is_in = fragment.asks_for(&format!("CONFIG_{first}"), "y");
            assert_eq!(is_in, value == "n", "{}", group.name);
            let flips = |presence| match presence {
                Presence::In => group.changes.iter().all(|(_, value)| *value == "n"),
                Presence::Out => group.changes.iter().any(|(_, value)| *value == "y"),
            };
            assert!(flips(group.presence), "{}", group.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = GROUPS.iter().map(|group| group.name).collect();
        assert_eq!(names.len(), GROUPS.len());
    }
}
