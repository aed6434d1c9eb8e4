//! QEMU's command line: a pure function of the configuration.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::accelerator::Accelerator;
use crate::config::{Disk, DiskAccess, VmConfig};

/// What every guest of this VMM gets.
///
/// - `quiet`: the serial console is slow, a full kernel log costs more than the rest of a boot.
/// - `panic=-1`: a panicked kernel resets at once, and QEMU ends with the first reset.
/// - `reboot=t`: by triple fault. The machine has no keyboard controller for `reboot=k` to reset.
/// - `acpi=off`, `pci=off`: the machine has neither, and a kernel that can do both does not look for them.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 reboot=t acpi=off pci=off";
/// The APIC timer's calibration waits 0.2 s, which only an emulated machine needs: a real one has a deadline timer.
/// Under KVM these would take away a timer that works.
const CMDLINE_TCG: &str = "nolapic_timer no_timer_check";

/// Everything but the configuration that the command line depends on.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) accelerator: Accelerator,
    pub(crate) vhost_socket: &'a Path,
    pub(crate) qmp_socket: &'a Path,
}

/// The kernel's command line. Small and the same for every instance but for the caller's words.
pub(crate) fn render_kernel_cmdline(accelerator: Accelerator, extra: &[String]) -> String {
    let mut line = CMDLINE.to_owned();
    if accelerator == Accelerator::Tcg {
        line.push(' ');
        line.push_str(CMDLINE_TCG);
    }
    for word in extra {
        line.push(' ');
        line.push_str(word);
    }
    line
}

/// QEMU's arguments. The machine is made but does not run until it is told to over QMP.
pub(crate) fn render_args(config: &VmConfig, around: &Surroundings<'_>) -> Vec<OsString> {
    let mut args = Args::default();
    args.words(&[
        "-no-user-config",
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        "-S",
    ]);
    // None of these is needed once the machine runs; QEMU takes its own rights away.
    args.words(&[
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]);
    // A core file of QEMU must not have the guest's memory in it: its secrets are there.
    args.words(&[
        "-M",
        "microvm,acpi=off,rtc=on,memory-backend=mem0,dump-guest-core=off",
    ]);
    args.option(
        "-object",
        format!(
            "memory-backend-memfd,id=mem0,size={}M,share=on,dump=off",
            config.memory_mib
        ),
    );
    args.option("-m", config.memory_mib.to_string());
    args.option("-smp", config.vcpus.to_string());
    args.words(match around.accelerator {
        Accelerator::Kvm => &["-accel", "kvm", "-cpu", "host"],
        Accelerator::Tcg => &["-accel", "tcg", "-cpu", "max"],
    });
    args.path("-kernel", config.kernel.proc_path());
    args.path("-initrd", config.initramfs.proc_path());
    args.option(
        "-append",
        render_kernel_cmdline(around.accelerator, &config.cmdline_extra),
    );

    args.words(&[
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
    ]);
    args.list("-chardev", "socket,id=qmp,path=", around.qmp_socket, "");
    args.words(&["-mon", "chardev=qmp,mode=control"]);

    for (index, disk) in config.disks.iter().enumerate() {
        args.disk(index, disk);
    }
    if let Some(tap) = &config.tap {
        args.option(
            "-netdev",
            format!("tap,id=net0,ifname={},script=no,downscript=no", tap.name),
        );
        args.option(
            "-device",
            format!(
                "virtio-net-device,netdev=net0,mac={},host_mtu={}",
                tap.mac, tap.mtu
            ),
        );
    }
    args.words(&[
        "-object",
        "rng-builtin,id=rng0",
        "-device",
        "virtio-rng-device,rng=rng0",
    ]);
    args.list("-chardev", "socket,id=vsock,path=", around.vhost_socket, "");
    args.words(&["-device", "vhost-user-vsock-device,chardev=vsock"]);
    args.0
}

#[derive(Default)]
struct Args(Vec<OsString>);

impl Args {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    fn option(&mut self, name: &str, value: String) {
        self.0.push(name.into());
        self.0.push(value.into());
    }

    fn path(&mut self, name: &str, path: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(path.into());
    }

    /// An option that is a list with one path in it.
    fn list(&mut self, name: &str, before: &str, path: &Path, after: &str) {
        let mut value = OsString::from(before);
        value.push(escape_comma(path.as_os_str()));
        value.push(after);
        self.path(name, value);
    }

    fn disk(&mut self, index: usize, disk: &Disk) {
        // A shared root disk must not be locked by its readers, and a written disk must be by its writer. An error
        // of the host's disk is the guest's to see: by default QEMU would stop the machine instead.
        let access = match disk.access {
            DiskAccess::ReadOnly => ",read-only=on,file.locking=off",
            DiskAccess::ReadWrite => ",read-only=off,file.locking=on,werror=report",
        };
        let before = format!(
            "if=none,id=disk{index},format=raw,file.driver=file,rerror=report{access},file.filename="
        );
        self.list("-drive", &before, &disk.path, "");
        self.option("-device", format!("virtio-blk-device,drive=disk{index}"));
    }
}

/// In QEMU's lists a comma within a value is written twice.
fn escape_comma(text: &OsStr) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte == b',' {
            bytes.push(b',');
        }
        bytes.push(byte);
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MacAddress, TapConfig, VmImage};

    fn render(accelerator: Accelerator, disks: Vec<Disk>, tap: Option<TapConfig>) -> String {
        let image = || VmImage::new(std::fs::File::open("/dev/null").unwrap());
        let config = VmConfig {
            dir: "/run/vm".into(),
            kernel: image(),
            initramfs: image(),
            cmdline_extra: vec!["plfm.instance_id=i1".into()],
            memory_mib: 256,
            vcpus: 2,
            disks,
            tap,
            console_bytes_max: 1,
            start_timeout: std::time::Duration::ZERO,
        };
        let around = Surroundings {
            accelerator,
            vhost_socket: Path::new("/run/v,m/vhost.sock"),
            qmp_socket: Path::new("/run/v,m/qmp.sock"),
        };
        let args = render_args(&config, &around);
        args.iter()
            .map(|arg| arg.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_kernel_command_line_is_small_and_stable() {
        let extra = ["plfm.instance_id=i1".to_owned()];
        assert_eq!(
            render_kernel_cmdline(Accelerator::Kvm, &extra),
            "console=ttyS0 quiet panic=-1 reboot=t acpi=off pci=off plfm.instance_id=i1"
        );
        assert_eq!(
            render_kernel_cmdline(Accelerator::Tcg, &[]),
            "console=ttyS0 quiet panic=-1 reboot=t acpi=off pci=off nolapic_timer no_timer_check"
        );
    }

    #[test]
    fn the_emulations_options_are_never_given_to_kvm() {
        let kvm = render(Accelerator::Kvm, vec![], None);
        assert!(kvm.contains("-accel kvm -cpu host"), "{kvm}");
        assert!(
            !kvm.contains("nolapic_timer") && !kvm.contains("no_timer_check"),
            "{kvm}"
        );
        assert!(render(Accelerator::Tcg, vec![], None).contains("-accel tcg -cpu max"));
    }

    #[test]
    fn memory_is_said_twice_and_alike() {
        let line = render(Accelerator::Tcg, vec![], None);
        assert!(
            line.contains("memory-backend-memfd,id=mem0,size=256M,share=on,dump=off -m 256 -smp 2"),
            "{line}"
        );
    }

    #[test]
    fn the_guests_memory_is_in_no_core_file() {
        let line = render(Accelerator::Tcg, vec![], None);
        assert!(line.contains("memory-backend=mem0,dump-guest-core=off"), "{line}");
        assert!(line.contains("share=on,dump=off"), "{line}");
    }

    #[test]
    fn images_are_opened_through_our_descriptors() {
        let line = render(Accelerator::Tcg, vec![], None);
        let ours = format!("/proc/{}/fd/", std::process::id());
        assert!(
            line.contains(&format!("-kernel {ours}")) && line.contains(&format!("-initrd {ours}")),
            "{line}"
        );
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        let disk = Disk {
            path: "/a,b/c.img".into(),
            access: DiskAccess::ReadWrite,
        };
        let line = render(Accelerator::Tcg, vec![disk], None);
        for path in [
            "file.filename=/a,,b/c.img",
            "id=qmp,path=/run/v,,m/qmp.sock",
            "path=/run/v,,m/vhost.sock",
        ] {
            assert!(line.contains(path), "{path} in {line}");
        }
    }

    #[test]
    fn a_read_only_disk_is_neither_written_nor_locked() {
        let read_only = Disk {
            path: "/root.img".into(),
            access: DiskAccess::ReadOnly,
        };
        let read_write = Disk {
            path: "/scratch.img".into(),
            access: DiskAccess::ReadWrite,
        };
        let line = render(Accelerator::Tcg, vec![read_only, read_write], None);
        let (first, second) = line.split_once("virtio-blk-device,drive=disk0").unwrap();
        assert!(
            first.contains("read-only=on,file.locking=off,file.filename=/root.img"),
            "{first}"
        );
        assert!(
            second.contains("read-only=off,file.locking=on,werror=report,file.filename=/scratch.img"),
            "{second}"
        );
        assert!(second.contains("virtio-blk-device,drive=disk1"), "{second}");
    }

    #[test]
    fn the_tap_has_the_guests_address_and_mtu_and_no_scripts() {
        let tap = TapConfig {
            name: "tap7".into(),
            mac: MacAddress::local([1, 2, 3, 4, 0xff]),
            mtu: 1420,
        };
        let line = render(Accelerator::Tcg, vec![], Some(tap));
        assert!(
            line.contains("tap,id=net0,ifname=tap7,script=no,downscript=no"),
            "{line}"
        );
        assert!(
            line.contains("virtio-net-device,netdev=net0,mac=02:01:02:03:04:ff,host_mtu=1420"),
            "{line}"
        );
    }
}
