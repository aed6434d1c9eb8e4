//! A release that somebody changed: each way is refused, with an error that names the object.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use plfm_build::{Overwrite, VerifyDirError, assemble, verify_dir};
use plfm_release::{Keyring, Revocation, VerifyPolicy};
use proptest::prelude::*;

use crate::fixture::{inputs, key, keyring, policy, program, release, written};

const KERNEL: &str = "vmlinuz-plfm-6.1.192-20251217a";
const INITRAMFS: &str = "initramfs-plfm-guestinit-1.0.0-20251217a.img";

struct Fixture {
    _dir: tempfile::TempDir,
    out: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("release");
        written(&out);
        Self { _dir: dir, out }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    fn verify(&self) -> Result<(), VerifyDirError> {
        verify_dir(&self.out, &keyring(), &policy()).map(|_| ())
    }

    #[track_caller]
    fn refused(&self, code: &str, naming: &str) {
        let error = self.verify().unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().contains(naming)),
            (code, true),
            "{error}"
        );
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(name)).unwrap();
        change(&mut bytes);
        fs::write(self.path(name), bytes).unwrap();
    }
}

#[test]
fn a_missing_artifact_is_named() {
    for (name, kind) in [(KERNEL, "the kernel "), (INITRAMFS, "the initramfs ")] {
        let fixture = Fixture::new();
        fs::remove_file(fixture.path(name)).unwrap();
        fixture.refused("artifact_missing", kind);
    }
}

#[test]
fn a_truncated_or_longer_artifact_is_refused() {
    for name in [KERNEL, INITRAMFS] {
        let fixture = Fixture::new();
        fixture.edit(name, |bytes| bytes.truncate(bytes.len() - 1));
        fixture.refused("artifact_truncated", name);
        fixture.edit(name, |bytes| bytes.extend([0, 0]));
        fixture.refused("artifact_too_long", name);
    }
}

#[test]
fn one_changed_bit_in_an_artifact_is_refused() {
    for name in [KERNEL, INITRAMFS] {
        let fixture = Fixture::new();
        fixture.edit(name, |bytes| bytes[500] ^= 1);
        fixture.refused("artifact_digest_mismatch", name);
    }
}

#[test]
fn a_changed_artifact_with_a_forged_digest_file_is_refused() {
    let fixture = Fixture::new();
    fixture.edit(KERNEL, |bytes| bytes[0] ^= 1);
    let digest = plfm_release::Sha256Digest::of(&fs::read(fixture.path(KERNEL)).unwrap());
    fs::write(
        fixture.path(&format!("{KERNEL}.sha256")),
        format!("{digest}  {KERNEL}\n"),
    )
    .unwrap();
    fixture.refused("artifact_digest_mismatch", KERNEL);
}

#[test]
fn a_digest_file_that_disagrees_is_named_and_an_absent_one_is_not_missed() {
    let fixture = Fixture::new();
    let sidecar = format!("{INITRAMFS}.sha256");
    fixture.edit(&sidecar, |bytes| {
        bytes[0] = if bytes[0] == b'0' { b'1' } else { b'0' }
    });
    fixture.refused("sidecar_mismatch", &sidecar);
    fs::remove_file(fixture.path(&sidecar)).unwrap();
    fixture.verify().unwrap();
}

#[test]
fn both_artifacts_of_another_signed_release_are_refused() {
    let fixture = Fixture::new();
    let mut other = inputs("production");
    other.guest_init.program = program(1000 + 4);
    other.kernel.image = b"Kernel image".repeat(1000);
    let other = assemble(&other, &key('A')).unwrap();
    for name in [KERNEL, INITRAMFS] {
        fs::write(fixture.path(name), &other.files()[name]).unwrap();
        fs::write(
            fixture.path(&format!("{name}.sha256")),
            &other.files()[&format!("{name}.sha256")],
        )
        .unwrap();
    }
    fixture.refused("artifact_digest_mismatch", "the kernel ");
    fs::write(fixture.path(KERNEL), &release("production").files()[KERNEL]).unwrap();
    fixture.refused("sidecar_mismatch", "the kernel");
}

#[test]
fn a_link_in_an_artifacts_place_is_refused() {
    let fixture = Fixture::new();
    let elsewhere = fixture.path("../kernel");
    fs::rename(fixture.path(KERNEL), &elsewhere).unwrap();
    symlink(&elsewhere, fixture.path(KERNEL)).unwrap();
    fixture.refused("not_a_regular_file", KERNEL);
}

#[test]
fn a_fifo_in_the_manifests_place_is_refused_at_once() {
    let fixture = Fixture::new();
    let path = fixture.path("manifest.json");
    fs::remove_file(&path).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    fixture.refused("not_a_regular_file", "manifest.json");
}

#[test]
fn a_missing_and_a_huge_manifest_are_refused() {
    let fixture = Fixture::new();
    fixture.edit("manifest.json", |bytes| bytes.resize(1 << 20, b' '));
    fixture.refused("file_too_long", "manifest.json");
    fs::remove_file(fixture.path("manifest.json")).unwrap();
    fixture.refused("manifest_missing", "manifest.json");
}

#[test]
fn a_staging_release_is_refused_in_production_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("release");
    release("staging").write(&out, Overwrite::Refuse).unwrap();
    let error = verify_dir(&out, &keyring(), &policy()).unwrap_err();
    assert_eq!(error.code(), "manifest_wrong_channel");
    assert!(error.hint().unwrap().contains("--channel staging"));
    let policy = VerifyPolicy {
        channel: "staging".parse().unwrap(),
        ..policy()
    };
    verify_dir(&out, &keyring(), &policy).unwrap();
}

#[test]
fn unknown_revoked_and_expired_keys_are_refused() {
    let fixture = Fixture::new();
    let code = |keyring: &Keyring, policy: &VerifyPolicy| {
        verify_dir(&fixture.out, keyring, policy).unwrap_err().code()
    };
    assert_eq!(code(&Keyring::default(), &policy()), "manifest_unknown_key");
    let late = VerifyPolicy {
        at: "2026-01-01T00:00:00Z".parse().unwrap(),
        ..policy()
    };
    assert_eq!(code(&keyring(), &late), "manifest_expired_key");
    let mut revoked = keyring();
    let revocation = Revocation {
        at: policy().at,
        reason: "lost".to_owned(),
    };
    revoked.revoke(key('A').public_key().id(), revocation).unwrap();
    assert_eq!(code(&revoked, &policy()), "manifest_revoked_key");
}

#[test]
fn a_changed_kernel_configuration_is_refused() {
    let fixture = Fixture::new();
    fixture.edit("kernel.config", |bytes| bytes[0] ^= 1);
    fixture.refused("kernel_config_mismatch", "kernel.config");
}

#[test]
fn a_foreign_provenance_is_refused_and_an_absent_one_is_reported() {
    let fixture = Fixture::new();
    let other_key = assemble(&inputs("production"), &key('B')).unwrap();
    fs::write(
        fixture.path("provenance.json"),
        &other_key.files()["provenance.json"],
    )
    .unwrap();
    fixture.refused("provenance_bad_signature", "provenance.json");
    let mut other = inputs("production");
    other.kernel.image = b"other".to_vec();
    let other = assemble(&other, &key('A')).unwrap();
    fs::write(fixture.path("provenance.json"), &other.files()["provenance.json"]).unwrap();
    fixture.refused("provenance_wrong_subject", "provenance.json");
    fs::write(fixture.path("provenance.json"), "{}").unwrap();
    fixture.refused("provenance_malformed", "provenance.json");
    fs::remove_file(fixture.path("provenance.json")).unwrap();
    let verified = verify_dir(&fixture.out, &keyring(), &policy()).unwrap();
    assert_eq!(verified.provenance, plfm_build::ProvenanceStatus::Absent);
}

fn with_manifest(dir: &Path, bytes: &[u8]) -> Result<(), VerifyDirError> {
    fs::write(dir.join("manifest.json"), bytes).unwrap();
    verify_dir(dir, &keyring(), &policy()).map(|_| ())
}

#[test]
fn ambiguous_and_foreign_manifests_are_refused() {
    let fixture = Fixture::new();
    let good = fs::read_to_string(fixture.path("manifest.json")).unwrap();
    let cases = [
        (
            good.replacen('{', "{\"channel\": \"production\",", 1),
            "manifest_not_json",
        ),
        (
            good.replace("\"size_bytes\": 12000", "\"size_bytes\": 12000.0"),
            "manifest_not_json",
        ),
        (
            good.replace("plfm.release-manifest/v1", "plfm.release-manifest/v9"),
            "manifest_unknown_schema",
        ),
        (
            good.replace("\"20251217a\"", "\"../../etc\""),
            "manifest_malformed",
        ),
        (good.replace("\"20251217a\"", "\"2025\\n\""), "manifest_malformed"),
        (good.replace("\"20251217a\"", "\"a/b\""), "manifest_malformed"),
        (good.replace("6.1.192", "6.1.193"), "manifest_bad_signature"),
        (good.replacen('{', "{\"added\": 1,", 1), "manifest_bad_signature"),
        (String::new(), "manifest_not_json"),
    ];
    for (text, code) in cases {
        assert_ne!(text, good);
        assert_eq!(
            with_manifest(&fixture.out, text.as_bytes()).unwrap_err().code(),
            code,
            "{text}"
        );
    }
    with_manifest(&fixture.out, good.as_bytes()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_changed_bit_of_the_manifest_goes_unnoticed(position: prop::sample::Index, bit in 0u8..8) {
        let fixture = Fixture::new();
        let good = fs::read(fixture.path("manifest.json")).unwrap();
        let mut bad = good.clone();
        let index = position.index(bad.len());
        bad[index] ^= 1 << bit;
        // White space between members is not signed: only what the document means is.
        let same = serde_json::from_slice::<serde_json::Value>(&bad).ok()
            == serde_json::from_slice::<serde_json::Value>(&good).ok();
        prop_assert_eq!(with_manifest(&fixture.out, &bad).is_ok(), same, "byte {}", index);
    }
}
