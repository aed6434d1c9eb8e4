//! Who decides: this project's rule, or one of those that it is compared with.

use jiff::Timestamp;
use plfm_release::ReleaseId;
use plfm_rollout::rollout::{
    Directive, Extent, Hosts, Known, Minute, Observed, Outcomes, Plan, Reckoned, Rollout, Running, Share,
    Side, Stage, Standing, Tally, decide_again,
};
use serde::Serialize;

use crate::rival::{Rival, RivalRule};
use crate::scenario::WayBack;
use crate::world::Report;

/// By how much longer the soaks of a long rollout are: five hours become a day.
const LONG: i32 = 5;
/// When a simulated rollout begins: some midnight.
const EPOCH: i64 = 1_764_000_000;

/// A rule to try.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// This project's, with a plan and what it is called with that.
    Project {
        /// The name.
        name: &'static str,
        /// The plan.
        plan: Plan,
    },
    /// Another.
    Rival(RivalRule),
}

impl Rule {
    /// This project's, with its usual plan.
    pub fn usual() -> Self {
        Self::Project {
            name: "plfm",
            plan: Plan::default(),
        }
    }

    /// This project's, with the plan for what cannot wait.
    pub fn emergency() -> Self {
        Self::Project {
            name: "plfm-emergency",
            plan: Plan::emergency(),
        }
    }

    /// This project's, with soaks that make a rollout last a day.
    pub fn long() -> Self {
        let mut plan = Plan::default();
        for wave in &mut plan.waves {
            wave.soak_min *= LONG;
        }
        Self::Project {
            name: "plfm-long",
            plan,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Project { name, .. } => name,
            Self::Rival(rule) => rule.name(),
        }
    }
}

/// What hosts are told, as far as the simulation goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Told {
    /// Nothing boots the candidate.
    Nothing,
    /// Of new instances of the first hosts in line, and of each host as many at most, a share.
    Hosts(u32, u32, f64),
    /// A share of all new instances.
    Share(f64),
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Every new instance boots the candidate.
    Completed,
    /// The fleet was taken back.
    RolledBack,
    /// It waits for a person; the candidate keeps its share.
    Paused,
    /// It waits for a person; nothing boots the candidate.
    Withdrawn,
}

/// The moment of a second of the simulation.
pub fn moment(seconds: f64) -> Timestamp {
    Timestamp::from_millisecond(EPOCH * 1_000 + (seconds * 1_000.0) as i64).unwrap_or(Timestamp::MAX)
}

/// The minute of a second of the simulation.
pub fn minute(seconds: f64) -> Minute {
    Minute::of(moment(seconds))
}

/// Who decides about one rollout.
#[derive(Debug)]
pub enum Judge {
    /// This project's rule.
    Project(Box<Project>),
    /// Another.
    Rival(Rival),
}

/// This project's rule, with what the control plane keeps for it.
#[derive(Debug)]
pub struct Project {
    plan: Plan,
    rollout: Rollout,
    outcomes: Outcomes,
    reckoned: Reckoned,
    directive: Directive,
    generation: u64,
    known: Vec<Known>,
    defaults: Vec<ReleaseId>,
    hosts: u32,
    /// What it said at each event, for people.
    pub said: Vec<(f64, String)>,
    /// When it first warned of anything.
    pub warned: Option<f64>,
}

fn release(n: u8) -> Option<ReleaseId> {
    format!("6.1.{n}-a+guestinit-1.0.0-a").parse().ok()
}

impl Project {
    fn new(plan: &Plan, hosts: u32, way_back: WayBack) -> Option<Self> {
        let defaults: Vec<ReleaseId> = (1..=3).filter_map(release).collect();
        let candidate = release(9)?;
        let baseline = defaults.last()?.clone();
        let standings = match way_back {
            WayBack::Clear => [(Standing::Good, hosts); 3],
            WayBack::OldestOnly => [
                (Standing::Good, hosts),
                (Standing::Good, hosts / 2),
                (Standing::Good, hosts),
            ],
            WayBack::None => [
                (Standing::TakenBack, hosts),
                (Standing::Gone, hosts),
                (Standing::Good, hosts),
            ],
        };
        let known = |(release, (standing, hosts_with)): (&ReleaseId, (Standing, u32))| Known {
            release: release.clone(),
            standing,
            hosts_with,
            hosts_unable: 0,
        };
        let mut all: Vec<Known> = defaults.iter().zip(standings).map(known).collect();
        all.push(known((&candidate, (Standing::Good, hosts))));
        let sample = plan.waves.first().map_or(50, |wave| wave.sample_min);
        Some(Self {
            plan: plan.clone(),
            rollout: Rollout::new(candidate, baseline, moment(0.0)),
            outcomes: Outcomes::new(hosts, Outcomes::votes(hosts, sample)),
            reckoned: Reckoned::default(),
            directive: Directive::default(),
            generation: 1,
            known: all,
            defaults,
            hosts,
            said: Vec::new(),
            warned: None,
        })
    }

    /// What ran before is blocked while the rollout goes on.
    fn block_baseline(&mut self) {
        let baseline = &self.rollout.baseline;
        if let Some(known) = self.known.iter_mut().find(|known| known.release == *baseline) {
            known.standing = Standing::Blocked;
        }
    }

    /// Decides and carries out what was decided.
    fn look(&mut self, seconds: f64, heard: f64, at_generation: f64, in_force: bool) {
        let now = moment(seconds);
        let share = |of: f64| (f64::from(self.hosts) * of).round() as u32;
        let hosts = Hosts {
            active: self.hosts,
            eligible: self.hosts,
            with_candidate: self.hosts,
            at_generation: if in_force { share(at_generation) } else { 0 },
            heard: share(heard),
        };
        let observed = Observed {
            rollout: &self.rollout,
            told: &self.directive,
            generation: self.generation,
            hosts,
            outcomes: &self.outcomes,
            releases: &self.known,
            defaults: &self.defaults,
            rolled_back_at: None,
        };
        let decision = decide_again(&mut self.reckoned, &self.plan, &observed, now);
        if !decision.warnings.is_empty() {
            self.warned.get_or_insert(seconds);
        }
        self.directive = decision.directive;
        self.generation = decision.generation;
        self.outcomes.mark(decision.marks, now);
        let Some(event) = decision.event else { return };
        self.said.push((seconds, decision.why.to_string()));
        let waves = self.plan.waves_count();
        if let Ok(rollout) = self.rollout.after(event, decision.back_to, waves, now) {
            self.rollout = rollout;
        }
    }

    fn told(&self) -> Told {
        let candidate = &self.rollout.candidate;
        let is_default = self.directive.default.as_ref() == Some(candidate);
        match (&self.directive.canary, is_default) {
            (Some(canary), false) if canary.release == *candidate => match canary.extent {
                Extent::Hosts(cohort) => Told::Hosts(
                    cohort.hosts,
                    cohort.boots_each,
                    f64::from(cohort.share) / 10_000.0,
                ),
                Extent::Share(share) => Told::Share(f64::from(share) / 10_000.0),
            },
            (Some(canary), true) => match canary.extent {
                Extent::Hosts(_) => Told::Share(1.0),
                Extent::Share(share) => Told::Share(1.0 - f64::from(share) / 10_000.0),
            },
            (None, true) => Told::Share(1.0),
            (Some(_) | None, false) => Told::Nothing,
        }
    }

    fn ending(&self) -> Option<Ending> {
        match self.rollout.stage {
            Stage::Planned | Stage::Running(_) => None,
            Stage::Paused {
                share: Share::Kept, ..
            } => Some(Ending::Paused),
            Stage::Paused {
                share: Share::Withdrawn,
                ..
            } => Some(Ending::Withdrawn),
            Stage::RollingBack | Stage::RolledBack => Some(Ending::RolledBack),
            Stage::Complete => Some(Ending::Completed),
            Stage::Aborted => Some(Ending::Withdrawn),
        }
    }

    fn wave(&self) -> u8 {
        match self.rollout.stage {
            Stage::Running(Running::Canary { wave, .. })
            | Stage::Paused {
                at: Running::Canary { wave, .. },
                ..
            } => wave,
            Stage::Planned | Stage::Running(Running::Distributing) => 0,
            Stage::Paused {
                at: Running::Distributing,
                ..
            } => 0,
            Stage::Running(Running::Promoting)
            | Stage::Paused {
                at: Running::Promoting,
                ..
            } => self.plan.waves_count(),
            Stage::RollingBack | Stage::RolledBack | Stage::Complete | Stage::Aborted => u8::MAX,
        }
    }
}

impl Judge {
    /// For one rollout. None if the rule's releases have no names.
    pub fn new(rule: &Rule, hosts: u32, way_back: WayBack) -> Option<Self> {
        match rule {
            Rule::Project { plan, .. } => {
                let mut project = Project::new(plan, hosts, way_back)?;
                project.look(0.0, 1.0, 1.0, true);
                if way_back != WayBack::Clear {
                    project.block_baseline();
                }
                Some(Self::Project(Box::new(project)))
            }
            Rule::Rival(rule) => Some(Self::Rival(Rival::new(*rule))),
        }
    }

    /// What hosts are told now.
    pub fn told(&self) -> Told {
        match self {
            Self::Project(project) => project.told(),
            Self::Rival(rival) => rival.told(),
        }
    }

    /// Takes in what was reported.
    pub fn hear(&mut self, report: &Report) {
        match (self, report) {
            (
                Self::Project(project),
                Report::One {
                    host,
                    side,
                    minute,
                    ending,
                },
            ) => {
                project.outcomes.record(*host, *side, *minute, *ending, 1);
            }
            (
                Self::Project(project),
                Report::Spread {
                    side,
                    minute,
                    all,
                    counted,
                },
            ) => {
                project.outcomes.record_spread(*side, *minute, *all, *counted);
            }
            (
                Self::Rival(rival),
                Report::One {
                    side: Side::Candidate,
                    ending,
                    ..
                },
            ) => {
                rival.hear(Tally::of(*ending, 1));
            }
            (
                Self::Rival(rival),
                Report::Spread {
                    side: Side::Candidate,
                    all,
                    ..
                },
            ) => rival.hear(*all),
            (
                Self::Rival(_),
                Report::One {
                    side: Side::Baseline, ..
                }
                | Report::Spread {
                    side: Side::Baseline, ..
                },
            ) => {}
        }
    }

    /// Looks at what was reported so far. `in_force` if what hosts are told was sent before this moment.
    pub fn look(&mut self, seconds: f64, heard: f64, at_generation: f64, in_force: bool) {
        match self {
            Self::Project(project) => project.look(seconds, heard, at_generation, in_force),
            Self::Rival(rival) => rival.look(seconds),
        }
    }

    /// How it ended, or stands still.
    pub fn ending(&self) -> Option<Ending> {
        match self {
            Self::Project(project) => project.ending(),
            Self::Rival(rival) => rival.ending(),
        }
    }

    /// The wave that it is in, from 0.
    pub fn wave(&self) -> u8 {
        match self {
            Self::Project(project) => project.wave(),
            Self::Rival(rival) => rival.wave(),
        }
    }

    /// The release that the fleet was taken back to, as its place among the earlier ones, oldest 0.
    pub fn back_to(&self) -> Option<usize> {
        match self {
            Self::Project(project) => {
                let back_to = project.rollout.back_to.as_ref()?;
                project.defaults.iter().position(|release| release == back_to)
            }
            Self::Rival(_) => None,
        }
    }

    /// When the votes' rounds begin anew, as a minute: the wave's begin.
    pub fn round(&self, seconds: f64) -> i64 {
        match self {
            Self::Project(project) => {
                let begin = Minute::of(project.rollout.wave_since).0;
                begin
                    + (minute(seconds).0 - begin) / plfm_rollout::rollout::ROUND_MINUTES
                        * plfm_rollout::rollout::ROUND_MINUTES
            }
            // There, every boot counts.
            Self::Rival(_) => seconds as i64,
        }
    }
}
