//! Whatever fails, the error names it and nothing is left behind.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libtest_mimic::Trial;
use plfm_vmm::{Backend, Disk, DiskAccess, ExitCause, QemuPrograms, StartError, Vm, VmConfig, VmImage};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::lab::{Lab, chain, end_of, entries, eventually, processes_with, runtime, signal_of, trial};

pub fn trials(lab: &Result<Lab, String>) -> Vec<Trial> {
    vec![
        trial(lab, "a_missing_qemu_names_its_package", missing_qemu),
        trial(lab, "a_missing_vsock_daemon_names_its_crate", missing_daemon),
        trial(lab, "a_program_that_is_none_does_not_start", no_program),
        trial(
            lab,
            "a_kernel_that_is_none_is_an_error_with_qemus_words",
            bad_kernel,
        ),
        trial(lab, "a_missing_disk_is_an_error_that_names_it", missing_disk),
        trial(lab, "a_disk_that_another_vm_writes_is_an_error", locked_disk),
        trial(lab, "an_unwritable_directory_is_an_error", unwritable),
        trial(lab, "names_taken_by_something_else_are_errors", names_taken),
        trial(lab, "sockets_left_by_an_earlier_run_do_not_matter", left_sockets),
        trial(
            lab,
            "a_daemon_that_ends_at_once_is_an_error_with_its_words",
            daemon_ends,
        ),
        trial(
            lab,
            "a_daemon_that_never_listens_is_given_up",
            daemon_never_listens,
        ),
        trial(
            lab,
            "a_qemu_that_misbehaves_on_its_channel_is_given_up",
            qemu_misbehaves,
        ),
        trial(lab, "the_daemons_death_ends_the_vm", daemon_dies),
        trial(lab, "a_qemu_ended_by_someone_else_is_no_clean_end", qemu_dies),
        trial(lab, "a_stopped_machine_is_ended", machine_stops),
        trial(lab, "kill_leaves_no_process_and_no_socket", killed),
        trial(lab, "a_dropped_vm_leaves_no_process_and_no_socket", dropped),
        trial(
            lab,
            "a_start_that_is_given_up_leaves_no_process_and_no_socket",
            start_dropped,
        ),
        trial(
            lab,
            "the_end_of_the_runtime_leaves_no_process_and_no_socket",
            runtime_dropped,
        ),
    ]
}

/// A start that must fail and leave nothing but the console log.
async fn fail(backend: &Backend, config: VmConfig) -> StartError {
    let dir = config.dir.clone();
    let before = entries(&dir);
    let error = Vm::start(backend, config).await.expect_err("it started");
    assert_eq!(processes_with(&dir), Vec::<u32>::new(), "{}", chain(&error));
    let left: Vec<String> = entries(&dir)
        .into_iter()
        .filter(|name| !before.contains(name) && name != "console.log")
        .collect();
    assert_eq!(left, Vec::<String>::new(), "{}", chain(&error));
    error
}

/// For starts that can only end with their time, which still leaves a busy machine enough for what comes before.
fn impatient(config: VmConfig) -> VmConfig {
    VmConfig {
        start_timeout: Duration::from_secs(3),
        ..config
    }
}

/// The lab's programs with some replaced.
fn backend(lab: &Lab, replace: impl FnOnce(&mut QemuPrograms)) -> Backend {
    let Backend::Qemu {
        accelerator,
        mut programs,
    } = lab.backend().clone()
    else {
        panic!("the lab runs QEMU");
    };
    replace(&mut programs);
    Backend::Qemu {
        accelerator,
        programs,
    }
}

/// A program that is a shell script.
fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// This test program as a QEMU of its own, see [`crate::fake_qemu`].
fn fake_qemu(dir: &Path, act: &str) -> PathBuf {
    script(
        dir,
        &format!(
            "exec {} fake-qemu {act} \"$@\"",
            std::env::current_exe().unwrap().display()
        ),
    )
}

async fn missing_qemu(lab: Lab, dir: PathBuf) {
    let backend = backend(&lab, |programs| programs.qemu = "/nowhere/qemu".into());
    let error = fail(&backend, lab.config(&dir, "hello")).await;
    assert_eq!(error.code(), "qemu_missing");
    assert_eq!(
        error.to_string(),
        "/nowhere/qemu is missing: install the Debian package qemu-system-x86"
    );
}

async fn missing_daemon(lab: Lab, dir: PathBuf) {
    let backend = backend(&lab, |programs| {
        programs.vsock_daemon = "/nowhere/vhost-device-vsock".into()
    });
    let error = fail(&backend, lab.config(&dir, "hello")).await;
    assert_eq!(error.code(), "vsock_daemon_missing");
    assert!(
        error
            .to_string()
            .ends_with("cargo install vhost-device-vsock --version 0.3.0"),
        "{error}"
    );
}

async fn no_program(lab: Lab, dir: PathBuf) {
    let backend = backend(&lab, |programs| programs.qemu = "/etc/passwd".into());
    let error = fail(&backend, lab.config(&dir, "hello")).await;
    assert_eq!(error.code(), "spawn_failed");
    assert_eq!(
        chain(&error),
        "can't start /etc/passwd: Permission denied (os error 13)"
    );
}

async fn bad_kernel(lab: Lab, dir: PathBuf) {
    let images = tempfile::tempdir().unwrap();
    let path = images.path().join("kernel");
    for bytes in [b"".as_slice(), b"not a kernel", &[0x7f; 100_000]] {
        std::fs::write(&path, bytes).unwrap();
        let mut config = lab.config(&dir, "hello");
        config.kernel = VmImage::new(File::open(&path).unwrap());
        let error = fail(lab.backend(), config).await;
        assert_eq!(error.code(), "qemu_failed", "{}", chain(&error));
        let StartError::QemuFailed { status, stderr } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(status.code(), Some(1));
        assert!(stderr.contains("/fd/") || stderr.contains("kernel"), "{stderr}");
        assert!(error.to_string().contains(stderr.as_str()));
    }
}

async fn missing_disk(lab: Lab, dir: PathBuf) {
    let mut config = lab.config(&dir, "hello");
    config.disks = vec![Disk {
        path: "/nowhere/root.img".into(),
        access: DiskAccess::ReadOnly,
    }];
    let error = fail(lab.backend(), config).await;
    assert_eq!(error.code(), "qemu_failed");
    assert!(
        error.to_string().contains("Could not open '/nowhere/root.img'"),
        "{error}"
    );
}

async fn locked_disk(lab: Lab, dir: PathBuf) {
    let path = dir.join("scratch.img");
    File::create_new(&path).unwrap().set_len(1 << 20).unwrap();
    let (one, two) = (dir.join("1"), dir.join("2"));
    std::fs::create_dir(&one).unwrap();
    std::fs::create_dir(&two).unwrap();
    let disk = |access| {
        vec![Disk {
            path: path.clone(),
            access,
        }]
    };
    let mut config = lab.config(&one, "knock");
    config.disks = disk(DiskAccess::ReadWrite);
    let vm = lab.start(config).await;
    let mut config = lab.config(&two, "hello");
    config.disks = disk(DiskAccess::ReadWrite);
    let error = fail(lab.backend(), config).await;
    assert!(error.to_string().contains("lock"), "{error}");
    vm.kill().await;
    let mut config = lab.config(&two, "hello");
    config.disks = disk(DiskAccess::ReadWrite);
    assert_eq!(
        lab.run(config).await.cause,
        ExitCause::GuestReset,
        "the lock ends with the vm"
    );
}

async fn unwritable(lab: Lab, _: PathBuf) {
    // Nobody makes files there, not even root.
    let error = Vm::start(lab.backend(), lab.config(Path::new("/sys/kernel"), "hello"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "console_log_failed");
    assert!(error.to_string().contains("/sys/kernel/console.log"), "{error}");
}

async fn names_taken(lab: Lab, dir: PathBuf) {
    for (name, code) in [
        ("console.log", "console_log_failed"),
        ("qmp.sock", "socket_failed"),
        ("v.sock", "socket_failed"),
        ("vhost.sock", "socket_failed"),
    ] {
        std::fs::create_dir(dir.join(name)).unwrap();
        let error = fail(lab.backend(), lab.config(&dir, "hello")).await;
        assert_eq!(error.code(), code, "{name}: {}", chain(&error));
        assert!(
            error.to_string().contains(dir.join(name).to_str().unwrap()),
            "{error}"
        );
        std::fs::remove_dir(dir.join(name)).unwrap();
    }
    // A link in place of the log is not followed.
    let _ = std::fs::remove_file(dir.join("console.log"));
    std::os::unix::fs::symlink(dir.join("target"), dir.join("console.log")).unwrap();
    assert_eq!(
        fail(lab.backend(), lab.config(&dir, "hello")).await.code(),
        "console_log_failed"
    );
    assert_eq!(entries(&dir), ["console.log"]);
}

async fn left_sockets(lab: Lab, dir: PathBuf) {
    for name in ["v.sock", "vhost.sock", "qmp.sock", "v.sock_5161"] {
        drop(std::os::unix::net::UnixListener::bind(dir.join(name)).unwrap());
    }
    lab.start_and_meet(&dir).await.kill().await;
    assert_eq!(entries(&dir), ["console.log"]);
}

async fn daemon_ends(lab: Lab, dir: PathBuf) {
    let programs = tempfile::tempdir().unwrap();
    let daemon = script(programs.path(), "echo out of vsocks >&2; exit 3");
    let backend = backend(&lab, |programs| programs.vsock_daemon = daemon);
    let error = fail(&backend, lab.config(&dir, "hello")).await;
    assert_eq!(error.code(), "vsock_daemon_failed");
    assert_eq!(
        error.to_string(),
        "vsock daemon ended with exit status: 3: out of vsocks"
    );
}

async fn daemon_never_listens(lab: Lab, dir: PathBuf) {
    let programs = tempfile::tempdir().unwrap();
    let daemon = script(programs.path(), "echo waiting for spring >&2; exec sleep 1000");
    let backend = backend(&lab, |programs| programs.vsock_daemon = daemon);
    let error = fail(&backend, impatient(lab.config(&dir, "hello"))).await;
    assert_eq!(error.code(), "vsock_daemon_timeout");
    assert!(error.to_string().ends_with(": waiting for spring"), "{error}");
}

async fn qemu_misbehaves(lab: Lab, dir: PathBuf) {
    let programs = tempfile::tempdir().unwrap();
    for (act, code) in [
        ("never-connect", "qemu_timeout"),
        ("leave", "qemu_failed"),
        ("refuse", "qemu_control_failed"),
        ("babble", "qemu_control_failed"),
        ("flood", "qemu_control_failed"),
    ] {
        let qemu = fake_qemu(programs.path(), act);
        let backend = backend(&lab, |programs| programs.qemu = qemu);
        let mut config = lab.config(&dir, "hello");
        if act == "never-connect" {
            config = impatient(config);
        }
        let error = fail(&backend, config).await;
        assert_eq!(error.code(), code, "{act}: {}", chain(&error));
    }
}

async fn daemon_dies(lab: Lab, dir: PathBuf) {
    let vm = lab.start_and_meet(&dir).await;
    signal(vm.pids()[1], Signal::KILL);
    let exit = end_of(&vm).await;
    assert_eq!(exit.cause, ExitCause::VsockLost, "{exit:?}");
    assert_eq!(processes_with(&dir), Vec::<u32>::new());
    assert_eq!(entries(&dir), ["console.log"]);
}

async fn qemu_dies(lab: Lab, dir: PathBuf) {
    for (with, success) in [(Signal::KILL, false), (Signal::TERM, true)] {
        let vm = lab.start_and_meet(&dir).await;
        signal(vm.pids()[0], with);
        let exit = end_of(&vm).await;
        assert_eq!(exit.cause, ExitCause::VmmFailed, "{exit:?}");
        assert_eq!(
            exit.status.unwrap().success(),
            success,
            "QEMU calls SIGTERM a success"
        );
        assert_eq!(processes_with(&dir), Vec::<u32>::new());
        assert_eq!(entries(&dir), ["console.log"]);
    }
}

async fn machine_stops(lab: Lab, dir: PathBuf) {
    let programs = tempfile::tempdir().unwrap();
    let qemu = fake_qemu(programs.path(), "stop");
    let vm = Vm::start(
        &backend(&lab, |programs| programs.qemu = qemu),
        lab.config(&dir, "hello"),
    )
    .await
    .unwrap();
    let exit = end_of(&vm).await;
    assert_eq!(exit.cause, ExitCause::Stopped);
    assert_eq!(exit.stderr_tail, "internal error of the accelerator");
}

async fn killed(lab: Lab, dir: PathBuf) {
    let vm = lab.start_and_meet(&dir).await;
    assert_eq!(processes_with(&dir), sorted(vm.pids()));
    let exit = vm.kill().await;
    assert_eq!(exit.cause, ExitCause::Killed);
    assert_eq!(signal_of(&exit), Some(9));
    assert_eq!(processes_with(&dir), Vec::<u32>::new());
    assert_eq!(entries(&dir), ["console.log"]);
    for pid in vm.pids() {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "{pid} was not reaped"
        );
    }
}

async fn dropped(lab: Lab, dir: PathBuf) {
    let vm = lab.start_and_meet(&dir).await;
    let pids = vm.pids().to_vec();
    drop(vm);
    eventually("the end of the processes", || {
        pids.iter()
            .all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    })
    .await;
    eventually("the end of the sockets", || entries(&dir) == ["console.log"]).await;
}

async fn start_dropped(lab: Lab, dir: PathBuf) {
    // At every few milliseconds of a start; the last of them come after it.
    for after in (0..200).step_by(10).map(Duration::from_millis) {
        let start = Vm::start(lab.backend(), lab.config(&dir, "knock"));
        drop(timeout(after, start).await);
        eventually("the end of the processes", || processes_with(&dir).is_empty()).await;
        eventually("the end of the sockets", || {
            !entries(&dir).iter().any(|name| name.ends_with("sock"))
        })
        .await;
    }
}

async fn runtime_dropped(lab: Lab, dir: PathBuf) {
    let inner = runtime();
    let task = inner.spawn({
        let (lab, dir) = (lab.clone(), dir.clone());
        async move { lab.start_and_meet(&dir).await }
    });
    let vm = task.await.unwrap();
    inner.shutdown_background();
    eventually("the end of the processes", || processes_with(&dir).is_empty()).await;
    eventually("the end of the sockets", || entries(&dir) == ["console.log"]).await;
    assert_eq!(vm.wait().await.cause, ExitCause::Killed);
}

fn sorted(pids: &[u32]) -> Vec<u32> {
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    pids
}

/// Signals one process that a VM of this test said is its own.
fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}
