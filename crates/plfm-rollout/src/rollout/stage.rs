//! Where a rollout is, and what may happen to it there.

use std::fmt;

/// What a paused rollout's release is left with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Share {
    /// The share of new instances that it had.
    Kept,
    /// None: new instances boot the default.
    Withdrawn,
}

/// Where an unpaused rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Running {
    /// Hosts bring the release in; nothing boots it.
    Distributing,
    /// A share of new instances boots it.
    Canary {
        /// The wave, from 0.
        wave: u8,
        /// The step of the wave's probe; once it is past the last one, the wave's whole share is in force.
        step: u8,
    },
    /// It is the default; a few new instances still boot what was before it, to compare with.
    Promoting,
}

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It was asked for.
    Planned,
    /// It goes on by itself.
    Running(Running),
    /// It waits for a person.
    Paused {
        /// Where it was.
        at: Running,
        /// What the release is left with.
        share: Share,
    },
    /// The fleet is told to go back; hosts take that up.
    RollingBack,
    /// The fleet is back. The release is remembered as bad.
    RolledBack,
    /// Every new instance boots the release.
    Complete,
    /// A person ended it. The release is not remembered as bad.
    Aborted,
}

/// What happens to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// It begins.
    Start,
    /// Enough hosts have the release.
    Distributed,
    /// The next step of a probe is due, or the wave's whole share after the last.
    Widen,
    /// The next wave is due.
    Advance,
    /// Every new instance shall boot the release.
    Promote,
    /// Enough hosts go by the last target.
    Settled,
    /// It shall wait for a person.
    Pause(Share),
    /// A person lets it go on.
    Resume,
    /// The release is bad.
    Condemn,
    /// A person ends it.
    Abort,
}

/// An event that must not happen where the rollout is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rollout that is {stage} cannot {event}")]
pub struct IllegalEvent {
    /// Where it is.
    pub stage: Stage,
    /// What was to happen.
    pub event: Event,
}

impl IllegalEvent {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        "rollout_stage"
    }
}

impl Stage {
    /// Where the rollout is after an event. `waves` is how many waves its plan has, at least one.
    ///
    /// # Errors
    /// [`IllegalEvent`]: it is where this cannot happen.
    pub fn on(self, event: Event, waves: u8) -> Result<Self, IllegalEvent> {
        use Running::{Canary, Distributing, Promoting};
        let illegal = Err(IllegalEvent { stage: self, event });
        match (self, event) {
            (Self::Planned, Event::Start) => Ok(Self::Running(Distributing)),
            (Self::Planned, Event::Abort) => Ok(Self::Aborted),
            (
                Self::Planned,
                Event::Distributed
                | Event::Widen
                | Event::Advance
                | Event::Promote
                | Event::Settled
                | Event::Pause(_)
                | Event::Resume
                | Event::Condemn,
            ) => illegal,

            (Self::Running(Distributing), Event::Distributed) => {
                Ok(Self::Running(Canary { wave: 0, step: 0 }))
            }
            (Self::Running(Canary { wave, step }), Event::Widen) => match step.checked_add(1) {
                Some(step) => Ok(Self::Running(Canary { wave, step })),
                None => illegal,
            },
            (Self::Running(Canary { wave, .. }), Event::Advance) => match wave.checked_add(1) {
                Some(wave) if wave < waves => Ok(Self::Running(Canary { wave, step: 0 })),
                Some(_) | None => illegal,
            },
            (Self::Running(Canary { .. }), Event::Promote) => Ok(Self::Running(Promoting)),
            (Self::Running(Promoting), Event::Settled) => Ok(Self::Complete),
            (Self::Running(at), Event::Pause(share)) => Ok(Self::Paused { at, share }),
            (Self::Running(Canary { .. } | Promoting), Event::Condemn) => Ok(Self::RollingBack),
            (Self::Running(_), Event::Abort) => Ok(Self::Aborted),
            (Self::Running(Distributing), Event::Widen | Event::Advance | Event::Promote)
            | (Self::Running(Distributing), Event::Settled | Event::Condemn)
            | (Self::Running(Canary { .. }), Event::Distributed | Event::Settled)
            | (
                Self::Running(Promoting),
                Event::Distributed | Event::Widen | Event::Advance | Event::Promote,
            )
            | (Self::Running(_), Event::Start | Event::Resume) => illegal,

            (Self::Paused { at, .. }, Event::Resume) => Ok(Self::Running(at)),
            // What is withdrawn already is not given back by pausing it once more.
            (
                Self::Paused {
                    at,
                    share: Share::Kept,
                },
                Event::Pause(share),
            ) => Ok(Self::Paused { at, share }),
            (
                Self::Paused {
                    share: Share::Withdrawn,
                    ..
                },
                Event::Pause(_),
            ) => illegal,
            (
                Self::Paused {
                    at: Canary { .. } | Promoting,
                    ..
                },
                Event::Condemn,
            ) => Ok(Self::RollingBack),
            (Self::Paused { at: Distributing, .. }, Event::Condemn) => illegal,
            (Self::Paused { .. }, Event::Abort) => Ok(Self::Aborted),
            (
                Self::Paused { .. },
                Event::Start
                | Event::Distributed
                | Event::Widen
                | Event::Advance
                | Event::Promote
                | Event::Settled,
            ) => illegal,

            (Self::RollingBack, Event::Settled) => Ok(Self::RolledBack),
            (
                Self::RollingBack,
                Event::Start
                | Event::Distributed
                | Event::Widen
                | Event::Advance
                | Event::Promote
                | Event::Pause(_)
                | Event::Resume
                | Event::Condemn
                | Event::Abort,
            ) => illegal,

            (
                Self::RolledBack | Self::Complete | Self::Aborted,
                Event::Start
                | Event::Distributed
                | Event::Widen
                | Event::Advance
                | Event::Promote
                | Event::Settled
                | Event::Pause(_)
                | Event::Resume
                | Event::Condemn
                | Event::Abort,
            ) => illegal,
        }
    }

    /// Whether nothing more will happen to it.
    pub fn is_over(self) -> bool {
        match self {
            Self::RolledBack | Self::Complete | Self::Aborted => true,
            Self::Planned | Self::Running(_) | Self::Paused { .. } | Self::RollingBack => false,
        }
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Distributing => f.write_str("distributing"),
            Self::Canary { wave, .. } => write!(f, "in wave {}", u16::from(*wave) + 1),
            Self::Promoting => f.write_str("promoting"),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planned => f.write_str("planned"),
            Self::Running(at) => at.fmt(f),
            Self::Paused { at, .. } => write!(f, "paused ({at})"),
            Self::RollingBack => f.write_str("rolling back"),
            Self::RolledBack => f.write_str("rolled back"),
            Self::Complete => f.write_str("complete"),
            Self::Aborted => f.write_str("aborted"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Distributed => "begin its first wave",
            Self::Widen => "widen its wave",
            Self::Advance => "advance to another wave",
            Self::Promote => "be promoted",
            Self::Settled => "settle",
            Self::Pause(_) => "be paused",
            Self::Resume => "resume",
            Self::Condemn => "be rolled back",
            Self::Abort => "be aborted",
        })
    }
}
