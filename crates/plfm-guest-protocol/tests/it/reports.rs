//! What the host does not believe, and what neither end passes on as it came.

use plfm_guest_protocol::*;
use serde_json::{Value, json};

use crate::corpus::fuzz::sessions::{Say, Tell, config, hello, said, told};

const NOW: &str = "2026-11-24T00:00:00.000Z";

/// A host that has heard `tells` and answered the hello with a config.
fn host_after(tells: &[Tell]) -> HostSession {
    let mut host = HostSession::default();
    for tell in tells {
        host.push(&told(*tell));
        host.next_event().unwrap().unwrap();
        if *tell == Tell::Hello {
            host.config(&config()).unwrap();
        }
    }
    host
}

/// What the host says to `report` after it has heard `tells`.
fn hears(tells: &[Tell], report: &Value) -> Result<HostEvent, ProtocolError> {
    let mut host = host_after(tells);
    host.push(format!("{report}\n").as_bytes());
    host.next_event().map(Option::unwrap)
}

#[track_caller]
fn disbelieved(tells: &[Tell], report: &Value, member: &str) {
    match hears(tells, report) {
        Err(ProtocolError::Report { member: got, .. }) => assert_eq!(got, member),
        other => panic!("{other:?}"),
    }
}

const RUNNING: [Tell; 4] = [Tell::Hello, Tell::Ack, Tell::Applied, Tell::Ready];

#[test]
fn an_exit_that_cannot_be_is_refused() {
    let exited = |members: Value| {
        let mut report = json!({"type": "status", "state": "exited", "timestamp": NOW});
        report
            .as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        report
    };
    for (members, member) in [
        (json!({"exit_code": 1, "signal": 9}), "exit"),
        (json!({"exit_code": 256}), "exit_code"),
        (json!({"exit_code": -1}), "exit_code"),
        (json!({"signal": 0}), "signal"),
        (json!({"signal": 65}), "signal"),
        (json!({"signal": 2_147_483_647}), "signal"),
        (json!({"exit_code": 1, "reason": "root_failed"}), "reason"),
    ] {
        disbelieved(&RUNNING, &exited(members), member);
    }
    for members in [
        json!({"exit_code": 255}),
        json!({"signal": 64, "reason": "workload_crashed"}),
        json!({}),
    ] {
        assert!(matches!(
            hears(&RUNNING, &exited(members)),
            Ok(HostEvent::Exited(_))
        ));
    }
}

#[test]
fn a_shell_code_has_no_overflow() {
    let exit = Exit {
        exit_code: None,
        signal: Some(i32::MAX),
        oom_killed: false,
        duration_ms: 0,
        reason: None,
    };
    assert_eq!(exit.shell_code(), i32::MAX);
}

#[test]
fn stage_times_are_in_order_or_refused() {
    let timing =
        |stage: &str, from: u64, to: u64| json!({"stage": stage, "started_us": from, "finished_us": to});
    let ready =
        |stages: Value| json!({"type": "status", "state": "ready", "timestamp": NOW, "stages": stages});
    let applied = [Tell::Hello, Tell::Ack, Tell::Applied];
    disbelieved(&applied, &ready(json!([timing("network", 2, 1)])), "stages");
    disbelieved(
        &applied,
        &ready(json!([timing("network", 1, 1), timing("overlay", 2, 2)])),
        "stages",
    );
    disbelieved(
        &applied,
        &ready(json!([timing("network", 1, 1), timing("network", 2, 2)])),
        "stages",
    );
    disbelieved(
        &applied,
        &ready(json!(vec![timing("network", 1, 1); 11])),
        "stages",
    );
    let all: Vec<Value> = Stage::ALL
        .iter()
        .map(|stage| timing(stage.as_str(), 1, 1))
        .collect();
    assert!(
        matches!(hears(&applied, &ready(json!(all))), Ok(HostEvent::Ready { stages, .. }) if stages.len() == 10)
    );
}

#[test]
fn a_hello_that_names_nothing_usable_is_refused_and_can_be_rejected() {
    let with = |member: &str, value: Value| {
        let mut message = serde_json::to_value(GuestMessage::Hello(hello(PROTOCOL))).unwrap();
        message[member] = value;
        message
    };
    for (member, value) in [
        ("guest_init_version", json!("")),
        ("guest_init_version", json!("1.0\u{1b}[2J")),
        ("guest_init_version", json!("1".repeat(65))),
        ("instance_id", json!("../x")),
        ("boot_id", json!("b")),
    ] {
        disbelieved(&[], &with(member, value), member);
    }
    let mut host = HostSession::default();
    host.push(format!("{}\n", with("boot_id", json!("b"))).as_bytes());
    host.next_event().unwrap_err();
    host.reject("hello_malformed", "no").unwrap();
}

#[test]
fn a_guest_that_failed_before_it_knew_itself_is_heard() {
    let nameless = |instance_id: &str, boot_id: &str| {
        let hello = Hello {
            instance_id: instance_id.to_owned(),
            boot_id: boot_id.to_owned(),
            ..hello(PROTOCOL)
        };
        serde_json::to_value(GuestMessage::Hello(hello)).unwrap()
    };
    let mut host = HostSession::default();
    host.push(format!("{}\n", nameless("", "")).as_bytes());
    assert!(matches!(host.next_event(), Ok(Some(HostEvent::Hello(hello))) if hello.instance_id.is_empty()));
    let report = json!({
        "type": "status", "state": "failed", "timestamp": NOW,
        "stage": "kernel_filesystems", "reason": "mount_failed", "detail": "no /proc", "errno": 19,
    });
    host.push(format!("{report}\n").as_bytes());
    let Ok(Some(HostEvent::Failed { failure, .. })) = host.next_event() else {
        panic!()
    };
    assert_eq!(
        (failure.stage, failure.reason, failure.errno),
        (Stage::KernelFilesystems, Reason::MountFailed, Some(19))
    );
    // Who knows one of both knows both.
    disbelieved(
        &[],
        &nameless("", "3f0a3c1e-7b1e-4a59-8a35-0c9f0e7a9d11"),
        "instance_id",
    );
    disbelieved(&[], &nameless("i-1", ""), "boot_id");
}

#[test]
fn text_for_people_is_cut_and_made_plain_by_either_end() {
    let detail = format!("\u{1b}[31mred\n{}", "ä".repeat(DETAIL_BYTES_MAX));
    let report = json!({
        "type": "status", "state": "failed", "timestamp": NOW,
        "stage": "network", "reason": "net_config_failed", "detail": detail,
    });
    let Ok(HostEvent::Failed { failure, .. }) = hears(&[Tell::Hello], &report) else {
        panic!()
    };
    assert!(failure.detail.starts_with(" [31mred ä"));
    assert!(failure.detail.len() <= DETAIL_BYTES_MAX);

    let (mut guest, _) = GuestSession::start(hello(PROTOCOL));
    let status = Status::Failed {
        timestamp: NOW.to_owned(),
        failure: Failure {
            detail: detail.clone(),
            ..failure
        },
        stages: Vec::new(),
    };
    assert!(guest.report(status).unwrap().len() < DETAIL_BYTES_MAX + 300);

    let (mut guest, _) = GuestSession::start(hello(PROTOCOL));
    guest.push(
        format!(
            "{}\n",
            json!({"type": "reject", "code": "a\u{7}b", "detail": detail})
        )
        .as_bytes(),
    );
    let Ok(Some(GuestEvent::Rejected { code, detail })) = guest.next_event() else {
        panic!()
    };
    assert_eq!(code, "a b");
    assert!(detail.len() <= DETAIL_BYTES_MAX && !detail.contains(char::is_control));
}

#[test]
fn a_grace_period_is_at_most_an_hour_and_a_signal_at_most_a_name() {
    let (mut guest, _) = GuestSession::start(hello(PROTOCOL));
    guest.push(&said(Say::Config));
    guest.next_event().unwrap();
    guest.push(b"{\"type\":\"stop\",\"grace_seconds\":4294967295}\n");
    assert_eq!(
        guest.next_event().unwrap(),
        Some(GuestEvent::Stop {
            grace_seconds: Some(3_600)
        })
    );
    guest.push(format!("{}\n", json!({"type": "signal", "signal": "x".repeat(1_000)})).as_bytes());
    assert_eq!(
        guest.next_event().unwrap(),
        Some(GuestEvent::Signal {
            signal: "x".repeat(64)
        })
    );
}

#[test]
fn a_config_that_no_line_holds_is_refused_where_it_is_made() {
    let mut host = HostSession::default();
    host.push(&told(Tell::Hello));
    host.next_event().unwrap();
    let mut large = config();
    let room = LINE_BYTES_MAX + 1 - host_line_length(&large);
    large.workload.argv.push("x".repeat(room - ",\"\"".len()));
    let mut larger = large.clone();
    larger.workload.argv[1].push('x');
    assert!(matches!(
        host.config(&larger),
        Err(ProtocolError::Line(LineError::TooLong))
    ));
    assert_eq!(larger.check_size(), Err(LineError::TooLong));
    assert_eq!(large.check_size(), Ok(()));
    let line = host.config(&large).unwrap();
    assert_eq!(line.len(), LINE_BYTES_MAX + 1);
    let (mut guest, _) = GuestSession::start(hello(PROTOCOL));
    guest.push(&line);
    assert!(matches!(
        guest.next_event(),
        Ok(Some(GuestEvent::Configure { .. }))
    ));
}

fn host_line_length(config: &Config) -> usize {
    serde_json::to_vec(&HostMessage::Config(Box::new(config.clone())))
        .unwrap()
        .len()
        + 1
}

#[test]
fn a_member_given_twice_is_refused() {
    let line = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    for twice in ["\"generation\":1,", "\"type\":\"config\","] {
        let (mut guest, _) = GuestSession::start(hello(PROTOCOL));
        guest.push(
            line(said(Say::Config))
                .replacen(twice, &format!("{twice}{twice}"), 1)
                .as_bytes(),
        );
        assert!(
            matches!(guest.next_event(), Err(ProtocolError::NotAMessage(_))),
            "{twice}"
        );
    }
    for twice in [
        "\"exit_code\":0,",
        "\"state\":\"exited\",",
        "\"type\":\"status\",",
    ] {
        let mut host = host_after(&RUNNING);
        host.push(
            line(told(Tell::Exited))
                .replacen(twice, &format!("{twice}{twice}"), 1)
                .as_bytes(),
        );
        assert!(
            matches!(host.next_event(), Err(ProtocolError::NotAMessage(_))),
            "{twice}"
        );
    }
}
