use super::*;

const EPOCH: Epoch = Epoch::from_seconds(1);

/// The smallest program that is one: a header and no segment.
fn program(length: usize) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0, 1]);
    bytes.resize(52, 0);
    bytes.extend_from_slice(&[64, 0, 56, 0]);
    bytes.resize(length.max(64), 0);
    bytes
}

fn code(contents: &InitramfsContents<'_>) -> &'static str {
    build_initramfs(contents, EPOCH, GzipLevel::STORED).map_or_else(|error| error.code(), |_| "built")
}

fn paths(contents: &InitramfsContents<'_>) -> Vec<&'static str> {
    let mut paths: Vec<String> = entries(contents)
        .iter()
        .map(|entry| entry.path.to_owned())
        .collect();
    paths.sort();
    paths.into_iter().map(|path| &*path.leak()).collect()
}

#[test]
fn the_initramfs_holds_init_the_console_and_the_mount_points() {
    let contents = InitramfsContents {
        guest_init: b"x",
        busybox: None,
        ca_bundle: None,
    };
    let expected = [
        "dev",
        "dev/console",
        "dev/null",
        "init",
        "mnt",
        "mnt/lower",
        "mnt/newroot",
        "mnt/scratch",
        "proc",
        "sys",
    ];
    assert_eq!(paths(&contents), expected);
}

#[test]
fn busybox_and_certificates_come_only_when_asked_for() {
    let contents = InitramfsContents {
        guest_init: b"x",
        busybox: Some(b"b"),
        ca_bundle: Some(b"c"),
    };
    let all = paths(&contents);
    for path in ["bin/busybox", "bin/sh", CA_BUNDLE] {
        assert!(all.contains(&path), "{path} is missing");
    }
    assert_eq!(all.len(), 10 + 3 + 4);
}

#[test]
fn the_real_tools_list_the_devices() {
    let init = program(0);
    let contents = InitramfsContents {
        guest_init: &init,
        busybox: None,
        ca_bundle: None,
    };
    let image = build_initramfs(&contents, EPOCH, GzipLevel::STORED)
        .unwrap()
        .bytes;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("image"), image).unwrap();
    let script = "command -v cpio gzip >/dev/null || exit 77; gzip -dc image | cpio -itv --numeric-uid-gid";
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(dir.path())
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        eprintln!("skipped: cpio or gzip is not installed");
        return;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let console = text.lines().find(|line| line.ends_with(" dev/console")).unwrap();
    let fields: Vec<_> = console.split_whitespace().take(6).collect();
    assert_eq!(fields, ["crw-------", "1", "0", "0", "5,", "1"], "{console}");
}

#[test]
fn each_part_has_its_limit() {
    let (init, large) = (program(0), program(GUEST_INIT_BYTES_MAX));
    let contents = InitramfsContents {
        guest_init: &init,
        busybox: None,
        ca_bundle: None,
    };
    assert_eq!(code(&contents), "built");
    assert_eq!(
        code(&InitramfsContents {
            guest_init: &large,
            ..contents
        }),
        "initramfs_too_large"
    );
    let under = &large[..GUEST_INIT_BYTES_MAX - 1];
    assert_eq!(
        code(&InitramfsContents {
            guest_init: under,
            ..contents
        }),
        "built"
    );
    let busybox = Some(&large[..BUSYBOX_BYTES_MAX]);
    assert_eq!(
        code(&InitramfsContents { busybox, ..contents }),
        "initramfs_too_large"
    );
    let bundle = b"-----BEGIN CERTIFICATE-----\n".repeat(20_000);
    let ca_bundle = Some(&bundle[..CA_BUNDLE_BYTES_MAX]);
    assert_eq!(
        code(&InitramfsContents {
            ca_bundle,
            ..contents
        }),
        "initramfs_too_large"
    );
    let ca_bundle = Some(&bundle[..CA_BUNDLE_BYTES_MAX - 1]);
    assert_eq!(
        code(&InitramfsContents {
            ca_bundle,
            ..contents
        }),
        "built"
    );
}

#[test]
fn exactly_20_mib_are_allowed() {
    assert!(check_below("x", &vec![0; INITRAMFS_BYTES_MAX], INITRAMFS_BYTES_MAX + 1).is_ok());
    assert!(check_below("x", &vec![0; INITRAMFS_BYTES_MAX + 1], INITRAMFS_BYTES_MAX + 1).is_err());
}

#[test]
fn what_is_no_program_or_no_bundle_is_refused() {
    let init = program(0);
    let contents = InitramfsContents {
        guest_init: &init,
        busybox: None,
        ca_bundle: None,
    };
    assert_eq!(
        code(&InitramfsContents {
            guest_init: b"#!/bin/sh\n",
            ..contents
        }),
        "elf_malformed"
    );
    assert_eq!(
        code(&InitramfsContents {
            busybox: Some(b"x"),
            ..contents
        }),
        "elf_malformed"
    );
    assert_eq!(
        code(&InitramfsContents {
            ca_bundle: Some(b"x"),
            ..contents
        }),
        "ca_bundle_malformed"
    );
}

#[test]
fn the_epoch_and_the_contents_change_the_bytes_and_nothing_else_does() {
    let (one, two) = (program(100), program(101));
    let build = |guest_init: &[u8], epoch| {
        let contents = InitramfsContents {
            guest_init,
            busybox: None,
            ca_bundle: None,
        };
        build_initramfs(&contents, Epoch::from_seconds(epoch), GzipLevel::STORED)
            .unwrap()
            .sha256
    };
    assert_eq!(build(&one, 5), build(&one, 5));
    assert_ne!(build(&one, 5), build(&one, 6));
    assert_ne!(build(&one, 5), build(&two, 5));
}
