//! What is kept of an instance on disk: its view, with no secret and no environment value, and the VM's processes.
//!
//! An exit is durable here before the guest is let go, so an instance never counts as stopped without one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use plfm_api::{Instance, InstanceExit, InstanceState};
use plfm_vmm::Jail;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::durable;
use crate::problem::chain;

use super::verdict::exit_told_in;
use super::{Handle, ended_handle};

/// Instances that are over and still listed, at most: a few pages for people. Those that ended first are forgotten.
const ENDED_KEPT_MAX: usize = 100;

/// How much of a console's end is searched for an exit, in bytes: guest init's line is among the last.
const CONSOLE_TAIL_BYTES: u64 = 16 * 1024;

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
    /// The VMM first.
    #[serde(default)]
    pub processes: Vec<ProcessId>,
    #[serde(default)]
    pub tap: Option<String>,
    #[serde(default)]
    pub jail: Option<JailTrace>,
    #[serde(default)]
    pub run_dir: Option<PathBuf>,
}

/// Where the VMM's jail is: enough to take it away.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JailTrace {
    dir: PathBuf,
    cgroup: Option<PathBuf>,
}

impl From<Jail> for JailTrace {
    fn from(Jail { dir, cgroup }: Jail) -> Self {
        Self { dir, cgroup }
    }
}

impl JailTrace {
    fn remove(&self) {
        let Self { dir, cgroup } = self.clone();
        if let Err(error) = (Jail { dir, cgroup }).remove() {
            warn!(code = error.code(), "{}", chain(&error));
        }
    }
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

    fn is_there(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    fn kill(self) {
        if self.is_there()
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
/// `each` sees all of them before any is forgotten. Blocking.
pub fn recover(instances_dir: &Path, each: impl FnOnce(&[Instance])) -> BTreeMap<String, Handle> {
    recover_records(instances_dir, each)
        .into_iter()
        .map(|(view, dir)| (view.id.clone(), ended_handle(view, &dir)))
        .collect()
}

fn recover_records(instances_dir: &Path, each: impl FnOnce(&[Instance])) -> Vec<(Instance, PathBuf)> {
    let Ok(entries) = fs::read_dir(instances_dir) else {
        return Vec::new();
    };
    let mut kept = Vec::new();
    for dir in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        match load(&dir) {
            // Whatever its age: what it left running is ended.
            Some(record) => kept.push((settle(&dir, record), dir)),
            None => forget(&dir),
        }
    }
    let instances: Vec<Instance> = kept.iter().map(|(instance, _)| instance.clone()).collect();
    each(&instances);
    let surplus = surplus(&instances);
    let (forgotten, kept): (Vec<_>, Vec<_>) = kept
        .into_iter()
        .partition(|(instance, _)| surplus.contains(&instance.id));
    forgotten.iter().for_each(|(_, dir)| forget(dir));
    kept
}

/// The instances to forget: those that are over, less the [`ENDED_KEPT_MAX`] that ended last.
pub fn surplus<'a>(instances: impl IntoIterator<Item = &'a Instance>) -> BTreeSet<String> {
    let over = instances.into_iter().filter(|instance| instance.state.is_over());
    let mut ended: Vec<_> = over.map(|instance| (instance.ended_at, &instance.id)).collect();
    ended.sort_unstable();
    let surplus = ended.len().saturating_sub(ENDED_KEPT_MAX);
    let first = ended.into_iter().take(surplus);
    first.map(|(_, id)| id.clone()).collect()
}

/// Removes what is on disk of an instance. Blocking.
pub fn forget(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != ErrorKind::NotFound
    {
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
    // Of a VM that ended by itself the console may say how its workload did; one that is killed here did not end.
    let ended_itself = record.processes.first().is_some_and(|vmm| !vmm.is_there());
    record.processes.iter().for_each(|process| process.kill());
    // Before the tap device, which whoever is in the jail holds.
    if let Some(jail) = &record.jail {
        jail.remove();
    }
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
    if instance.exit.is_none() && ended_itself {
        instance.exit = exit_told_in(&console_tail(&dir.join("console.log")));
    }
    instance.exit.get_or_insert_with(|| InstanceExit {
        exit_code: None,
        signal: None,
        oom_killed: false,
        duration_ms: 0,
        reason: Some("agent_restarted".to_owned()),
    });
    let (processes, tap, jail, run_dir) = (Vec::new(), None, None, None);
    let settled = Record {
        instance: record.instance,
        processes,
        tap,
        jail,
        run_dir,
    };
    if let Err(error) = save(dir, &settled) {
        warn!(dir = %dir.display(), "cannot write an instance's record: {error}");
    }
    settled.instance
}

/// The end of a console's log, as text; empty, if there is none.
fn console_tail(path: &Path) -> String {
    let read = || {
        let mut file = fs::File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(CONSOLE_TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(CONSOLE_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, state: InstanceState, ended_at: Option<i64>) -> Record {
        let view = serde_json::json!({
            "id": id, "state": state, "release": "6.1.50-20251217a+guestinit-1.0.0-20251217a", "release_reason": "current",
            "argv": [], "created_at": "2026-01-01T00:00:00Z",
            "ended_at": ended_at.map(|second| Timestamp::from_second(second).unwrap()),
            "boot": {"release": "6.1.50-20251217a+guestinit-1.0.0-20251217a", "outcome": "ready", "stages": [], "host": {"verified_us": 0}},
        });
        Record {
            instance: serde_json::from_value(view).unwrap(),
            processes: Vec::new(),
            tap: None,
            jail: None,
            run_dir: None,
        }
    }

    #[test]
    fn those_that_ended_first_are_forgotten_whatever_their_age() {
        let ended = |id: usize, second: i64| {
            record(&format!("{id:03}"), InstanceState::Stopped, Some(second)).instance
        };
        let mut all: Vec<Instance> = (0..100).map(|n| ended(n, 1_000 - n as i64)).collect();
        all.push(record("running", InstanceState::Running, None).instance);
        assert_eq!(surplus(&all), BTreeSet::new());
        all.push(ended(100, 2_000));
        assert_eq!(surplus(&all), BTreeSet::from(["099".to_owned()]));
        // The oldest of all, which has ended just now, stays.
        all.push(ended(0, 3_000));
        assert_eq!(
            surplus(&all),
            BTreeSet::from(["099".to_owned(), "098".to_owned()])
        );
    }

    #[test]
    fn records_beyond_the_limit_are_gone_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..102 {
            let dir = dir.path().join(format!("{n:03}"));
            fs::create_dir(&dir).unwrap();
            save(&dir, &record(&format!("{n:03}"), InstanceState::Stopped, Some(n))).unwrap();
        }
        let mut seen = 0;
        let kept = recover_records(dir.path(), |instances| seen = instances.len());
        assert_eq!((kept.len(), seen), (ENDED_KEPT_MAX, 102));
        let left = |name: &str| dir.path().join(name).exists();
        assert!(!left("000") && !left("001") && left("002") && left("101"));
    }

    /// What settles an instance whose VMM was `vmm` and whose console told of an exit.
    fn settle_with(vmm: ProcessId) -> InstanceExit {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        fs::create_dir(&run_dir).unwrap();
        let told = "noise\nguest-init: workload exited: exit_code=7 duration_ms=12 reason=workload_crashed\n";
        fs::write(run_dir.join("console.log"), told).unwrap();
        let mut record = record("i-1", InstanceState::Running, None);
        record.processes = vec![vmm];
        record.run_dir = Some(run_dir);
        settle(dir.path(), record).exit.unwrap()
    }

    #[test]
    fn an_end_that_only_the_console_tells_is_known_after_a_restart() {
        let gone = ProcessId {
            pid: std::process::id(),
            start_ticks: 0,
        };
        let exit = settle_with(gone);
        assert_eq!((exit.exit_code, exit.duration_ms), (Some(7), 12));
        assert_eq!(exit.reason.as_deref(), Some("workload_crashed"));
    }

    #[test]
    fn a_vm_that_the_restart_had_to_end_has_no_exit_of_its_own() {
        let mut vmm = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let exit = settle_with(ProcessId::of(vmm.id()).unwrap());
        assert_eq!(
            (exit.exit_code, exit.reason.as_deref()),
            (None, Some("agent_restarted"))
        );
        vmm.wait().unwrap();
    }

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
