//! Heartbeats, as many as a fleet sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use plfm_api::control::{
    Advertisement, CurrentDefault, Generation, Heartbeat, HeartbeatAnswer, HostRelease, HostStatus, Kernel,
    OutcomeCount, Page,
};
use plfm_api::{BootOutcome, ReleaseState};
use plfm_release::{Architecture, ReleaseId};

use crate::Options;
use crate::connection::Connection;
use crate::seed::Fleet;
use crate::server::Server;
use crate::summary::Figures;

/// What all hosts together did.
#[derive(Default)]
pub struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
    boots: AtomicU64,
}

pub async fn measure(
    server: &Server,
    fleet: &Fleet,
    connections: Vec<Connection>,
    options: &Options,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let tally = Arc::new(Tally::default());
    let count = u32::try_from(connections.len())?.max(1);
    let gap = options.interval() / count;
    let cpu_before = server.cpu_ms();
    let started = Instant::now();
    let end = started + Duration::from_secs(options.seconds);
    let mut tasks = Vec::with_capacity(connections.len());
    for (number, connection) in connections.into_iter().enumerate() {
        let host = SimulatedHost {
            first: started + gap * u32::try_from(number)?,
            connection,
            releases: fleet.releases.clone(),
            news_percent: options.news_percent,
            sequence: 0,
            generation: Generation(0),
        };
        tasks.push(tokio::spawn(host.live(end, options.interval(), tally.clone())));
    }
    let lists = list_kernels(server, fleet, end).await?;
    let mut latencies_us = Vec::new();
    for task in tasks {
        latencies_us.extend(task.await?);
    }
    figures.load_seconds = started.elapsed().as_secs_f64();
    figures.load_cpu_ms = server.cpu_ms() - cpu_before;
    figures.latency(latencies_us);
    figures.lists(lists);
    figures.answered = tally.answered.load(Ordering::Relaxed);
    figures.failed = tally.failed.load(Ordering::Relaxed);
    figures.boots_sent = tally.boots.load(Ordering::Relaxed);
    figures.heartbeats_counted = server.counter("plfm_control_heartbeats_total").await?;
    figures.boots_counted = kernels(server, fleet)
        .await?
        .items
        .iter()
        .map(|kernel| kernel.boots)
        .sum();
    Ok(())
}

/// `plfm admin kernels list`'s request, every few seconds, while the load goes on. Microseconds.
async fn list_kernels(server: &Server, fleet: &Fleet, end: Instant) -> anyhow::Result<Vec<u64>> {
    let mut took = Vec::new();
    while Instant::now() + Duration::from_secs(5) < end {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let asked = Instant::now();
        kernels(server, fleet).await?;
        took.push(u64::try_from(asked.elapsed().as_micros())?);
    }
    Ok(took)
}

async fn kernels(server: &Server, fleet: &Fleet) -> anyhow::Result<Page<Kernel>> {
    let answer = operator(fleet)?
        .get(format!("https://localhost:{}/v1/kernels", server.address.port()))
        .bearer_auth(&fleet.token)
        .send()
        .await?
        .error_for_status()?;
    Ok(answer.json().await?)
}

/// An operator's client.
pub fn operator(fleet: &Fleet) -> anyhow::Result<reqwest::Client> {
    let ca = reqwest::Certificate::from_pem(&std::fs::read(&fleet.ca)?)?;
    Ok(reqwest::Client::builder().tls_certs_only([ca]).build()?)
}

struct SimulatedHost {
    connection: Connection,
    first: Instant,
    releases: [ReleaseId; 2],
    news_percent: u64,
    sequence: u64,
    generation: Generation,
}

impl SimulatedHost {
    async fn live(mut self, end: Instant, interval: Duration, tally: Arc<Tally>) -> Vec<u32> {
        let path = format!("/v1/hosts/{}/heartbeat", self.connection.host);
        let stream = ulid::Ulid::generate().to_string();
        let mut latencies_us = Vec::new();
        let mut due = self.first;
        let mut number = u64::from(
            self.connection
                .host
                .as_str()
                .as_bytes()
                .last()
                .copied()
                .unwrap_or(0),
        );
        while due < end {
            tokio::time::sleep_until(due.into()).await;
            let (heartbeat, boots) = self.heartbeat(&stream, number);
            // Latency counts from when it was due: a server that holds one up is not excused from the next.
            let result = self.send(&path, &heartbeat).await;
            latencies_us.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
            if result.is_ok() {
                tally.answered.fetch_add(1, Ordering::Relaxed);
                tally.boots.fetch_add(boots, Ordering::Relaxed);
            } else {
                tally.failed.fetch_add(1, Ordering::Relaxed);
            }
            due += interval;
            number += 1;
        }
        latencies_us
    }

    async fn send(&mut self, path: &str, heartbeat: &Heartbeat) -> anyhow::Result<()> {
        let answer = self.connection.post(path, serde_json::to_vec(heartbeat)?).await?;
        let answer: HeartbeatAnswer = serde_json::from_slice(&answer)?;
        anyhow::ensure!(answer.sequence == self.sequence, "the news was not taken");
        self.generation = answer.generation;
        Ok(())
    }

    /// The first tells everything, some later ones tell of a boot, the others nothing.
    fn heartbeat(&mut self, stream: &str, number: u64) -> (Heartbeat, u64) {
        let is_first = self.sequence == 0;
        // A multiplication scatters the hosts' turns (Knuth's multiplicative hashing).
        let has_boot = number.wrapping_mul(2_654_435_761) % 100 < self.news_percent;
        let outcomes = if has_boot { vec![self.boot()] } else { Vec::new() };
        if is_first || has_boot {
            self.sequence += 1;
        }
        let boots = u64::try_from(outcomes.len()).unwrap_or(0);
        let heartbeat = Heartbeat {
            stream: stream.to_owned(),
            sequence: self.sequence,
            agent_version: semver::Version::new(1, 0, 0),
            generation: self.generation,
            status: is_first.then(|| self.status()),
            outcomes,
            wants: Vec::new(),
        };
        (heartbeat, boots)
    }

    fn boot(&self) -> OutcomeCount {
        let now = Timestamp::now().as_second();
        let [release, _] = &self.releases;
        OutcomeCount {
            release: release.clone(),
            window: Timestamp::from_second(now - now % 60).unwrap_or_default(),
            outcome: BootOutcome::Ready,
            count: 1,
            ready_ms_total: 140,
            ready_ms_max: 140,
            ready_ms_buckets: Vec::new(),
        }
    }

    fn status(&self) -> HostStatus {
        let [current, other] = &self.releases;
        HostStatus {
            advertisement: Advertisement {
                kernel_versions: vec![other.kernel.clone(), current.kernel.clone()],
                guest_init_protocols: vec![1],
                current_default: Some(CurrentDefault {
                    kernel: current.kernel.clone(),
                    initramfs: current.initramfs.clone(),
                }),
            },
            arch: Architecture::X86_64,
            vmm: "qemu-kvm".to_owned(),
            releases: vec![
                HostRelease {
                    release: current.clone(),
                    state: ReleaseState::Current,
                    instances: 12,
                },
                HostRelease {
                    release: other.clone(),
                    state: ReleaseState::Installed,
                    instances: 3,
                },
            ],
            problems: Vec::new(),
        }
    }
}
