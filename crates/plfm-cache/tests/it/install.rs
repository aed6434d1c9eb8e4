//! What an installation leaves, and what it asks for.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use plfm_cache::{Cache, InstalledRelease, OpenError, StagedRelease};
use plfm_release::{
    Architecture, ArtifactKind, Channel, Protocol, Sha256Digest, SignedManifest, VerifyPolicy,
};
use serde_json::json;

use crate::fixtures::{
    KEY, NEXT_KEY, Release, directory, keyring, names, no_source, now, open, open_reporting, snapshot,
    stage_from, time, trust,
};
use crate::test_disk::TestDisk;

/// Fails to compile when the type implements the trait: then there are two ways to infer `_`.
macro_rules! assert_not_implemented {
    ($type:ty: $trait:path) => {
        const _: fn() = || {
            trait AmbiguousIfImplemented<A> {
                fn is_not_implemented() {}
            }
            impl<T: ?Sized> AmbiguousIfImplemented<()> for T {}
            #[allow(dead_code)]
            struct Implemented;
            impl<T: ?Sized + $trait> AmbiguousIfImplemented<Implemented> for T {}
            <$type as AmbiguousIfImplemented<_>>::is_not_implemented()
        };
    };
}

// An installed release can be had by installing only, and its descriptors by opening only.
assert_not_implemented!(InstalledRelease: serde::de::DeserializeOwned);
assert_not_implemented!(InstalledRelease: Default);
assert_not_implemented!(InstalledRelease: From<plfm_release::VerifiedManifest>);
assert_not_implemented!(StagedRelease: serde::de::DeserializeOwned);
assert_not_implemented!(StagedRelease: Default);
assert_not_implemented!(plfm_cache::OpenPair: Default);

// They go into the tasks of a daemon.
const _: fn() = || {
    fn can_cross_threads<T: Send + Sync + 'static>() {}
    can_cross_threads::<Cache>();
    can_cross_threads::<InstalledRelease>();
    can_cross_threads::<StagedRelease>();
    can_cross_threads::<plfm_cache::StageError>();
    can_cross_threads::<plfm_cache::InstallError>();
};

#[test]
fn an_installed_release_has_the_layout_of_the_spec() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("20251217a");
    let installed = release.install(&cache);
    cache.set_current(&installed).unwrap();
    let (kernel, initramfs) = (
        Sha256Digest::of(&release.kernel),
        Sha256Digest::of(&release.initramfs),
    );
    let manifest = release.manifest();
    let expected = [
        (
            "vmlinuz-plfm-6.1.50-20251217a",
            String::from_utf8(release.kernel.clone()).unwrap(),
        ),
        (
            "vmlinuz-plfm-6.1.50-20251217a.sha256",
            format!("{kernel}  vmlinuz-plfm-6.1.50-20251217a\n"),
        ),
        (
            "initramfs-plfm-guestinit-1.0.0-20251217a.img",
            String::from_utf8(release.initramfs.clone()).unwrap(),
        ),
        (
            "initramfs-plfm-guestinit-1.0.0-20251217a.img.sha256",
            format!("{initramfs}  initramfs-plfm-guestinit-1.0.0-20251217a.img\n"),
        ),
        ("current", "-> vmlinuz-plfm-6.1.50-20251217a".to_owned()),
        (
            "current-initramfs",
            "-> initramfs-plfm-guestinit-1.0.0-20251217a.img".to_owned(),
        ),
        (
            ".current",
            "-> .releases/6.1.50-20251217a+guestinit-1.0.0-20251217a.json".to_owned(),
        ),
        (
            &format!(".blobs/{kernel}"),
            String::from_utf8(release.kernel.clone()).unwrap(),
        ),
        (
            &format!(".blobs/{initramfs}"),
            String::from_utf8(release.initramfs.clone()).unwrap(),
        ),
        (
            ".releases/6.1.50-20251217a+guestinit-1.0.0-20251217a.json",
            String::from_utf8(manifest.as_bytes().to_vec()).unwrap(),
        ),
        (
            ".releases/6.1.50-20251217a+guestinit-1.0.0-20251217a.installed",
            format!(
                "2026-01-15T12:00:00Z  {}\n",
                Sha256Digest::of(manifest.as_bytes())
            ),
        ),
    ];
    let expected = expected.map(|(name, content)| (name.to_owned(), content));
    assert_eq!(snapshot(dir.path()), expected.into_iter().collect());
}

#[test]
fn a_name_is_a_second_name_of_its_blob_and_read_only() {
    let dir = directory();
    let release = Release::new("a");
    release.install(&open(dir.path()));
    for kind in ArtifactKind::ALL {
        let name = dir
            .path()
            .join(release.artifact(kind).name.to_string())
            .symlink_metadata()
            .unwrap();
        let blob = dir.path().join(release.blob(kind)).symlink_metadata().unwrap();
        assert_eq!((name.ino(), name.nlink()), (blob.ino(), 2));
        assert_eq!(name.permissions().mode() & 0o7777, 0o444);
    }
}

#[test]
fn sidecars_are_what_sha256sum_checks() {
    let dir = directory();
    let release = Release::new("a");
    release.install(&open(dir.path()));
    for kind in ArtifactKind::ALL {
        let sidecar = format!("{}.sha256", release.artifact(kind).name);
        let checked = Command::new("sha256sum")
            .args(["--check", "--strict", &sidecar])
            .current_dir(&dir)
            .output();
        assert!(checked.unwrap().status.success());
    }
}

#[test]
fn the_two_open_files_hold_the_artifacts_from_their_beginning() {
    let dir = directory();
    let release = Release::new("a");
    let pair = release.install(&open(dir.path())).open().unwrap();
    assert_eq!(
        io::read_to_string(pair.kernel).unwrap().as_bytes(),
        release.kernel
    );
    assert_eq!(
        io::read_to_string(pair.initramfs).unwrap().as_bytes(),
        release.initramfs
    );
}

#[test]
fn an_installed_release_says_what_it_is() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let installed = release.install(&cache);
    assert_eq!(installed.id(), &release.id());
    assert_eq!(installed.manifest(), release.manifest().manifest());
    assert_eq!(installed.manifest_bytes(), release.manifest().as_bytes());
    assert_eq!(installed.installed_at(), now());
    assert_eq!(installed.protocol(), Protocol(1));
    let found = cache.get(&release.id()).unwrap();
    assert_eq!((found.id(), found.installed_at()), (installed.id(), now()));
}

#[test]
fn the_newest_protocol_that_both_sides_know_is_spoken() {
    let dir = directory();
    let trust = plfm_cache::Trust {
        protocols: vec![Protocol(1), Protocol(2)],
        ..trust()
    };
    let (cache, _) = Cache::open(dir.path(), trust).unwrap();
    let release = Release::new("a").with("/compatibility/supported_protocols", json!([1, 2, 3]));
    assert_eq!(release.install(&cache).protocol(), Protocol(2));
}

#[test]
fn what_is_staged_is_not_visible_and_leaves_nothing_when_dropped() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let staged = release.stage(&cache).unwrap();
    assert_eq!(staged.id(), release.id());
    assert!(names(dir.path()).iter().all(|name| name.starts_with(".staging/")));
    assert_eq!(
        cache.get(&release.id()).unwrap_err().code(),
        "release_not_installed"
    );
    drop(staged);
    assert_eq!(names(dir.path()), <[&str; 0]>::default());
}

#[test]
fn to_install_what_is_installed_changes_nothing_and_reads_nothing() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    release.install(&cache);
    let before = snapshot(dir.path());
    let staged = cache.stage(&release.manifest(), &mut no_source).unwrap();
    let again = staged.install(time("2026-02-01T00:00:00Z")).unwrap();
    assert_eq!(again.installed_at(), now());
    assert_eq!(snapshot(dir.path()), before);
}

#[test]
fn what_two_releases_share_is_stored_once_and_delivered_once() {
    let dir = directory();
    let cache = open(dir.path());
    let a = Release::new("a");
    a.install(&cache);
    // The same kernel under the same name, and under another.
    for kernel_build in ["a", "b"] {
        let b = Release::of(kernel_build, a.kernel.clone(), "b", Release::new("b").initramfs);
        let staged = stage_from(&cache, &b.manifest(), |artifact| {
            assert_eq!(artifact.kind, ArtifactKind::Initramfs);
            b.initramfs.clone()
        });
        // The second time not even that is asked for.
        staged.unwrap().install(now()).unwrap().open().unwrap();
    }
    assert_eq!(fs::read_dir(dir.path().join(".blobs")).unwrap().count(), 3);
    assert_eq!(cache.list().unwrap().len(), 3);
}

#[test]
fn a_release_whose_two_artifacts_are_the_same_bytes_installs() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::of("a", b"same".to_vec(), "a", b"same".to_vec());
    release.install(&cache).open().unwrap();
    assert_eq!(fs::read_dir(dir.path().join(".staging")).unwrap().count(), 0);
}

#[test]
fn two_stagings_of_one_release_at_once_install_once() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let (first, second) = (release.stage(&cache).unwrap(), release.stage(&cache).unwrap());
    first.install(now()).unwrap();
    let before = snapshot(dir.path());
    second.install(now()).unwrap().open().unwrap();
    let mut after = snapshot(dir.path());
    after.retain(|name, _| !name.starts_with(".staging"));
    let mut expected = before;
    expected.retain(|name, _| !name.starts_with(".staging"));
    assert_eq!(after, expected);
    assert_eq!(fs::read_dir(dir.path().join(".staging")).unwrap().count(), 0);
}

/// What a key rotation does to releases that hosts have.
#[test]
fn a_release_that_was_signed_anew_gets_its_new_manifest_and_moment() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    release.install(&cache);
    let later = time("2026-08-01T00:00:00Z");
    let manifest = release.manifest_for(NEXT_KEY, Architecture::X86_64, "production", later);
    let installed = cache
        .stage(&manifest, &mut no_source)
        .unwrap()
        .install(later)
        .unwrap();
    assert_eq!(
        (installed.manifest_bytes(), installed.installed_at()),
        (manifest.as_bytes(), later)
    );
    cache.replace_keyring(crate::fixtures::keyring_without(KEY));
    cache.get(&release.id()).unwrap().open().unwrap();
}

#[test]
fn moments_of_manifests_that_were_replaced_are_not_kept_for_ever() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    release.install(&cache);
    let times = dir.path().join(format!(".releases/{}.installed", release.id()));
    for day in 1..5 {
        // Another spelling, so another digest.
        let spelled = [release.manifest().as_bytes(), " ".repeat(day).as_bytes()].concat();
        let policy = VerifyPolicy {
            channel: Channel::production(),
            arch: Architecture::X86_64,
            at: now(),
        };
        let manifest = keyring()
            .verify(SignedManifest::parse(&spelled).unwrap(), &policy)
            .unwrap();
        let at = time(&format!("2026-02-0{day}T00:00:00Z"));
        let installed = cache
            .stage(&manifest, &mut no_source)
            .unwrap()
            .install(at)
            .unwrap();
        assert_eq!(
            (installed.installed_at(), installed.manifest_bytes()),
            (at, &spelled[..])
        );
        assert_eq!(fs::read_to_string(&times).unwrap().lines().count(), 2);
    }
}

#[test]
fn a_chunked_and_interrupted_source_is_read_to_its_end() {
    struct Trickle(io::Cursor<Vec<u8>>, bool);
    impl io::Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = buffer.len().min(7);
            io::Read::read(&mut self.0, &mut buffer[..length])
        }
    }
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let mut source = |artifact: &plfm_release::Artifact| {
        let bytes = release.bytes(artifact.kind).to_vec();
        Ok(Box::new(Trickle(io::Cursor::new(bytes), false)) as Box<dyn io::Read>)
    };
    cache
        .stage(&release.manifest(), &mut source)
        .unwrap()
        .install(now())
        .unwrap()
        .open()
        .unwrap();
}

#[test]
fn an_artifact_of_many_chunks_is_written_once_and_byte_for_byte() {
    let dir = directory();
    let disk = Arc::new(TestDisk::new(dir.path()));
    let (cache, _) = Cache::open_on(disk.clone(), trust()).unwrap();
    let kernel: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
    let release = Release::of("a", kernel, "a", vec![7; 128 * 1024]);
    let staged = release.stage(&cache).unwrap();
    assert_eq!(disk.bytes_written.load(SeqCst), 1_000_003 + 128 * 1024);
    let pair = staged.install(now()).unwrap().open().unwrap();
    let mut kernel = Vec::new();
    io::Read::read_to_end(&mut { pair.kernel }, &mut kernel).unwrap();
    assert_eq!(kernel, release.kernel);
}

#[test]
fn a_directory_is_used_by_one_cache_at_a_time() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a").install(&cache);
    let refused = |dir: &std::path::Path| {
        let error = Cache::open(dir, trust()).expect_err("opened twice");
        assert_eq!(error.code(), "cache_locked");
        assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
        assert!(matches!(error, OpenError::Locked { .. }));
    };
    let before = snapshot(dir.path());
    refused(dir.path());
    let clone = cache.clone();
    drop(cache);
    refused(dir.path());
    drop(clone);
    // A release may still quarantine.
    refused(dir.path());
    assert_eq!(snapshot(dir.path()), before);
    drop(release);
    open(dir.path());
}

#[test]
fn the_directory_is_made_with_its_parents() {
    let dir = directory();
    let deep = dir.path().join("var/lib/plfm-agent/kernels");
    let (cache, repairs) = open_reporting(&deep);
    assert_eq!(repairs, []);
    Release::new("a").install(&cache).open().unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = directory();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = Cache::open(&dir.path().join("file/kernels"), trust()).unwrap_err();
    assert_eq!(error.code(), "cache_disk_error");
    assert!(error.to_string().contains("file/kernels"), "{error}");
}

#[test]
fn a_folder_that_is_a_link_to_elsewhere_is_refused() {
    let (dir, elsewhere) = (directory(), directory());
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(".blobs")).unwrap();
    let error = Cache::open(dir.path(), trust()).unwrap_err();
    assert_eq!(error.code(), "cache_disk_error");
    assert!(error.to_string().contains(".blobs"), "{error}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn a_full_disk_is_told_from_a_broken_one_and_leaves_no_trace() {
    let dir = directory();
    drop(open(dir.path()));
    let release = Release::new("a");
    // Opening changes seven things at most; staging creates, writes and syncs two files.
    for good in 7..13 {
        let disk = Arc::new(TestDisk::failing(
            dir.path(),
            crate::test_disk::Failure::DiskFull,
            good,
        ));
        let (cache, _) = Cache::open_on(disk, trust()).unwrap();
        let error = release.stage(&cache).unwrap_err();
        assert_eq!(error.code(), "cache_disk_full");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("/.staging/"), "{cause}");
        assert!(error.to_string().contains("more bytes are needed"), "{error}");
        assert_eq!(names(dir.path()), <[&str; 0]>::default());
        release.install(&cache).open().unwrap();
        drop(cache);
        fs::remove_dir_all(dir.path()).unwrap();
        drop(open(dir.path()));
    }
}
