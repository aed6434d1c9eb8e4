//! One cgroup v2 per session: the workload's, and one for each exec session.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, mkdir, open};
use rustix::io::Errno;

/// Where cgroup v2 is mounted.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// The controllers that a workload's limits and accounts need, where the kernel has them.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// A cgroup that was made here.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: String,
}

/// Turns the controllers on for the cgroups below the root. One at a time: a missing one must not hide the others.
pub fn enable_controllers() {
    for controller in CONTROLLERS {
        let _ = write(
            &format!("{CGROUP_ROOT}/cgroup.subtree_control"),
            &format!("+{controller}"),
        );
    }
}

fn write(path: &str, text: &str) -> std::io::Result<()> {
    File::options().write(true).open(path)?.write_all(text.as_bytes())
}

impl Cgroup {
    /// Makes the cgroup `name`. One that is there is somebody else's, who may have frozen it.
    pub fn create(name: &str) -> rustix::io::Result<Self> {
        let path = format!("{CGROUP_ROOT}/{name}");
        mkdir(path.as_str(), Mode::from_raw_mode(0o755))?;
        Ok(Self { path })
    }

    /// Opens `cgroup.procs`, for a child to enter by itself.
    pub fn open_procs(&self) -> rustix::io::Result<OwnedFd> {
        open(
            format!("{}/cgroup.procs", self.path),
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }

    /// Lets it have `max` processes and threads at once. `None` is half of what the kernel can have, as far as that
    /// can be set: what a program that forks without end leaves is for exec sessions.
    pub fn limit_pids(&self, max: Option<u32>) -> std::io::Result<()> {
        let file = format!("{}/pids.max", self.path);
        if let Some(max) = max {
            return write(&file, &max.to_string());
        }
        let threads = std::fs::read_to_string("/proc/sys/kernel/threads-max").unwrap_or_default();
        if let Ok(threads) = threads.trim().parse::<u32>() {
            let _ = write(&file, &(threads / 2).to_string());
        }
        Ok(())
    }

    /// SIGKILL to everything in it, forks that are under way included (`cgroup.kill`).
    pub fn kill(&self) {
        let _ = write(&format!("{}/cgroup.kill", self.path), "1");
    }

    /// Whether the kernel killed a process of it for want of memory (`oom_kill` of `memory.events`).
    pub fn was_oom_killed(&self) -> bool {
        let events = std::fs::read_to_string(format!("{}/memory.events", self.path)).unwrap_or_default();
        oom_kills(&events) > 0
    }

    /// Removes it, if it is empty; whether it is gone.
    pub fn remove(&self) -> bool {
        !matches!(rustix::fs::rmdir(self.path.as_str()), Err(Errno::BUSY))
    }
}

fn oom_kills(events: &str) -> u64 {
    let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::oom_kills;

    #[test]
    fn only_the_kill_counter_counts() {
        let events = "low 0\nhigh 3\nmax 9\noom 4\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(oom_kills(events), 2);
        assert_eq!(oom_kills("oom 4\noom_kill 0\n"), 0);
        assert_eq!(oom_kills(""), 0);
    }
}
