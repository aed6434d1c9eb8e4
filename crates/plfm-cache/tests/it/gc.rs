//! What a removal takes, what it refuses, and a full disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use plfm_cache::{Cache, KeptBecause, Removal, Repair};
use plfm_release::{ArtifactKind, ReleaseId, Sha256Digest};

use crate::fixtures::{
    KEY, Release, directory, keyring_without, names, no_source, now, open, open_reporting, overwrite,
    snapshot, stage_from, trust,
};
use crate::test_disk::TestDisk;

/// A cache with these releases, the last of them current, and nothing held.
fn with_releases(dir: &Path, releases: &[Release]) -> Cache {
    let cache = open(dir);
    for release in releases {
        cache.set_current(&release.install(&cache)).unwrap();
    }
    cache
}

fn remove(cache: &Cache, releases: &[&Release]) -> Removal {
    let ids: Vec<_> = releases.iter().map(|release| release.id()).collect();
    cache.gc(&ids, &BTreeSet::new()).unwrap()
}

#[track_caller]
fn assert_kept(removal: &Removal, release: &Release, because: KeptBecause) {
    assert_eq!(removal.removed, []);
    let kept: Vec<_> = removal
        .kept
        .iter()
        .map(|kept| (kept.release.clone(), kept.because))
        .collect();
    assert_eq!(kept, [(release.id(), because)]);
}

#[test]
fn a_removed_release_leaves_nothing_and_the_others_are_whole() {
    let dir = directory();
    let (a, b) = (Release::new("a"), Release::new("b"));
    let cache = with_releases(dir.path(), std::slice::from_ref(&b));
    let before = snapshot(dir.path());
    a.install(&cache);
    let removal = remove(&cache, &[&a]);
    assert_eq!(removal.removed, [a.id()]);
    assert_eq!(removal.freed_bytes, (a.kernel.len() + a.initramfs.len()) as u64);
    assert_eq!(snapshot(dir.path()), before);
    assert_eq!(cache.get(&a.id()).unwrap_err().code(), "release_not_installed");
    cache.current().unwrap().unwrap().open().unwrap();
    // And it can come back.
    a.install(&cache).open().unwrap();
}

#[test]
fn an_artifact_that_another_release_has_stays() {
    let dir = directory();
    let a = Release::new("a");
    let same_name = Release::of("a", a.kernel.clone(), "b", Release::new("b").initramfs);
    let other_name = Release::of("c", a.kernel.clone(), "c", Release::new("c").initramfs);
    let cache = with_releases(dir.path(), &[a.clone(), same_name.clone(), other_name.clone()]);
    assert_eq!(remove(&cache, &[&a]).freed_bytes, a.initramfs.len() as u64);
    cache.get(&same_name.id()).unwrap().open().unwrap();
    assert!(dir.path().join("vmlinuz-plfm-6.1.50-a").exists());
    assert_eq!(
        remove(&cache, &[&same_name]).freed_bytes,
        same_name.initramfs.len() as u64
    );
    // The name goes, the bytes stay for the last one.
    assert!(!dir.path().join("vmlinuz-plfm-6.1.50-a").exists());
    cache.get(&other_name.id()).unwrap().open().unwrap();
    drop(cache);
    assert_eq!(open_reporting(dir.path()).1, []);
}

#[test]
fn what_is_current_is_not_removed() {
    let dir = directory();
    let (a, b) = (Release::new("a"), Release::new("b"));
    let cache = with_releases(dir.path(), &[b, a.clone()]);
    let before = snapshot(dir.path());
    assert_kept(&remove(&cache, &[&a]), &a, KeptBecause::Current);
    // Trusted or not: the keyring may be what is wrong.
    cache.replace_keyring(keyring_without(KEY));
    assert_kept(&remove(&cache, &[&a]), &a, KeptBecause::Current);
    assert_eq!(snapshot(dir.path()), before);
}

#[test]
fn what_the_caller_says_is_in_use_is_not_removed() {
    let dir = directory();
    let (a, b) = (Release::new("a"), Release::new("b"));
    let cache = with_releases(dir.path(), &[a.clone(), b]);
    let removal = cache.gc(&[a.id()], &[a.id()].into()).unwrap();
    assert_kept(&removal, &a, KeptBecause::InUse);
    cache.get(&a.id()).unwrap().open().unwrap();
}

#[test]
fn what_this_process_holds_is_not_removed_until_it_lets_go() {
    let dir = directory();
    let (a, b) = (Release::new("a"), Release::new("b"));
    let cache = with_releases(dir.path(), &[a.clone(), b]);
    let held = cache.get(&a.id()).unwrap();
    let clone = held.clone();
    drop(held);
    assert_kept(&remove(&cache, &[&a]), &a, KeptBecause::Held);
    clone.open().unwrap();
    drop(clone);
    assert_eq!(remove(&cache, &[&a]).removed, [a.id()]);
}

#[test]
fn what_a_staged_release_counts_on_stays_until_it_is_installed() {
    let dir = directory();
    let (a, b) = (Release::new("a"), Release::new("b"));
    let cache = with_releases(dir.path(), &[a.clone(), b]);
    let next = Release::of("a", a.kernel.clone(), "next", b"initramfs next".to_vec());
    let staged = stage_from(&cache, &next.manifest(), |artifact| {
        assert_eq!(artifact.kind, ArtifactKind::Initramfs);
        next.initramfs.clone()
    })
    .unwrap();
    assert_eq!(remove(&cache, &[&a]).freed_bytes, a.initramfs.len() as u64);
    staged.install(now()).unwrap().open().unwrap();
}

#[test]
fn what_was_never_installed_counts_as_removed_and_changes_nothing() {
    let dir = directory();
    let cache = with_releases(dir.path(), &[Release::new("a")]);
    let before = snapshot(dir.path());
    let removal = remove(&cache, &[&Release::new("x")]);
    assert_eq!((removal.removed.len(), removal.freed_bytes), (1, 0));
    assert_eq!(snapshot(dir.path()), before);
}

#[test]
fn what_no_release_has_goes_and_what_is_not_the_caches_stays() {
    let dir = directory();
    let a = Release::new("a");
    let cache = with_releases(dir.path(), std::slice::from_ref(&a));
    let before = snapshot(dir.path());
    let lost = Sha256Digest::of(b"lost");
    let rotten = Sha256Digest::of(&a.kernel);
    let write = |path: String| fs::write(dir.path().join(path), "12345").unwrap();
    write(format!(".blobs/{lost}"));
    write(format!(".quarantine/{lost}"));
    write(format!(".quarantine/{lost}.1"));
    write(format!(".releases/{}.installed", Release::new("x").id()));
    write("vmlinuz-plfm-6.1.50-x".to_owned());
    let foreign = [
        ".blobs/notes".to_owned(),
        ".releases/notes.txt".to_owned(),
        ".quarantine/notes".to_owned(),
        // What an installed release had: somebody may want to know why it rotted.
        format!(".quarantine/{rotten}"),
    ];
    foreign.iter().cloned().for_each(write);
    fs::create_dir(
        dir.path()
            .join(format!(".blobs/{}", Sha256Digest::of(b"directory"))),
    )
    .unwrap();
    assert_eq!(remove(&cache, &[]).freed_bytes, 15);
    let mut expected: Vec<String> = before.into_keys().chain(foreign).collect();
    expected.sort();
    assert_eq!(names(dir.path()), expected);
}

#[test]
fn a_release_whose_record_is_damaged_can_be_removed_and_keeps_its_files_until_then() {
    let dir = directory();
    let (a, b) = (Release::new("a"), Release::new("b"));
    let cache = with_releases(dir.path(), &[a.clone(), b]);
    overwrite(&dir.path().join(format!(".releases/{}.json", a.id())), b"{");
    assert_eq!(remove(&cache, &[]).freed_bytes, 0);
    for kind in ArtifactKind::ALL {
        assert!(dir.path().join(a.blob(kind)).exists());
    }
    assert_eq!(remove(&cache, &[&a]).removed, [a.id()]);
    assert!(!names(dir.path()).iter().any(|name| name.contains("-a")));
}

#[test]
fn a_record_that_is_a_directory_is_left_to_a_person() {
    let dir = directory();
    let (a, b) = (Release::new("a"), Release::new("b"));
    let cache = with_releases(dir.path(), &[a.clone(), b]);
    let record = dir.path().join(format!(".releases/{}.json", a.id()));
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    assert_kept(&remove(&cache, &[&a]), &a, KeptBecause::ForeignRecord);
    drop(cache);
    assert_eq!(open_reporting(dir.path()).1, []);
}

#[test]
fn a_release_that_came_back_before_its_removal_was_finished_stays() {
    let dir = directory();
    let (a, b) = (Release::new("a"), Release::new("b"));
    let cache = with_releases(dir.path(), &[a.clone(), b]);
    drop(cache);
    let path = |suffix: &str| dir.path().join(format!(".releases/{}.{suffix}", a.id()));
    fs::copy(path("json"), path("removed")).unwrap();
    let (cache, repairs) = open_reporting(dir.path());
    assert_eq!(repairs, [Repair::RemovalFinished { release: a.id() }]);
    cache.get(&a.id()).unwrap().open().unwrap();
    assert!(!path("removed").exists());
}

#[test]
fn what_retention_asks_is_told_of_every_release() {
    let dir = directory();
    let (a, b, c) = (Release::new("a"), Release::new("b"), Release::new("c"));
    let cache = with_releases(dir.path(), &[a.clone(), b.clone(), c.clone()]);
    overwrite(&dir.path().join(format!(".releases/{}.json", a.id())), b"{");
    let told = |cache: &Cache| -> Vec<_> {
        let entries = cache.inventory().unwrap().into_iter();
        entries
            .map(|entry| {
                (
                    entry.release,
                    entry.installed_at,
                    entry.problem.map(|problem| problem.code()),
                )
            })
            .collect()
    };
    let installed = Some(now());
    let damaged = (a.id(), None, Some("release_record_damaged"));
    assert_eq!(
        told(&cache),
        [
            damaged.clone(),
            (b.id(), installed, None),
            (c.id(), installed, None)
        ]
    );
    cache.replace_keyring(keyring_without(KEY));
    let revoked = Some("manifest_revoked_key");
    assert_eq!(
        told(&cache),
        [
            damaged,
            (b.id(), installed, revoked),
            (c.id(), installed, revoked)
        ]
    );
}

/// A disk on which there is room for so many releases of this size.
fn small_disk(dir: &Path, releases: u64) -> (Arc<TestDisk>, Cache) {
    let disk = Arc::new(TestDisk::new(dir));
    let metadata = 3_000;
    let one = (Release::new("a").kernel.len() + Release::new("a").initramfs.len()) as u64;
    disk.capacity_bytes.store(releases * (one + metadata), SeqCst);
    (disk.clone(), Cache::open_on(disk, trust()).unwrap().0)
}

/// Larger than what metadata leaves over.
fn large(build: &str) -> Release {
    let text = |part: &str| format!("{part} {build} ").repeat(800).into_bytes();
    Release::of(build, text("kernel"), build, text("initramfs"))
}

#[test]
fn a_full_disk_says_how_much_is_missing_and_a_removal_makes_room() {
    let dir = directory();
    let (disk, cache) = small_disk(dir.path(), 0);
    let (a, b) = (large("a"), large("b"));
    let size = (a.kernel.len() + a.initramfs.len()) as u64;
    disk.capacity_bytes.store(size + size / 2 + 6_000, SeqCst);
    a.install(&cache);
    let error = b.stage(&cache).unwrap_err();
    assert_eq!(error.code(), "cache_disk_full");
    let said = error.to_string();
    assert!(
        said.contains(&b.artifact(ArtifactKind::Initramfs).name.to_string()),
        "{said}"
    );
    assert!(
        said.contains(&format!("{} more bytes are needed", b.initramfs.len())),
        "{said}"
    );
    assert!(
        !said.contains("not known") && said.contains("try again"),
        "{said}"
    );
    assert_eq!(remove(&cache, &[&a]).freed_bytes, size);
    b.install(&cache).open().unwrap();
}

#[test]
fn a_disk_that_is_full_of_what_is_in_use_stays_full_and_nothing_is_deleted() {
    let dir = directory();
    let (disk, cache) = small_disk(dir.path(), 3);
    let releases = ["a", "b", "c"].map(Release::new);
    for release in &releases {
        cache.set_current(&release.install(&cache)).unwrap();
    }
    disk.capacity_bytes.store(0, SeqCst);
    let held = cache.get(&releases[0].id()).unwrap();
    let before = snapshot(dir.path());
    let all: Vec<ReleaseId> = releases.iter().map(Release::id).collect();
    assert_eq!(large("x").stage(&cache).unwrap_err().code(), "cache_disk_full");
    let removal = cache.gc(&all, &[all[1].clone()].into()).unwrap();
    let because: Vec<_> = removal.kept.iter().map(|kept| kept.because).collect();
    assert_eq!(
        because,
        [KeptBecause::Held, KeptBecause::InUse, KeptBecause::Current]
    );
    assert_eq!((removal.removed, removal.freed_bytes), (vec![], 0));
    assert_eq!(snapshot(dir.path()), before);
    assert_eq!(large("x").stage(&cache).unwrap_err().code(), "cache_disk_full");
    drop(held);
    for release in &releases {
        cache.get(&release.id()).unwrap().open().unwrap();
    }
}

#[test]
fn a_boot_and_a_removal_at_once_end_with_a_whole_pair_or_with_no_release() {
    let dir = directory();
    let (a, b) = (Release::new("a"), Release::new("b"));
    let cache = with_releases(dir.path(), &[a.clone(), b]);
    for _ in 0..50 {
        std::thread::scope(|scope| {
            let boots = scope.spawn(|| match cache.get(&a.id()) {
                // What is in hand can be opened, however far the removal is.
                Ok(installed) => drop(installed.open().unwrap()),
                Err(error) => assert_eq!(error.code(), "release_not_installed"),
            });
            let _ = remove(&cache, &[&a]);
            boots.join().unwrap();
        });
        a.install(&cache);
    }
    drop(cache.stage(&a.manifest(), &mut no_source).unwrap());
}
