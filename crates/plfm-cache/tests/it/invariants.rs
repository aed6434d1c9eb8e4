//! What holds of a cache's directory whatever interrupted an operation on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use plfm_release::{ArtifactKind, Sha256Digest};

use crate::fixtures::{Release, directory, open, open_reporting, snapshot};
use crate::scenario::Scenario;

pub type Files = BTreeMap<String, String>;

/// All that holds after the operation, which was `finished` or interrupted. Leaves it done.
pub fn check(scenario: &Scenario, dir: &Path, expected: &Files, finished: bool) {
    check_unopened(scenario, dir);
    if finished {
        assert_eq!(visible(dir), *expected, "what was done is not durable");
    }
    check_reopened(scenario, dir);
    finish(scenario, dir, expected);
}

/// What counts: `.staging` does not.
pub fn visible(dir: &Path) -> Files {
    let mut files = snapshot(dir);
    files.retain(|name, _| !name.starts_with(".staging/"));
    files
}

/// The directory after the operation without a failure.
pub fn expected_end(scenario: &Scenario) -> Files {
    let dir = directory();
    (scenario.prepare)(scenario, dir.path());
    (scenario.operation)(scenario, &open(dir.path())).unwrap();
    snapshot(dir.path())
}
/// What holds at any moment, before anything is repaired.
pub fn check_unopened(scenario: &Scenario, dir: &Path) {
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
    if scenario.removing {
        check_manifests(scenario, dir);
    }
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

pub fn name(release: &Release, kind: ArtifactKind) -> String {
    release.artifact(kind).name.to_string()
}

/// A name that is visible has the bytes that were signed.
pub fn check_names(scenario: &Scenario, dir: &Path) {
    for release in &scenario.releases {
        for kind in ArtifactKind::ALL {
            if let Ok(bytes) = fs::read(dir.join(name(release, kind))) {
                assert_eq!(bytes, release.bytes(kind), "{}", name(release, kind));
            }
        }
    }
}

/// A name that is visible has a manifest that vouches for it.
fn check_manifests(scenario: &Scenario, dir: &Path) {
    for (release, kind) in scenario
        .releases
        .iter()
        .flat_map(|release| ArtifactKind::ALL.map(|kind| (release, kind)))
    {
        let vouches = |other: &&Release| {
            let manifest = ["json", "removed"].map(|suffix| format!(".releases/{}.{suffix}", other.id()));
            let there = manifest
                .iter()
                .any(|path| fs::read(dir.join(path)).is_ok_and(|found| found == other.manifest().as_bytes()));
            there && name(other, kind) == name(release, kind)
        };
        let name = name(release, kind);
        if dir.join(&name).exists() {
            assert!(
                scenario.releases.iter().any(|other| vouches(&other)),
                "{name} has no manifest"
            );
        }
    }
}

/// What holds once the cache was opened again.
pub fn check_reopened(scenario: &Scenario, dir: &Path) {
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
    for left in fs::read_dir(dir.join(".releases")).unwrap() {
        let name = left.unwrap().file_name().into_string().unwrap();
        assert!(
            !name.ends_with(".removed"),
            "the removal of {name} is not finished"
        );
    }
    for left in fs::read_dir(dir.join(".staging")).unwrap() {
        let name = left.unwrap().file_name().into_string().unwrap();
        assert!(name.ends_with(".partial"), "{name} is left in .staging");
    }
    drop((cache, current));
    assert_eq!(
        open_reporting(dir).1,
        [],
        "the first opening left something to repair"
    );
}

/// Does the operation again. It succeeds, and nothing tells that it was interrupted.
pub fn finish(scenario: &Scenario, dir: &Path, expected: &Files) {
    (scenario.operation)(scenario, &open(dir)).unwrap();
    assert_eq!(snapshot(dir), *expected);
    check_reopened(scenario, dir);
}
