//! Guest init against hosts that misbehave: a real microVM of the lab's release, and this test as its host.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::facts;
use crate::machine::{Machine, Story, answer, answer_config, config, listen_to, read_hello};

facts![
    a_host_that_never_answers_is_given_up_after_five_seconds,
    a_host_that_nobody_listens_on_ends_the_boot,
    garbage_is_refused_and_said_so_on_both_ways,
    a_line_that_is_too_long_is_refused,
    a_host_that_closes_in_the_middle_ends_the_boot,
    an_unknown_required_feature_is_refused_by_name,
    a_config_of_another_instance_is_refused,
    a_rejection_is_printed,
    unknown_optional_members_are_ignored,
    a_workload_outlives_its_host_and_its_exit_is_on_the_console,
];

fn boot(host: Option<impl FnOnce(UnixStream) -> Vec<Value> + Send + 'static>) -> Story {
    Machine::new().boot(host)
}

fn a_host_that_never_answers_is_given_up_after_five_seconds() {
    let story = boot(Some(listen_to));
    assert_eq!(story.said[0]["type"], "hello");
    assert_eq!(story.failure().0, "handshake");
    assert!(story.failure().2.contains("within 5 s"));
    story.assert_on_console("stage=handshake reason=handshake_failed");
    assert!(story.took >= Duration::from_secs(5), "{:?}", story.took);
}

fn a_host_that_nobody_listens_on_ends_the_boot() {
    let story = boot(None::<fn(UnixStream) -> Vec<Value>>);
    story.assert_on_console("stage=handshake reason=handshake_failed");
}

fn garbage_is_refused_and_said_so_on_both_ways() {
    for garbage in [
        &b"\x00\xff\n"[..],
        b"{}\n",
        b"[]\n",
        b"{\"type\":\"config\"}\n",
        b"{\"type\":\"stop\"}\n",
    ] {
        let story = boot(Some(answer(garbage.to_vec())));
        assert_eq!(story.failure().0, "handshake", "{garbage:?}");
        assert_eq!(story.failure().1, "config_parse_failed", "{garbage:?}");
        story.assert_on_console("stage=handshake reason=config_parse_failed");
    }
}

fn a_line_that_is_too_long_is_refused() {
    let mut line = vec![b'x'; (1 << 20) + 1];
    line.push(b'\n');
    let story = boot(Some(answer(line)));
    story.assert_on_console("reason=config_parse_failed: a line is longer than 1048576 bytes");
}

fn a_host_that_closes_in_the_middle_ends_the_boot() {
    let story = boot(Some(|mut stream: UnixStream| {
        read_hello(&mut stream);
        stream.write_all(b"{\"type\":\"con").unwrap();
        Vec::new()
    }));
    story.assert_on_console("reason=handshake_failed: the agent closed the connection in the handshake");
}

fn an_unknown_required_feature_is_refused_by_name() {
    let mut config = config();
    config["required_features"] = json!(["exec", "teleport"]);
    let story = boot(Some(answer_config(&config)));
    assert_eq!(story.failure().1, "config_parse_failed");
    assert!(
        story.failure().2.contains("\"teleport\""),
        "{}",
        story.failure().2
    );
}

fn a_config_of_another_instance_is_refused() {
    let mut config = config();
    config["instance_id"] = json!("somebody-else");
    let story = boot(Some(answer_config(&config)));
    assert_eq!(story.failure().1, "config_parse_failed");
    assert!(story.failure().2.contains("instance_id"));
}

fn a_rejection_is_printed() {
    let reject = b"{\"type\":\"reject\",\"code\":\"guest_init_protocol_mismatch\",\"detail\":\"too old\"}\n";
    let story = boot(Some(answer(reject.to_vec())));
    story.assert_on_console("the agent rejected this guest: guest_init_protocol_mismatch: too old");
}

fn unknown_optional_members_are_ignored() {
    let mut config = config();
    config["from_the_future"] = json!({"a": [1]});
    config["workload"]["also_new"] = json!(true);
    let story = boot(Some(answer_config(&config)));
    let states: Vec<&str> = story
        .said
        .iter()
        .filter_map(|message| message["state"].as_str())
        .collect();
    assert_eq!(states, ["config_applied", "ready", "exited"]);
    assert_eq!(story.said.last().unwrap()["exit_code"], 11);
}

fn a_workload_outlives_its_host_and_its_exit_is_on_the_console() {
    let mut config = config();
    config["workload"]["argv"] = json!(["/bin/sh", "-c", "echo on the console; sleep 1; exit 12"]);
    let story = boot(Some(move |mut stream: UnixStream| {
        read_hello(&mut stream);
        stream.write_all(format!("{config}\n").as_bytes()).unwrap();
        let mut lines = BufReader::new(stream).lines();
        // Gone as soon as it is ready, as an agent that crashes.
        assert!(lines.any(|line| line.unwrap().contains("\"ready\"")));
        Vec::new()
    }));
    story.assert_on_console("on the console");
    story.assert_on_console("workload exited: exit_code=12");
}
