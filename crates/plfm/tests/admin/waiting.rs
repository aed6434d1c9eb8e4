//! `--wait`: until every active host boots the release.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::Value;

use crate::fleet::{Fleet, release};
use crate::host::Host;
use crate::operator::Operator;

/// Two hosts that have both releases; the first one is the default.
fn fleet() -> (Fleet, Operator, [Host; 2]) {
    let fleet = Fleet::start();
    let operator = fleet.operator();
    let (old, new) = (release("20260101a"), release("20260201a"));
    fleet.publish(&old, 2);
    fleet.publish(&new, 2);
    let mut hosts = ["host-1", "host-2"].map(|name| fleet.host(&operator, name));
    for host in &mut hosts {
        host.install(&new, 0);
        host.install(&old, 0);
        fleet.run(host.beat());
    }
    operator.admin(&["kernels", "set-default", "20260101a"]).ok();
    for host in &mut hosts {
        fleet.run(host.follow());
    }
    fleet.settle(|glance| glance.hosts_at_default == 2);
    (fleet, operator, hosts)
}

/// `plfm admin … --wait`, while both hosts follow one after the other.
fn wait_for(
    fleet: &Fleet,
    operator: &Operator,
    hosts: &mut [Host; 2],
    args: &[&str],
) -> (String, String, i32) {
    let args = [&["admin"], args, &["--wait", "--timeout", "1m"]].concat();
    let mut child = operator
        .command(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = String::new();
    for host in hosts {
        lines += &(progress.next().unwrap().unwrap() + "\n");
        fleet.run(host.follow());
    }
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    lines.extend(progress.map(|line| line.unwrap() + "\n"));
    (stdout, lines, child.wait().unwrap().code().unwrap())
}

#[test]
fn the_wait_ends_when_the_last_host_boots_it() {
    let (fleet, operator, mut hosts) = fleet();
    let set_default = ["kernels", "set-default", "20260201a"];
    let (stdout, progress, code) = wait_for(&fleet, &operator, &mut hosts, &set_default);
    assert_eq!(code, 0, "{stdout}{progress}");
    insta::assert_snapshot!(progress, @r"
    waiting: 0 of 2 active hosts boot it
    waiting: 1 of 2 active hosts boot it
    ");
    assert_eq!(stdout.lines().last(), Some("2 of 2 active hosts boot it"));
    assert!(stdout.starts_with("default set to "), "{stdout}");
    let rollback = ["kernels", "rollback", "--output", "json"];
    let (stdout, _, code) = wait_for(&fleet, &operator, &mut hosts, &rollback);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 0, "{document}");
    assert_eq!(document["waited"]["hosts_at_default"], 2);
    assert_eq!(document["generation"], 3);
}

#[test]
fn a_wait_that_takes_too_long_says_how_far_the_fleet_is() {
    let (_fleet, operator, _hosts) = fleet();
    let ran = operator.admin(&["kernels", "set-default", "20260201a", "--wait", "--timeout", "1s"]);
    assert_eq!(ran.code, 6);
    insta::assert_snapshot!(ran.transcript());
    let (document, code) = operator.json(&["kernels", "rollback", "--wait", "--timeout", "1s"]);
    // The hosts never left what the fleet is taken back to.
    assert_eq!(
        (code, document["waited"]["hosts_at_default"].as_u64()),
        (0, Some(2))
    );
    let set_default = ["kernels", "set-default", "20260201a"];
    operator.admin(&["kernels", "unblock", "20260201a"]).ok();
    let (document, code) = operator.json(&[&set_default[..], &["--wait", "--timeout", "1s"]].concat());
    assert_eq!(
        (code, document["error"]["code"].as_str()),
        (6, Some("wait_timed_out"))
    );
    assert_eq!(document["error"]["details"]["waited"]["hosts_active"], 2);
    assert_eq!(document["error"]["details"]["receipt"]["changed"], true);
}

#[test]
fn a_wait_ends_when_somebody_else_decides_otherwise() {
    let (_fleet, operator, _hosts) = fleet();
    let args = ["admin", "kernels", "set-default", "20260201a", "--wait"];
    let mut child = operator
        .command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(|line| line.unwrap());
    assert_eq!(lines.next().unwrap(), "waiting: 0 of 2 active hosts boot it");
    operator.admin(&["kernels", "rollback"]).ok();
    insta::assert_snapshot!(lines.next().unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn a_fleet_without_hosts_is_not_waited_for() {
    let fleet = Fleet::start();
    fleet.publish(&release("20260101a"), 2);
    let ran = fleet
        .operator()
        .admin(&["kernels", "set-default", "20260101a", "--wait"]);
    insta::assert_snapshot!(ran.ok());
}
