//! One task for all who want the same at once. It goes on when they are gone: the next one finds the image here.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use plfm_api::{PullImage, PullPolicy, PullProgress, PullStep};
use plfm_rootdisk::ImageName;
use tokio::sync::watch;
use tracing::info;

use super::{Obtained, PULLS_MAX};
use crate::agent::Agent;
use crate::problem::ApiError;

/// How long a pull may take in all. A registry that says a byte now and then must not hold a place for ever.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);

/// How far a pull is, and what came of it.
#[derive(Debug, Clone)]
pub struct PullState {
    pub progress: PullProgress,
    /// Bytes that came from the registry.
    pub fetched_bytes: u64,
    /// What came of it, when it is over.
    pub end: Option<Result<Obtained, ApiError>>,
}

impl Default for PullState {
    fn default() -> Self {
        Self {
            progress: at(PullStep::Waiting),
            fetched_bytes: 0,
            end: None,
        }
    }
}

/// A step of which no more is known.
pub(super) fn at(step: PullStep) -> PullProgress {
    PullProgress {
        step,
        layer: 0,
        layers: 0,
        bytes_done: 0,
        bytes_total: 0,
    }
}

/// Where a pull tells how far it is.
pub(super) type Told = Arc<watch::Sender<PullState>>;

/// A pull in the list of those under way, until it is dropped.
struct Listed {
    agent: Agent,
    key: (String, PullPolicy),
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.agent.0.images.under_way().remove(&self.key);
    }
}

impl Agent {
    /// Brings an image here, or joins the task that does.
    pub fn pull_image(&self, request: &PullImage) -> Result<watch::Receiver<PullState>, ApiError> {
        let name = parse_name(&request.image)?;
        let policy = request.pull;
        let key = (name.to_string(), policy);
        let mut under_way = self.0.images.under_way();
        if let Some(states) = under_way.get(&key) {
            return Ok(states.clone());
        }
        if under_way.len() >= PULLS_MAX {
            let detail = format!("{PULLS_MAX} images are being pulled on this host already");
            return Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "image_pulls_full",
                detail,
            ));
        }
        let (tell, states) = watch::channel(PullState::default());
        under_way.insert(key.clone(), states.clone());
        drop(under_way);
        let listed = Listed {
            agent: self.clone(),
            key,
        };
        tokio::spawn(listed.pull(name, policy, Arc::new(tell)));
        Ok(states)
    }

    /// Brings an image here and gives it.
    pub async fn image_for(&self, request: &PullImage) -> Result<Obtained, ApiError> {
        let mut states = self.pull_image(request)?;
        let state = states.wait_for(|state| state.end.is_some()).await;
        let lost = || ApiError::internal("internal", "the agent failed at this pull");
        state
            .map_err(|_| lost())?
            .end
            .clone()
            .unwrap_or_else(|| Err(lost()))
    }
}

impl Listed {
    async fn pull(self, name: ImageName, policy: PullPolicy, told: Told) {
        let obtaining = self.agent.obtain(&name, policy, &told);
        let end = match tokio::time::timeout(PATIENCE, obtaining).await {
            Ok(end) => end,
            Err(_) => {
                let detail = format!("{name} did not come within {} h", PATIENCE.as_secs() / 3600);
                Err(ApiError::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "registry_too_slow",
                    detail,
                ))
            }
        };
        let outcome = match &end {
            Ok(obtained) if obtained.built => "built",
            Ok(_) => "present",
            Err(error) => error.code(),
        };
        info!(image = %name, outcome, "image");
        self.agent.0.metrics.image_pulled(outcome);
        // Not listed first: who asks from now on begins anew.
        drop(self);
        told.send_modify(|state| state.end = Some(end));
    }
}

/// The image that a request names. Paths are the agent's own, so they must be absolute.
pub(super) fn parse_name(text: &str) -> Result<ImageName, ApiError> {
    let name: ImageName = text.parse().map_err(|error| {
        ApiError::invalid("image_name_invalid", format!("{error}"))
            .hint("an image is REGISTRY/NAME:TAG, oci:DIR[:NAME] or docker-archive:FILE[:NAME]")
    })?;
    match name.path() {
        Some(path) if !path.is_absolute() => {
            let detail = format!("{} is not an absolute path", path.display());
            Err(ApiError::invalid("image_name_invalid", detail))
        }
        _ => Ok(name),
    }
}
