//! `plfm admin hosts`.

use plfm_api::control::Role;

use crate::fleet::{Fleet, release};
use crate::operator::{Operator, mode};

/// Two hosts: one that is well, and one that has trouble and speaks an older protocol only.
fn fleet() -> (Fleet, Operator) {
    let fleet = Fleet::start();
    let operator = fleet.operator();
    let (old, new) = (release("20260101a"), release("20260201a"));
    fleet.publish(&old, 1);
    fleet.publish(&new, 2);
    let mut good = fleet.host(&operator, "host-1");
    good.install(&new, 0);
    good.install(&old, 4);
    good.boot_by_default(&old);
    fleet.run(good.beat());
    let mut bad = fleet.host(&operator, "host-2");
    bad.protocols = vec![1];
    bad.install(&old, 1);
    bad.problems = vec![
        "the registry does not answer: connection refused".to_owned(),
        "\u{1b}[31mred\u{1b}[0m\nline".to_owned(),
    ];
    fleet.run(bad.beat());
    fleet.host(&operator, "host-3");
    fleet.settle(|glance| glance.hosts["active"] == 2);
    (fleet, operator)
}

#[test]
fn hosts_are_listed_and_shown() {
    let (_fleet, operator) = fleet();
    let verbs = [
        &["hosts", "list"][..],
        &["hosts", "list", "--state", "enrolled"],
        &["hosts", "list", "--release", "20260201a"],
        &["hosts", "list", "--state", "lost"],
        &["hosts", "show", "host-1"],
        &["hosts", "show", "host-2"],
        &["hosts", "show", "host-3"],
        &["kernels", "show", "20260201a"],
        &["fleet"],
    ];
    let seen = verbs.map(|verb| operator.admin(verb).ok());
    insta::assert_snapshot!(seen.concat());
}

#[test]
fn hosts_are_drained_and_revoked_by_name_or_id() {
    let (fleet, operator) = fleet();
    let (hosts, _) = operator.json(&["hosts", "list"]);
    let id = hosts["items"][1]["id"].as_str().unwrap();
    let mut seen = String::new();
    let mut admin = |args: &[&str]| seen += &operator.admin(args).ok();
    admin(&["hosts", "drain", "host-1", "--reason", "a new disk"]);
    admin(&["hosts", "drain", "host-1"]);
    admin(&["hosts", "list", "--state", "draining"]);
    admin(&["hosts", "undrain", "host-1"]);
    admin(&["hosts", "revoke", id, "--yes", "--reason", "stolen"]);
    admin(&["hosts", "show", id]);
    fleet.settle(|glance| glance.hosts["revoked"] == 1);
    admin(&["fleet"]);
    insta::assert_snapshot!(seen);
}

#[test]
fn what_is_refused_says_why() {
    let (fleet, operator) = fleet();
    let by_operator = fleet.operator_as(Role::Operator);
    operator.admin(&["hosts", "revoke", "host-3", "--yes"]).ok();
    let mut seen = String::new();
    for (operator, code, args) in [
        (&operator, 4, &["hosts", "show", "host-9"][..]),
        (&operator, 4, &["hosts", "show", "01JZZZZZZZZZZZZZZZZZZZZZZZ"]),
        (&operator, 4, &["hosts", "list", "--release", "20990101a"]),
        (&operator, 5, &["hosts", "drain", "host-3"]),
        (&operator, 2, &["hosts", "enroll-token", "--valid", "5s"]),
        (&operator, 2, &["hosts", "enroll-token", "--host-name", "no/name"]),
        (
            &operator,
            4,
            &["hosts", "enroll-tokens", "revoke", "01JZ", "--yes"],
        ),
        (&by_operator, 3, &["hosts", "revoke", "host-1", "--yes"]),
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

#[test]
fn an_enrollment_token_is_shown_once_or_written_to_a_file() {
    let fleet = Fleet::start();
    let operator = fleet.operator();
    let mut seen = operator.admin(&["hosts", "enroll-tokens", "list"]).ok();
    seen += &operator
        .admin(&["hosts", "enroll-token", "--host-name", "host-1"])
        .ok();
    let to_file = ["hosts", "enroll-token", "--valid", "1d", "--out", "host.token"];
    seen += &operator.admin(&to_file).ok();
    assert_eq!(mode(&operator.path("host.token")), 0o600);
    let token = std::fs::read_to_string(operator.path("host.token")).unwrap();
    seen += &operator.admin(&to_file).transcript();
    assert_eq!(
        std::fs::read_to_string(operator.path("host.token")).unwrap(),
        token
    );
    fleet.enroll(token.trim(), "host-2");
    let (tokens, _) = operator.json(&["hosts", "enroll-tokens", "list"]);
    let unused = tokens["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|token| token["state"] == "active");
    let id = unused.unwrap()["id"].as_str().unwrap();
    let revoke = [
        "hosts",
        "enroll-tokens",
        "revoke",
        id,
        "--yes",
        "--reason",
        "not needed",
    ];
    seen += &operator.admin(&revoke).ok();
    seen += &operator.admin(&["hosts", "enroll-tokens", "list"]).ok();
    let json = ["hosts", "enroll-token", "--output", "json"];
    seen += &operator.admin(&json).ok();
    insta::assert_snapshot!(seen);
}
