//! What stays on this host: the decision is plfm-rollout's, the facts and the removal are here.

use std::collections::BTreeSet;

use plfm_api::{Collected, Release};
use plfm_release::ReleaseId;
use plfm_rollout::retention::{InUse, Installed, Retention, retain};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Agent, cache_error, read_bounded};
use crate::durable;
use crate::problem::ApiError;

const FILE: &str = "retention.json";
/// Largest retention file, in bytes: a thousand pinned releases.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What the cache cannot know: kept in the state directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wishes {
    /// What was current before the current release: the way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    way_back: Option<ReleaseId>,
    /// What an operator wants to stay.
    #[serde(default)]
    pinned: BTreeSet<ReleaseId>,
}

impl Agent {
    fn wishes(&self) -> Result<Wishes, ApiError> {
        let path = self.0.settings.state_dir.join(FILE);
        let unusable = |why: String| {
            let detail = format!("cannot use {}, which says what must stay: {why}", path.display());
            ApiError::internal("retention_unreadable", detail)
                .hint("mend the file, or remove it to keep no more than the last releases")
        };
        match read_bounded(&path, FILE_BYTES_MAX) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Wishes::default()),
            Err(error) => Err(unusable(error.to_string())),
        }
    }

    fn change_wishes(&self, change: impl FnOnce(&mut Wishes)) -> Result<(), ApiError> {
        let _one_at_a_time = self.0.wishes.lock();
        let before = self.wishes()?;
        let mut wishes = before.clone();
        change(&mut wishes);
        if wishes == before {
            return Ok(());
        }
        durable::replace_json(&self.0.settings.state_dir, FILE, &wishes).map_err(|error| {
            let detail = format!(
                "cannot write {FILE} in {}: {error}",
                self.0.settings.state_dir.display()
            );
            ApiError::internal("disk_error", detail)
        })
    }

    /// Notes what is current before `next` becomes it.
    pub(super) fn note_way_back(&self, next: &ReleaseId) -> Result<(), ApiError> {
        // A current release that is refused by now is no way back.
        match self.0.cache.current() {
            Ok(Some(current)) if current.id() != next => {
                self.change_wishes(|wishes| wishes.way_back = Some(current.id().clone()))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Keeps an installed release whatever its age, or no longer. Blocking.
    pub fn pin(&self, text: &str, pinned: bool) -> Result<Release, ApiError> {
        let id = self.find_release(text)?.id().clone();
        self.change_wishes(|wishes| {
            if pinned {
                wishes.pinned.insert(id.clone());
            } else {
                wishes.pinned.remove(&id);
            }
        })?;
        self.describe_by_id(&id)
    }

    fn in_use(&self) -> Result<InUse, ApiError> {
        let Wishes { way_back, pinned } = self.wishes()?;
        let current = self
            .0
            .cache
            .current_id()
            .map_err(|error| cache_error(error.code(), &error))?;
        Ok(InUse {
            running: self.running().into_keys().collect(),
            current,
            rollback_target: way_back,
            pinned,
            targeted: self.control().map(|control| control.named()).unwrap_or_default(),
            ..InUse::default()
        })
    }

    fn installed(&self) -> Result<Vec<Installed>, ApiError> {
        let inventory = self
            .0
            .cache
            .inventory()
            .map_err(|error| cache_error(error.code(), &error))?;
        let installed = inventory.into_iter().map(|entry| Installed {
            release: entry.release,
            installed_at: entry.installed_at,
            bootable: entry.problem.is_none(),
        });
        Ok(installed.collect())
    }

    /// What stays and what goes.
    pub(super) fn retention(&self) -> Result<Retention, ApiError> {
        Ok(retain(&self.installed()?, &self.in_use()?))
    }

    /// Removes what nothing keeps. Blocking.
    pub fn collect(&self) -> Result<Collected, ApiError> {
        self.collect_but(None)
    }

    /// Removes what nothing keeps but `newcomer`, which may be wanted for what comes next. A failure is for the log:
    /// what was asked for is done.
    pub(super) fn collect_after(&self, newcomer: &ReleaseId) {
        match self.collect_but(Some(newcomer)) {
            Ok(Collected { removed, .. }) if removed.is_empty() => {}
            Ok(Collected {
                removed, freed_bytes, ..
            }) => {
                let removed: Vec<String> = removed.iter().map(ToString::to_string).collect();
                info!(
                    removed = removed.join(", "),
                    freed_bytes, "releases that nothing keeps are gone"
                );
            }
            Err(error) => warn!("releases that nothing keeps are still there: {error}"),
        }
    }

    fn collect_but(&self, newcomer: Option<&ReleaseId>) -> Result<Collected, ApiError> {
        let in_use = self.in_use()?;
        let mut remove = retain(&self.installed()?, &in_use).remove;
        remove.retain(|release| Some(release) != newcomer);
        let removal = self
            .0
            .cache
            .gc(&remove, &in_use.releases())
            .map_err(|error| cache_error(error.code(), &error))?;
        if !removal.removed.is_empty() {
            self.forget_metrics();
        }
        let kept = removal.kept.iter();
        Ok(Collected {
            kept: kept
                .map(|kept| format!("{}: {}", kept.release, kept.because))
                .collect(),
            removed: removal.removed,
            freed_bytes: removal.freed_bytes,
        })
    }
}
