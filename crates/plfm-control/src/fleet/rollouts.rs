//! Rollouts, as the facts so far make them.
//!
//! ```text
//! started ──> distributed ──> widened … advanced … ──> promoted ──> settled: complete
//!    each of them may be followed by: paused, resumed, retold;  condemned ──> settled: rolled back;  aborted
//! ```
//!
//! What comes next is decided by `plfm_rollout::rollout`; here it is remembered. Invariants: there is one rollout under way at
//! most; while there is, it says what hosts are told as default and canary; whatever changes that raises the generation.

mod commands;
mod fold;
mod operators;
mod orders;
mod plan;
mod shown;

pub use commands::{EngineDecision, RolloutChange, Sight, hosts_below};
pub use orders::Orders;

use jiff::Timestamp;
use plfm_api::control::{Generation, Rollout, RolloutHealth, RolloutMoment, RolloutPlan};
use plfm_release::ReleaseId;
use plfm_rollout::rollout::{self, Event, Marks, Plan, Share, Stage};
use serde::{Deserialize, Serialize, Serializer};

use super::FleetState;

/// What happened to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they mean what they mean in plfm_rollout")]
pub enum RolloutEvent {
    Distributed,
    Widened,
    Advanced,
    Promoted,
    Settled,
    /// And whether the release keeps its share.
    PausedKept,
    PausedWithdrawn,
    Resumed,
    Condemned,
    Aborted,
    /// Only what hosts are told became something else.
    Retold,
}

/// What an event means for the boots from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutMark {
    /// Hosts have their votes anew.
    Round,
    /// The share of new instances is another.
    Unsettled,
}

/// What a person must hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they mean what they mean in plfm_rollout")]
pub enum RolloutAlert {
    RolledBack,
    Paused,
    Incident,
    NoWayBack,
}

/// A step of a rollout, as the log has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutStep {
    /// Which rollout.
    pub rollout: String,
    /// What happened.
    pub event: RolloutEvent,
    /// The generation from then on, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// What hosts are told from then on.
    pub orders: Orders,
    /// What it means for the boots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<RolloutMark>,
    /// Where the fleet is taken back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<ReleaseId>,
    /// Why, in words.
    pub why: String,
    /// What an operator should know beside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What a person must hear of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<RolloutAlert>,
    /// What proved the release bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// What the boots said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<RolloutHealth>,
    /// From its first wave on: boots that take longer than this bucket are slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_above: Option<u8>,
}

/// A moment of a rollout's history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RolloutRemark {
    /// The event's place in the log.
    pub position: u64,
    /// What happened.
    pub moment: RolloutMoment,
    /// What a person must hear of.
    pub alert: Option<RolloutAlert>,
    /// The rollout from then on.
    pub then: Rollout,
}

/// A rollout that was started once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RolloutRecord {
    /// Its id.
    pub id: String,
    /// Who started it.
    pub started_by: String,
    /// When.
    pub started_at: Timestamp,
    /// The generation in which it began.
    pub since: Generation,
    /// The whole plan.
    pub plan: RolloutPlan,
    /// The same, for decisions.
    #[serde(skip)]
    pub rules: Plan,
    /// Boots of one host that count in a round.
    pub votes: u32,
    /// Where it is.
    #[serde(serialize_with = "stage_in_words")]
    pub at: rollout::Rollout,
    /// What hosts are told.
    pub orders: Orders,
    /// What its events mean for the boots, and since when.
    #[serde(skip)]
    pub marks: Vec<(Timestamp, Marks)>,
    /// Boots that take longer than this bucket are slow.
    pub late_above: Option<u8>,
    /// What the boots said at its last event.
    pub health: Option<RolloutHealth>,
    /// Why it is where it is.
    pub why: String,
    /// What an operator should know beside.
    pub warnings: Vec<String>,
    /// What happened to it, oldest first.
    pub history: Vec<RolloutRemark>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
}

fn stage_in_words<S: Serializer>(at: &rollout::Rollout, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&at.stage)
}

impl RolloutEvent {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Distributed => "distributed",
            Self::Widened => "widened",
            Self::Advanced => "advanced",
            Self::Promoted => "promoted",
            Self::Settled => "settled",
            Self::PausedKept | Self::PausedWithdrawn => "paused",
            Self::Resumed => "resumed",
            Self::Condemned => "condemned",
            Self::Aborted => "aborted",
            Self::Retold => "retold",
        }
    }

    /// What it is to the rollout's stage; nothing if hosts are only told something else.
    pub fn event(self) -> Option<Event> {
        Some(match self {
            Self::Distributed => Event::Distributed,
            Self::Widened => Event::Widen,
            Self::Advanced => Event::Advance,
            Self::Promoted => Event::Promote,
            Self::Settled => Event::Settled,
            Self::PausedKept => Event::Pause(Share::Kept),
            Self::PausedWithdrawn => Event::Pause(Share::Withdrawn),
            Self::Resumed => Event::Resume,
            Self::Condemned => Event::Condemn,
            Self::Aborted => Event::Abort,
            Self::Retold => return None,
        })
    }

    /// Of what was decided. A rollout begins when it is started, so none begins later.
    fn of(event: Option<Event>) -> Self {
        match event {
            Some(Event::Distributed) => Self::Distributed,
            Some(Event::Widen) => Self::Widened,
            Some(Event::Advance) => Self::Advanced,
            Some(Event::Promote) => Self::Promoted,
            Some(Event::Settled) => Self::Settled,
            Some(Event::Pause(Share::Kept)) => Self::PausedKept,
            Some(Event::Pause(Share::Withdrawn)) => Self::PausedWithdrawn,
            Some(Event::Resume) => Self::Resumed,
            Some(Event::Condemn) => Self::Condemned,
            Some(Event::Abort) => Self::Aborted,
            Some(Event::Start) | None => Self::Retold,
        }
    }
}

impl RolloutAlert {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RolledBack => "rolled_back",
            Self::Paused => "paused",
            Self::Incident => "incident",
            Self::NoWayBack => "no_way_back",
        }
    }
}

impl RolloutRecord {
    /// Whether nothing more will happen to it.
    pub fn is_over(&self) -> bool {
        self.at.stage.is_over()
    }
}

impl FleetState {
    /// All rollouts, oldest first.
    pub fn rollouts(&self) -> &[RolloutRecord] {
        &self.rollouts
    }

    /// The one that is under way.
    pub fn rollout_under_way(&self) -> Option<&RolloutRecord> {
        self.rollouts.last().filter(|rollout| !rollout.is_over())
    }

    /// One by its id; `current` is the one under way.
    ///
    /// # Errors
    /// `rollout_unknown`, `no_rollout`.
    pub fn rollout(&self, id: &str) -> Result<&RolloutRecord, super::Refusal> {
        if id == "current" {
            return self.rollout_under_way().ok_or_else(|| {
                super::Refusal::not_found("no_rollout", "no rollout is under way")
                    .hint("see `plfm admin rollout list` for those that were")
            });
        }
        let found = self.rollouts.iter().rev().find(|rollout| rollout.id == id);
        found.ok_or_else(|| {
            let shown: String = id.chars().take(40).collect();
            super::Refusal::not_found("rollout_unknown", format!("there is no rollout {shown:?}"))
                .hint("see `plfm admin rollout list`")
        })
    }

    /// When the fleet was last taken back from any release.
    pub fn rolled_back_at(&self) -> Option<Timestamp> {
        self.rolled_back_at
    }
}

/// What the stage is called on the wire.
pub(crate) fn stage_of(stage: Stage) -> plfm_api::control::RolloutStage {
    use plfm_api::control::RolloutStage as Shown;
    use plfm_rollout::rollout::Running;
    match stage {
        Stage::Planned => Shown::Planned,
        Stage::Running(at) | Stage::Paused { at, .. } => match at {
            Running::Distributing => Shown::Distributing,
            Running::Canary { .. } => Shown::Canary,
            Running::Promoting => Shown::Promoting,
        },
        Stage::RollingBack => Shown::RollingBack,
        Stage::RolledBack => Shown::RolledBack,
        Stage::Complete => Shown::Complete,
        Stage::Aborted => Shown::Aborted,
    }
}
