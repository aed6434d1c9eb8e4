//! Rollouts in real microVMs: bad guest inits are taken back by themselves, what runs is left alone, and a good release goes out.
//!
//! Two hosts boot instances all the while, a bounded number of them. The rule is the one of every fleet; only its numbers are
//! those of a fleet that boots some dozens of instances a minute: docs/decisions/0019-when-to-roll-back.md.

mod launcher;

use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::facts;
use crate::fleet::{boot, get, state_of};
use crate::host::Host;
use crate::lab;
use crate::listener::Listener;
use crate::registry::Registry;

use launcher::launching;

facts![
    a_guest_init_that_hangs_is_taken_back,
    a_guest_init_that_panics_the_kernel_is_taken_back,
    a_guest_init_that_sets_up_no_network_is_taken_back,
    a_good_release_goes_out_though_the_control_plane_is_killed,
];

/// The release that is the default before each rollout.
const OLD: &str = "g1";
/// The other good one.
const NEW: &str = "g2";

/// A fleet of two hosts that boot the old release, and somebody who is told of what happens to it.
struct Fleet {
    control: ControlPlane,
    hosts: [Host; 2],
    webhook: Listener,
    _registry: Registry,
}

impl Fleet {
    /// Its registry has the faulty release too, if one is named.
    fn with(fault: Option<&str>) -> Self {
        let registry = Registry::for_faults();
        for build in [OLD, NEW] {
            let release = registry.release_for(&lab::faulty_key(), build, "lab");
            registry.publish(&release).ok();
        }
        if let Some(fault) = fault {
            registry.publish(&lab::faulty(fault)).ok();
        }
        let webhook = Listener::start();
        let control = ControlPlane::telling(&webhook, &registry, &["--channel", "lab"]);
        control.knows(&[OLD, NEW]);
        // Only a hang need not take its whole time. A good boot that comes too late is a failure of the old release: an incident.
        let hello_seconds = if fault == Some("hang") { "30" } else { "60" };
        let options = ["--channel", "lab", "--hello-seconds", hello_seconds];
        let hosts = ["rack-1", "rack-2"].map(|name| control.host_with(name, &options));
        control.set_default(OLD);
        Self {
            control,
            hosts,
            webhook,
            _registry: registry,
        }
    }

    /// Starts a rollout and waits for its end while instances are launched: the exit code, and what was printed.
    fn roll_out(&self, build: &str) -> (i32, Value) {
        let plan = self.control.path("plan.json");
        std::fs::write(&plan, plan_document().to_string()).unwrap();
        let plan = plan.to_str().unwrap();
        let start = [
            "rollout",
            "start",
            build,
            "--plan-file",
            plan,
            "--wait",
            "--timeout",
            "6m",
        ];
        let ran = launching(&self.hosts, || {
            await_minute();
            self.control.admin(&start)
        });
        (ran.code, ran.json())
    }
}

/// Waits until it is early in a minute. The one in which a share changes is not compared, nor is what begins within half a
/// minute: so it is this minute alone.
fn await_minute() {
    while jiff::Timestamp::now().as_second().rem_euclid(60) > 20 {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// The usual plan's rule, for a fleet of two hosts and some dozens of boots a minute.
fn plan_document() -> Value {
    let wave = |share: u16| json!({"share": share, "sample_min": 6, "soak_seconds": 1, "wait_seconds": 300});
    json!({
        "waves": [wave(5_000), wave(10_000)],
        // A probe ends before there is a whole minute to be compared, with as few hosts and boots as here.
        "probe": [],
        "distributed_min": 10_000,
        "holdback": 1_000,
        // So that what speaks against a release is the comparison with the old one.
        "threshold": 5_000,
        "judged_after_seconds": 2,
        "compared_with": 3,
        "hosts_min": 2,
        // Stricter than usual: with so few boots the threshold must not speak before there is a minute to be compared.
        "false_rollback_one_in": 100_000,
        // Nor must the test that only pauses be sure before those that take back are.
        "false_pause_one_in": 4_000_000_000_u32,
        "agreed_one_in": 20,
        "slow": "pause",
    })
}

/// A faulty release is rolled out, and everything is as it was before.
fn taken_back(fault: &str, build: &str, outcome: &str) {
    let fleet = Fleet::with(Some(fault));
    let (control, hosts) = (&fleet.control, &fleet.hosts);
    control.knows(&[build]);
    let running = hosts.each_ref().map(|host| boot(host, &[]));
    let (code, document) = fleet.roll_out(build);
    let error = &document["error"];
    assert_eq!(
        (code, error["code"].as_str()),
        (1, Some("rollout_rolled_back")),
        "{document:#}"
    );
    let why = error["message"].as_str().unwrap();
    assert!(why.contains("boots failed"), "{why}");

    for (host, (id, old)) in hosts.iter().zip(&running) {
        assert_eq!(old, OLD);
        assert_eq!(state_of(host, id), "running", "what ran runs on");
        assert_eq!(boot(host, &[]).1, OLD, "new instances boot what they did before");
    }
    assert_eq!(control.kernel(build)["state"], "rolled_back");
    assert_eq!(control.kernel(OLD)["state"], "default");
    let again = control.admin(&["rollout", "start", build]);
    assert_eq!(again.code, 5, "it is remembered: {}", again.stdout);

    let shown = control.json(&["rollout", "show"]);
    assert_eq!(shown["stage"], "rolled_back");
    let condemned = shown["history"].as_array().unwrap().iter();
    let condemned: Vec<&Value> = condemned.filter(|moment| moment["kind"] == "condemned").collect();
    assert_eq!(condemned.len(), 1, "{shown:#}");
    assert!(why.contains(condemned[0]["why"].as_str().unwrap()), "{why}");
    assert_eq!(condemned[0]["actor"]["kind"], "system", "nobody did it");
    assert!(
        shown["health"]["release"]["failures"].as_f64().unwrap() >= 2.0,
        "{shown:#}"
    );
    assert_eq!(shown["health"]["baseline"]["failures"], 0.0, "{shown:#}");
    let detail = control.json(&["kernels", "show", build]);
    assert!(detail["outcomes"][outcome].as_u64().unwrap() >= 2, "{detail:#}");

    let metrics = get(&format!("{}/metrics", control.metrics_address()));
    assert!(
        metrics.contains("plfm_rollbacks_total{trigger=\"system\"} 1"),
        "{metrics}"
    );
    let notice = fleet.webhook.wait_for(|notice| notice["alert"] == "rolled_back");
    assert_eq!(notice["rollout"]["id"], shown["id"]);
    assert_eq!(notice["why"], condemned[0]["why"]);
}

fn a_guest_init_that_hangs_is_taken_back() {
    taken_back("hang", "20260103h", "handshake_timeout");
}

fn a_guest_init_that_panics_the_kernel_is_taken_back() {
    taken_back("kernel-panic", "20260103p", "kernel_panic");
}

fn a_guest_init_that_sets_up_no_network_is_taken_back() {
    taken_back("network", "20260103n", "failed");
}

fn a_good_release_goes_out_though_the_control_plane_is_killed() {
    let mut fleet = Fleet::with(None);
    let before = boot(&fleet.hosts[0], &[]);
    let plan = fleet.control.path("plan.json");
    std::fs::write(&plan, plan_document().to_string()).unwrap();
    let start = ["rollout", "start", NEW, "--plan-file", plan.to_str().unwrap()];
    let receipt = fleet.control.json(&start);
    let id = receipt["rollout"].as_str().unwrap().to_owned();
    let Fleet { control, hosts, .. } = &mut fleet;
    let (code, lines) = launching(hosts, || {
        control.wait_for("the first wave", |control| {
            control.json(&["rollout", "show", &id])["stage"] == "canary"
        });
        // A watcher outlives it.
        let watcher = control.spawn_admin(&["rollout", "show", &id, "--watch"]);
        control.kill();
        control.start();
        let ran = watcher.wait();
        (ran.code, ran.stdout)
    });
    assert_eq!(code, 0, "{lines}");
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["stage"], "complete", "{last:#}");
    let kinds: Vec<&str> = last["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|moment| moment["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["started", "distributed", "advanced", "promoted", "settled"],
        "each once"
    );
    assert_eq!(control.kernel(NEW)["state"], "default");
    for host in hosts.iter() {
        assert_eq!(boot(host, &[]).1, NEW);
    }
    assert_eq!(state_of(&hosts[0], &before.0), "running", "what ran runs on");
}
