//! What is refused, with which code, and that nothing of it stays.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use jiff::Timestamp;
use plfm_cache::{Cache, InstallError, StageError, Trust};
use plfm_release::{Architecture, Artifact, ArtifactKind, Protocol, VerifiedManifest};
use serde_json::json;
use tempfile::TempDir;

use crate::fixtures::{
    KEY, KEY_END, NEXT_KEY, Release, directory, keyring_without, now, open, snapshot, stage_from, time, trust,
};
use crate::test_disk::TestDisk;

/// A cache in which one good release is current, and what is in its directory.
fn in_use() -> (TempDir, Cache, BTreeMap<String, String>) {
    let dir = directory();
    let cache = open(dir.path());
    let installed = Release::new("good").install(&cache);
    cache.set_current(&installed).unwrap();
    let before = snapshot(dir.path());
    (dir, cache, before)
}

/// The code of the refusal of these bytes, with nothing of them left.
#[track_caller]
fn stage_refusal(release: &Release, source: impl Fn(&Artifact) -> Vec<u8>) -> (&'static str, String) {
    let (dir, cache, before) = in_use();
    let error = stage_from(&cache, &release.manifest(), source).expect_err("staged");
    assert_untouched(dir.path(), &cache, &before, release);
    (error.code(), error.to_string())
}

#[track_caller]
fn assert_untouched(dir: &Path, cache: &Cache, before: &BTreeMap<String, String>, refused: &Release) {
    assert_eq!(snapshot(dir), *before, "something of what was refused is left");
    assert_eq!(cache.list().unwrap().len(), 1);
    assert_eq!(cache.current().unwrap().unwrap().id(), &Release::new("good").id());
    if refused.id() != Release::new("good").id() {
        assert_eq!(
            cache.get(&refused.id()).unwrap_err().code(),
            "release_not_installed"
        );
    }
}

#[test]
fn a_truncated_artifact_is_refused_at_every_length() {
    let release = Release::new("a");
    for kind in ArtifactKind::ALL {
        for length in [0, 1, release.bytes(kind).len() - 1] {
            let (code, message) = stage_refusal(&release, |artifact| {
                let bytes = release.bytes(artifact.kind);
                if artifact.kind == kind {
                    bytes[..length].to_vec()
                } else {
                    bytes.to_vec()
                }
            });
            assert_eq!(code, "artifact_truncated");
            let Artifact { name, size_bytes, .. } = release.artifact(kind);
            assert_eq!(
                message,
                format!("artifact {name} ended after {length} bytes; its manifest announces {size_bytes}")
            );
        }
    }
}

#[test]
fn an_artifact_that_is_too_long_is_refused() {
    let release = Release::new("a");
    for kind in ArtifactKind::ALL {
        let (code, message) = stage_refusal(&release, |artifact| {
            let mut bytes = release.bytes(artifact.kind).to_vec();
            if artifact.kind == kind {
                bytes.push(0);
            }
            bytes
        });
        assert_eq!(code, "artifact_too_long");
        assert!(
            message.contains(&release.artifact(kind).name.to_string()),
            "{message}"
        );
    }
}

#[test]
fn endless_data_is_cut_where_the_manifest_ends() {
    struct Counted(u64, std::rc::Rc<std::cell::Cell<u64>>);
    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(b'x');
            self.0 += buffer.len() as u64;
            self.1.set(self.0);
            Ok(buffer.len())
        }
    }
    let dir = directory();
    let disk = Arc::new(TestDisk::new(dir.path()));
    let (cache, _) = Cache::open_on(disk.clone(), trust()).unwrap();
    let release = Release::new("a");
    let taken = std::rc::Rc::new(std::cell::Cell::new(0));
    let mut source = |_: &Artifact| Ok(Box::new(Counted(0, taken.clone())) as Box<dyn Read>);
    let error = cache.stage(&release.manifest(), &mut source).unwrap_err();
    assert_eq!(error.code(), "artifact_too_long");
    let announced = release.kernel.len() as u64;
    assert_eq!(
        disk.bytes_written.load(SeqCst),
        announced,
        "more than announced was written"
    );
    assert_eq!(taken.get(), announced + 1, "more than one byte too many was read");
    assert!(snapshot(dir.path()).is_empty());
}

#[test]
fn other_bytes_of_the_same_length_are_refused() {
    let release = Release::new("a");
    for kind in ArtifactKind::ALL {
        for index in [0, release.bytes(kind).len() - 1] {
            let (code, message) = stage_refusal(&release, |artifact| {
                let mut bytes = release.bytes(artifact.kind).to_vec();
                if artifact.kind == kind {
                    bytes[index] ^= 1;
                }
                bytes
            });
            assert_eq!(code, "artifact_digest_mismatch");
            assert!(
                message.contains(&release.artifact(kind).sha256.to_string()),
                "{message}"
            );
        }
    }
}

#[test]
fn kernel_and_initramfs_swapped_are_refused() {
    let release = Release::new("a");
    let swapped = |release: &Release, artifact: &Artifact| match artifact.kind {
        ArtifactKind::Kernel => release.initramfs.clone(),
        ArtifactKind::Initramfs => release.kernel.clone(),
    };
    assert_eq!(
        stage_refusal(&release, |artifact| swapped(&release, artifact)).0,
        "artifact_truncated"
    );
    let even = Release::of("a", vec![1; 4096], "a", vec![2; 4096]);
    assert_eq!(
        stage_refusal(&even, |artifact| swapped(&even, artifact)).0,
        "artifact_digest_mismatch"
    );
}

#[test]
fn both_artifacts_of_another_signed_release_are_refused() {
    let (release, other) = (Release::new("a"), Release::new("b"));
    assert_eq!(release.kernel.len(), other.kernel.len());
    let (code, _) = stage_refusal(&release, |artifact| other.bytes(artifact.kind).to_vec());
    assert_eq!(code, "artifact_digest_mismatch");
    // One of the two is enough.
    for kind in ArtifactKind::ALL {
        let of = |artifact: &Artifact| if artifact.kind == kind { &other } else { &release };
        let (code, _) = stage_refusal(&release, |artifact| of(artifact).bytes(artifact.kind).to_vec());
        assert_eq!(code, "artifact_digest_mismatch");
    }
}

#[test]
fn a_source_that_fails_is_named_and_leaves_nothing() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(1)
                .ok_or_else(|| io::Error::other("the network is gone"))?;
            buffer[0] = b'k';
            Ok(1)
        }
    }
    let release = Release::new("a");
    type Source = fn() -> io::Result<Box<dyn Read>>;
    let sources: [Source; 2] = [
        || Err(io::Error::other("the network is gone")),
        || Ok(Box::new(Broken(100))),
    ];
    for source in sources {
        let (dir, cache, before) = in_use();
        let error = cache.stage(&release.manifest(), &mut |_| source()).unwrap_err();
        assert_eq!(error.code(), "artifact_source_error");
        assert!(error.to_string().contains("vmlinuz-plfm-6.1.50-a"), "{error}");
        assert_eq!(error.source().unwrap().to_string(), "the network is gone");
        assert_untouched(dir.path(), &cache, &before, &release);
    }
}

#[test]
fn an_installed_name_never_gets_other_bytes() {
    let good = Release::new("good");
    let other_kernel = Release::of("good", b"other kernel".to_vec(), "b", b"initramfs b".to_vec());
    let other_initramfs = Release::of("b", b"kernel b".to_vec(), "good", b"other initramfs".to_vec());
    let both = Release::of(
        "good",
        b"other kernel".to_vec(),
        "good",
        b"other initramfs".to_vec(),
    );
    for release in [other_kernel, other_initramfs, both] {
        let (code, message) = stage_refusal(&release, |_| panic!("asked for before the refusal"));
        assert_eq!(code, "artifact_name_conflict");
        assert!(
            message.contains(&good.id().to_string()) && message.contains("build id"),
            "{message}"
        );
    }
}

#[test]
fn two_releases_with_one_name_that_were_staged_at_once_do_not_both_install() {
    let dir = directory();
    let cache = open(dir.path());
    let (a, b) = (
        Release::new("x"),
        Release::of("x", b"other".to_vec(), "y", b"initramfs y".to_vec()),
    );
    let (first, second) = (a.stage(&cache).unwrap(), b.stage(&cache).unwrap());
    first.install(now()).unwrap();
    let error = second.install(now()).unwrap_err();
    assert_eq!(error.code(), "artifact_name_conflict");
    assert_eq!(cache.list().unwrap().len(), 1);
    cache.get(&a.id()).unwrap().open().unwrap();
}

/// The code of the refusal to install a release that was staged, with nothing of it left.
#[track_caller]
fn install_refusal(
    trust: Trust,
    manifest: &VerifiedManifest,
    release: &Release,
    at: Timestamp,
) -> &'static str {
    let (dir, cache, before) = in_use();
    drop(cache);
    let (cache, _) = Cache::open(dir.path(), trust).unwrap();
    let staged = stage_from(&cache, manifest, |artifact| release.bytes(artifact.kind).to_vec()).unwrap();
    let error = staged.install(at).expect_err("installed");
    drop(cache);
    assert_eq!(
        snapshot(dir.path()),
        before,
        "something of what was refused is left"
    );
    error.code()
}

#[test]
fn a_release_for_a_newer_agent_is_refused() {
    let release = Release::new("a").with("/compatibility/min_agent_version", json!("1.2.1"));
    assert_eq!(
        install_refusal(trust(), &release.manifest(), &release, now()),
        "agent_too_old"
    );
}

#[test]
fn a_release_with_a_protocol_that_the_agent_does_not_speak_is_refused() {
    let release = Release::new("a");
    let trust = Trust {
        protocols: vec![Protocol(2)],
        ..trust()
    };
    assert_eq!(
        install_refusal(trust, &release.manifest(), &release, now()),
        "guest_init_protocol_mismatch"
    );
}

#[test]
fn a_manifest_that_another_policy_verified_is_refused() {
    let staging = Release::new("a").with("/channel", json!("staging"));
    let manifest = staging.manifest_for(KEY, Architecture::X86_64, "staging", now());
    assert_eq!(
        install_refusal(trust(), &manifest, &staging, now()),
        "manifest_wrong_channel"
    );
    let arm = Release::new("a").with("/arch", json!("aarch64"));
    let manifest = arm.manifest_for(KEY, Architecture::Aarch64, "production", now());
    assert_eq!(
        install_refusal(trust(), &manifest, &arm, now()),
        "manifest_wrong_architecture"
    );
}

#[test]
fn a_key_that_ended_or_was_revoked_between_verification_and_installation_is_refused() {
    let release = Release::new("a");
    let manifest = release.manifest();
    assert_eq!(
        install_refusal(trust(), &manifest, &release, time(KEY_END)),
        "manifest_expired_key"
    );
    let revoked = Trust {
        keyring: keyring_without(KEY),
        ..trust()
    };
    assert_eq!(
        install_refusal(revoked, &manifest, &release, now()),
        "manifest_revoked_key"
    );
    let next = release.manifest_for(NEXT_KEY, Architecture::X86_64, "production", time(KEY_END));
    assert_eq!(
        install_refusal(trust(), &next, &release, now()),
        "manifest_key_not_yet_valid"
    );
}

#[test]
fn a_refusal_to_install_is_a_chain_that_names_release_and_reason() {
    let dir = directory();
    let release = Release::new("a").with("/compatibility/min_agent_version", json!("2.0.0"));
    let error = release
        .stage(&open(dir.path()))
        .unwrap()
        .install(now())
        .unwrap_err();
    assert!(matches!(error, InstallError::Incompatible { .. }));
    assert_eq!(
        error.to_string(),
        "release 6.1.50-a+guestinit-1.0.0-a does not fit this agent"
    );
    assert_eq!(
        error.source().unwrap().to_string(),
        "the release needs agent 2.0.0 or later; this agent is 1.2.0"
    );
}

#[test]
fn an_artifact_that_vanished_between_staging_and_installation_is_not_installed() {
    let (dir, cache, _) = in_use();
    let good = Release::new("good");
    let shares_kernel = Release::of("good", good.kernel.clone(), "b", b"initramfs b".to_vec());
    let staged = shares_kernel.stage(&cache).unwrap();
    std::fs::remove_file(dir.path().join(good.blob(ArtifactKind::Kernel))).unwrap();
    let error = staged.install(now()).unwrap_err();
    assert_eq!(error.code(), "artifact_lost");
    assert_eq!(
        cache.get(&shares_kernel.id()).unwrap_err().code(),
        "release_not_installed"
    );
    // Staged again, it is asked for again.
    shares_kernel.install(&cache).open().unwrap();
}

#[test]
fn stage_errors_are_few_and_have_stable_codes() {
    // A new kind of refusal forces a decision here.
    let code = |error: &StageError| match error {
        StageError::Truncated { .. } => "artifact_truncated",
        StageError::TooLong { .. } => "artifact_too_long",
        StageError::DigestMismatch { .. } => "artifact_digest_mismatch",
        StageError::NameConflict(_) => "artifact_name_conflict",
        StageError::Source { .. } => "artifact_source_error",
        StageError::DiskFull { .. } => "cache_disk_full",
        StageError::Disk(error) => error.code(),
    };
    let dir = directory();
    let cache = open(dir.path());
    let error = stage_from(&cache, &Release::new("a").manifest(), |_| Vec::new()).unwrap_err();
    assert_eq!(error.code(), code(&error));
}
