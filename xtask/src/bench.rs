//! Measurements. Each prints a table that `docs/benchmarks.md` can hold as it is.

mod boot;
mod boots;
mod delivery;
mod guest;
mod icount;
mod kernel;
mod stops;
mod switches;

use std::path::PathBuf;

use clap::Subcommand;

use crate::shell::{cargo, run, step};

/// What to measure.
#[derive(Subcommand)]
pub enum Bench {
    /// Instructions that the initramfs adds up to PID 1: with it and without it, under `-icount`
    Boot {
        /// Pairs of boots, each with another amount of memory
        #[arg(long, default_value_t = 15)]
        pairs: u32,
    },
    /// Instructions of guest init itself up to ready, by stage, under `-icount`
    Guest {
        /// How many boots
        #[arg(long, default_value_t = 5)]
        count: u32,
    },
    /// Wall-clock time of whole boots through the agent: P50 and P99
    Boots {
        /// How many
        #[arg(long, default_value_t = 50)]
        count: u32,
        /// How many at once
        #[arg(long, default_value_t = 1)]
        at_once: u32,
    },
    /// Wall-clock time of a stop, from the request until the VM is gone
    Stops {
        /// How many
        #[arg(long, default_value_t = 20)]
        count: u32,
    },
    /// What parts of the kernel cost that its command line can switch off: controllers of control groups, PSI, ACPI
    Switches,
    /// What groups of kernel options cost: instructions to PID 1 and size, with each and without it (a kernel build each)
    Kernel {
        /// Only these groups, by name; all if none is named
        groups: Vec<String>,
        /// Write the figures to this file too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// A release from a registry to a host over links like real ones: time, and the agent's memory (needs root)
    Delivery {
        /// Fetches over each near link
        #[arg(long, default_value_t = 7)]
        runs: u32,
        /// Fetches over each link with delay and loss
        #[arg(long, default_value_t = 3)]
        far_runs: u32,
    },
    /// A control plane under a fleet of simulated hosts: latency, nothing lost, how fast a change is seen
    Fleet {
        /// Passed on: --hosts N, --seconds S, --database sqlite or postgres, --push ROUNDS, --json FILE, …
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Signature verification, hashing of the whole pair, and the cache's verification before a boot
    Verify,
}

impl Bench {
    /// Measures.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Boot { pairs } => boot::run(pairs),
            Self::Stops { count } => stops::run(count),
            Self::Guest { count } => guest::run(count),
            Self::Boots { count, at_once } => boots::run(count, at_once),
            Self::Switches => switches::run(),
            Self::Kernel { groups, json } => kernel::run(&groups, json.as_deref()),
            Self::Delivery { runs, far_runs } => delivery::run(&delivery::Runs {
                near: runs,
                far: far_runs,
            }),
            Self::Fleet { args } => run(cargo()
                .args([
                    "bench",
                    "--quiet",
                    "--locked",
                    "-p",
                    "plfm-control",
                    "--bench",
                    "fleet",
                    "--",
                ])
                .args(args)),
            Self::Verify => {
                step("criterion: verify_manifest and hash_pair");
                run(cargo().args(["bench", "--locked", "-p", "plfm-release", "--bench", "verify"]))?;
                step("the cache: open, pair_cold and pair_unchanged");
                run(cargo().args(["bench", "--locked", "-p", "plfm-cache", "--bench", "verify"]))
            }
        }
    }
}

/// A count in millions, cut to two places.
fn millions(count: u64) -> String {
    format!("{}.{:02} M", count / 1_000_000, count % 1_000_000 / 10_000)
}

/// The value at `percent` of sorted values, by the nearest rank.
fn percentile(sorted: &[u64], percent: u64) -> u64 {
    let rank = (sorted.len() as u64 * percent).div_ceil(100).max(1) - 1;
    usize::try_from(rank)
        .ok()
        .and_then(|rank| sorted.get(rank))
        .copied()
        .unwrap_or(0)
}
