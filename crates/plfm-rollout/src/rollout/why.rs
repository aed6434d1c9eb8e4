//! Why a rollout is where it is, in an operator's words.

use std::fmt;

use jiff::Timestamp;
use plfm_release::ReleaseId;

use super::health::{Health, Proof};
use super::outcome::Tally;

/// Boots, and how many of them failed, of both releases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbers {
    /// Of the candidate.
    pub candidate: Tally,
    /// Of the baseline in the same minutes.
    pub baseline: Tally,
    /// Hosts with failures of the candidate.
    pub hosts: u32,
}

/// Why a rollout is where it is, or goes where it goes.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the text says what members are")]
pub enum Why {
    CoolDown {
        until: Timestamp,
    },
    Remembered {
        release: ReleaseId,
    },
    Unbootable {
        release: ReleaseId,
    },
    Starting,
    Distributing {
        have: u32,
        needed: u32,
        of: u32,
    },
    DistributionOverdue {
        have: u32,
        needed: u32,
    },
    Distributed {
        have: u32,
        of: u32,
    },
    Unheard {
        wave: u8,
        heard: u32,
        needed: u32,
    },
    Probing {
        wave: u8,
        allowed: u32,
        seen: u32,
        needed: u32,
    },
    Held {
        wave: u8,
        seen: u32,
        needed: u32,
        soak_until: Option<Timestamp>,
    },
    AboveThreshold {
        wave: u8,
        sample: Tally,
        threshold: u16,
    },
    Widening {
        wave: u8,
        seen: u32,
        failed: u32,
    },
    Advancing {
        wave: u8,
        seen: u32,
        failed: u32,
    },
    Overdue {
        wave: u8,
        seen: u32,
        needed: u32,
    },
    Promoting,
    Settling {
        have: u32,
        needed: u32,
    },
    Complete,
    Bad {
        proof: Proof,
        numbers: Numbers,
        back_to: ReleaseId,
    },
    NoWayBack {
        proof: Proof,
        numbers: Numbers,
    },
    OverThreshold {
        numbers: Numbers,
    },
    Incident {
        baseline: Tally,
    },
    Worse {
        numbers: Numbers,
        margin: u16,
    },
    Slow {
        numbers: Numbers,
    },
    Paused,
    Returning {
        have: u32,
        needed: u32,
    },
    Returned {
        have: u32,
    },
    Over,
}

impl Numbers {
    pub(super) fn of(health: &Health) -> Self {
        Self {
            candidate: health.judged.candidate,
            baseline: health.judged.baseline,
            hosts: health.failing_hosts,
        }
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            candidate,
            baseline,
            hosts,
        } = self;
        write!(
            f,
            "{} on {hosts} hosts, against {} before it",
            Failed(candidate),
            Failed(baseline)
        )
    }
}

/// `7 of 60 boots failed (11.7 %)`
struct Failed<'a>(&'a Tally);

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { boots, failures, .. } = self.0;
        let rate = self.0.failure_rate() * 100.0;
        write!(f, "{failures:.0} of {boots:.0} boots failed ({rate:.1} %)")
    }
}

/// `14:05`, in UTC.
struct Clock<'a>(&'a Timestamp);

impl fmt::Display for Clock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%H:%M"))
    }
}

/// A wave's number for people.
fn nth(wave: u8) -> u16 {
    u16::from(wave) + 1
}

fn percent(share: u16) -> f64 {
    f64::from(share) / 100.0
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WorseThanBaseline => "its boots fail far more often",
            Self::HandshakeTimeouts => "its guest init does not answer far more often",
            Self::OverThreshold => "its boots fail more often than the threshold allows",
        })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CoolDown { until } => write!(f, "waits: cool-down after a rollback ends {}", Clock(until)),
            Self::Remembered { release } => {
                write!(
                    f,
                    "waits: the fleet was taken back from {release}, and nobody cleared it since"
                )
            }
            Self::Unbootable { release } => {
                write!(
                    f,
                    "withdrawn: {release} is blocked, or is not in the registry any more"
                )
            }
            Self::Starting => f.write_str("starts: hosts bring the release in"),
            Self::Distributing { have, needed, of } => {
                let more = needed.saturating_sub(*have);
                write!(
                    f,
                    "distributing: {have} of {of} hosts have it, {more} more needed"
                )
            }
            Self::DistributionOverdue { have, needed } => {
                write!(
                    f,
                    "paused: {have} hosts have the release after the longest wait, {needed} were needed"
                )
            }
            Self::Distributed { have, of } => {
                write!(f, "{have} of {of} hosts have it: the first wave begins")
            }
            Self::Unheard { wave, heard, needed } => {
                let wave = nth(*wave);
                write!(
                    f,
                    "held in wave {wave}: {heard} hosts were heard of lately, {needed} needed to judge"
                )
            }
            Self::Probing {
                wave,
                allowed,
                seen,
                needed,
            } => {
                let (wave, more) = (nth(*wave), needed.saturating_sub(*seen));
                write!(
                    f,
                    "wave {wave} probes with {allowed} boots: {seen} of {needed} seen, {more} more needed"
                )
            }
            Self::Held {
                wave,
                seen,
                needed,
                soak_until,
            } => {
                write!(f, "held in wave {}: {seen} of {needed} boots seen", nth(*wave))?;
                match needed.saturating_sub(*seen) {
                    0 => {}
                    more => write!(f, ", {more} more needed")?,
                }
                match soak_until {
                    Some(until) => write!(f, "; soak ends {}", Clock(until)),
                    None => Ok(()),
                }
            }
            Self::AboveThreshold {
                wave,
                sample,
                threshold,
            } => {
                let (wave, threshold) = (nth(*wave), percent(*threshold));
                let failed = Failed(sample);
                write!(
                    f,
                    "held in wave {wave}: {failed}, above the threshold of {threshold:.1} %; this may be chance"
                )
            }
            Self::Widening { wave, seen, failed } => {
                write!(f, "wave {} widens: {failed} of {seen} boots failed", nth(*wave))
            }
            Self::Advancing { wave, seen, failed } => {
                write!(
                    f,
                    "wave {} begins: {failed} of {seen} boots failed in the one before",
                    nth(*wave)
                )
            }
            Self::Overdue { wave, seen, needed } => {
                let wave = nth(*wave);
                write!(
                    f,
                    "paused in wave {wave}: {seen} of {needed} boots seen after the longest wait"
                )
            }
            Self::Promoting => f.write_str("promoting: every new instance boots it"),
            Self::Settling { have, needed } => {
                write!(f, "promoting: {have} hosts go by the new target, {needed} needed")
            }
            Self::Complete => f.write_str("complete: the hosts go by the new target"),
            Self::Bad {
                proof,
                numbers,
                back_to,
            } => {
                write!(f, "rolled back to {back_to}: {proof}: {numbers}")
            }
            Self::NoWayBack { proof, numbers } => {
                write!(
                    f,
                    "frozen: {proof}: {numbers}; no earlier release is good, present and compatible"
                )
            }
            Self::OverThreshold { numbers } => {
                write!(
                    f,
                    "withdrawn: {numbers}; waits for the old release's boots of the same minutes"
                )
            }
            Self::Incident { baseline } => {
                write!(
                    f,
                    "frozen: of the old release {} lately: an incident",
                    Failed(baseline)
                )
            }
            Self::Worse { numbers, margin } => {
                let margin = percent(*margin);
                write!(
                    f,
                    "paused: {numbers}: worse, by less than the {margin:.1} points that take it back"
                )
            }
            Self::Slow { numbers } => {
                let (late, before) = (numbers.candidate.late, numbers.baseline.late);
                let (of, of_before) = (numbers.candidate.boots, numbers.baseline.boots);
                write!(
                    f,
                    "{late:.0} of {of:.0} boots were slow, against {before:.0} of {of_before:.0} before it"
                )
            }
            Self::Paused => f.write_str("paused: waits for `resume` or `abort`"),
            Self::Returning { have, needed } => {
                write!(
                    f,
                    "rolling back: {have} hosts go by the new target, {needed} needed"
                )
            }
            Self::Returned { have } => write!(f, "rolled back: {have} hosts go by the new target"),
            Self::Over => f.write_str("over"),
        }
    }
}
