//! What did not change is not hashed again, and what did is.

use std::fs::{File, FileTimes};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use plfm_cache::{Cache, Disk as _, InstalledRelease};
use plfm_release::ArtifactKind;

use crate::fixtures::{Release, directory, overwrite, replace, trust};
use crate::test_disk::TestDisk;

/// A cache whose file system's clock is far enough ahead that files count as settled.
fn settled(dir: &Path) -> (Arc<TestDisk>, InstalledRelease, Release) {
    let disk = Arc::new(TestDisk::new(dir));
    disk.clock_ahead_ns.store(10_000_000_000, SeqCst);
    let (cache, _) = Cache::open_on(disk.clone(), trust()).unwrap();
    let release = Release::new("a");
    let installed = release.install(&cache);
    installed.open().unwrap();
    (disk, installed, release)
}

fn reads(disk: &TestDisk, installed: &InstalledRelease) -> usize {
    let before = disk.reads.load(SeqCst);
    installed.open().unwrap();
    disk.reads.load(SeqCst) - before
}

#[test]
fn what_did_not_change_is_not_read_again() {
    let dir = directory();
    let (disk, installed, _) = settled(dir.path());
    assert_eq!(reads(&disk, &installed), 0);
}

#[test]
fn what_changed_a_moment_ago_is_read_again_as_a_second_change_might_not_show() {
    let dir = directory();
    let (disk, installed, release) = settled(dir.path());
    disk.clock_ahead_ns.store(0, SeqCst);
    // A new inode, and a clock that is not ahead.
    let blob = dir.path().join(release.blob(ArtifactKind::Kernel));
    replace(&blob, &release.kernel);
    assert!(reads(&disk, &installed) > 0);
    assert!(reads(&disk, &installed) > 0);
    disk.clock_ahead_ns.store(10_000_000_000, SeqCst);
    assert!(reads(&disk, &installed) > 0);
    assert_eq!(reads(&disk, &installed), 0);
}

#[test]
fn a_change_that_restores_length_and_mtime_is_found() {
    let dir = directory();
    let (disk, installed, release) = settled(dir.path());
    let blob = dir.path().join(release.blob(ArtifactKind::Kernel));
    let modified = blob.metadata().unwrap().modified().unwrap();
    // The clock that stamps files ticks every few milliseconds.
    let tick = disk.clock_ns();
    while disk.clock_ns() == tick {
        thread::yield_now();
    }
    let mut evil = release.kernel.clone();
    evil[0] ^= 1;
    overwrite(&blob, &evil);
    File::open(&blob)
        .unwrap()
        .set_times(FileTimes::new().set_modified(modified))
        .unwrap();
    assert_eq!(blob.metadata().unwrap().modified().unwrap(), modified);
    assert_eq!(installed.open().unwrap_err().code(), "artifact_rotted");
}
