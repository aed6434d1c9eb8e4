//! What cannot boot says why: stage, reason, error number.

use std::path::Path;

use serde_json::Value;

use crate::host::{Host, Ran, tool};
use crate::{facts, lab};

facts![
    a_root_disk_that_is_none_is_named,
    a_scratch_disk_that_is_full_is_named,
    a_program_that_does_not_exist_is_named,
    a_program_whose_loader_is_missing_says_so,
    an_unknown_user_is_named,
    a_volume_that_is_none_is_named,
    a_request_that_makes_no_sense_is_refused_before_anything_starts,
    without_a_release_nothing_boots,
    without_an_agent_the_command_says_so,
];

/// Runs, and gives what the command printed and the boot report.
fn run(host: &Host, root_disk: &Path, options: &[&str], argv: &[&str]) -> (Ran, Value) {
    let mut args = vec!["run", "--no-network", "--rootdisk", root_disk.to_str().unwrap()];
    args.extend(options);
    args.push("--");
    args.extend(argv);
    let ran = host.plfm(args);
    (ran, host.last_instance()["boot"].clone())
}

#[track_caller]
fn assert_failed((ran, boot): &(Ran, Value), outcome: &str, stage: &str, reason: &str, errno: Option<i32>) {
    assert_eq!(ran.code, 125, "{}", ran.stderr);
    let got = (
        &boot["outcome"],
        &boot["stage"],
        &boot["reason"],
        boot["errno"].as_i64(),
    );
    assert_eq!(
        got,
        (
            &outcome.into(),
            &stage.into(),
            &reason.into(),
            errno.map(i64::from)
        ),
        "{boot}"
    );
    assert!(
        ran.stderr.contains(stage) && ran.stderr.contains(reason),
        "{}",
        ran.stderr
    );
}

fn a_root_disk_that_is_none_is_named() {
    let host = Host::ready();
    let disk = host.path("noise.img");
    std::fs::write(&disk, vec![0x5a; 1 << 20]).unwrap();
    let failed = run(&host, &disk, &[], &["/bin/true"]);
    assert_failed(&failed, "customer_failure", "root_disk", "root_failed", Some(22));
    assert!(
        failed
            .0
            .stderr
            .contains("/dev/vda holds no ext4, erofs or squashfs"),
        "{}",
        failed.0.stderr
    );

    let mut cut = std::fs::read(lab::root_disk()).unwrap();
    cut[1024 + 8..1024 + 64].fill(0xff);
    std::fs::write(&disk, cut).unwrap();
    let failed = run(&host, &disk, &[], &["/bin/true"]);
    assert_eq!((failed.0.code, &failed.1["stage"]), (125, &"root_disk".into()));
}

fn a_scratch_disk_that_is_full_is_named() {
    let host = Host::ready();
    let (disk, filler) = (host.path("scratch.img"), host.path("filler"));
    std::fs::create_dir(&filler).unwrap();
    std::fs::write(filler.join("all"), vec![1; 7 << 20]).unwrap();
    let (disk_text, filler_text) = (disk.to_str().unwrap(), filler.to_str().unwrap());
    // No block is left: the file system is made just large enough, and the rest is taken by debugfs.
    tool(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-m",
            "0",
            "-O",
            "^has_journal",
            "-d",
            filler_text,
            disk_text,
            "8M",
        ],
    )
    .ok();
    fill(disk_text);
    let failed = run(
        &host,
        &lab::root_disk(),
        &["--scratch", disk_text],
        &["/bin/true"],
    );
    assert_failed(
        &failed,
        "customer_failure",
        "scratch_disk",
        "root_failed",
        Some(28),
    );
}

/// Takes every free block of an ext4 image.
fn fill(disk: &str) {
    let free = || {
        let facts = tool("dumpe2fs", &["-h", disk]).ok().stdout;
        let line = facts.lines().find_map(|line| {
            line.strip_prefix("Free blocks:")
                .map(str::trim)
                .map(str::to_owned)
        });
        line.unwrap().parse::<u64>().unwrap()
    };
    let blocks = free();
    let file = format!("{disk}.fill");
    let block = 1024;
    std::fs::write(
        &file,
        vec![2; usize::try_from(blocks.saturating_sub(blocks / 200 + 2)).unwrap() * block],
    )
    .unwrap();
    tool("debugfs", &["-w", "-R", &format!("write {file} fill"), disk]).ok();
    for n in 0..free() {
        std::fs::write(&file, vec![3; block]).unwrap();
        tool("debugfs", &["-w", "-R", &format!("write {file} fill{n}"), disk]);
    }
    assert_eq!(free(), 0, "the disk is not full");
}

fn a_program_that_does_not_exist_is_named() {
    let host = Host::ready();
    let failed = run(&host, &lab::root_disk(), &[], &["/no/such/program"]);
    assert_failed(
        &failed,
        "customer_failure",
        "workload",
        "workload_start_failed",
        Some(2),
    );
    assert!(
        failed.0.stderr.contains("/no/such/program"),
        "{}",
        failed.0.stderr
    );
    let failed = run(&host, &lab::root_disk(), &[], &["/etc/passwd"]);
    assert_failed(
        &failed,
        "customer_failure",
        "workload",
        "workload_start_failed",
        Some(13),
    );
}

fn a_program_whose_loader_is_missing_says_so() {
    let host = Host::ready();
    let dir = host.path("rootfs");
    std::fs::create_dir_all(dir.join("bin")).unwrap();
    std::fs::copy("/bin/ls", dir.join("bin/ls")).unwrap();
    let disk = host.path("root.img");
    tool(
        "mkfs.erofs",
        &["--quiet", disk.to_str().unwrap(), dir.to_str().unwrap()],
    )
    .ok();
    let failed = run(&host, &disk, &[], &["/bin/ls"]);
    assert_failed(
        &failed,
        "customer_failure",
        "workload",
        "workload_start_failed",
        Some(2),
    );
    assert!(
        failed.0.stderr.contains("dynamic loader is not"),
        "{}",
        failed.0.stderr
    );
}

fn an_unknown_user_is_named() {
    let host = Host::ready();
    let failed = run(
        &host,
        &lab::root_disk(),
        &["--user", "nobody-here"],
        &["/bin/true"],
    );
    assert_failed(
        &failed,
        "customer_failure",
        "workload",
        "workload_start_failed",
        None,
    );
    assert!(failed.0.stderr.contains("nobody-here"), "{}", failed.0.stderr);
}

fn a_volume_that_is_none_is_named() {
    let host = Host::ready();
    let disk = host.path("noise.img");
    std::fs::write(&disk, vec![0x5a; 1 << 20]).unwrap();
    let volume = format!("data={}:/data", disk.display());
    let failed = run(&host, &lab::root_disk(), &["--volume", &volume], &["/bin/true"]);
    assert_failed(&failed, "failed", "volumes", "mount_failed", Some(22));
    assert!(failed.0.stderr.contains("volume \"data\""), "{}", failed.0.stderr);
}

fn a_request_that_makes_no_sense_is_refused_before_anything_starts() {
    let host = Host::ready();
    let disk = lab::root_disk();
    let refused = |options: &[&str], code: &str| {
        let mut args = vec!["--output", "json", "run", "--rootdisk", disk.to_str().unwrap()];
        args.extend(options);
        args.extend(["--", "/bin/true"]);
        let ran = host.plfm(args);
        assert_eq!(
            (ran.code, &ran.json()["error"]["code"]),
            (125, &code.into()),
            "{}",
            ran.stdout
        );
    };
    refused(&["--memory", "1"], "memory_invalid");
    refused(&["--vcpus", "0"], "vcpus_invalid");
    refused(&["--volume", "a=/no/such/disk:/data"], "disk_invalid");
    let volume = format!("a={}:/proc/x", disk.display());
    refused(&["--volume", &volume], "instance_invalid");
    refused(&["--stop-signal", "SIGNOPE"], "instance_invalid");
    refused(&["--release", "19990101z"], "release_unknown");
    // Each fits into an argument, all together not into a config.
    let entries: Vec<String> = (0..11)
        .map(|n| format!("BIG{n}={}", "x".repeat(100_000)))
        .collect();
    let large: Vec<&str> = entries.iter().flat_map(|entry| ["--env", entry]).collect();
    refused(&large, "instance_invalid");
    let secrets = host.path("secrets");
    std::fs::write(&secrets, "lower=1\n").unwrap();
    refused(&["--secrets", secrets.to_str().unwrap()], "secrets_invalid");
    let readable = ["--secrets", secrets.to_str().unwrap(), "--secrets-mode", "0444"];
    refused(&readable, "instance_invalid");
    let gone = host.plfm(["run", "--rootdisk", "/no/such/disk", "--", "/bin/true"]);
    assert_eq!(gone.code, 125);
    assert!(gone.stderr.contains("/no/such/disk"), "{}", gone.stderr);
    assert_eq!(
        host.json(["ps", "--all"])["items"],
        Value::Array(vec![]),
        "nothing was started"
    );
    assert_eq!(host.plfm(["run", "--rootdisk"]).code, 2);
}

fn without_a_release_nothing_boots() {
    let host = Host::empty();
    let ran = host.run_script("true");
    assert_eq!(ran.code, 125);
    assert!(
        ran.stderr.contains("no current release") && ran.stderr.contains("hint: "),
        "{}",
        ran.stderr
    );
}

fn without_an_agent_the_command_says_so() {
    let ran = tool(
        lab::program("plfm").to_str().unwrap(),
        &["--agent", "/no/such.sock", "ps"],
    );
    assert_eq!(ran.code, 6);
    assert!(
        ran.stderr.contains("/no/such.sock") && ran.stderr.contains("hint: "),
        "{}",
        ran.stderr
    );
}
