//! Programs as customers bring them, and how they end.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::facts;
use crate::host::{Host, Ran, tool};
use crate::lab;

facts![
    all_256_exit_codes_come_back_from_exec,
    exit_codes_of_whole_instances_come_back,
    a_program_that_exits_at_once_in_failure_crashed,
    a_fork_bomb_stays_within_its_limit,
    a_fork_bomb_without_a_limit_leaves_room_to_look,
    a_dynamic_program_runs,
    a_script_runs,
    limits_and_groups_are_as_asked_for,
    a_full_scratch_disk_is_an_error_of_the_program,
];

fn all_256_exit_codes_come_back_from_exec() {
    let host = Host::ready();
    let instance = host.start_script(&["--no-network"], "sleep 600");
    let id = instance["id"].as_str().unwrap();
    let wrong: Vec<(i32, i32)> = (0..=255)
        .map(|code| {
            let ran = host.plfm(["exec", id, "--", "/bin/sh", "-c", &format!("exit {code}")]);
            (code, ran.code)
        })
        .filter(|(asked, got)| asked != got)
        .collect();
    assert_eq!(wrong, []);
    assert_eq!(host.json(["ps"])["items"][0]["state"], "running");
}

fn exit_codes_of_whole_instances_come_back() {
    let host = Host::ready();
    let codes = [0, 1, 2, 42, 125, 126, 127, 128, 129, 137, 254, 255];
    std::thread::scope(|scope| {
        for half in codes.chunks(6) {
            let host = &host;
            scope.spawn(move || {
                for code in half {
                    assert_eq!(host.run_script(&format!("exit {code}")).code, *code);
                }
            });
        }
    });
    let items = host.json(["ps", "--all"])["items"].clone();
    let mut recorded: Vec<i64> = items
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["exit"]["exit_code"].as_i64().unwrap())
        .collect();
    recorded.sort_unstable();
    assert_eq!(recorded, codes.map(i64::from));
}

fn a_program_that_exits_at_once_in_failure_crashed() {
    let host = Host::ready();
    assert_eq!(host.run_script("exit 1").code, 1);
    let instance = host.last_instance();
    assert_eq!(instance["boot"]["outcome"], "ready", "the release did its work");
    assert_eq!(
        (&instance["exit"]["exit_code"], &instance["exit"]["reason"]),
        (&1.into(), &"workload_crashed".into())
    );
    host.run_script("exit 0").ok();
    assert_eq!(host.last_instance()["exit"]["reason"], Value::Null);
}

/// The program itself forks once only: a shell that cannot fork ends, and with it the instance.
const FORK_BOMB: &str =
    "bomb() { bomb | bomb & }; (while :; do bomb; sleep 0.1; done) 2>/dev/null & echo up; exec sleep 600";

fn inside(host: &Host, id: &str, script: &str) -> Ran {
    host.plfm(["exec", "--user", "0", id, "--", "/bin/sh", "-c", script])
        .ok()
}

fn a_fork_bomb_stays_within_its_limit() {
    let host = Host::ready();
    let instance = host.start_until_up(&["--no-network", "--pids-limit", "64"], FORK_BOMB);
    let id = instance["id"].as_str().unwrap();
    let limit_was_hit = "until grep -q 'max [1-9]' /sys/fs/cgroup/workload/pids.events; do sleep 0.1; done; \
                         cat /sys/fs/cgroup/workload/pids.max; [ $(cat /sys/fs/cgroup/workload/pids.current) -le 64 ] && echo within";
    assert_eq!(inside(&host, id, limit_was_hit).stdout, "64\nwithin\n");
    host.plfm(["stop", "--grace", "0", id]).ok();
    assert_eq!(host.last_instance()["state"], "stopped");
}

fn a_fork_bomb_without_a_limit_leaves_room_to_look() {
    let host = Host::ready();
    let instance = host.start_until_up(&["--no-network", "--memory", "256"], FORK_BOMB);
    let id = instance["id"].as_str().unwrap();
    let script =
        "until grep -q 'max [1-9]' /sys/fs/cgroup/workload/pids.events; do sleep 0.1; done; echo limited";
    assert_eq!(inside(&host, id, script).stdout, "limited\n");
    host.plfm(["stop", "--grace", "0", id]).ok();
}

/// An image with the lab's userland and what `add` adds.
fn image(host: &Host, name: &str, add: impl FnOnce(&Path)) -> PathBuf {
    let (tree, disk) = (host.path(name), host.path(&format!("{name}.erofs")));
    let userland = lab::dir().join("rootfs");
    tool("cp", &["-a", userland.to_str().unwrap(), tree.to_str().unwrap()]).ok();
    add(&tree);
    let args = ["--quiet", disk.to_str().unwrap(), tree.to_str().unwrap()];
    tool("mkfs.erofs", &args).ok();
    disk
}

fn run(host: &Host, disk: &Path, argv: &[&str]) -> Ran {
    let args = [
        "run",
        "-q",
        "--no-network",
        "--rootdisk",
        disk.to_str().unwrap(),
        "--",
    ];
    host.plfm(args.into_iter().chain(argv.iter().copied()))
}

fn a_dynamic_program_runs() {
    let host = Host::ready();
    let disk = image(&host, "dynamic", |tree| {
        let libraries = tool("ldd", &["/bin/ls"]).ok().stdout;
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for path in paths.chain(["/bin/ls"]) {
            let to = tree.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::remove_file(&to).ok();
            std::fs::copy(path, to).unwrap();
        }
    });
    let ran = run(&host, &disk, &["/bin/ls", "--version"]).ok();
    assert!(ran.stdout.contains("GNU coreutils"), "{}", ran.stdout);
}

fn a_script_runs() {
    let host = Host::ready();
    let disk = image(&host, "scripted", |tree| {
        let add = |name: &str, text: &str, mode: u32| {
            let path = tree.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        add("bin/entry", "#!/bin/sh\necho \"$0 $1\"; exit 4\n", 0o755);
        add("lost", "#!/no/such/shell\n", 0o755);
        add("plain", "#!/bin/sh\n", 0o644);
    });
    let ran = run(&host, &disk, &["entry", "one"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, "/bin/entry one\n"));
    let lost = run(&host, &disk, &["/lost"]);
    assert_eq!(lost.code, 125);
    assert!(lost.stderr.contains("its interpreter"), "{}", lost.stderr);
    let plain = run(&host, &disk, &["/plain"]);
    assert!(plain.stderr.contains("errno 13"), "{}", plain.stderr);
}

fn limits_and_groups_are_as_asked_for() {
    let host = Host::ready();
    let options = [
        "--ulimit",
        "nofile=64:128",
        "--ulimit",
        "core=0",
        "--ulimit",
        "stack=unlimited",
        "--group",
        "video",
        "--group",
        "77",
        "--user",
        "4242:7",
    ];
    let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Ss; id -g; id -G";
    assert_eq!(
        host.run_with(&options, script).ok().stdout,
        "64\n128\n0\nunlimited\n7\n7 44 77\n"
    );
    let unknown = host.run_with(&["--ulimit", "speed=1"], "true");
    assert!(
        unknown.code == 125 && unknown.stderr.contains("workload.rlimits"),
        "{}",
        unknown.stderr
    );
    let group = host.run_with(&["--group", "no-such-group"], "true");
    assert!(
        group.code == 125 && group.stderr.contains("no-such-group"),
        "{}",
        group.stderr
    );
}

fn a_full_scratch_disk_is_an_error_of_the_program() {
    let host = Host::ready();
    let script = "dd if=/dev/zero of=/big bs=1M count=64 2>&1 | grep -o 'No space left on device'; rm /big; echo fine > /small; cat /small";
    let ran = host.run_with(&["--scratch-size", "16"], script).ok();
    assert_eq!(ran.stdout, "No space left on device\nfine\n");
}
