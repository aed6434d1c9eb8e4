//! Where a rollout is, in words.

use plfm_api::control::{PausedShare, Rollout, RolloutStage, WavePosition};

use crate::admin::weight::Weight;

/// Where it is: `canary, wave 2 of 5 at 5%`; of a paused one where it was, and that it is paused.
pub fn render_state(rollout: &Rollout) -> String {
    let stage = match rollout.stage {
        RolloutStage::Planned => "planned".to_owned(),
        RolloutStage::Distributing => "distributing".to_owned(),
        RolloutStage::Canary => "canary".to_owned(),
        RolloutStage::Promoting => "promoting".to_owned(),
        RolloutStage::Complete => return "complete".to_owned(),
        RolloutStage::RollingBack => render_back("rolling back", rollout),
        RolloutStage::RolledBack => return render_back("rolled back", rollout),
        RolloutStage::Aborted => return "aborted".to_owned(),
    };
    let wave = rollout.wave.map(|wave| format!(", {}", render_wave(wave)));
    let place = stage + &wave.unwrap_or_default();
    match rollout.paused {
        None => place,
        Some(PausedShare::Kept) => format!("paused in {place}"),
        Some(PausedShare::Withdrawn) => format!("paused, its share withdrawn, in {place}"),
    }
}

fn render_back(what: &str, rollout: &Rollout) -> String {
    match &rollout.back_to {
        Some(release) => format!("{what} to {release}"),
        None => what.to_owned(),
    }
}

/// `wave 2 of 5 at 5%`, or `wave 1 of 5, a probe of 16 boots`.
fn render_wave(position: WavePosition) -> String {
    let WavePosition {
        wave,
        waves,
        boots_max,
        share,
    } = position;
    match boots_max {
        Some(boots) => format!("wave {wave} of {waves}, a probe of {boots} boots"),
        None => format!("wave {wave} of {waves} at {}", Weight(share)),
    }
}

/// Whether nothing more becomes of it.
pub fn is_over(stage: RolloutStage) -> bool {
    match stage {
        RolloutStage::Complete | RolloutStage::RolledBack | RolloutStage::Aborted => true,
        RolloutStage::Planned
        | RolloutStage::Distributing
        | RolloutStage::Canary
        | RolloutStage::Promoting
        | RolloutStage::RollingBack => false,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A rollout in its second wave.
    pub fn rollout() -> Rollout {
        Rollout {
            id: "01JAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
            release: "6.1.50-20260201a+guestinit-1.0.0-20260201a".parse().unwrap(),
            baseline: "6.1.50-20260101a+guestinit-1.0.0-20260101a".parse().unwrap(),
            stage: RolloutStage::Canary,
            paused: None,
            wave: Some(WavePosition {
                wave: 2,
                waves: 5,
                boots_max: None,
                share: 525,
            }),
            why: "held in wave 2: 31 of 50 boots seen, 19 more needed; soak ends 14:05".to_owned(),
            warnings: Vec::new(),
            back_to: None,
            started_by: "ci".to_owned(),
            started_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            since: "2026-01-02T04:04:05Z".parse().unwrap(),
            ended_at: None,
        }
    }

    #[test]
    fn a_state_says_where_it_is() {
        let state = |change: &dyn Fn(&mut Rollout)| {
            let mut rollout = rollout();
            change(&mut rollout);
            render_state(&rollout)
        };
        let probe = WavePosition {
            wave: 1,
            waves: 5,
            boots_max: Some(16),
            share: 0,
        };
        let states = [
            state(&|rollout| rollout.paused = Some(PausedShare::Kept)),
            state(&|rollout| rollout.paused = Some(PausedShare::Withdrawn)),
            state(&|rollout| rollout.wave = Some(probe)),
            state(&|rollout| (rollout.stage, rollout.wave) = (RolloutStage::Planned, None)),
            state(&|rollout| (rollout.stage, rollout.wave) = (RolloutStage::Distributing, None)),
            state(&|rollout| (rollout.stage, rollout.wave) = (RolloutStage::Promoting, None)),
            state(&|rollout| rollout.stage = RolloutStage::Complete),
            state(&|rollout| (rollout.stage, rollout.wave) = (RolloutStage::RollingBack, None)),
            state(&|rollout| {
                rollout.stage = RolloutStage::RolledBack;
                rollout.back_to = Some(rollout.baseline.clone());
            }),
            state(&|rollout| rollout.stage = RolloutStage::Aborted),
        ];
        insta::assert_snapshot!(states.join("\n"));
    }
}
