//! A boot gets bytes that are verified now, whatever happened since they were installed.

use std::error::Error as _;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use plfm_cache::{Cache, OpenArtifactError, Rot};
use plfm_release::{ArtifactKind, Sha256Digest};

use crate::fixtures::{
    KEY, KEY_END, Release, directory, keyring_without, names, now, open, open_reporting, overwrite, replace,
    time, trust,
};
use crate::test_disk::TestDisk;

/// Does something to a blob of an installed release, and expects that it is not booted, but quarantined.
#[track_caller]
fn rots(tamper: impl Fn(&Path, &Release)) -> Rot {
    let (mut last, release) = (None, Release::new("a"));
    for kind in ArtifactKind::ALL {
        let dir = directory();
        let cache = open(dir.path());
        let installed = release.install(&cache);
        let blob = dir.path().join(release.blob(kind));
        tamper(&blob, &release);
        let error = installed.open().unwrap_err();
        assert_eq!(error.code(), "artifact_rotted");
        let name = release.artifact(kind).name.to_string();
        assert!(error.to_string().contains(&name), "{error}");
        assert!(blob.symlink_metadata().is_err(), "it is still there");
        assert!(
            dir.path()
                .join(".quarantine")
                .join(blob.file_name().unwrap())
                .symlink_metadata()
                .is_ok()
        );
        assert!(error.source().is_some());
        let OpenArtifactError::Rotted { source, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(installed.open().unwrap_err().code(), "artifact_missing");
        // Delivered again, it boots again, and the name is right.
        release.install(&cache).open().unwrap();
        installed.open().unwrap();
        assert_eq!(fs::read(dir.path().join(&name)).unwrap(), release.bytes(kind));
        last = Some(source);
    }
    last.unwrap()
}

#[test]
fn a_flipped_bit_is_found() {
    let rot = rots(|blob, _| {
        let mut bytes = fs::read(blob).unwrap();
        bytes[100] ^= 0x10;
        overwrite(blob, &bytes);
    });
    assert!(matches!(rot, Rot::WrongDigest { .. }));
}

#[test]
fn a_truncated_and_an_extended_artifact_are_found() {
    assert!(matches!(
        rots(|blob, _| overwrite(blob, b"short")),
        Rot::WrongSize { found: 5, .. }
    ));
    let longer =
        |blob: &Path, _: &Release| overwrite(blob, &[fs::read(blob).unwrap(), b"x".to_vec()].concat());
    assert!(matches!(rots(longer), Rot::WrongSize { .. }));
}

#[test]
fn another_file_in_its_place_is_found() {
    let rot = rots(|blob, release| {
        let other = if fs::read(blob).unwrap() == release.kernel {
            &release.initramfs
        } else {
            &release.kernel
        };
        replace(blob, other);
    });
    assert!(matches!(rot, Rot::WrongSize { .. }));
}

/// Even to the very bytes that were signed: what it leads to can change after it was read.
#[test]
fn a_symbolic_link_in_its_place_is_found() {
    let rot = rots(|blob, _| {
        let good = blob.with_file_name("good");
        fs::copy(blob, &good).unwrap();
        fs::remove_file(blob).unwrap();
        symlink(&good, blob).unwrap();
    });
    assert_eq!(rot, Rot::NotAFile);
}

#[test]
fn a_pipe_in_its_place_is_found_and_not_waited_for() {
    let rot = rots(|blob, _| {
        fs::remove_file(blob).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            blob,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
    });
    assert_eq!(rot, Rot::NotAFile);
}

#[test]
fn a_directory_in_its_place_is_found_even_twice() {
    let tamper = |blob: &Path, _: &Release| {
        fs::remove_file(blob).unwrap();
        fs::create_dir(blob).unwrap();
        fs::write(blob.join("x"), "").unwrap();
    };
    assert_eq!(rots(tamper), Rot::NotAFile);
    // Something is in the way in the quarantine.
    rots(|blob, release| {
        let taken = blob
            .parent()
            .unwrap()
            .with_file_name(".quarantine")
            .join(blob.file_name().unwrap());
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("x"), "").unwrap();
        tamper(blob, release);
        fs::rename(taken, blob.with_file_name("unused")).unwrap();
    });
}

#[test]
fn a_second_rot_of_one_artifact_is_quarantined_too() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let blob = release.blob(ArtifactKind::Kernel);
    for attempt in 0..3 {
        release.install(&cache).open().unwrap();
        if attempt == 1 {
            fs::remove_file(dir.path().join(&blob)).unwrap();
            fs::create_dir(dir.path().join(&blob)).unwrap();
        } else {
            overwrite(&dir.path().join(&blob), b"rotten");
        }
        assert_eq!(
            cache.get(&release.id()).unwrap().open().unwrap_err().code(),
            "artifact_rotted"
        );
    }
    release.install(&cache).open().unwrap();
}

#[test]
fn kernel_and_initramfs_swapped_on_the_disk_are_found() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::of("a", vec![1; 4096], "a", vec![2; 4096]);
    let installed = release.install(&cache);
    let [kernel, initramfs] = ArtifactKind::ALL.map(|kind| dir.path().join(release.blob(kind)));
    fs::rename(&kernel, dir.path().join("x")).unwrap();
    fs::rename(&initramfs, &kernel).unwrap();
    fs::rename(dir.path().join("x"), &initramfs).unwrap();
    let error = installed.open().unwrap_err();
    let announced = Sha256Digest::of(&release.kernel);
    let found = Sha256Digest::of(&release.initramfs);
    assert!(
        matches!(error, OpenArtifactError::Rotted { source: Rot::WrongDigest { found: f, announced: a }, .. } if f == found && a == announced)
    );
}

#[test]
fn both_artifacts_of_another_installed_release_in_their_place_are_found() {
    let dir = directory();
    let cache = open(dir.path());
    let (a, b) = (Release::new("a"), Release::new("b"));
    let (installed_a, installed_b) = (a.install(&cache), b.install(&cache));
    for kind in ArtifactKind::ALL {
        fs::copy(dir.path().join(b.blob(kind)), dir.path().join("x")).unwrap();
        fs::rename(dir.path().join("x"), dir.path().join(a.blob(kind))).unwrap();
    }
    assert_eq!(installed_a.open().unwrap_err().code(), "artifact_rotted");
    installed_b.open().unwrap();
}

#[test]
fn the_manifest_of_another_signed_release_is_no_manifest_of_this_one() {
    let dir = directory();
    let cache = open(dir.path());
    let (a, b) = (Release::new("a"), Release::new("b"));
    a.install(&cache);
    b.install(&cache);
    for suffix in ["json", "installed"] {
        let path = |release: &Release| dir.path().join(format!(".releases/{}.{suffix}", release.id()));
        fs::remove_file(path(&a)).unwrap();
        fs::copy(path(&b), path(&a)).unwrap();
    }
    let error = cache.get(&a.id()).unwrap_err();
    assert_eq!(error.code(), "release_record_damaged");
    assert!(error.to_string().contains(&b.id().to_string()), "{error}");
}

#[test]
fn a_stored_manifest_with_one_bit_changed_is_refused_and_the_others_are_not() {
    let dir = directory();
    let cache = open(dir.path());
    let (a, b) = (Release::new("a"), Release::new("b"));
    a.install(&cache);
    b.install(&cache);
    let record = dir.path().join(format!(".releases/{}.json", a.id()));
    let good = fs::read(&record).unwrap();
    for index in (0..good.len() * 8).step_by(37) {
        let mut bytes = good.clone();
        bytes[index / 8] ^= 1 << (index % 8);
        overwrite(&record, &bytes);
        assert!(cache.get(&a.id()).is_err(), "bit {index}");
    }
    let list = cache.list().unwrap();
    assert_eq!(
        list.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(),
        [a.id(), b.id()]
    );
    assert!(list[0].1.is_err() && list[1].1.is_ok());
    // Installed again, it is whole.
    a.install(&cache).open().unwrap();
    assert_eq!(fs::read(&record).unwrap(), good);
}

#[test]
fn a_stored_manifest_without_its_moment_of_installation_is_refused_until_it_is_installed_again() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    release.install(&cache);
    let times = dir.path().join(format!(".releases/{}.installed", release.id()));
    for content in [
        "",
        "2026-01-15T12:00:00Z",
        "2026-01-15T12:00:00Z  00",
        "yesterday  x\n",
    ] {
        overwrite(&times, content.as_bytes());
        assert_eq!(
            cache.get(&release.id()).unwrap_err().code(),
            "release_record_damaged",
            "{content}"
        );
    }
    release.install(&cache);
    fs::remove_file(&times).unwrap();
    assert_eq!(
        cache.get(&release.id()).unwrap_err().code(),
        "release_record_damaged"
    );
    release.install(&cache).open().unwrap();
}

#[test]
fn a_forged_sidecar_makes_nothing_pass_and_breaks_nothing() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let installed = release.install(&cache);
    let forge = |content: &[u8]| {
        let forged = format!(
            "{}  {}\n",
            Sha256Digest::of(content),
            release.artifact(ArtifactKind::Kernel).name
        );
        overwrite(
            &dir.path().join("vmlinuz-plfm-6.1.50-a.sha256"),
            forged.as_bytes(),
        );
    };
    forge(b"evil");
    installed.open().unwrap();
    // With the kernel that it is for.
    overwrite(&dir.path().join(release.blob(ArtifactKind::Kernel)), b"evil");
    assert_eq!(installed.open().unwrap_err().code(), "artifact_rotted");
}

#[test]
fn the_names_of_a_rotten_artifact_disappear_with_it() {
    let dir = directory();
    let cache = open(dir.path());
    let a = Release::new("a");
    a.install(&cache);
    // Another name for the same kernel.
    let b = Release::of("b", a.kernel.clone(), "b", b"initramfs b".to_vec());
    let installed = b.install(&cache);
    overwrite(&dir.path().join("vmlinuz-plfm-6.1.50-a"), b"rotten");
    installed.open().unwrap_err();
    let visible: Vec<_> = names(dir.path())
        .into_iter()
        .filter(|name| !name.starts_with('.'))
        .collect();
    assert_eq!(
        visible,
        [
            "initramfs-plfm-guestinit-1.0.0-a.img",
            "initramfs-plfm-guestinit-1.0.0-a.img.sha256",
            "initramfs-plfm-guestinit-1.0.0-b.img",
            "initramfs-plfm-guestinit-1.0.0-b.img.sha256",
        ]
    );
    drop((cache, installed));
    // Still consistent, and once the kernel is there for one release, the other has it too.
    let (cache, repairs) = open_reporting(dir.path());
    assert_eq!(repairs, []);
    a.install(&cache).open().unwrap();
    cache.get(&b.id()).unwrap().open().unwrap();
    drop(cache);
    let (_, repairs) = open_reporting(dir.path());
    assert_eq!(repairs.len(), 2, "name and sidecar of the other: {repairs:?}");
    assert_eq!(
        fs::read(dir.path().join("vmlinuz-plfm-6.1.50-b")).unwrap(),
        b.kernel
    );
}

#[test]
fn revocation_stops_the_next_boot_of_a_release_already_in_hand() {
    let dir = directory();
    let cache = open(dir.path());
    let installed = Release::new("a").install(&cache);
    installed.open().unwrap();
    cache.replace_keyring(keyring_without(KEY));
    assert_eq!(installed.open().unwrap_err().code(), "manifest_revoked_key");
    assert_eq!(
        cache.get(installed.id()).unwrap_err().code(),
        "manifest_revoked_key"
    );
    assert_eq!(
        cache.list().unwrap()[0].1.as_ref().unwrap_err().code(),
        "manifest_revoked_key"
    );
    // Nothing was deleted: a revocation by mistake can be taken back.
    cache.replace_keyring(crate::fixtures::keyring());
    installed.open().unwrap();
}

#[test]
fn the_end_of_a_key_stops_no_boot_of_what_was_installed_before() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let staged = release.stage(&cache).unwrap();
    staged.install(time("2026-05-31T23:59:59Z")).unwrap();
    // Time is not asked again; only installing needs a valid key.
    cache.get(&release.id()).unwrap().open().unwrap();
    let again = release.stage(&cache).unwrap().install(time(KEY_END)).unwrap();
    assert_eq!(again.installed_at(), time("2026-05-31T23:59:59Z"));
}

#[test]
fn an_agent_that_became_too_old_does_not_get_the_release() {
    let dir = directory();
    let release = Release::new("a").with("/compatibility/min_agent_version", serde_json::json!("1.2.0"));
    release.install(&open(dir.path()));
    let downgraded = plfm_cache::Trust {
        agent_version: "1.1.0".parse().unwrap(),
        ..trust()
    };
    let (cache, repairs) = Cache::open(dir.path(), downgraded).unwrap();
    assert_eq!(repairs, []);
    assert_eq!(cache.get(&release.id()).unwrap_err().code(), "agent_too_old");
}

#[test]
fn a_file_that_was_opened_is_the_file_that_was_verified() {
    let dir = directory();
    let release = Release::new("a");
    let installed = release.install(&open(dir.path()));
    let pair = installed.open().unwrap();
    // Between verification and boot.
    for kind in ArtifactKind::ALL {
        replace(&dir.path().join(release.blob(kind)), b"evil");
    }
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
fn many_boots_at_once_get_the_pair_while_releases_come_and_go() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let installed = release.install(&cache);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let pair = installed.open().unwrap();
                    assert_eq!(
                        io::read_to_string(pair.kernel).unwrap().as_bytes(),
                        release.kernel
                    );
                }
            });
        }
        for build in ["b", "c", "d"] {
            let other = Release::new(build).stage(&cache).unwrap().install(now()).unwrap();
            cache.set_current(&other).unwrap();
        }
    });
}

#[test]
fn a_good_file_that_took_the_place_of_a_rotten_one_meanwhile_is_not_quarantined() {
    let dir = directory();
    let disk = Arc::new(TestDisk::new(dir.path()));
    let (cache, _) = Cache::open_on(disk.clone(), trust()).unwrap();
    let release = Release::new("a");
    let installed = release.install(&cache);
    let blob = dir.path().join(release.blob(ArtifactKind::Kernel));
    let mut evil = release.kernel.clone();
    evil[0] ^= 1;
    overwrite(&blob, &evil);
    let good = release.kernel.clone();
    *disk.during_read.lock().unwrap() = Some(Box::new(move || replace(&blob, &good)));
    assert_eq!(installed.open().unwrap_err().code(), "artifact_rotted");
    installed.open().unwrap();
}

#[test]
fn a_rot_found_by_many_boots_at_once_is_quarantined_once_and_no_good_file_with_it() {
    let dir = directory();
    let cache = open(dir.path());
    let release = Release::new("a");
    let installed = release.install(&cache);
    for _ in 0..10 {
        overwrite(&dir.path().join(release.blob(ArtifactKind::Kernel)), b"rotten");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    if let Err(error) = installed.open() {
                        assert!(
                            ["artifact_rotted", "artifact_missing"].contains(&error.code()),
                            "{error}"
                        );
                    }
                });
            }
            while release.stage(&cache).unwrap().install(now()).is_err() {}
        });
        installed.open().unwrap();
    }
}
