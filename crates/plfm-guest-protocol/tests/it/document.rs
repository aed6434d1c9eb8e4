//! `docs/guest.md` says what the code does: its examples are real messages, its tables have every word.

use plfm_guest_protocol::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const GUEST_MD: &str = include_str!("../../../../docs/guest.md");

/// The fenced blocks of `language` in `text`.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    text.split(&opening)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

fn values(block: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(block)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect(block)
}

/// A line of the boot log, as guest init writes it.
#[derive(Serialize, Deserialize)]
struct LogLine {
    at_us: u64,
    event: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Parses `value` as a `T` and checks that `T` knows every member of it.
fn parse<T: DeserializeOwned + Serialize>(value: &Value) -> T {
    let parsed: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{value}: {error}"));
    assert_known(value, &serde_json::to_value(&parsed).unwrap());
    parsed
}

fn assert_known(written: &Value, understood: &Value) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in written {
                let Some(other) = understood.get(key) else {
                    panic!("{key} is no member of this message")
                };
                assert_known(value, other);
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            assert_eq!(written.len(), understood.len());
            written
                .iter()
                .zip(understood)
                .for_each(|(written, understood)| assert_known(written, understood));
        }
        (written, understood) => assert_eq!(written, understood),
    }
}

fn kind(value: &Value) -> &str {
    value["type"].as_str().unwrap_or_default()
}

#[test]
fn every_json_example_is_a_message_of_its_type() {
    let examples: Vec<Value> = blocks(GUEST_MD, "json").into_iter().flat_map(values).collect();
    assert!(examples.len() > 25, "only {} examples", examples.len());
    for example in &examples {
        match kind(example) {
            "hello" | "ack" | "status" => drop(parse::<GuestMessage>(example)),
            "config" => {
                let HostMessage::Config(config) = parse(example) else {
                    panic!()
                };
                config.check(&config.instance_id).unwrap();
                if let Some(data) = config.secrets.and_then(|secrets| secrets.data) {
                    SecretsFile::parse(data.reveal().as_bytes()).unwrap();
                }
            }
            "reject" | "stop" => drop(parse::<HostMessage>(example)),
            "signal" => {
                parse::<HostMessage>(example);
                parse::<ExecControl>(example);
            }
            "start" | "resize" | "close_stdin" | "boot_log" => drop(parse::<ExecControl>(example)),
            "" if example.get("at_us").is_some() => drop(parse::<LogLine>(example)),
            "" => drop(parse::<ExecExit>(example)),
            other => panic!("{other} is no type of message"),
        }
    }
    for word in [
        "hello",
        "ack",
        "status",
        "config",
        "reject",
        "stop",
        "signal",
        "start",
        "resize",
        "close_stdin",
        "boot_log",
    ] {
        assert!(
            examples.iter().any(|example| kind(example) == word),
            "no example of {word}"
        );
    }
}

#[test]
fn the_transcript_is_a_conversation_of_both_ends() {
    let transcript = GUEST_MD
        .split("## A transcript")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let lines: Vec<&str> = blocks(transcript, "json")
        .into_iter()
        .flat_map(str::lines)
        .collect();
    let mut host = HostSession::default();
    let mut guest: Option<GuestSession> = None;
    let mut heard = Vec::new();
    for line in lines {
        let value: Value = serde_json::from_str(line).unwrap();
        match kind(&value) {
            "hello" => {
                let GuestMessage::Hello(hello) = serde_json::from_value(value).unwrap() else {
                    panic!()
                };
                let (session, bytes) = GuestSession::start(hello);
                assert_eq!(bytes, format!("{line}\n").as_bytes());
                guest = Some(session);
                host.push(&bytes);
                host.next_event().unwrap().unwrap();
            }
            "config" => {
                let HostMessage::Config(config) = serde_json::from_value(value).unwrap() else {
                    panic!()
                };
                let bytes = host.config(&config).unwrap();
                assert_eq!(String::from_utf8(bytes.clone()).unwrap(), format!("{line}\n"));
                let guest = guest.as_mut().unwrap();
                guest.push(&bytes);
                let Some(GuestEvent::Configure { ack, .. }) = guest.next_event().unwrap() else {
                    panic!()
                };
                heard.push(ack);
            }
            "ack" => {
                let ack = heard.pop().unwrap();
                assert_eq!(ack, format!("{line}\n").as_bytes());
                host.push(&ack);
                host.next_event().unwrap().unwrap();
            }
            "status" => {
                let GuestMessage::Status(status) = serde_json::from_value(value).unwrap() else {
                    panic!()
                };
                let bytes = guest.as_mut().unwrap().report(status).unwrap();
                assert_eq!(String::from_utf8(bytes.clone()).unwrap(), format!("{line}\n"));
                host.push(&bytes);
                heard.clear();
                heard.push(format!("{:?}", host.next_event().unwrap().unwrap()).into_bytes());
            }
            "stop" => {
                let bytes = host.stop(Some(5)).unwrap();
                assert_eq!(bytes, format!("{line}\n").as_bytes());
                guest.as_mut().unwrap().push(&bytes);
                guest.as_mut().unwrap().next_event().unwrap().unwrap();
            }
            other => panic!("{other} has no place in the transcript"),
        }
    }
    assert!(heard.pop().unwrap().starts_with(b"Exited"));
}

#[test]
fn every_hex_line_is_one_frame_and_its_comment_says_which() {
    let mut seen = Vec::new();
    for line in blocks(GUEST_MD, "hex").into_iter().flat_map(str::lines) {
        let (bytes, comment) = line.split_once('#').unwrap();
        let bytes: Vec<u8> = bytes
            .split_ascii_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        let mut decoder = FrameDecoder::default();
        decoder.push(&bytes);
        let frame = decoder.next_frame().unwrap().expect(line);
        assert_eq!(decoder.buffered_bytes(), 0, "{line}");
        match frame.kind {
            FrameType::Control => {
                assert_eq!(frame.payload, comment.trim().as_bytes());
                serde_json::from_slice::<ExecControl>(&frame.payload).unwrap();
            }
            FrameType::Exit => {
                assert_eq!(frame.payload, comment.trim().as_bytes());
                serde_json::from_slice::<ExecExit>(&frame.payload).unwrap();
            }
            FrameType::Stdin => assert!(comment.contains("standard input")),
            FrameType::Stdout => assert!(comment.contains("standard output")),
            FrameType::Stderr => assert!(comment.contains("standard error")),
        }
        seen.push(frame.kind);
    }
    assert_eq!(seen.len(), 6);
}

/// The names of all members in `value`, with their parents: `workload.argv`, `mounts[].name`.
fn members(value: &Value, parent: &str, found: &mut Vec<String>) {
    match value {
        // Its keys are the customer's.
        Value::Object(_) if parent == "workload.env" => {}
        Value::Object(object) => {
            for (key, value) in object {
                let name = if parent.is_empty() {
                    key.clone()
                } else {
                    format!("{parent}.{key}")
                };
                found.push(name.clone());
                members(value, &name, found);
            }
        }
        Value::Array(array) => array
            .iter()
            .for_each(|value| members(value, &format!("{parent}[]"), found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_member_of_the_config_has_its_row() {
    let table = GUEST_MD
        .split("## The config")
        .nth(1)
        .unwrap()
        .split("\n### ")
        .next()
        .unwrap();
    let full = values(blocks(table, "json")[0]).pop().unwrap();
    // The example has every member that there is: printing it adds none.
    let HostMessage::Config(config) = parse(&full) else {
        panic!()
    };
    let (mut written, mut known) = (Vec::new(), Vec::new());
    members(&full, "", &mut written);
    members(
        &serde_json::to_value(HostMessage::Config(config)).unwrap(),
        "",
        &mut known,
    );
    written.sort();
    known.sort();
    assert_eq!(written, known);
    for member in known
        .iter()
        .filter(|member| *member != "type" && !member.starts_with("workload.rlimits[]"))
    {
        let is_object = ["workload", "exec", "output"].contains(&member.as_str());
        assert!(
            is_object || table.contains(&format!("`{member}`")),
            "{member} has no row"
        );
    }
}

#[test]
fn every_stage_reason_and_feature_has_its_row() {
    for stage in Stage::ALL {
        let seconds = stage.deadline_ms() / 1_000;
        let row = GUEST_MD
            .lines()
            .find(|line| line.starts_with(&format!("| `{stage}` |")))
            .unwrap_or_else(|| panic!("{stage} has no row"));
        assert!(row.contains(&format!("| {seconds} s |")), "{row}");
    }
    for reason in [
        Reason::HandshakeFailed,
        Reason::ConfigParseFailed,
        Reason::RootFailed,
        Reason::NetConfigFailed,
        Reason::SecretsMissing,
        Reason::SecretsWriteFailed,
        Reason::MountFailed,
        Reason::WorkloadStartFailed,
        Reason::WorkloadCrashed,
    ] {
        assert!(GUEST_MD.contains(&format!("\n| `{reason}` | ")), "{reason}");
    }
    for feature in FEATURES {
        assert!(GUEST_MD.contains(&format!("\n| `{feature}` | ")), "{feature}");
    }
}

#[test]
fn the_secrets_example_breaks_no_rule_of_its_grammar() {
    let grammar = blocks(GUEST_MD, "ebnf").pop().unwrap();
    for limit in [
        "262,144",
        "256 entries",
        "128 bytes",
        "8,192",
        "65,536",
        "# TRC_SECRETS_V1",
    ] {
        assert!(grammar.contains(limit), "{limit}");
    }
    assert_eq!(SECRETS_BYTES_MAX, 262_144);
}
