//! What a target means for this host: pure.

use plfm_api::control::{CanaryCohort, MaintenanceWindow, Target};
use plfm_release::ReleaseId;
use plfm_rollout::selection::{Bound, Canary, Policy};
use plfm_rollout::window::{Window, WindowProblem, WindowText};

use std::collections::BTreeSet;

/// What is to be done with a target that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is newer than the one that the host goes by.
    Apply,
    /// It is that one.
    Known,
    /// It is older, and never applied: the control plane is a copy from before, or somebody replays its words.
    Older,
    /// It claims to be that one and says something else.
    Contradiction,
}

/// Compares what was offered with what the host goes by. A generation is applied once, and never an older one.
pub fn consider(applied: Option<&Target>, offered: &Target) -> Offer {
    match applied {
        None => Offer::Apply,
        Some(applied) if offered.generation > applied.generation => Offer::Apply,
        Some(applied) if offered.generation < applied.generation => Offer::Older,
        Some(applied) if offered == applied => Offer::Known,
        Some(_) => Offer::Contradiction,
    }
}

/// How a target has instances boot.
pub fn policy(target: &Target) -> Policy {
    Policy {
        default: target.default.clone(),
        canary: target.canary.as_ref().map(|canary| Canary {
            release: canary.release.clone(),
            weight: canary.weight,
            bound: canary.cohort.map(bound),
        }),
        pins: target.pins.clone(),
        blocked: target.blocked.clone(),
    }
}

fn bound(cohort: CanaryCohort) -> Bound {
    let CanaryCohort {
        hosts_below,
        boots_each,
        since,
    } = cohort;
    Bound {
        hosts_below,
        boots_each,
        since: since.0,
    }
}

/// All that a target names and wants on the host, most wanted first: what boots now before what may boot.
pub fn wanted(target: &Target) -> Vec<&ReleaseId> {
    let canary = target.canary.as_ref().map(|canary| &canary.release);
    let mut seen = BTreeSet::new();
    target
        .default
        .iter()
        .chain(canary)
        .chain(target.pins.values())
        .chain(&target.prefetch)
        .chain(&target.previous)
        .filter(|release| !target.blocked.contains(*release) && seen.insert(*release))
        .collect()
}

/// A target's window; `None` where there is none, which is open at any time.
pub fn window(target: &Target) -> Result<Option<Window>, Vec<WindowProblem>> {
    let Some(MaintenanceWindow {
        days,
        start,
        duration_minutes,
        time_zone,
    }) = &target.window
    else {
        return Ok(None);
    };
    let days: Vec<jiff::civil::Weekday> = days.iter().map(|day| day.civil()).collect();
    let text = WindowText {
        days: &days,
        start,
        duration_minutes: *duration_minutes,
        time_zone,
    };
    Window::parse(text).map(Some)
}

#[cfg(test)]
mod tests {
    use plfm_api::control::{Canary as CanaryTarget, Generation};

    use plfm_api::control::Weekday;

    use super::*;

    fn release(n: usize) -> ReleaseId {
        format!("6.1.{n}-a+guestinit-1.0.0-a").parse().unwrap()
    }

    fn target(generation: u64, default: usize) -> Target {
        Target {
            generation: Generation(generation),
            default: Some(release(default)),
            ..Target::default()
        }
    }

    #[test]
    fn only_a_newer_generation_is_applied() {
        let applied = target(7, 1);
        assert_eq!(consider(None, &target(0, 1)), Offer::Apply);
        assert_eq!(consider(Some(&applied), &target(8, 1)), Offer::Apply);
        assert_eq!(consider(Some(&applied), &applied), Offer::Known);
        assert_eq!(consider(Some(&applied), &target(6, 2)), Offer::Older);
        assert_eq!(consider(Some(&applied), &target(7, 2)), Offer::Contradiction);
    }

    #[test]
    fn what_boots_now_is_wanted_first_and_what_is_blocked_not_at_all() {
        let target = Target {
            previous: Some(release(5)),
            canary: Some(CanaryTarget {
                release: release(2),
                weight: 100,
                cohort: None,
            }),
            pins: [("a".to_owned(), release(3)), ("b".to_owned(), release(1))].into(),
            prefetch: [release(4), release(6)].into(),
            blocked: [release(4)].into(),
            ..target(1, 1)
        };
        let expected = [1, 2, 3, 6, 5].map(release);
        assert_eq!(wanted(&target), expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_window_that_makes_no_sense_is_no_open_window() {
        let mut target = target(1, 1);
        assert_eq!(window(&target), Ok(None));
        target.window = Some(MaintenanceWindow {
            days: [Weekday::Sunday].into(),
            start: "02:30".to_owned(),
            duration_minutes: 60,
            time_zone: "Mars/Olympus".to_owned(),
        });
        assert_eq!(window(&target).unwrap_err().len(), 1);
    }
}
