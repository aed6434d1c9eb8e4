//! `plfm admin policy`.

use crate::fleet::{Fleet, release};
use crate::operator::Operator;

fn fleet() -> (Fleet, Operator) {
    let fleet = Fleet::start();
    let operator = fleet.operator();
    for build in ["20260101a", "20260201a"] {
        fleet.publish(&release(build), 2);
    }
    operator.admin(&["kernels", "set-default", "20260101a"]).ok();
    (fleet, operator)
}

#[test]
fn each_part_is_changed_alone_and_can_be_taken_back() {
    let (_fleet, operator) = fleet();
    let mut seen = String::new();
    let mut admin = |args: &[&str]| seen += &operator.admin(args).ok();
    admin(&[
        "policy",
        "canary",
        "20260201a",
        "--weight",
        "5%",
        "--reason",
        "a first try",
    ]);
    admin(&["policy", "canary", "20260201a", "--weight", "12.5%"]);
    admin(&["policy", "pin", "web 1", "20260201a"]);
    admin(&["policy", "pin", "web 1", "20260101a"]);
    admin(&["policy", "prefetch", "add", "20260201a"]);
    admin(&["policy", "prefetch", "add", "20260201a"]);
    let zone = ["--time-zone", "Europe/Berlin"];
    let window = [
        "policy",
        "window",
        "--days",
        "sat,sun",
        "--start",
        "02:30",
        "--duration",
        "3h",
    ];
    admin(&[&window[..], &zone].concat());
    admin(&["policy", "fetches", "0"]);
    admin(&["policy", "show"]);
    admin(&["policy", "show", "--output", "json"]);
    admin(&["kernels", "list"]);
    admin(&["fleet"]);
    admin(&["policy", "canary", "--none"]);
    admin(&["policy", "unpin", "web 1"]);
    admin(&["policy", "prefetch", "remove", "20260201a"]);
    admin(&["policy", "window", "--none"]);
    admin(&["policy", "show"]);
    insta::assert_snapshot!(seen);
}

/// The command after `undo`, as a shell would split it.
fn undo(stdout: &str) -> Vec<String> {
    let line = stdout
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("undo "))
        .unwrap();
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.trim().chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.split_off(1)
}

#[test]
fn the_undo_of_a_change_is_a_command_that_brings_back_what_was() {
    let (_fleet, operator) = fleet();
    let policy = || operator.json(&["policy", "show"]).0["policy"].clone();
    let changes = [
        "policy canary 20260201a --weight 0.25%",
        "policy canary 20260201a --weight 50%",
        "policy canary --none",
        "policy pin a 20260201a",
        "policy pin a 20260101a",
        "policy unpin a",
        "policy prefetch add 20260201a",
        "policy prefetch remove 20260201a",
        "policy window --days daily --start 00:00 --duration 90m --time-zone UTC",
        "policy window --days mon,fri --start 22:15 --duration 1d --time-zone Asia/Tokyo",
        "policy window --none",
        "policy fetches 3",
        "policy fetches 0",
    ];
    for change in changes {
        let args: Vec<&str> = change.split(' ').collect();
        let before = policy();
        let ran = operator.admin(&args);
        assert_eq!(ran.code, 0, "{}", ran.transcript());
        let after = policy();
        assert_ne!(before, after, "{change}");
        let undo = undo(&ran.stdout);
        let undo: Vec<&str> = undo.iter().map(String::as_str).collect();
        assert_eq!(operator.plfm(&undo, "").code, 0, "{undo:?}");
        assert_eq!(policy(), before, "{change}");
        operator.admin(&args).ok();
        assert_eq!(policy(), after, "{change}");
    }
}

#[test]
fn a_policy_is_shown_edited_and_set_if_nobody_was_faster() {
    let (_fleet, operator) = fleet();
    let (mut shown, _) = operator.json(&["policy", "show"]);
    shown["policy"]["lost_after_seconds"] = 600.into();
    operator.write("policy.json", &shown.to_string());
    let set = ["policy", "set", "policy.json", "--reason", "slow hosts"];
    let mut seen = operator.admin(&set).ok();
    // Its generation is over.
    seen += &operator.admin(&set).transcript();
    seen += &operator
        .admin_with(&["policy", "set", "-"], r#"{"fetches_max": 7}"#)
        .ok();
    seen += &operator.admin(&["policy", "show"]).ok();
    insta::assert_snapshot!(seen);
}

#[test]
fn what_is_no_policy_is_refused() {
    let (_fleet, operator) = fleet();
    operator.write("bad.json", r#"{"fetch_max": 7}"#);
    operator.write("lost.json", r#"{"lost_after_seconds": 0}"#);
    let mut seen = String::new();
    for (code, args) in [
        (1, &["policy", "set", "none.json"][..]),
        (2, &["policy", "set", "bad.json"]),
        (2, &["policy", "set", "lost.json"]),
        (4, &["policy", "unpin", "web"]),
        (4, &["policy", "prefetch", "remove", "20260201a"]),
        (4, &["policy", "canary", "20990101a", "--weight", "5%"]),
        (
            2,
            &[
                "policy",
                "window",
                "--days",
                "mon",
                "--start",
                "02:30",
                "--duration",
                "3h",
                "--time-zone",
                "Mars",
            ],
        ),
    ] {
        let ran = operator.admin(args);
        seen += &ran.transcript();
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (code, ""),
            "{}",
            ran.transcript()
        );
    }
    insta::assert_snapshot!(seen);
}
