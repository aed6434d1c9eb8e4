//! What Firecracker is told before it runs a guest: a pure function of the configuration.
//!
//! The order is the guest's device order, as the first drive is `vda`; `InstanceStart` is last.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::{DiskAccess, VmConfig};
use crate::vsock::GUEST_CID;

/// What every guest of this VMM gets.
///
/// - `quiet`: the serial console is slow, a full kernel log costs more than the rest of a boot.
/// - `panic=-1`: a panicked kernel resets at once.
/// - `reboot=k`: through the keyboard controller, which is what ends this VMM cleanly.
/// - `pci=off`: the machine has none, and a kernel that can do PCI does not look for it.
/// - `i8042.…`: a keyboard controller with nothing behind it: do not look for a mouse, and do not wait for answers.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 reboot=k pci=off i8042.noaux i8042.nomux i8042.dumbkbd";

/// One request of the API.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    /// What it is about, for errors.
    pub(crate) what: String,
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// The files of a VM by the names that the VMM has for them.
#[derive(Debug, Clone)]
pub(crate) struct SeenPaths {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) disks: Vec<PathBuf>,
    pub(crate) vsock: PathBuf,
}

impl Call {
    fn put(what: impl Into<String>, path: impl Into<String>, body: Value) -> Call {
        Call {
            what: what.into(),
            path: path.into(),
            body,
        }
    }
}

/// The kernel's command line. Small and the same for every instance but for the caller's words.
pub(crate) fn render_kernel_cmdline(extra: &[String]) -> String {
    let words = std::iter::once(CMDLINE).chain(extra.iter().map(String::as_str));
    words.collect::<Vec<_>>().join(" ")
}

/// All calls in order, `InstanceStart` last.
pub(crate) fn render_calls(config: &VmConfig, seen: &SeenPaths) -> Vec<Call> {
    let machine = json!({"vcpu_count": config.vcpus, "mem_size_mib": config.memory_mib, "smt": false});
    let boot = json!({
        "kernel_image_path": text(&seen.kernel),
        "initrd_path": text(&seen.initramfs),
        "boot_args": render_kernel_cmdline(&config.cmdline_extra),
    });
    let mut calls = vec![
        Call::put("machine-config", "/machine-config", machine),
        Call::put("boot-source", "/boot-source", boot),
    ];
    for (index, (disk, path)) in config.disks.iter().zip(&seen.disks).enumerate() {
        calls.push(render_drive(index, disk.access, path));
    }
    if let Some(tap) = &config.tap {
        // No `mtu`: versions before 1.16 do not know it, and guest init sets it.
        let body = json!({"iface_id": "eth0", "host_dev_name": tap.name, "guest_mac": tap.mac.to_string()});
        calls.push(Call::put("network interface", "/network-interfaces/eth0", body));
    }
    let vsock = json!({"guest_cid": GUEST_CID, "uds_path": text(&seen.vsock)});
    calls.push(Call::put("vsock", "/vsock", vsock));
    calls.push(Call::put("entropy", "/entropy", json!({})));
    calls.push(Call::put(
        "start",
        "/actions",
        json!({"action_type": "InstanceStart"}),
    ));
    calls
}

fn render_drive(index: usize, access: DiskAccess, path: &Path) -> Call {
    let id = format!("disk{index}");
    let (is_read_only, cache_type) = match access {
        DiskAccess::ReadOnly => (true, "Unsafe"),
        // With "Unsafe" the guest is not even offered a flush, and its fsync means nothing.
        DiskAccess::ReadWrite => (false, "Writeback"),
    };
    let body = json!({
        "drive_id": id,
        "path_on_host": text(path),
        "is_root_device": false,
        "is_read_only": is_read_only,
        "cache_type": cache_type,
        "io_engine": "Sync",
    });
    Call::put(format!("drive {index}"), format!("/drives/{id}"), body)
}

/// All of these paths were made by this crate, or checked to be text.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Disk, MacAddress, TapConfig, VmImage};

    fn config() -> VmConfig {
        let image = || VmImage::new(std::fs::File::open("/dev/null").unwrap());
        let disk = |path: &str, access| Disk {
            path: path.into(),
            access,
        };
        VmConfig {
            dir: "/run/vm".into(),
            kernel: image(),
            initramfs: image(),
            cmdline_extra: vec!["plfm.instance_id=i1".into()],
            memory_mib: 256,
            vcpus: 2,
            disks: vec![
                disk("/root.erofs", DiskAccess::ReadOnly),
                disk("/scratch.img", DiskAccess::ReadWrite),
            ],
            tap: Some(TapConfig {
                name: "plfmabc".into(),
                mac: MacAddress::local([1, 2, 3, 4, 5]),
                mtu: 1420,
            }),
            console_bytes_max: 1,
            start_timeout: std::time::Duration::ZERO,
        }
    }

    fn seen() -> SeenPaths {
        SeenPaths {
            kernel: "/kernel".into(),
            initramfs: "/initramfs".into(),
            disks: vec!["/disk0".into(), "/disk1".into()],
            vsock: "/v.sock".into(),
        }
    }

    #[test]
    fn the_calls_are_made_in_the_order_of_the_devices_and_the_start_is_last() {
        let paths: Vec<String> = render_calls(&config(), &seen())
            .into_iter()
            .map(|call| call.path)
            .collect();
        assert_eq!(
            paths,
            [
                "/machine-config",
                "/boot-source",
                "/drives/disk0",
                "/drives/disk1",
                "/network-interfaces/eth0",
                "/vsock",
                "/entropy",
                "/actions"
            ]
        );
    }

    #[test]
    fn no_drive_is_a_root_device_and_only_what_is_written_is_flushed() {
        let calls = render_calls(&config(), &seen());
        let drive = |path: &str| calls.iter().find(|call| call.path == path).unwrap().body.clone();
        assert_eq!(
            drive("/drives/disk0"),
            json!({"drive_id": "disk0", "path_on_host": "/disk0", "is_root_device": false, "is_read_only": true,
                   "cache_type": "Unsafe", "io_engine": "Sync"})
        );
        assert_eq!(
            drive("/drives/disk1"),
            json!({"drive_id": "disk1", "path_on_host": "/disk1", "is_root_device": false, "is_read_only": false,
                   "cache_type": "Writeback", "io_engine": "Sync"})
        );
    }

    #[test]
    fn the_kernel_command_line_is_small_and_stable() {
        assert_eq!(
            render_kernel_cmdline(&["plfm.instance_id=i1".to_owned()]),
            "console=ttyS0 quiet panic=-1 reboot=k pci=off i8042.noaux i8042.nomux i8042.dumbkbd plfm.instance_id=i1"
        );
    }

    #[test]
    fn a_guest_without_network_has_no_interface() {
        let mut config = config();
        config.tap = None;
        config.disks.clear();
        let calls = render_calls(&config, &seen());
        assert!(
            !calls
                .iter()
                .any(|call| call.path.contains("network") || call.path.contains("drives"))
        );
    }
}
