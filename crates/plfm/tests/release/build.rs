use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::fixture::{Fixture, content};

/// Sizes of a kernel of one instruction are the assembler's affair.
fn without_sizes(text: &str) -> String {
    let kernel = |line: &str| line.trim_start().starts_with("kernel ");
    text.lines()
        .map(|line| match line.split_once("  sha256:") {
            Some((rest, digest)) if kernel(line) => {
                let name = rest.trim_end().rsplit_once("  ").map_or(rest, |(name, _)| name);
                format!("{name}  SIZE  sha256:{digest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn build_prints_what_was_built() {
    let fixture = Fixture::new();
    let Some(ran) = fixture.build(&[]) else { return };
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    insta::assert_snapshot!(without_sizes(&ran.stdout), @r"
    built 6.1.7-20251217a+guestinit-1.0.0-20251217a (staging, standard; kernel compiled)
      kernel     vmlinuz-plfm-6.1.7-20251217a  SIZE  sha256:HEX
      initramfs  initramfs-plfm-guestinit-1.0.0-20251217a.img  2.28 KiB  sha256:HEX
      unpacked   2.26 KiB at each boot
      signed     key HEX
      source     not from a repository
      directory  release (new)
    ");
    insta::assert_snapshot!(ran.stderr, @r"
    hashing the kernel's source …
    unpacking the kernel's source …
    configuring the kernel …
    compiling the kernel …
    packing the initramfs …
    writing the release …
    ");
}

#[test]
fn the_same_build_is_unchanged_and_another_one_needs_force() {
    let fixture = Fixture::new();
    let Some(first) = fixture.build(&[]) else { return };
    assert_eq!(first.code, 0, "{}", first.stderr);
    let before = content(&fixture.path("release"));
    let again = fixture.build(&[]).unwrap();
    assert!(
        again.stdout.contains("kernel cached") && again.stdout.contains("(unchanged)"),
        "{}",
        again.stdout
    );
    let other = fixture.build(&["--gzip-level", "9"]).unwrap();
    assert_eq!(other.code, 5);
    insta::assert_snapshot!(other.stderr.lines().rev().take(2).collect::<Vec<_>>().join("\n"), @r"
    hint: pass another --build-id or --out, or --force to replace it
    error: release holds another release: 6.1.7-20251217a+guestinit-1.0.0-20251217a, with other bytes
    ");
    assert_eq!(content(&fixture.path("release")), before);
    let forced = fixture.build(&["--gzip-level", "9", "--force"]).unwrap();
    assert!(forced.stdout.contains("(replaced)"), "{}", forced.stdout);
    assert_ne!(content(&fixture.path("release")), before);
}

#[test]
fn the_release_is_the_same_from_another_directory_with_another_umask_and_locale() {
    let (one, two) = (Fixture::new(), Fixture::new());
    let Some(first) = one.build(&[]) else { return };
    assert_eq!(first.code, 0, "{}", first.stderr);
    fs::create_dir(two.path("keys")).unwrap();
    fs::copy(one.path("keys/dev.key"), two.path("keys/dev.key")).unwrap();
    // Makes the inputs; the release itself is then built anew by the shell.
    two.build(&["--jobs", "3"]).unwrap();
    fs::rename(two.path("release"), two.path("elsewhere")).unwrap();
    let script = "umask 077; \"$0\" release build --key keys/dev.key --out release --epoch 1766000000 \
        --kernel-source linux.tar --kernel-config fragment --guest-init guest-init --guest-init-version 1.0.0 \
        --kernel-cache other-cache";
    let status = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_plfm")])
        .current_dir(two.path("."))
        .env("LC_ALL", "de_DE.UTF-8")
        .env("TZ", "Pacific/Kiritimati")
        .output()
        .unwrap();
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stderr)
    );
    assert!(
        content(&one.path("release")) == content(&two.path("release")),
        "the bytes differ"
    );
    let mode = fs::metadata(two.path("release/manifest.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[test]
fn json_output_is_one_document_with_the_artifacts() {
    let fixture = Fixture::new();
    let Some(ran) = fixture.build(&["--output", "json"]) else {
        return;
    };
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["artifacts"][0]["name"], "vmlinuz-plfm-6.1.7-20251217a");
    assert_eq!(report["kernel"]["origin"], "compiled");
}

#[test]
fn without_a_commit_an_epoch_is_asked_for() {
    let fixture = Fixture::new();
    fixture.generate();
    let ran = fixture.plfm(&["release", "build", "--key", "keys/dev.key", "--out", "release"]);
    assert_eq!(ran.code, 2);
    insta::assert_snapshot!(ran.stderr, @r"
    error: there is no commit to take the build's time from
    hint: pass --epoch SECONDS or set SOURCE_DATE_EPOCH, for example to `date +%s`
    ");
    assert!(!fixture.path("release").exists());
}

#[test]
fn a_key_that_is_not_there_is_not_found_and_one_that_others_read_is_warned_about() {
    let fixture = Fixture::new();
    let (report, code) = fixture.json(&["release", "build", "--key", "none.key"]);
    assert_eq!(
        (code, &report["error"]["code"]),
        (4, &"signing_key_unreadable".into())
    );
    fixture.generate();
    fs::set_permissions(fixture.path("keys/dev.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let ran = fixture.plfm(&["release", "build", "--key", "keys/dev.key"]);
    assert!(
        ran.stderr.starts_with("warning: others can read the signing key"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_dynamic_busybox_is_refused_with_its_library() {
    let fixture = Fixture::new();
    fs::write(fixture.path("main.c"), "int main(void) { return 0; }").unwrap();
    let mut gcc = std::process::Command::new("gcc");
    gcc.args(["main.c", "-o", "busybox"])
        .current_dir(fixture.path("."));
    if !gcc.status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no gcc");
        return;
    }
    let Some(ran) = fixture.build(&["--with-busybox=busybox"]) else {
        return;
    };
    assert_eq!(ran.code, 1);
    let error = ran.stderr.lines().find(|line| line.starts_with("error")).unwrap();
    insta::assert_snapshot!(error, @"error: the release has no initramfs: a program for the initramfs cannot run there: busybox is dynamically linked: it needs the library libc.so.6");
}

#[test]
fn a_guest_init_that_is_built_to_fail_goes_nowhere_but_to_the_lab() {
    let fixture = Fixture::new();
    fixture.generate();
    // Asked for: refused before anything is compiled.
    let args = [
        "release",
        "build",
        "--key",
        "keys/dev.key",
        "--epoch",
        "1766000000",
    ];
    let fault = ["--fault", "hang", "--channel", "production"];
    let ran = fixture.plfm(&[&args[..], &fault].concat());
    assert_eq!(ran.code, 2);
    insta::assert_snapshot!(ran.stderr, @r"
    error: guest init is built to fail (hang), and a release for production must not have that
    hint: build guest init without a fault, or the release with --channel lab
    ");
    // Brought along: known by its bytes, whatever it is called.
    let mark = "plfm-faulty-guest-init:hang;";
    let Some(ran) = fixture.build_with(mark.as_bytes(), &["--channel", "production"]) else {
        return;
    };
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(
        ran.stderr.contains("error: guest init is built to fail (hang)"),
        "{}",
        ran.stderr
    );
    assert!(!fixture.path("release").exists());
    let ran = fixture
        .build_with(mark.as_bytes(), &["--channel", "lab"])
        .unwrap();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let said = "fault      guest init is built to fail: hang";
    assert!(ran.stdout.contains(said), "{}", ran.stdout);
}
