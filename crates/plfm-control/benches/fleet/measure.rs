//! One run: everything is started, loaded, compared and ended.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::counted::Counted;
use crate::host::Tally;
use crate::lists::{Operator, plfm, scrape_until};
use crate::loader::{self, Loader};
use crate::part::{Arrived, Beaten, Order, Part, latencies_of, monotonic_us};
use crate::postgres::Postgres;
use crate::seed::{Fleet, seed};
use crate::server::{self, Server};
use crate::shape::Shape;
use crate::spread::Spread;
use crate::summary::Figures;
use crate::usage::Used;
use crate::{Database, Options, push};

/// PostgreSQL as whoever runs a large fleet would have it: the default of the connections is for eight replicas, that of the
/// write-ahead log for a cluster whose segments have 16 MiB.
const POSTGRES: &[&str] = &["max_connections=300", "shared_buffers=256MB", "max_wal_size=2GB"];
/// Between the last host's coming and the first latency that counts.
const WARM_UP: Duration = Duration::from_secs(10);
/// How much longer than it should take something may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// What is running, and its database.
pub struct Stage<'a> {
    pub fleet: &'a Fleet,
    pub servers: &'a [Server],
    pub loaders: &'a mut Vec<Loader>,
}

/// What all processes use at a moment.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Usage {
    pub servers: Used,
    pub postgres: Used,
    pub loaders: Used,
}

impl Usage {
    fn now(servers: &[Server], postgres: Option<&Postgres>, loaders: &[Loader]) -> Self {
        Self {
            servers: Used::of(&server::pids(servers)),
            postgres: postgres.map_or_else(Used::default, |postgres| Used::of_family(postgres.pid())),
            loaders: Used::of(&loader::pids(loaders)),
        }
    }
}

pub async fn measure(options: &Options, shape: &Shape) -> anyhow::Result<Figures> {
    let dir = tempfile::Builder::new().prefix("plfm-fleet-").tempdir()?;
    let postgres = (options.database == Database::Postgres).then(|| Postgres::start_with(POSTGRES));
    let database = match &postgres {
        Some(postgres) => postgres.database().await,
        None => format!("sqlite:{}", dir.path().join("control.sqlite").display()),
    };
    let mut figures = Figures::new(options, shape);
    let began = Instant::now();
    let fleet = seed(dir.path(), &database, shape).await?;
    figures.seeded_seconds = began.elapsed().as_secs_f64();

    let began = Instant::now();
    let servers = start_servers(dir.path(), &database, shape).await?;
    figures.started_seconds = began.elapsed().as_secs_f64();
    let usage = |loaders: &[Loader]| Usage::now(&servers, postgres.as_ref(), loaders);
    figures.used_when_ready = usage(&[]);

    let mut loaders = start_loaders(dir.path(), &fleet, &servers, options, shape)?;
    figures.connected_seconds = wait_for_hosts(&mut loaders, shape).await?;
    figures.used_when_connected = usage(&loaders);

    let mut stage = Stage {
        fleet: &fleet,
        servers: &servers,
        loaders: &mut loaders,
    };
    if options.push > 0 {
        beat(&mut stage, Duration::ZERO, dir.path(), &mut figures).await?;
        figures.push_ms = push::measure(&mut stage, options.push).await?;
    } else {
        tokio::time::sleep(WARM_UP).await;
        figures.used_before_span = usage(stage.loaders);
        beat(
            &mut stage,
            Duration::from_secs(options.seconds),
            dir.path(),
            &mut figures,
        )
        .await?;
        figures.used_after_span = usage(stage.loaders);
        ask_afterwards(&stage, options, dir.path(), &mut figures).await?;
        compare(&stage, &database, &mut figures).await?;
    }
    for loader in loaders {
        loader.end().await?;
    }
    for server in servers {
        figures.warned(&server.said());
        server.stop().await?;
    }
    Ok(figures)
}

async fn start_servers(dir: &Path, database: &str, shape: &Shape) -> anyhow::Result<Vec<Server>> {
    let mut servers = (0..shape.servers)
        .map(|number| Server::start(dir, number, database, shape.hosts_of_server()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for server in &mut servers {
        server.ready().await?;
    }
    Ok(servers)
}

fn latencies_file(dir: &Path, loader: usize) -> PathBuf {
    dir.join(format!("latencies-{loader}"))
}

fn start_loaders(
    dir: &Path,
    fleet: &Fleet,
    servers: &[Server],
    options: &Options,
    shape: &Shape,
) -> anyhow::Result<Vec<Loader>> {
    let epoch_us = monotonic_us();
    let mut loaders = Vec::with_capacity(shape.loaders);
    for (number, (first, certificates)) in fleet.parts.iter().enumerate() {
        let part = Part {
            servers: servers.iter().map(|server| server.address).collect(),
            certificates: certificates.clone(),
            ca: fleet.ca.clone(),
            key: fleet.key.clone(),
            releases: fleet.releases.clone(),
            first: *first,
            interval_ms: u64::try_from(shape.interval.as_millis())?,
            ramp_ms: u64::try_from(shape.ramp.as_millis())?,
            epoch_us,
            news_percent: options.news_percent,
            // A loader has fewer hosts than an address has ports to go out by.
            from: Ipv4Addr::new(
                127,
                0,
                shape.net,
                u8::try_from(number + 1).context("too many loaders")?,
            ),
            latencies: latencies_file(dir, number),
        };
        loaders.push(Loader::start(&part, &dir.join(format!("part-{number}.json")))?);
    }
    Ok(loaders)
}

/// Waits until all are there. How long that took, in seconds.
async fn wait_for_hosts(loaders: &mut [Loader], shape: &Shape) -> anyhow::Result<f64> {
    let (began_us, mut last_us, mut all) = (monotonic_us(), 0, Tally::default());
    for loader in loaders {
        let arrived: Arrived = loader.word(shape.ramp * 3 + PATIENCE).await?;
        last_us = last_us.max(arrived.at_us);
        all.add(arrived.tally);
    }
    if all.failed > 0 {
        bail!("{} hosts could not come: {}", all.failed, all.failures.join("; "));
    }
    Ok(last_us.saturating_sub(began_us) as f64 / 1e6)
}

/// Lets latencies count for so long. Afterwards no heartbeats come, and all connections are open.
async fn beat(
    stage: &mut Stage<'_>,
    span: Duration,
    dir: &Path,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let from_us = monotonic_us();
    let until_us = from_us + u64::try_from(span.as_micros())?;
    for loader in stage.loaders.iter_mut() {
        loader.order(&Order::Beat { from_us, until_us }).await?;
    }
    let end = Instant::now() + span;
    let operator = Operator::new(stage.fleet, first(stage.servers)?)?;
    let (lists, scrapes) = tokio::join!(operator.time_kernels_until(end), scrape_until(stage.servers, end));
    (figures.kernels_under_load_ms, figures.scrapes_under_load_ms) = (lists?, scrapes?);
    let mut latencies = Vec::new();
    for (number, loader) in stage.loaders.iter_mut().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let beaten: Beaten = loader.word(left + PATIENCE).await?;
        figures.tally.add(beaten.tally);
        latencies.extend(latencies_of(&latencies_file(dir, number))?);
    }
    figures.span_seconds = span.as_secs_f64();
    figures.latency_ms = Spread::of(latencies);
    Ok(())
}

async fn ask_afterwards(
    stage: &Stage<'_>,
    options: &Options,
    dir: &Path,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let operator = Operator::new(stage.fleet, first(stage.servers)?)?;
    figures.kernels_ms = operator.time_kernels().await?;
    if let Some(plfm) = plfm(options.plfm.as_ref())? {
        figures.command_ms = Some(operator.time_command(&plfm, dir).await?);
    }
    Ok(())
}

async fn compare(stage: &Stage<'_>, database: &str, figures: &mut Figures) -> anyhow::Result<()> {
    let (heartbeats, connections) = ("plfm_control_heartbeats_total", "plfm_control_connections");
    figures.heartbeats_kept = server::counter(stage.servers, heartbeats).await?;
    figures.connections_open = server::counter(stage.servers, connections).await?;
    figures.in_database = Counted::in_database(database).await?;
    let operator = Operator::new(stage.fleet, first(stage.servers)?)?;
    let kernels = operator.kernels().await?;
    figures.boots_listed = kernels.items.iter().map(|kernel| kernel.boots).sum();
    figures.hosts_active_listed = kernels.items.first().map_or(0, |kernel| kernel.hosts_active);
    Ok(())
}

fn first(servers: &[Server]) -> anyhow::Result<&Server> {
    servers.first().context("there is no server")
}
