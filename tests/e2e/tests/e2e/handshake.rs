//! Guest init against hosts that misbehave: a real microVM of the lab's release, and this test as its host.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use plfm_vmm::{AcceleratorChoice, Backend, Disk, DiskAccess, ExitCause, Vm, VmConfig, VmImage};
use serde_json::{Value, json};

use crate::boot::{initramfs_of, kernel_of};
use crate::host::tool;
use crate::{facts, lab};

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

const ID: &str = "i-test";
/// How long a whole VM may take, start to end.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a VM left: its console, and what it said to the host.
struct Story {
    console: String,
    said: Vec<Value>,
    took: Duration,
}

impl Story {
    /// The failure it reported over vsock: stage, reason, detail.
    #[track_caller]
    fn failure(&self) -> (&str, &str, &str) {
        let failed = self.said.iter().find(|message| message["state"] == "failed");
        let failed =
            failed.unwrap_or_else(|| panic!("no failure was reported: {:?}\n{}", self.said, self.console));
        ["stage", "reason", "detail"]
            .map(|key| failed[key].as_str().unwrap_or_default())
            .into()
    }

    #[track_caller]
    fn assert_on_console(&self, text: &str) {
        assert!(
            self.console.contains(text),
            "{text:?} is not on the console:\n{}",
            self.console
        );
    }
}

fn config() -> Value {
    json!({
        "type": "config", "config_version": "v1", "instance_id": ID, "generation": 1,
        "workload": {"argv": ["/bin/sh", "-c", "exit 11"]},
    })
}

/// Reads messages until the guest closes or has said its last word.
fn listen_to(stream: UnixStream) -> Vec<Value> {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut said = Vec::new();
    for message in lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok()) {
        let is_last = matches!(message["state"].as_str(), Some("failed" | "exited"));
        said.push(message);
        if is_last {
            break;
        }
    }
    said
}

/// Answers the hello with `bytes` and listens to the rest.
fn answer(bytes: Vec<u8>) -> impl FnOnce(UnixStream) -> Vec<Value> + Send + 'static {
    move |mut stream| {
        read_hello(&mut stream);
        // A guest that refuses a long line closes before it has read it.
        let _ = stream.write_all(&bytes);
        listen_to(stream)
    }
}

fn answer_config(config: &Value) -> impl FnOnce(UnixStream) -> Vec<Value> + Send + 'static {
    answer(format!("{config}\n").into_bytes())
}

fn read_hello(stream: &mut UnixStream) {
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|length| length == 1) && byte != *b"\n" {}
}

/// Boots a VM whose host end is `host`, and waits for its end.
fn boot(host: Option<impl FnOnce(UnixStream) -> Vec<Value> + Send + 'static>) -> Story {
    let dir = tempfile::Builder::new()
        .prefix("plfm-hs-")
        .tempdir_in("/tmp")
        .unwrap();
    let scratch = dir.path().join("scratch.img");
    tool(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            scratch.to_str().unwrap(),
            "16M",
        ],
    )
    .ok();
    let talk = host.map(|host| {
        let listener = UnixListener::bind(dir.path().join("v.sock_5161")).unwrap();
        std::thread::spawn(move || host(listener.accept().unwrap().0))
    });
    let open = |path: PathBuf| VmImage::new(std::fs::File::open(path).unwrap());
    let disk = |path: PathBuf, access| Disk { path, access };
    let config = VmConfig {
        dir: dir.path().to_owned(),
        kernel: open(kernel_of(&lab::release())),
        initramfs: open(initramfs_of(&lab::release())),
        cmdline_extra: vec![format!("plfm.instance_id={ID}")],
        memory_mib: 128,
        vcpus: 1,
        disks: vec![
            disk(lab::root_disk(), DiskAccess::ReadOnly),
            disk(scratch, DiskAccess::ReadWrite),
        ],
        tap: None,
        console_bytes_max: plfm_vmm::CONSOLE_BYTES_MAX_DEFAULT,
        start_timeout: plfm_vmm::START_TIMEOUT_DEFAULT,
    };
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let exit = runtime.block_on(async {
        let vm = Vm::start(&Backend::detect(AcceleratorChoice::Auto).unwrap(), config)
            .await
            .unwrap();
        tokio::time::timeout(PATIENCE, vm.wait())
            .await
            .expect("the VM did not end")
    });
    let took = started.elapsed();
    assert_eq!(
        (exit.cause, &exit.kernel_panic),
        (ExitCause::GuestReset, &None),
        "{}",
        exit.console_tail
    );
    let console = std::fs::read_to_string(dir.path().join("console.log")).unwrap();
    let said = talk.map(|talk| talk.join().unwrap()).unwrap_or_default();
    Story { console, said, took }
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
