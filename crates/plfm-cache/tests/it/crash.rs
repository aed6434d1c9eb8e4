//! A crash after any change leaves the old state or the new one, and the operation can be done again.
//!
//! Each scenario is tried with a failure at its first change, its second, and so on to the last: the process dies,
//! the power is cut and what was not synced is gone, the disk is full once.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use plfm_cache::{Cache, HostDisk};
use plfm_release::{ArtifactKind, ReleaseId, Sha256Digest};

use crate::fixtures::{Release, directory, now, open, open_reporting, overwrite, snapshot, time, trust};
use crate::test_disk::{Durable, Failure, Loss, TestDisk};

type Files = BTreeMap<String, String>;
type Outcome = Result<(), Box<dyn Error>>;

/// What is done, to what, and what may come of it.
struct Scenario {
    /// Every release that can be in the directory.
    releases: Vec<Release>,
    /// Makes the state before.
    prepare: fn(&Scenario, &Path),
    /// What is interrupted.
    operation: fn(&Scenario, &Cache) -> Outcome,
    /// What may be current afterwards.
    current: Vec<Option<ReleaseId>>,
    /// Whether an artifact was lost before.
    rotten: bool,
}

fn deliver(release: &Release, cache: &Cache) -> Outcome {
    let installed = release.stage(cache)?.install(now())?;
    cache.set_current(&installed)?;
    Ok(())
}

fn first_install() -> Scenario {
    let a = Release::new("a");
    Scenario {
        current: vec![None, Some(a.id())],
        rotten: false,
        releases: vec![a],
        prepare: |_, dir| drop(open(dir)),
        operation: |scenario, cache| deliver(&scenario.releases[0], cache),
    }
}

/// Without making it current, whose syncs come after those of the installation.
fn installation_alone() -> Scenario {
    Scenario {
        current: vec![None],
        operation: |scenario, cache| {
            scenario.releases[0].stage(cache)?.install(now())?;
            Ok(())
        },
        ..first_install()
    }
}

fn upgrade_to(b: Release) -> Scenario {
    let a = Release::new("a");
    Scenario {
        current: vec![Some(a.id()), Some(b.id())],
        rotten: false,
        releases: vec![a, b],
        prepare: |scenario, dir| deliver(&scenario.releases[0], &open(dir)).unwrap(),
        operation: |scenario, cache| deliver(&scenario.releases[1], cache),
    }
}

fn upgrade() -> Scenario {
    upgrade_to(Release::new("b"))
}

fn upgrade_of_the_initramfs_alone() -> Scenario {
    let a = Release::new("a");
    upgrade_to(Release::of("a", a.kernel, "b", Release::new("b").initramfs))
}

fn upgrade_of_the_kernel_alone() -> Scenario {
    let a = Release::new("a");
    upgrade_to(Release::of("b", Release::new("b").kernel, "a", a.initramfs))
}

fn rollback() -> Scenario {
    let (a, b) = (Release::new("a"), Release::new("b"));
    Scenario {
        current: vec![Some(a.id()), Some(b.id())],
        rotten: false,
        releases: vec![a, b],
        prepare: |scenario, dir| {
            let cache = open(dir);
            scenario
                .releases
                .iter()
                .for_each(|release| deliver(release, &cache).unwrap());
        },
        // The bytes are there already.
        operation: |scenario, cache| {
            cache.set_current(&cache.get(&scenario.releases[0].id())?)?;
            Ok(())
        },
    }
}

fn reinstall() -> Scenario {
    let a = Release::new("a");
    Scenario {
        current: vec![Some(a.id())],
        rotten: false,
        releases: vec![a],
        prepare: |scenario, dir| deliver(&scenario.releases[0], &open(dir)).unwrap(),
        operation: |scenario, cache| deliver(&scenario.releases[0], cache),
    }
}

/// The same release, signed with the next key, at a time when the first is not valid any more.
fn new_signature() -> Scenario {
    let a = Release::new("a");
    Scenario {
        current: vec![Some(a.id())],
        rotten: false,
        releases: vec![a],
        prepare: |scenario, dir| deliver(&scenario.releases[0], &open(dir)).unwrap(),
        operation: |scenario, cache| {
            use crate::fixtures::{NEXT_KEY, no_source};
            let later = time("2026-08-01T00:00:00Z");
            let arch = plfm_release::Architecture::X86_64;
            let manifest = scenario.releases[0].manifest_for(NEXT_KEY, arch, "production", later);
            cache.stage(&manifest, &mut no_source)?.install(later)?;
            Ok(())
        },
    }
}

/// A kernel that rotted is delivered again.
fn repair_of_a_rotten_kernel() -> Scenario {
    let a = Release::new("a");
    Scenario {
        current: vec![Some(a.id())],
        rotten: true,
        releases: vec![a],
        prepare: |scenario, dir| {
            let a = &scenario.releases[0];
            deliver(a, &open(dir)).unwrap();
            overwrite(&dir.join(a.blob(ArtifactKind::Kernel)), b"rotten");
            assert!(open(dir).get(&a.id()).unwrap().open().is_err());
        },
        operation: |scenario, cache| deliver(&scenario.releases[0], cache),
    }
}

#[test]
fn a_first_install_survives_every_crash() {
    survives_every_failure(&first_install());
    survives_every_failure(&installation_alone());
}

#[test]
fn an_upgrade_survives_every_crash() {
    survives_every_failure(&upgrade());
}

#[test]
fn an_upgrade_of_one_artifact_survives_every_crash() {
    survives_every_failure(&upgrade_of_the_initramfs_alone());
    survives_every_failure(&upgrade_of_the_kernel_alone());
}

#[test]
fn a_rollback_survives_every_crash() {
    survives_every_failure(&rollback());
}

#[test]
fn a_reinstall_survives_every_crash() {
    survives_every_failure(&reinstall());
}

#[test]
fn a_new_signature_survives_every_crash() {
    survives_every_failure(&new_signature());
}

#[test]
fn the_repair_of_a_rotten_kernel_survives_every_crash() {
    survives_every_failure(&repair_of_a_rotten_kernel());
}

/// What a killed process left is what the next one builds upon, and it may not be on the disk yet.
#[test]
fn a_power_cut_in_the_second_attempt_after_a_kill_in_the_first_is_survived() {
    const STRIDE: usize = 17;
    'scenarios: for scenario in [first_install(), upgrade()] {
        let expected = expected_end(&scenario);
        let attempts = |first, second| {
            let dir = directory();
            (scenario.prepare)(&scenario, dir.path());
            let first = run(&scenario, TestDisk::failing(dir.path(), Failure::Death, first));
            let host = HostDisk::open(dir.path()).unwrap();
            let disk = TestDisk::continuing(host, Failure::Death, second, first.durable);
            let second = run(&scenario, disk);
            second.durable.restore(dir.path());
            check(&scenario, dir.path(), &expected, second.finished);
            (first.failed, second.failed)
        };
        for first in 0.. {
            // Every pair would take minutes. The last one, in which the second attempt ends well, is always tried.
            let mut second = first % STRIDE;
            loop {
                let (first_failed, second_failed) = attempts(first, second);
                if !first_failed {
                    continue 'scenarios;
                }
                if !second_failed {
                    break;
                }
                second += STRIDE;
            }
        }
    }
}

fn survives_every_failure(scenario: &Scenario) {
    let expected = expected_end(scenario);
    let cases = [
        (Failure::Death, Loss::Nothing),
        (Failure::Death, Loss::Unsynced),
        (Failure::Death, Loss::UnsyncedButOne),
        (Failure::DiskFull, Loss::Nothing),
        (Failure::DiskFull, Loss::Unsynced),
    ];
    for (failure, loss) in cases {
        for good in 0.. {
            let dir = directory();
            (scenario.prepare)(scenario, dir.path());
            let Attempt {
                failed,
                finished,
                durable,
            } = run(scenario, TestDisk::failing(dir.path(), failure, good));
            let survivors = durable.after(loss, dir.path());
            if loss == Loss::Nothing {
                check(scenario, dir.path(), &expected, finished);
            }
            for durable in survivors {
                durable.restore(dir.path());
                check(scenario, dir.path(), &expected, finished);
            }
            if !failed {
                assert!(good > 4, "the scenario changes next to nothing");
                break;
            }
        }
    }
}

/// All that holds after the operation, which was `finished` or interrupted. Leaves it done.
fn check(scenario: &Scenario, dir: &Path, expected: &Files, finished: bool) {
    check_unopened(scenario, dir);
    if finished {
        assert_eq!(visible(dir), *expected, "what was done is not durable");
    }
    check_reopened(scenario, dir);
    finish(scenario, dir, expected);
}

/// What counts: `.staging` does not.
fn visible(dir: &Path) -> Files {
    let mut files = snapshot(dir);
    files.retain(|name, _| !name.starts_with(".staging/"));
    files
}

/// The directory after the operation without a failure.
fn expected_end(scenario: &Scenario) -> Files {
    let dir = directory();
    (scenario.prepare)(scenario, dir.path());
    (scenario.operation)(scenario, &open(dir.path())).unwrap();
    snapshot(dir.path())
}

/// What came of one attempt.
struct Attempt {
    /// Whether the disk failed.
    failed: bool,
    /// Whether the operation succeeded, at once or when it was done again.
    finished: bool,
    /// What of it is durable.
    durable: Durable,
}

/// Opens the cache and does the operation on a disk.
fn run(scenario: &Scenario, disk: TestDisk) -> Attempt {
    let disk = Arc::new(disk);
    let outcome = match Cache::open_on(disk.clone(), trust()) {
        Err(error) => Err(error.into()),
        Ok((cache, _)) => match (scenario.operation)(scenario, &cache) {
            // The disk was full once. The same process can do it again.
            Err(_) if disk.alive().is_ok() => (scenario.operation)(scenario, &cache),
            outcome => outcome,
        },
    };
    // Cleaning up may fail without a word; everything else must say so.
    assert!(outcome.is_ok() || disk.failed(), "{outcome:?}");
    assert_eq!(Arc::strong_count(&disk), 1, "something still has the directory");
    Attempt {
        failed: disk.failed(),
        finished: outcome.is_ok(),
        durable: disk.durable(),
    }
}

/// What holds at any moment, before anything is repaired.
fn check_unopened(scenario: &Scenario, dir: &Path) {
    let link = |name: &str| {
        fs::read_link(dir.join(name))
            .ok()
            .map(|target| target.to_str().unwrap().to_owned())
    };
    let (kernel, initramfs) = (link("current"), link("current-initramfs"));
    if let (Some(kernel), Some(initramfs)) = (&kernel, &initramfs) {
        let pairs = scenario
            .releases
            .iter()
            .map(|release| ArtifactKind::ALL.map(|kind| name(release, kind)));
        assert!(
            pairs
                .into_iter()
                .any(|pair| pair == [kernel.clone(), initramfs.clone()]),
            "{kernel} with {initramfs}"
        );
    }
    check_names(scenario, dir);
    for release in scenario.releases.iter().filter(|_| !scenario.rotten) {
        if dir.join(format!(".releases/{}.json", release.id())).exists() {
            for name in ArtifactKind::ALL.map(|kind| name(release, kind)) {
                assert!(dir.join(&name).exists(), "{name} came after its record");
                assert!(
                    dir.join(format!("{name}.sha256")).exists(),
                    "the sidecar of {name} came after its record"
                );
            }
        }
    }
}

fn name(release: &Release, kind: ArtifactKind) -> String {
    release.artifact(kind).name.to_string()
}

/// A name that is visible has the bytes that were signed.
fn check_names(scenario: &Scenario, dir: &Path) {
    for release in &scenario.releases {
        for kind in ArtifactKind::ALL {
            if let Ok(bytes) = fs::read(dir.join(name(release, kind))) {
                assert_eq!(bytes, release.bytes(kind), "{}", name(release, kind));
            }
        }
    }
}

/// What holds once the cache was opened again.
fn check_reopened(scenario: &Scenario, dir: &Path) {
    let (cache, _) = open_reporting(dir);
    check_names(scenario, dir);
    let current = cache.current().unwrap();
    let id = current.as_ref().map(|release| release.id().clone());
    assert!(scenario.current.contains(&id), "{id:?} is current");
    let links: BTreeSet<_> = ["current", "current-initramfs"]
        .map(|name| fs::read_link(dir.join(name)).ok())
        .into_iter()
        .collect();
    let wanted: BTreeSet<_> = match &id {
        Some(id) => {
            let names = [
                id.kernel.artifact_name().to_string(),
                id.initramfs.artifact_name().to_string(),
            ];
            names.map(|name| Some(name.into())).into_iter().collect()
        }
        None => [None].into_iter().collect(),
    };
    assert_eq!(links, wanted);
    for (id, release) in cache.list().unwrap() {
        let release = release.unwrap();
        match release.open() {
            Ok(_) => {}
            // It says so until it is whole again.
            Err(error) if scenario.rotten && error.code() == "artifact_missing" => continue,
            Err(error) => panic!("{id}: {error}"),
        }
        for artifact in release.manifest().artifacts() {
            let content = fs::read(dir.join(artifact.name.to_string())).unwrap();
            assert_eq!(Sha256Digest::of(&content), artifact.sha256);
            let sidecar = fs::read_to_string(dir.join(format!("{}.sha256", artifact.name))).unwrap();
            assert_eq!(sidecar, format!("{}  {}\n", artifact.sha256, artifact.name));
        }
    }
    assert!(fs::read_dir(dir.join(".staging")).unwrap().next().is_none());
    drop((cache, current));
    assert_eq!(
        open_reporting(dir).1,
        [],
        "the first opening left something to repair"
    );
}

/// Does the operation again. It succeeds, and nothing tells that it was interrupted.
fn finish(scenario: &Scenario, dir: &Path, expected: &Files) {
    (scenario.operation)(scenario, &open(dir)).unwrap();
    assert_eq!(snapshot(dir), *expected);
    check_reopened(scenario, dir);
}
