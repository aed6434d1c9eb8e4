//! What stays on a host, what is mended, and what a kill in the middle leaves.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use plfm_release::Sha256Digest;

use crate::host::Host;
use crate::registry::Registry;
use crate::{facts, lab};

facts![
    old_releases_go_and_what_is_needed_stays,
    what_rotted_is_fetched_anew,
    an_agent_that_is_killed_in_a_fetch_goes_on,
];

/// A registry with a release for each build id, all signed with the lab's key.
fn registry_with(build_ids: &[&str]) -> Registry {
    let registry = Registry::new();
    for build_id in build_ids {
        let release = registry.release_by(&lab::key(), build_id);
        registry.publish(&release).ok();
    }
    registry
}

fn host_of(registry: &Registry) -> Host {
    Host::with_registry(registry.store().to_str().unwrap(), &registry.root())
}

/// The build ids of what `plfm release list` shows, in its order.
fn listed(host: &Host) -> Vec<String> {
    let list = host.json(["release", "list"]);
    let items = list["items"].as_array().unwrap().iter();
    let build_id = |item: &serde_json::Value| {
        let id = item["id"].as_str().unwrap();
        id.rsplit_once('-').unwrap().1.to_owned()
    };
    let mut ids: Vec<String> = items.map(build_id).collect();
    ids.sort();
    ids
}

fn old_releases_go_and_what_is_needed_stays() {
    let builds = ["r1", "r2", "r3", "r4", "r5", "r6", "r7"];
    let registry = registry_with(&builds);
    let host = host_of(&registry);
    host.fetch_current("r1").ok();
    let instance = host.start_script(&["--no-network"], "sleep 600");
    let id = instance["id"].as_str().unwrap();
    host.plfm(["release", "fetch", "r2"]).ok();
    let pinned = host.json(["release", "pin", "r2"]);
    assert!(pinned["kept_because"].to_string().contains("pinned"), "{pinned}");
    for build in ["r3", "r4", "r5", "r6"] {
        host.fetch_current(build).ok();
    }
    // r1 runs, r2 is pinned, r4 to r6 are the last three; nothing keeps r3.
    assert_eq!(listed(&host), ["r1", "r2", "r4", "r5", "r6"]);
    assert!(!host.installed_files().iter().any(|name| name.contains("-r3")));
    host.plfm(["release", "use", "r1"]).ok();
    host.plfm(["release", "fetch", "r7"]).ok();
    // r6 was current before r1: it is the way back, and r5 to r7 are the last three.
    assert_eq!(listed(&host), ["r1", "r2", "r5", "r6", "r7"]);
    host.plfm(["release", "use", "r7"]).ok();
    host.plfm(["release", "unpin", "r2"]).ok();
    host.plfm(["stop", id]).ok();
    let collected = host.json(["release", "gc"]);
    assert_eq!(collected["removed"].as_array().unwrap().len(), 1, "{collected}");
    // r1 does not run any more, and is the way back now.
    assert_eq!(listed(&host), ["r1", "r5", "r6", "r7"]);
    assert!(
        host.json(["release", "list"])
            .to_string()
            .contains("rollback target")
    );
    assert_eq!(host.run_script("exit 5").code, 5, "what is left boots");
}

fn what_rotted_is_fetched_anew() {
    let registry = registry_with(&["r1"]);
    let mut host = host_of(&registry);
    host.fetch_current("r1").ok();
    host.stop_agent();
    let name = host
        .installed_files()
        .into_iter()
        .find(|name| name.ends_with(".img"))
        .unwrap();
    let path = host.path("state/kernels").join(name);
    let before = std::fs::read(&path).unwrap();
    let mut rotten = before.clone();
    rotten[1_000] ^= 1;
    std::fs::write(&path, rotten).unwrap();
    host.start_agent();
    host.log_until("fetched anew");
    assert!(host.log().contains("is not what was signed"), "{}", host.log());
    assert!(std::fs::read(&path).unwrap() == before, "{}", host.log());
    assert_eq!(host.json(["release", "list"])["items"][0]["state"], "current");
    assert_eq!(host.run_script("exit 6").code, 6);
}

/// Everything that has a name in the cache is whole: an artifact of the lab's, with a digest file that fits.
#[track_caller]
fn assert_whole(dir: &Path, right: &[Sha256Digest]) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with('.') || name.ends_with(".sha256") || path.is_symlink() {
            continue;
        }
        let digest = Sha256Digest::of(&std::fs::read(&path).unwrap());
        assert!(right.contains(&digest), "{name} is not what was signed");
    }
}

/// As many times as `PLFM_KILLS` says: the agent is killed at a moment drawn at random.
fn an_agent_that_is_killed_in_a_fetch_goes_on() {
    let kills: u32 = std::env::var("PLFM_KILLS").map_or(12, |text| text.parse().unwrap());
    let registry = registry_with(&["r1"]);
    let mut host = host_of(&registry);
    let right: Vec<Sha256Digest> = [
        crate::boot::kernel_of(&lab::release()),
        crate::boot::initramfs_of(&lab::release()),
    ]
    .map(|path| Sha256Digest::of(&std::fs::read(path).unwrap()))
    .into();
    let kernels = host.path("state/kernels");
    let mut seed = 0x5eed_u64;
    let mut installed = 0;
    for _ in 0..kills {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut command = host.command(["release", "fetch", "--current", "r1"]);
        let mut fetch = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(seed >> 33 & 0x1ff));
        host.kill_agent();
        fetch.wait().unwrap();
        assert_whole(&kernels, &right);
        if kernels.join("current").exists() {
            // From nothing again, or there would be nothing more to interrupt.
            installed += 1;
            std::fs::remove_dir_all(&kernels).unwrap();
        }
        host.start_agent();
        assert_whole(&kernels, &right);
        let list = host.json(["release", "list"]).to_string();
        assert!(!list.contains("refused"), "{list}");
    }
    assert!(
        kills < 50 || (installed > 0 && installed < kills),
        "{installed} of {kills}"
    );
    host.fetch_current("r1").ok();
    assert_whole(&kernels, &right);
    assert_eq!(host.run_script("exit 8").code, 8);
}
