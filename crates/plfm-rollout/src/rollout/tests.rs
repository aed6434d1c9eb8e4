#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod outcomes;
mod plans;
mod properties;
mod stages;
mod words;

use jiff::{SignedDuration, Timestamp};
use plfm_release::ReleaseId;

use super::*;

/// Some full minute.
const BEGIN: i64 = 1_764_000_000;

fn id(n: usize) -> ReleaseId {
    format!("6.1.{n}-a+guestinit-1.0.0-a").parse().unwrap()
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(BEGIN + minutes * 60).unwrap()
}

fn minute(minutes: i64) -> Minute {
    Minute::of(at(minutes))
}

/// A fleet with a rollout of release 9 over release 3; before that were 1 and 2.
#[derive(Debug)]
struct Fleet {
    plan: Plan,
    rollout: Rollout,
    told: Directive,
    outcomes: Outcomes,
    known: Vec<Known>,
    defaults: Vec<ReleaseId>,
    hosts: Hosts,
    rolled_back_at: Option<Timestamp>,
}

impl Fleet {
    fn new(hosts: u32, stage: Stage) -> Self {
        let known = [1, 2, 3, 9].map(|n| Known {
            release: id(n),
            standing: Standing::Good,
            hosts_with: hosts,
            hosts_unable: 0,
        });
        let mut outcomes = Outcomes::new(hosts, 1);
        outcomes.begin_round(minute(0));
        let mut fleet = Self {
            plan: Plan::default(),
            rollout: Rollout {
                stage,
                ..Rollout::new(id(9), id(3), at(0))
            },
            told: Directive::default(),
            outcomes,
            known: known.into(),
            defaults: [1, 2, 3].map(id).into(),
            hosts: Hosts {
                active: hosts,
                eligible: hosts,
                with_candidate: hosts,
                at_generation: hosts,
                heard: hosts,
            },
            rolled_back_at: None,
        };
        fleet.told = Directive::of(&fleet.plan, &fleet.observed(), stage, None);
        fleet
    }

    fn canary(hosts: u32, wave: u8) -> Self {
        let step = if wave == 0 { 3 } else { 0 };
        Self::new(hosts, Stage::Running(Running::Canary { wave, step }))
    }

    fn observed(&self) -> Observed<'_> {
        Observed {
            rollout: &self.rollout,
            told: &self.told,
            generation: 7,
            hosts: self.hosts,
            outcomes: &self.outcomes,
            releases: &self.known,
            defaults: &self.defaults,
            rolled_back_at: self.rolled_back_at,
        }
    }

    fn decide(&self, minutes: i64) -> Decision {
        decide(&self.plan, &self.observed(), at(minutes))
    }

    /// A boot on each of some hosts, in one minute.
    fn boots(&mut self, side: Side, minutes: i64, hosts: std::ops::Range<u32>, ending: Ending) {
        for host in hosts {
            self.outcomes.record(Host(host), side, minute(minutes), ending, 1);
        }
    }

    fn stand(&mut self, n: usize, standing: Standing) {
        let known = self.known.iter_mut().find(|known| known.release == id(n));
        known.unwrap().standing = standing;
    }
}

/// Whether hosts are told to boot it anew.
fn names(directive: &Directive, release: &ReleaseId) -> bool {
    let canary = directive.canary.as_ref().map(|canary| &canary.release);
    directive.default.as_ref() == Some(release) || canary == Some(release)
}
