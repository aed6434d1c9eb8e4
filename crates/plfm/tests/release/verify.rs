use std::fs;

use crate::fixture::Fixture;

const KEYRING: &str = "keys/dev.keyring.json";
const KERNEL: &str = "release/vmlinuz-plfm-6.1.7-20251217a";

/// A release that was built; `None`, said aloud, where it can't be.
fn built() -> Option<Fixture> {
    let fixture = Fixture::new();
    let ran = fixture.build(&[])?;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    Some(fixture)
}

#[test]
fn a_good_release_is_verified() {
    let Some(fixture) = built() else { return };
    let ran = fixture.plfm(&[
        "release",
        "verify",
        "release",
        "--keyring",
        KEYRING,
        "--channel",
        "staging",
    ]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let text: String = ran
        .stdout
        .lines()
        .filter(|line| !line.contains("vmlinuz"))
        .map(|l| format!("{l}\n"))
        .collect();
    insta::assert_snapshot!(text, @r"
    verified 6.1.7-20251217a+guestinit-1.0.0-20251217a for staging on x86_64
      initramfs   initramfs-plfm-guestinit-1.0.0-20251217a.img  2.28 KiB  sha256:HEX
      signature   good, key HEX
      provenance  good, same key, about these artifacts
    ");
}

#[test]
fn a_staging_release_is_refused_by_default() {
    let Some(fixture) = built() else { return };
    let ran = fixture.plfm(&["release", "verify", "release", "--keyring", KEYRING]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    insta::assert_snapshot!(ran.stderr, @r"
    error: release/manifest.json is not to be trusted: the manifest is for channel staging; this host takes production
    hint: if that is the channel you mean, pass --channel staging
    ");
}

#[test]
fn a_refused_release_is_exit_code_1_with_a_stable_code() {
    let Some(fixture) = built() else { return };
    let verify = || {
        let args = [
            "release",
            "verify",
            "release",
            "--keyring",
            KEYRING,
            "--channel",
            "staging",
        ];
        let (report, code) = fixture.json(&args);
        (
            code,
            report["error"]["code"].as_str().unwrap_or("none").to_owned(),
        )
    };
    assert_eq!(verify(), (0, "none".to_owned()));
    let kernel = fs::read(fixture.path(KERNEL)).unwrap();
    fs::write(fixture.path(KERNEL), &kernel[1..]).unwrap();
    assert_eq!(verify(), (1, "artifact_truncated".to_owned()));
    fs::remove_file(fixture.path(KERNEL)).unwrap();
    assert_eq!(verify(), (1, "artifact_missing".to_owned()));
    fs::write(fixture.path(KERNEL), &kernel).unwrap();
    assert_eq!(verify(), (0, "none".to_owned()));
    fs::write(fixture.path("release/manifest.json"), "{\"a\":1,\"a\":1}").unwrap();
    assert_eq!(verify(), (1, "manifest_not_json".to_owned()));
}

#[test]
fn the_moment_of_verifying_can_be_given() {
    let Some(fixture) = built() else { return };
    let at = [
        "release",
        "verify",
        "release",
        "--keyring",
        KEYRING,
        "--channel",
        "staging",
        "--at",
    ];
    let code = |time: &str| {
        let (report, code) = fixture.json(&[&at[..], &[time]].concat());
        (
            code,
            report["error"]["code"].as_str().unwrap_or("none").to_owned(),
        )
    };
    assert_eq!(
        code("2020-01-01T00:00:00Z"),
        (1, "manifest_key_not_yet_valid".to_owned())
    );
    assert_eq!(
        code("2120-01-01T00:00:00Z"),
        (1, "manifest_expired_key".to_owned())
    );
    assert_eq!(fixture.plfm(&[&at[..], &["yesterday"]].concat()).code, 2);
}

#[test]
fn show_says_loudly_that_nobody_checked() {
    let Some(fixture) = built() else { return };
    let ran = fixture.plfm(&["release", "show", "release/manifest.json"]);
    let text: String = ran
        .stdout
        .lines()
        .filter(|line| !line.contains("vmlinuz"))
        .map(|l| format!("{l}\n"))
        .collect();
    insta::assert_snapshot!(text, @r"
    release 6.1.7-20251217a+guestinit-1.0.0-20251217a
      signature   NOT CHECKED (says key HEX); pass --keyring to check it
      channel     staging (standard, x86_64)
      initramfs   initramfs-plfm-guestinit-1.0.0-20251217a.img  2.28 KiB  sha256:HEX
      format      elf-pvh
      config      sha256:HEX
      guest init  protocol 1
      agent       1.0.0 or later, protocols 1
      source      unknown commit, 2025-12-17T19:33:20Z
      (the artifacts themselves: `plfm release verify`)
    ");
    let (report, _) = fixture.json(&["release", "show", "release"]);
    assert_eq!(report["signature"]["checked"], false);
    let (report, _) = fixture.json(&["release", "show", "release", "--keyring", KEYRING]);
    assert_eq!(report["signature"]["checked"], true);
}

#[test]
fn show_with_a_keyring_refuses_a_changed_manifest() {
    let Some(fixture) = built() else { return };
    let path = fixture.path("release/manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"standard\"", "\"debug\"")).unwrap();
    let (report, code) = fixture.json(&["release", "show", "release", "--keyring", KEYRING]);
    assert_eq!(
        (code, &report["error"]["code"]),
        (1, &"manifest_bad_signature".into())
    );
}
