//! Wall-clock time of a stop: from the request until the VM is gone, of a program that ends at its signal.

use anyhow::Context as _;

use super::percentile;
use crate::agent::Agent;
use crate::shell::{step, timed};
use crate::{lab, setup};

/// Stops `count` instances, one after the other.
pub fn run(count: u32) -> anyhow::Result<()> {
    setup::ensure()?;
    let lab = lab::ensure(lab::Show::Nothing)?;
    let agent = Agent::start(&lab, false)?;
    let (release, disk) = (lab.release(), lab.root_disk());
    let release = release.to_str().context("the lab's path is not UTF-8")?;
    let disk = disk.to_str().context("the lab's path is not UTF-8")?;
    agent.json(&lab, &["release", "install", "--current", release])?;
    step(&format!("booting and stopping {count} instances"));
    let mut took = Vec::new();
    for _ in 0..count {
        let instance = agent.json(
            &lab,
            &["run", "--detach", "--rootdisk", disk, "--", "sleep", "600"],
        )?;
        let id = instance["id"].as_str().context("the instance has no id")?;
        // The command returns when the VM's processes are gone; its own start is in it.
        let (stopped, ms) = timed(|| agent.json(&lab, &["stop", id]))?;
        if stopped["state"] != "stopped" || stopped["exit"]["reason"] == "killed" {
            anyhow::bail!("the instance did not stop gracefully: {stopped}");
        }
        took.push(ms);
    }
    took.sort_unstable();
    println!("| {count} stops | P50, ms | P99, ms | most, ms |");
    println!("|---|---|---|---|");
    println!(
        "| request to VM gone | {} | {} | {} |",
        percentile(&took, 50),
        percentile(&took, 99),
        percentile(&took, 100)
    );
    Ok(())
}
