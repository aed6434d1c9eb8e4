//! The link in a simulated network with a simulated clock: hours pass in milliseconds, and every message may be lost.

mod prompt;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use jiff::{SignedDuration, Timestamp};
use plfm_api::BootOutcome;
use plfm_api::control::Target;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;
use turmoil::net::{TcpListener, TcpStream};

use super::super::apply::{Offer, consider, policy};
use super::super::journal::{Boot, Journal};
use super::super::transport::TARGET_WAIT_SECONDS;
use super::*;

const HOST: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const PORT: u16 = 443;
const CONTROL: &str = "control";
const AGENT: &str = "agent";
const HOUR: Duration = Duration::from_secs(3_600);

fn release(n: usize) -> ReleaseId {
    format!("6.1.{n}-a+guestinit-1.0.0-a").parse().unwrap()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

#[derive(Debug, Serialize, Deserialize)]
enum Question {
    Heartbeat(Box<Heartbeat>),
    Target(Generation),
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Heartbeat(HeartbeatAnswer),
    Target(Option<Target>),
}

// --- the control plane: the rule of what counts, and a target

#[derive(Default)]
struct Model {
    target: Target,
    last: BTreeMap<String, u64>,
    counts: BTreeMap<ReleaseId, u64>,
    heartbeats: u64,
    /// When hosts shall come back, instead of every ten seconds.
    interval_ms: Option<u64>,
    status: Option<HostStatus>,
    /// It gives its target whatever the host goes by, as nobody should.
    insists: bool,
}

impl Model {
    fn heartbeat(&mut self, beat: Heartbeat) -> HeartbeatAnswer {
        self.heartbeats += 1;
        let last = self.last.entry(beat.stream).or_default();
        let has_news = beat.status.is_some() || !beat.outcomes.is_empty();
        if has_news && beat.sequence > *last {
            *last = beat.sequence;
            for tally in beat.outcomes {
                *self.counts.entry(tally.release).or_default() += u64::from(tally.count);
            }
            self.status = beat.status.or(self.status.take());
        }
        HeartbeatAnswer {
            sequence: *last,
            generation: self.target.generation,
            target: (self.insists || beat.generation < self.target.generation).then(|| self.target.clone()),
            next_heartbeat_ms: self.interval_ms.unwrap_or(10_000),
            send_status: self.status.is_none(),
            may_fetch: Vec::new(),
            drain: false,
        }
    }
}

async fn serve(model: Arc<Mutex<Model>>) -> turmoil::Result {
    let listener = TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let model = model.clone();
        tokio::spawn(async move {
            // A connection that breaks is the client's to see.
            let _ = answer(stream, model).await;
        });
    }
}

async fn answer(stream: TcpStream, model: Arc<Mutex<Model>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let reply = match serde_json::from_str(&line)? {
        Question::Heartbeat(beat) => Reply::Heartbeat(lock(&model).heartbeat(*beat)),
        Question::Target(after) => {
            let until = Instant::now() + Duration::from_secs(TARGET_WAIT_SECONDS);
            loop {
                let (target, insists) = {
                    let model = lock(&model);
                    (model.target.clone(), model.insists)
                };
                if insists || target.generation > after {
                    break Reply::Target(Some(target));
                }
                if Instant::now() >= until {
                    break Reply::Target(None);
                }
                sleep(Duration::from_millis(250)).await;
            }
        }
    };
    stream.write_all(&serde_json::to_vec(&reply)?).await?;
    stream.shutdown().await
}

// --- the agent's side

struct Network;

impl Network {
    async fn ask(&self, question: &Question, patience: Duration) -> Result<Reply, TransportError> {
        let unreachable = |error: io::Error| TransportError::Unreachable(error.to_string());
        let asking = async {
            let mut stream = TcpStream::connect((CONTROL, PORT)).await?;
            let mut line = serde_json::to_vec(question)?;
            line.push(b'\n');
            stream.write_all(&line).await?;
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply).await?;
            Ok(serde_json::from_slice(&reply)?)
        };
        match timeout(patience, asking).await {
            Ok(reply) => reply.map_err(unreachable),
            Err(_) => Err(TransportError::Unreachable("too slow".to_owned())),
        }
    }
}

impl Transport for Network {
    async fn heartbeat(&self, _: &HostId, beat: &Heartbeat) -> Result<HeartbeatAnswer, TransportError> {
        let question = Question::Heartbeat(Box::new(beat.clone()));
        match self.ask(&question, Duration::from_secs(30)).await? {
            Reply::Heartbeat(answer) => Ok(answer),
            Reply::Target(_) => Err(TransportError::Malformed("another reply".to_owned())),
        }
    }

    async fn target(&self, _: &HostId, after: Generation) -> Result<Option<Target>, TransportError> {
        let patience = Duration::from_secs(TARGET_WAIT_SECONDS + 15);
        match self.ask(&Question::Target(after), patience).await? {
            Reply::Target(target) => Ok(target),
            Reply::Heartbeat(_) => Err(TransportError::Malformed("another reply".to_owned())),
        }
    }
}

/// What survives a crash of the agent.
#[derive(Default)]
struct Disk {
    journal: Option<Journal>,
    target: Option<Target>,
    /// Records of instances.
    boots: BTreeMap<String, Boot>,
    /// The generations that were applied, in order.
    generations: Vec<u64>,
    /// What each boot chose, in order.
    chosen: Vec<ReleaseId>,
    /// How boots go from now on.
    kind: Kind,
}

/// A kind of boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Good,
    Failing,
    Canary,
}

struct DiskShelf(Arc<Mutex<Disk>>);

impl Shelf for DiskShelf {
    fn store(&self, journal: &Journal) -> io::Result<()> {
        lock(&self.0).journal = Some(journal.clone());
        Ok(())
    }
}

struct SimulatedHost {
    disk: Arc<Mutex<Disk>>,
    chance: AtomicU64,
    reached: Arc<AtomicU64>,
}

impl Side for SimulatedHost {
    async fn status(&self) -> Option<HostStatus> {
        let default = lock(&self.disk)
            .target
            .as_ref()
            .and_then(|target| target.default.clone());
        let status = serde_json::json!({
            "kernel_versions": [], "guest_init_protocols": [1], "arch": "x86_64", "vmm": "none", "releases": [],
            "current_default": default.map(|id| serde_json::json!({"kernel": id.kernel, "initramfs": id.initramfs})),
        });
        Some(serde_json::from_value(status).unwrap())
    }

    fn wants(&self) -> Vec<ReleaseId> {
        Vec::new()
    }

    fn generation(&self) -> Generation {
        let disk = lock(&self.disk);
        disk.target
            .as_ref()
            .map(|target| target.generation)
            .unwrap_or_default()
    }

    fn is_watched(&self) -> bool {
        let disk = lock(&self.disk);
        disk.target.as_ref().is_some_and(|target| target.canary.is_some())
    }

    async fn apply(&self, target: Target) -> bool {
        let mut disk = lock(&self.disk);
        let applies = consider(disk.target.as_ref(), &target) == Offer::Apply;
        if applies {
            disk.generations.push(target.generation.0);
            disk.target = Some(target);
        }
        applies
    }

    async fn told(&self, _: Told) {}

    fn contact(&self, result: Result<(), &TransportError>) {
        if result.is_ok() {
            self.reached.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn random(&self) -> u64 {
        self.chance.fetch_add(7_919, Ordering::SeqCst)
    }
}

/// An agent: its link, and an instance every few seconds that boots what the last target says.
async fn live(disk: Arc<Mutex<Disk>>, reached: Arc<AtomicU64>, boot_every: Duration) -> turmoil::Result {
    let journal = lock(&disk).journal.clone();
    let journal =
        journal.unwrap_or_else(|| Journal::begin("01BX5ZZKBKACTAV9WEVGEMMVRZ".to_owned(), BTreeSet::new()));
    let reports = Reports::new(journal, DiskShelf(disk.clone()));
    // What an agent does at its start: boots whose records are here, and were not counted, are.
    let records: Vec<Boot> = lock(&disk).boots.values().cloned().collect();
    reports.count(&records)?;
    let side = SimulatedHost {
        disk: disk.clone(),
        chance: AtomicU64::new(1),
        reached,
    };
    let (host, version, wake) = (
        HOST.parse().unwrap(),
        semver::Version::new(1, 0, 0),
        Arc::<Wake>::default(),
    );
    let link = Link {
        transport: &Network,
        side: &side,
        reports: &reports,
        host: &host,
        agent_version: &version,
        wake: &wake,
    };
    tokio::select! {
        _ = link.run() => {}
        () = boots(&disk, &reports, &wake, boot_every) => {}
    }
    Ok(())
}

async fn boots(disk: &Arc<Mutex<Disk>>, reports: &Reports<DiskShelf>, wake: &Wake, every: Duration) {
    loop {
        sleep(every).await;
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let boot = {
            let mut disk = lock(disk);
            // No network is asked: the last target decides.
            let Some(default) = disk.target.as_ref().and_then(|target| policy(target).default) else {
                continue;
            };
            disk.chosen.push(default.clone());
            let boot = Boot {
                instance: format!("I{}", disk.boots.len()),
                release: default,
                began_at: Timestamp::UNIX_EPOCH + SignedDuration::try_from(now).unwrap(),
                outcome: match disk.kind {
                    Kind::Good | Kind::Canary => BootOutcome::Ready,
                    Kind::Failing => BootOutcome::KernelPanic,
                },
                ready_ms: Some(100),
                is_canary: disk.kind == Kind::Canary,
            };
            disk.boots.insert(boot.instance.clone(), boot.clone());
            boot
        };
        // The agent may die here, between record and count.
        sleep(Duration::from_millis(20)).await;
        wake.noted(reports.count([&boot]).unwrap());
    }
}

struct World {
    sim: turmoil::Sim<'static>,
    model: Arc<Mutex<Model>>,
    disk: Arc<Mutex<Disk>>,
    reached: Arc<AtomicU64>,
}

fn world(seed: u64, fail_rate: f64) -> World {
    world_where(seed, fail_rate, Duration::from_secs(20))
}

fn world_where(seed: u64, fail_rate: f64, boot_every: Duration) -> World {
    let mut builder = turmoil::Builder::new();
    builder
        .simulation_duration(HOUR * 24)
        .tick_duration(Duration::from_millis(100))
        .rng_seed(seed)
        .fail_rate(fail_rate)
        .repair_rate(0.3)
        .tcp_capacity(1_024);
    let mut sim = builder.build();
    let (model, disk, reached) = <(Arc<Mutex<Model>>, Arc<Mutex<Disk>>, Arc<AtomicU64>)>::default();
    let serving = model.clone();
    sim.host(CONTROL, move || serve(serving.clone()));
    let (living, reaching) = (disk.clone(), reached.clone());
    sim.host(AGENT, move || live(living.clone(), reaching.clone(), boot_every));
    World {
        sim,
        model,
        disk,
        reached,
    }
}

impl World {
    fn run_for(&mut self, duration: Duration) {
        let until = self.sim.elapsed() + duration;
        while self.sim.elapsed() < until {
            self.sim.step().unwrap();
        }
    }

    fn set_default(&self, generation: u64, n: usize) {
        lock(&self.model).target = Target {
            generation: Generation(generation),
            default: Some(release(n)),
            ..Target::default()
        };
    }

    fn counted(&self) -> u64 {
        lock(&self.model).counts.values().sum()
    }

    fn booted(&self) -> u64 {
        lock(&self.disk).boots.len().try_into().unwrap()
    }

    fn last_chosen(&self) -> ReleaseId {
        lock(&self.disk).chosen.last().unwrap().clone()
    }

    /// Lets the last reports arrive: what was booted within the last interval is not told yet.
    fn settle(&mut self) -> (u64, u64) {
        self.run_for(Duration::from_secs(60));
        (self.counted(), self.booted())
    }
}

#[test]
fn a_new_target_is_applied_within_two_seconds() {
    let mut world = world(1, 0.0);
    world.run_for(Duration::from_secs(30));
    world.set_default(1, 1);
    world.run_for(Duration::from_secs(2));
    assert_eq!(lock(&world.disk).generations, [1]);
    world.run_for(Duration::from_secs(15));
    let status = lock(&world.model).status.clone().unwrap();
    assert_eq!(
        status.advertisement.current_default.unwrap().kernel,
        release(1).kernel
    );
}

#[test]
fn an_hour_without_the_control_plane_stops_no_boot_and_counts_nothing_twice() {
    let mut world = world(2, 0.0);
    world.set_default(1, 1);
    world.run_for(Duration::from_secs(300));
    let (before, reached) = (world.booted(), world.reached.load(Ordering::SeqCst));
    assert!(world.counted() > 0);
    world.sim.partition(AGENT, CONTROL);
    world.run_for(Duration::from_secs(60));
    let counted = world.counted();
    // Meanwhile the fleet's default changes.
    world.set_default(2, 2);
    world.run_for(HOUR);
    assert_eq!(world.last_chosen(), release(1), "it goes on with the last target");
    assert!(
        world.booted() >= before + 170,
        "{} boots",
        world.booted() - before
    );
    assert_eq!(world.counted(), counted, "nothing came through");
    assert!(world.reached.load(Ordering::SeqCst) < reached + 20);
    // It tries at most once a minute or so, and comes back by itself.
    world.sim.repair(AGENT, CONTROL);
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.last_chosen(), release(2));
    let (counted, booted) = world.settle();
    assert!(
        counted <= booted && booted - counted <= 1,
        "{counted} of {booted}"
    );
}

#[test]
fn an_agent_that_dies_again_and_again_loses_no_boot_and_counts_none_twice() {
    let mut world = world(3, 0.0);
    world.set_default(1, 1);
    for n in 0..200_u64 {
        // At every moment of the twenty seconds between two boots, and of the write after one.
        world.run_for(Duration::from_millis(20_000 + n * 37 % 1_000));
        world.sim.crash(AGENT);
        world.run_for(Duration::from_millis(200));
        world.sim.bounce(AGENT);
    }
    world.run_for(Duration::from_secs(60));
    let (counted, booted) = world.settle();
    assert!(booted > 100);
    assert!(
        counted <= booted && booted - counted <= 1,
        "{counted} of {booted}"
    );
}

#[test]
fn a_bad_network_and_a_dying_agent_count_every_boot_once() {
    for seed in 0..4 {
        let mut world = world(100 + seed, 0.02);
        let mut generation = 0;
        for n in 0..60_u64 {
            generation += 1;
            world.set_default(generation, usize::try_from(n % 3).unwrap());
            world.run_for(Duration::from_millis(30_000 + n * 191 % 5_000));
            assert!(world.counted() <= world.booted());
            if n.is_multiple_of(5) {
                world.sim.crash(AGENT);
                world.run_for(Duration::from_millis(100));
                world.sim.bounce(AGENT);
            }
        }
        world.sim.set_fail_rate(0.0);
        world.sim.repair(AGENT, CONTROL);
        world.run_for(Duration::from_secs(180));
        let (counted, booted) = world.settle();
        assert!(
            booted > 50 && counted <= booted && booted - counted <= 1,
            "seed {seed}: {counted} of {booted}"
        );
        let generations = lock(&world.disk).generations.clone();
        assert!(generations.is_sorted_by(|a, b| a < b), "{generations:?}");
        assert_eq!(generations.last(), Some(&generation));
    }
}

#[test]
fn an_older_target_is_never_applied_again() {
    let mut world = world(5, 0.0);
    world.set_default(5, 1);
    world.run_for(Duration::from_secs(60));
    // The control plane comes back from an old backup, and insists.
    lock(&world.model).insists = true;
    world.set_default(3, 2);
    world.run_for(Duration::from_secs(60));
    world.sim.crash(AGENT);
    world.sim.bounce(AGENT);
    world.run_for(Duration::from_secs(120));
    assert_eq!(lock(&world.disk).generations, [5]);
    assert_eq!(world.last_chosen(), release(1));
    assert!(
        lock(&world.model).heartbeats < 60,
        "and it does not hurry because of it"
    );
}

#[test]
fn a_quiet_host_comes_when_it_was_told_to() {
    let mut world = world(6, 0.0);
    world.run_for(Duration::from_secs(1_000));
    let heartbeats = lock(&world.model).heartbeats;
    assert!(
        (90..=125).contains(&heartbeats),
        "{heartbeats} in 1000 s, every 10 s"
    );
}
