//! Reads that fail, bits that flip, clocks that are wrong.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use plfm_cache::{Cache, Trust};
use plfm_release::{ArtifactKind, Protocol};

use crate::crash::{copy_of, prepared, run};
use crate::fixtures::{Release, directory, names, now, open, overwrite, snapshot, stage_from, time, trust};
use crate::invariants::Invariants;
use crate::scenario::{
    Scenario, first_install, reinstall, removal, removal_of_two, repair_of_a_rotten_kernel, rollback, upgrade,
};
use crate::test_disk::{Failure, TestDisk};

/// A read that failed once is an error or nothing; it changes nothing for good.
#[track_caller]
fn survives_every_failing_read(scenario: &Scenario) {
    let (prepared, mut invariants) = (prepared(scenario), Invariants::of(scenario));
    for good in 0.. {
        let dir = copy_of(&prepared);
        let attempt = run(scenario, TestDisk::failing(dir.path(), Failure::Unreadable, good));
        invariants.check(dir.path(), attempt.finished);
        if !attempt.failed {
            assert!(good > 20, "the scenario reads next to nothing");
            break;
        }
    }
}

#[test]
fn a_first_install_survives_every_failing_read() {
    survives_every_failing_read(&first_install());
}

#[test]
fn an_upgrade_survives_every_failing_read() {
    survives_every_failing_read(&upgrade());
}

#[test]
fn a_rollback_and_a_reinstall_survive_every_failing_read() {
    survives_every_failing_read(&rollback());
    survives_every_failing_read(&reinstall());
}

#[test]
fn a_removal_survives_every_failing_read() {
    survives_every_failing_read(&removal());
    survives_every_failing_read(&removal_of_two());
}

#[test]
fn the_repair_of_a_rotten_kernel_survives_every_failing_read() {
    survives_every_failing_read(&repair_of_a_rotten_kernel());
}

/// Flips a bit of what a link says, or of a file.
fn flip(path: &Path, bit: usize) {
    if let Ok(target) = fs::read_link(path) {
        let mut target = target.into_os_string().into_encoded_bytes();
        let byte = bit / 8 % target.len();
        // The lowest bit: the name stays text.
        target[byte] ^= 1;
        fs::remove_file(path).unwrap();
        symlink(String::from_utf8(target).unwrap(), path).unwrap();
    } else {
        let mut bytes = fs::read(path).unwrap();
        let length = bytes.len();
        bytes[bit / 8 % length] ^= 1 << (bit % 8);
        overwrite(path, &bytes);
    }
}

fn boots_what_was_signed(cache: &Cache, releases: &[Release]) {
    for release in releases {
        let Ok(pair) = cache
            .get(&release.id())
            .map_err(drop)
            .and_then(|one| one.open().map_err(drop))
        else {
            continue;
        };
        for (kind, file) in [
            (ArtifactKind::Kernel, pair.kernel),
            (ArtifactKind::Initramfs, pair.initramfs),
        ] {
            assert_eq!(io::read_to_string(file).unwrap().as_bytes(), release.bytes(kind));
        }
    }
}

/// In each file of the directory: artifacts, their names, sidecars, manifests, moments of installation, links.
#[test]
fn a_flipped_bit_in_any_file_is_found_or_harmless_and_the_next_delivery_mends_it() {
    const STRIDE: usize = 331;
    let releases = [Release::new("a"), Release::new("b")];
    let scenario = directory();
    let cache = open(scenario.path());
    for release in &releases {
        cache.set_current(&release.install(&cache)).unwrap();
    }
    drop(cache);
    let healthy = crate::test_disk::Durable::of(scenario.path());
    for name in names(scenario.path()) {
        let length = scenario.path().join(&name).symlink_metadata().unwrap().len();
        for bit in (0..usize::try_from(length).unwrap() * 8).step_by(STRIDE) {
            let dir = copy_of(&healthy);
            let before = snapshot(dir.path());
            flip(&dir.path().join(&name), bit);
            let cache = open(dir.path());
            boots_what_was_signed(&cache, &releases);
            // Current is what was, or nothing, or it says what is wrong.
            if let Ok(Some(current)) = cache.current() {
                assert_eq!(*current.id(), releases[1].id(), "bit {bit} of {name}");
            }
            for release in &releases {
                let installed = release.install(&cache);
                installed.open().unwrap();
                cache.set_current(&installed).unwrap();
            }
            drop(cache);
            let mut after = {
                drop(open(dir.path()));
                snapshot(dir.path())
            };
            after.retain(|name, _| !name.starts_with(".quarantine"));
            // A moment that became another moment shows nowhere; it decides only whether the key was valid then.
            if name.ends_with(".installed") {
                after.insert(name.clone(), before[&name].clone());
            }
            assert_eq!(after, before, "bit {bit} of {name}");
        }
    }
}

#[test]
fn a_clock_that_is_a_year_off_refuses_new_releases_and_stops_no_boot() {
    let dir = directory();
    let cache = open(dir.path());
    let (a, b) = (Release::new("a"), Release::new("b"));
    cache.set_current(&a.install(&cache)).unwrap();
    let at = |moment: &str| {
        let bytes = |artifact: &plfm_release::Artifact| b.bytes(artifact.kind).to_vec();
        let staged = stage_from(&cache, &b.manifest(), bytes).unwrap();
        let refused = staged.install(time(moment)).unwrap_err();
        let signed = plfm_release::SignedManifest::parse(b.manifest().as_bytes()).unwrap();
        assert_eq!(
            cache.verify(signed, time(moment)).unwrap_err().code(),
            refused.code()
        );
        refused.code()
    };
    assert_eq!(at("2025-01-15T12:00:00Z"), "manifest_key_not_yet_valid");
    assert_eq!(at("2027-01-15T12:00:00Z"), "manifest_expired_key");
    cache.current().unwrap().unwrap().open().unwrap();
    // To install again what is here needs no right clock, and changes no moment.
    for moment in ["2025-01-15T12:00:00Z", "2027-01-15T12:00:00Z"] {
        let again = a.stage(&cache).unwrap().install(time(moment)).unwrap();
        assert_eq!(again.installed_at(), now());
    }
    drop(cache);
    open(dir.path()).current().unwrap().unwrap().open().unwrap();
}

#[test]
fn a_file_system_clock_that_jumps_costs_hashing_and_hides_no_change() {
    const YEAR_NS: i64 = 365 * 24 * 3600 * 1_000_000_000;
    for ahead in [YEAR_NS, -YEAR_NS] {
        let dir = directory();
        let disk = Arc::new(TestDisk::new(dir.path()));
        let (cache, _) = Cache::open_on(disk.clone(), trust()).unwrap();
        let release = Release::new("a");
        let installed = release.install(&cache);
        disk.clock_ahead_ns.store(ahead, SeqCst);
        for _ in 0..3 {
            installed.open().unwrap();
        }
        let mut evil = release.kernel.clone();
        evil[0] ^= 1;
        overwrite(&dir.path().join(release.blob(ArtifactKind::Kernel)), &evil);
        assert_eq!(installed.open().unwrap_err().code(), "artifact_rotted");
    }
}

/// What was installed is looked at again before each boot: host and agent may have changed.
#[test]
fn a_host_that_changed_does_not_boot_what_is_not_for_it_any_more() {
    let dir = directory();
    let release = Release::new("a");
    let cache = open(dir.path());
    cache.set_current(&release.install(&cache)).unwrap();
    drop(cache);
    let before = snapshot(dir.path());
    let cases = [
        (
            Trust {
                channel: "staging".parse().unwrap(),
                ..trust()
            },
            "manifest_wrong_channel",
        ),
        (
            Trust {
                arch: plfm_release::Architecture::Aarch64,
                ..trust()
            },
            "manifest_wrong_architecture",
        ),
        (
            Trust {
                agent_version: "0.9.0".parse().unwrap(),
                ..trust()
            },
            "agent_too_old",
        ),
        (
            Trust {
                protocols: vec![Protocol(2)],
                ..trust()
            },
            "guest_init_protocol_mismatch",
        ),
    ];
    for (trust, code) in cases {
        let (cache, _) = Cache::open(dir.path(), trust).unwrap();
        assert_eq!(cache.get(&release.id()).unwrap_err().code(), code);
        assert_eq!(cache.current().unwrap_err().code(), code);
        assert_eq!(
            cache.inventory().unwrap()[0].problem.as_ref().unwrap().code(),
            code
        );
    }
    assert_eq!(snapshot(dir.path()), before);
    open(dir.path()).current().unwrap().unwrap().open().unwrap();
}
