//! Other programs in a running instance.

use std::io::Write as _;
use std::process::Stdio;

use crate::facts;
use crate::host::{Host, Ran};

facts![
    exec_gives_exit_code_and_both_streams,
    exec_passes_standard_input_on,
    exec_with_a_terminal_has_one,
    a_third_session_is_refused,
    exec_of_a_program_that_is_not_there_is_an_error_of_its_own,
    exec_ends_what_it_left_in_the_background,
    the_boot_log_can_be_fetched,
];

const SLEEP: &str = "sleep 600";

fn exec(host: &Host, id: &str, options: &[&str], argv: &[&str]) -> Ran {
    host.plfm(
        ["exec"]
            .into_iter()
            .chain(options.iter().copied())
            .chain([id, "--"])
            .chain(argv.iter().copied()),
    )
}

fn exec_gives_exit_code_and_both_streams() {
    let host = Host::ready();
    let instance = host.start_script(&["--no-network", "--env", "A=b", "--user", "app"], SLEEP);
    let id = instance["id"].as_str().unwrap();
    let ran = exec(
        &host,
        id,
        &[],
        &["sh", "-c", "echo $A $(id -u); echo e >&2; exit 9"],
    );
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (9, "b 1000\n", "e\n")
    );
    assert_eq!(
        exec(&host, id, &["--user", "root"], &["id", "-u"]).ok().stdout,
        "0\n"
    );
    assert_eq!(exec(&host, id, &[], &["sh", "-c", "kill -15 $$"]).code, 143);
    assert_eq!(
        host.json(["ps"])["items"][0]["state"],
        "running",
        "the workload is untouched"
    );
}

fn exec_passes_standard_input_on() {
    let host = Host::ready();
    let instance = host.start_script(&["--no-network"], SLEEP);
    let input: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    let mut command = host.command([
        "exec",
        "--interactive",
        instance["id"].as_str().unwrap(),
        "--",
        "sha256sum",
    ]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap()).ok();
    let expected = plfm_release::Sha256Digest::of(input.as_bytes());
    assert_eq!(ran.stdout, format!("{expected}  -\n"));
}

fn exec_with_a_terminal_has_one() {
    let host = Host::ready();
    let instance = host.start_script(&["--no-network"], SLEEP);
    let id = instance["id"].as_str().unwrap();
    let ran = exec(
        &host,
        id,
        &["--tty"],
        &["sh", "-c", "tty; stty size; echo to-stderr >&2"],
    )
    .ok();
    assert_eq!(ran.stdout, "/dev/pts/0\r\n24 80\r\nto-stderr\r\n");
    assert!(!exec(&host, id, &[], &["tty"]).stdout.contains("/dev/"));
}

fn a_third_session_is_refused() {
    let host = Host::ready();
    let instance = host.start_script(&["--no-network"], SLEEP);
    let id = instance["id"].as_str().unwrap();
    let mut first_two = [0, 1].map(|_| {
        let mut command = host.command(["exec", "--interactive", id, "--", "sh", "-c", "echo up; cat"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
        child
    });
    let third = exec(&host, id, &[], &["true"]);
    assert_eq!(third.code, 125);
    assert!(
        third.stderr.contains("2 exec sessions already"),
        "{}",
        third.stderr
    );
    for child in &mut first_two {
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    exec(&host, id, &[], &["true"]).ok();
}

fn exec_of_a_program_that_is_not_there_is_an_error_of_its_own() {
    let host = Host::ready();
    let instance = host.start_script(&["--no-network"], SLEEP);
    let ran = exec(&host, instance["id"].as_str().unwrap(), &[], &["no-such-program"]);
    assert_eq!(ran.code, 125);
    assert!(
        ran.stderr.contains("no program \"no-such-program\""),
        "{}",
        ran.stderr
    );
    let long = "x".repeat(70_000);
    let ran = exec(&host, instance["id"].as_str().unwrap(), &[], &["echo", &long]);
    assert!(ran.code == 125 && ran.stderr.contains("65535"), "{}", ran.stderr);
}

fn exec_ends_what_it_left_in_the_background() {
    let host = Host::ready();
    let instance = host.start_script(&["--no-network"], SLEEP);
    let id = instance["id"].as_str().unwrap();
    assert_eq!(
        exec(&host, id, &[], &["sh", "-c", "sleep 4321 & echo started"])
            .ok()
            .stdout,
        "started\n"
    );
    let left = exec(&host, id, &[], &["sh", "-c", "ps | grep -c '[s]leep 4321'"]);
    assert_eq!(left.stdout, "0\n");
}

fn the_boot_log_can_be_fetched() {
    let host = Host::ready();
    let instance = host.start_script(&["--no-network", "--env", "K=planted-value"], SLEEP);
    let diagnosis = host.json(["instances", "diagnose", instance["id"].as_str().unwrap()]);
    let log = diagnosis["boot_log"].as_str().unwrap();
    assert!(
        log.contains("\"event\":\"ready\"") && log.contains("kernel_filesystems"),
        "{log}"
    );
    assert!(!log.contains("planted-value"));
}
