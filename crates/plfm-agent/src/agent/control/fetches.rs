//! Bringing to the host what the target names, one release at a time, when the window is open and the control plane
//! grants it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use plfm_api::FetchRelease;
use plfm_release::ReleaseId;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::Control;
use super::link::WANTS_MAX;
use super::pace::{Backoff, soon};
use crate::agent::{Agent, random};
use crate::problem::ApiError;

/// How often it is looked whether a window opened or a pause is over.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// First and longest pause after a release could not be fetched.
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1_800));
/// Within which a granted fetch begins, in milliseconds times four.
const SPREAD_MS: u64 = 4_000;

/// What could not be fetched.
pub type Failures = BTreeMap<ReleaseId, Failure>;

/// A release that could not be fetched.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Why, for people.
    pub detail: String,
    backoff: Backoff,
    again_at: Timestamp,
}

impl Control {
    /// What the host would fetch now, most wanted first.
    pub(super) fn wants(&self, now: Timestamp) -> Vec<ReleaseId> {
        let state = self.state();
        if !state.is_window_open(now) {
            return Vec::new();
        }
        let is_due = |release: &&ReleaseId| {
            let failure = state.failures.get(*release);
            failure.is_none_or(|failure| failure.again_at <= now)
        };
        let wanted = state.missing.iter().filter(is_due).take(WANTS_MAX);
        wanted.cloned().collect()
    }

    /// Takes what may be fetched from now on, and nothing else.
    pub(super) fn grant(&self, granted: Vec<ReleaseId>) {
        let is_some = !granted.is_empty();
        self.state().granted = granted.into_iter().collect();
        if is_some {
            self.fetch_wake.notify_one();
        }
    }

    fn next_fetch(&self, now: Timestamp) -> Option<ReleaseId> {
        let wants = self.wants(now);
        let state = self.state();
        wants.into_iter().find(|release| state.granted.contains(release))
    }

    fn note_fetch(&self, release: &ReleaseId, result: Result<(), ApiError>) {
        let mut state = self.state();
        match result {
            Ok(()) => {
                state.failures.remove(release);
            }
            Err(error) => {
                let (first, longest) = RETRY;
                let known = state.failures.remove(release);
                let mut backoff = known.map_or(Backoff::new(first, longest), |failure| failure.backoff);
                let pause = SignedDuration::try_from(backoff.pause(random()))
                    .unwrap_or(SignedDuration::from_mins(30));
                let again_at = Timestamp::now().saturating_add(pause).unwrap_or(Timestamp::MAX);
                warn!(%release, %again_at, "cannot be fetched: {error}");
                let detail = format!("cannot fetch {release}: {error}");
                let failure = Failure {
                    detail,
                    backoff,
                    again_at,
                };
                state.failures.insert(release.clone(), failure);
            }
        }
    }
}

impl Agent {
    /// Compares what the target names with what is installed. Blocking.
    pub(super) fn look_what_is_missing(&self) {
        let Some(control) = self.control() else {
            return;
        };
        let installed = match self.installed_ids() {
            Ok(installed) => installed,
            Err(error) => return warn!("cannot look what is installed: {error}"),
        };
        let mut state = control.state();
        let wanted = state.target().map(super::apply::wanted).unwrap_or_default();
        let missing: Vec<ReleaseId> = wanted
            .into_iter()
            .filter(|one| !installed.contains(*one))
            .cloned()
            .collect();
        let is_new = missing.iter().any(|release| !state.missing.contains(release));
        state.failures.retain(|release, _| missing.contains(release));
        state.missing = missing;
        if is_new {
            control.wake.soon.notify_one();
        }
    }

    /// Fetches until the agent ends.
    pub(super) async fn fetch_what_is_wanted(&self) {
        let Some(control) = self.control() else {
            return;
        };
        let mut had_wants = false;
        loop {
            if let Some(release) = control.next_fetch(Timestamp::now()) {
                sleep(soon(SPREAD_MS, random())).await;
                self.fetch_wanted(control, release).await;
                continue;
            }
            // A window that opened, or a pause that is over: the control plane is asked for leave.
            let has_wants = !control.wants(Timestamp::now()).is_empty();
            if has_wants && !had_wants {
                control.wake.soon.notify_one();
            }
            had_wants = has_wants;
            let _ = timeout(LOOK_EVERY, control.fetch_wake.notified()).await;
        }
    }

    async fn fetch_wanted(&self, control: &Control, release: ReleaseId) {
        let request = FetchRelease {
            release: release.to_string(),
            make_current: false,
        };
        let fetched = self.fetch(request).await;
        if fetched.is_ok() {
            info!(%release, "fetched for the control plane's target");
        }
        control.note_fetch(&release, fetched.map(|_| ()));
        let agent = self.clone();
        // At the agent's end nothing is missing any more.
        let _ = tokio::task::spawn_blocking(move || agent.look_what_is_missing()).await;
        control.wake.soon.notify_one();
    }
}
