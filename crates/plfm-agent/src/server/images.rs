//! `/v1/images`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use plfm_api::{CollectedImages, Image, Items, PullEvent, PullImage, PulledImage};
use serde::Deserialize;
use tokio::sync::watch;

use super::instances::{Body, Params};
use crate::agent::{Agent, PullState, blocking};
use crate::problem::ApiError;

pub async fn list(State(agent): State<Agent>) -> Result<Json<Items<Image>>, ApiError> {
    let items = blocking(move || agent.images()).await??;
    Ok(Json(Items { items }))
}

#[derive(Deserialize)]
pub struct Which {
    image: String,
}

pub async fn show(State(agent): State<Agent>, Params(which): Params<Which>) -> Result<Json<Image>, ApiError> {
    blocking(move || agent.find_image(&which.image)).await?.map(Json)
}

pub async fn collect(State(agent): State<Agent>) -> Result<Json<CollectedImages>, ApiError> {
    blocking(move || agent.collect_images()).await?.map(Json)
}

/// A line for each step that is seen, and one for the end. A reader that is slow sees fewer; the pull does not wait.
pub async fn pull(State(agent): State<Agent>, Body(request): Body<PullImage>) -> Result<Response, ApiError> {
    let states = agent.pull_image(&request)?;
    let lines = futures_util::stream::unfold(Some((agent, states, true)), |told| async move {
        let (agent, mut states, is_first) = told?;
        let event = next_event(&agent, &mut states, is_first).await;
        let is_over = !matches!(event, PullEvent::Progress(_));
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        let rest = (!is_over).then_some((agent, states, false));
        Some((Ok::<_, std::io::Error>(Bytes::from(line)), rest))
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, axum::body::Body::from_stream(lines)).into_response())
}

async fn next_event(agent: &Agent, states: &mut watch::Receiver<PullState>, is_first: bool) -> PullEvent {
    let failed = |error: ApiError| PullEvent::Failed(Box::new(error.into_problem()));
    // The first says how far it is when somebody joins.
    if !is_first && states.changed().await.is_err() && states.borrow().end.is_none() {
        return failed(ApiError::internal("internal", "the agent failed at this pull"));
    }
    let state = states.borrow_and_update().clone();
    match state.end {
        None => PullEvent::Progress(state.progress),
        Some(Err(error)) => failed(error),
        Some(Ok(obtained)) => {
            let (agent, image) = (agent.clone(), obtained.image);
            match blocking(move || agent.image_view(&image)).await {
                Ok(Ok(image)) => PullEvent::Done(Box::new(PulledImage {
                    image,
                    built: obtained.built,
                    fetched_bytes: state.fetched_bytes,
                })),
                Ok(Err(error)) | Err(error) => failed(error),
            }
        }
    }
}
