//! What processes use, as the kernel counts it (proc(5)).

use std::fs::read_to_string;

use serde::Serialize;

/// What some processes together use.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Used {
    /// Processor time since they began, in milliseconds.
    pub cpu_ms: u64,
    /// Memory in use. Pages that several of them share count for one.
    pub memory_bytes: u64,
}

impl Used {
    /// Processes that are no family.
    pub fn of(pids: &[u32]) -> Self {
        pids.iter().fold(Self::default(), |sum, pid| Self {
            cpu_ms: sum.cpu_ms + cpu_ms(*pid, Counted::Alone),
            memory_bytes: sum.memory_bytes + memory_bytes(*pid),
        })
    }

    /// A process and its children, also those that are over.
    pub fn of_family(parent: u32) -> Self {
        let children = Self::of(&children_of(parent));
        Self {
            cpu_ms: children.cpu_ms + cpu_ms(parent, Counted::WithWhoEnded),
            memory_bytes: children.memory_bytes + memory_bytes(parent),
        }
    }

    /// Processor time since an earlier moment, in milliseconds.
    pub fn cpu_ms_since(&self, before: &Self) -> u64 {
        self.cpu_ms.saturating_sub(before.cpu_ms)
    }
}

#[derive(Clone, Copy)]
enum Counted {
    Alone,
    WithWhoEnded,
}

/// Field 4 of `stat` is the parent, 14 to 17 are the times: the process's own, then that of its children that ended.
fn stat(pid: u32) -> Vec<u64> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect()
}

fn cpu_ms(pid: u32, counted: Counted) -> u64 {
    let fields = stat(pid);
    let times = match counted {
        Counted::Alone => fields.get(11..13),
        Counted::WithWhoEnded => fields.get(11..15),
    };
    let ticks: u64 = times.unwrap_or_default().iter().sum();
    ticks * 1_000 / rustix::param::clock_ticks_per_second()
}

fn memory_bytes(pid: u32) -> u64 {
    let rollup = read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    kib.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or(0)
        * 1_024
}

fn children_of(parent: u32) -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).get(1) == Some(&u64::from(parent)))
        .collect()
}
