//! Listing, reading, stopping, forgetting; and what a restart of the agent leaves.

use serde_json::Value;

use crate::facts;
use crate::host::{Host, tool};

facts![
    a_program_that_handles_its_stop_signal_ends_as_it_likes,
    a_program_that_ignores_it_is_killed_after_the_grace,
    a_second_stop_can_hurry_the_first,
    ps_logs_and_rm_show_and_forget_an_instance,
    logs_follow_a_running_program_to_its_end,
    nothing_is_left_of_an_instance_but_its_records,
    nobody_listens_for_an_instance_that_is_over,
    no_process_of_an_instance_leaves_a_core_file,
    an_end_that_cannot_be_written_is_no_end_yet,
    an_agent_that_is_stopped_stops_its_instances,
    an_agent_that_was_killed_finds_and_ends_what_it_left,
    a_running_instance_keeps_its_release_when_another_becomes_current,
];

fn id(instance: &Value) -> &str {
    instance["id"].as_str().unwrap()
}

fn a_program_that_handles_its_stop_signal_ends_as_it_likes() {
    let host = Host::ready();
    let script = "trap 'echo goodbye; exit 5' USR1; echo up; while :; do sleep 0.1; done";
    let instance = host.start_until_up(&["--no-network", "--stop-signal", "SIGUSR1"], script);
    let stopped = host.json(["stop", id(&instance)]);
    assert_eq!(
        (&stopped["state"], &stopped["exit"]["exit_code"]),
        (&"stopped".into(), &5.into())
    );
    assert_eq!(host.plfm(["logs", id(&instance)]).ok().stdout, "up\ngoodbye\n");
    host.plfm(["stop", id(&instance)]).ok();
}

fn a_program_that_ignores_it_is_killed_after_the_grace() {
    let host = Host::ready();
    let instance = host.start_until_up(
        &["--no-network"],
        "trap '' TERM; echo up; while :; do sleep 0.1; done",
    );
    let stopped = host.json(["stop", "--grace", "1", id(&instance)]);
    assert_eq!(
        (&stopped["state"], &stopped["exit"]["signal"]),
        (&"stopped".into(), &9.into())
    );
}

fn a_second_stop_can_hurry_the_first() {
    let host = Host::ready();
    let instance = host.start_until_up(
        &["--no-network"],
        "trap '' TERM; echo up; while :; do sleep 0.1; done",
    );
    let stopping = host.json(["stop", "--no-wait", "--grace", "3000", id(&instance)]);
    assert!(stopping["exit"].is_null());
    let stopped = host.json(["stop", "--grace", "0", id(&instance)]);
    assert_eq!(
        (&stopped["state"], &stopped["exit"]["signal"]),
        (&"stopped".into(), &9.into())
    );
}

fn ps_logs_and_rm_show_and_forget_an_instance() {
    let host = Host::ready();
    let instance = host.start_until_up(&["--no-network"], "echo hello; echo up; sleep 600");
    let end = &id(&instance)[id(&instance).len() - 6..];
    let table = host.plfm(["ps"]).ok().stdout;
    assert!(
        table.contains(id(&instance)) && table.contains("running") && table.contains("current"),
        "{table}"
    );
    assert_eq!(
        host.plfm(["rm", end]).code,
        5,
        "a running instance is not forgotten"
    );
    host.plfm(["stop", end]).ok();
    assert!(!host.plfm(["ps"]).ok().stdout.contains(id(&instance)));
    assert!(host.plfm(["ps", "--all"]).ok().stdout.contains("signal 15"));
    assert_eq!(host.plfm(["logs", end]).ok().stdout, "hello\nup\n");
    host.plfm(["rm", end]).ok();
    assert_eq!(host.plfm(["logs", end]).code, 4);
    assert!(!host.path("state/instances").join(id(&instance)).exists());
}

fn logs_follow_a_running_program_to_its_end() {
    let host = Host::ready();
    let instance = host.start_script(&["--no-network"], "for n in 1 2 3; do echo $n; sleep 0.2; done");
    assert_eq!(
        host.plfm(["logs", "--follow", id(&instance)]).ok().stdout,
        "1\n2\n3\n"
    );
}

fn nobody_listens_for_an_instance_that_is_over() {
    let host = Host::ready();
    let disk = host.path("noise.img");
    std::fs::write(&disk, vec![0x5a; 1 << 20]).unwrap();
    // It fails long before its output is dialled for.
    let ran = host.plfm([
        "run",
        "--no-network",
        "--rootdisk",
        disk.to_str().unwrap(),
        "--",
        "/bin/true",
    ]);
    assert_eq!(ran.code, 125);
    // A removed socket's listener is still in the kernel's list.
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    let run = host.path("run").display().to_string();
    let left: Vec<&str> = sockets
        .lines()
        .filter(|line| line.contains(&run) && line.contains("v.sock_"))
        .collect();
    assert_eq!(left, [""; 0]);
}

fn no_process_of_an_instance_leaves_a_core_file() {
    let host = Host::ready();
    host.start_script(&["--no-network"], "sleep 600");
    let processes = tool("pgrep", &["-f", host.path("run").to_str().unwrap()])
        .ok()
        .stdout;
    assert_eq!(
        processes.lines().count(),
        3,
        "agent, QEMU, vsock daemon: {processes}"
    );
    for pid in processes.lines() {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        let words: Vec<&str> = core.split_whitespace().collect();
        assert_eq!(words[4..6], ["1", "1"], "{core}");
    }
}

fn nothing_is_left_of_an_instance_but_its_records() {
    let host = Host::ready();
    let instance = host.start_until_up(&[], "echo up; sleep 600");
    host.plfm(["stop", id(&instance)]).ok();
    host.run_with(&["--user", "nobody-here"], "true");
    let names = |dir: std::path::PathBuf| {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(host.path("run")), ["agent.sock"]);
    let instances = names(host.path("state/instances"));
    assert_eq!(instances.len(), 2);
    for instance in instances {
        let mut left = names(host.path("state/instances").join(instance));
        left.retain(|name| name != "output.frames");
        assert_eq!(left, ["console.log", "instance.json"]);
    }
    let processes = tool("pgrep", &["-f", host.path("run").to_str().unwrap()]).stdout;
    assert_eq!(processes.lines().count(), 1, "only the agent: {processes}");
    let end = &id(&instance).to_ascii_lowercase()[16..];
    assert!(
        !std::path::Path::new(&format!("/sys/class/net/plfm{end}")).exists(),
        "its tap device is left"
    );
}

fn an_end_that_cannot_be_written_is_no_end_yet() {
    let host = Host::ready();
    let instance = host.start_until_up(
        &["--no-network"],
        "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done",
    );
    // A directory where the record is written: as a full disk, it can be no file.
    let obstacle = host
        .path("state/instances")
        .join(id(&instance))
        .join("instance.json.new");
    std::fs::create_dir(&obstacle).unwrap();
    host.plfm(["stop", "--no-wait", id(&instance)]).ok();
    for _ in 0..5_000 {
        if host.log().matches("cannot write the instance's record").count() > 2 {
            break;
        }
        host.plfm(["host"]);
    }
    assert_ne!(host.last_instance()["state"], "stopped", "{}", host.log());
    std::fs::remove_dir(&obstacle).unwrap();
    host.plfm(["stop", id(&instance)]).ok();
    let after = host.last_instance();
    assert_eq!(
        (&after["state"], &after["exit"]["exit_code"]),
        (&"stopped".into(), &3.into())
    );
}

fn an_agent_that_is_stopped_stops_its_instances() {
    let mut host = Host::ready();
    let instance = host.start_until_up(
        &["--no-network"],
        "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done",
    );
    host.stop_agent();
    host.start_agent();
    let after = host.last_instance();
    assert_eq!(
        (&after["id"], &after["state"], &after["exit"]["exit_code"]),
        (&instance["id"], &"stopped".into(), &3.into())
    );
}

fn an_agent_that_was_killed_finds_and_ends_what_it_left() {
    let mut host = Host::ready();
    let instance = host.start_script(&["--no-network"], "sleep 600");
    host.kill_agent();
    let run_dir = host.path("run").to_str().unwrap().to_owned();
    assert!(
        !tool("pgrep", &["-f", &run_dir]).stdout.is_empty(),
        "the VM outlives its agent"
    );
    host.start_agent();
    let after = host.last_instance();
    assert_eq!(
        (&after["id"], &after["exit"]["reason"]),
        (&instance["id"], &"agent_restarted".into())
    );
    assert_eq!(
        tool("pgrep", &["-f", &run_dir]).stdout.lines().count(),
        1,
        "only the agent is left"
    );
    assert_eq!(host.run_script("exit 4").code, 4);
}

fn a_running_instance_keeps_its_release_when_another_becomes_current() {
    let host = Host::ready();
    let old = host.start_script(&["--no-network"], "sleep 600");
    host.plfm([
        "release",
        "install",
        "--current",
        crate::lab::release_b().to_str().unwrap(),
    ])
    .ok();
    let new = host.start_script(&["--no-network"], "sleep 600");
    assert_ne!(old["release"], new["release"]);
    let releases = host.json(["release", "list"]);
    let counts: Vec<_> = releases["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|release| release["instances"].clone())
        .collect();
    assert_eq!(counts, [1, 1]);
    let back = host.start_script(&["--no-network", "--release", "20260101a"], "sleep 600");
    assert_eq!(
        (&back["release"], &back["release_reason"]),
        (&old["release"], &"requested".into())
    );
    let ambiguous = host.plfm(["release", "use", "6.1"]);
    assert_eq!(ambiguous.code, 4, "an abbreviation is a whole label or build id");
}
