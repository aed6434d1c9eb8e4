//! Guests that do not behave. Each is a stand-in: it dials before the VM's own guest can, and says what no guest init of
//! ours says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::facts;
use crate::host::{Host, Ran, tool};
use crate::lab;

facts![
    a_guest_of_another_protocol_is_refused,
    a_guest_that_failed_before_it_knew_itself_is_heard,
    a_guest_that_does_not_read_its_config_can_be_cancelled,
    a_signal_that_cannot_be_delivered_ends_nothing,
];

const NOW: &str = "2026-11-24T09:00:00.000Z";

/// An instance whose guest is this test.
struct Guest {
    run: Child,
    stream: BufReader<UnixStream>,
}

impl Guest {
    /// Starts an instance and dials the agent. The agent listens before the VM starts, and the VM's kernel needs longer
    /// than this: this guest is there first.
    fn of(host: &Host, options: &[&str]) -> Self {
        let disk = lab::root_disk();
        let args = ["run", "--no-network", "--rootdisk", disk.to_str().unwrap()];
        let run = host
            .command(
                args.into_iter()
                    .chain(options.iter().copied())
                    .chain(["--", "/bin/true"]),
            )
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stream = loop {
            let sockets = std::fs::read_dir(host.path("run")).unwrap();
            let found = sockets
                .filter_map(|entry| UnixStream::connect(entry.ok()?.path().join("v.sock_5161")).ok())
                .next();
            match found {
                Some(stream) => break BufReader::new(stream),
                None => std::thread::yield_now(),
            }
        };
        Self { run, stream }
    }

    fn say(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.stream.get_mut().write_all(line.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// What `plfm run` printed at the end.
    fn ran(self) -> Ran {
        Ran::from(self.run.wait_with_output().unwrap())
    }
}

fn hello(instance_id: &str, boot_id: &str) -> Value {
    json!({
        "type": "hello", "guest_init_version": "1.0.0", "guest_init_protocol": 1,
        "instance_id": instance_id, "boot_id": boot_id,
    })
}

const BOOT_ID: &str = "3f0a3c1e-7b1e-4a59-8a35-0c9f0e7a9d11";

fn only_id(host: &Host) -> String {
    host.last_instance()["id"].as_str().unwrap().to_owned()
}

/// Stops the processor of the VM, so that its own guest neither dials nor ends.
fn freeze(host: &Host, id: &str) {
    let record = std::fs::read(host.path("state/instances").join(id).join("instance.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let vmm = record["processes"][0]["pid"].as_u64().unwrap();
    tool("kill", &["-STOP", &vmm.to_string()]).ok();
}

fn a_guest_of_another_protocol_is_refused() {
    let host = Host::ready();
    let mut guest = Guest::of(&host, &[]);
    guest.say(&json!({
        "type": "hello", "guest_init_version": "2.0.0", "guest_init_protocol": 2,
        "instance_id": "x", "boot_id": "y",
    }));
    let answer = guest.hear();
    assert_eq!(
        (&answer["type"], &answer["code"]),
        (&"reject".into(), &"guest_init_protocol_mismatch".into())
    );
    let ran = guest.ran();
    assert_eq!(ran.code, 125);
    assert!(ran.stderr.contains("protocol 2"), "{}", ran.stderr);
    assert_eq!(host.last_instance()["boot"]["outcome"], "protocol_mismatch");
}

fn a_guest_that_failed_before_it_knew_itself_is_heard() {
    let host = Host::ready();
    let mut guest = Guest::of(&host, &[]);
    guest.say(&hello("", ""));
    guest.say(&json!({
        "type": "status", "state": "failed", "timestamp": NOW, "stage": "kernel_filesystems",
        "reason": "mount_failed", "detail": "cannot mount /proc", "errno": 19,
    }));
    assert_eq!(guest.ran().code, 125);
    let boot = host.last_instance()["boot"].clone();
    assert_eq!(
        (&boot["outcome"], &boot["stage"], &boot["reason"], &boot["errno"]),
        (
            &"failed".into(),
            &"kernel_filesystems".into(),
            &"mount_failed".into(),
            &19.into()
        )
    );
}

fn a_guest_that_does_not_read_its_config_can_be_cancelled() {
    let host = Host::ready();
    // Far more than a socket takes at once; one argument of a command has at most 128 KiB.
    let entries: Vec<String> = (0..8)
        .map(|n| format!("BIG{n}={}", "x".repeat(100_000)))
        .collect();
    let options: Vec<&str> = entries.iter().flat_map(|entry| ["--env", entry]).collect();
    let mut guest = Guest::of(&host, &options);
    let id = only_id(&host);
    guest.say(&hello(&id, BOOT_ID));
    // The first byte: the config is being sent.
    let mut first = [0];
    guest.stream.get_mut().read_exact(&mut first).unwrap();
    host.plfm(["stop", "--no-wait", &id]).ok();
    let stopped = crate::api::get(
        &host,
        &format!("/v1/instances/{id}?wait=stopped&timeout_seconds=60"),
    );
    assert_eq!(stopped["boot"]["outcome"], "cancelled", "{stopped}");
    assert_eq!(guest.ran().code, 125);
}

fn a_signal_that_cannot_be_delivered_ends_nothing() {
    let host = Host::ready();
    let mut guest = Guest::of(&host, &["--detach"]);
    let id = only_id(&host);
    guest.say(&hello(&id, BOOT_ID));
    assert_eq!(guest.hear()["type"], "config");
    freeze(&host, &id);
    guest.say(&json!({"type": "ack", "config_version": "v1", "generation": 1}));
    guest.say(&json!({"type": "status", "state": "config_applied", "timestamp": NOW}));
    guest.say(&json!({"type": "status", "state": "ready", "timestamp": NOW}));
    assert_eq!(guest.ran().code, 0);
    // The connection is gone, and the VM is not.
    host.log_until("closed the control connection");
    let path = format!("/v1/instances/{id}/signal");
    let (status, _, body) = crate::api::post(&host, &path, r#"{"signal":"HUP"}"#);
    assert_eq!(status, 200, "{body}");
    host.log_until("a signal was not delivered");
    assert_eq!(host.last_instance()["state"], "running");
    // A stop is what ends it.
    let stopped = host.json(["stop", &id]);
    assert_eq!(
        (&stopped["state"], &stopped["exit"]["reason"]),
        (&"stopped".into(), &"killed".into())
    );
}
