//! The end: kill all, unmount, wait until the host has the report, reboot.
//!
//! `reboot(2)` and not power-off: on x86 a power-off leaves Firecracker running, a reboot ends it.

use std::io::Read as _;
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use vsock::VsockStream;

use crate::boot::Boot;
use crate::log;
use crate::process::reap_all;
use crate::root::{RootMounts, SCRATCH};
use crate::watchdog::{Alarm, Watchdog};

/// How long the whole shutdown may take before the VM is rebooted as it is.
const SHUTDOWN_MAX: Duration = Duration::from_secs(30);
/// How long the last `sync` may take.
const SYNC_MAX: Duration = Duration::from_secs(5);
/// How long processes may take to end after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a volume may be busy when all processes are gone, and the pause between two attempts.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How long the host may take to make the report durable and close the connection.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);

/// Sees to it that the shutdown ends. `report` is what is still to be told then: whole messages, or nothing.
pub fn guard(watchdog: &Watchdog, report: Vec<u8>) {
    let text = "the shutdown did not end in time; rebooting with what is mounted".to_owned();
    watchdog.arm(Alarm {
        deadline: Instant::now() + SHUTDOWN_MAX,
        kill_first: None,
        text,
        report,
    });
}

/// SIGKILL to every process but this one, and waits for their ends: a process in a system call that never ends, on a disk
/// that hangs, does not keep the rest of the shutdown waiting.
pub fn kill_everything(signals: Option<&SignalFd>) {
    // -1 is every process but PID 1 (kill(2)). ESRCH: there is none.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::Signal::SIGKILL);
    if !reap_all(KILL_PATIENCE, signals) {
        log::console("some processes do not end; going on without them");
    }
}

/// Shuts down. Returns only if the reboot itself fails.
pub fn run(mut boot: Boot) {
    guard(&boot.watchdog, Vec::new());
    kill_everything(None);
    while let Some(volume) = boot.volumes.pop() {
        if let Err(error) = unmount_when_free(&volume.mountpoint) {
            log::console(&format!(
                "volume {:?} is not cleanly unmounted: {error}",
                volume.name
            ));
            let _ = unmount(volume.mountpoint.as_str(), UnmountFlags::DETACH);
        }
    }
    if let Some(mounts) = boot.mounts.take() {
        // The boot log is a file in /run: closed before what it is on goes.
        boot.log = log::Log::default();
        if let Err(error) = leave_root(mounts) {
            log::console(&format!("the scratch disk is not cleanly unmounted: {error}"));
        }
    }
    if let Some(control) = &mut boot.control {
        control.connection.finish(REPORT_PATIENCE);
    }
    reboot();
}

/// Unmounts. A process that is gone may still have files closed for it (io_uring does so late), so busy is not final.
fn unmount_when_free(mountpoint: &str) -> rustix::io::Result<()> {
    let deadline = Instant::now() + BUSY_PATIENCE;
    loop {
        match unmount(mountpoint, UnmountFlags::empty()) {
            Err(Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(BUSY_PAUSE),
            ended => return ended,
        }
    }
}

/// What overlayfs leaves on a `volatile` upper layer, so that it is not used again after a crash.
const VOLATILE_MARK: &str = "/mnt/scratch/work/work/incompat/volatile";

/// Goes back to the initramfs, takes the overlay away and unmounts the scratch disk. Unmounting writes it out.
fn leave_root(mounts: RootMounts) -> rustix::io::Result<()> {
    let RootMounts { initramfs, overlay } = mounts;
    // The overlay covers the initramfs's root, so it is reached by its descriptor: cwd, then ".".
    rustix::process::fchdir(&overlay)?;
    drop(overlay);
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::fchdir(&initramfs)?;
    rustix::process::chroot(".")?;
    // The system did not crash and all of it is about to be written: the layer may be used again
    // (Documentation/filesystems/overlayfs.rst, "Volatile mount").
    // An error leaves the mark, and the mark only keeps the layer from being used again.
    let _ =
        rustix::fs::unlink(format!("{VOLATILE_MARK}/dirty")).and_then(|()| rustix::fs::rmdir(VOLATILE_MARK));
    unmount(SCRATCH, UnmountFlags::empty())
}

/// Reads until the peer closes, at most `patience`.
pub fn wait_for_close(stream: &mut VsockStream, patience: Duration) {
    let deadline = Instant::now() + patience;
    let mut buffer = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Ends the VM. A disk that does not answer keeps `sync(2)` waiting for ever, so that is another thread's work.
pub fn reboot() {
    let (synced, done) = std::sync::mpsc::channel();
    let sync = move || {
        rustix::fs::sync();
        let _ = synced.send(());
    };
    if std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(sync)
        .is_ok()
    {
        let _ = done.recv_timeout(SYNC_MAX);
    }
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
}
