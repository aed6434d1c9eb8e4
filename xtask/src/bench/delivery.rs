//! Delivery: a release from a registry to a host, over a link that is like a real one.
//!
//! ```text
//!   network namespace                                  network namespace
//!   plfm registry serve  ── 100 Mbit/s ── 50 ms, 1 % ── plfm-agent
//!                                                           ^ plfm release fetch --current, timed here
//! ```
//!
//! Each run begins with nothing: a new agent in an empty directory that has not seen the registry yet. Timed is the
//! whole command: metadata, manifest, the pair, verification, installation.

mod far;
mod host;
mod link;
mod registry;

use std::path::Path;

use anyhow::{Context as _, bail};

use self::host::{Fetch, fetch_once};
use self::link::{Congestion, Link, Network};
use self::registry::{Offer, Registry};
use crate::shell::{cargo, run as run_to_end, step};
use crate::{lab, setup};

/// The spec's limit for the pair at 100 Mbit/s, in milliseconds.
const LIMIT_MS: u64 = 5_000;
/// Limit of the agent's memory during a fetch, in KiB.
const MEMORY_KIB_MAX: u64 = 32 * 1024;

/// How often each link is measured.
pub struct Runs {
    /// Fetches over the near links.
    pub near: u32,
    /// Fetches over the far ones, which take up to minutes each.
    pub far: u32,
}

/// What is fetched how often over which link.
struct Plan<'a> {
    link: Link,
    congestion: Congestion,
    offer: &'a Offer,
    runs: u32,
}

/// Measures all links.
pub fn run(runs: &Runs) -> anyhow::Result<()> {
    setup::ensure()?;
    step("compiling plfm and plfm-agent, optimized");
    run_to_end(cargo().args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "-p",
        "plfm",
        "-p",
        "plfm-agent",
    ]))?;
    let lab = lab::ensure_with(lab::target_dir().join("release"), lab::Show::Nothing)?;
    let scratch = lab::target_dir().join("bench-delivery");
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::create_dir_all(&scratch)?;
    let registry = Registry::make(&lab, &scratch)?;
    let (release, large) = (&registry.release, &registry.large);
    let plan = |link, congestion, offer, runs| Plan {
        link,
        congestion,
        offer,
        runs,
    };
    let mut plans = vec![
        plan(Link::Unshaped, Congestion::Cubic, release, runs.near),
        plan(Link::Near, Congestion::Cubic, release, runs.near),
        plan(Link::Far, Congestion::Cubic, release, runs.far),
        plan(Link::Unshaped, Congestion::Cubic, large, runs.near),
    ];
    if Congestion::Bbr.is_available()? {
        plans.push(plan(Link::Far, Congestion::Bbr, release, runs.far));
    }
    let mut rows = Vec::new();
    for plan in &plans {
        step(&format!(
            "{} fetches of {} over {}",
            plan.runs,
            plan.offer.name,
            plan.link.name()
        ));
        rows.push((plan, measure(&lab, &registry, plan, &scratch)?));
    }
    std::fs::remove_dir_all(&scratch)?;
    println!(
        "| link | server's congestion control | release | bytes | at the link's rate, s | median, s | max, s | agent's peak memory, MiB | before the fetch, MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (plan, fetches) in &rows {
        println!("{}", render(plan, fetches));
    }
    check(&rows)
}

fn measure(
    lab: &lab::Lab,
    registry: &Registry,
    plan: &Plan<'_>,
    scratch: &Path,
) -> anyhow::Result<Vec<Fetch>> {
    let network = Network::make(plan.link, plan.congestion)?;
    let mut fetches = Vec::new();
    for _ in 0..plan.runs {
        let fetch = fetch_once(lab, registry, &network, plan.offer, scratch)?;
        step(&format!("{} ms, {} KiB", fetch.took_ms, fetch.memory_peak_kib));
        fetches.push(fetch);
    }
    Ok(fetches)
}

fn render(plan: &Plan<'_>, fetches: &[Fetch]) -> String {
    let mut took: Vec<u64> = fetches.iter().map(|fetch| fetch.took_ms).collect();
    took.sort_unstable();
    let seconds = |ms: u64| format!("{}.{:02}", ms / 1_000, ms % 1_000 / 10);
    let mib = |kib: u64| format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024);
    let most = |of: fn(&Fetch) -> u64| fetches.iter().map(of).max().unwrap_or(0);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        plan.link.name(),
        plan.congestion.name(),
        plan.offer.name,
        plan.offer.bytes,
        plan.link
            .ideal_ms(plan.offer.bytes)
            .map_or_else(|| "-".to_owned(), seconds),
        seconds(super::percentile(&took, 50)),
        seconds(super::percentile(&took, 100)),
        mib(most(|fetch| fetch.memory_peak_kib)),
        mib(most(|fetch| fetch.memory_before_kib)),
    )
}

/// The limits, after the table is out.
fn check(rows: &[(&Plan<'_>, Vec<Fetch>)]) -> anyhow::Result<()> {
    for (plan, fetches) in rows {
        let slowest = fetches
            .iter()
            .map(|fetch| fetch.took_ms)
            .max()
            .context("no run")?;
        if matches!(plan.link, Link::Near) && slowest > LIMIT_MS {
            bail!(
                "{slowest} ms over {}: the limit is {LIMIT_MS} ms",
                plan.link.name()
            );
        }
        let most = fetches.iter().map(|fetch| fetch.memory_peak_kib).max();
        let most = most.context("no run")?;
        if most > MEMORY_KIB_MAX {
            bail!(
                "the agent had {most} KiB during a fetch of {}: the limit is {MEMORY_KIB_MAX} KiB",
                plan.offer.name
            );
        }
    }
    Ok(())
}
