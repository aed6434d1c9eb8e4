//! One simulated host.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use plfm_api::control::{
    Advertisement, CurrentDefault, Generation, Heartbeat, HeartbeatAnswer, HostId, HostRelease, HostStatus,
    OutcomeCount,
};
use plfm_api::{BootOutcome, ReleaseState};
use plfm_release::{Architecture, ReleaseId};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::connection::{Connection, Dialer};
use crate::spread::us;

/// Failures that are told in words.
const FAILURES_TOLD: usize = 3;

/// When latencies count, and when hosts stop. Until it is known they go on, and nothing counts.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: Instant,
    pub until: Instant,
}

/// What all hosts of a loader have in common.
pub struct Shared {
    pub dialer: Dialer,
    pub releases: [ReleaseId; 2],
    pub interval: Duration,
    pub news_percent: u64,
    /// Places for hosts that come at once: where the servers are slower than the pace, coming takes longer and does not fail.
    pub coming: Semaphore,
    /// The same moment for all loaders.
    pub epoch: Instant,
    /// Microseconds from when a heartbeat was due to its answer, of those that count.
    pub latencies_us: Mutex<Vec<u32>>,
}

impl Shared {
    /// The next of a host's own moments, one in each interval. The hosts' are spread evenly over it, however many there are
    /// and whenever they came: multiples of the golden ratio leave no gaps.
    fn first_due(&self, number: usize) -> Instant {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        let phase = self.interval.mul_f64((number as f64 * GOLDEN).fract());
        let first = self.epoch + phase;
        let Some(since) = Instant::now().checked_duration_since(first) else {
            return first;
        };
        let passed = since.as_nanos() / self.interval.as_nanos().max(1) + 1;
        first + self.interval * u32::try_from(passed).unwrap_or(u32::MAX)
    }
}

/// What hosts did, ever.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Tally {
    pub sent: u64,
    pub answered: u64,
    pub failed: u64,
    pub news: u64,
    pub boots: u64,
    pub failures: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.failed += other.failed;
        self.news += other.news;
        self.boots += other.boots;
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_TOLD);
    }

    fn fail(&mut self, error: &anyhow::Error) {
        self.failed += 1;
        if self.failures.len() < FAILURES_TOLD {
            self.failures.push(format!("{error:#}"));
        }
    }
}

pub struct SimulatedHost {
    pub id: HostId,
    pub chain: Vec<CertificateDer<'static>>,
    /// Its number in the whole fleet.
    pub number: usize,
    pub server: std::net::SocketAddr,
    /// When it comes.
    pub comes: Instant,
}

/// A host that stopped sending heartbeats.
pub struct Rested {
    pub id: HostId,
    pub connection: Option<Connection>,
    pub tally: Tally,
}

impl SimulatedHost {
    /// Comes, says so, and sends heartbeats until the span is over.
    pub async fn live(
        self,
        shared: Arc<Shared>,
        mut span: watch::Receiver<Option<Span>>,
        arrived: mpsc::UnboundedSender<Tally>,
    ) -> Rested {
        tokio::time::sleep_until(self.comes).await;
        let place = shared.coming.acquire().await;
        let mut tally = Tally::default();
        let mut connection = match shared.dialer.connect(self.server, self.chain).await {
            Ok(connection) => connection,
            Err(error) => {
                tally.fail(&error);
                let _ = arrived.send(tally.clone());
                return Rested {
                    id: self.id,
                    connection: None,
                    tally,
                };
            }
        };
        let mut beats = Beats::new(&self.id, self.number);
        beats.send(&mut connection, &shared, &mut tally).await;
        drop(place);
        let _ = arrived.send(tally.clone());
        drop(arrived);
        let mut due = shared.first_due(self.number);
        loop {
            if span.borrow_and_update().is_some_and(|span| due >= span.until) {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                changed = span.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => break,
                },
            }
            // Latency counts from when it was due: a server that holds one up is not excused from the next.
            beats.send(&mut connection, &shared, &mut tally).await;
            let counts = span
                .borrow()
                .is_some_and(|span| (span.from..span.until).contains(&due));
            if counts {
                let mut latencies = shared.latencies_us.lock().unwrap_or_else(PoisonError::into_inner);
                latencies.push(us(due.elapsed()));
            }
            due += shared.interval;
        }
        Rested {
            id: self.id,
            connection: Some(connection),
            tally,
        }
    }
}

/// A host's heartbeats, in their order.
struct Beats {
    path: String,
    stream: String,
    sequence: u64,
    generation: Generation,
    /// The turn of the host, for what it reports.
    turn: u64,
}

impl Beats {
    fn new(host: &HostId, number: usize) -> Self {
        Self {
            path: format!("/v1/hosts/{host}/heartbeat"),
            stream: ulid::Ulid::generate().to_string(),
            sequence: 0,
            generation: Generation(0),
            turn: u64::try_from(number).unwrap_or(0).wrapping_mul(7_919),
        }
    }

    async fn send(&mut self, connection: &mut Connection, shared: &Shared, tally: &mut Tally) {
        let (heartbeat, boots) = self.next(shared);
        tally.sent += 1;
        tally.news += u64::from(heartbeat.status.is_some() || boots > 0);
        tally.boots += boots;
        match self.exchange(connection, &heartbeat).await {
            Ok(()) => tally.answered += 1,
            Err(error) => tally.fail(&error),
        }
    }

    async fn exchange(&mut self, connection: &mut Connection, heartbeat: &Heartbeat) -> anyhow::Result<()> {
        let answer = connection
            .post(&self.path, serde_json::to_vec(heartbeat)?)
            .await?;
        let answer: HeartbeatAnswer = serde_json::from_slice(&answer)?;
        anyhow::ensure!(answer.sequence == self.sequence, "the news was not taken");
        self.generation = answer.generation;
        Ok(())
    }

    /// The first tells everything, some later ones tell of a boot, the others nothing.
    fn next(&mut self, shared: &Shared) -> (Heartbeat, u64) {
        let is_first = self.sequence == 0;
        // A multiplication scatters the hosts' turns (Knuth's multiplicative hashing).
        let has_boot = self.turn.wrapping_mul(2_654_435_761) % 100 < shared.news_percent;
        self.turn += 1;
        let outcomes = if has_boot {
            vec![boot(&shared.releases)]
        } else {
            Vec::new()
        };
        if is_first || has_boot {
            self.sequence += 1;
        }
        let boots = u64::try_from(outcomes.len()).unwrap_or(0);
        let heartbeat = Heartbeat {
            stream: self.stream.clone(),
            sequence: self.sequence,
            agent_version: semver::Version::new(1, 0, 0),
            generation: self.generation,
            status: is_first.then(|| status(&shared.releases)),
            outcomes,
            wants: Vec::new(),
        };
        (heartbeat, boots)
    }
}

fn boot([release, _]: &[ReleaseId; 2]) -> OutcomeCount {
    let now = Timestamp::now().as_second();
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

fn status([current, other]: &[ReleaseId; 2]) -> HostStatus {
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
