//! Who is in a jail: every process that has the jail's root for its own.
//!
//! This needs no record: whoever was put there, and whatever it started, is found by what the kernel knows.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process by a descriptor, which never means another one.
#[derive(Debug)]
pub(crate) struct Inmate {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
}

impl Inmate {
    /// The process with this number, if it lives in the jail with this root.
    pub(crate) fn find(pid: u32, root: &Path) -> Option<Inmate> {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        // In this order: the descriptor is of the process that is then looked at, or of one that is gone.
        is_inmate(pid, root).then_some(Inmate { pid, pidfd })
    }

    /// Ends it. That it has ended already is as good.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits until it has ended, at the latest at `deadline`. Blocks.
    pub(crate) fn ended_by(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline
                .saturating_duration_since(Instant::now())
                .min(Duration::from_secs(3600));
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// Whether a process has this directory for its `/`. `false` also for a zombie, which has none.
pub(crate) fn is_inmate(pid: u32, root: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|meta| (meta.dev(), meta.ino()));
    let own = identity(Path::new(&format!("/proc/{pid}/root/.")));
    matches!((own, identity(root)), (Ok(own), Ok(root)) if own == root)
}

/// All of them. Empty, if there is no such jail.
pub(crate) fn all(root: &Path) -> io::Result<Vec<Inmate>> {
    if !root.exists() {
        return Ok(Vec::new());
    }
    let mut inmates = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok())
            && is_inmate(pid, root)
        {
            inmates.extend(Inmate::find(pid, root));
        }
    }
    Ok(inmates)
}
