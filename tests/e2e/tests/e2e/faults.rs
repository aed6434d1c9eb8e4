//! Guest inits that fail on purpose: each fails as it says, and none gets where customers are.

use std::path::Path;

use serde_json::Value;

use crate::boot::initramfs_of;
use crate::facts;
use crate::host::{Host, tool};
use crate::lab;

facts![
    a_guest_init_that_hangs_is_a_handshake_timeout,
    a_guest_init_that_ends_is_a_kernel_panic,
    a_guest_init_without_a_network_fails_in_its_stage,
    a_slow_guest_init_is_ready_and_late,
    no_release_for_customers_has_a_guest_init_that_fails_on_purpose,
    no_host_of_customers_takes_a_release_that_fails_on_purpose,
];

/// What every faulty guest init holds, and says first.
const MARK: &str = "plfm-faulty-guest-init:";

/// Boots the release with this fault, and gives the boot's report and what was on the console.
fn boot(fault: &str) -> (Value, String) {
    let host = Host::for_faults();
    let release = lab::faulty(fault);
    host.plfm(["release", "install", "--current", release.to_str().unwrap()])
        .ok();
    host.run_script("exit 0");
    let instance = host.last_instance();
    let console = host.path(&format!(
        "state/instances/{}/console.log",
        instance["id"].as_str().unwrap()
    ));
    let console = String::from_utf8_lossy(&std::fs::read(console).unwrap()).into_owned();
    assert!(console.contains(&format!("{MARK}{fault};")), "{console}");
    assert!(console.contains("it must never run for a customer"), "{console}");
    (instance["boot"].clone(), console)
}

fn a_guest_init_that_hangs_is_a_handshake_timeout() {
    let (boot, _) = boot("hang");
    assert_eq!(boot["outcome"], "handshake_timeout", "{boot}");
}

fn a_guest_init_that_ends_is_a_kernel_panic() {
    let (boot, console) = boot("kernel-panic");
    assert_eq!(boot["outcome"], "kernel_panic", "{boot}");
    assert!(console.contains("Attempted to kill init"), "{console}");
}

fn a_guest_init_without_a_network_fails_in_its_stage() {
    let (boot, _) = boot("network");
    assert_eq!(
        (&boot["outcome"], &boot["stage"], &boot["reason"]),
        (&"failed".into(), &"network".into(), &"net_config_failed".into()),
        "{boot}"
    );
}

fn a_slow_guest_init_is_ready_and_late() {
    let (boot, _) = boot("slow");
    assert_eq!(boot["outcome"], "ready", "{boot}");
    let stages = boot["stages"].as_array().unwrap();
    let network = stages.iter().find(|stage| stage["stage"] == "network").unwrap();
    let us = |end: &str| network[end].as_u64().unwrap();
    assert!(us("finished_us") - us("started_us") >= 6_000_000, "{network}");
}

/// How often the mark is in a release's initramfs.
fn marks_in(release: &Path) -> String {
    let script = format!("zcat \"$1\" | grep -a -c -F {MARK} || test $? = 1");
    let initramfs = initramfs_of(release);
    let args = ["-c", &script, "sh", initramfs.to_str().unwrap()];
    tool("sh", &args).ok().stdout.trim().to_owned()
}

fn no_release_for_customers_has_a_guest_init_that_fails_on_purpose() {
    for release in [lab::release(), lab::release_b()] {
        assert_eq!(marks_in(&release), "0", "{}", release.display());
    }
    assert_ne!(
        marks_in(&lab::faulty("hang")),
        "0",
        "what is searched for would be found"
    );
}

fn no_host_of_customers_takes_a_release_that_fails_on_purpose() {
    let release = lab::faulty("hang");
    // Even if it trusted the key.
    let host = Host::with_keyring(&lab::faulty_keyring());
    let refused = host.plfm([
        "--output",
        "json",
        "release",
        "install",
        release.to_str().unwrap(),
    ]);
    assert_eq!(refused.json()["error"]["code"], "manifest_wrong_channel");
    assert_eq!(host.installed_files(), Vec::<String>::new());
}
