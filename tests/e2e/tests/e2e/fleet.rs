//! A fleet: a control plane, hosts that enrolled with it, and microVMs of the releases that it names.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::control_plane::ControlPlane;
use crate::facts;
use crate::host::{Host, Ran};
use crate::lab;
use crate::registry::Registry;

facts![
    new_instances_boot_the_new_default_and_running_ones_stay,
    a_rollback_goes_to_the_last_known_good_on_every_host,
    a_host_that_is_cut_off_goes_on_and_nothing_is_counted_twice,
    boots_are_counted_once_though_the_agent_is_killed,
    a_pinned_instance_boots_its_own_release,
    a_canary_of_everything_is_booted_by_everything_new,
    a_blocked_release_is_booted_by_nobody,
    a_draining_host_takes_no_new_instances,
    a_revoked_host_is_told_nothing_any_more,
    nothing_is_fetched_while_the_window_is_closed,
    every_metric_is_in_the_docs_and_promtool_accepts_it,
];

/// A registry with releases of these build ids.
pub fn registry_with(build_ids: &[&str]) -> Registry {
    let registry = Registry::new();
    for build_id in build_ids {
        registry.publish(&registry.release_by(&lab::key(), build_id)).ok();
    }
    registry
}

/// A fleet whose control plane knows the releases.
fn fleet_with(builds: &[&str]) -> (Registry, ControlPlane) {
    let registry = registry_with(builds);
    let control = ControlPlane::of(&registry);
    control.knows(builds);
    (registry, control)
}

/// The build id of what an instance boots.
fn build_of(instance: &Value) -> String {
    let release = instance["release"].as_str().unwrap();
    release.rsplit_once('-').unwrap().1.to_owned()
}

/// Boots an instance that stays, and gives its id and the build that it boots.
pub fn boot(host: &Host, options: &[&str]) -> (String, String) {
    let instance = host.start_script(&[&["--no-network"], options].concat(), "sleep 600");
    (instance["id"].as_str().unwrap().to_owned(), build_of(&instance))
}

pub fn state_of(host: &Host, id: &str) -> Value {
    let list = host.json(["ps", "--all"]);
    let items = list["items"].as_array().unwrap().iter();
    items
        .filter(|item| item["id"] == id)
        .map(|item| item["state"].clone())
        .next()
        .unwrap_or_default()
}

fn new_instances_boot_the_new_default_and_running_ones_stay() {
    let (_registry, control) = fleet_with(&["r1", "r2"]);
    let hosts = [control.host("rack-1"), control.host("rack-2")];
    control.set_default("r1");
    let before = hosts.each_ref().map(|host| boot(host, &[]));
    assert!(before.iter().all(|(_, build)| build == "r1"), "{before:?}");
    let receipt = control.set_default("r2");
    assert_eq!(
        receipt["receipt"]["previous_release"]
            .as_str()
            .or(receipt["previous_release"].as_str())
            .map(|release| release.ends_with("-r1")),
        Some(true),
        "{receipt}"
    );
    for (host, (id, _)) in hosts.iter().zip(&before) {
        assert_eq!(boot(host, &[]).1, "r2");
        assert_eq!(state_of(host, id), "running", "what ran runs on");
    }
    control.counts("r1", 2);
    control.counts("r2", 2);
    let kernel = control.kernel("r2");
    assert_eq!(
        (&kernel["state"], &kernel["hosts"], &kernel["boots_ready"]),
        (&"default".into(), &2.into(), &2.into())
    );
}

fn a_rollback_goes_to_the_last_known_good_on_every_host() {
    let (_registry, control) = fleet_with(&["r1", "r2"]);
    let hosts = [control.host("rack-1"), control.host("rack-2")];
    control.set_default("r1");
    control.set_default("r2");
    let (running, _) = boot(&hosts[0], &[]);
    control.json(&["kernels", "rollback", "--yes", "--wait", "--reason", "it is slow"]);
    for host in &hosts {
        assert_eq!(boot(host, &[]).1, "r1");
    }
    assert_eq!(state_of(&hosts[0], &running), "running");
    assert_eq!(
        control.kernel("r2")["state"],
        "rolled_back",
        "the bad one is remembered"
    );
    let again = control.admin(&["kernels", "set-default", "r2"]);
    assert_eq!(
        (again.code, &again.json()["error"]["code"]),
        (5, &"release_rolled_back".into())
    );
    let log = control.json(&["events", "list", "--aggregate", "fleet"]);
    let last = log["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["kind"], &last["detail"]["reason"]),
        (&"rolled_back".into(), &"it is slow".into())
    );
    assert_eq!(last["actor"]["address"], "127.0.0.1");
}

fn a_host_that_is_cut_off_goes_on_and_nothing_is_counted_twice() {
    let (_registry, mut control) = fleet_with(&["r1", "r2"]);
    let host = control.host("rack-1");
    control.set_default("r1");
    boot(&host, &[]);
    control.kill();
    for _ in 0..2 {
        assert_eq!(boot(&host, &[]).1, "r1", "it goes on with the last target");
    }
    control.start();
    control.counts("r1", 3);
    control.set_default("r2");
    assert_eq!(boot(&host, &[]).1, "r2");
    control.counts("r1", 3);
}

fn boots_are_counted_once_though_the_agent_is_killed() {
    let (_registry, control) = fleet_with(&["r1"]);
    let mut host = control.host("rack-1");
    control.set_default("r1");
    for _ in 0..2 {
        boot(&host, &[]);
        host.kill_agent();
        host.start_agent();
    }
    boot(&host, &[]);
    control.counts("r1", 3);
    assert_eq!(
        control.json(&["hosts", "list"])["items"]
            .as_array()
            .unwrap()
            .len(),
        1,
        "it is the same host"
    );
}

fn a_pinned_instance_boots_its_own_release() {
    let (_registry, control) = fleet_with(&["r1", "r2"]);
    let host = control.host("rack-1");
    control.set_default("r1");
    let r2 = control.kernel("r2");
    control.json(&["policy", "pin", "web-1", r2["release"].as_str().unwrap()]);
    control.wait_for("the host has the pinned release", |control| {
        control.kernel("r2")["hosts"] == 1
    });
    assert_eq!(boot(&host, &["--name", "web-1"]).1, "r2");
    assert_eq!(boot(&host, &["--name", "web-2"]).1, "r1");
    let list = host.json(["ps"]);
    assert!(
        list["items"][0]["release_reason"]
            .as_str()
            .unwrap()
            .contains("pin"),
        "{list}"
    );
}

fn a_canary_of_everything_is_booted_by_everything_new() {
    let (_registry, control) = fleet_with(&["r1", "r2"]);
    let host = control.host("rack-1");
    control.set_default("r1");
    control.json(&["policy", "canary", "r2", "--weight", "100%"]);
    control.wait_for("the host has the canary", |control| {
        control.kernel("r2")["hosts"] == 1
    });
    let instance = host.start_script(&["--no-network"], "sleep 600");
    assert_eq!(build_of(&instance), "r2");
    assert!(
        instance["release_reason"].as_str().unwrap().contains("canary"),
        "{instance}"
    );
    assert_eq!(control.kernel("r2")["state"], "canary");
    control.json(&["policy", "canary", "--none"]);
    control.wait_for("the host knows", |_| boot(&host, &[]).1 == "r1");
}

fn a_blocked_release_is_booted_by_nobody() {
    let (_registry, control) = fleet_with(&["r1", "r2"]);
    let host = control.host("rack-1");
    control.set_default("r2");
    control.set_default("r1");
    control.json(&["kernels", "block", "r2", "--reason", "CVE"]);
    let script = ["run", "--no-network", "--release", "r2", "--rootdisk"];
    let disk = lab::root_disk();
    let args = [&script[..], &[disk.to_str().unwrap(), "--", "/bin/true"]].concat();
    control.wait_for("the host knows", |_| {
        host.plfm(args.iter().copied()).stderr.contains("blocked")
    });
    assert_eq!(boot(&host, &[]).1, "r1");
    control.json(&["kernels", "unblock", "r2"]);
    control.wait_for("the host knows", |_| host.plfm(args.iter().copied()).code == 0);
}

fn a_draining_host_takes_no_new_instances() {
    let (_registry, control) = fleet_with(&["r1"]);
    let host = control.host("rack-1");
    control.set_default("r1");
    let (running, _) = boot(&host, &[]);
    let id = control.json(&["hosts", "list"])["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    control.json(&["hosts", "drain", &id]);
    control.wait_for("the host knows", |_| {
        host.run_script("exit 0").stderr.contains("drain")
    });
    assert_eq!(state_of(&host, &running), "running");
    control.json(&["hosts", "undrain", &id]);
    control.wait_for("the host knows", |_| host.run_script("exit 0").code == 0);
}

fn a_revoked_host_is_told_nothing_any_more() {
    let (_registry, control) = fleet_with(&["r1", "r2"]);
    let host = control.host("rack-1");
    control.set_default("r1");
    let id = control.json(&["hosts", "list"])["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    control.json(&["hosts", "revoke", &id, "--yes"]);
    control.json(&["kernels", "set-default", "r2"]);
    control.wait_for("the host says what is wrong", |_| {
        host.plfm(["--output", "json", "host"])
            .stdout
            .contains("host_revoked")
    });
    assert_eq!(boot(&host, &[]).1, "r1", "it goes on with what it was told last");
}

fn nothing_is_fetched_while_the_window_is_closed() {
    let (_registry, control) = fleet_with(&["r1", "r2"]);
    let host = control.host("rack-1");
    control.set_default("r1");
    // A window of a minute, on the day after tomorrow.
    let day = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48))
        .strftime("%A")
        .to_string()
        .to_lowercase();
    let window = [
        "policy",
        "window",
        "--days",
        &day,
        "--start",
        "03:00",
        "--duration",
        "1m",
        "--time-zone",
        "UTC",
    ];
    control.json(&window);
    control.json(&["kernels", "set-default", "r2"]);
    control.wait_for("the host goes by the new target", |control| {
        let fleet = control.json(&["fleet"]);
        fleet["hosts_at_generation"] == 1
    });
    assert_eq!(boot(&host, &[]).1, "r1", "it boots what it has");
    assert_eq!(control.kernel("r2")["hosts"], 0);
    control.json(&["policy", "window", "--none"]);
    control.wait_for("the host has it", |control| control.kernel("r2")["hosts"] == 1);
    control.wait_for("new instances boot it", |_| boot(&host, &[]).1 == "r2");
}

/// The names of the samples in a page of metrics, as `docs/metrics.md` has them.
fn names_of(metrics: &str) -> std::collections::BTreeSet<String> {
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

fn every_metric_is_in_the_docs_and_promtool_accepts_it() {
    let (registry, control) = fleet_with(&["r1"]);
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let listen = format!("127.0.0.1:{port}");
    let host = control.host_with("rack-1", &["--metrics-listen", &listen]);
    control.set_default("r1");
    boot(&host, &[]);
    control.counts("r1", 1);
    // What has never happened is not shown: a wrong token, and a release that nobody trusted signed.
    assert_eq!(
        control
            .admin_as("plfm_op_01K00000000000000000000000_guess", &["whoami"])
            .code,
        3
    );
    registry.make_release_key("stranger");
    let strange = registry.release("stranger", "r9");
    assert_ne!(
        host.plfm(["release", "install", strange.to_str().unwrap()]).code,
        0
    );
    let agent = get(&format!("{listen}/metrics"));
    let fleet = get(&format!("{}/metrics", control.metrics_address()));
    assert!(agent.contains("plfm_agent_boots_total{"), "{agent}");
    assert!(fleet.contains("plfm_boots_total{"), "{fleet}");
    for page in [&agent, &fleet] {
        let promtool = lab::promtool().expect("checked before");
        let mut check = Command::new(promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        check.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let checked = Ran::from(check.wait_with_output().unwrap()).ok();
        assert_eq!((checked.stdout.as_str(), checked.stderr.as_str()), ("", ""));
    }
    let documented = include_str!("../../../../docs/metrics.md");
    let documented: std::collections::BTreeSet<String> = documented
        .lines()
        .filter_map(|line| line.strip_prefix("| `plfm_"))
        .map(|line| format!("plfm_{}", line.split('`').next().unwrap()))
        .collect();
    let served: std::collections::BTreeSet<String> =
        names_of(&agent).union(&names_of(&fleet)).cloned().collect();
    assert_eq!(served, documented);
}

/// `GET` over plain HTTP.
pub fn get(address: &str) -> String {
    let (host, path) = address.split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{head}");
    body.to_owned()
}
