//! `/v1/instances`.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use plfm_api::{CreateInstance, Instance, InstanceState, Items, SignalInstance, StopInstance};
use plfm_guest_protocol::signal_number;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::agent::Agent;
use crate::instance::Command;
use crate::problem::ApiError;

/// How long a request may wait for an instance, in seconds.
const WAIT_SECONDS_MAX: u64 = 3_600;
/// How much of a console is sent, in bytes; it is bounded on disk too.
const CONSOLE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A JSON body, whose refusal is a problem like any other. It never quotes the body: that may hold secrets.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(refuse_body(&rejection)),
        }
    }
}

fn refuse_body(rejection: &JsonRejection) -> ApiError {
    let (code, detail) = match rejection {
        JsonRejection::JsonDataError(_) => (
            "request_malformed",
            "a member of the request is missing, unknown or of the wrong type",
        ),
        JsonRejection::JsonSyntaxError(_) => ("request_not_json", "the request is not JSON"),
        JsonRejection::MissingJsonContentType(_) => (
            "request_not_json",
            "the request's content type is not application/json",
        ),
        _ => (
            "request_unreadable",
            "the request could not be read, or is too large",
        ),
    };
    ApiError::new(rejection.status(), code, detail)
}

/// A query, whose refusal is a problem like any other.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        let Query(value) =
            query.map_err(|rejection| ApiError::invalid("query_invalid", rejection.body_text()))?;
        Ok(Self(value))
    }
}

#[derive(Deserialize)]
pub struct Wait {
    wait: Option<WaitFor>,
    timeout_seconds: Option<u64>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum WaitFor {
    Ready,
    Stopped,
}

pub async fn list(State(agent): State<Agent>) -> Json<Items<Instance>> {
    Json(Items { items: agent.list() })
}

pub async fn create(
    State(agent): State<Agent>,
    Body(request): Body<CreateInstance>,
) -> Result<Response, ApiError> {
    let instance = agent.create(request).await?;
    Ok((StatusCode::CREATED, Json(instance)).into_response())
}

pub async fn show(
    State(agent): State<Agent>,
    Path(id): Path<String>,
    Params(wait): Params<Wait>,
) -> Result<Json<Instance>, ApiError> {
    let handle = agent.find(&id)?;
    let patience = Duration::from_secs(
        wait.timeout_seconds
            .unwrap_or(WAIT_SECONDS_MAX)
            .min(WAIT_SECONDS_MAX),
    );
    let instance = match wait.wait {
        None => handle.view(),
        Some(WaitFor::Ready) => {
            handle
                .wait(
                    |instance| instance.boot.is_some() || instance.state.is_over(),
                    patience,
                )
                .await
        }
        Some(WaitFor::Stopped) => handle.wait(|instance| instance.state.is_over(), patience).await,
    };
    Ok(Json(instance))
}

pub async fn delete(State(agent): State<Agent>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    agent.delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stopping what has stopped is no error: the wish is fulfilled.
pub async fn stop(
    State(agent): State<Agent>,
    Path(id): Path<String>,
    Body(request): Body<StopInstance>,
) -> Result<Json<Instance>, ApiError> {
    let handle = agent.find(&id)?;
    if request.grace_seconds.is_some_and(|seconds| seconds > 3_600) {
        return Err(ApiError::invalid(
            "grace_invalid",
            "a grace period is at most 3600 seconds",
        ));
    }
    handle
        .send(Command::Stop {
            grace_seconds: request.grace_seconds,
        })
        .await;
    Ok(Json(handle.view()))
}

pub async fn signal(
    State(agent): State<Agent>,
    Path(id): Path<String>,
    Body(request): Body<SignalInstance>,
) -> Result<Json<Instance>, ApiError> {
    let handle = agent.find(&id)?;
    if signal_number(&request.signal).is_none() {
        return Err(ApiError::invalid(
            "signal_invalid",
            format!("{:?} is not a signal", request.signal),
        ));
    }
    let view = handle.view();
    match view.state {
        InstanceState::Running | InstanceState::Stopping => {
            handle
                .send(Command::Signal {
                    signal: request.signal,
                })
                .await;
            Ok(Json(view))
        }
        InstanceState::Preparing
        | InstanceState::Booting
        | InstanceState::Stopped
        | InstanceState::Failed => {
            let detail = format!("instance {} is {}", view.id, view.state.as_str());
            Err(ApiError::conflict("instance_not_running", detail))
        }
    }
}

#[derive(Deserialize)]
pub struct Follow {
    #[serde(default)]
    follow: bool,
}

pub async fn output(
    State(agent): State<Agent>,
    Path(id): Path<String>,
    Params(query): Params<Follow>,
) -> Result<Response, ApiError> {
    let reader = agent.find(&id)?.output().read();
    let frames = futures_util::stream::unfold(reader, move |mut reader| async move {
        let bytes = reader.next(query.follow).await?;
        Some((bytes.map(Bytes::from), reader))
    });
    let headers = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((headers, axum::body::Body::from_stream(frames)).into_response())
}

pub async fn console(State(agent): State<Agent>, Path(id): Path<String>) -> Result<Response, ApiError> {
    use tokio::io::AsyncReadExt as _;
    let path = agent.find(&id)?.console_log();
    let mut text = Vec::new();
    match tokio::fs::File::open(&path).await {
        Ok(file) => {
            let read = file.take(CONSOLE_BYTES_MAX).read_to_end(&mut text).await;
            read.map_err(|error| {
                ApiError::internal("disk_error", format!("cannot read {}: {error}", path.display()))
            })?;
        }
        // Nothing was printed yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(ApiError::internal(
                "disk_error",
                format!("cannot read {}: {error}", path.display()),
            ));
        }
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}
