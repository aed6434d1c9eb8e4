//! `/v1/releases` and `/v1/registry`.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use plfm_api::{
    Collected, FetchRelease, InstallRelease, Items, PinRelease, Registry, Release, SetCurrentRelease,
};

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

pub async fn fetch(
    State(agent): State<Agent>,
    Body(request): Body<FetchRelease>,
) -> Result<Json<Release>, ApiError> {
    // A task of its own: it goes on when the one who asked is gone.
    let fetching = tokio::spawn(async move { agent.fetch(request).await });
    let fetched = fetching.await;
    fetched
        .unwrap_or_else(|_| Err(ApiError::internal("internal", "the agent failed at this fetch")))
        .map(Json)
}

pub async fn pin(
    State(agent): State<Agent>,
    Body(request): Body<PinRelease>,
) -> Result<Json<Release>, ApiError> {
    blocking(move || agent.pin(&request.release, request.pinned))
        .await?
        .map(Json)
}

pub async fn collect(State(agent): State<Agent>) -> Result<Json<Collected>, ApiError> {
    blocking(move || agent.collect()).await?.map(Json)
}

pub async fn registry(State(agent): State<Agent>) -> Result<Json<Registry>, ApiError> {
    agent.registry().await.map(Json)
}

pub async fn refresh_registry(State(agent): State<Agent>) -> Result<Json<Registry>, ApiError> {
    agent.refresh_registry().await.map(Json)
}
