//! How long a new default takes to be seen by every host that holds a long poll.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use plfm_api::control::{Generation, IDEMPOTENCY_KEY, Receipt, SetDefault};

use crate::lists::Operator;
use crate::measure::Stage;
use crate::part::{Order, Seen, monotonic_us};
use crate::server;
use crate::spread::Spread;

/// How long the slowest host may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(stage: &mut Stage<'_>, rounds: usize) -> anyhow::Result<Vec<Spread>> {
    let (mut generation, mut spreads) = (Generation(0), Vec::with_capacity(rounds));
    let hosts: usize = stage.fleet.hosts;
    for round in 0..rounds {
        let release = stage
            .fleet
            .releases
            .get(round % 2)
            .context("there are two releases")?;
        for loader in stage.loaders.iter_mut() {
            loader.order(&Order::Poll { after: generation.0 }).await?;
        }
        wait_for_polls(stage, hosts).await?;
        let asked_us = monotonic_us();
        let operator = Operator::new(stage.fleet, stage.servers.first().context("there is no server")?)?;
        let receipt: Receipt = operator
            .post("/v1/kernels/set-default")
            .header(IDEMPOTENCY_KEY, ulid::Ulid::generate().to_string())
            .json(&SetDefault {
                release: release.to_string(),
                expected_generation: None,
                despite_unable_hosts: false,
                reason: None,
            })
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let mut took = Vec::with_capacity(hosts);
        for loader in stage.loaders.iter_mut() {
            let seen: Seen = loader.word(PATIENCE).await?;
            ensure!(
                seen.defaults
                    .iter()
                    .all(|default| default.as_ref() == Some(release)),
                "a host saw another default"
            );
            let since = |at_us: u64| u32::try_from(at_us.saturating_sub(asked_us)).unwrap_or(u32::MAX);
            took.extend(seen.at_us.into_iter().map(since));
        }
        ensure!(took.len() == hosts, "{} of {hosts} hosts saw it", took.len());
        spreads.push(Spread::of(took));
        generation = receipt.generation;
    }
    Ok(spreads)
}

/// The polls must be there before the change: the servers count them.
async fn wait_for_polls(stage: &Stage<'_>, hosts: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while server::counter(stage.servers, "plfm_control_long_polls").await? < hosts as f64 {
        ensure!(Instant::now() < deadline, "the long polls did not arrive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
