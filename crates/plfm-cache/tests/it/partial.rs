//! A fetcher that writes into the cache: cut anywhere, it goes on there, and only what was signed gets through.

use std::fs::{self, File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, SystemTime};

use plfm_cache::{Cache, FetchedArtifact, Repair, StageError, StagingFile};
use plfm_release::{ArtifactKind, Sha256Digest};

use crate::fixtures::{Release, directory, names, now, open, open_reporting, overwrite, trust};
use crate::test_disk::TestDisk;

fn staging(cache: &Cache, release: &Release, kind: ArtifactKind) -> StagingFile {
    cache.staging_file(&release.manifest(), kind).unwrap()
}

/// Fetches the rest of an artifact.
fn fetch(cache: &Cache, release: &Release, kind: ArtifactKind) -> Result<FetchedArtifact, StageError> {
    let file = cache.staging_file(&release.manifest(), kind)?;
    let have = usize::try_from(file.length_bytes()).unwrap();
    file.write(&release.bytes(kind)[have..])?.finish()
}

fn fetch_all(cache: &Cache, release: &Release) -> Vec<FetchedArtifact> {
    let missing = cache.missing_artifacts(&release.manifest()).unwrap();
    let fetched = missing
        .iter()
        .map(|artifact| fetch(cache, release, artifact.kind).unwrap());
    fetched.collect()
}

fn path_of(dir: &Path, release: &Release, kind: ArtifactKind) -> PathBuf {
    let digest = Sha256Digest::of(release.bytes(kind));
    dir.join(format!(".staging/{digest}.partial"))
}

#[test]
fn what_is_fetched_is_installed_without_being_written_again() {
    let dir = directory();
    let disk = Arc::new(TestDisk::new(dir.path()));
    let (cache, _) = Cache::open_on(disk.clone(), trust()).unwrap();
    let release = Release::of("a", vec![1; 300_000], "a", vec![2; 100_000]);
    let fetched = fetch_all(&cache, &release);
    assert_eq!(disk.bytes_written.load(SeqCst), 400_000);
    assert_eq!(fetched[0].artifact().kind, ArtifactKind::Kernel);
    let staged = cache.stage_fetched(&release.manifest(), fetched).unwrap();
    assert_eq!(disk.bytes_written.load(SeqCst), 400_000);
    staged.install(now()).unwrap().open().unwrap();
    assert_eq!(cache.missing_artifacts(&release.manifest()).unwrap(), []);
    assert!(!names(dir.path()).iter().any(|name| name.starts_with(".staging")));
    // As any other.
    use std::os::unix::fs::PermissionsExt as _;
    let mode = dir
        .path()
        .join(release.blob(ArtifactKind::Kernel))
        .metadata()
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o7777, 0o444);
}

#[test]
fn a_fetch_that_was_cut_goes_on_where_it_was_in_this_process_and_the_next() {
    let dir = directory();
    let release = Release::new("a");
    let cache = open(dir.path());
    let file = staging(&cache, &release, ArtifactKind::Kernel);
    assert_eq!(file.length_bytes(), 0);
    drop(file.write(&release.kernel[..100]).unwrap());
    let file = staging(&cache, &release, ArtifactKind::Kernel);
    assert_eq!(file.length_bytes(), 100);
    drop(file.write(&release.kernel[100..150]).unwrap());
    drop(cache);
    let (cache, repairs) = open_reporting(dir.path());
    assert_eq!(repairs, []);
    let file = staging(&cache, &release, ArtifactKind::Kernel);
    assert_eq!(file.length_bytes(), 150);
    drop(file.write(&release.kernel[150..]).unwrap().finish().unwrap());
    // Even when it is whole already.
    let whole = staging(&cache, &release, ArtifactKind::Kernel);
    assert_eq!(whole.length_bytes(), release.kernel.len() as u64);
    let fetched = vec![
        whole.finish().unwrap(),
        fetch(&cache, &release, ArtifactKind::Initramfs).unwrap(),
    ];
    let staged = cache.stage_fetched(&release.manifest(), fetched).unwrap();
    let pair = staged.install(now()).unwrap().open().unwrap();
    assert_eq!(
        io::read_to_string(pair.kernel).unwrap().as_bytes(),
        release.kernel
    );
}

#[test]
fn garbage_in_a_partial_file_is_found_at_the_end_and_thrown_away() {
    let dir = directory();
    let release = Release::new("a");
    let cache = open(dir.path());
    drop(
        staging(&cache, &release, ArtifactKind::Kernel)
            .write(&release.kernel[..200])
            .unwrap(),
    );
    let path = path_of(dir.path(), &release, ArtifactKind::Kernel);
    overwrite(&path, &[0; 200]);
    let error = fetch(&cache, &release, ArtifactKind::Kernel).unwrap_err();
    assert_eq!(error.code(), "artifact_digest_mismatch");
    assert!(!path.exists());
    assert_eq!(staging(&cache, &release, ArtifactKind::Kernel).length_bytes(), 0);
    drop(fetch(&cache, &release, ArtifactKind::Kernel).unwrap());
}

#[test]
fn what_cannot_be_the_beginning_of_the_artifact_is_not_gone_on_with() {
    let release = Release::new("a");
    let cases: [fn(&Path); 4] = [
        |path| fs::write(path, vec![0; 1_000_000]).unwrap(),
        |path| std::os::unix::fs::symlink("/etc/passwd", path).unwrap(),
        |path| {
            // A longer file than announced, behind the link.
            fs::write(path.with_extension("x"), "x").unwrap();
            fs::hard_link(path.with_extension("x"), path).unwrap();
            overwrite(path, &[0; 10_000]);
        },
        |_| (),
    ];
    for plant in cases {
        let dir = directory();
        let cache = open(dir.path());
        plant(&path_of(dir.path(), &release, ArtifactKind::Kernel));
        assert_eq!(staging(&cache, &release, ArtifactKind::Kernel).length_bytes(), 0);
        drop(fetch(&cache, &release, ArtifactKind::Kernel).unwrap());
    }
}

#[test]
fn more_than_announced_is_never_written() {
    let dir = directory();
    let disk = Arc::new(TestDisk::new(dir.path()));
    let (cache, _) = Cache::open_on(disk.clone(), trust()).unwrap();
    let release = Release::new("a");
    let whole = staging(&cache, &release, ArtifactKind::Kernel)
        .write(&release.kernel)
        .unwrap();
    let error = whole.write(b"x").unwrap_err();
    assert_eq!(error.code(), "artifact_too_long");
    assert_eq!(disk.bytes_written.load(SeqCst), release.kernel.len() as u64);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn what_is_not_whole_yet_stays_for_the_next_attempt() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let part = staging(&cache, &release, ArtifactKind::Kernel)
        .write(&release.kernel[..10])
        .unwrap();
    assert_eq!(part.finish().unwrap_err().code(), "artifact_truncated");
    assert_eq!(staging(&cache, &release, ArtifactKind::Kernel).length_bytes(), 10);
}

/// The answer to a range request was the whole.
#[test]
fn a_source_that_starts_over_is_followed() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let part = staging(&cache, &release, ArtifactKind::Kernel)
        .write(&release.kernel[..10])
        .unwrap();
    let again = part.restart().unwrap();
    assert_eq!(again.length_bytes(), 0);
    drop(again.write(&release.kernel).unwrap().finish().unwrap());
}

#[test]
fn an_artifact_is_fetched_by_one_at_a_time() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let busy = |cache: &Cache| {
        let error = cache
            .staging_file(&release.manifest(), ArtifactKind::Kernel)
            .unwrap_err();
        assert_eq!(error.code(), "artifact_fetch_busy");
    };
    let file = staging(&cache, &release, ArtifactKind::Kernel);
    busy(&cache);
    let fetched = file.write(&release.kernel).unwrap().finish().unwrap();
    busy(&cache);
    let other = fetch(&cache, &release, ArtifactKind::Initramfs).unwrap();
    let staged = cache
        .stage_fetched(&release.manifest(), vec![fetched, other])
        .unwrap();
    busy(&cache);
    drop(staged);
    assert_eq!(staging(&cache, &release, ArtifactKind::Kernel).length_bytes(), 0);
}

#[test]
fn what_was_neither_fetched_nor_here_is_named() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let kernel = fetch(&cache, &release, ArtifactKind::Kernel).unwrap();
    let error = cache
        .stage_fetched(&release.manifest(), vec![kernel])
        .unwrap_err();
    assert_eq!(error.code(), "artifact_not_fetched");
    assert!(
        error.to_string().contains("initramfs-plfm-guestinit-1.0.0-a.img"),
        "{error}"
    );
}

#[test]
fn what_was_fetched_for_another_cache_is_no_part_of_a_release_here() {
    let (here, there) = (directory(), directory());
    let (cache, other) = (open(here.path()), open(there.path()));
    let release = Release::new("a");
    let error = cache
        .stage_fetched(&release.manifest(), fetch_all(&other, &release))
        .unwrap_err();
    assert_eq!(error.code(), "artifact_not_fetched");
}

#[test]
fn a_name_that_means_other_bytes_is_refused_before_anything_is_fetched() {
    let dir = directory();
    let cache = open(dir.path());
    Release::new("a").install(&cache);
    let other = Release::of("a", b"other".to_vec(), "b", b"initramfs".to_vec());
    let error = cache.missing_artifacts(&other.manifest()).unwrap_err();
    assert_eq!(error.code(), "artifact_name_conflict");
}

#[test]
fn an_artifact_that_is_both_parts_is_fetched_once() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::of("a", b"same".to_vec(), "a", b"same".to_vec());
    let fetched = fetch_all(&cache, &release);
    assert_eq!(fetched.len(), 1);
    let staged = cache.stage_fetched(&release.manifest(), fetched).unwrap();
    staged.install(now()).unwrap().open().unwrap();
}

#[test]
fn a_full_disk_is_told_and_the_fetch_goes_on_when_there_is_room() {
    let dir = directory();
    let disk = Arc::new(TestDisk::new(dir.path()));
    let (cache, _) = Cache::open_on(disk.clone(), trust()).unwrap();
    let release = Release::new("a");
    disk.capacity_bytes.store(150, SeqCst);
    let part = staging(&cache, &release, ArtifactKind::Kernel)
        .write(&release.kernel[..100])
        .unwrap();
    let error = part.write(&release.kernel[100..]).unwrap_err();
    let StageError::DiskFull {
        needed_bytes,
        available_bytes,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(*needed_bytes, release.kernel.len() as u64 - 100);
    // What was written before the disk was full is there.
    assert!(available_bytes.unwrap() <= 50);
    disk.capacity_bytes.store(u64::MAX, SeqCst);
    let rest = staging(&cache, &release, ArtifactKind::Kernel);
    assert!(rest.length_bytes() >= 100);
    drop(rest);
    drop(fetch(&cache, &release, ArtifactKind::Kernel).unwrap());
}

/// What a fetch left is cleaned up when nobody comes back for it.
#[test]
fn partial_files_are_bounded_in_age_and_number() {
    let dir = directory();
    let releases: Vec<_> = ["a", "b", "c"].map(Release::new).into();
    let cache = open(dir.path());
    let days = |n: u64| SystemTime::now() - Duration::from_secs(n * 24 * 3600);
    for (age, (release, kind)) in releases
        .iter()
        .flat_map(|release| ArtifactKind::ALL.map(|kind| (release, kind)))
        .enumerate()
    {
        drop(
            staging(&cache, release, kind)
                .write(&release.bytes(kind)[..10])
                .unwrap(),
        );
        let file = File::open(path_of(dir.path(), release, kind)).unwrap();
        file.set_times(FileTimes::new().set_modified(days(age as u64)))
            .unwrap();
    }
    drop(cache);
    let (cache, repairs) = open_reporting(dir.path());
    // The last four.
    assert_eq!(repairs, [Repair::StagingEmptied { files: 2 }]);
    assert_eq!(
        staging(&cache, &releases[0], ArtifactKind::Kernel).length_bytes(),
        10
    );
    assert_eq!(
        staging(&cache, &releases[1], ArtifactKind::Initramfs).length_bytes(),
        10
    );
    assert!(!path_of(dir.path(), &releases[2], ArtifactKind::Kernel).exists());
    let old = path_of(dir.path(), &releases[0], ArtifactKind::Initramfs);
    File::open(&old)
        .unwrap()
        .set_times(FileTimes::new().set_modified(days(8)))
        .unwrap();
    drop(cache);
    let (cache, _) = open_reporting(dir.path());
    assert!(!old.exists());
    // A removal takes those that nobody has open.
    let open_now = staging(&cache, &releases[0], ArtifactKind::Kernel);
    assert_eq!(cache.gc(&[], &Default::default()).unwrap().freed_bytes, 20);
    drop(
        open_now
            .write(&releases[0].kernel[10..])
            .unwrap()
            .finish()
            .unwrap(),
    );
}
