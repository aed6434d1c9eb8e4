//! What PID 1 owes a workload.

use crate::facts;
use crate::host::{Host, tool};

facts![
    a_thousand_zombies_are_reaped,
    out_of_memory_is_named,
    signals_to_pid_1_reach_the_program,
    a_program_that_closes_its_output_runs_on,
    a_program_has_a_session_and_a_cgroup_of_its_own,
    a_program_inherits_three_descriptors_and_no_more,
    a_dangling_resolver_link_does_not_stop_a_boot,
    without_a_network_the_host_name_is_the_instances_id,
    guest_init_stays_under_two_mebibytes,
];

fn a_thousand_zombies_are_reaped() {
    let host = Host::ready();
    // Each inner shell ends at once and leaves its child to PID 1.
    let script = "i=0; while [ $i -lt 1000 ]; do (true &); i=$((i+1)); done; echo up; sleep 600";
    let instance = host.start_until_up(&["--no-network"], script);
    let left = "n=1; i=0; while [ $n -gt 0 ] && [ $i -lt 100 ]; do n=$(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l); i=$((i+1)); sleep 0.1; done; [ $n = 0 ] && echo none";
    let ran = host
        .plfm([
            "exec",
            instance["id"].as_str().unwrap(),
            "--",
            "/bin/sh",
            "-c",
            left,
        ])
        .ok();
    assert_eq!(ran.stdout, "none\n");
}

fn out_of_memory_is_named() {
    let host = Host::ready();
    let ran = host.run_with(&["--memory", "96"], "exec tail /dev/zero");
    assert_eq!(ran.code, 137, "{}", ran.stderr);
    let exit = host.last_instance()["exit"].clone();
    assert_eq!((&exit["oom_killed"], &exit["signal"]), (&true.into(), &9.into()));
    host.run_script("kill -9 $$");
    assert_eq!(
        host.last_instance()["exit"]["oom_killed"],
        false,
        "a kill alone is not one"
    );
}

fn signals_to_pid_1_reach_the_program() {
    let host = Host::ready();
    for signal in ["TERM", "INT", "HUP"] {
        let script = format!(
            "trap 'echo got {signal}; exit 0' {signal}; kill -{signal} 1; while :; do sleep 0.1; done"
        );
        assert_eq!(host.run_script(&script).ok().stdout, format!("got {signal}\n"));
    }
}

fn a_program_that_closes_its_output_runs_on() {
    let host = Host::ready();
    assert_eq!(host.run_script("exec >&- 2>&- <&-; sleep 0.3; exit 6").code, 6);
}

fn a_program_has_a_session_and_a_cgroup_of_its_own() {
    let host = Host::ready();
    let script = "cat /proc/self/cgroup; grep -E 'Sig(Blk|Ign)' /proc/self/status; [ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo leader";
    let clean = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
    assert_eq!(
        host.run_script(script).ok().stdout,
        format!("0::/workload\n{clean}leader\n")
    );
}

fn a_program_inherits_three_descriptors_and_no_more() {
    let host = Host::ready();
    assert_eq!(host.run_script("ls /proc/$$/fd; true").ok().stdout, "0\n1\n2\n");
    let instance = host.start_script(&["--no-network"], "sleep 600");
    let id = instance["id"].as_str().unwrap();
    let inside = |options: &[&str]| {
        let args = ["exec"].into_iter().chain(options.iter().copied());
        host.plfm(args.chain([id, "--", "/bin/sh", "-c", "ls /proc/$$/fd; true"]))
            .ok()
            .stdout
    };
    assert_eq!(inside(&[]), "0\n1\n2\n");
    assert_eq!(
        inside(&["--tty"]).split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2"]
    );
}

fn a_dangling_resolver_link_does_not_stop_a_boot() {
    let host = Host::ready();
    let (dir, disk) = (host.path("rootfs"), host.path("root.erofs"));
    std::fs::create_dir_all(dir.join("etc")).unwrap();
    for name in ["resolv.conf", "hosts", "hostname"] {
        std::os::unix::fs::symlink("/nowhere/at/all", dir.join("etc").join(name)).unwrap();
    }
    std::fs::copy(crate::lab::dir().join("rootfs/bin/busybox"), dir.join("busybox")).unwrap();
    tool(
        "mkfs.erofs",
        &["--quiet", disk.to_str().unwrap(), dir.to_str().unwrap()],
    )
    .ok();
    let args = [
        "run",
        "--quiet",
        "--no-network",
        "--rootdisk",
        disk.to_str().unwrap(),
        "--",
        "/busybox",
        "grep",
        "-c",
        "localhost",
        "/etc/hosts",
    ];
    assert_eq!(host.plfm(args).ok().stdout, "2\n");
}

fn guest_init_stays_under_two_mebibytes() {
    let host = Host::ready();
    host.run_script("true").ok();
    let rss = host.last_instance()["boot"]["guest_init_rss_bytes"]
        .as_u64()
        .unwrap();
    assert!((64 << 10..2 << 20).contains(&rss), "{rss} bytes");
}

fn without_a_network_the_host_name_is_the_instances_id() {
    let host = Host::ready();
    let ran = host
        .run_script("hostname; cat /etc/hostname; ip link show lo | head -1")
        .ok();
    let name = host.last_instance()["id"].as_str().unwrap().to_ascii_lowercase();
    let lo = "1: lo: <LOOPBACK,UP,LOWER_UP>";
    assert!(
        ran.stdout.starts_with(&format!("{name}\n{name}\n{lo}")),
        "{}",
        ran.stdout
    );
}
