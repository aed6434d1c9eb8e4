//! A network in trouble, and a server that means ill.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::operator::Operator;
use crate::scripted::{Answer, Request, Scripted};

const WHOAMI: &str = r#"{"id":"01J","name":"ci","role":"viewer","expires_at":"2026-01-02T03:04:05Z"}"#;

fn receipt() -> String {
    json!({"summary": "done", "changed": true, "generation": 2, "previous_generation": 1, "request_id": "01REQUEST"})
        .to_string()
}

fn policy(generation: u64) -> String {
    json!({"policy": {"fetches_max": 1, "lost_after_seconds": 300}, "generation": generation}).to_string()
}

fn keys(requests: &[Request]) -> Vec<&str> {
    requests
        .iter()
        .filter_map(|request| request.header("idempotency-key"))
        .collect()
}

#[test]
fn a_change_whose_answer_was_lost_is_sent_again_with_the_same_key() {
    let server = Scripted::start(|_, number| match number {
        0 => Answer::Nothing,
        1 => Answer::Http(503, "retry-after: 0\r\n", String::new()),
        _ => Answer::json(200, receipt()),
    });
    let operator = server.operator();
    let drain = ["kernels", "set-default", "r"];
    assert_eq!(operator.admin(&drain).code, 0);
    let requests = server.requests();
    let keys_of_one = keys(&requests);
    assert_eq!((requests.len(), keys_of_one.len()), (3, 3), "{requests:?}");
    assert_eq!(
        keys_of_one.iter().collect::<BTreeSet<_>>().len(),
        1,
        "{keys_of_one:?}"
    );
    assert!(requests.iter().all(|request| request.body == requests[0].body));
    // Another command is another change.
    assert_eq!(operator.admin(&drain).code, 0);
    let requests = server.requests();
    assert_eq!(keys(&requests).into_iter().collect::<BTreeSet<_>>().len(), 2);
}

#[test]
fn what_does_not_get_better_is_given_up_and_may_be_tried_later() {
    let server = Scripted::start(|_, _| Answer::problem(503, "database_unavailable"));
    let operator = server.operator();
    let (document, code) = operator.json(&["whoami"]);
    assert_eq!(server.requests().len(), 4);
    assert_eq!(code, 6);
    assert_eq!(
        document["error"],
        json!({"category": "transient", "code": "database_unavailable", "message": "it is so", "hint": "look",
            "retryable": true, "request_id": "01REQUEST", "details": null})
    );
}

#[test]
fn what_is_refused_is_not_asked_again_and_has_the_exit_code_of_its_kind() {
    let statuses = [400, 401, 403, 404, 409, 422, 500];
    let server = Scripted::start(move |_, number| Answer::problem(statuses[number], "no"));
    let operator = server.operator();
    let codes = statuses.map(|_| operator.admin(&["fleet"]).code);
    assert_eq!(codes, [2, 3, 3, 4, 5, 2, 7]);
    assert_eq!(server.requests().len(), statuses.len());
}

#[test]
fn an_error_says_what_why_what_to_do_and_which_request() {
    let server = Scripted::start(|_, _| Answer::problem(409, "release_blocked"));
    let ran = server.operator().admin(&["kernels", "set-default", "r"]);
    insta::assert_snapshot!(ran.transcript(), @r"
    $ plfm admin kernels set-default r
    error: it is so
    hint: look
    request: 01REQUEST
    [5]
    ");
}

#[test]
fn the_token_goes_to_no_one_but_whom_the_ca_vouches_for() {
    let other = Scripted::start(|_, _| Answer::json(200, WHOAMI));
    let server = Scripted::start(|_, _| Answer::json(200, WHOAMI));
    let operator = server.operator();
    operator.write("other.pem", &other.ca);
    let operator = operator.with_env("PLFM_CONTROL_CA", "other.pem");
    let ran = operator.admin(&["whoami"]);
    insta::assert_snapshot!(ran.transcript(), @r"
    $ plfm admin whoami
    error: https://127.0.0.1:PORT/ is not the control plane that the context means: invalid peer certificate: BadSignature
    hint: its certificate must be issued by the context's CA, for the host name in the URL
    [3]
    ");
    assert!(server.requests().is_empty());
    let operator = operator.with_env("PLFM_CONTROL_CA", "");
    assert_eq!(operator.admin(&["whoami"]).code, 0);
    assert_eq!(
        server.requests()[0].header("authorization"),
        Some("Bearer plfm_op_secret")
    );
}

#[test]
fn a_redirect_is_not_followed() {
    let other = Scripted::start(|_, _| Answer::json(200, WHOAMI));
    let location: &'static str = format!("location: https://{}/v1/whoami\r\n", other.address).leak();
    let server = Scripted::start(move |_, _| Answer::Http(307, location, String::new()));
    let ran = server.operator().admin(&["whoami"]);
    assert_eq!(ran.code, 1, "{}", ran.transcript());
    assert!(other.requests().is_empty());
}

#[test]
fn an_answer_that_is_none_is_not_taken() {
    let bodies = ["<html>", "{}", "[]"];
    let server = Scripted::start(move |_, number| match bodies.get(number) {
        Some(body) => Answer::json(200, *body),
        None => Answer::json(200, "x".repeat(17 * 1024 * 1024)),
    });
    let operator = server.operator();
    for _ in bodies {
        assert_eq!(operator.json(&["fleet"]).0["error"]["code"], "answer_unreadable");
    }
    assert_eq!(operator.json(&["fleet"]).0["error"]["code"], "answer_too_large");
}

#[test]
fn a_name_cannot_lead_to_another_place() {
    let server = Scripted::start(|_, _| Answer::problem(404, "release_unknown"));
    let operator = server.operator();
    for name in ["..", ".", ""] {
        let (document, _) = operator.json(&["kernels", "show", name]);
        assert_eq!(document["error"]["code"], "name_malformed", "{name:?}");
    }
    assert!(server.requests().is_empty());
    operator.admin(&["kernels", "show", "../tokens?x#y%"]);
    operator.admin(&["kernels", "show", "6.1.50-a+guestinit-1.0.0-a"]);
    let lines: Vec<String> = server
        .requests()
        .into_iter()
        .map(|request| request.line)
        .collect();
    assert_eq!(
        lines,
        [
            "GET /v1/kernels/..%2Ftokens%3Fx%23y%25",
            "GET /v1/kernels/6.1.50-a+guestinit-1.0.0-a"
        ]
    );
}

#[test]
fn a_list_is_read_page_by_page_and_not_for_ever() {
    let server = Scripted::start(|request, number| {
        let token = json!({"id": format!("t{number}"), "name": "ci", "role": "viewer", "state": "active",
            "created_by": "root", "created_at": "2026-01-02T03:04:05Z", "expires_at": "2026-01-02T03:04:05Z"});
        let next = (number < 2).then(|| format!("a&b+{number}"));
        assert!(request.line.contains("limit=200"), "{request:?}");
        Answer::json(200, json!({"items": [token], "next_cursor": next}).to_string())
    });
    let (list, code) = server.operator().json(&["tokens", "list"]);
    assert_eq!((code, list["items"].as_array().unwrap().len()), (0, 3));
    assert!(list.get("next_cursor").is_none());
    let last = server.requests()[2].line.clone();
    assert!(last.ends_with("cursor=a%26b%2B1"), "{last}");
}

#[test]
fn a_policy_that_somebody_else_changed_meanwhile_is_read_again() {
    let server = Scripted::start(|request, number| match request.line.as_str() {
        "GET /v1/policy" => Answer::json(200, policy(u64::try_from(number).unwrap())),
        _ if number < 5 => Answer::problem(409, "generation_moved"),
        _ => Answer::json(200, receipt()),
    });
    let ran = server.operator().admin(&["policy", "fetches", "7"]);
    assert_eq!(ran.code, 0, "{}", ran.transcript());
    let requests = server.requests();
    let changes: Vec<&Request> = requests
        .iter()
        .filter(|request| request.line == "PUT /v1/policy")
        .collect();
    let generations: Vec<Value> = changes
        .iter()
        .map(|request| serde_json::from_str::<Value>(&request.body).unwrap()["expected_generation"].clone())
        .collect();
    assert_eq!(generations, [0, 2, 4]);
    // Other bodies, other keys.
    assert_eq!(keys(&requests).into_iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(
        ran.stdout.contains("undo        plfm admin policy fetches 1"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_policy_that_never_holds_still_is_left_alone() {
    let server = Scripted::start(|request, _| match request.line.as_str() {
        "GET /v1/policy" => Answer::json(200, policy(1)),
        _ => Answer::problem(409, "generation_moved"),
    });
    let (document, code) = server.operator().json(&["policy", "fetches", "7"]);
    assert_eq!(
        (code, document["error"]["code"].as_str()),
        (5, Some("generation_moved"))
    );
    assert_eq!(server.requests().len(), 10);
}

#[test]
fn a_name_cannot_drive_the_terminal() {
    let name = "x\u{1b}]0;title\u{7}\u{9b}2J\u{202e}\nnext";
    let whoami = json!({"id": "01J", "name": name, "role": "viewer", "expires_at": "2026-01-02T03:04:05Z"});
    let server = Scripted::start(move |_, _| Answer::json(200, whoami.to_string()));
    let operator = server.operator();
    for ran in [
        operator.admin(&["whoami"]),
        operator.admin(&["whoami", "--output", "json"]),
    ] {
        let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!ran.stdout.contains(harmful), "{:?}", ran.stdout);
    }
    assert_eq!(operator.json(&["whoami"]).0["name"], name);
}

#[test]
fn a_token_that_could_not_be_kept_is_not_asked_for() {
    let server = Scripted::start(|_, _| Answer::problem(403, "role_insufficient"));
    let operator = server.operator();
    operator.write("there", "x");
    let create = |out| operator.json(&["tokens", "create", "ci", "--role", "viewer", "--out", out]);
    assert_eq!(create("there").0["error"]["code"], "file_exists");
    assert_eq!(create("no/dir").0["error"]["code"], "file_unwritable");
    assert!(server.requests().is_empty());
    // And one that was refused leaves no file.
    assert_eq!(create("new").1, 3);
    assert!(!operator.path("new").exists());
}

/// A follower's standard output, line by line.
fn follow(operator: &Operator, args: &[&str]) -> (std::process::Child, impl Iterator<Item = String>) {
    let args = [&["admin", "events", "--follow"], args].concat();
    let mut child = operator.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(|line| line.unwrap());
    (child, lines)
}

fn event(position: u64) -> Value {
    json!({"position": position, "aggregate": "fleet", "sequence": position, "at": "2026-01-02T03:04:05Z",
        "actor": {"kind": "operator", "id": "01J", "name": "ci\n"}, "kind": "default_set",
        "detail": {"release": "a\u{1b}b"}})
}

fn events(request: &Request) -> Answer {
    let end = 41;
    let page = match request.line.split_once("after=") {
        Some((_, after)) => {
            let after: u64 = after.split('&').next().unwrap().parse().unwrap();
            json!({"items": [event(after + 1)], "next_after": after + 1, "more": false})
        }
        None => json!({"items": [], "next_after": end, "more": false}),
    };
    Answer::json(200, page.to_string())
}

#[test]
fn a_follower_begins_at_the_end_and_prints_a_line_for_each_event_until_nobody_reads() {
    let server = Scripted::start(|request, _| events(request));
    let operator = server.operator();
    let (mut child, mut lines) = follow(&operator, &[]);
    let line = lines.next().unwrap();
    assert_eq!(
        line,
        r"    42  2026-01-02T03:04:05Z  default_set           fleet  operator:ci\n  release=a\u{1b}b"
    );
    drop(lines);
    assert!(child.wait().unwrap().success());
    let (mut child, mut lines) = follow(&operator, &["--after", "7", "--output", "json"]);
    for position in 8..11 {
        let line: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        assert_eq!(line, event(position));
    }
    drop(lines);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_log_that_does_not_go_on_is_not_read_for_ever() {
    let page = json!({"items": [], "next_after": 3, "more": true}).to_string();
    let server = Scripted::start(move |_, _| Answer::json(200, page.clone()));
    let operator = server.operator();
    let (document, code) = operator.json(&["events", "list", "--after", "3"]);
    assert_eq!(
        (code, document["error"]["code"].as_str()),
        (7, Some("list_endless"))
    );
}
