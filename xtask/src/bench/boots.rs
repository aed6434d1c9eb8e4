//! Wall-clock time of whole boots: `plfm run` of a program that does nothing, through an agent.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

use super::percentile;
use crate::agent::Agent;
use crate::shell::step;
use crate::{lab, setup};

/// Boots `count` instances, `at_once` at a time.
pub fn run(count: u32, at_once: u32) -> anyhow::Result<()> {
    setup::ensure()?;
    let lab = lab::ensure(lab::Show::Nothing)?;
    let agent = Agent::start(&lab, false)?;
    let release = lab.release();
    agent.json(
        &lab,
        &[
            "release",
            "install",
            "--current",
            release.to_str().context("the lab's path is not UTF-8")?,
        ],
    )?;
    let disk = lab.root_disk();
    let disk = disk.to_str().context("the lab's path is not UTF-8")?;
    step(&format!("booting {count} instances, {at_once} at a time"));
    let (next, boots) = (AtomicU32::new(0), Mutex::new(Vec::new()));
    let work = || -> anyhow::Result<()> {
        while next.fetch_add(1, Ordering::Relaxed) < count {
            let instance = agent.json(&lab, &["run", "--rootdisk", disk, "--", "/bin/true"])?;
            let boot = instance["boot"].clone();
            boots
                .lock()
                .map_err(|_| anyhow::anyhow!("a boot failed"))?
                .push(boot);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker failed"))?)
    })?;
    let boots = boots.into_inner().map_err(|_| anyhow::anyhow!("a boot failed"))?;
    let us = |boot: &serde_json::Value, key: &str| boot["host"][key].as_u64().unwrap_or(0);
    let phases: [(&str, &str, &str); 5] = [
        ("release verified", "", "verified_us"),
        ("disks and network", "verified_us", "prepared_us"),
        ("VM started", "prepared_us", "started_us"),
        ("guest's hello", "started_us", "hello_us"),
        ("ready", "hello_us", "settled_us"),
    ];
    println!("| {count} boots, {at_once} at a time | P50, ms | P99, ms |");
    println!("|---|---|---|");
    let row = |name: &str, mut values: Vec<u64>| {
        values.sort_unstable();
        let ms = |us: u64| format!("{}.{}", us / 1_000, us % 1_000 / 100);
        println!(
            "| {name} | {} | {} |",
            ms(percentile(&values, 50)),
            ms(percentile(&values, 99))
        );
    };
    for (name, from, to) in phases {
        row(
            name,
            boots
                .iter()
                .map(|boot| us(boot, to).saturating_sub(us(boot, from)))
                .collect(),
        );
    }
    row(
        "request to ready",
        boots.iter().map(|boot| us(boot, "settled_us")).collect(),
    );
    row(
        "VM start to ready",
        boots
            .iter()
            .map(|boot| us(boot, "settled_us").saturating_sub(us(boot, "prepared_us")))
            .collect(),
    );
    let stages = boots
        .first()
        .and_then(|boot| boot["stages"].as_array())
        .cloned()
        .unwrap_or_default();
    for (index, stage) in stages.iter().enumerate() {
        let took = |boot: &serde_json::Value| {
            let stage = &boot["stages"][index];
            stage["finished_us"]
                .as_u64()
                .unwrap_or(0)
                .saturating_sub(stage["started_us"].as_u64().unwrap_or(0))
        };
        row(
            &format!("guest: {}", stage["stage"].as_str().unwrap_or("?")),
            boots.iter().map(took).collect(),
        );
    }
    Ok(())
}
