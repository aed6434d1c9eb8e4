//! A rollout as operators see it.

use plfm_api::control::{PausedShare, Rollout, WavePosition};
use plfm_rollout::rollout::{Running, Share, Stage};

use super::{RolloutRecord, stage_of};

/// Everything, in hundredths of a percent.
const WHOLE: u16 = 10_000;

impl RolloutRecord {
    /// The line of the list, as its last event left it.
    pub fn shown(&self) -> Rollout {
        let at = &self.at;
        let (running, paused) = match at.stage {
            Stage::Running(at) => (Some(at), None),
            Stage::Paused { at, share } => (Some(at), Some(share)),
            Stage::Planned | Stage::RollingBack | Stage::RolledBack | Stage::Complete | Stage::Aborted => {
                (None, None)
            }
        };
        Rollout {
            id: self.id.clone(),
            release: at.candidate.clone(),
            baseline: at.baseline.clone(),
            stage: stage_of(at.stage),
            paused: paused.map(|share| match share {
                Share::Kept => PausedShare::Kept,
                Share::Withdrawn => PausedShare::Withdrawn,
            }),
            wave: running.and_then(|running| self.wave(running)),
            why: self.why.clone(),
            warnings: self.warnings.clone(),
            back_to: at.back_to.clone(),
            started_by: self.started_by.clone(),
            started_at: self.started_at,
            since: at.wave_since,
            ended_at: self.ended_at,
        }
    }

    fn wave(&self, running: Running) -> Option<WavePosition> {
        let Running::Canary { wave, step } = running else {
            return None;
        };
        let probe = self.rules.probe.get(usize::from(step)).filter(|_| wave == 0);
        Some(WavePosition {
            wave: wave.saturating_add(1),
            waves: self.rules.waves_count(),
            boots_max: probe.copied(),
            share: self.share(),
        })
    }

    /// The share of new instances that boot the release, in hundredths of a percent; of a probe, 0.
    pub fn share(&self) -> u16 {
        let candidate = &self.at.candidate;
        let canary = self.orders.canary.as_ref();
        if self.orders.default.as_ref() == Some(candidate) {
            return WHOLE.saturating_sub(canary.map_or(0, |canary| canary.weight));
        }
        let share = canary.filter(|canary| canary.release == *candidate && canary.cohort.is_none());
        share.map_or(0, |canary| canary.weight)
    }

    /// Boots that its wave needs before the next, and when it has soaked and waited its longest.
    pub fn bounds(&self) -> Option<WaveBounds> {
        let Stage::Running(running) = self.at.stage else {
            return None;
        };
        let wait = |time| self.at.wave_since.checked_add(time).ok();
        match running {
            Running::Distributing => Some(WaveBounds {
                sample: None,
                soak_ends_at: None,
                wait_ends_at: wait(self.rules.distribution_wait_max),
            }),
            Running::Canary { wave, .. } => {
                let rules = self.rules.waves.get(usize::from(wave))?;
                Some(WaveBounds {
                    sample: Some(rules.sample_min),
                    soak_ends_at: self.at.step_since.checked_add(rules.soak_min).ok(),
                    wait_ends_at: wait(rules.wait_max),
                })
            }
            Running::Promoting => None,
        }
    }
}

/// What ends a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaveBounds {
    /// Boots that it needs.
    pub sample: Option<u32>,
    /// When it has soaked.
    pub soak_ends_at: Option<jiff::Timestamp>,
    /// When it has waited its longest.
    pub wait_ends_at: Option<jiff::Timestamp>,
}
