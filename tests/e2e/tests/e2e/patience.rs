//! PID 1 waits for nobody: not for a host that does not read, a disk that does not answer, a console that does not drain,
//! nor for a workload that is root and means harm. And nobody but the agent gets a session.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::exec_frames::{STDIN, Session, idle_config, with_guest};
use crate::facts;
use crate::host::{Host, tool};
use crate::lab;
use crate::machine::{Machine, answer_config, config, make_ext4};

facts![
    nobody_in_the_guest_can_dial_the_exec_service,
    an_exit_is_told_though_nobody_reads_the_output,
    an_exit_is_told_though_a_process_hangs_on_a_disk,
    a_flooded_console_does_not_hold_the_end,
    a_workload_that_takes_the_cgroups_of_sessions_cannot_stop_them,
    a_workload_that_leaves_its_cgroup_is_stopped_all_the_same,
    sessions_leave_no_cgroup_behind,
    a_session_that_nobody_reads_ends,
    a_disconnect_shows_although_input_is_waiting,
];

fn nobody_in_the_guest_can_dial_the_exec_service() {
    let host = Host::ready();
    let (tree, disk) = (host.path("dialer"), host.path("dialer.erofs"));
    tool(
        "cp",
        &[
            "-a",
            lab::dir().join("rootfs").to_str().unwrap(),
            tree.to_str().unwrap(),
        ],
    )
    .ok();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/dial.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compiled = Command::new(rustc)
        .args([
            "--edition",
            "2024",
            "-Ctarget-feature=+crt-static",
            "-Copt-level=1",
        ])
        .arg("-o")
        .arg(tree.join("bin/dial"))
        .arg(source)
        .status()
        .unwrap();
    assert!(compiled.success());
    tool(
        "mkfs.erofs",
        &["--quiet", disk.to_str().unwrap(), tree.to_str().unwrap()],
    )
    .ok();
    // 1 is the loopback; 3 is what the VMM calls every guest; the last is that of the guest itself, whatever it is.
    let script = "for cid in 1 3; do dial $cid; done";
    for user in ["app", "0"] {
        let args = ["run", "-q", "--no-network", "--user", user, "--rootdisk"];
        let more = [disk.to_str().unwrap(), "--", "/bin/sh", "-c", script];
        let said = host.plfm(args.into_iter().chain(more)).ok().stdout;
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(!said.contains("a session"), "{user}: {said}");
    }
}

fn an_exit_is_told_though_nobody_reads_the_output() {
    let machine = Machine::new();
    let volume = machine.path("volume.img");
    make_ext4(&volume, "16M", &[]);
    let mut config = config();
    config["workload"]["argv"] = json!([
        "/bin/sh",
        "-c",
        "echo kept > /data/file; (dd if=/dev/zero bs=1M count=64 &); sleep 1; exit 7"
    ]);
    config["output"] = json!({"vsock_port": 5163});
    config["mounts"] = json!([{"kind": "volume", "name": "data", "device": "/dev/vdc", "mountpoint": "/data", "mode": "rw"}]);
    let copy = lab_copy(&volume);
    let story = machine
        .with_volume(&copy)
        .with_deaf_output()
        .boot(Some(answer_config(&config)));
    assert_eq!(story.said.last().unwrap()["exit_code"], 7, "{}", story.console);
    story.assert_on_console("guest-init: workload exited: exit_code=7");
    assert!(
        !story.console.contains("not cleanly unmounted"),
        "{}",
        story.console
    );
    tool("e2fsck", &["-fn", copy.to_str().unwrap()]).ok();
    std::fs::remove_file(copy).unwrap();
}

/// A copy that outlives the machine's directory.
fn lab_copy(disk: &std::path::Path) -> std::path::PathBuf {
    let file = tempfile::Builder::new()
        .prefix("plfm-volume-")
        .tempfile_in("/tmp")
        .unwrap();
    let path = file.into_temp_path().keep().unwrap();
    std::fs::copy(disk, &path).unwrap();
    path
}

fn an_exit_is_told_though_a_process_hangs_on_a_disk() {
    let machine = Machine::new();
    let volume = machine.path("volume.img");
    make_ext4(&volume, "48M", &[]);
    let mut config = config();
    // The disk answers for 8 MiB; the writer is in the kernel for ever then, where no signal reaches it.
    // The end comes when the writer is seen there ten times in a row: a busy host makes it come there late.
    let script = "dd if=/dev/zero of=/data/big bs=1M count=24 conv=fsync & n=0; while [ $n -lt 10 ]; do \
        if grep -q '^State:.D' /proc/$!/status; then n=$((n+1)); else n=0; fi; sleep 0.2; done; exit 3";
    config["workload"]["argv"] = json!(["/bin/sh", "-c", script]);
    config["mounts"] = json!([{"kind": "volume", "name": "data", "device": "/dev/vdc", "mountpoint": "/data", "mode": "rw"}]);
    let story = machine
        .with_volume(&volume)
        .with_stalled_disk(2, 8 << 20)
        .boot(Some(answer_config(&config)));
    assert_eq!(story.said.last().unwrap()["exit_code"], 3, "{}", story.console);
    story.assert_on_console("guest-init: workload exited: exit_code=3");
    story.assert_on_console("some processes do not end");
}

fn a_flooded_console_does_not_hold_the_end() {
    let mut config = config();
    // Its output is the console, which is slow.
    config["workload"]["argv"] = json!([
        "/bin/sh",
        "-c",
        "(yes $(seq 100) > /dev/console &); sleep 1; exit 9"
    ]);
    let story = Machine::new().boot(Some(answer_config(&config)));
    assert_eq!(story.said.last().unwrap()["exit_code"], 9);
}

fn a_workload_that_takes_the_cgroups_of_sessions_cannot_stop_them() {
    let mut config = idle_config();
    let script = "for n in 2 3 4; do mkdir /sys/fs/cgroup/exec-$n; echo 1 > /sys/fs/cgroup/exec-$n/cgroup.freeze; done; exec sleep 600";
    config["workload"]["argv"] = json!(["/bin/sh", "-c", script]);
    let story = Machine::new().boot_and(&config, |guest| {
        // The workload may not have come that far yet; a session that is first waits for it.
        let wait = "until [ -d /sys/fs/cgroup/exec-4 ]; do sleep 0.1; done; echo there";
        let _ = Session::start(guest, false, wait).finish();
        let (out, _, _) = Session::start(guest, false, "cat /proc/self/cgroup").finish();
        assert_eq!(out, "0::/exec-5\n");
    });
    assert_eq!(story.states(), ["config_applied", "ready", "exited"]);
}

fn a_workload_that_leaves_its_cgroup_is_stopped_all_the_same() {
    let host = Host::ready();
    let script = "echo $$ > /sys/fs/cgroup/cgroup.procs; trap '' TERM; echo up; while :; do sleep 0.1; done";
    let instance = host.start_until_up(&["--no-network"], script);
    let id = instance["id"].as_str().unwrap();
    host.plfm(["stop", "--grace", "1", id]).ok();
    let exit = host.last_instance()["exit"].clone();
    assert_eq!(
        (&exit["signal"], &exit["reason"]),
        (&9.into(), &serde_json::Value::Null),
        "{exit}"
    );
}

fn sessions_leave_no_cgroup_behind() {
    with_guest(|guest| {
        for _ in 0..5 {
            let mut missing = Session::dial(guest);
            missing.control(&json!({"type": "start", "argv": ["/no/such/program"]}));
            assert_eq!(missing.finish().2["error"], "exec_start_failed");
            Session::start(guest, false, "sleep 900 > /dev/null 2>&1 & exit 0").finish();
        }
        let count = "n=9; i=0; while [ $n -gt 1 ] && [ $i -lt 100 ]; do n=$(ls -d /sys/fs/cgroup/exec-* | wc -l); i=$((i+1)); sleep 0.1; done; echo $n";
        let (out, _, _) = Session::start(guest, false, count).finish();
        assert_eq!(out, "1\n", "its own is the only one");
    });
}

fn a_session_that_nobody_reads_ends() {
    with_guest(|guest| {
        let deaf = [0, 1].map(|_| {
            Session::start(
                guest,
                false,
                "dd if=/dev/zero bs=1M count=4 2>/dev/null & sleep 1; exit 0",
            )
        });
        let mut refused = 0;
        // Two of them are all that there may be, until they are given up after half a minute.
        let out = loop {
            if let Some(session) = Session::try_start(guest, "echo in; sleep 1") {
                let (out, _, exit) = session.finish();
                if exit["error"] != "exec_too_many_sessions" {
                    break out;
                }
            }
            refused += 1;
            assert!(refused < 900, "they are never given up");
            std::thread::sleep(Duration::from_millis(100));
        };
        assert!(refused > 0 && out == "in\n", "{refused} {out}");
        drop(deaf);
    });
}

fn a_disconnect_shows_although_input_is_waiting() {
    with_guest(|guest| {
        let mut session = Session::start(guest, false, "echo $$ > /pid; echo up; exec sleep 3000");
        session.read_until("up\n");
        for _ in 0..8 {
            session.send(STDIN, &[b'x'; 32_000]);
        }
        drop(session);
        let gone = "i=0; while [ -d /proc/$(cat /pid) ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done; [ -d /proc/$(cat /pid) ] || echo gone";
        assert_eq!(Session::start(guest, false, gone).finish().0, "gone\n");
    });
}
