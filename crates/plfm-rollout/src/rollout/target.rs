//! What hosts are told at each stage.

use plfm_release::ReleaseId;

use super::cohort::Cohort;
use super::{Observed, Plan, Running, Share, Stage};

/// Everything, in hundredths of a percent.
const WHOLE: u16 = 10_000;

/// How far a canary reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extent {
    /// New instances of some hosts, each host's first few only.
    Hosts(Cohort),
    /// A share of all new instances, in hundredths of a percent.
    Share(u16),
}

/// A release that some new instances boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// The release.
    pub release: ReleaseId,
    /// Which ones.
    pub extent: Extent,
}

/// What hosts are told, as far as a rollout has a say in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directive {
    /// What new instances boot. None if nothing may be named: hosts go on with what they have.
    pub default: Option<ReleaseId>,
    /// What some of them boot instead.
    pub canary: Option<Canary>,
    /// What hosts bring in.
    pub prefetch: Option<ReleaseId>,
}

impl Directive {
    /// At a stage.
    pub(super) fn of(plan: &Plan, fleet: &Observed<'_>, stage: Stage, back_to: Option<&ReleaseId>) -> Self {
        let candidate = &fleet.rollout.candidate;
        match stage {
            Stage::Planned | Stage::Aborted => Self::without_candidate(plan, fleet),
            Stage::Running(at)
            | Stage::Paused {
                at,
                share: Share::Kept,
            } => Self::running(plan, fleet, at),
            Stage::Paused {
                share: Share::Withdrawn,
                ..
            } => Self::without_candidate(plan, fleet),
            Stage::RollingBack | Stage::RolledBack => match back_to.filter(|to| fleet.is_bootable(to)) {
                Some(release) => Self {
                    default: Some(release.clone()),
                    ..Self::default()
                },
                None => Self::without_candidate(plan, fleet),
            },
            Stage::Complete => Self {
                default: Some(candidate.clone()).filter(|release| fleet.is_bootable(release)),
                ..Self::default()
            },
        }
    }

    /// Whether its canary is a cohort of hosts.
    pub fn has_cohort(&self) -> bool {
        let is_of_hosts = |canary: &Canary| matches!(canary.extent, Extent::Hosts(_));
        self.canary.as_ref().is_some_and(is_of_hosts)
    }

    /// The share of new instances that boot the candidate: of a cohort, all that its hosts may begin.
    pub(super) fn candidate_share(&self, candidate: &ReleaseId, hosts: u32) -> f64 {
        let canary = self.canary.as_ref().map(|canary| match canary.extent {
            Extent::Hosts(cohort) => {
                let of_hosts = f64::from(cohort.hosts) / f64::from(hosts.max(1));
                (
                    &canary.release,
                    of_hosts * f64::from(cohort.share) / f64::from(WHOLE),
                )
            }
            Extent::Share(share) => (&canary.release, f64::from(share) / f64::from(WHOLE)),
        });
        match (canary, self.default.as_ref() == Some(candidate)) {
            (Some((release, share)), false) if release == candidate => share.min(1.0),
            (Some((_, share)), true) => 1.0 - share.min(1.0),
            (None, true) => 1.0,
            (Some(_) | None, false) => 0.0,
        }
    }

    /// Whether it gives the candidate a share of all new instances.
    pub(super) fn is_share(&self, fleet: &Observed<'_>) -> bool {
        let candidate = &fleet.rollout.candidate;
        let of_all = |canary: &Canary| matches!(canary.extent, Extent::Share(_));
        self.default.as_ref() == Some(candidate) || self.canary.as_ref().is_some_and(of_all)
    }

    fn without_candidate(plan: &Plan, fleet: &Observed<'_>) -> Self {
        let rollout = fleet.rollout;
        let baseline = Some(&rollout.baseline).filter(|release| fleet.is_bootable(release));
        let way_back = || {
            super::way_back(
                plan,
                fleet.defaults,
                fleet.releases,
                fleet.hosts.active,
                &rollout.candidate,
            )
        };
        Self {
            default: baseline.or_else(way_back).cloned(),
            ..Self::default()
        }
    }

    fn running(plan: &Plan, fleet: &Observed<'_>, at: Running) -> Self {
        let rollout = fleet.rollout;
        let candidate = &rollout.candidate;
        let prefetch = Some(candidate.clone());
        let bare = Self::without_candidate(plan, fleet);
        if !fleet.is_bootable(candidate) {
            return bare;
        }
        match at {
            Running::Distributing => Self { prefetch, ..bare },
            Running::Canary { wave, step } => Self {
                canary: Some(Canary {
                    release: candidate.clone(),
                    extent: extent(plan, fleet, wave, step),
                }),
                prefetch,
                ..bare
            },
            Running::Promoting => Self {
                default: Some(candidate.clone()),
                canary: Some(Canary {
                    release: rollout.baseline.clone(),
                    extent: Extent::Share(plan.holdback),
                })
                .filter(|canary| plan.holdback > 0 && fleet.is_bootable(&canary.release)),
                prefetch,
            },
        }
    }
}

/// How far a wave reaches at a step of its probe, or past it.
pub(super) fn extent(plan: &Plan, fleet: &Observed<'_>, wave: u8, step: u8) -> Extent {
    if let Some(boots) = probe(plan, wave, step) {
        return Extent::Hosts(Cohort::of(boots, fleet.hosts.eligible));
    }
    let share = plan.waves.get(usize::from(wave)).map_or(0, |wave| wave.share);
    Extent::Share(share.min(WHOLE.saturating_sub(plan.holdback)))
}

/// How many boots a probe allows at a step, if the wave is still probing. Only the first one does.
pub(super) fn probe(plan: &Plan, wave: u8, step: u8) -> Option<u32> {
    plan.probe.get(usize::from(step)).copied().filter(|_| wave == 0)
}
