//! What a guest sees of its machine, and what we see of its end.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use plfm_vmm::{Disk, DiskAccess, ExitCause};

use crate::lab::{Lab, end_of, entries, trial};

pub fn trials(lab: &Result<Lab, String>) -> Vec<Trial> {
    vec![
        trial(lab, "a_guest_boots_prints_and_ends_by_reset", boots),
        trial(
            lab,
            "the_end_is_the_same_however_often_it_is_waited_for",
            waits_twice,
        ),
        trial(
            lab,
            "disks_are_vda_vdb_vdc_in_order_and_read_only_is_refused",
            disks,
        ),
        trial(lab, "a_kernel_panic_is_detected", panics),
        trial(lab, "the_console_log_is_bounded", floods),
        trial(lab, "two_processors_and_more_memory_boot", big),
    ]
}

async fn boots(lab: Lab, dir: PathBuf) {
    let exit = lab.run(lab.config(&dir, "hello")).await;
    assert_eq!(exit.cause, ExitCause::GuestReset);
    assert!(exit.status.unwrap().success());
    assert_eq!(exit.kernel_panic, None);
    assert_eq!(exit.to_string(), "guest reset its machine");
    assert!(exit.console_tail.contains("hello\r\n"), "{}", exit.console_tail);
    assert!(
        exit.console_tail.contains("rng=virtio_rng.0"),
        "{}",
        exit.console_tail
    );
    assert!(
        exit.console_tail
            .contains("console=ttyS0 quiet panic=-1 reboot=t acpi=off pci=off"),
        "{}",
        exit.console_tail
    );
    assert_eq!(entries(&dir), ["console.log"]);
    assert_eq!(
        std::fs::read_to_string(dir.join("console.log")).unwrap(),
        exit.console_tail
    );
}

async fn waits_twice(lab: Lab, dir: PathBuf) {
    let vm = lab.start(lab.config(&dir, "hello")).await;
    assert!(vm.exit().is_none());
    let (first, second) = tokio::join!(end_of(&vm), end_of(&vm));
    let third = end_of(&vm).await;
    let killed = vm.kill().await;
    for other in [second, third, killed, vm.exit().unwrap()] {
        assert_eq!(format!("{first:?}"), format!("{other:?}"));
    }
}

fn disk(dir: &Path, name: &str, access: DiskAccess) -> Disk {
    let path = dir.join(name);
    let file = std::fs::File::create_new(&path).unwrap();
    file.set_len(1 << 20).unwrap();
    file.write_all_at(format!("{name:_<8}").as_bytes(), 0).unwrap();
    Disk { path, access }
}

async fn disks(lab: Lab, dir: PathBuf) {
    let images = tempfile::tempdir().unwrap();
    // A comma separates options in QEMU's lists; in a path it must not.
    let names = ["root", "scratch", "data,1", "data2", "data3"];
    let access = [
        DiskAccess::ReadOnly,
        DiskAccess::ReadWrite,
        DiskAccess::ReadWrite,
        DiskAccess::ReadOnly,
    ];
    let access = access.into_iter().chain([DiskAccess::ReadWrite]);
    let mut config = lab.config(&dir, "disks");
    config.disks = names
        .iter()
        .zip(access)
        .map(|(name, access)| disk(images.path(), name, access))
        .collect();
    let disks = config.disks.clone();
    let exit = lab.run(config).await;
    for (name, letter) in names.iter().zip('a'..) {
        let line = format!("vd{letter} holds {name:_<8}\r\n");
        assert!(
            exit.console_tail.contains(&line),
            "{line:?} in {}",
            exit.console_tail
        );
    }
    for (disk, letter) in disks.iter().zip('a'..) {
        let mut bytes = [0; 8];
        std::fs::File::open(&disk.path)
            .unwrap()
            .read_exact_at(&mut bytes, 512)
            .unwrap();
        let (line, on_disk) = match disk.access {
            DiskAccess::ReadOnly => (format!("vd{letter} write: Operation not permitted\r\n"), [0; 8]),
            DiskAccess::ReadWrite => (format!("vd{letter} write: ok\r\n"), *b"written!"),
        };
        assert!(
            exit.console_tail.contains(&line),
            "{line:?} in {}",
            exit.console_tail
        );
        assert_eq!(bytes, on_disk, "vd{letter}");
    }
}

async fn panics(lab: Lab, dir: PathBuf) {
    let exit = lab.run(lab.config(&dir, "panic")).await;
    let panic = exit.kernel_panic.as_deref().unwrap();
    assert!(
        panic.starts_with("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000700"),
        "{panic}"
    );
    assert_eq!(exit.cause, ExitCause::GuestReset);
}

async fn floods(lab: Lab, dir: PathBuf) {
    let mut config = lab.config(&dir, "flood");
    config.console_bytes_max = 10_000;
    let exit = lab.run(config).await;
    assert_eq!(
        exit.cause,
        ExitCause::GuestReset,
        "a full log does not stop the guest"
    );
    assert!(exit.console_truncated);
    let log = std::fs::read_to_string(dir.join("console.log")).unwrap();
    // The kernel may have a word first.
    assert!(
        log.lines().take(3).any(|line| line.starts_with("line 000000")),
        "{log}"
    );
    assert!(
        log.ends_with("\n[console output beyond the limit was dropped]\n"),
        "{log}"
    );
    assert!((10_000..10_100).contains(&log.len()), "{}", log.len());
    assert!(exit.console_tail.contains("the last line"), "the tail goes on");
    assert!(exit.console_tail.len() <= 16 * 1024);
}

async fn big(lab: Lab, dir: PathBuf) {
    let mut config = lab.config(&dir, "hello");
    config.memory_mib = 512;
    config.vcpus = 2;
    let exit = lab.run(config).await;
    assert_eq!(exit.cause, ExitCause::GuestReset);
    assert!(exit.console_tail.contains("hello\r\n"), "{}", exit.console_tail);
    assert!(
        exit.console_tail.contains("processors=0-1\r\n"),
        "{}",
        exit.console_tail
    );
}
