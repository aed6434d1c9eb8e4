//! What is not exactly what was signed is refused, with a stable code, and leaves nothing behind.

use std::path::{Path, PathBuf};

use plfm_release::{Channel, KeyEntry, Keyring, Revocation, SigningKey};
use serde_json::{Value, json};

use crate::boot::{initramfs_of, kernel_of};
use crate::host::{Host, Ran, tool};
use crate::{facts, lab};

facts![
    a_good_release_installs_in_the_specs_layout,
    openssl_and_jq_verify_a_manifest,
    a_manifest_that_was_changed_is_refused,
    ambiguous_or_foreign_manifests_are_refused,
    wrong_revoked_and_expired_keys_are_refused,
    a_staging_manifest_is_refused_in_production,
    swapped_truncated_and_missing_artifacts_are_refused,
    names_that_leave_the_directory_are_refused,
    a_forged_sidecar_makes_nothing_pass,
    an_artifact_changed_after_installation_does_not_boot,
    a_key_revoked_after_installation_stops_the_next_boot,
    a_revocation_takes_effect_without_a_restart_and_leaves_what_runs,
];

/// A copy of the lab's release, to be spoiled.
fn copy_release(host: &Host) -> PathBuf {
    let to = host.path("copy");
    tool(
        "cp",
        &["-r", lab::release().to_str().unwrap(), to.to_str().unwrap()],
    )
    .ok();
    to
}

fn edit_manifest(release: &Path, edit: impl FnOnce(&mut Value)) {
    let path = release.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut manifest);
    std::fs::write(&path, manifest.to_string()).unwrap();
}

/// The lab's key.
pub fn signing_key() -> SigningKey {
    SigningKey::from_pem(&std::fs::read_to_string(lab::key()).unwrap()).unwrap()
}

/// Edits the manifest and signs it again with the trusted key: what is refused then is refused for its content.
fn resign_manifest(release: &Path, edit: impl FnOnce(&mut Value)) {
    edit_manifest(release, |manifest| {
        edit(manifest);
        *manifest = plfm_release::sign(manifest.take(), &signing_key()).unwrap();
    });
}

/// Installing and verifying are both refused with `code`, both name `object`, and nothing is installed.
#[track_caller]
fn assert_refused(host: &Host, release: &Path, code: &str, object: &str) {
    let installed = host.plfm([
        "--output",
        "json",
        "release",
        "install",
        "--current",
        release.to_str().unwrap(),
    ]);
    let keyring = host.path("keyring.json");
    let verified = host.plfm([
        "--output",
        "json",
        "release",
        "verify",
        release.to_str().unwrap(),
        "--keyring",
        keyring.to_str().unwrap(),
    ]);
    for ran in [installed, verified] {
        assert_eq!(ran.code, 1, "{} {}", ran.stdout, ran.stderr);
        let error = ran.json()["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        assert!(
            error["message"].as_str().unwrap().contains(object),
            "{object:?} is not named: {error}"
        );
    }
    assert_eq!(
        host.installed_files(),
        Vec::<String>::new(),
        "something was installed"
    );
}

fn a_good_release_installs_in_the_specs_layout() {
    let host = Host::ready();
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let (kernel, initramfs) = (
        name(kernel_of(&lab::release())),
        name(initramfs_of(&lab::release())),
    );
    let mut expected = vec![
        "current".to_owned(),
        "current-initramfs".to_owned(),
        initramfs.clone(),
        format!("{initramfs}.sha256"),
        kernel.clone(),
        format!("{kernel}.sha256"),
    ];
    expected.sort();
    assert_eq!(host.installed_files(), expected);
    let dir = host.path("state/kernels");
    assert_eq!(
        std::fs::read_link(dir.join("current")).unwrap(),
        PathBuf::from(&kernel)
    );
    assert_eq!(
        std::fs::read_link(dir.join("current-initramfs")).unwrap(),
        PathBuf::from(&initramfs)
    );
    let script = format!(
        "cd '{}' && sha256sum -c --quiet '{kernel}.sha256' '{initramfs}.sha256'",
        dir.display()
    );
    tool("sh", &["-c", &script]).ok();
    assert!(
        kernel.starts_with("vmlinuz-plfm-6.1.") && kernel.ends_with("-20260101a"),
        "{kernel}"
    );
    assert_eq!(initramfs, "initramfs-plfm-guestinit-1.0.0-20260101a.img");
}

fn openssl_and_jq_verify_a_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let (manifest, key) = (
        lab::release().join("manifest.json"),
        lab::dir().join("keys/lab.pub.pem"),
    );
    let verify = |manifest: &Path| {
        let script = format!(
            "cd '{}' && jq -cSj 'del(.signature)' '{m}' > signed && jq -r .signature '{m}' | base64 -d > signature && \
             openssl pkeyutl -verify -pubin -inkey '{}' -rawin -in signed -sigfile signature",
            dir.path().display(),
            key.display(),
            m = manifest.display()
        );
        tool("sh", &["-c", &script])
    };
    assert!(
        verify(&manifest)
            .ok()
            .stdout
            .contains("Signature Verified Successfully")
    );
    let changed = dir.path().join("changed.json");
    let text = std::fs::read_to_string(&manifest)
        .unwrap()
        .replace("20260101a", "20260101b");
    std::fs::write(&changed, text).unwrap();
    assert_ne!(verify(&changed).code, 0);
}

fn a_manifest_that_was_changed_is_refused() {
    let host = Host::empty();
    let release = copy_release(&host);
    edit_manifest(&release, |manifest| {
        manifest["kernel"]["size_bytes"] = json!(manifest["kernel"]["size_bytes"].as_u64().unwrap() ^ 1)
    });
    assert_refused(&host, &release, "manifest_bad_signature", "signature");
    std::fs::copy(
        lab::release().join("manifest.json"),
        release.join("manifest.json"),
    )
    .unwrap();
    edit_manifest(&release, |manifest| manifest["added"] = json!("later"));
    assert_refused(&host, &release, "manifest_bad_signature", "signature");
}

fn ambiguous_or_foreign_manifests_are_refused() {
    let host = Host::empty();
    let release = copy_release(&host);
    let original = std::fs::read_to_string(release.join("manifest.json")).unwrap();
    let write = |text: &str| std::fs::write(release.join("manifest.json"), text).unwrap();
    write(&original.replacen('{', "{\"arch\": \"x86_64\",", 1));
    assert_refused(
        &host,
        &release,
        "manifest_not_json",
        "the key \"arch\" appears twice",
    );
    resign_manifest_text(&release, &original, |manifest| manifest["weight"] = json!(1.5));
    assert_refused(&host, &release, "manifest_not_json", "1.5 is not an integer");
    resign_manifest_text(&release, &original, |manifest| {
        manifest["schema"] = json!("plfm.release-manifest/v2")
    });
    assert_refused(
        &host,
        &release,
        "manifest_unknown_schema",
        "plfm.release-manifest/v2",
    );
    write(&original[..original.len() / 2]);
    assert_refused(&host, &release, "manifest_not_json", "manifest");
}

fn resign_manifest_text(release: &Path, original: &str, edit: impl FnOnce(&mut Value)) {
    std::fs::write(release.join("manifest.json"), original).unwrap();
    resign_manifest(release, edit);
}

fn host_trusting(edit: impl FnOnce(&mut Keyring)) -> Host {
    let mut keyring = Keyring::parse(&std::fs::read(lab::keyring()).unwrap()).unwrap();
    edit(&mut keyring);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyring.json");
    std::fs::write(&path, keyring.render()).unwrap();
    Host::with_keyring(&path)
}

fn entry(key: &SigningKey, not_before: &str, not_after: &str) -> KeyEntry {
    let channels = vec![Channel::production()];
    KeyEntry::new(
        key.public_key(),
        channels,
        not_before.parse().unwrap(),
        not_after.parse().unwrap(),
    )
}

fn only(entry: KeyEntry) -> impl FnOnce(&mut Keyring) {
    |keyring| {
        *keyring = Keyring::default();
        keyring.insert(entry).unwrap();
    }
}

fn wrong_revoked_and_expired_keys_are_refused() {
    let key = signing_key();
    let id = key.public_key().id();
    let other = SigningKey::from_seed(&zeroize::Zeroizing::new([9; 32]));
    let host = host_trusting(only(entry(
        &other,
        "2020-01-01T00:00:00Z",
        "2099-01-01T00:00:00Z",
    )));
    assert_refused(&host, &lab::release(), "manifest_unknown_key", &id.to_string());
    let host = host_trusting(|keyring| {
        keyring
            .revoke(
                id,
                Revocation {
                    at: "2026-01-01T00:00:00Z".parse().unwrap(),
                    reason: "stolen".into(),
                },
            )
            .unwrap();
    });
    assert_refused(&host, &lab::release(), "manifest_revoked_key", "stolen");
    let host = host_trusting(only(entry(&key, "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z")));
    assert_refused(&host, &lab::release(), "manifest_expired_key", "2021-01-01");
    let host = host_trusting(only(entry(&key, "2098-01-01T00:00:00Z", "2099-01-01T00:00:00Z")));
    assert_refused(&host, &lab::release(), "manifest_key_not_yet_valid", "2098-01-01");
}

fn a_staging_manifest_is_refused_in_production() {
    // One key may sign for both channels: it is the channel that is refused, not the key.
    let key = signing_key();
    let mut both = entry(&key, "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z");
    both.channels.push("staging".parse().unwrap());
    let host = host_trusting(only(both));
    let release = copy_release(&host);
    resign_manifest(&release, |manifest| manifest["channel"] = json!("staging"));
    assert_refused(&host, &release, "manifest_wrong_channel", "staging");
    let host = Host::empty();
    let release = copy_release(&host);
    resign_manifest(&release, |manifest| manifest["channel"] = json!("staging"));
    assert_refused(&host, &release, "manifest_key_not_for_channel", "staging");
}

fn swapped_truncated_and_missing_artifacts_are_refused() {
    let host = Host::empty();
    let release = copy_release(&host);
    let (kernel, initramfs) = (kernel_of(&release), initramfs_of(&release));
    let (kernel_name, initramfs_name) = ("vmlinuz-plfm-", "initramfs-plfm-guestinit-");
    for sidecar in [&kernel, &initramfs] {
        std::fs::remove_file(format!("{}.sha256", sidecar.display())).unwrap();
    }
    let spoil = |path: &Path, content: &[u8], code: &str, name: &str| {
        let good = std::fs::read(path).unwrap();
        std::fs::write(path, content).unwrap();
        assert_refused(&host, &release, code, name);
        std::fs::write(path, good).unwrap();
    };
    let kernel_bytes = std::fs::read(&kernel).unwrap();
    let initramfs_bytes = std::fs::read(&initramfs).unwrap();
    let flipped = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    spoil(
        &kernel,
        &flipped(&kernel_bytes),
        "artifact_digest_mismatch",
        kernel_name,
    );
    spoil(
        &initramfs,
        &flipped(&initramfs_bytes),
        "artifact_digest_mismatch",
        initramfs_name,
    );
    spoil(
        &kernel,
        &kernel_bytes[..kernel_bytes.len() - 1],
        "artifact_truncated",
        kernel_name,
    );
    spoil(&initramfs, &[], "artifact_truncated", initramfs_name);
    let longer = [initramfs_bytes.as_slice(), b"x"].concat();
    spoil(&initramfs, &longer, "artifact_too_long", initramfs_name);
    // The other signed release's initramfs, and the manifest of that release over these files.
    let other = std::fs::read(initramfs_of(&lab::release_b())).unwrap();
    let padded: Vec<u8> = other
        .iter()
        .copied()
        .chain(std::iter::repeat(0))
        .take(initramfs_bytes.len())
        .collect();
    spoil(&initramfs, &padded, "artifact_digest_mismatch", initramfs_name);
    std::fs::copy(
        lab::release_b().join("manifest.json"),
        release.join("manifest.json"),
    )
    .unwrap();
    std::fs::rename(
        &initramfs,
        release.join(initramfs_of(&lab::release_b()).file_name().unwrap()),
    )
    .unwrap();
    std::fs::rename(
        &kernel,
        release.join(kernel_of(&lab::release_b()).file_name().unwrap()),
    )
    .unwrap();
    let refused = host.plfm([
        "--output",
        "json",
        "release",
        "install",
        release.to_str().unwrap(),
    ]);
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert_eq!(host.installed_files(), Vec::<String>::new());
}

fn names_that_leave_the_directory_are_refused() {
    let host = Host::empty();
    let release = copy_release(&host);
    let original = std::fs::read_to_string(release.join("manifest.json")).unwrap();
    for bad in ["..", "../../etc/x", "a/b", "a\nb", "", "A"] {
        resign_manifest_text(&release, &original, |manifest| {
            manifest["kernel"]["build_id"] = json!(bad)
        });
        assert_refused(&host, &release, "manifest_malformed", "build id");
        resign_manifest_text(&release, &original, |manifest| {
            manifest["initramfs"]["guest_init_version"] = json!(bad)
        });
        assert_refused(&host, &release, "manifest_malformed", "guest init version");
    }
}

fn a_forged_sidecar_makes_nothing_pass() {
    let host = Host::empty();
    let release = copy_release(&host);
    let kernel = kernel_of(&release);
    let mut bytes = std::fs::read(&kernel).unwrap();
    bytes[4096] ^= 1;
    std::fs::write(&kernel, &bytes).unwrap();
    let name = kernel.file_name().unwrap().to_str().unwrap();
    let forged = format!("{}  {name}\n", plfm_release::Sha256Digest::of(&bytes));
    std::fs::write(format!("{}.sha256", kernel.display()), forged).unwrap();
    let installed = host.plfm([
        "--output",
        "json",
        "release",
        "install",
        release.to_str().unwrap(),
    ]);
    assert_eq!(
        (installed.code, &installed.json()["error"]["code"]),
        (1, &"artifact_digest_mismatch".into())
    );
    assert_eq!(host.installed_files(), Vec::<String>::new());
}

/// An attempt to boot, and the error that it gave.
pub fn refused_boot(host: &Host) -> (Ran, Value) {
    let disk = lab::root_disk();
    let ran = host.plfm([
        "--output",
        "json",
        "run",
        "--rootdisk",
        disk.to_str().unwrap(),
        "--",
        "/bin/true",
    ]);
    let error = ran.json()["error"].clone();
    (ran, error)
}

fn an_artifact_changed_after_installation_does_not_boot() {
    let host = Host::ready();
    host.run_script("true").ok();
    let kernel = host.path("state/kernels/current");
    let mut bytes = std::fs::read(&kernel).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // In place, as a disk that rots or an intruder would: the same inode, the same size.
    let real = std::fs::canonicalize(&kernel).unwrap();
    tool("chmod", &["u+w", real.to_str().unwrap()]).ok();
    std::fs::write(&real, &bytes).unwrap();
    let (ran, error) = refused_boot(&host);
    assert_eq!(
        (ran.code, &error["code"]),
        (125, &"artifact_rotted".into()),
        "{error}"
    );
    assert!(
        error["message"].as_str().unwrap().contains("vmlinuz-plfm-"),
        "{error}"
    );
    host.plfm([
        "release",
        "install",
        "--current",
        lab::release().to_str().unwrap(),
    ])
    .ok();
    host.run_script("true").ok();
}

fn a_key_revoked_after_installation_stops_the_next_boot() {
    let mut host = Host::ready();
    host.stop_agent();
    let id = signing_key().public_key().id().to_string();
    let keyring = host.path("keyring.json");
    host.plfm([
        "release",
        "keys",
        "revoke",
        "--keyring",
        keyring.to_str().unwrap(),
        &id,
        "--reason",
        "stolen",
    ])
    .ok();
    host.start_agent();
    let (ran, error) = refused_boot(&host);
    assert_eq!(
        (ran.code, &error["code"]),
        (125, &"manifest_revoked_key".into()),
        "{error}"
    );
    let listed = host.plfm(["release", "list"]).ok().stdout;
    assert!(
        listed.contains("refused") && listed.contains("stolen"),
        "{listed}"
    );
}

fn a_revocation_takes_effect_without_a_restart_and_leaves_what_runs() {
    let host = Host::ready();
    let running = host.start_script(&["--no-network"], "sleep 600");
    let id = signing_key().public_key().id().to_string();
    let keyring = host.path("keyring.json");
    host.plfm([
        "release",
        "keys",
        "revoke",
        "--keyring",
        keyring.to_str().unwrap(),
        &id,
        "--reason",
        "stolen",
    ])
    .ok();
    host.signal_agent("HUP", "keyring read again");
    let (ran, error) = refused_boot(&host);
    assert_eq!(
        (ran.code, &error["code"]),
        (125, &"manifest_revoked_key".into()),
        "{error}"
    );
    let list = host.json(["ps"]);
    assert_eq!(
        (&list["items"][0]["id"], &list["items"][0]["state"]),
        (&running["id"], &"running".into())
    );
    std::fs::write(&keyring, "{").unwrap();
    host.signal_agent("HUP", "the keyring stays as it was");
    assert_eq!(
        refused_boot(&host).1["code"],
        "manifest_revoked_key",
        "a broken file changes nothing"
    );
}
