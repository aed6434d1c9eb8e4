//! `plfm admin rollout`: what it sends, what it shows, how it ends.

use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::operator::Operator;
use crate::scripted::{Answer, Request, Scripted};

const ID: &str = "01JAAAAAAAAAAAAAAAAAAAAAAA";
const NEW: &str = "6.1.50-20260201a+guestinit-1.0.0-20260201a";
const OLD: &str = "6.1.50-20260101a+guestinit-1.0.0-20260101a";

/// A rollout in its second wave, with members changed.
pub fn rollout(changes: &Value) -> Value {
    let ago = |minutes: i64| Timestamp::now() - SignedDuration::from_secs(60 * minutes + 30);
    let ahead = |minutes: i64| Timestamp::now() + SignedDuration::from_secs(60 * minutes + 30);
    let wave = |share: u16, minutes: u32| json!({"share": share, "sample_min": 50, "soak_seconds": 60 * minutes, "wait_seconds": 86400});
    let system = json!({"kind": "system", "id": "rollout", "name": "rollout"});
    let mut document = json!({
        "id": ID, "release": NEW, "baseline": OLD, "stage": "canary",
        "wave": {"wave": 2, "waves": 3, "share": 500},
        "why": "held in wave 2: 31 of 50 boots seen, 19 more needed; soak ends 14:05",
        "warnings": ["3 hosts cannot run it"],
        "started_by": "ci", "started_at": ago(90), "since": ago(20),
        "plan": {"base": "usual", "waves": [wave(100, 30), wave(500, 30), wave(10_000, 120)], "slow": "pause"},
        "health": {
            "sample": sample(31.0, 1.0, [0.0008, 0.1671]),
            "release": sample(130.0, 2.5, [0.0, 0.0281]),
            "baseline": sample(2_400.0, 12.0, [0.0026, 0.0087]),
            "failing_hosts": 2,
            "apart": [{"host": "01JHHHHHHHHHHHHHHHHHHHHHHH", "name": "rack-7", "release_boots": 9.0,
                "release_failures": 9.0, "baseline_boots": 40.0, "baseline_failures": 38.0}],
            "evidence": [
                {"test": "worse_than_baseline", "one_in": 12.4, "needed": 10_000.0},
                {"test": "handshake_timeouts", "one_in": 0.3, "needed": 10_000.0},
                {"test": "over_threshold", "one_in": 1.0, "needed": 10_000.0},
                {"test": "worse_at_all", "one_in": 600.0, "needed": 1_000.0},
                {"test": "slow", "one_in": 2.5e7, "needed": 1_000.0},
            ],
            "incident": false,
        },
        "hosts": {"active": 1000, "eligible": 997, "with_release": 990, "at_generation": 999, "heard": 1000},
        "sample_needed": 19, "soak_ends_at": ahead(9), "wait_ends_at": ahead(60 * 23),
        "history": [
            {"at": ago(90), "kind": "started", "why": "starts: hosts bring the release in", "generation": 7,
                "actor": {"kind": "operator", "id": "01J", "name": "ci"}},
            {"at": ago(70), "kind": "distributed", "why": "990 of 997 hosts have it: the first wave begins",
                "generation": 8, "actor": system},
            {"at": ago(20), "kind": "advanced", "why": "wave 2 begins: 0 of 60 boots failed in the one before",
                "generation": 9, "actor": system},
        ],
    });
    for (member, value) in changes.as_object().unwrap() {
        document[member] = value.clone();
    }
    document
}

fn sample(boots: f64, failures: f64, interval: [f64; 2]) -> Value {
    json!({"boots": boots, "failures": failures, "handshake_timeouts": 1.0, "slow": 0.0,
        "failure_rate": failures / boots, "failure_rate_interval": interval})
}

/// A moment at the end of a rollout's history.
fn moment(kind: &str, why: &str) -> Value {
    json!([{"at": "2026-01-02T03:04:05Z", "kind": kind, "why": why, "generation": 10,
        "actor": {"kind": "operator", "id": "01J", "name": "eve"}}])
}

fn over(stage: &str, why: &str) -> Value {
    rollout(&json!({"stage": stage, "why": why, "ended_at": Timestamp::now()}))
}

fn receipt(summary: &str) -> Value {
    json!({"summary": summary, "changed": true, "generation": 7, "previous_generation": 6, "event": 41,
        "release": NEW, "rollout": ID, "warnings": ["3 hosts cannot run it"],
        "watch": format!("plfm admin rollout show {ID} --watch"),
        "undo": format!("plfm admin rollout abort {ID}"), "request_id": "01REQUEST"})
}

/// A control plane whose rollout is in one state after the other, each time that it is looked at.
fn server(states: Vec<Value>) -> Scripted {
    let looked = AtomicUsize::new(0);
    Scripted::start(move |request, _| {
        if request.line.starts_with("POST ") {
            let verb = request.line.rsplit('/').next().unwrap();
            return Answer::json(201, receipt(&format!("done: {verb}")).to_string());
        }
        if request.line.starts_with("GET /v1/rollouts?") {
            return Answer::json(200, json!({ "items": states }).to_string());
        }
        let at = looked.fetch_add(1, Ordering::Relaxed).min(states.len() - 1);
        match &states[at] {
            Value::Null => Answer::Nothing,
            state => Answer::json(200, state.to_string()),
        }
    })
}

fn bodies(server: &Scripted) -> Vec<(String, Value)> {
    let posts = |request: &Request| request.line.starts_with("POST ");
    let requests = server.requests().into_iter().filter(posts);
    requests
        .map(|request| (request.line, serde_json::from_str(&request.body).unwrap()))
        .collect()
}

#[test]
fn a_rollout_is_shown_with_what_its_boots_say_and_what_happened() {
    let operator = server(vec![rollout(&json!({}))]).operator();
    insta::assert_snapshot!(operator.admin(&["rollout", "show"]).ok());
}

#[test]
fn rollouts_are_listed_and_the_release_that_is_rolled_out_says_so() {
    let ended = over("rolled_back", "over");
    let operator = server(vec![rollout(&json!({})), ended]).operator();
    let mut seen = operator.admin(&["rollout", "list"]).ok();
    seen += &server(Vec::new()).operator().admin(&["rollout", "list"]).ok();
    insta::assert_snapshot!(seen);
    let (list, _) = operator.json(&["rollout", "list"]);
    assert_eq!(list["items"][1]["stage"], "rolled_back");
}

#[test]
fn a_start_sends_what_was_said_and_leaves_the_rest_to_the_base() {
    let server = server(vec![rollout(&json!({}))]);
    let operator = server.operator();
    insta::assert_snapshot!(operator.admin(&["rollout", "start", "20260201a"]).ok());
    operator.write("plan.toml", "threshold = 2000\nhosts_min = 2\nprobe = [2, 4]\n");
    let with_file = [
        "rollout",
        "start",
        "20260201a",
        "--plan-file",
        "plan.toml",
        "--plan",
        "emergency",
        "--threshold",
        "12.5%",
        "--margin",
        "3%",
        "--slow",
        "pause",
        "--overdue",
        "advance",
        "--reason",
        "CVE",
        "--expect-generation",
        "6",
        "--despite-unable-hosts",
    ];
    operator.admin(&with_file).ok();
    let bodies = bodies(&server);
    assert_eq!(
        bodies[0],
        (
            "POST /v1/rollouts".to_owned(),
            json!({"release": "20260201a", "plan": {"base": "usual"}})
        )
    );
    assert_eq!(
        bodies[1].1,
        json!({"release": "20260201a", "expected_generation": 6, "despite_unable_hosts": true, "reason": "CVE",
            "plan": {"base": "emergency", "threshold": 1250, "margin": 300, "hosts_min": 2, "probe": [2, 4],
                "slow": "pause", "overdue": "advance"}})
    );
}

#[test]
fn a_shown_rollout_is_a_plan_for_the_next_one() {
    let server = server(vec![rollout(&json!({}))]);
    let operator = server.operator();
    let (shown, _) = operator.json(&["rollout", "show", ID]);
    operator.write("shown.json", &shown.to_string());
    operator
        .admin(&["rollout", "start", "r", "--plan-file", "shown.json"])
        .ok();
    assert_eq!(bodies(&server)[0].1["plan"], shown["plan"]);
}

#[test]
fn what_is_no_plan_is_refused_before_anything_is_asked() {
    let server = server(vec![rollout(&json!({}))]);
    let operator = server.operator();
    operator.write("typo.toml", "margin = 500\nthresold = 2000\n");
    let mut seen = String::new();
    for (file, code) in [("typo.toml", 2), ("none.toml", 4)] {
        let ran = operator.admin(&["rollout", "start", "r", "--plan-file", file]);
        assert_eq!(ran.code, code);
        seen += &ran.transcript();
    }
    insta::assert_snapshot!(seen);
    assert!(server.requests().is_empty());
}

#[test]
fn a_person_pauses_resumes_aborts_and_promotes_the_rollout_that_there_is() {
    let server = server(vec![rollout(&json!({}))]);
    let operator = server.operator();
    operator
        .admin(&["rollout", "pause", "--withdraw", "--reason", "look"])
        .ok();
    operator
        .admin(&["rollout", "resume", "--expect-generation", "9"])
        .ok();
    operator.admin(&["rollout", "promote", "--yes"]).ok();
    insta::assert_snapshot!(operator.admin(&["rollout", "abort", "01JOTHER"]).ok());
    let path = |verb: &str, id: &str| format!("POST /v1/rollouts/{id}/{verb}");
    assert_eq!(
        bodies(&server),
        [
            (path("pause", ID), json!({"withdraw": true, "reason": "look"})),
            (path("resume", ID), json!({"expected_generation": 9})),
            (path("promote", ID), json!({})),
            (path("abort", "01JOTHER"), json!({})),
        ]
    );
}

/// The last states, and what they mean to whoever waited.
fn endings() -> [(Value, i32, &'static str); 4] {
    let mut rolled_back = over("rolled_back", "over");
    rolled_back["back_to"] = OLD.into();
    rolled_back["history"] = moment(
        "condemned",
        &format!("rolled back to {OLD}: its boots fail far more often: 4 of 4 boots failed"),
    );
    let mut aborted = over("aborted", "over");
    aborted["history"] = moment("aborted", "wrong release");
    [
        (
            over("complete", "complete: the hosts go by the new target"),
            0,
            "",
        ),
        (rolled_back, 1, "rollout_rolled_back"),
        (aborted, 1, "rollout_aborted"),
        (
            rollout(&json!({"paused": "kept", "why": "paused: waits for `resume` or `abort`"})),
            1,
            "rollout_paused",
        ),
    ]
}

#[test]
fn a_wait_ends_with_0_when_the_rollout_is_complete_and_else_with_1_and_why() {
    let mut seen = String::new();
    for (last, code, error) in endings() {
        let operator = server(vec![rollout(&json!({})), last]).operator();
        let ran = operator.admin(&["rollout", "start", "20260201a", "--wait"]);
        assert_eq!(ran.code, code);
        seen += &ran.transcript();
        let (document, _) = operator.json(&["rollout", "start", "20260201a", "--wait"]);
        match code {
            0 => assert_eq!(document["waited"]["stage"], "complete"),
            _ => {
                assert_eq!(document["error"]["code"], error);
                assert_eq!(document["error"]["details"]["waited"]["id"], ID);
                assert_eq!(document["error"]["details"]["generation"], 7);
            }
        }
    }
    insta::assert_snapshot!(seen);
}

#[test]
fn a_wait_goes_on_while_a_withdrawn_release_may_yet_be_taken_back() {
    let mut withdrawn =
        rollout(&json!({"paused": "withdrawn", "why": "paused: waits for `resume` or `abort`"}));
    let mut moment = moment("paused", "withdrawn: 16 of 16 boots failed")[0].clone();
    moment["at"] = json!(Timestamp::now());
    moment["actor"] = json!({"kind": "system", "id": "rollouts", "name": "rollouts"});
    withdrawn["history"] = json!([moment]);
    let [_, (rolled_back, ..), ..] = endings();
    let wait = ["rollout", "start", "r", "--wait"];
    let (document, code) = server(vec![withdrawn.clone(), rolled_back])
        .operator()
        .json(&wait);
    assert_eq!(
        (code, &document["error"]["code"]),
        (1, &"rollout_rolled_back".into())
    );
    // A person withdrew it, or nothing came of it for long: it waits for a person.
    let mut by_person = withdrawn.clone();
    by_person["history"][0]["actor"]["kind"] = "operator".into();
    withdrawn["history"][0]["at"] = "2026-01-02T03:04:05Z".into();
    for state in [by_person, withdrawn] {
        let (document, _) = server(vec![state]).operator().json(&wait);
        assert_eq!(document["error"]["code"], "rollout_paused");
    }
}

#[test]
fn a_wait_that_takes_too_long_says_where_the_rollout_is() {
    let operator = server(vec![rollout(&json!({}))]).operator();
    let ran = operator.admin(&["rollout", "start", "20260201a", "--wait", "--timeout", "1s"]);
    assert_eq!(ran.code, 6);
    let error = ran.stderr.lines().rev().take(2).collect::<Vec<_>>();
    insta::assert_snapshot!(error.join("\n"), @r"
    hint: `plfm admin rollout show 01JAAAAAAAAAAAAAAAAAAAAAAA --watch` shows how far it is
    error: the rollout goes on, but after 1s it is at: canary, wave 2 of 3 at 5%
    ");
}

#[test]
fn a_watcher_without_a_terminal_gets_a_line_for_each_thing_that_happens() {
    let mut advanced = rollout(&json!({"why": "held in wave 3: 0 of 50 boots seen, 50 more needed"}));
    let more = moment(
        "advanced",
        "wave 3 begins: 1 of 50 boots failed in the one before",
    )[0]
    .clone();
    advanced["history"].as_array_mut().unwrap().push(more);
    let [(complete, ..), (rolled_back, ..), ..] = endings();
    // Once it does not answer at all.
    let states = vec![
        rollout(&json!({})),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        advanced,
        complete,
    ];
    let operator = server(states).operator();
    let mut seen = operator.admin(&["rollout", "show", ID, "--watch"]).ok();
    let ran = server(vec![rolled_back])
        .operator()
        .admin(&["rollout", "show", "--watch"]);
    assert_eq!(ran.code, 1);
    seen += &ran.transcript();
    insta::assert_snapshot!(seen);
}

#[test]
fn a_watcher_that_is_a_program_gets_a_document_on_each_line() {
    let [_, (rolled_back, ..), ..] = endings();
    let first = rollout(&json!({}));
    let operator = server(vec![first.clone(), first.clone(), rolled_back.clone()]).operator();
    let ran = operator.admin(&["rollout", "start", "r", "--watch", "--output", "json"]);
    assert_eq!(ran.code, 1);
    let lines: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // The receipt, each state once, the error.
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert_eq!(lines[0]["rollout"], ID);
    assert_eq!(
        (&lines[1]["stage"], &lines[2]["stage"]),
        (&first["stage"], &rolled_back["stage"])
    );
    assert_eq!(lines[3]["error"]["code"], "rollout_rolled_back");
}

#[test]
fn what_there_is_not_is_said() {
    let server = Scripted::start(|_, _| Answer::problem(404, "rollout_unknown"));
    let operator: Operator = server.operator();
    for args in [
        &["rollout", "show"][..],
        &["rollout", "abort"],
        &["rollout", "show", "--watch"],
    ] {
        let (document, code) = operator.json(args);
        assert_eq!(
            (code, document["error"]["code"].as_str()),
            (4, Some("rollout_unknown"))
        );
    }
}
