//! `/v1/releases`.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use plfm_api::{InstallRelease, Items, Release, SetCurrentRelease};

use super::instances::Body;
use crate::agent::{Agent, blocking};
use crate::problem::ApiError;

pub async fn list(State(agent): State<Agent>) -> Result<Json<Items<Release>>, ApiError> {
    let items = blocking(move || agent.releases()).await??;
    Ok(Json(Items { items }))
}

pub async fn install(
    State(agent): State<Agent>,
    Body(request): Body<InstallRelease>,
) -> Result<Json<Release>, ApiError> {
    let directory = PathBuf::from(&request.directory);
    if !directory.is_absolute() {
        return Err(ApiError::invalid(
            "directory_invalid",
            format!("{:?} is not an absolute path", request.directory),
        ));
    }
    blocking(move || agent.install(&directory, request.make_current))
        .await?
        .map(Json)
}

pub async fn set_current(
    State(agent): State<Agent>,
    Body(request): Body<SetCurrentRelease>,
) -> Result<Json<Release>, ApiError> {
    blocking(move || agent.set_current(&request.release))
        .await?
        .map(Json)
}
