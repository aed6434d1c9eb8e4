//! The only `unsafe` in guest init: what runs between fork and exec, and adopting descriptors.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{Gid, Uid};
use rustix::process::{Resource, Rlimit};
use rustix::thread;

/// The signals that PID 1 reads from a descriptor instead of being interrupted.
const SIGNALS: [Signal; 4] = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Blocks them in this thread and all later ones, and opens the descriptor. Children unblock them again before exec.
pub fn block_signals() -> Option<SignalFd> {
    let set: SigSet = SIGNALS.into_iter().collect();
    set.thread_block().ok()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).ok()
}

/// What a child does to itself before it becomes the program.
pub struct Entry {
    /// `cgroup.procs` of its cgroup, if there are cgroups.
    pub cgroup_procs: Option<OwnedFd>,
    /// Whether its standard input is its controlling terminal.
    pub tty: bool,
    pub rlimits: Vec<(Resource, Rlimit)>,
    pub uid: Uid,
    pub gid: Gid,
    pub groups: Vec<Gid>,
    pub cwd: std::ffi::CString,
}

impl Entry {
    /// Runs in the child. No allocation, no lock: only system calls on what was prepared before the fork.
    fn apply(&self) -> std::io::Result<()> {
        // What PID 1 blocks, a program does not expect to be blocked.
        SigSet::empty().thread_set_mask()?;
        if let Some(procs) = &self.cgroup_procs {
            // "0" means the writer.
            rustix::io::write(procs, b"0")?;
        }
        rustix::process::setsid()?;
        if self.tty {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        for (resource, limit) in &self.rlimits {
            rustix::process::setrlimit(*resource, *limit)?;
        }
        thread::set_thread_groups(&self.groups)?;
        thread::set_thread_gid(self.gid)?;
        thread::set_thread_uid(self.uid)?;
        rustix::process::chdir(self.cwd.as_c_str())?;
        Ok(())
    }
}

/// Makes `command`'s child do `entry` before exec.
pub fn enter_before_exec(command: &mut Command, entry: Entry) {
    // SAFETY: `apply` is async-signal-safe: it makes system calls on values that exist before the fork, takes no
    // lock and allocates nothing. The other thread's locks (watchdog, stderr) are not touched.
    unsafe {
        command.pre_exec(move || entry.apply());
    }
}

/// A signal by number, real-time signals included.
pub fn signal_from_number(number: i32) -> Option<rustix::process::Signal> {
    if let Some(signal) = rustix::process::Signal::from_named_raw(number) {
        return Some(signal);
    }
    // SAFETY: 34 to 64 are SIGRTMIN to SIGRTMAX; the C library keeps only 32 and 33 for itself.
    (34..=64)
        .contains(&number)
        .then(|| unsafe { rustix::process::Signal::from_raw_unchecked(number) })
}

/// Borrows a descriptor of a type that does not implement `AsFd`.
pub fn borrow_fd<T: std::os::fd::AsRawFd>(owner: &T) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as its owner is borrowed.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}
