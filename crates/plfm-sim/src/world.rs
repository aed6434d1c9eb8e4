//! One simulated rollout: ticks of launches, reports on their way, and looks of whoever decides.

use std::mem;

use plfm_rollout::rollout::{Ending as BootEnding, Host, Minute, Side, Tally};
use serde::Serialize;

use crate::chance::Chance;
use crate::fleet::{Fleet, Kind, TICK, duration, kinds};
use crate::judge::{Ending, Judge, Rule, Told, minute};
use crate::scenario::{Scenario, Symptom};

/// Slots for reports on their way, one a tick: longer than any report takes.
const SLOTS: usize = 64;
/// Launches of the candidate in a tick up to which each has its host.
const EACH_MAX: f64 = 60.0;
/// Ticks between two looks while many boot the candidate.
const LOOK_TICKS: u64 = 12;
/// Before anything is rolled out, in seconds: what tells how the fleet is usually.
const BEFORE: f64 = 600.0;
/// How long a rollout that waits for a person is watched on, in seconds.
const WATCHED_ON: f64 = 3_600.0;
/// The longest a rollout may take, in seconds.
const LONGEST: f64 = 48.0 * 3_600.0;
/// The share of failures without the release's doing that are handshake timeouts.
const BACKGROUND_TIMEOUTS: f64 = 0.2;
/// The share of boots that are slow without the release's doing.
const BACKGROUND_SLOW: f64 = 0.01;

/// What reaches the control plane.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// How one boot ended.
    One {
        /// Its host.
        host: Host,
        /// Its release.
        side: Side,
        /// When it began.
        minute: Minute,
        /// How it ended.
        ending: BootEnding,
    },
    /// Good boots of many hosts.
    Spread {
        /// Their release.
        side: Side,
        /// When they began.
        minute: Minute,
        /// All of them.
        all: Tally,
        /// Those that have a vote.
        counted: Tally,
    },
}

/// What came of one rollout.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// How it ended.
    pub ending: Ending,
    /// The wave in which the candidate lost its share, from 1.
    pub stopped_in_wave: Option<u8>,
    /// When it did, in seconds since the first boot.
    pub stopped_after: Option<f64>,
    /// When it was paused, or lost its share, in seconds since the first boot.
    pub acted_after: Option<f64>,
    /// When it was first warned of, in seconds since the first boot.
    pub warned_after: Option<f64>,
    /// Boots of the candidate.
    pub exposed: u64,
    /// Those that failed.
    pub failed: u64,
    /// Which earlier release the fleet was taken back to, oldest 0.
    pub back_to: Option<usize>,
    /// How long it took in all, in seconds.
    pub seconds: f64,
}

struct World<'a> {
    fleet: Fleet,
    scenario: &'a Scenario,
    chance: Chance,
    judge: Judge,
    kinds: Vec<Kind>,
    /// Hosts in the order of their places, as far as they were needed.
    line: Vec<u32>,
    begun: Vec<u32>,
    slots: Vec<Vec<Report>>,
    held: Vec<Report>,
    tick: u64,
    begin_hour: f64,
    outage: Option<(f64, f64)>,
    told: (Told, f64),
    told_before: Told,
    round: i64,
    first_boot: Option<f64>,
    run: Run,
}

/// Lets a rule roll out a release once.
///
/// None if the rule cannot begin.
pub fn simulate(
    fleet: &Fleet,
    scenario: &Scenario,
    rule: &Rule,
    seed: u64,
    run: u64,
) -> Option<(Run, Vec<(f64, String)>)> {
    let judge = Judge::new(rule, fleet.hosts, scenario.way_back)?;
    let mut chance = Chance::new(seed, run);
    let outage = scenario.outage.map(|outage| {
        let begin = chance.unit() * outage.within_minutes * 60.0;
        (begin, begin + outage.minutes * 60.0)
    });
    let mut world = World {
        fleet: *fleet,
        scenario,
        begin_hour: chance.unit() * 24.0,
        chance,
        kinds: kinds(fleet, scenario),
        line: Vec::new(),
        begun: Vec::new(),
        slots: vec![Vec::new(); SLOTS],
        held: Vec::new(),
        tick: 0,
        outage,
        told: (judge.told(), 0.0),
        told_before: Told::Nothing,
        round: judge.round(0.0),
        first_boot: None,
        judge,
        run: Run {
            ending: Ending::Paused,
            stopped_in_wave: None,
            stopped_after: None,
            acted_after: None,
            warned_after: None,
            exposed: 0,
            failed: 0,
            back_to: None,
            seconds: 0.0,
        },
    };
    while world.step() {}
    world.run.back_to = world.judge.back_to();
    let (said, warned) = match world.judge {
        Judge::Project(project) => (project.said, project.warned),
        Judge::Rival(_) => (Vec::new(), None),
    };
    world.run.warned_after = warned.map(|at| at - world.first_boot.unwrap_or(at));
    Some((world.run, said))
}

impl World<'_> {
    fn now(&self) -> f64 {
        self.tick as f64 * TICK
    }

    /// One tick. False when the rollout is over.
    fn step(&mut self) -> bool {
        self.launch();
        self.deliver();
        self.tick += 1;
        let now = self.now();
        let few = match self.told.0 {
            Told::Nothing | Told::Hosts(..) => true,
            Told::Share(share) => self.launches(share) <= EACH_MAX,
        };
        if now >= BEFORE && !self.is_control_down(now) && (few || self.tick.is_multiple_of(LOOK_TICKS)) {
            self.look(now);
        }
        self.begin_round(now);
        self.goes_on(now)
    }

    fn look(&mut self, now: f64) {
        let wave = self.judge.wave();
        let since_up = self.scenario.control_down.map_or(f64::MAX, |(begin, minutes)| {
            let up = self.first_boot.unwrap_or(now) + (begin + minutes) * 60.0;
            if now >= up { now - up } else { f64::MAX }
        });
        let heard = 0.99 * (since_up / self.fleet.heartbeat_seconds).min(1.0);
        let since_told = now - self.told.1;
        let aware = 1.0 - self.fleet.unaware(since_told);
        self.judge.look(now, heard, aware, since_told > 0.0);
        let told = self.judge.told();
        if told != self.told.0 {
            if told == Told::Nothing {
                self.run.stopped_in_wave.get_or_insert(wave.saturating_add(1));
                self.run
                    .stopped_after
                    .get_or_insert(now - self.first_boot.unwrap_or(now));
            }
            self.told_before = mem::replace(&mut self.told, (told, now)).0;
        }
        if let Some(ending) = self.judge.ending() {
            if ending != Ending::Completed {
                self.run
                    .acted_after
                    .get_or_insert(now - self.first_boot.unwrap_or(now));
            }
            self.run.ending = ending;
        }
    }

    fn goes_on(&mut self, now: f64) -> bool {
        self.run.seconds = now;
        let waits = match self.judge.ending() {
            None => return now < LONGEST,
            Some(Ending::Completed | Ending::RolledBack) => false,
            Some(Ending::Paused | Ending::Withdrawn) => true,
        };
        let acted = self.run.acted_after.unwrap_or(0.0) + self.first_boot.unwrap_or(0.0);
        let until = match self.scenario.control_down {
            Some((begin, minutes)) => acted.max((begin + minutes) * 60.0),
            None => acted,
        };
        // What hosts begin until they hear of it belongs to what the rule let happen.
        let heard_of_it = now - self.told.1 > self.fleet.heartbeat_seconds;
        !heard_of_it || (waits && now < until + WATCHED_ON)
    }

    fn begin_round(&mut self, now: f64) {
        let round = self.judge.round(now);
        if round != self.round {
            self.round = round;
            self.kinds
                .iter_mut()
                .for_each(|kind| kind.unvoted = f64::from(kind.hosts));
        }
    }

    /// Launches of a host in this tick.
    fn mean(&self) -> f64 {
        let hour = (self.begin_hour + self.now() / 3_600.0) % 24.0;
        self.fleet.rate(hour) * TICK
    }

    fn launches(&self, share: f64) -> f64 {
        f64::from(self.fleet.hosts) * self.mean() * share
    }

    fn is_control_down(&self, now: f64) -> bool {
        let (Some((begin, minutes)), Some(first)) = (self.scenario.control_down, self.first_boot) else {
            return false;
        };
        (first + begin * 60.0..first + (begin + minutes) * 60.0).contains(&now)
    }

    fn launch(&mut self) {
        let unaware = self.fleet.unaware(self.now() - self.told.1);
        let share = |told: Told| match told {
            Told::Nothing | Told::Hosts(..) => 0.0,
            Told::Share(share) => share,
        };
        let share = (1.0 - unaware) * share(self.told.0) + unaware * share(self.told_before);
        let in_line = match (self.told.0, self.told_before) {
            (Told::Hosts(hosts, each, share), _) => self.launch_in_line(hosts, each, share),
            (Told::Nothing, Told::Hosts(hosts, each, share)) => {
                self.launch_in_line(hosts, each, unaware * share)
            }
            (Told::Nothing, Told::Nothing | Told::Share(_)) | (Told::Share(_), _) => 0,
        };
        let others = 1.0 - f64::from(in_line) / f64::from(self.fleet.hosts);
        let mean = self.mean() * others;
        let each = self.launches(share) <= EACH_MAX;
        for index in 0..self.kinds.len() {
            let Some(kind) = self.kinds.get(index).copied() else {
                continue;
            };
            let launched = self.chance.poisson((f64::from(kind.hosts) * mean).max(1e-12));
            let candidate = self.chance.binomial(launched, share);
            self.boot_baseline(&kind, launched - candidate);
            if each || kind.is_watched() {
                for _ in 0..candidate {
                    let host = kind.first + self.chance.below(kind.hosts);
                    self.boot_candidate(&kind, host);
                }
            } else {
                self.boot_many(index, candidate);
            }
        }
    }

    /// Launches on the first hosts in line, of which a share goes by it. Returns how many hosts these are.
    fn launch_in_line(&mut self, hosts: u32, each: u32, aware: f64) -> u32 {
        let hosts = hosts.min(self.fleet.hosts);
        while self.line.len() < hosts as usize {
            let next = self.chance.below(self.fleet.hosts);
            if !self.line.contains(&next) {
                self.line.push(next);
                self.begun.push(0);
            }
        }
        let mean = self.mean();
        for index in 0..hosts as usize {
            for _ in 0..self.chance.poisson(mean) {
                let (Some(host), Some(begun)) = (self.line.get(index).copied(), self.begun.get_mut(index))
                else {
                    continue;
                };
                let is_candidate = *begun < each && self.chance.happens(aware);
                *begun += u32::from(is_candidate);
                let kind = self.kinds.iter().rfind(|kind| kind.first <= host).copied();
                match kind {
                    Some(kind) if is_candidate => self.boot_candidate(&kind, host),
                    Some(kind) => self.boot_baseline(&kind, 1),
                    None => {}
                }
            }
        }
        hosts
    }

    /// The rate at which boots fail without the release's doing.
    fn background(&self, kind: &Kind) -> f64 {
        let own = if kind.broken {
            self.fleet.broken_rate
        } else {
            self.scenario.background
        };
        let now = self.now();
        let outage = self.outage.zip(self.scenario.outage);
        let first = self.first_boot.unwrap_or(f64::MAX);
        let outage = outage.map_or(0.0, |((begin, end), outage)| {
            if (first + begin..first + end).contains(&now) {
                outage.rate
            } else {
                0.0
            }
        });
        1.0 - (1.0 - own) * (1.0 - outage)
    }

    /// The rate at which boots fail by the release's doing.
    fn fault(&self, kind: &Kind) -> f64 {
        let fault = &self.scenario.fault;
        let begun = self
            .first_boot
            .is_none_or(|first| self.now() - first >= fault.after_minutes * 60.0);
        let begun = begun && (self.first_boot.is_some() || fault.after_minutes <= 0.0);
        if kind.shows_fault && begun {
            fault.rate
        } else {
            0.0
        }
    }

    fn boot_candidate(&mut self, kind: &Kind, host: u32) {
        let now = self.now();
        self.first_boot.get_or_insert(now);
        self.run.exposed += 1;
        let (fault, background) = (self.fault(kind), self.background(kind));
        let symptom = if self.chance.happens(fault) {
            Some(self.scenario.fault.symptom)
        } else if self.chance.happens(background) {
            Some(self.background_symptom())
        } else {
            None
        };
        self.run.failed += u64::from(symptom.is_some());
        let told = if kind.lies {
            Some(Symptom::HandshakeTimeout)
        } else {
            symptom
        };
        let late = told.is_none() && self.chance.happens(self.scenario.fault.slow);
        self.report_one(host, Side::Candidate, told, late);
    }

    fn background_symptom(&mut self) -> Symptom {
        if self.chance.happens(BACKGROUND_TIMEOUTS) {
            Symptom::HandshakeTimeout
        } else {
            Symptom::StageFailure
        }
    }

    fn report_one(&mut self, host: u32, side: Side, symptom: Option<Symptom>, late: bool) {
        if self.chance.happens(self.fleet.never) {
            return;
        }
        let ending = match symptom {
            None if late => BootEnding::ReadyLate,
            None => BootEnding::Ready,
            Some(Symptom::KernelPanic) => BootEnding::KernelPanic,
            Some(Symptom::StageFailure) => BootEnding::Failed,
            Some(Symptom::HandshakeTimeout) => BootEnding::HandshakeTimeout,
        };
        let took = match symptom {
            Some(Symptom::HandshakeTimeout) => duration(symptom),
            Some(Symptom::KernelPanic | Symptom::StageFailure) | None => {
                self.chance.lognormal(duration(symptom), 0.4)
            }
        };
        let under_way = match side {
            Side::Candidate => self.chance.waiting(self.fleet.report_seconds),
            // Failures are reported at once, whatever failed.
            Side::Baseline => self.chance.waiting(self.fleet.report_seconds),
        };
        let lost = if self.chance.happens(self.fleet.lost) {
            self.fleet.heartbeat_seconds
        } else {
            0.0
        };
        let begun = self.now() + self.chance.unit() * TICK;
        let report = Report::One {
            host: Host(host),
            side,
            minute: minute(begun),
            ending,
        };
        self.send(report, begun - self.now() + took + under_way + lost);
    }

    fn boot_baseline(&mut self, kind: &Kind, boots: u64) {
        let failing = if kind.lies { 0.0 } else { self.background(kind) };
        let failed = self.chance.binomial(boots, failing);
        for _ in 0..failed {
            let host = kind.first + self.chance.below(kind.hosts);
            let symptom = self.background_symptom();
            self.report_one(host, Side::Baseline, Some(symptom), false);
        }
        let good = boots - failed;
        if good > 0 {
            let late = self.chance.binomial(good, BACKGROUND_SLOW);
            let tally = Tally {
                boots: good as f64,
                late: late as f64,
                ..Tally::default()
            };
            let report = Report::Spread {
                side: Side::Baseline,
                minute: minute(self.now()),
                all: tally,
                counted: tally,
            };
            let under_way = self.chance.unit() * self.fleet.heartbeat_seconds;
            self.send(report, duration(None) + under_way);
        }
    }

    /// Boots of the candidate on hosts that are alike and not watched.
    fn boot_many(&mut self, index: usize, boots: u64) {
        let Some(kind) = self.kinds.get(index).copied() else {
            return;
        };
        if boots == 0 {
            return;
        }
        self.run.exposed += boots;
        let unvoted = (kind.unvoted / f64::from(kind.hosts)).clamp(0.0, 1.0);
        let (fault, background) = (self.fault(&kind), self.background(&kind));
        let by_release = self.chance.binomial(boots, fault);
        let by_chance = self.chance.binomial(boots - by_release, background);
        self.run.failed += by_release + by_chance;
        let mut voted = 0;
        for nth in 0..by_release + by_chance {
            if self.chance.happens(unvoted) {
                voted += 1;
                let host = kind.first + self.chance.below(kind.hosts);
                let symptom = if nth < by_release {
                    self.scenario.fault.symptom
                } else {
                    self.background_symptom()
                };
                self.report_one(host, Side::Candidate, Some(symptom), false);
            }
        }
        let good = boots - by_release - by_chance;
        let counted = self.chance.binomial(good, unvoted);
        let late = self.chance.binomial(counted, self.scenario.fault.slow);
        let tally = |boots: u64| Tally {
            boots: boots as f64,
            late: late as f64,
            ..Tally::default()
        };
        let report = Report::Spread {
            side: Side::Candidate,
            minute: minute(self.now()),
            all: tally(good),
            counted: tally(counted),
        };
        let under_way = self.chance.waiting(self.fleet.report_seconds);
        self.send(report, duration(None) + under_way);
        if let Some(kind) = self.kinds.get_mut(index) {
            kind.unvoted = (kind.unvoted - (voted + counted) as f64).max(0.0);
        }
    }

    fn send(&mut self, report: Report, seconds: f64) {
        let ticks = ((seconds / TICK) as usize).min(SLOTS - 2) + 1;
        let slot = (self.tick as usize + ticks) % SLOTS;
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.push(report);
        }
    }

    fn deliver(&mut self) {
        let slot = (self.tick as usize + 1) % SLOTS;
        let due = self.slots.get_mut(slot).map(mem::take).unwrap_or_default();
        if self.is_control_down(self.now()) {
            self.held.extend(due);
            return;
        }
        due.iter().for_each(|report| self.judge.hear(report));
        for report in mem::take(&mut self.held) {
            let seconds = self.chance.unit() * self.fleet.heartbeat_seconds;
            // Its slot of this tick is delivered already.
            self.send(report, seconds + TICK);
        }
    }
}
