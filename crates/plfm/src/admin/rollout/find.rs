//! Which rollout is meant.

use clap::Args;
use plfm_api::control::RolloutDetail;

use crate::admin::client::ControlClient;
use crate::output::{Category, CliError};

/// What the control plane calls the one that is under way, or was last.
const CURRENT: &str = "current";

/// A rollout on the command line.
#[derive(Debug, Args)]
pub struct Which {
    /// The rollout's id, as `plfm admin rollout list` shows it; the current one without it
    rollout: Option<String>,
}

impl Which {
    /// Reads it.
    pub async fn get(&self, client: &ControlClient) -> Result<RolloutDetail, CliError> {
        get(client, self.rollout.as_deref().unwrap_or(CURRENT)).await
    }

    /// Its id: what was said, or that of the current one, so that a change is of the one that was looked at.
    pub async fn id(&self, client: &ControlClient) -> Result<String, CliError> {
        match &self.rollout {
            Some(id) if id != CURRENT => Ok(id.clone()),
            _ => Ok(self.get(client).await?.rollout.id),
        }
    }
}

/// The rollout with this id.
pub async fn get(client: &ControlClient, id: &str) -> Result<RolloutDetail, CliError> {
    client.get(&["rollouts", id], &[]).await
}

/// The one that is under way, or was last; none where there never was any.
pub async fn current(client: &ControlClient) -> Result<Option<RolloutDetail>, CliError> {
    match get(client, CURRENT).await {
        Ok(detail) => Ok(Some(detail)),
        Err(error) if error.category == Category::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
