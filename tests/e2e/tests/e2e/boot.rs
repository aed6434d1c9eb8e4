//! A signed release boots, and its program runs as configured.

use std::io::Write as _;

use crate::host::{Host, tool};
use crate::{facts, lab};

facts![
    exit_code_and_both_streams_come_back,
    every_stage_is_timed,
    environment_user_and_directory_are_as_asked_for,
    secrets_are_in_their_file_and_nowhere_else,
    a_secrets_file_has_the_owner_and_mode_that_were_asked_for,
    a_program_without_a_slash_is_found_in_the_configured_path,
    a_killed_program_reports_its_signal,
    much_output_arrives_whole,
    four_instances_boot_at_once,
    guest_init_is_static_and_small,
    guest_init_refuses_to_be_anything_but_pid_1,
    the_initramfs_holds_nothing_that_the_spec_forbids,
];

fn exit_code_and_both_streams_come_back() {
    let host = Host::ready();
    let ran = host.run_script("echo out; echo err >&2; exit 7");
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (7, "out\n", "err\n")
    );
    assert_eq!(host.run_script("true").code, 0);
    assert_eq!(host.run_script("exit 255").code, 255);
}

fn every_stage_is_timed() {
    let host = Host::ready();
    host.run_script("true").ok();
    let boot = host.last_instance()["boot"].clone();
    assert_eq!(boot["outcome"], "ready");
    let stages = boot["stages"].as_array().unwrap();
    let names: Vec<&str> = stages
        .iter()
        .map(|stage| stage["stage"].as_str().unwrap())
        .collect();
    let expected = [
        "kernel_filesystems",
        "handshake",
        "root_disk",
        "scratch_disk",
        "overlay",
        "switch_root",
        "network",
        "secrets",
        "volumes",
        "workload",
    ];
    assert_eq!(names, expected);
    let mut last = 0;
    for stage in stages {
        let (started, finished) = (
            stage["started_us"].as_u64().unwrap(),
            stage["finished_us"].as_u64().unwrap(),
        );
        assert!(
            last <= started && started <= finished,
            "{stage} does not follow {last}"
        );
        last = finished;
    }
    let host_times = &boot["host"];
    let times = [
        "verified_us",
        "prepared_us",
        "started_us",
        "hello_us",
        "settled_us",
    ]
    .map(|key| host_times[key].as_u64().unwrap());
    assert!(times.is_sorted(), "{times:?}");
    assert!(boot["guest_init_rss_bytes"].as_u64().is_some());
}

fn environment_user_and_directory_are_as_asked_for() {
    let host = Host::ready();
    let options = [
        "--env",
        "A=b c",
        "--env",
        "EMPTY=",
        "--user",
        "app",
        "--cwd",
        "/made/for/it",
    ];
    let ran = host
        .run_with(
            &options,
            r#"echo "$A|$EMPTY|$HOME|$(pwd)|$(id -u):$(id -g):$(id -G)""#,
        )
        .ok();
    assert_eq!(ran.stdout, "b c||/home/app|/made/for/it|1000:1000:1000 44\n");
    let ran = host.run_with(&["--user", "4242:44"], "id -u; id -g; id -G").ok();
    assert_eq!(ran.stdout, "4242\n44\n44\n");
}

fn a_secrets_file_has_the_owner_and_mode_that_were_asked_for() {
    let host = Host::ready();
    let file = host.path("secrets.env");
    std::fs::write(&file, "# TRC_SECRETS_V1\nTOKEN=example\n").unwrap();
    let options = |user: &'static str| {
        [
            "--secrets",
            file.to_str().unwrap(),
            "--secrets-owner",
            "1000:1000",
            "--secrets-mode",
            "0440",
            "--user",
            user,
        ]
    };
    let script = "stat -c '%a %u:%g' /run/secrets/platform.env; cat /run/secrets/platform.env";
    // Another user reads it by its group, and a third does not.
    let ran = host.run_with(&options("1001:1000"), script).ok();
    assert_eq!(ran.stdout, "440 1000:1000\n# TRC_SECRETS_V1\nTOKEN=example\n");
    let ran = host.run_with(&options("1001:1001"), script);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "440 1000:1000\n"));
}

fn secrets_are_in_their_file_and_nowhere_else() {
    let host = Host::ready();
    let (file, planted) = (host.path("secrets.env"), "planted-secret-5e1f");
    let mut secrets = std::fs::File::create(&file).unwrap();
    write!(secrets, "# TRC_SECRETS_V1\nTOKEN={planted}\n").unwrap();
    let options = [
        "--secrets",
        file.to_str().unwrap(),
        "--env",
        "PASSWORD=planted-value-77aa",
    ];
    let script = "cat /run/secrets/platform.env; stat -c '%a %u:%g' /run/secrets/platform.env; df /run/secrets | tail -1 | cut -d' ' -f1";
    let ran = host.run_with(&options, script).ok();
    assert_eq!(
        ran.stdout,
        format!("# TRC_SECRETS_V1\nTOKEN={planted}\n400 0:0\ntmpfs\n")
    );

    let failing = host.plfm(
        ["run", "--rootdisk", lab::root_disk().to_str().unwrap()]
            .into_iter()
            .chain(options)
            .chain(["--", "/no/such/program"]),
    );
    assert_eq!(failing.code, 125);
    let instance = host.last_instance();
    let diagnosis = host
        .plfm(["instances", "diagnose", instance["id"].as_str().unwrap()])
        .ok();
    let disk = tool(
        "grep",
        &[
            "-rlaE",
            "planted-(secret|value)",
            host.path("state").to_str().unwrap(),
            host.path("run").to_str().unwrap(),
        ],
    );
    // The first instance's program printed its secret itself: its output is the only place for it.
    let places: Vec<&str> = disk
        .stdout
        .lines()
        .filter(|path| !path.ends_with("output.frames"))
        .collect();
    assert!(places.is_empty(), "secrets on disk: {places:?}");
    for text in [
        host.log(),
        failing.stderr,
        failing.stdout,
        diagnosis.stdout,
        host.plfm(["--output", "json", "ps", "-a"]).stdout,
    ] {
        assert!(!text.contains("planted-"), "a secret is in: {text}");
    }
}

fn a_program_without_a_slash_is_found_in_the_configured_path() {
    let host = Host::ready();
    let disk = lab::root_disk();
    let run = |path: &str, program: &str| {
        let env = format!("PATH={path}");
        host.plfm([
            "run",
            "-q",
            "--no-network",
            "--rootdisk",
            disk.to_str().unwrap(),
            "--env",
            &env,
            "--",
            program,
            "found",
        ])
    };
    assert_eq!(run("/nowhere:/bin", "echo").ok().stdout, "found\n");
    let missing = run("/nowhere", "echo");
    assert_eq!(missing.code, 125);
    assert!(
        missing.stderr.contains("workload_start_failed, errno 2"),
        "{}",
        missing.stderr
    );
}

fn a_killed_program_reports_its_signal() {
    let host = Host::ready();
    let ran = host.run_script("kill -9 $$");
    assert_eq!(ran.code, 137);
    assert_eq!(host.last_instance()["exit"]["signal"], 9);
}

fn much_output_arrives_whole() {
    let host = Host::ready();
    let ran = host.run_script("seq 1 200000").ok();
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(
        ran.stdout == expected,
        "{} bytes instead of {}",
        ran.stdout.len(),
        expected.len()
    );
}

fn four_instances_boot_at_once() {
    let host = Host::ready();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4)
            .map(|n| {
                let host = &host;
                scope.spawn(move || host.run_script(&format!("exit {n}")).code)
            })
            .collect();
        let codes: Vec<i32> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        assert_eq!(codes, [0, 1, 2, 3]);
    });
}

fn guest_init_is_static_and_small() {
    let dir = tempfile::tempdir().unwrap();
    let init = unpack_initramfs(&lab::release(), dir.path()).join("init");
    let size = std::fs::metadata(&init).unwrap().len();
    assert!(size < 5_000_000, "{size}");
    let init = init.to_str().unwrap();
    assert!(!tool("readelf", &["-d", init]).ok().stdout.contains("NEEDED"));
    assert!(!tool("readelf", &["-l", init]).ok().stdout.contains("INTERP"));
}

fn guest_init_refuses_to_be_anything_but_pid_1() {
    let dir = tempfile::tempdir().unwrap();
    let init = unpack_initramfs(&lab::release(), dir.path()).join("init");
    let refused = tool(init.to_str().unwrap(), &[]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(refused.stderr.contains("not PID 1"), "{}", refused.stderr);
    let version = tool(init.to_str().unwrap(), &["--version"]).ok().stdout;
    assert_eq!(version, "guest-init 1.0.0 protocol 1\n");
}

fn the_initramfs_holds_nothing_that_the_spec_forbids() {
    let dir = tempfile::tempdir().unwrap();
    let plain = list(&unpack_initramfs(&lab::release(), &dir.path().join("a")));
    assert_eq!(
        plain,
        [
            "dev",
            "dev/console",
            "dev/null",
            "init",
            "mnt",
            "mnt/lower",
            "mnt/newroot",
            "mnt/scratch",
            "proc",
            "sys"
        ]
    );
    let full = list(&unpack_initramfs(&lab::release_b(), &dir.path().join("b")));
    let more: Vec<&String> = full.iter().filter(|name| !plain.contains(name)).collect();
    assert_eq!(
        more,
        [
            "bin",
            "bin/busybox",
            "bin/sh",
            "etc",
            "etc/ssl",
            "etc/ssl/certs",
            "etc/ssl/certs/ca-certificates.crt"
        ]
    );
    for release in [lab::release(), lab::release_b()] {
        let size = std::fs::metadata(initramfs_of(&release)).unwrap().len();
        assert!(size <= 20 * 1024 * 1024, "{size}");
    }
}

pub fn initramfs_of(release: &std::path::Path) -> std::path::PathBuf {
    artifact_of(release, "initramfs-", ".img")
}

pub fn kernel_of(release: &std::path::Path) -> std::path::PathBuf {
    artifact_of(release, "vmlinuz-", "")
}

fn artifact_of(release: &std::path::Path, prefix: &str, suffix: &str) -> std::path::PathBuf {
    let mut paths = std::fs::read_dir(release)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .find(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(prefix) && name.ends_with(suffix) && !name.ends_with(".sha256")
        })
        .unwrap()
}

fn unpack_initramfs(release: &std::path::Path, to: &std::path::Path) -> std::path::PathBuf {
    std::fs::create_dir_all(to).unwrap();
    let script = format!(
        "gzip -dc < '{}' | cpio -idm --quiet",
        initramfs_of(release).display()
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(to)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    to.to_owned()
}

fn list(dir: &std::path::Path) -> Vec<String> {
    let found = tool(
        "find",
        &[dir.to_str().unwrap(), "-mindepth", "1", "-printf", "%P\n"],
    )
    .ok()
    .stdout;
    let mut names: Vec<String> = found.lines().map(str::to_owned).collect();
    names.sort();
    names
}
