//! What holds of a cache's directory whatever interrupted an operation on it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use plfm_release::{ArtifactKind, Sha256Digest};

use crate::fixtures::{Release, directory, open, open_reporting, snapshot};
use crate::scenario::Scenario;

type Files = BTreeMap<String, String>;
/// Everything in a directory that the cache can find out: of each file its content, its mode, and the first of its names.
type State = BTreeMap<String, (String, u32, String)>;

/// What holds of a scenario's directory, and in which states of it that was looked at already.
pub struct Invariants<'a> {
    scenario: &'a Scenario,
    expected: Files,
    seen: HashSet<(State, bool)>,
}

impl<'a> Invariants<'a> {
    pub fn of(scenario: &'a Scenario) -> Self {
        let dir = directory();
        (scenario.prepare)(scenario, dir.path());
        (scenario.operation)(scenario, &open(dir.path())).unwrap();
        Self {
            scenario,
            expected: snapshot(dir.path()),
            seen: HashSet::new(),
        }
    }

    /// All that holds after the operation, which was `finished` or interrupted. Many failures leave one and the same
    /// state; it is looked at once. Changes the directory.
    pub fn check(&mut self, dir: &Path, finished: bool) {
        if !self.seen.insert((state(dir), finished)) {
            return;
        }
        check_unopened(self.scenario, dir);
        if finished {
            assert_eq!(visible(dir), self.expected, "what was done is not durable");
        }
        check_reopened(self.scenario, dir);
        self.finish(dir);
    }

    /// Does the operation again. It succeeds, and nothing tells that it was interrupted.
    fn finish(&self, dir: &Path) {
        (self.scenario.operation)(self.scenario, &open(dir)).unwrap();
        assert_eq!(snapshot(dir), self.expected);
        check_reopened(self.scenario, dir);
    }
}

fn state(dir: &Path) -> State {
    let mut first_names = HashMap::new();
    let state = snapshot(dir).into_iter().map(|(name, content)| {
        let metadata = dir.join(&name).symlink_metadata().unwrap();
        let first = first_names.entry(metadata.ino()).or_insert_with(|| name.clone());
        (name, (content, metadata.mode(), first.clone()))
    });
    state.collect()
}

/// What counts: `.staging` does not.
fn visible(dir: &Path) -> Files {
    let mut files = snapshot(dir);
    files.retain(|name, _| !name.starts_with(".staging/"));
    files
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
    if let Some(left) = fs::read_dir(dir.join(".staging")).unwrap().next() {
        panic!("{} is left", left.unwrap().path().display());
    }
    drop((cache, current));
    assert_eq!(
        open_reporting(dir).1,
        [],
        "the first opening left something to repair"
    );
}
