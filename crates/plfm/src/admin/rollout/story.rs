//! A rollout as it goes on, in lines, for a log or a pipe: what happened, and what it waits for.

use jiff::{SignedDuration, Timestamp};
use plfm_api::control::{RolloutDetail, RolloutStage};

use super::view::render_actor;
use crate::times::render_time;

/// How often what it waits for is said at most: it changes with each boot.
const WAITS_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// What was told already.
#[derive(Debug, Default)]
pub struct Story {
    moments: usize,
    why: String,
    told_at: Option<Timestamp>,
}

impl Story {
    /// What happened since it was asked last, a line each.
    pub fn moments(&mut self, detail: &RolloutDetail) -> Vec<String> {
        let news = detail.history.iter().skip(self.moments);
        let lines: Vec<String> = news
            .map(|moment| {
                let by = match render_actor(moment) {
                    itself if itself == "itself" => String::new(),
                    actor => format!(" (by {actor})"),
                };
                let (at, kind, why) = (render_time(moment.at), &moment.kind, &moment.why);
                format!("{at}  {kind:<11}  {why}{by}")
            })
            .collect();
        self.moments = self.moments.max(detail.history.len());
        lines
    }

    /// The same, and what it waits for.
    pub fn news(&mut self, detail: &RolloutDetail, now: Timestamp) -> Vec<String> {
        let mut lines = self.moments(detail);
        let why = &detail.rollout.why;
        if !lines.is_empty() {
            self.told_at = Some(now);
        }
        let is_said = self.why == *why || detail.history.last().is_some_and(|moment| moment.why == *why);
        let is_soon = self
            .told_at
            .is_some_and(|at| now.duration_since(at) < WAITS_EVERY);
        if !is_said && !is_soon {
            self.why.clone_from(why);
            self.told_at = Some(now);
            lines.push(format!("{}  {:<11}  {why}", render_time(now), "waits"));
        }
        lines
    }

    /// That it is complete, if nothing said so. What else ends it is an error to whoever follows it.
    pub fn last_word(&self, detail: &RolloutDetail) -> Option<String> {
        let rollout = &detail.rollout;
        let is_said = self.why == rollout.why
            || detail
                .history
                .last()
                .is_some_and(|moment| moment.why == rollout.why);
        let at = render_time(rollout.ended_at.unwrap_or(rollout.since));
        let is_complete = rollout.stage == RolloutStage::Complete;
        (is_complete && !is_said).then(|| format!("{at}  {:<11}  {}", "ended", rollout.why))
    }
}
