//! What the fleet is told, as a fold over facts; and what may be changed, as a decision about that.
//!
//! ```text
//! FleetState ── decide(command, context) ──> Decision {facts} or Refusal
//!     ^                                          │
//!     └──────────────── apply(fact) <────────────┘   in the order of the log
//! ```
//!
//! Invariants: no I/O, no clock, no randomness: time, new ids and what is known of hosts are parameters. The same facts
//! give the same state, so a replica that begins anew ends where the others are. Each fact about the fleet raises the
//! generation by one.

mod apply;
mod command;
mod decide;
mod fact;
mod hosts;
mod refusal;
mod releases;
mod rollouts;
mod state;
#[cfg(test)]
mod tests;
mod tokens;

pub use apply::ApplyError;
pub use command::{Command, Context, Enrolment, Lacking, VersionGroup};
pub use decide::Decision;
pub use fact::{Fact, FactError, FoundRelease, Started};
pub use refusal::{Refusal, RefusalKind};
pub use rollouts::{
    EngineDecision, Orders, RolloutAlert, RolloutChange, RolloutEvent, RolloutMark, RolloutRecord,
    RolloutRemark, RolloutStep, Sight, hosts_below,
};
pub use state::{
    EnrollmentTokenRecord, FleetState, HostRecord, HostStanding, ReleaseRecord, TokenRecord, Was,
};
