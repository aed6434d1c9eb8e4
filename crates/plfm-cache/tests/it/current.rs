//! What is current, and the two links that follow it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use plfm_cache::Repair;
use plfm_release::ArtifactKind;

use crate::fixtures::{KEY, Release, directory, keyring_without, open, open_reporting, overwrite, snapshot};

fn links(dir: &Path) -> [Option<String>; 2] {
    let target = |name| {
        fs::read_link(dir.join(name))
            .ok()
            .map(|target| target.to_str().unwrap().to_owned())
    };
    ["current", "current-initramfs"].map(target)
}

fn names(release: &Release) -> [Option<String>; 2] {
    ArtifactKind::ALL.map(|kind| Some(release.artifact(kind).name.to_string()))
}

#[test]
fn nothing_is_current_until_it_is_set() {
    let dir = directory();
    let cache = open(dir.path());
    Release::new("a").install(&cache);
    assert!(cache.current().unwrap().is_none());
    assert_eq!(links(dir.path()), [None, None]);
}

#[test]
fn the_links_follow_what_is_current_forward_and_back() {
    let dir = directory();
    let cache = open(dir.path());
    let (a, b) = (Release::new("a"), Release::new("b"));
    let installed = [a.install(&cache), b.install(&cache)];
    for (release, installed) in [
        (&a, &installed[0]),
        (&b, &installed[1]),
        (&a, &installed[0]),
        (&a, &installed[0]),
    ] {
        cache.set_current(installed).unwrap();
        assert_eq!(cache.current().unwrap().unwrap().id(), &release.id());
        assert_eq!(links(dir.path()), names(release));
    }
}

#[test]
fn a_reader_of_the_links_never_finds_two_releases() {
    let dir = directory();
    let cache = open(dir.path());
    let releases = [Release::new("a"), Release::new("b")];
    let installed = releases.each_ref().map(|release| release.install(&cache));
    cache.set_current(&installed[0]).unwrap();
    let done = AtomicBool::new(false);
    let generation = |name: &Option<String>| name.as_ref().map(|name| name.contains("-a"));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                // Only a pair that did not change while it was read was there at one moment.
                let (before, after) = (links(dir.path()), links(dir.path()));
                if let (Some(kernel), Some(initramfs)) = (generation(&before[0]), generation(&before[1]))
                    && before == after
                {
                    assert_eq!(kernel, initramfs, "{before:?}");
                }
            }
        });
        for turn in 0..40 {
            cache.set_current(&installed[turn % 2]).unwrap();
        }
        done.store(true, SeqCst);
    });
}

#[test]
fn a_release_that_cannot_be_booted_does_not_become_current() {
    let dir = directory();
    let cache = open(dir.path());
    let (a, b) = (Release::new("a"), Release::new("b"));
    let (installed_a, installed_b) = (a.install(&cache), b.install(&cache));
    cache.set_current(&installed_a).unwrap();
    overwrite(&dir.path().join(b.blob(ArtifactKind::Initramfs)), b"rotten");
    let error = cache.set_current(&installed_b).unwrap_err();
    assert_eq!(error.code(), "artifact_rotted");
    assert!(error.to_string().contains(&b.id().to_string()), "{error}");
    fs::remove_file(dir.path().join(format!(".releases/{}.json", b.id()))).unwrap();
    assert_eq!(
        cache.set_current(&installed_b).unwrap_err().code(),
        "release_not_installed"
    );
    cache.replace_keyring(keyring_without(KEY));
    assert_eq!(
        cache.set_current(&installed_a).unwrap_err().code(),
        "manifest_revoked_key"
    );
    assert_eq!(links(dir.path()), names(&a));
    assert_eq!(cache.current().unwrap_err().code(), "manifest_revoked_key");
}

#[test]
fn a_release_of_another_directory_does_not_become_current_here() {
    let (here, there) = (directory(), directory());
    let cache = open(here.path());
    let elsewhere = Release::new("a").install(&open(there.path()));
    assert_eq!(
        cache.set_current(&elsewhere).unwrap_err().code(),
        "release_not_installed"
    );
    assert!(snapshot(here.path()).is_empty());
}

/// The links are read by people. To change them changes nothing, and they are put right at the next start.
#[test]
fn links_that_disagree_with_the_record_are_corrected_and_decide_nothing() {
    let dir = directory();
    let cache = open(dir.path());
    let (a, b) = (Release::new("a"), Release::new("b"));
    b.install(&cache);
    cache.set_current(&a.install(&cache)).unwrap();
    drop(cache);
    type Tamper = fn(&Path);
    let cases: [(Tamper, &[&'static str]); 5] = [
        (
            |dir| relink(dir, "current-initramfs", "initramfs-plfm-guestinit-1.0.0-b.img"),
            &["current-initramfs"],
        ),
        (
            |dir| relink(dir, "current", "vmlinuz-plfm-6.1.50-b"),
            &["current"],
        ),
        (|dir| relink(dir, "current", "/bin/sh"), &["current"]),
        (
            |dir| {
                ["current", "current-initramfs"]
                    .iter()
                    .for_each(|name| fs::remove_file(dir.join(name)).unwrap())
            },
            &["current", "current-initramfs"],
        ),
        (
            |dir| {
                fs::remove_file(dir.join("current")).unwrap();
                fs::write(dir.join("current"), "a file").unwrap();
            },
            &["current"],
        ),
    ];
    for (tamper, corrected) in cases {
        tamper(dir.path());
        let (cache, repairs) = open_reporting(dir.path());
        let expected: Vec<_> = corrected
            .iter()
            .map(|link| Repair::LinkCorrected { link })
            .collect();
        assert_eq!(repairs, expected);
        assert_eq!(links(dir.path()), names(&a));
        assert_eq!(cache.current().unwrap().unwrap().id(), &a.id());
    }
}

fn relink(dir: &Path, name: &str, target: &str) {
    fs::remove_file(dir.join(name)).unwrap();
    symlink(target, dir.join(name)).unwrap();
}

#[test]
fn links_without_a_record_are_removed() {
    let dir = directory();
    let cache = open(dir.path());
    cache.set_current(&Release::new("a").install(&cache)).unwrap();
    drop(cache);
    fs::remove_file(dir.path().join(".current")).unwrap();
    let (cache, repairs) = open_reporting(dir.path());
    assert_eq!(repairs.len(), 2, "{repairs:?}");
    assert!(cache.current().unwrap().is_none());
    assert_eq!(links(dir.path()), [None, None]);
}

#[test]
fn a_record_of_what_is_current_that_is_no_release_is_forgotten() {
    let dir = directory();
    let a = Release::new("a");
    for target in [
        "/etc/passwd",
        "elsewhere/6.1.50-a+guestinit-1.0.0-a.json",
        ".releases/../x.json",
        ".releases/nonsense.json",
        "",
        "x",
    ] {
        let cache = open(dir.path());
        cache.set_current(&a.install(&cache)).unwrap();
        fs::remove_file(dir.path().join(".current")).unwrap();
        let wrong = if target.is_empty() {
            fs::write(dir.path().join(".current"), "a file").unwrap();
            String::new()
        } else {
            symlink(target, dir.path().join(".current")).unwrap();
            target.to_owned()
        };
        assert_eq!(cache.current().unwrap_err().code(), "current_unknown");
        drop(cache);
        let (cache, repairs) = open_reporting(dir.path());
        assert!(
            repairs.contains(&Repair::CurrentForgotten { target: wrong }),
            "{repairs:?}"
        );
        assert!(cache.current().unwrap().is_none());
    }
}

#[test]
fn a_current_release_that_is_gone_is_named() {
    let dir = directory();
    let cache = open(dir.path());
    let a = Release::new("a");
    cache.set_current(&a.install(&cache)).unwrap();
    fs::remove_file(dir.path().join(format!(".releases/{}.json", a.id()))).unwrap();
    let error = cache.current().unwrap_err();
    assert_eq!(error.code(), "release_not_installed");
    assert!(error.to_string().contains(&a.id().to_string()));
}
