//! A failure in each stage: its own reason, as a status over vsock and as a line on the console.

use plfm_vmm::DiskAccess;
use serde_json::json;

use crate::facts;
use crate::host::tool;
use crate::machine::{Machine, Story, answer_config, config, make_ext4};

facts![
    kernel_filesystems_without_an_instance_id,
    handshake_with_a_config_that_is_none,
    root_disk_that_is_none,
    root_disk_that_hangs,
    scratch_disk_that_cannot_be_written,
    scratch_disk_that_hangs,
    overlay_of_a_layer_that_a_crash_left,
    switch_root_without_a_free_inode,
    network_without_an_interface,
    secrets_that_are_required_and_absent,
    secrets_that_cannot_be_written,
    volume_without_a_device,
    workload_that_is_not_there,
    workload_that_exits_at_once_in_failure,
];

fn boot(machine: Machine, config: &serde_json::Value) -> Story {
    machine.boot(Some(answer_config(config)))
}

fn kernel_filesystems_without_an_instance_id() {
    let story = boot(Machine::new().with_cmdline(&[]), &config());
    story.assert_failed("kernel_filesystems", "config_parse_failed");
    assert!(
        story.failure().2.contains("plfm.instance_id"),
        "{}",
        story.failure().2
    );
    assert_eq!(story.said[0]["instance_id"], "");
}

fn handshake_with_a_config_that_is_none() {
    let mut config = config();
    config["config_version"] = json!("v2");
    boot(Machine::new(), &config).assert_failed("handshake", "config_parse_failed");
}

fn root_disk_that_is_none() {
    let machine = Machine::new();
    let noise = machine.path("noise.img");
    std::fs::write(&noise, vec![0x5a; 1 << 20]).unwrap();
    boot(machine.with_root(&noise), &config()).assert_failed("root_disk", "root_failed");
}

fn root_disk_that_hangs() {
    let story = boot(Machine::new().with_stalled_disk(0, 4096), &config());
    story.assert_failed("root_disk", "root_failed");
    assert!(
        story.failure().2.contains("did not end within 15000 ms"),
        "{}",
        story.failure().2
    );
}

fn scratch_disk_that_cannot_be_written() {
    let machine = Machine::new();
    let scratch = machine.path("scratch.img");
    boot(machine.with_scratch(&scratch, DiskAccess::ReadOnly), &config())
        .assert_failed("scratch_disk", "root_failed");
}

fn scratch_disk_that_hangs() {
    let story = boot(Machine::new().with_stalled_disk(1, 4096), &config());
    story.assert_failed("scratch_disk", "root_failed");
    assert!(
        story.failure().2.contains("did not end within 15000 ms"),
        "{}",
        story.failure().2
    );
}

fn overlay_of_a_layer_that_a_crash_left() {
    let machine = Machine::new();
    let (tree, scratch) = (machine.path("tree"), machine.path("crashed.img"));
    // The mark that overlayfs leaves on a volatile layer which was not unmounted.
    std::fs::create_dir_all(tree.join("work/work/incompat/volatile/dirty")).unwrap();
    std::fs::create_dir_all(tree.join("upper")).unwrap();
    make_ext4(&scratch, "8M", &["-d", tree.to_str().unwrap()]);
    boot(machine.with_scratch(&scratch, DiskAccess::ReadWrite), &config())
        .assert_failed("overlay", "root_failed");
}

fn switch_root_without_a_free_inode() {
    let machine = Machine::new();
    let (tree, scratch, root) = (
        machine.path("tree"),
        machine.path("few.img"),
        machine.path("bare.erofs"),
    );
    // An image without directories: each has to be made in the overlay, which takes an inode of the scratch disk.
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("file"), "x").unwrap();
    let erofs = ["--quiet", root.to_str().unwrap(), tree.to_str().unwrap()];
    tool("mkfs.erofs", &erofs).ok();
    make_ext4(&scratch, "8M", &["-N", "24"]);
    leave_free_inodes(&scratch, 9);
    boot(
        machine
            .with_root(&root)
            .with_scratch(&scratch, DiskAccess::ReadWrite),
        &config(),
    )
    .assert_failed("switch_root", "root_failed");
}

/// Fills an ext4 image with empty files until `count` inodes are free.
fn leave_free_inodes(image: &std::path::Path, count: u32) {
    let image = image.to_str().unwrap();
    let free = || {
        let facts = tool("dumpe2fs", &["-h", image]).ok().stdout;
        let line = facts.lines().find_map(|line| line.strip_prefix("Free inodes:"));
        line.unwrap().trim().parse::<u32>().unwrap()
    };
    let filler = free().saturating_sub(count);
    for n in 0..filler {
        tool(
            "debugfs",
            &["-w", "-R", &format!("write /dev/null filler{n}"), image],
        )
        .ok();
    }
    assert_eq!(free(), count);
}

fn network_without_an_interface() {
    let mut config = config();
    config["network"] = json!({
        "overlay_ipv6": "fd00::2", "gateway_ipv6": "fe80::1", "prefix_len": 128, "mtu": 1420, "dns": [], "hostname": "a",
    });
    boot(Machine::new(), &config).assert_failed("network", "net_config_failed");
}

fn secrets_that_are_required_and_absent() {
    let mut config = config();
    config["secrets"] = json!({"required": true});
    boot(Machine::new(), &config).assert_failed("secrets", "secrets_missing");
}

fn secrets_that_cannot_be_written() {
    let mut config = config();
    config["secrets"] = json!({"data": "# TRC_SECRETS_V1\nA=1\nA=2\n"});
    let story = boot(Machine::new(), &config);
    story.assert_failed("secrets", "secrets_write_failed");
    assert!(
        story.failure().2.contains("repeats a key"),
        "{}",
        story.failure().2
    );
}

fn volume_without_a_device() {
    let mut config = config();
    config["mounts"] = json!([{"kind": "volume", "name": "data", "device": "/dev/vdq", "mountpoint": "/data", "mode": "rw"}]);
    let story = boot(Machine::new(), &config);
    story.assert_failed("volumes", "mount_failed");
    assert!(
        story.failure().2.contains("volume \"data\" (/dev/vdq)"),
        "{}",
        story.failure().2
    );
}

fn workload_that_is_not_there() {
    let mut config = config();
    config["workload"]["argv"] = json!(["/no/such/program"]);
    boot(Machine::new(), &config).assert_failed("workload", "workload_start_failed");
}

fn workload_that_exits_at_once_in_failure() {
    let story = boot(Machine::new(), &config());
    assert_eq!(story.states(), ["config_applied", "ready", "exited"]);
    let exited = story.said.last().unwrap();
    assert_eq!(
        (&exited["exit_code"], &exited["reason"]),
        (&11.into(), &"workload_crashed".into())
    );
    story.assert_on_console("guest-init: workload exited: exit_code=11 duration_ms=");
    story.assert_on_console("reason=workload_crashed");
}
