//! What a scrub reads, finds, reports, and how fast.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use plfm_cache::{Cache, Fault, Rot, Rotted, ScrubState};
use plfm_release::{ArtifactKind, ReleaseId};

use crate::fixtures::{
    KEY, Release, directory, keyring_without, no_source, now, open, overwrite, replace, snapshot, trust,
};
use crate::test_disk::TestDisk;

/// Scrubs to the end.
fn scrub(cache: &Cache) -> Vec<Rotted> {
    let mut scrub = cache.scrub().unwrap();
    while scrub.step(1 << 20).unwrap() == ScrubState::Going {}
    scrub.into_rotted()
}

fn told(rotted: &[Rotted]) -> Vec<(ReleaseId, ArtifactKind)> {
    rotted
        .iter()
        .map(|one| (one.release.clone(), one.artifact.kind))
        .collect()
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[7] ^= 0x20;
    overwrite(path, &bytes);
}

#[test]
fn a_healthy_cache_has_nothing_to_report_and_is_left_as_it_is() {
    let dir = directory();
    let cache = open(dir.path());
    assert!(scrub(&cache).is_empty());
    for build in ["a", "b"] {
        Release::new(build).install(&cache);
    }
    let before = snapshot(dir.path());
    assert!(scrub(&cache).is_empty());
    assert_eq!(snapshot(dir.path()), before);
}

#[test]
fn what_rotted_is_quarantined_reported_and_healed_by_the_next_delivery() {
    let dir = directory();
    let cache = open(dir.path());
    let (a, b) = (Release::new("a"), Release::new("b"));
    a.install(&cache);
    b.install(&cache);
    flip(&dir.path().join(a.blob(ArtifactKind::Kernel)));
    replace(&dir.path().join(b.blob(ArtifactKind::Initramfs)), b"short");
    fs::remove_file(dir.path().join(b.blob(ArtifactKind::Kernel))).unwrap();
    let rotted = scrub(&cache);
    assert_eq!(
        told(&rotted),
        [
            (a.id(), ArtifactKind::Kernel),
            (b.id(), ArtifactKind::Kernel),
            (b.id(), ArtifactKind::Initramfs)
        ]
    );
    assert!(matches!(rotted[0].fault, Fault::Rotted(Rot::WrongDigest { .. })));
    assert_eq!(rotted[1].fault, Fault::Missing);
    assert!(matches!(
        rotted[2].fault,
        Fault::Rotted(Rot::WrongSize { found: 5, .. })
    ));
    assert!(!dir.path().join("vmlinuz-plfm-6.1.50-a").exists());
    assert_eq!(fs::read_dir(dir.path().join(".quarantine")).unwrap().count(), 2);
    // It goes on reporting until they are whole again.
    assert_eq!(told(&scrub(&cache)), told(&rotted));
    for release in [&a, &b] {
        release.install(&cache).open().unwrap();
    }
    assert!(scrub(&cache).is_empty());
}

#[test]
fn every_release_that_needs_a_rotten_artifact_is_reported_and_no_other() {
    let dir = directory();
    let cache = open(dir.path());
    let a = Release::new("a");
    let shares = Release::of("b", a.kernel.clone(), "b", Release::new("b").initramfs);
    for release in [&a, &shares, &Release::new("c")] {
        release.install(&cache);
    }
    flip(&dir.path().join(a.blob(ArtifactKind::Kernel)));
    let rotted = scrub(&cache);
    assert_eq!(
        told(&rotted),
        [
            (a.id(), ArtifactKind::Kernel),
            (shares.id(), ArtifactKind::Kernel)
        ]
    );
    assert_eq!(rotted[1].artifact.name.to_string(), "vmlinuz-plfm-6.1.50-b");
}

#[test]
fn what_is_not_trusted_is_not_read() {
    let dir = directory();
    let cache = open(dir.path());
    let a = Release::new("a");
    a.install(&cache);
    flip(&dir.path().join(a.blob(ArtifactKind::Kernel)));
    cache.replace_keyring(keyring_without(KEY));
    assert!(scrub(&cache).is_empty());
    assert!(dir.path().join(a.blob(ArtifactKind::Kernel)).exists());
}

#[test]
fn a_release_that_was_removed_meanwhile_is_not_reported() {
    let dir = directory();
    let cache = open(dir.path());
    let (a, b) = (Release::new("a"), Release::new("b"));
    a.install(&cache);
    b.install(&cache);
    let mut scrub = cache.scrub().unwrap();
    assert_eq!(scrub.step(1).unwrap(), ScrubState::Going);
    let removed = cache.gc(&[a.id(), b.id()], &Default::default()).unwrap();
    assert_eq!(removed.removed.len(), 2);
    while scrub.step(1 << 20).unwrap() == ScrubState::Going {}
    assert!(scrub.rotted().is_empty());
}

/// A cache whose disk counts, with one release of two large artifacts.
fn counted(dir: &Path) -> (Arc<TestDisk>, Cache, Release) {
    let disk = Arc::new(TestDisk::new(dir));
    let (cache, _) = Cache::open_on(disk.clone(), trust()).unwrap();
    let release = Release::of("a", vec![1; 1_000_000], "a", vec![2; 500_000]);
    release.install(&cache);
    (disk, cache, release)
}

#[test]
fn a_step_reads_as_much_as_it_is_told() {
    let dir = directory();
    let (disk, cache, _) = counted(dir.path());
    let read = || disk.bytes_read.load(SeqCst);
    let mut scrub = cache.scrub().unwrap();
    let begin = read();
    for budget in [1, 1_000, 300_000] {
        let before = read();
        assert_eq!(scrub.step(budget).unwrap(), ScrubState::Going);
        assert_eq!(read() - before, budget);
    }
    let mut steps = 0;
    while scrub.step(100_000).unwrap() == ScrubState::Going {
        steps += 1;
    }
    assert_eq!(read() - begin, 1_500_000, "each byte once");
    assert!((11..=13).contains(&steps), "{steps}");
    assert_eq!(scrub.step(100_000).unwrap(), ScrubState::Done);
}

#[test]
fn opening_a_cache_reads_no_artifact() {
    let dir = directory();
    let (_, cache, release) = counted(dir.path());
    cache.set_current(&cache.get(&release.id()).unwrap()).unwrap();
    drop(cache);
    let disk = Arc::new(TestDisk::new(dir.path()));
    let (cache, _) = Cache::open_on(disk.clone(), trust()).unwrap();
    cache.current().unwrap().unwrap();
    assert!(disk.bytes_read.load(SeqCst) < 20_000);
}

#[test]
fn what_a_scrub_found_good_needs_no_reading_at_the_next_boot() {
    let dir = directory();
    let (_, cache, release) = counted(dir.path());
    drop(cache);
    let disk = Arc::new(TestDisk::new(dir.path()));
    disk.clock_ahead_ns.store(10_000_000_000, SeqCst);
    let (cache, _) = Cache::open_on(disk.clone(), trust()).unwrap();
    assert!(scrub(&cache).is_empty());
    let before = disk.reads.load(SeqCst);
    let installed = cache.get(&release.id()).unwrap();
    let records = disk.reads.load(SeqCst) - before;
    installed.open().unwrap();
    assert_eq!(disk.reads.load(SeqCst) - before, records);
    // But a change does.
    flip(&dir.path().join(release.blob(ArtifactKind::Kernel)));
    assert_eq!(installed.open().unwrap_err().code(), "artifact_rotted");
}

#[test]
fn what_the_disk_cannot_read_is_reported_stays_and_is_replaced_by_the_next_delivery() {
    let dir = directory();
    let (disk, cache, release) = counted(dir.path());
    let blob = dir.path().join(release.blob(ArtifactKind::Initramfs));
    disk.bad_inode.store(blob.metadata().unwrap().ino(), SeqCst);
    let rotted = scrub(&cache);
    assert_eq!(told(&rotted), [(release.id(), ArtifactKind::Initramfs)]);
    assert!(matches!(&rotted[0].fault, Fault::Unreadable(why) if why.contains("Input/output error")));
    let installed = cache.get(&release.id()).unwrap();
    assert_eq!(installed.open().unwrap_err().code(), "artifact_unreadable");
    assert!(blob.exists(), "the disk may read it the next time");
    // The kernel is not asked for.
    let source = |artifact: &plfm_release::Artifact| {
        assert_eq!(artifact.kind, ArtifactKind::Initramfs);
        release.initramfs.clone()
    };
    let staged = crate::fixtures::stage_from(&cache, &release.manifest(), source).unwrap();
    staged.install(now()).unwrap().open().unwrap();
    installed.open().unwrap();
    assert!(scrub(&cache).is_empty());
    drop(cache.stage(&release.manifest(), &mut no_source).unwrap());
}

#[test]
fn a_good_file_that_took_the_place_of_a_rotten_one_during_a_scrub_is_not_quarantined() {
    let dir = directory();
    let (disk, cache, release) = counted(dir.path());
    let blob = dir.path().join(release.blob(ArtifactKind::Kernel));
    flip(&blob);
    let good = release.kernel.clone();
    let mut scrub = cache.scrub().unwrap();
    // The records were read; the next read is that of the kernel.
    *disk.during_read.lock().unwrap() = Some(Box::new(move || replace(&blob, &good)));
    while scrub.step(1 << 20).unwrap() == ScrubState::Going {}
    assert!(scrub.rotted().is_empty());
    cache.get(&release.id()).unwrap().open().unwrap();
}
