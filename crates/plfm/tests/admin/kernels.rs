//! `plfm admin kernels` and `fleet`.

use plfm_api::BootOutcome;
use plfm_api::control::Role;

use crate::fleet::{Fleet, release};
use crate::host::Host;
use crate::operator::Operator;

/// Two hosts with the releases `20260101a` and `20260201a` installed, which have booted the first some times.
fn two_hosts(fleet: &Fleet, operator: &Operator) -> [Host; 2] {
    let (old, new) = (release("20260101a"), release("20260201a"));
    fleet.publish(&old, 2);
    fleet.publish(&new, 2);
    let mut hosts = ["host-1", "host-2"].map(|name| fleet.host(operator, name));
    for host in &mut hosts {
        host.install(&new, 0);
        host.install(&old, 3);
        host.boot_by_default(&old);
        host.booted(&old, BootOutcome::Ready, 50);
        fleet.run(host.follow());
    }
    hosts[0].booted(&old, BootOutcome::KernelPanic, 1);
    hosts[0].booted(&old, BootOutcome::CustomerFailure, 7);
    fleet.run(hosts[0].beat());
    hosts
}

/// Both hosts go by what they are told.
fn follow(fleet: &Fleet, hosts: &mut [Host; 2]) {
    for host in hosts {
        fleet.run(host.follow());
    }
    fleet.settle(|glance| glance.hosts_at_generation == 2);
}

#[test]
fn an_empty_fleet_says_what_to_do_first() {
    let fleet = Fleet::start();
    let operator = fleet.operator();
    let verbs = [
        &["fleet"][..],
        &["kernels", "list"],
        &["hosts", "list"],
        &["policy", "show"],
        &["whoami"],
    ];
    let seen = verbs.map(|verb| operator.admin(verb).ok());
    insta::assert_snapshot!(seen.concat());
}

#[test]
fn a_release_becomes_the_default_and_the_fleet_is_taken_back() {
    let fleet = Fleet::start();
    let operator = fleet.operator();
    let mut hosts = two_hosts(&fleet, &operator);
    let mut seen = String::new();
    let mut admin = |args: &[&str]| seen += &operator.admin(args).ok();
    admin(&["kernels", "set-default", "20260101a"]);
    follow(&fleet, &mut hosts);
    fleet.settle(|glance| glance.hosts_at_default == 2);
    admin(&["kernels", "list"]);
    admin(&[
        "kernels",
        "set-default",
        "20260201a",
        "--reason",
        "the new one",
        "--expect-generation",
        "1",
    ]);
    admin(&["kernels", "set-default", "20260201a"]);
    admin(&["fleet"]);
    follow(&fleet, &mut hosts);
    admin(&["fleet"]);
    admin(&["kernels", "rollback", "--reason", "it panics"]);
    admin(&["kernels", "list"]);
    admin(&["kernels", "unblock", "20260201a", "--reason", "it did not"]);
    admin(&["kernels", "block", "20260201a", "--reason", "but it might"]);
    admin(&["kernels", "show", "20260201a"]);
    admin(&["kernels", "show", "20260101a"]);
    admin(&["kernels", "unblock", "20260201a"]);
    admin(&["kernels", "rollback", "20260201a", "--yes"]);
    insta::assert_snapshot!(seen);
}

#[test]
fn the_same_as_json() {
    let fleet = Fleet::start();
    let operator = fleet.operator();
    let mut hosts = two_hosts(&fleet, &operator);
    let json = |args: &[&str]| operator.admin(&[args, &["--output", "json"]].concat()).ok();
    let mut seen = json(&["kernels", "set-default", "20260101a"]);
    follow(&fleet, &mut hosts);
    seen += &json(&["kernels", "list"]);
    seen += &json(&["kernels", "show", "20260101a"]);
    seen += &json(&["fleet"]);
    seen += &json(&["hosts", "show", "host-1"]);
    insta::assert_snapshot!(seen);
}

#[test]
fn what_is_refused_says_why_and_what_to_do() {
    let fleet = Fleet::start();
    let operator = fleet.operator();
    let mut hosts = two_hosts(&fleet, &operator);
    fleet.publish(&release("20260301a"), 3);
    let gone = release("20260401a");
    fleet.publish(&gone, 2);
    fleet.withdraw(&gone, "it was yanked: panics");
    let sibling = "6.1.50-20260101a+guestinit-1.1.0-20260111a";
    fleet.publish(&sibling.parse().unwrap(), 2);
    let viewer = fleet.operator_as(Role::Viewer);
    let mut seen = String::new();
    let mut refused = |operator: &Operator, code: i32, args: &[&str]| {
        let ran = operator.admin(args);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (code, ""),
            "{}",
            ran.transcript()
        );
        seen += &ran.transcript();
    };
    refused(&operator, 5, &["kernels", "rollback"]);
    operator
        .admin(&["kernels", "set-default", "guestinit-1.0.0-20260101a"])
        .ok();
    follow(&fleet, &mut hosts);
    refused(&operator, 4, &["kernels", "show", "20990101a"]);
    refused(&operator, 4, &["kernels", "set-default", "20990101a"]);
    refused(&operator, 5, &["kernels", "show", "6.1.50-20260101a"]);
    refused(
        &operator,
        5,
        &["kernels", "set-default", "20260201a", "--expect-generation", "0"],
    );
    refused(&operator, 5, &["kernels", "set-default", "20260301a"]);
    refused(&operator, 5, &["kernels", "set-default", "20260401a"]);
    refused(
        &operator,
        5,
        &["kernels", "block", "guestinit-1.0.0-20260101a", "--reason", "x"],
    );
    refused(&operator, 5, &["kernels", "rollback"]);
    refused(&operator, 5, &["kernels", "rollback", "20260301a", "--yes"]);
    operator
        .admin(&["kernels", "block", "20260201a", "--reason", "it panics"])
        .ok();
    refused(&operator, 5, &["kernels", "set-default", "20260201a"]);
    refused(
        &operator,
        2,
        &["kernels", "block", "20260301a", "--reason", "two\nlines"],
    );
    refused(&viewer, 3, &["kernels", "set-default", "20260101a"]);
    refused(&viewer, 3, &["tokens", "list"]);
    insta::assert_snapshot!(seen);
}
