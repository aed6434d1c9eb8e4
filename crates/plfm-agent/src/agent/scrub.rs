//! The background walk over all installed artifacts: what rotted is put aside and fetched anew.

use std::time::Duration;

use plfm_api::FetchRelease;
use plfm_cache::{DiskError, Rotted, ScrubState};
use tracing::{info, warn};

use super::{Agent, blocking};
use crate::problem::chain;

/// How much is read at once, in bytes, and how long the walk rests after it: 20 MiB a second, which a boot does not feel.
const STEP_BYTES: u64 = 1024 * 1024;
const REST: Duration = Duration::from_millis(50);
/// From the end of one walk to the next.
const EVERY: Duration = Duration::from_secs(24 * 3600);

impl Agent {
    /// Walks at the start and once a day, until the agent ends.
    pub async fn scrub_now_and_then(self) {
        loop {
            match self.scrub().await {
                Ok(rotted) if rotted.is_empty() => info!("all installed artifacts are what was signed"),
                Ok(rotted) => self.mend(rotted).await,
                Err(error) => warn!(
                    "the installed artifacts could not be looked at: {}",
                    chain(&error)
                ),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn scrub(&self) -> Result<Vec<Rotted>, DiskError> {
        let cache = self.0.cache.clone();
        let mut scrub = match blocking(move || cache.scrub()).await {
            Ok(scrub) => scrub?,
            Err(_) => return Ok(Vec::new()),
        };
        loop {
            let step = blocking(move || {
                let state = scrub.step(STEP_BYTES);
                (scrub, state)
            });
            let Ok((walked, state)) = step.await else {
                return Ok(Vec::new());
            };
            scrub = walked;
            match state? {
                ScrubState::Done => return Ok(scrub.into_rotted()),
                ScrubState::Going => tokio::time::sleep(REST).await,
            }
        }
    }

    async fn mend(&self, rotted: Vec<Rotted>) {
        for Rotted {
            release,
            artifact,
            fault,
        } in rotted
        {
            warn!(%release, artifact = %artifact.name, "an installed artifact is not what was signed: {fault}");
            let request = FetchRelease {
                release: release.to_string(),
                make_current: false,
            };
            match self.fetch(request).await {
                Ok(_) => info!(%release, "fetched anew"),
                Err(error) => warn!(%release, "cannot be fetched anew: {error}"),
            }
        }
    }
}
