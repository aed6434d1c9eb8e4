//! `plfm admin events`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::fleet::{Fleet, release};
use crate::operator::Operator;
use crate::redact::redact;

fn fleet() -> (Fleet, Operator) {
    let fleet = Fleet::start();
    let operator = fleet.operator();
    for build in ["20260101a", "20260201a"] {
        fleet.publish(&release(build), 2);
    }
    operator.admin(&["kernels", "set-default", "20260101a"]).ok();
    fleet.host(&operator, "host-1");
    operator
        .admin(&[
            "kernels",
            "set-default",
            "20260201a",
            "--reason",
            "it is \"time\"",
        ])
        .ok();
    (fleet, operator)
}

#[test]
fn the_latest_are_listed_unless_told_otherwise() {
    let (_fleet, operator) = fleet();
    let verbs = [
        &["events", "list"][..],
        &["events", "list", "--limit", "2"],
        &["events", "list", "--after", "1", "--limit", "2"],
        &["events", "list", "--aggregate", "fleet"],
        &["events", "list", "--aggregate", "fleet", "--limit", "1"],
        &["events", "list", "--after", "99"],
        &["events", "list", "--limit", "1", "--output", "json"],
    ];
    let seen = verbs.map(|verb| operator.admin(verb).ok());
    insta::assert_snapshot!(seen.concat());
}

#[test]
fn more_events_than_a_page_has_are_read_page_by_page() {
    let (fleet, operator) = fleet();
    for number in 0..210 {
        fleet.publish(&release(&format!("2026{number:04}b")), 2);
    }
    let positions = |args: &[&str]| -> Vec<u64> {
        let (page, _) = operator.json(&[&["events", "list"], args].concat());
        let items = page["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|event| event["position"].as_u64().unwrap())
            .collect()
    };
    let end = positions(&["--limit", "1"])[0];
    assert!(end > 210);
    assert_eq!(
        positions(&["--limit", "205"]),
        (end - 204..=end).collect::<Vec<_>>()
    );
    assert_eq!(
        positions(&["--after", "0", "--limit", "1000"]),
        (1..=end).collect::<Vec<_>>()
    );
    let (kernels, _) = operator.json(&["kernels", "list"]);
    assert_eq!(kernels["items"].as_array().unwrap().len(), 212);
}

#[test]
fn a_follower_sees_what_happens_from_then_on() {
    let (_fleet, operator) = fleet();
    let start = |args: &[&str]| {
        let args = [&["admin", "events", "--follow"], args].concat();
        operator.command(&args).stdout(Stdio::piped()).spawn().unwrap()
    };
    let (end, _) = operator.json(&["events", "list", "--limit", "1"]);
    let end = end["items"][0]["position"].to_string();
    let mut json = start(&["--after", &end, "--output", "json", "--aggregate", "fleet"]);
    let mut human = start(&["--after", &end]);
    operator.admin(&["policy", "fetches", "7"]).ok();
    let mut lines = BufReader::new(human.stdout.take().unwrap()).lines();
    insta::assert_snapshot!(redact(&lines.next().unwrap().unwrap()));
    let mut documents = BufReader::new(json.stdout.take().unwrap()).lines();
    let mut kind = || {
        let event: Value = serde_json::from_str(&documents.next().unwrap().unwrap()).unwrap();
        event["kind"].as_str().unwrap().to_owned()
    };
    assert_eq!(kind(), "policy_set");
    operator
        .admin(&["tokens", "create", "x", "--role", "viewer"])
        .ok();
    operator.admin(&["kernels", "rollback"]).ok();
    assert_eq!(kind(), "rolled_back");
    for mut child in [json, human] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
