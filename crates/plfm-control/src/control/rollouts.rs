//! Rollouts, carried out.
//!
//! ```text
//! reports ──> trial (outcomes in memory) ─┐
//! hosts ────> sight ──────────────────────┴─> plfm_rollout::decide ──> append if the log still ends there ──> hosts' target
//!                                                    └──> view, for whoever asks why            └──> webhook, by its cursor
//! ```
//!
//! Invariants: the decision is the log's entry, so nothing is lost between deciding and doing; whatever replica decides, it
//! decides from the log's end, and of two only one is appended; what is told outside follows from the log alone.

mod driver;
mod sight;
mod trial;
mod view;

pub(super) use driver::Driver;
pub use view::RolloutView;

use jiff::Timestamp;
use plfm_api::control::{Actor, Page, Rollout, RolloutDetail};

use tracing::warn;

use super::{Control, ControlError};
use crate::fleet::RolloutRecord;
use crate::store::StoreError;

/// The control plane itself, as it is in the log when it decides.
pub(super) fn actor() -> Actor {
    Actor {
        kind: "system".to_owned(),
        id: "rollouts".to_owned(),
        name: "rollouts".to_owned(),
        address: None,
        request_id: None,
    }
}

impl Control {
    /// Removes reports that no rollout is judged by: those from long before the one under way, or before now.
    pub async fn prune_reports(&self) -> Result<u64, StoreError> {
        let fleet = self.fleet();
        let now = self.now();
        let since = fleet
            .rollout_under_way()
            .map_or(now, |rollout| rollout.started_at.min(now));
        let before = since.checked_sub(trial::BEFORE).unwrap_or(Timestamp::UNIX_EPOCH);
        self.store().prune_reports(before).await
    }

    /// Whoever decides next need not wait until this replica's word is over.
    pub(super) async fn leave_desk(&self) {
        if let Err(error) = self.store().leave_desk(&self.0.replica).await {
            warn!(
                code = error.code(),
                "the desk is left by itself: {}",
                crate::server::chain(&error)
            );
        }
    }

    /// The rollouts, newest first, after the one that `cursor` names.
    pub async fn rollouts(&self, cursor: Option<&str>, limit: usize) -> Result<Page<Rollout>, ControlError> {
        let fleet = self.fleet();
        let before = |rollout: &&RolloutRecord| cursor.is_none_or(|cursor| rollout.id.as_str() < cursor);
        let mut items = Vec::new();
        for record in fleet.rollouts().iter().rev().filter(before).take(limit + 1) {
            let mut line = record.shown();
            if let Some(view) = self.view_of(record).await? {
                (line.why, line.warnings) = (view.why, view.warnings);
            }
            items.push(line);
        }
        let more = items.len() > limit;
        items.truncate(limit);
        Ok(Page {
            next_cursor: items.last().filter(|_| more).map(|last| last.id.clone()),
            items,
        })
    }

    /// One rollout: its id, or `current`.
    pub async fn rollout(&self, id: &str) -> Result<RolloutDetail, ControlError> {
        let fleet = self.fleet();
        let record = fleet.rollout(id)?;
        let view = self.view_of(record).await?;
        let bounds = record.bounds();
        let mut rollout = record.shown();
        if let Some(view) = &view {
            (rollout.why, rollout.warnings) = (view.why.clone(), view.warnings.clone());
        }
        let seen = view
            .as_ref()
            .map_or(0.0, |view| view.health.sample.boots.round().max(0.0));
        let needed = bounds.and_then(|bounds| bounds.sample);
        let health = view
            .as_ref()
            .map(|view| view.health.clone())
            .or_else(|| record.health.clone());
        Ok(RolloutDetail {
            rollout,
            plan: record.plan.clone(),
            health,
            hosts: view.map(|view| view.hosts),
            sample_needed: needed.map(|needed| needed.saturating_sub(seen.min(f64::from(u32::MAX)) as u32)),
            soak_ends_at: bounds.and_then(|bounds| bounds.soak_ends_at),
            wait_ends_at: bounds.and_then(|bounds| bounds.wait_ends_at),
            history: record
                .history
                .iter()
                .map(|remark| remark.moment.clone())
                .collect(),
        })
    }
}
