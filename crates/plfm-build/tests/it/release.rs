//! Putting a release together and writing it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use plfm_build::{Overwrite, ProvenanceStatus, Written, assemble, verify_dir};

use crate::fixture::{inputs, key, keyring, policy, program, release, written};

const KERNEL: &str = "vmlinuz-plfm-6.1.192-20251217a";
const INITRAMFS: &str = "initramfs-plfm-guestinit-1.0.0-20251217a.img";

#[test]
fn a_release_has_the_specs_names_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("release");
    written(&out);
    let mut names: Vec<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let kernel_sidecar = format!("{KERNEL}.sha256");
    let initramfs_sidecar = format!("{INITRAMFS}.sha256");
    let expected = [
        INITRAMFS,
        &initramfs_sidecar,
        "kernel.config",
        "manifest.json",
        "provenance.json",
        KERNEL,
        &kernel_sidecar,
    ];
    assert_eq!(names, expected);
    let verified = verify_dir(&out, &keyring(), &policy()).unwrap();
    assert_eq!(verified.provenance, ProvenanceStatus::Signed);
    assert_eq!(
        verified.manifest.manifest().release_id().to_string(),
        "6.1.192-20251217a+guestinit-1.0.0-20251217a"
    );
}

#[test]
fn the_manifest_has_every_member_of_the_spec() {
    let release = release("production");
    let document: serde_json::Value = serde_json::from_slice(&release.files()["manifest.json"]).unwrap();
    let members = [
        "/kernel/version",
        "/kernel/build_id",
        "/kernel/sha256",
        "/kernel/config_sha256",
        "/initramfs/guest_init_version",
        "/initramfs/guest_init_protocol",
        "/initramfs/build_id",
        "/initramfs/sha256",
        "/initramfs/size_bytes",
        "/compatibility/min_agent_version",
        "/compatibility/supported_protocols",
        "/signature",
    ];
    for member in members {
        assert!(document.pointer(member).is_some(), "{member} is missing");
    }
    assert!(release.files()["manifest.json"].ends_with(b"}\n"));
}

#[test]
fn the_same_inputs_give_the_same_files() {
    assert_eq!(release("production").files(), release("production").files());
}

#[test]
fn sha256sum_takes_the_sidecars() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("release");
    written(&out);
    let script = "command -v sha256sum >/dev/null || exit 77; cat *.sha256 | sha256sum --check --strict";
    let status = Command::new("sh")
        .args(["-c", script])
        .current_dir(&out)
        .output()
        .unwrap()
        .status;
    if status.code() == Some(77) {
        eprintln!("skipped: no sha256sum");
        return;
    }
    assert!(status.success());
}

#[test]
fn openssl_and_jq_take_the_manifests_signature() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("release");
    written(&out);
    fs::write(dir.path().join("key.pem"), key('A').public_key().to_pem()).unwrap();
    let script = "command -v jq openssl base64 >/dev/null || exit 77
        jq -cSj 'del(.signature)' release/manifest.json > signed && jq -j .signature release/manifest.json | base64 -d > sig \
        && openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in signed -sigfile sig";
    let verify = || {
        Command::new("sh")
            .args(["-c", script])
            .current_dir(dir.path())
            .output()
            .unwrap()
    };
    let output = verify();
    if output.status.code() == Some(77) {
        eprintln!("skipped: no jq or openssl");
        return;
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let manifest = out.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"production\"", "\"staging\"")).unwrap();
    assert!(!verify().status.success(), "a changed manifest passed");
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("release");
    written(&out);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(out.clone()), mode(out.join(KERNEL))), (0o755, 0o644));
}

#[test]
fn writing_the_same_release_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("release");
    let release = release("production");
    assert_eq!(release.write(&out, Overwrite::Refuse).unwrap(), Written::New);
    assert_eq!(
        release.write(&out, Overwrite::Refuse).unwrap(),
        Written::Unchanged
    );
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1, "a temporary directory was left");
}

#[test]
fn another_release_is_replaced_only_when_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("release");
    written(&out);
    let mut other = inputs("production");
    other.guest_init.program = program(2000);
    let other = assemble(&other, &key('A')).unwrap();
    let error = other.write(&out, Overwrite::Refuse).unwrap_err();
    assert_eq!(error.code(), "output_other_release");
    assert!(
        error.to_string().ends_with("20251217a, with other bytes"),
        "{error}"
    );
    assert_eq!(
        fs::read(out.join("manifest.json")).unwrap(),
        release("production").files()["manifest.json"]
    );
    assert_eq!(other.write(&out, Overwrite::Replace).unwrap(), Written::Replaced);
    assert_eq!(
        fs::read(out.join("manifest.json")).unwrap(),
        other.files()["manifest.json"]
    );
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "the old release was left"
    );
}

#[test]
fn a_directory_that_is_no_release_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "years").unwrap();
    let error = release("production")
        .write(dir.path(), Overwrite::Replace)
        .unwrap_err();
    assert_eq!(error.code(), "output_not_a_release");
    assert_eq!(
        fs::read_to_string(dir.path().join("thesis.txt")).unwrap(),
        "years"
    );
}

#[test]
fn an_empty_directory_is_as_good_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("release");
    fs::create_dir(&out).unwrap();
    assert_eq!(
        release("production").write(&out, Overwrite::Refuse).unwrap(),
        Written::New
    );
}

#[test]
fn a_protocol_that_the_release_does_not_support_is_refused_before_it_is_signed_for_good() {
    let mut inputs = inputs("production");
    inputs.guest_init_protocol = plfm_release::Protocol(2);
    assert_eq!(
        assemble(&inputs, &key('A')).unwrap_err().code(),
        "manifest_malformed"
    );
}

/// A static program that says it was built to fail.
fn faulty_program(fault: &str) -> Vec<u8> {
    let mut program = program(1000);
    program.extend(format!("plfm-faulty-guest-init:{fault};").into_bytes());
    program
}

#[test]
fn a_guest_init_that_is_built_to_fail_is_released_for_the_lab_alone() {
    // Whatever the fault: also one that only a later version knows.
    for fault in ["hang", "kernel-panic", "network", "slow", "later"] {
        for channel in ["production", "staging", "prod-eu", "lab-two"] {
            let mut inputs = inputs(channel);
            inputs.guest_init.program = faulty_program(fault);
            let error = assemble(&inputs, &key('A')).unwrap_err();
            assert_eq!(error.code(), "guest_init_faulty");
            assert_eq!(
                error.to_string(),
                format!(
                    "guest init is built to fail ({fault}), and a release for {channel} must not have that"
                )
            );
        }
        let mut inputs = inputs("lab");
        inputs.guest_init.program = faulty_program(fault);
        assert_eq!(
            assemble(&inputs, &key('A'))
                .unwrap()
                .manifest()
                .channel
                .to_string(),
            "lab"
        );
    }
}
