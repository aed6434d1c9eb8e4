//! A part of the fleet, in a process of its own: this program, run by itself.
//!
//! ```text
//! reads its Part ──> hosts come ──> says Arrived ──order Beat──> says Beaten ──order Poll──> says Seen … ──order End──> ends
//! ```
//!
//! Orders come as lines of JSON on standard input, words go as lines of JSON to standard output. Moments are microseconds of
//! the machine's monotonic clock, which all processes share.

use std::io::{BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hyper::{Method, StatusCode};
use plfm_api::control::{HostId, Target};
use plfm_control::authority::PeerCertificate;
use plfm_release::ReleaseId;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::connection::{Connection, Dialer};
use crate::host::{Rested, Shared, SimulatedHost, Span, Tally};

/// Hosts of one loader that come at once: handshakes enough to keep the servers busy, few enough to end in time.
const COMING_MAX: usize = 32;

/// What a loader is told before it starts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Part {
    pub servers: Vec<SocketAddr>,
    /// The hosts' certificates, PEM, without their issuer's.
    pub certificates: PathBuf,
    pub ca: PathBuf,
    /// The key of all of them, PEM.
    pub key: PathBuf,
    pub releases: [ReleaseId; 2],
    /// The number of the first host in the whole fleet.
    pub first: usize,
    pub interval_ms: u64,
    pub ramp_ms: u64,
    pub epoch_us: u64,
    pub news_percent: u64,
    /// Where it connects from.
    pub from: Ipv4Addr,
    /// Where latencies go, each as four bytes.
    pub latencies: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Latencies count from one moment to the other; then hosts stop sending heartbeats and keep their connections.
    Beat { from_us: u64, until_us: u64 },
    /// Every host asks for a target after a generation, and waits for it.
    Poll { after: u64 },
    /// Go away.
    End,
}

/// All hosts have come, or tried to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Arrived {
    pub at_us: u64,
    /// What they did so far: the first heartbeat of each.
    pub tally: Tally,
}

/// All hosts stopped sending heartbeats.
#[derive(Debug, Serialize, Deserialize)]
pub struct Beaten {
    pub tally: Tally,
}

/// All hosts have seen the target.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// When each did.
    pub at_us: Vec<u64>,
    /// The defaults that they saw.
    pub defaults: Vec<Option<ReleaseId>>,
}

/// The machine's monotonic clock, in microseconds.
pub fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}

fn instant_of(us: u64) -> Instant {
    let (now, now_us) = (Instant::now(), monotonic_us());
    match us.checked_sub(now_us) {
        Some(ahead) => now + Duration::from_micros(ahead),
        None => now.checked_sub(Duration::from_micros(now_us - us)).unwrap_or(now),
    }
}

/// Simulates the hosts of a part until it is told to end.
pub async fn run(file: &Path) -> anyhow::Result<()> {
    let part: Part = serde_json::from_slice(&std::fs::read(file)?)?;
    let shared = Arc::new(Shared {
        dialer: Dialer::new(
            CertificateDer::from_pem_file(&part.ca)?,
            PrivateKeyDer::from_pem_file(&part.key)?,
            part.from,
        )?,
        releases: part.releases.clone(),
        interval: Duration::from_millis(part.interval_ms),
        news_percent: part.news_percent,
        coming: Semaphore::new(COMING_MAX),
        epoch: instant_of(part.epoch_us),
        latencies_us: Mutex::default(),
    });
    let (span, following) = watch::channel(None);
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let tasks: Vec<_> = hosts(&part)?
        .into_iter()
        .map(|host| tokio::spawn(host.live(Arc::clone(&shared), following.clone(), arrived.clone())))
        .collect();
    drop(arrived);
    let mut first = Tally::default();
    for _ in 0..tasks.len() {
        first.add(arrivals.recv().await.context("a host came to nothing")?);
    }
    say(&Arrived {
        at_us: monotonic_us(),
        tally: first,
    })?;
    let mut orders = orders();
    let Some(Order::Beat { from_us, until_us }) = orders.recv().await else {
        return Ok(());
    };
    span.send_replace(Some(Span {
        from: instant_of(from_us),
        until: instant_of(until_us),
    }));
    let (mut tally, mut resting) = (Tally::default(), Vec::with_capacity(tasks.len()));
    for task in tasks {
        let rested: Rested = task.await?;
        tally.add(rested.tally);
        resting.extend(rested.connection.map(|connection| (rested.id, connection)));
    }
    keep_latencies(&shared, &part.latencies)?;
    say(&Beaten { tally })?;
    while let Some(Order::Poll { after }) = orders.recv().await {
        resting = poll(resting, after).await?;
    }
    Ok(())
}

fn hosts(part: &Part) -> anyhow::Result<Vec<SimulatedHost>> {
    let issuers: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&part.ca)?.collect::<Result<_, _>>()?;
    let leaves: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&part.certificates)?.collect::<Result<_, _>>()?;
    let (begin, each) = (
        Instant::now(),
        Duration::from_millis(part.ramp_ms) / u32::try_from(leaves.len())?.max(1),
    );
    let mut hosts = Vec::with_capacity(leaves.len());
    for (at, leaf) in leaves.into_iter().enumerate() {
        let number = part.first + at;
        let server = part.servers.get(number % part.servers.len().max(1));
        hosts.push(SimulatedHost {
            id: PeerCertificate::parse(&leaf)?.host,
            chain: std::iter::once(leaf).chain(issuers.iter().cloned()).collect(),
            number,
            server: *server.context("there is no server")?,
            comes: begin + each * u32::try_from(at)?,
        });
    }
    Ok(hosts)
}

fn keep_latencies(shared: &Shared, file: &Path) -> anyhow::Result<()> {
    let latencies = shared.latencies_us.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes: Vec<u8> = latencies.iter().flat_map(|us| us.to_le_bytes()).collect();
    std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

/// What [`keep_latencies`] wrote.
pub fn latencies_of(file: &Path) -> anyhow::Result<Vec<u32>> {
    let bytes = std::fs::read(file)?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    ensure!(rest.is_empty(), "{} is cut off", file.display());
    Ok(numbers.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
}

type Resting = Vec<(HostId, Connection)>;

async fn poll(resting: Resting, after: u64) -> anyhow::Result<Resting> {
    let tasks: Vec<_> = resting
        .into_iter()
        .map(|(host, connection)| tokio::spawn(poll_one(host, connection, after)))
        .collect();
    let mut seen = Seen {
        at_us: Vec::with_capacity(tasks.len()),
        defaults: Vec::new(),
    };
    let mut resting = Vec::with_capacity(tasks.len());
    for task in tasks {
        let (host, connection, target, at_us) = task.await??;
        seen.at_us.push(at_us);
        if !seen.defaults.contains(&target.default) {
            seen.defaults.push(target.default);
        }
        resting.push((host, connection));
    }
    say(&seen)?;
    Ok(resting)
}

async fn poll_one(
    host: HostId,
    mut connection: Connection,
    after: u64,
) -> anyhow::Result<(HostId, Connection, Target, u64)> {
    let path = format!("/v1/hosts/{host}/target?after={after}&wait_seconds=55");
    let (status, body) = connection.ask(Method::GET, &path, Vec::new()).await?;
    let at_us = monotonic_us();
    ensure!(
        status == StatusCode::OK,
        "{status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok((host, connection, serde_json::from_slice(&body)?, at_us))
}

fn say(word: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(word)?)?;
    Ok(out.flush()?)
}

/// What comes on standard input, read beside the hosts. Ends with it.
fn orders() -> mpsc::UnboundedReceiver<Order> {
    let (sender, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Order::End) | Err(_) => return,
                Ok(order) => {
                    if sender.send(order).is_err() {
                        return;
                    }
                }
            }
        }
    });
    orders
}
