//! What opening a cache puts right, says, and leaves alone.

use std::fs;
use std::path::Path;

use plfm_cache::{Cache, Repair, Rot, Trust};
use plfm_release::{ArtifactKind, Keyring};

use crate::fixtures::{Release, directory, names, open, open_reporting, overwrite, replace, snapshot, trust};

/// What is reported and changed when a healthy cache is opened after `damage`. The release is current.
fn repaired(damage: impl Fn(&Path, &Release)) -> (Vec<Repair>, bool) {
    let dir = directory();
    let release = Release::new("a");
    let cache = open(dir.path());
    cache.set_current(&release.install(&cache)).unwrap();
    drop(cache);
    let healthy = snapshot(dir.path());
    damage(dir.path(), &release);
    let (_, repairs) = open_reporting(dir.path());
    let whole = snapshot(dir.path()) == healthy;
    assert_eq!(
        open_reporting(dir.path()).1,
        [],
        "the second opening repairs again"
    );
    (repairs, whole)
}

#[test]
fn a_healthy_cache_is_left_as_it_is() {
    assert_eq!(repaired(|_, _| ()), (vec![], true));
}

#[test]
fn a_forged_or_missing_sidecar_is_written_anew_and_reported() {
    let name = Release::new("a").artifact(ArtifactKind::Kernel).name;
    let expected = (vec![Repair::SidecarRewritten { name }], true);
    let sidecar = |dir: &Path| dir.join("vmlinuz-plfm-6.1.50-a.sha256");
    assert_eq!(
        repaired(|dir, _| overwrite(&sidecar(dir), b"0000  vmlinuz-plfm-6.1.50-a\n")),
        expected
    );
    assert_eq!(repaired(|dir, _| overwrite(&sidecar(dir), b"")), expected);
    assert_eq!(
        repaired(|dir, _| overwrite(&sidecar(dir), &[b'x'; 10_000])),
        expected
    );
    assert_eq!(
        repaired(|dir, _| fs::remove_file(sidecar(dir)).unwrap()),
        expected
    );
    let link = |dir: &Path, _: &Release| {
        fs::remove_file(sidecar(dir)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", sidecar(dir)).unwrap();
    };
    assert_eq!(repaired(link), expected);
}

#[test]
fn unfinished_files_are_removed() {
    let damage = |dir: &Path, _: &Release| {
        fs::write(dir.join(".staging/0"), "half").unwrap();
        std::os::unix::fs::symlink("x", dir.join(".staging/odd name")).unwrap();
    };
    assert_eq!(
        repaired(damage),
        (vec![Repair::StagingEmptied { files: 2 }], true)
    );
}

#[test]
fn a_name_that_is_missing_or_another_file_leads_to_its_blob_again() {
    let name = Release::new("a").artifact(ArtifactKind::Initramfs).name;
    let expected = (vec![Repair::NameRestored { name: name.clone() }], true);
    assert_eq!(
        repaired(|dir, _| fs::remove_file(dir.join(name.to_string())).unwrap()),
        expected
    );
    assert_eq!(
        repaired(|dir, _| replace(&dir.join(name.to_string()), b"evil")),
        expected
    );
    // A copy is not the blob, though it has its bytes: it could change alone.
    assert_eq!(
        repaired(|dir, release| replace(&dir.join(name.to_string()), &release.initramfs)),
        expected
    );
    let link = |dir: &Path, _: &Release| {
        fs::remove_file(dir.join(name.to_string())).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join(name.to_string())).unwrap();
    };
    assert_eq!(repaired(link), expected);
}

#[test]
fn a_name_whose_blob_is_gone_goes_too() {
    let (repairs, whole) = repaired(|dir, release| {
        fs::remove_file(dir.join(release.blob(ArtifactKind::Kernel))).unwrap();
    });
    let removed = |name: &str| Repair::NameRemoved {
        name: name.to_owned(),
    };
    assert_eq!(
        repairs,
        [
            removed("vmlinuz-plfm-6.1.50-a"),
            removed("vmlinuz-plfm-6.1.50-a.sha256")
        ]
    );
    assert!(!whole);
}

#[test]
fn a_blob_that_is_another_file_than_its_name_is_checked_before_it_is_linked() {
    let (repairs, _) =
        repaired(|dir, release| replace(&dir.join(release.blob(ArtifactKind::Kernel)), b"evil"));
    let name = Release::new("a").artifact(ArtifactKind::Kernel).name;
    assert!(
        matches!(&repairs[0], Repair::Quarantined { name: found, rot: Rot::WrongSize { .. } } if *found == name),
        "{repairs:?}"
    );
    assert!(repairs.contains(&Repair::NameRemoved {
        name: name.to_string()
    }));
}

#[test]
fn names_that_no_release_has_are_removed_and_their_blobs_wait_for_the_next_attempt() {
    let dir = directory();
    let release = Release::new("a");
    let cache = open(dir.path());
    release.install(&cache);
    drop(cache);
    // As if the installation had been cut before its record.
    for suffix in ["json", "installed"] {
        fs::remove_file(dir.path().join(format!(".releases/{}.{suffix}", release.id()))).unwrap();
    }
    let (cache, repairs) = open_reporting(dir.path());
    assert_eq!(repairs.len(), 4, "{repairs:?}");
    assert_eq!(names(dir.path()).len(), 2);
    drop(
        cache
            .stage(&release.manifest(), &mut crate::fixtures::no_source)
            .unwrap(),
    );
    // The name is free again.
    drop(cache);
    let other = Release::of("a", b"other".to_vec(), "a", b"bytes".to_vec());
    other.install(&open(dir.path())).open().unwrap();
}

#[test]
fn files_that_are_not_the_caches_are_left_alone() {
    let dir = directory();
    drop(open(dir.path()));
    for name in [
        "README",
        "vmlinuz",
        "vmlinuz-plfm-6.1.50",
        "initramfs-plfm-guestinit-1.0.0-a.img.bak",
        ".hidden",
    ] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    fs::create_dir(dir.path().join("backup")).unwrap();
    fs::write(dir.path().join(".releases/notes.txt"), "").unwrap();
    let before = snapshot(dir.path());
    let (cache, repairs) = open_reporting(dir.path());
    assert_eq!((repairs, snapshot(dir.path())), (vec![], before));
    assert!(cache.list().unwrap().is_empty());
}

/// The keyring may be the one that is wrong.
#[test]
fn a_release_that_does_not_verify_keeps_its_files_and_comes_back() {
    let dir = directory();
    let release = Release::new("a");
    let cache = open(dir.path());
    cache.set_current(&release.install(&cache)).unwrap();
    drop(cache);
    let before = snapshot(dir.path());
    let (cache, repairs) = Cache::open(
        dir.path(),
        Trust {
            keyring: Keyring::default(),
            ..trust()
        },
    )
    .unwrap();
    assert_eq!((repairs, snapshot(dir.path())), (vec![], before));
    assert_eq!(cache.current().unwrap_err().code(), "manifest_unknown_key");
    drop(cache);
    open(dir.path()).current().unwrap().unwrap().open().unwrap();
}

#[test]
fn a_broken_record_does_not_keep_the_host_from_other_releases() {
    let dir = directory();
    let (a, b) = (Release::new("a"), Release::new("b"));
    let cache = open(dir.path());
    a.install(&cache);
    cache.set_current(&b.install(&cache)).unwrap();
    drop(cache);
    let record = dir.path().join(format!(".releases/{}.json", a.id()));
    let breakages: [fn(&Path); 4] = [
        |record| overwrite(record, b"{"),
        |record| overwrite(record, &[b' '; 100_000]),
        |record| {
            fs::remove_file(record).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", record).unwrap();
        },
        |record| {
            fs::remove_file(record).unwrap();
            fs::create_dir(record).unwrap();
        },
    ];
    for breakage in breakages {
        breakage(&record);
        let (cache, repairs) = open_reporting(dir.path());
        assert_eq!(repairs, []);
        cache.current().unwrap().unwrap().open().unwrap();
        assert_eq!(cache.get(&a.id()).unwrap_err().code(), "release_record_damaged");
        // It does not stand in the way of others either.
        Release::new("c").install(&cache).open().unwrap();
        if record.is_dir() {
            fs::remove_dir(&record).unwrap();
        }
        a.install(&cache).open().unwrap();
    }
}

/// A release whose key was revoked has no claim to a name.
#[test]
fn a_release_that_is_not_trusted_gives_up_its_names_to_one_that_is() {
    use crate::fixtures::{KEY, NEXT_KEY, keyring_without, stage_from, time};
    let dir = directory();
    let cache = open(dir.path());
    let evil = Release::of("a", b"evil kernel".to_vec(), "a", b"evil initramfs".to_vec());
    evil.install(&cache);
    cache.replace_keyring(keyring_without(KEY));
    let good = Release::new("a");
    let later = time("2026-08-01T00:00:00Z");
    let manifest = good.manifest_for(NEXT_KEY, plfm_release::Architecture::X86_64, "production", later);
    let staged = stage_from(&cache, &manifest, |artifact| good.bytes(artifact.kind).to_vec()).unwrap();
    staged.install(later).unwrap().open().unwrap();
    assert_eq!(
        fs::read(dir.path().join("vmlinuz-plfm-6.1.50-a")).unwrap(),
        good.kernel
    );
    let sidecar = fs::read_to_string(dir.path().join("vmlinuz-plfm-6.1.50-a.sha256")).unwrap();
    assert!(sidecar.starts_with(&plfm_release::Sha256Digest::of(&good.kernel).to_string()));
}

#[test]
fn every_repair_says_what_was_done() {
    let name = Release::new("a").artifact(ArtifactKind::Kernel).name;
    let said = |repair: Repair| repair.to_string();
    assert_eq!(
        said(Repair::StagingEmptied { files: 2 }),
        "removed 2 unfinished files from .staging"
    );
    assert_eq!(
        said(Repair::SidecarRewritten { name: name.clone() }),
        "wrote vmlinuz-plfm-6.1.50-a.sha256 anew from the signed manifest"
    );
    assert_eq!(
        said(Repair::Quarantined {
            name,
            rot: Rot::NotAFile
        }),
        "moved vmlinuz-plfm-6.1.50-a to .quarantine: it is not a regular file"
    );
}
