//! The jailer's command line: a pure function of the jail and the VM's configuration.

use std::ffi::OsString;
use std::path::Path;

use super::{JailCgroup, Jailer};
use crate::config::VmConfig;

/// Enough descriptors for the disks, the network and a few hundred connections over vsock.
const FILES_MAX: u32 = 1024;
/// What the VMM itself needs beside the guest's memory, and the page cache of its disks, which the kernel takes back
/// when it has to.
const MEMORY_EXTRA_MIB: u64 = 128;
/// One period of the scheduler, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// Half a processor beside the guest's own, for the VMM's threads: devices and API.
const CPU_EXTRA_US: u64 = CPU_PERIOD_US / 2;
/// Threads beside one for each of the guest's processors.
const THREADS_EXTRA: u64 = 16;

/// The jailer's arguments. What comes after `--` is Firecracker's.
///
/// The program runs in a PID namespace of its own, so that VMs that share a user can't reach each other, and with its
/// built-in seccomp filters, which are on unless they are turned off. No limit on the size of files (`fsize`): the disks
/// are files, and they have theirs.
pub(crate) fn render_args(
    jailer: &Jailer,
    program: &Path,
    id: &str,
    config: &VmConfig,
    for_vmm: &[OsString],
) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: OsString| args.extend([name.into(), value]);
    option("--id", id.into());
    option("--exec-file", program.into());
    option("--uid", jailer.user.uid.to_string().into());
    option("--gid", jailer.user.gid.to_string().into());
    option("--chroot-base-dir", jailer.base.clone().into());
    if let Some(netns) = &jailer.netns {
        option("--netns", netns.clone().into());
    }
    option("--resource-limit", format!("no-file={FILES_MAX}").into());
    if let Some(cgroup) = &jailer.cgroup {
        let limits = render_limits(cgroup, config);
        if !limits.is_empty() {
            option("--cgroup-version", "2".into());
            option("--parent-cgroup", cgroup.parent.clone().into());
        }
        for limit in limits {
            option("--cgroup", limit.into());
        }
    }
    args.push("--new-pid-ns".into());
    args.push("--".into());
    args.extend_from_slice(for_vmm);
    args
}

fn render_limits(cgroup: &JailCgroup, config: &VmConfig) -> Vec<String> {
    let vcpus = u64::from(config.vcpus);
    let memory_mib = u64::from(config.memory_mib) + MEMORY_EXTRA_MIB;
    let limits = [
        (
            "cpu",
            format!("cpu.max={} {CPU_PERIOD_US}", vcpus * CPU_PERIOD_US + CPU_EXTRA_US),
        ),
        ("memory", format!("memory.max={}", memory_mib * 1024 * 1024)),
        ("pids", format!("pids.max={}", vcpus + THREADS_EXTRA)),
    ];
    let has = |controller: &str| cgroup.controllers.iter().any(|known| known == controller);
    let kept = limits.into_iter().filter(|(controller, _)| has(controller));
    kept.map(|(_, limit)| limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VmImage;
    use crate::jail::JailUser;

    fn render(cgroup: Option<JailCgroup>) -> String {
        let image = || VmImage::new(std::fs::File::open("/dev/null").unwrap());
        let config = VmConfig {
            dir: "/run/vm/i1".into(),
            kernel: image(),
            initramfs: image(),
            cmdline_extra: vec![],
            memory_mib: 256,
            vcpus: 2,
            disks: vec![],
            tap: None,
            console_bytes_max: 1,
            start_timeout: std::time::Duration::ZERO,
        };
        let jailer = Jailer {
            program: "/usr/bin/jailer".into(),
            base: "/srv/jails".into(),
            user: JailUser { uid: 990, gid: 991 },
            cgroup,
            netns: Some("/run/netns/vms".into()),
        };
        let for_vmm = ["--api-sock".into(), "/api.sock".into()];
        let args = render_args(
            &jailer,
            Path::new("/usr/bin/firecracker"),
            "i1",
            &config,
            &for_vmm,
        );
        args.iter()
            .map(|arg| arg.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn cgroup(controllers: &[&str]) -> JailCgroup {
        JailCgroup {
            mount: "/sys/fs/cgroup".into(),
            parent: "plfm".into(),
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn a_vm_is_jailed_with_limits_in_its_own_cgroup() {
        assert_eq!(
            render(Some(cgroup(&["cpu", "memory", "pids"]))),
            "--id i1 --exec-file /usr/bin/firecracker --uid 990 --gid 991 --chroot-base-dir /srv/jails \
             --netns /run/netns/vms --resource-limit no-file=1024 --cgroup-version 2 --parent-cgroup plfm \
             --cgroup cpu.max=250000 100000 --cgroup memory.max=402653184 --cgroup pids.max=18 \
             --new-pid-ns -- --api-sock /api.sock"
        );
    }

    #[test]
    fn a_controller_that_the_host_lacks_sets_no_limit() {
        let some = render(Some(cgroup(&["pids"])));
        assert!(
            some.contains("--cgroup pids.max=18") && !some.contains("memory.max"),
            "{some}"
        );
        for none in [render(Some(cgroup(&[]))), render(None)] {
            assert!(!none.contains("cgroup"), "{none}");
        }
    }

    #[test]
    fn seccomp_is_never_turned_off() {
        assert!(!render(None).contains("seccomp"));
    }
}
