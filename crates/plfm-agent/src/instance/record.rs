//! What is kept of an instance on disk: its view, with no secret and no environment value, and the VM's processes.
//!
//! An exit is durable here before the guest is let go, so an instance never counts as stopped without one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use plfm_api::{Instance, InstanceExit, InstanceState};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::durable;

use super::{Handle, ended_handle};

/// Instances that are over and still listed, at most; older ones are forgotten at the agent's start.
const ENDED_KEPT_MAX: usize = 100;

/// A process, by number and start time: numbers are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pid: u32,
    start_ticks: u64,
}

/// The record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub instance: Instance,
    #[serde(default)]
    pub processes: Vec<ProcessId>,
    #[serde(default)]
    pub tap: Option<String>,
    #[serde(default)]
    pub run_dir: Option<PathBuf>,
}

impl ProcessId {
    /// The process that has this number now.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field may hold anything; the start time is the 20th after its closing parenthesis (proc(5)).
        let (_, rest) = stat.rsplit_once(')')?;
        let start_ticks = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, start_ticks })
    }

    fn kill(self) {
        if Self::of(self.pid) == Some(self)
            && let Some(pid) = i32::try_from(self.pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
        {
            info!(pid = self.pid, "ending a process that an earlier agent left");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Writes the record, whole and synced. Blocking.
pub fn save(dir: &Path, record: &Record) -> std::io::Result<()> {
    durable::replace_json(dir, "instance.json", record)
}

/// Where the console's output is: in the run directory while the VM runs, in the instance's directory afterwards.
pub fn console_path(dir: &Path, run_dir: &Path) -> PathBuf {
    let kept = dir.join("console.log");
    if kept.exists() {
        kept
    } else {
        run_dir.join("console.log")
    }
}

/// Reads the records in `instances_dir`, and ends what an earlier agent left running: this version does not adopt it.
pub async fn recover(instances_dir: &Path) -> BTreeMap<String, Handle> {
    let dir = instances_dir.to_owned();
    let records = tokio::task::spawn_blocking(move || recover_blocking(&dir))
        .await
        .unwrap_or_default();
    records
        .into_iter()
        .map(|(dir, view)| (view.id.clone(), ended_handle(view, &dir)))
        .collect()
}

fn recover_blocking(instances_dir: &Path) -> Vec<(PathBuf, Instance)> {
    let Ok(entries) = fs::read_dir(instances_dir) else {
        return Vec::new();
    };
    let mut dirs: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    // Ids are ULIDs: the newest sort last.
    dirs.sort();
    let mut kept = Vec::new();
    for dir in dirs.into_iter().rev() {
        match load(&dir) {
            Some(record) => {
                // Whatever its age: what it left running is ended.
                let instance = settle(&dir, record);
                if kept.len() < ENDED_KEPT_MAX {
                    kept.push((dir, instance))
                } else {
                    forget(&dir)
                }
            }
            None => forget(&dir),
        }
    }
    kept
}

fn forget(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        warn!(dir = %dir.display(), "cannot remove what is left of an instance: {error}");
    }
}

fn load(dir: &Path) -> Option<Record> {
    let bytes = fs::read(dir.join("instance.json")).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn settle(dir: &Path, mut record: Record) -> Instance {
    if record.instance.state.is_over() {
        return record.instance;
    }
    record.processes.iter().for_each(|process| process.kill());
    if let Some(tap) = &record.tap
        && plfm_vmm::tap::exists(tap)
        && let Err(error) = plfm_vmm::tap::delete(tap)
    {
        warn!(tap, "cannot remove the tap device: {error}");
    }
    if let Some(run_dir) = &record.run_dir {
        let _ = fs::copy(run_dir.join("console.log"), dir.join("console.log"));
        let _ = fs::remove_dir_all(run_dir);
    }
    let _ = fs::remove_file(dir.join("scratch.img"));
    let instance = &mut record.instance;
    instance.state = if instance.boot.is_some() {
        InstanceState::Stopped
    } else {
        InstanceState::Failed
    };
    instance.ended_at = Some(Timestamp::now());
    if instance.exit.is_none() {
        let reason = Some("agent_restarted".to_owned());
        instance.exit = Some(InstanceExit {
            exit_code: None,
            signal: None,
            oom_killed: false,
            duration_ms: 0,
            reason,
        });
    }
    let (processes, tap, run_dir) = (Vec::new(), None, None);
    let settled = Record {
        instance: record.instance,
        processes,
        tap,
        run_dir,
    };
    if let Err(error) = save(dir, &settled) {
        warn!(dir = %dir.display(), "cannot write an instance's record: {error}");
    }
    settled.instance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let own = ProcessId::of(std::process::id()).unwrap();
        assert_eq!(ProcessId::of(own.pid), Some(own));
        let other = ProcessId {
            start_ticks: own.start_ticks + 1,
            ..own
        };
        other.kill();
    }
}
