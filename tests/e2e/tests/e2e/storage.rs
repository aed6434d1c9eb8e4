//! Scratch disk and volumes.

use serde_json::json;

use crate::facts;
use crate::host::{Host, tool};
use crate::machine::{Machine, answer_config, config};

facts![
    a_volume_keeps_its_data_and_is_clean_after_the_stop,
    a_read_only_volume_refuses_writes,
    a_volume_is_not_mounted_over_a_link,
    a_volume_within_a_volume_is_mounted_after_it,
    the_guest_itself_refuses_a_reserved_mount_point,
    the_scratch_disk_is_unmounted_cleanly,
    a_scratch_disk_of_ones_own_keeps_its_state,
];

fn make_volume(host: &Host, name: &str) -> String {
    let disk = host.path(name);
    tool("mke2fs", &["-q", "-t", "ext4", disk.to_str().unwrap(), "16M"]).ok();
    disk.to_str().unwrap().to_owned()
}

#[track_caller]
fn assert_clean(disk: &str) {
    let facts = tool("dumpe2fs", &["-h", disk]).ok().stdout;
    assert!(
        facts
            .lines()
            .any(|line| line.split_whitespace().eq(["Filesystem", "state:", "clean"])),
        "{facts}"
    );
    assert!(!facts.contains("needs_recovery"), "{facts}");
    tool("e2fsck", &["-fn", disk]).ok();
}

fn a_volume_keeps_its_data_and_is_clean_after_the_stop() {
    let host = Host::ready();
    let disk = make_volume(&host, "data.img");
    let volume = format!("data={disk}:/srv/deep/data");
    host.run_with(&["--volume", &volume], "echo kept > /srv/deep/data/file")
        .ok();
    assert_clean(&disk);
    assert_eq!(
        host.run_with(&["--volume", &volume], "cat /srv/deep/data/file")
            .ok()
            .stdout,
        "kept\n"
    );
    let busy = host.start_script(
        &["--no-network", "--volume", &volume],
        "while :; do echo x >> /srv/deep/data/log; done",
    );
    host.plfm(["stop", "--grace", "1", busy["id"].as_str().unwrap()])
        .ok();
    assert_clean(&disk);
}

fn a_read_only_volume_refuses_writes() {
    let host = Host::ready();
    let disk = make_volume(&host, "data.img");
    let volume = format!("data={disk}:/data:ro");
    let script = "echo x > /data/file && exit 1; mount -o remount,rw /data && exit 2; echo x > /dev/vdc && exit 3; exit 0";
    assert_eq!(host.run_with(&["--volume", &volume], script).code, 0);
}

fn a_volume_is_not_mounted_over_a_link() {
    let host = Host::ready();
    let (dir, image, disk) = (
        host.path("rootfs"),
        host.path("linked.erofs"),
        make_volume(&host, "data.img"),
    );
    std::fs::create_dir_all(dir.join("etc")).unwrap();
    std::os::unix::fs::symlink("/etc", dir.join("data")).unwrap();
    std::fs::copy(crate::lab::dir().join("rootfs/bin/busybox"), dir.join("busybox")).unwrap();
    tool(
        "mkfs.erofs",
        &["--quiet", image.to_str().unwrap(), dir.to_str().unwrap()],
    )
    .ok();
    let volume = format!("data={disk}:/data");
    let ran = host.plfm([
        "run",
        "--no-network",
        "--rootdisk",
        image.to_str().unwrap(),
        "--volume",
        &volume,
        "--",
        "/busybox",
        "true",
    ]);
    assert_eq!(ran.code, 125);
    let boot = host.last_instance()["boot"].clone();
    assert_eq!(
        (&boot["stage"], &boot["reason"]),
        (&"volumes".into(), &"mount_failed".into()),
        "{boot}"
    );
}

fn a_volume_within_a_volume_is_mounted_after_it() {
    let host = Host::ready();
    let (outer, inner) = (make_volume(&host, "outer.img"), make_volume(&host, "inner.img"));
    let (first, second) = (format!("a={inner}:/data/in"), format!("b={outer}:/data"));
    let options = ["--volume", &first, "--volume", &second];
    let script = "echo deep > /data/in/file; grep -c ' /data\\(/in\\)\\? ext4 rw,.*noatime' /proc/mounts; ls /data | grep -v lost";
    assert_eq!(host.run_with(&options, script).ok().stdout, "2\nin\n");
    for disk in [&outer, &inner] {
        assert_clean(disk);
    }
    let kept = host.run_with(&["--volume", &format!("a={inner}:/data")], "cat /data/file");
    assert_eq!(kept.ok().stdout, "deep\n");
}

fn the_guest_itself_refuses_a_reserved_mount_point() {
    for target in [
        "/",
        "/proc",
        "/sys/x",
        "/dev/x",
        "/run/x",
        "/tmp",
        "/a/../proc",
        "relative",
    ] {
        let mut config = config();
        config["mounts"] = json!([{"kind": "volume", "name": "v", "device": "/dev/vdc", "mountpoint": target, "mode": "rw"}]);
        let story = Machine::new().boot(Some(answer_config(&config)));
        story.assert_failed("handshake", "config_parse_failed");
        assert!(
            story.failure().2.contains("mounts[0].mountpoint"),
            "{target}: {}",
            story.failure().2
        );
    }
}

fn the_scratch_disk_is_unmounted_cleanly() {
    let host = Host::ready();
    let disk = make_volume(&host, "scratch.img");
    let script = "dd if=/dev/zero of=/big bs=64k count=64; sleep 300 & echo x > /file";
    host.run_with(&["--scratch", &disk], script).ok();
    assert_clean(&disk);
}

fn a_scratch_disk_of_ones_own_keeps_its_state() {
    let host = Host::ready();
    let disk = make_volume(&host, "scratch.img");
    host.run_with(&["--scratch", &disk], "echo kept > /file; rm /etc/group")
        .ok();
    let ran = host
        .run_with(
            &["--scratch", &disk],
            "cat /file; test -e /etc/group || echo gone",
        )
        .ok();
    assert_eq!(ran.stdout, "kept\ngone\n");
}
