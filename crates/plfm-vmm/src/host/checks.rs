//! Facts into checks: pure.

use super::{CheckState, HostCheck, HostFacts};
use crate::kvm::KvmFact;
use crate::tap::TapSupport;
use crate::wish::CONTROLLERS;

const GIB: u64 = 1024 * 1024 * 1024;
/// 256 instances with some connections each, and as many artifacts.
const FILES_WANTED: u64 = 16_384;
/// A handful of releases, scratch disks, logs.
const DISK_WANTED_BYTES: u64 = 10 * GIB;
const MEMORY_WANTED_BYTES: u64 = 2 * GIB;
/// Firecracker's own support begins here.
const KERNEL_WANTED: (u32, u32) = (5, 10);

impl HostCheck {
    fn ok(what: &'static str, found: impl Into<String>) -> HostCheck {
        HostCheck {
            what,
            state: CheckState::Ok,
            found: found.into(),
            fix: None,
        }
    }

    fn warn(what: &'static str, found: impl Into<String>, fix: impl Into<String>) -> HostCheck {
        HostCheck {
            what,
            state: CheckState::Warn,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }

    fn missing(what: &'static str, found: impl Into<String>, fix: impl Into<String>) -> HostCheck {
        HostCheck {
            state: CheckState::Missing,
            ..HostCheck::warn(what, found, fix)
        }
    }
}

impl HostFacts {
    /// All checks, in the order in which an operator would go about them.
    pub fn checks(&self) -> Vec<HostCheck> {
        vec![
            self.check_vmm(),
            self.check_virtualization(),
            self.check_kvm(),
            self.check_firecracker(),
            self.check_qemu(),
            self.check_kernel(),
            self.check_cgroup(),
            self.check_tap(),
            self.check_forwarding(),
            self.check_nft(),
            self.check_mke2fs(),
            self.check_files(),
            self.check_disk(),
            self.check_memory(),
            self.check_clock(),
            self.check_smt(),
            self.check_merging(),
            self.check_swap(),
            self.check_user_namespaces(),
        ]
    }

    fn check_vmm(&self) -> HostCheck {
        let what = "vmm";
        match (self.kvm.is_usable(), &self.firecracker, &self.qemu) {
            (true, Ok(_), _) => HostCheck::ok(what, "instances run in Firecracker"),
            (true, Err(_), Ok(_)) => HostCheck::warn(
                what,
                "instances run in QEMU with KVM",
                "see firecracker: it isolates better and starts faster",
            ),
            (false, _, Ok(_)) => HostCheck::warn(
                what,
                "instances run in QEMU's emulation: many times slower, for development",
                "see virtualization and kvm",
            ),
            (_, _, Err(_)) => HostCheck::missing(
                what,
                "nothing runs instances",
                "see kvm with firecracker, or qemu: one of them is needed",
            ),
        }
    }

    fn check_virtualization(&self) -> HostCheck {
        let what = "virtualization";
        let place = if self.is_guest {
            "a virtual machine"
        } else {
            "hardware"
        };
        let found = format!("{} ({place})", self.processor);
        match (&self.kvm, self.is_guest) {
            (KvmFact::NoVirtualization, true) => HostCheck::warn(
                what,
                format!("{found} has neither vmx nor svm"),
                "turn nested virtualization on in the hypervisor of this machine, or use a machine of hardware",
            ),
            (KvmFact::NoVirtualization, false) => HostCheck::warn(
                what,
                format!("{found} has neither vmx nor svm"),
                "turn virtualization (VT-x, AMD-V) on in the firmware",
            ),
            (_, true) => HostCheck::warn(
                what,
                format!("{found} with nested virtualization"),
                "nothing, for development; for customers use machines of hardware: nested guests are slower and less isolated",
            ),
            (_, false) => HostCheck::ok(what, found),
        }
    }

    fn check_kvm(&self) -> HostCheck {
        let found = self.kvm.to_string();
        let fix = match &self.kvm {
            KvmFact::Usable => return HostCheck::ok("kvm", found),
            KvmFact::Unproven => "nothing: run this check as the agent's user to have a guest tried",
            KvmFact::NoVirtualization => "see virtualization",
            KvmFact::NoDevice => "modprobe kvm_intel or kvm_amd; without virtualization neither loads",
            KvmFact::NotPermitted => "run the agent as root, or its user in the group kvm",
            KvmFact::Hangs | KvmFact::Fails(_) => "see dmesg for what KVM says; until then emulation is used",
        };
        HostCheck::warn("kvm", found, fix)
    }

    fn check_firecracker(&self) -> HostCheck {
        match &self.firecracker {
            Ok(version) => HostCheck::ok("firecracker", version.clone()),
            Err(why) => {
                // What to do comes after the last colon of such an error.
                let (found, fix) = why
                    .rsplit_once(": ")
                    .unwrap_or((why, "install Firecracker and its jailer"));
                HostCheck::warn("firecracker", found, fix)
            }
        }
    }

    fn check_qemu(&self) -> HostCheck {
        match &self.qemu {
            Ok(found) => HostCheck::ok("qemu", found.clone()),
            Err(_) if self.firecracker.is_ok() && self.kvm.is_usable() => {
                HostCheck::ok("qemu", "not installed, and not needed beside Firecracker")
            }
            Err(why) => {
                let (found, fix) = why
                    .split_once(": ")
                    .unwrap_or((why, "install the Debian package qemu-system-x86"));
                HostCheck::warn("qemu", found, fix)
            }
        }
    }

    fn check_kernel(&self) -> HostCheck {
        let mut numbers = self.kernel.split(['.', '-']).map(|part| part.parse::<u32>().ok());
        let version = numbers.next().flatten().zip(numbers.next().flatten());
        match version {
            Some(version) if version >= KERNEL_WANTED => HostCheck::ok("kernel", self.kernel.clone()),
            _ => HostCheck::warn(
                "kernel",
                self.kernel.clone(),
                format!("use Linux {}.{} or later", KERNEL_WANTED.0, KERNEL_WANTED.1),
            ),
        }
    }

    fn check_cgroup(&self) -> HostCheck {
        let what = "cgroup";
        let Some(controllers) = &self.cgroup_controllers else {
            let fix = "boot with systemd.unified_cgroup_hierarchy=1: jails get their limits there";
            return HostCheck::warn(what, "no cgroup v2", fix);
        };
        let missing: Vec<&str> = CONTROLLERS
            .into_iter()
            .filter(|wanted| !controllers.iter().any(|known| known == wanted))
            .collect();
        if missing.is_empty() {
            return HostCheck::ok(what, format!("v2 with {}", CONTROLLERS.join(", ")));
        }
        let found = format!("v2 without {}", missing.join(", "));
        HostCheck::warn(
            what,
            found,
            "boot with systemd.unified_cgroup_hierarchy=1, so that v1 does not hold them",
        )
    }

    fn check_tap(&self) -> HostCheck {
        match self.tap {
            TapSupport::Available => HostCheck::ok("tap", "devices can be made"),
            TapSupport::NoDevice => HostCheck::warn(
                "tap",
                "no /dev/net/tun: instances have no network",
                "modprobe tun",
            ),
            TapSupport::NotPermitted => HostCheck::warn(
                "tap",
                "not permitted: instances have no network",
                "run the agent with CAP_NET_ADMIN and access to /dev/net/tun",
            ),
        }
    }

    fn check_forwarding(&self) -> HostCheck {
        let what = "ipv6_forwarding";
        match self.forwards_ipv6 {
            Some(true) => HostCheck::ok(what, "on"),
            Some(false) => HostCheck::warn(
                what,
                "off: instances reach this host only",
                "sysctl -w net.ipv6.conf.all.forwarding=1, and in /etc/sysctl.d",
            ),
            None => HostCheck::warn(
                what,
                "no IPv6",
                "boot without ipv6.disable=1: instances have IPv6 only",
            ),
        }
    }

    fn check_nft(&self) -> HostCheck {
        match &self.nft {
            Some(path) => HostCheck::ok("nftables", path.display().to_string()),
            None => HostCheck::warn(
                "nftables",
                "no nft",
                "install the Debian package nftables, for rules between instances",
            ),
        }
    }

    fn check_mke2fs(&self) -> HostCheck {
        match &self.mke2fs {
            Some(path) => HostCheck::ok("mke2fs", path.display().to_string()),
            None => HostCheck::missing(
                "mke2fs",
                "not found: instances have no scratch disk",
                "install the Debian package e2fsprogs",
            ),
        }
    }

    fn check_files(&self) -> HostCheck {
        match self.files_max {
            Some(max) if max < FILES_WANTED => HostCheck::warn(
                "open_files",
                format!("{max} for this process"),
                format!(
                    "LimitNOFILE={FILES_WANTED} or more in the agent's unit; the one that comes with it has that"
                ),
            ),
            Some(max) => HostCheck::ok("open_files", max.to_string()),
            None => HostCheck::ok("open_files", "no limit"),
        }
    }

    fn check_disk(&self) -> HostCheck {
        let fix = "make room where the agent's state directory is";
        match self.disk_free_bytes {
            Some(free) if free >= DISK_WANTED_BYTES => {
                HostCheck::ok("disk", format!("{} GiB free", free / GIB))
            }
            Some(free) => HostCheck::warn("disk", format!("{} MiB free", free / (1024 * 1024)), fix),
            None => HostCheck::warn("disk", "can't be looked at", fix),
        }
    }

    fn check_memory(&self) -> HostCheck {
        match self.memory_bytes {
            Some(bytes) if bytes < MEMORY_WANTED_BYTES => HostCheck::warn(
                "memory",
                format!("{} MiB", bytes / (1024 * 1024)),
                "expect few instances: each has 128 MiB or more",
            ),
            Some(bytes) => HostCheck::ok("memory", format!("{} GiB", bytes / GIB)),
            None => HostCheck::ok("memory", "not known"),
        }
    }

    fn check_clock(&self) -> HostCheck {
        match &self.clock_keeper {
            Some(keeper) => HostCheck::ok("clock", format!("kept by {keeper}")),
            None => HostCheck::warn(
                "clock",
                "nothing known keeps it right",
                "install chrony or turn systemd-timesyncd on: metadata and certificates have dates",
            ),
        }
    }

    fn check_smt(&self) -> HostCheck {
        match self.has_smt {
            Some(true) => HostCheck::warn(
                "smt",
                "two threads share a core",
                "boot with nosmt, if customers do not trust each other: threads of one core leak to each other",
            ),
            Some(false) => HostCheck::ok("smt", "off"),
            None => HostCheck::ok("smt", "not known"),
        }
    }

    fn check_merging(&self) -> HostCheck {
        match self.merges_pages {
            Some(true) => HostCheck::warn(
                "ksm",
                "equal pages are merged",
                "echo 0 > /sys/kernel/mm/ksm/run: who has a page can tell that another has it",
            ),
            Some(false) | None => HostCheck::ok("ksm", "off"),
        }
    }

    fn check_swap(&self) -> HostCheck {
        if self.has_swap {
            let fix = "swapoff -a, or swap to an encrypted device: guests' memory has secrets";
            HostCheck::warn("swap", "memory is swapped out", fix)
        } else {
            HostCheck::ok("swap", "off")
        }
    }

    fn check_user_namespaces(&self) -> HostCheck {
        // Neither the agent nor the jailer uses them; it is said for those who wonder.
        match self.user_namespaces_max {
            Some(0) => HostCheck::ok("user_namespaces", "off, and not needed"),
            Some(max) => HostCheck::ok("user_namespaces", format!("{max}, and not needed")),
            None => HostCheck::ok("user_namespaces", "none, and not needed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn good() -> HostFacts {
        HostFacts {
            kernel: "6.1.0-18-amd64".into(),
            processor: "AMD EPYC".into(),
            is_guest: false,
            kvm: KvmFact::Usable,
            firecracker: Ok("1.12.1".into()),
            qemu: Ok("/usr/bin/qemu-system-x86_64".into()),
            cgroup_controllers: Some(CONTROLLERS.map(str::to_owned).to_vec()),
            tap: TapSupport::Available,
            forwards_ipv6: Some(true),
            nft: Some("/usr/sbin/nft".into()),
            mke2fs: Some("/usr/sbin/mke2fs".into()),
            files_max: Some(65_536),
            disk_free_bytes: Some(100 * GIB),
            memory_bytes: Some(64 * GIB),
            has_smt: Some(false),
            merges_pages: Some(false),
            has_swap: false,
            user_namespaces_max: Some(1000),
            clock_keeper: Some("chronyd".into()),
        }
    }

    fn state(facts: &HostFacts, what: &str) -> CheckState {
        let checks = facts.checks();
        checks.iter().find(|check| check.what == what).unwrap().state
    }

    #[test]
    fn a_good_host_has_nothing_to_do() {
        for check in good().checks() {
            assert_eq!((check.state, check.fix), (CheckState::Ok, None), "{}", check.what);
        }
    }

    #[test]
    fn every_difference_is_told_with_what_to_do() {
        let change = |what: &'static str, expected, change: fn(&mut HostFacts)| {
            let mut facts = good();
            change(&mut facts);
            assert_eq!(state(&facts, what), expected, "{what}");
            for check in facts.checks() {
                assert_eq!(
                    check.fix.is_some(),
                    check.state != CheckState::Ok,
                    "{}",
                    check.what
                );
            }
        };
        use CheckState::{Missing, Ok as Fine, Warn};
        change("vmm", Warn, |facts| facts.kvm = KvmFact::NoDevice);
        change("vmm", Warn, |facts| {
            facts.firecracker = Err("gone: get it".into())
        });
        change("vmm", Missing, |facts| {
            facts.kvm = KvmFact::NoVirtualization;
            facts.qemu = Err("gone: get it".into());
        });
        change("vmm", Fine, |facts| facts.qemu = Err("gone: get it".into()));
        change("qemu", Fine, |facts| facts.qemu = Err("gone: get it".into()));
        change("kvm", Warn, |facts| facts.kvm = KvmFact::Hangs);
        change("virtualization", Warn, |facts| facts.is_guest = true);
        change("kernel", Warn, |facts| facts.kernel = "4.19.0".into());
        change("kernel", Warn, |facts| facts.kernel = "odd".into());
        change("cgroup", Warn, |facts| facts.cgroup_controllers = None);
        change("cgroup", Warn, |facts| {
            facts.cgroup_controllers = Some(vec!["cpu".into()])
        });
        change("tap", Warn, |facts| facts.tap = TapSupport::NotPermitted);
        change("ipv6_forwarding", Warn, |facts| facts.forwards_ipv6 = Some(false));
        change("nftables", Warn, |facts| facts.nft = None);
        change("mke2fs", Missing, |facts| facts.mke2fs = None);
        change("open_files", Warn, |facts| facts.files_max = Some(1024));
        change("disk", Warn, |facts| facts.disk_free_bytes = Some(GIB));
        change("memory", Warn, |facts| facts.memory_bytes = Some(GIB));
        change("clock", Warn, |facts| facts.clock_keeper = None);
        change("smt", Warn, |facts| facts.has_smt = Some(true));
        change("ksm", Warn, |facts| facts.merges_pages = Some(true));
        change("swap", Warn, |facts| facts.has_swap = true);
    }
}
