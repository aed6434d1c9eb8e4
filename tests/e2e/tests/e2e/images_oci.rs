//! Instances of customers' images: what they say holds, they are brought once, and they are not the release's fault.

use serde_json::{Value, json};

use crate::facts;
use crate::host::{Host, Ran};
use crate::layout::{Layout, Registry, copy};

facts![
    an_image_runs_as_its_configuration_says,
    a_request_wins_over_the_image,
    an_image_ends_by_its_own_stop_signal,
    an_archive_of_docker_save_runs,
    a_registrys_image_is_pinned_shared_and_fetched_once,
    a_tag_that_moved_is_followed_when_it_is_asked_for,
    what_is_wrong_with_an_image_is_said_before_there_is_an_instance,
    removal_keeps_what_runs,
];

const SAYS: &str = "echo $MODE; pwd; id -u; id -gn";

/// Whether a fact starts docker's registry.
pub fn needs_registry(name: &str) -> bool {
    ["registrys_image", "a_tag_that_moved", "what_is_wrong"]
        .iter()
        .any(|part| name.contains(part))
}

fn config() -> Value {
    json!({
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": [SAYS], "Env": ["PATH=/bin", "MODE=fast"],
        "WorkingDir": "/srv/www", "User": "app",
    })
}

fn layout(host: &Host, name: &str, config: Value) -> Layout {
    Layout::of_userland(host.path(name), config)
}

fn run(host: &Host, args: &[&str]) -> Ran {
    host.plfm(
        ["run", "-q", "--no-network"]
            .into_iter()
            .chain(args.iter().copied()),
    )
}

fn start(host: &Host, args: &[&str]) -> Value {
    host.json(
        ["run", "--detach", "--no-network"]
            .into_iter()
            .chain(args.iter().copied()),
    )
}

fn images(host: &Host) -> Vec<Value> {
    host.json(["image", "list"])["items"].as_array().unwrap().clone()
}

fn an_image_runs_as_its_configuration_says() {
    let host = Host::ready();
    let image = layout(&host, "image", config());
    let ran = run(&host, &[&image.name()]).ok();
    assert_eq!(ran.stdout, "fast\n/srv/www\n1000\napp\n");
    let instance = host.last_instance();
    assert_eq!(instance["argv"], json!(["/bin/sh", "-c", SAYS]));
    assert_eq!(instance["image"]["digest"], image.digest());
    assert_eq!(instance["image"]["name"], image.name());
    let shown = host.plfm(["ps", "--all"]).ok().stdout;
    assert!(
        shown.contains(&image.digest()["sha256:".len()..][..12]),
        "{shown}"
    );
    let kept = std::fs::read_to_string(host.path(&format!(
        "state/instances/{}/instance.json",
        instance["id"].as_str().unwrap()
    )));
    let kept = kept.unwrap();
    assert!(kept.contains(&image.digest()), "{kept}");
    assert!(!kept.contains("fast"), "an environment value is on disk: {kept}");
}

fn a_request_wins_over_the_image() {
    let host = Host::ready();
    let image = layout(&host, "image", config());
    let options = ["--env", "MODE=slow", "--user", "0", "--cwd", "/tmp"];
    let ran = run(&host, &[&options[..], &[&image.name()]].concat()).ok();
    assert_eq!(ran.stdout, "slow\n/tmp\n0\nroot\n");
    assert_eq!(
        run(&host, &[&image.name(), "--", "echo args"]).ok().stdout,
        "args\n"
    );
    let ran = run(&host, &["--entrypoint", "echo", &image.name(), "--", "a", "b"]).ok();
    assert_eq!(ran.stdout, "a b\n");
}

fn an_image_ends_by_its_own_stop_signal() {
    let host = Host::ready();
    let script = "trap 'exit 7' USR1; trap 'exit 8' TERM; echo up; while :; do sleep 0.1; done";
    let says = json!({"Cmd": ["/bin/sh", "-c", script], "StopSignal": "SIGUSR1", "Env": ["PATH=/bin"]});
    let image = layout(&host, "image", says);
    let instance = start(&host, &[&image.name()]);
    let id = instance["id"].as_str().unwrap();
    host.output_until(id, "up");
    host.plfm(["stop", id]).ok();
    let exit = host.last_instance()["exit"].clone();
    assert_eq!(
        (&exit["exit_code"], &exit["reason"]),
        (&7.into(), &Value::Null),
        "{exit}"
    );
}

fn an_archive_of_docker_save_runs() {
    let host = Host::ready();
    let image = layout(&host, "image", config());
    let archive = format!("docker-archive:{}", host.path("image.tar").display());
    copy(&image.name(), &format!("{archive}:me/app:1"));
    assert_eq!(run(&host, &[&archive]).ok().stdout, "fast\n/srv/www\n1000\napp\n");
    assert_eq!(
        run(&host, &["--pull", "never", &archive, "--", "echo again"])
            .ok()
            .stdout,
        "again\n"
    );
    assert_eq!(images(&host).len(), 1);
}

/// A host and a registry that it knows.
fn with_registry() -> (tempfile::TempDir, Registry, Host) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path());
    let host = Host::ready_with(&["--image-plaintext", &registry.host]);
    (dir, registry, host)
}

fn a_registrys_image_is_pinned_shared_and_fetched_once() {
    let (_dir, registry, mut host) = with_registry();
    let script = "echo up; exec sleep 600";
    let says = json!({"Entrypoint": ["/bin/sh", "-c", script], "Env": ["PATH=/bin"]});
    let image = layout(&host, "image", says);
    let tag = format!("{}/me/app:1", registry.host);
    copy(&image.name(), &format!("docker://{tag}"));
    let pinned = format!("{tag}@{}", image.digest());
    let pulled = host.json(["image", "pull", &pinned]);
    assert_eq!(
        (&pulled["built"], &pulled["image"]["digest"]),
        (&true.into(), &image.digest().into())
    );
    assert!(pulled["fetched_bytes"].as_u64().unwrap() > 0, "{pulled}");
    let [one, two] = [&pinned, &tag].map(|name| start(&host, &[name]));
    assert_eq!(one["image"]["disk_digest"], two["image"]["disk_digest"]);
    let all = images(&host);
    assert_eq!((all.len(), &all[0]["instances"]), (1, &2.into()), "{all:?}");
    // Neither image nor instance needs the registry, or the agent that fetched it.
    drop(registry);
    host.stop_agent();
    host.start_agent();
    let third = start(&host, &[&tag]);
    assert_eq!(third["image"]["digest"], image.digest());
    let lost = run(&host, &["--pull", "always", &tag]);
    assert_eq!(lost.code, 125);
    assert!(
        lost.stderr.contains("does not answer") && lost.stderr.contains("hint:"),
        "{}",
        lost.stderr
    );
}

fn a_tag_that_moved_is_followed_when_it_is_asked_for() {
    let (_dir, registry, host) = with_registry();
    let tag = format!("{}/me/app:latest", registry.host);
    let push = |name: &str| {
        let image = layout(&host, name, json!({"Cmd": ["/bin/echo", name]}));
        copy(&image.name(), &format!("docker://{tag}"));
        image.digest()
    };
    let first = push("first");
    assert_eq!(run(&host, &[&tag]).ok().stdout, "first\n");
    let second = push("second");
    assert_eq!(run(&host, &[&tag]).ok().stdout, "first\n");
    assert_eq!(run(&host, &["--pull", "always", &tag]).ok().stdout, "second\n");
    let items = host.json(["ps", "--all"])["items"].clone();
    let digests: Vec<&str> = items
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["image"]["digest"].as_str().unwrap())
        .collect();
    assert_eq!(digests, [&first, &first, &second]);
    let again = host.json(["image", "pull", &tag]);
    assert_eq!(
        (&again["built"], &again["fetched_bytes"]),
        (&false.into(), &0.into())
    );
}

fn what_is_wrong_with_an_image_is_said_before_there_is_an_instance() {
    let (_dir, registry, host) = with_registry();
    let damaged = layout(&host, "damaged", config());
    damaged.damage();
    let silent = layout(&host, "silent", json!({}));
    let other = Layout::with_platform(host.path("other"), "arm64", config());
    let signal = layout(
        &host,
        "signal",
        json!({"Cmd": ["/bin/true"], "StopSignal": "SIGWHAT"}),
    );
    std::fs::write(host.path("noise.tar"), vec![0x5a; 4096]).unwrap();
    let cases = [
        (damaged.name(), "image_digest_mismatch"),
        (silent.name(), "image_no_command"),
        (other.name(), "image_platform"),
        (signal.name(), "image_stop_signal"),
        (
            format!("oci:{}", host.path("nowhere").display()),
            "image_not_found",
        ),
        (
            format!("{}:other", damaged.name().trim_end_matches(":t")),
            "image_not_found",
        ),
        (
            format!("docker-archive:{}", host.path("noise.tar").display()),
            "image_malformed",
        ),
        (format!("{}/me/unknown:1", registry.host), "image_not_found"),
    ];
    for (name, code) in &cases {
        let ran = host.plfm(["--output", "json", "run", "--no-network", name]);
        assert_eq!(ran.code, 125, "{name}: {}", ran.stderr);
        let error = ran.json()["error"].clone();
        assert_eq!(error["code"], *code, "{name}: {error}");
        assert!(error["hint"].is_string(), "{name}: {error}");
    }
    assert_eq!(host.json(["ps", "--all"])["items"], json!([]));
    // What cannot be unpacked leaves nothing; what says nothing is an image all the same.
    let kept: Vec<Value> = images(&host)
        .iter()
        .map(|image| image["digest"].clone())
        .collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    run(&host, &[&silent.name(), "--", "/bin/true"]).ok();
}

fn removal_keeps_what_runs() {
    let host = Host::ready();
    let running = layout(&host, "running", json!({"Cmd": ["/bin/sleep", "600"]}));
    let idle = layout(&host, "idle", json!({"Cmd": ["/bin/true"]}));
    let instance = start(&host, &[&running.name()]);
    host.plfm(["image", "pull", &idle.name()]).ok();
    let collected = host.json(["image", "gc"]);
    assert_eq!(collected["removed"], json!([idle.digest()]));
    assert_eq!(collected["kept"], json!([running.digest()]));
    assert!(collected["freed_bytes"].as_u64().unwrap() > 0);
    let id = instance["id"].as_str().unwrap();
    let ran = host
        .plfm([
            "exec",
            id,
            "--",
            "/bin/sh",
            "-c",
            "exec /bin/sha256sum /bin/busybox",
        ])
        .ok();
    assert!(ran.stdout.ends_with("/bin/busybox\n"), "{}", ran.stdout);
    host.plfm(["stop", "--grace", "0", id]).ok();
    assert_eq!(host.json(["image", "gc"])["removed"], json!([running.digest()]));
    assert_eq!(images(&host), [] as [Value; 0]);
}
